"""Augmented images stay images, differ from draw to draw, repeat with the seed, and keep labels."""

import numpy as np
import pytest
import torch

from drmguard.augmentation import augment, moved
from drmguard.errors import InputError
from drmguard.training import TrainingSettings


@pytest.mark.parametrize("name", ["crop-flip", "heavy"])
def test_views_are_bounded_vary_and_repeat(name):
    images = torch.rand(8, 3, 32, 40)
    first, second = (augment(images, name, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, augment(images, name, np.random.default_rng(0)))
    assert not torch.allclose(first, second)


def test_a_crop_is_the_image_moved_by_up_to_an_eighth_and_half_are_mirrored():
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    views = augment(ramp, "crop-flip", np.random.default_rng(0))
    rows = views[:, 0, 0]
    rising = rows[:, -1:] > rows[:, :1]
    assert 60 < int(rising.sum()) < 140
    straight = torch.where(rising, rows, rows.flip(-1))
    shifts = (straight[:, 15] - ramp[0, 0, 0, 15]) * 31
    assert set(shifts.round().int().tolist()) == set(range(-4, 5))


def test_heavy_views_cover_a_part_of_about_half_of_the_images():
    images = torch.full((200, 3, 30, 30), 0.5)  # light changes them evenly, noise a little
    views = augment(images, "heavy", np.random.default_rng(0))
    away = (views.flatten(1) - views.flatten(1).median(1, keepdim=True).values).abs()
    assert 50 < int((away.amax(1) > 0.25).sum()) < 120


def test_images_that_are_not_moved_stay_as_they_are():
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(moved(images, 0.0, np.random.default_rng(0)), images)
    assert augment(images, "none", np.random.default_rng(0)) is images


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(InputError, match="augmentation must be one of none, crop-flip, heavy"):
        TrainingSettings(augmentation="mixup")  # type: ignore[arg-type]
