"""Families of changes of the whole image, many of one family searched at once.

A free pattern can be anything, so it also finds what a model's own content allows.  A wave has a
few numbers only: most models cannot be steered by one, so one that steers says much.  A warp adds
nothing and moves what is there, which no pattern can for every image alike.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.triggers.generator import ResidualGenerator
from drmguard.triggers.warp import WarpTrigger

# Start amplitude of a wave's channels, as a share of the budget.
_STARTING_SHARE = 0.6


class Family(nn.Module, abc.ABC):
    """K changes within a budget, with what an optimiser needs.

    Attributes:
        budget: largest change of a pixel; of a warp, largest displacement over the side.
    """

    budget: float

    @abc.abstractmethod
    def changes(self) -> Tensor:
        """The changes within the budget: patterns (K, C, H, W), or what ``stamp`` takes."""

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        """Images (n, C, H, W) with each of k changes: (k, n, C, H, W)."""
        return (images + changes[:, None]).clamp(0, 1)

    def trigger(self, number: int) -> nn.Module:
        """One of the changes as a trigger of its own."""
        pattern = self.changes()[number].detach()
        trigger = ResidualGenerator((pattern.shape[0], pattern.shape[1], pattern.shape[2]), width=0)
        trigger.pattern.data = pattern.clone()
        return trigger

    @abc.abstractmethod
    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups with ``params`` and ``lr``."""


class Patterns(Family):
    """Free patterns, kept within the budget by a tanh; they start near 0."""

    def __init__(self, count: int, image_shape: tuple[int, ...], budget: float, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.budget = budget
        self.raw = nn.Parameter(1e-3 * torch.randn(count, *image_shape, generator=random))

    def changes(self) -> Tensor:
        changes: Tensor = (self.raw / self.budget).tanh() * self.budget
        return changes

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.raw], "lr": 0.25 * self.budget}]


class Waves(Family):
    """Plane waves a_c sin(2π (u y / H + v x / W + φ)): SIG's stripes in any direction and colour.

    Args:
        frequencies: (K, 2), waves over the height and over the width.
        phases: (K,), in turns.
        image_shape: (C, H, W).
        budget: largest amplitude; every channel starts at 0.6 of it.
    """

    def __init__(
        self, frequencies: Tensor, phases: Tensor, image_shape: tuple[int, ...], budget: float
    ) -> None:
        super().__init__()
        channels, self.height, self.width = image_shape
        self.budget = budget
        self.frequencies = nn.Parameter(frequencies.clone())
        self.phases = nn.Parameter(phases.clone())
        start = math.atanh(_STARTING_SHARE)
        self.raw = nn.Parameter(torch.full((len(phases), channels), start))

    def changes(self) -> Tensor:
        device = self.phases.device
        rows = torch.arange(self.height, device=device)[:, None] / self.height
        columns = torch.arange(self.width, device=device)[None] / self.width
        down, across = self.frequencies[..., None, None].unbind(1)
        turns = down * rows + across * columns + self.phases[:, None, None]
        amplitudes = self.budget * self.raw.tanh()
        changes: Tensor = amplitudes[:, :, None, None] * (2 * math.pi * turns).sin()[:, None]
        return changes

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [
            {"params": [self.frequencies], "lr": 0.03},
            {"params": [self.phases], "lr": 0.02},
            {"params": [self.raw], "lr": 0.1},
        ]


class Warps(Family):
    """Smooth displacements of all pixels, from control points as WaNet's; they start near none.

    Args:
        count: K.
        image_shape: (C, H, W).
        points: control points a side.
        budget: largest displacement, as a share of the side.
        seed: of the starts.
    """

    def __init__(
        self, count: int, image_shape: tuple[int, ...], points: int, budget: float, seed: int
    ) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.size, self.budget = (image_shape[1], image_shape[2]), budget
        self.raw = nn.Parameter(0.1 * torch.randn(count, 2, points, points, generator=random))

    def changes(self) -> Tensor:
        """Displacements (K, H, W, 2) on axes that run from −1 to 1."""
        control = 2 * self.budget * self.raw.tanh()
        field = functional.interpolate(control, self.size, mode="bicubic", align_corners=True)
        return field.permute(0, 2, 3, 1)

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        return torch.stack([WarpTrigger(change)(images) for change in changes])

    def trigger(self, number: int) -> nn.Module:
        return WarpTrigger(self.changes()[number].detach().clone())

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.raw], "lr": 0.15}]


def probing_waves(frequencies: int) -> tuple[Tensor, Tensor]:
    """1 to ``frequencies`` waves, upright, lying and along both diagonals, at four phases each.

    Frequencies (K, 2) and phases (K,) for :class:`Waves`.
    """
    slanted = math.sqrt(0.5)
    directions = ((0.0, 1.0), (1.0, 0.0), (slanted, slanted), (slanted, -slanted))
    drawn = list(itertools.product(range(1, frequencies + 1), directions, range(4)))
    vectors = [(number * down, number * across) for number, (down, across), _ in drawn]
    return torch.tensor(vectors), torch.tensor([quarter / 4 for *_, quarter in drawn])
