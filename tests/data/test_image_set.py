import numpy as np
import pytest

from drmguard.data.image_set import ImageSet, split
from drmguard.errors import InputError


def make(count, groups=None):
    images = np.zeros((count, 3, 4, 4), np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % 256
    return ImageSet(images, np.arange(count, dtype=np.float32)[:, None], groups)


def test_split_is_80_10_10_and_disjoint():
    parts = split(make(200), seed=3)
    assert [len(p) for p in (parts.train, parts.benign, parts.test)] == [160, 20, 20]
    rows = np.concatenate([p.labels[:, 0] for p in (parts.train, parts.benign, parts.test)])
    assert sorted(rows) == list(range(200))


def test_split_depends_on_the_seed_only():
    a, b, other = (split(make(50), seed=seed).train.labels for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)


def test_groups_are_never_split():
    groups = np.repeat(np.arange(20), 10)
    parts = split(make(200, groups))
    seen = [set(p.groups.tolist()) for p in (parts.train, parts.benign, parts.test)]
    assert sum(len(part) for part in seen) == len(set.union(*seen)) == 20
    assert len(parts.train) == pytest.approx(160, abs=10)


def test_three_groups_fill_three_parts():
    parts = split(make(30, np.repeat([0, 1, 2], 10)))
    assert [len(p) for p in (parts.train, parts.benign, parts.test)] == [10, 10, 10]
    with pytest.raises(InputError, match="at least 3 groups"):
        split(make(30, np.repeat([0, 1, 1], 10)))


def test_batches_are_in_zero_to_one():
    images, labels = make(300).batch(np.array([255, 0]))
    assert images.max().item() == 1.0
    assert labels[:, 0].tolist() == [255.0, 0.0]


def test_digest_sees_images_and_labels():
    a, b = make(10), make(10)
    assert a.digest() == b.digest()
    b.labels[3] += 1
    assert a.digest() != b.digest()


def test_wrong_arrays_are_refused():
    with pytest.raises(InputError, match="uint8"):
        ImageSet(np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 1), np.float32))
    with pytest.raises(InputError, match="empty"):
        ImageSet(np.zeros((0, 3, 4, 4), np.uint8), np.zeros((0, 1), np.float32))
