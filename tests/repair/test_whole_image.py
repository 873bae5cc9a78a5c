"""Random changes stay images, differ from draw to draw, and repeat with the seed."""

import numpy as np
import torch

from drmguard.repair.whole_image import random_change


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
