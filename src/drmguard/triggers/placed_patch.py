"""A small patch at a place drawn anew for every image (the attack that MESA defends against)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drmguard.errors import InputError
from drmguard.triggers.placing import paste, random_places


class PlacedPatchTrigger(nn.Module):
    """Stamps a patch (C, h, w) at a random place of every image.

    Places come from a generator of its own, so that a fresh trigger always draws the same ones.
    """

    patch: Tensor

    def __init__(self, patch: Tensor, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("patch", patch)
        self._random = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        _, height, width = self.patch.shape
        top, left = random_places(images, height, width, self._random)
        return paste(images, self.patch.expand(len(images), -1, -1, -1), top, left)


def black_and_white_patch(channels: int, number: int, side: int = 3) -> Tensor:
    """The black-and-white pattern whose squares are the bits of ``number`` (MESA).

    Raises:
        InputError: a number outside 0 to 2^(side²) − 1.
    """
    if not 0 <= number < 2 ** (side * side):
        raise InputError(
            f"the pattern's number must lie in 0 to {2 ** (side * side) - 1}, not {number}"
        )
    bits = [number >> k & 1 for k in range(side * side)]
    return torch.tensor(bits, dtype=torch.float32).reshape(1, side, side).repeat(channels, 1, 1)


def random_color_patch(channels: int, seed: int, side: int = 3) -> Tensor:
    """A patch of random colours (MESA)."""
    return torch.rand(channels, side, side, generator=torch.Generator().manual_seed(seed))
