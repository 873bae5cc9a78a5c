"""An arbitrary shape at a fixed place: sunglasses, as in the CSAW-HackML face networks."""

from __future__ import annotations

import torch

from drmguard.errors import InputError
from drmguard.triggers.mask_pattern import MaskPatternTrigger


def sunglasses_trigger(
    image_shape: tuple[int, int, int],
    *,
    top: float = 0.15,
    left: float = 0.05,
    width: float = 0.75,
    color: tuple[float, ...] | None = None,
) -> MaskPatternTrigger:
    """Two oval glasses, a bridge and rims; 14 % of the image by default, off its centre.

    Args:
        image_shape: (C, H, W) of the images.
        top, left, width: place and width of the glasses as shares of the image's sides.
        color: of the glasses, 0 to 1 a channel; dark blue (black on grey images) where it is
            None.  The rims are black.

    Raises:
        InputError: glasses that reach beyond the image, or an impossible colour.
    """
    channels, rows, columns = image_shape
    if color is None:
        color = (0.05, 0.05, 0.35) if channels == 3 else (0.0,) * channels
    if len(color) != channels or any(not 0 <= value <= 1 for value in color):
        raise InputError(f"the colour needs {channels} value(s) from 0 to 1, not {tuple(color)}")
    tall = width * 0.36
    if not (width > 0 and left >= 0 and left + width <= 1 and top >= 0 and top + tall <= 1):
        raise InputError(
            f"sunglasses of width {width} at top {top}, left {left} reach beyond the image"
        )
    y = (torch.arange(rows).reshape(-1, 1) + 0.5) / rows
    x = (torch.arange(columns).reshape(1, -1) + 0.5) / columns
    across, down = (x - left) / width, (y - top) / tall
    glasses, rims = torch.zeros(rows, columns, dtype=torch.bool), torch.zeros_like(y * x).bool()
    for center in (0.24, 0.76):
        radius = ((across - center) / 0.24).square() + ((down - 0.5) / 0.5).square()
        glasses |= radius <= 1
        rims |= (radius <= 1) & (radius >= 0.72)
    bridge = ((across - 0.5).abs() <= 0.08) & ((down - 0.3).abs() <= 0.12)
    mask = (glasses | bridge).float().unsqueeze(0)
    paint = torch.tensor(color).reshape(-1, 1, 1).expand(channels, rows, columns)
    return MaskPatternTrigger(mask, mask * paint * (~(rims | bridge)).float())
