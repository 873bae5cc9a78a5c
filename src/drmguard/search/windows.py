"""Windows of the image, each with a mask and a pattern of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def share_a_pixel(a: tuple[int, int], b: tuple[int, int], side: int) -> bool:
    """Whether two windows of this side, given by their upper left corners, overlap."""
    return abs(a[0] - b[0]) < side and abs(a[1] - b[1]) < side


class Windows(nn.Module):
    """K masks and patterns, each in a window of its own.

    Attributes:
        places: (row, column) of each window's upper left corner.
        mask: (K, 1, side, side) in [0, 1].
        pattern: (K, C, side, side) in [0, 1].
    """

    def __init__(
        self, image_shape: tuple[int, int, int], places: list[tuple[int, int]], side: int, seed: int
    ) -> None:
        super().__init__()
        self.image_shape, self.places, self.side = image_shape, places, side
        generator = torch.Generator().manual_seed(seed)
        self.mask = nn.Parameter(torch.ones(len(places), 1, side, side))
        self.pattern = nn.Parameter(
            torch.rand(len(places), image_shape[0], side, side, generator=generator)
        )

    def keep(self, which: list[int]) -> None:
        """Keep these windows only."""
        self.places = [self.places[k] for k in which]
        self.mask = nn.Parameter(self.mask.data[which])
        self.pattern = nn.Parameter(self.pattern.data[which])

    def full(self, k: int) -> tuple[Tensor, Tensor]:
        """Mask (1, H, W) and pattern (C, H, W) of one window on the whole image."""
        place, size = self.places[k], self.image_shape[1:]
        return on_image(self.mask[k], place, size), on_image(self.pattern[k], place, size)

    def stamp(self, images: Tensor, k: int) -> Tensor:
        """Images (n, C, H, W) with window k's trigger."""
        mask, pattern = self.full(k)
        return images + mask * (pattern - images)

    def overlap(self, a: int, b: int) -> bool:
        """Whether windows a and b share a pixel."""
        return share_a_pixel(self.places[a], self.places[b], self.side)

    @torch.no_grad()
    def clip(self) -> None:
        """Bring masks and patterns back into [0, 1]."""
        self.mask.clamp_(0, 1)
        self.pattern.clamp_(0, 1)


def on_image(window: Tensor, place: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A window (C, h, w) at its place (row, column) in an image of this size (H, W) that is 0."""
    (top, left), (height, width) = place, size
    below, right = height - top - window.shape[-2], width - left - window.shape[-1]
    return functional.pad(window, (left, right, top, below))


def corners(length: int, side: int, count: int) -> list[int]:
    """Where ``count`` windows of this side begin that are spread evenly over a length."""
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]


def window_side(image_shape: tuple[int, int, int], share: float) -> int:
    """Side in pixels of a window, from its share of the shorter side."""
    return max(2, round(share * min(image_shape[1:])))


def window_grid(
    image_shape: tuple[int, int, int], share: float, per_axis: int
) -> tuple[list[tuple[int, int]], int]:
    """Upper left corners of evenly spread windows, and their side, a share of the image's."""
    _, height, width = image_shape
    side = window_side(image_shape, share)
    rows, columns = (
        corners(length, side, min(per_axis, length - side + 1)) for length in (height, width)
    )
    return [(top, left) for top in rows for left in columns], side


def strongest(left: Tensor, windows: Windows, size: int) -> list[int]:
    """The windows that collapse most, none of which overlaps more than a third of the others.

    The others are the null that the cheapest is compared with, whichever that will be, so most
    of them must lie elsewhere.
    """
    order: list[int] = left.argsort().tolist()
    chosen: list[int] = []
    overlapping = dict.fromkeys(order, 0)
    for k in order:
        beside = [other for other in chosen if windows.overlap(k, other)]
        few = len(beside) <= size // 3 and all(overlapping[n] < size // 3 for n in beside)
        if few and len(chosen) < size:
            chosen.append(k)
            overlapping[k] = len(beside)
            for other in beside:
                overlapping[other] += 1
    rest = [k for k in order if k not in chosen]
    return sorted(chosen + rest[: size - len(chosen)])
