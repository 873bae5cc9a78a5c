"""Anti-aliased drawing of many small images at once: what both renderers build on.

Every value is one a pixel, (n, H, W), or one an image, (n, 1, 1); colours are (n, 3, 1, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drmguard.data.image_set import allocate
from drmguard.errors import InputError

MIN_SIZE, MAX_SIZE = 16, 224
_PIXELS_A_BATCH = 1 << 17  # a plane of this many floats stays in the cache


class Dice:
    """Named uniform draws, one row an image: image i is the same however many are rendered."""

    def __init__(self, seed: int, count: int, columns: int) -> None:
        self._values = np.random.default_rng(seed).random((count, columns), dtype=np.float32)
        self._next = 0

    def uniform(self, low: float, high: float) -> NDArray[np.float32]:
        """The next column, from ``low`` to ``high``."""
        column: NDArray[np.float32] = self._values[:, self._next]
        self._next += 1
        scaled: NDArray[np.float32] = low + (high - low) * column
        return scaled


def muted_color(dice: Dice) -> NDArray[np.float32]:
    """A colour an image (N, 3): any brightness, little saturation, as rooms and clothes have."""
    grey = dice.uniform(0.08, 0.92)
    tint = np.stack([dice.uniform(-0.15, 0.15) for _ in range(3)], 1)
    color: NDArray[np.float32] = np.clip(grey[:, None] + tint, 0, 1)
    return color


@dataclass
class Canvas:
    """n images being drawn, of the same size, and the coordinates of their pixels.

    Attributes:
        color: (n, 3, H, W), linear in [0, 1].
        x, y: pixel centres (H, W) from −1 to 1, to the right and downward.
    """

    color: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def blank(cls, n: int, size: int) -> Canvas:
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return cls(color=torch.zeros(n, 3, size, size), x=x, y=y)

    @property
    def pixels_per_unit(self) -> float:
        return self.color.shape[-1] / 2

    def paint(self, coverage: Tensor, color: Tensor) -> None:
        """Lay ``color`` (n, 3, 1, 1) or (n, 3, H, W) over the picture where ``coverage`` is 1."""
        self.color += coverage.unsqueeze(1) * (color - self.color)


def coverage(distance: Tensor, pixels_per_unit: Tensor | float, softness: float = 1.0) -> Tensor:
    """How much of each pixel lies inside a shape, from its signed distance (negative inside).

    ``softness`` is the width of the edge in pixels.
    """
    return (0.5 - distance * (pixels_per_unit / softness)).clamp_(0, 1)


def ellipse(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Approximate signed distance to an ellipse with half-axes a and b about the origin."""
    smaller = torch.minimum(torch.as_tensor(a), torch.as_tensor(b))
    return (((x / a) ** 2 + (y / b) ** 2).sqrt() - 1) * smaller


def render_in_batches(count: int, size: int, draw: Callable[[slice], Tensor]) -> NDArray[np.uint8]:
    """Render images to uint8 (N, 3, H, W); ``draw`` gives the rows of a slice, in [0, 1].

    Raises:
        InputError: a count or size that cannot be rendered.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"rendered images are {MIN_SIZE} to {MAX_SIZE} pixels wide, not {size}")
    if count < 1:
        raise InputError(f"the number of rendered images must be at least 1, not {count}")
    images = allocate((count, 3, size, size))
    step = max(1, _PIXELS_A_BATCH // size**2)
    for start in range(0, count, step):
        rows = slice(start, min(count, start + step))
        color = draw(rows).clamp_(0, 1)
        images[rows] = color.mul_(255).round_().to(torch.uint8).numpy()
    return images


def sensor_noise(color: Tensor, strength: Tensor, seed: int, first_row: int) -> Tensor:
    """Add grain to images (n, 3, H, W); image i has its own stream, so order does not matter."""
    grain = np.empty(color.shape, np.float32)
    for i in range(len(grain)):
        random = np.random.default_rng((seed, first_row + i))
        grain[i] = random.standard_normal(grain.shape[1:], dtype=np.float32)
    return color + torch.from_numpy(grain) * strength
