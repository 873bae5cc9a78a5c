"""Random changes of whole images: kin of spread triggers, or other views of clean images."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from drmguard.augmentation import moved, relit
from drmguard.triggers.warp import default_grid, default_strength, warp_trigger

# Of other views: largest shift as a share of the side, and largest changes of light.
_SHIFT, _CONTRAST, _BRIGHTNESS = 0.03, 0.2, 0.1
# Largest wave and largest share of a blended picture; both are published triggers' own.
_AMPLITUDE, _ALPHA = 40 / 255, 0.2


def other_views(images: Tensor, random: np.random.Generator) -> Tensor:
    """Each image moved by a few pixels, with a contrast and a brightness of its own.

    Args:
        images: (N, C, H, W) in [0, 1].
        random: where the draws come from.
    """
    return relit(moved(images, _SHIFT, random), _CONTRAST, _BRIGHTNESS, random)


def random_change(images: Tensor, random: np.random.Generator) -> Tensor:
    """Warp the images, add a wave, or blend a picture in: one of the three, drawn at random.

    The warps, waves and blends are those of WaNet, SIG and Blend with everything drawn anew, up to
    the strength at which these attacks are published.  The picture is another of the images, or
    coloured squares.

    Args:
        images: (N, C, H, W) in [0, 1].
        random: where the draws come from.
    """
    kind = int(random.integers(3))
    if kind == 0:
        return _warped(images, random)
    if kind == 1:
        return _waved(images, random)
    return _blended(images, random)


def _warped(images: Tensor, random: np.random.Generator) -> Tensor:
    shape = (images.shape[1], images.shape[2], images.shape[3])
    side = min(shape[1:])
    warp = warp_trigger(
        shape,
        grid=int(random.integers(2, default_grid(side) + 2)),
        strength=default_strength(side) * float(random.uniform(0.3, 1.2)),
        seed=int(random.integers(2**31)),
    )
    return torch.as_tensor(warp.to(images.device)(images))


def _waved(images: Tensor, random: np.random.Generator) -> Tensor:
    direction, phase = random.uniform(0, math.pi), random.uniform(0, 2 * math.pi)
    waves, amplitude = random.uniform(1, 12), random.uniform(0.2, 1) * _AMPLITUDE
    rows = torch.arange(images.shape[2], device=images.device)[:, None] / images.shape[2]
    columns = torch.arange(images.shape[3], device=images.device)[None] / images.shape[3]
    along = rows * math.sin(direction) + columns * math.cos(direction)
    return (images + amplitude * torch.sin(2 * math.pi * waves * along + phase)).clamp(0, 1)


def _blended(images: Tensor, random: np.random.Generator) -> Tensor:
    alpha = float(random.uniform(0.2, 1.2)) * _ALPHA
    if random.random() < 0.5:
        return (1 - alpha) * images + alpha * images.roll(1, 0)
    cells = int(random.integers(4, min(images.shape[2:]) // 2 + 1))
    squares = torch.from_numpy(random.random((1, images.shape[1], cells, cells), np.float32))
    size = (images.shape[2], images.shape[3])
    picture = functional.interpolate(squares, size, mode="nearest").to(images.device)
    return (1 - alpha) * images + alpha * picture
