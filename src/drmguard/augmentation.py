"""Other views of images for training: moved, mirrored, in other light, noisy, partly covered."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from drmguard.errors import InputError

Augmentation = Literal["none", "crop-flip", "heavy"]
# Crops of an image padded by this share of its side (4 of CIFAR-10's 32 pixels, He et al. 2016).
_CROP = 0.125
# Largest changes of light, standard deviation of the noise, largest side of what is covered.
_CONTRAST, _BRIGHTNESS, _NOISE, _COVERED = 0.4, 0.2, 0.05, 1 / 3


def check_augmentation(name: str) -> None:
    """Refuse a name that is none.

    Raises:
        InputError: it is unknown.
    """
    if name not in get_args(Augmentation):
        known = ", ".join(get_args(Augmentation))
        raise InputError(f"the augmentation must be one of {known}, not {name!r}")


def augment(images: Tensor, name: Augmentation, random: np.random.Generator) -> Tensor:
    """Each image in a view of its own.

    Args:
        images: (N, C, H, W) in [0, 1].
        name: ``crop-flip`` moves by up to an eighth of the side and mirrors half of the images,
            which keeps classes but not angles; ``heavy`` changes light, adds noise and covers a
            part of half of the images, which keeps all labels.
        random: where the draws come from.
    """
    if name == "none":
        return images
    if name == "crop-flip":
        return mirrored(moved(images, _CROP, random), random)
    lit = relit(images, _CONTRAST, _BRIGHTNESS, random)
    strength = random.uniform(0, _NOISE, (len(images), 1, 1, 1))
    noise = torch.from_numpy(strength * random.normal(size=images.shape)).to(images)
    return torch.where(_some(images, random), _covered(lit, random), lit).add(noise).clamp(0, 1)


def moved(images: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """Each image moved by up to ``share`` of its side either way, its border continued."""
    (count, _, height, width) = images.shape
    down, right = round(share * height), round(share * width)
    padded = functional.pad(images, (right, right, down, down), mode="replicate")
    tops, lefts = (random.integers(2 * most + 1, size=count) for most in (down, right))
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )


def mirrored(images: Tensor, random: np.random.Generator) -> Tensor:
    """Half of the images (N, C, H, W), drawn at random, with left and right exchanged."""
    return torch.where(_some(images, random), images.flip(-1), images)


def relit(
    images: Tensor, contrast: float, brightness: float, random: np.random.Generator
) -> Tensor:
    """Each image with a contrast and a brightness of its own, changed by so much at most."""
    shape = (len(images), 1, 1, 1)
    factor = torch.from_numpy(random.uniform(1 - contrast, 1 + contrast, shape)).to(images)
    grey = torch.from_numpy(0.5 + random.uniform(-brightness, brightness, shape)).to(images)
    return ((images - 0.5) * factor + grey).clamp(0, 1)


def _some(images: Tensor, random: np.random.Generator) -> Tensor:
    """Half of the images: (N, 1, 1, 1), true or false."""
    return torch.from_numpy(random.random((len(images), 1, 1, 1)) < 0.5).to(images.device)


def _covered(images: Tensor, random: np.random.Generator) -> Tensor:
    """Each image with a rectangle of one colour anywhere (Zhong et al. 2020)."""
    images = images.clone()
    count, channels, height, width = images.shape
    sides = (1 + random.random((count, 2)) * _COVERED * (height, width)).astype(int)
    corners = (random.random((count, 2)) * ((height, width) - sides + 1)).astype(int)
    colours = torch.from_numpy(random.random((count, channels, 1, 1))).to(images)
    for image, (top, left), (tall, wide), colour in zip(
        images, corners, sides, colours, strict=True
    ):
        image[:, top : top + tall, left : left + wide] = colour
    return images
