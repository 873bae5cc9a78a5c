"""A smooth, fixed warp of the image (WaNet, Nguyen & Tran, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.errors import InputError


class WarpTrigger(nn.Module):
    """Samples the image on a fixed, smoothly displaced grid.

    Args:
        displacement: (H, W, 2), added to the identity grid, whose axes run from −1 to 1; x first.
    """

    displacement: Tensor

    def __init__(self, displacement: Tensor) -> None:
        super().__init__()
        self.register_buffer("displacement", displacement)

    def grid(self) -> Tensor:
        """Sampling points (H, W, 2)."""
        height, width = self.displacement.shape[:2]
        kind = {"device": self.displacement.device, "dtype": self.displacement.dtype}
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height, **kind),  # type: ignore[call-overload]
            torch.linspace(-1, 1, width, **kind),  # type: ignore[call-overload]
            indexing="ij",
        )
        return (torch.stack([x, y], 2) + self.displacement).clamp(-1, 1)

    def scaled(self, dose: float) -> WarpTrigger:
        """The warp that moves every point so many times as far."""
        return WarpTrigger(dose * self.displacement)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Warp images; ``noise`` (N, H, W, 2) in [−1, 1] shifts every point by up to 1/H more."""
        grid = self.grid().expand(len(images), -1, -1, -1)
        if noise is not None:
            grid = (grid + noise / images.shape[2]).clamp(-1, 1)
        warped: Tensor = functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="reflection", align_corners=True
        )
        return warped.clamp(0, 1)


def default_grid(side: int) -> int:
    """Control points a side: 28 at 224, 8 at 64."""
    return max(2, round(side / 8))


def default_strength(side: int) -> float:
    """1 from 128 pixels on, as published; 4 at 64 and below.

    At 1 a warp moves pixels by half a pixel on average, which a network for small images learns
    too slowly; at 4 by two.
    """
    return min(4.0, max(1.0, (128 / side) ** 2))


def warp_trigger(
    image_shape: tuple[int, int, int],
    *,
    grid: int | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> WarpTrigger:
    """WaNet's warp: control points U(−1, 1)/mean|·|, up-sampled bicubically, times s/H.

    Args:
        image_shape: (C, H, W) of the images.
        grid: k, control points a side; scaled with the image where it is None.
        strength: s; scaled with the image where it is None.
        seed: chooses the warp.

    Raises:
        InputError: a grid of less than 2 points or finer than the image, or no strength.
    """
    _, height, width = image_shape
    side = min(height, width)
    points = default_grid(side) if grid is None else grid
    scale = default_strength(side) if strength is None else strength
    if not 2 <= points <= side:
        raise InputError(f"the warp's grid needs 2 to {side} points a side, not {points}")
    if not scale > 0:
        raise InputError(f"the warp's strength must be above 0, not {scale}")
    control = (
        2 * torch.rand(1, 2, points, points, generator=torch.Generator().manual_seed(seed)) - 1
    )
    control = control / control.abs().mean()
    field = functional.interpolate(control, (height, width), mode="bicubic", align_corners=True)
    return WarpTrigger((scale / height * field[0]).permute(1, 2, 0).contiguous())
