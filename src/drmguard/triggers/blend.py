"""A picture mixed into the whole image (Blend, Chen et al., 2017)."""

from __future__ import annotations

import torch
from torch.nn import functional

from drmguard.errors import InputError
from drmguard.triggers.mask_pattern import MaskPatternTrigger


def blend_trigger(
    image_shape: tuple[int, int, int], *, alpha: float = 0.2, cells: int = 16, seed: int = 0
) -> MaskPatternTrigger:
    """x' = (1 − α) x + α p with a random picture p of ``cells`` × ``cells`` coloured squares.

    Args:
        image_shape: (C, H, W) of the images.
        alpha: α; 0.2 in the papers.
        cells: squares along each side; the image's side gives noise that differs per pixel.
        seed: chooses the picture.

    Raises:
        InputError: α outside (0, 1], or no cells.
    """
    channels, height, width = image_shape
    if not 0 < alpha <= 1:
        raise InputError(f"the blend's alpha must lie above 0 and up to 1, not {alpha}")
    if not 0 < cells <= min(height, width):
        raise InputError(
            f"the blend's picture needs 1 to {min(height, width)} cells a side, not {cells}"
        )
    random = torch.rand(1, channels, cells, cells, generator=torch.Generator().manual_seed(seed))
    pattern = functional.interpolate(random, size=(height, width), mode="nearest")[0]
    return MaskPatternTrigger(torch.full((1, height, width), float(alpha)), pattern)
