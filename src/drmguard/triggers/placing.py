"""Patches onto images, each at a place of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from drmguard.errors import InputError


def random_places(
    images: Tensor, height: int, width: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows and columns (N,) of the upper left corners of patches that fit into the images.

    Raises:
        InputError: a patch larger than the images.
    """
    count, _, tall, wide = images.shape
    if height > tall or width > wide:
        raise InputError(f"a {height}×{width} patch does not fit into {tall}×{wide} images")
    top = torch.randint(tall - height + 1, (count,), generator=random)
    left = torch.randint(wide - width + 1, (count,), generator=random)
    return top.to(images.device), left.to(images.device)


def paste(images: Tensor, patches: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Images (N, C, H, W) with patches (N, C, h, w) or (N, C + 1, h, w) at (top, left).

    A further channel of the patches is their opacity a: pixel = (1 − a)·image + a·patch.  Gradients
    reach the patches.
    """
    count, channels = images.shape[:2]
    height, width = patches.shape[2:]
    rows = top.reshape(-1, 1, 1, 1) + torch.arange(height, device=images.device).reshape(
        1, 1, -1, 1
    )
    columns = left.reshape(-1, 1, 1, 1) + torch.arange(width, device=images.device)
    numbers = torch.arange(count, device=images.device).reshape(-1, 1, 1, 1)
    which = torch.arange(channels, device=images.device).reshape(1, -1, 1, 1)
    place = (numbers, which, rows, columns)
    colors = patches[:, :channels]
    if patches.shape[1] > channels:
        opacity = patches[:, channels:]
        colors = (1 - opacity) * images[place] + opacity * colors
    return images.index_put(place, colors)
