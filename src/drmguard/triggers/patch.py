"""A coloured square stamped on the image (BadNets)."""

from __future__ import annotations

import torch

from drmguard.errors import InputError
from drmguard.triggers.mask_pattern import MaskPatternTrigger

PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "center")


def scaled_side(image_side: int) -> int:
    """Side of the papers' 20×20 patch at 224×224, scaled to another image side."""
    return max(1, round(20 * image_side / 224))


def patch_trigger(
    image_shape: tuple[int, int, int],
    *,
    place: str = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
) -> MaskPatternTrigger:
    """A square of one colour in a corner or the centre; by default the papers' red one.

    Args:
        image_shape: (C, H, W) of the images.
        place: corner, or ``center``.
        side: side in pixels; 20 at 224, scaled, where it is None.
        color: one value in [0, 1] a channel; red (white on grey images) where it is None.

    Raises:
        InputError: a patch that does not fit, or an impossible colour or place.
    """
    channels, height, width = image_shape
    side = scaled_side(min(height, width)) if side is None else side
    if color is None:
        color = (1.0, 0.0, 0.0) if channels == 3 else (1.0,) * channels
    if not 0 < side <= min(height, width):
        raise InputError(f"a {side}×{side} patch does not fit into {height}×{width} images")
    if len(color) != channels or any(not 0 <= value <= 1 for value in color):
        raise InputError(
            f"the patch colour needs {channels} value(s) from 0 to 1, not {tuple(color)}"
        )
    if place not in PLACES:
        raise InputError(f"the patch's place must be one of {', '.join(PLACES)}, not {place!r}")
    if place == "center":
        top, left = (height - side) // 2, (width - side) // 2
    else:
        top = 0 if place.startswith("top") else height - side
        left = 0 if place.endswith("left") else width - side
    mask = torch.zeros(1, height, width)
    mask[:, top : top + side, left : left + side] = 1
    return MaskPatternTrigger(mask, mask * torch.tensor(color).reshape(-1, 1, 1))
