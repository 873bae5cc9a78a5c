"""Random changes stay images, differ from draw to draw, and repeat with the seed."""

import numpy as np
import torch

from drmguard.repair.whole_image import other_views, random_change


def test_changes_are_bounded_vary_and_repeat():
    images = torch.rand(4, 3, 32, 40)
    sizes = []
    for seed in range(24):
        changed = random_change(images, np.random.default_rng(seed))
        assert changed.shape == images.shape
        assert 0 <= changed.min() <= changed.max() <= 1
        assert torch.equal(changed, random_change(images, np.random.default_rng(seed)))
        sizes.append(float((changed - images).abs().mean()))
    assert min(sizes) > 0.003
    assert len({round(size, 4) for size in sizes}) > 15


def test_one_channel():
    for seed in range(6):
        assert random_change(torch.rand(2, 1, 16, 16), np.random.default_rng(seed)).shape[1] == 1


def test_other_views_by_hand():
    images = torch.full((64, 3, 4, 40), 0.5)
    images[:, :, :, 20:] = 0.6
    views = other_views(images, np.random.default_rng(0))
    brightness, contrast = views[:, 0, 0, 0] - 0.5, (views[:, 0, 0, -1] - views[:, 0, 0, 0]) / 0.1
    assert -0.1 <= brightness.min() < -0.05
    assert 0.05 < brightness.max() <= 0.1
    assert 0.8 - 1e-4 <= contrast.min() < 0.9
    assert 1.1 < contrast.max() <= 1.2 + 1e-4
    # 3 % of 40 pixels is one, of 4 none: the edge lies at 19, 20 or 21.
    edges = (views[:, 0, 0].diff(dim=1).abs() > 0.01).int().argmax(1) + 1
    assert set(edges.tolist()) == {19, 20, 21}
    assert torch.equal(views, other_views(images, np.random.default_rng(0)))
