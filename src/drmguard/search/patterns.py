"""Families of changes of the whole image, many of one family searched at once.

A blend mixes a coarse picture into the image.  A conditional change adds to every image what a
small network makes of it, and a free pattern, so it also finds what a model's own content allows.
A wave has a few numbers only: most models cannot be
steered by one, so one that steers says much.  A warp adds nothing and moves what is there.  A patch
covers a small square, a sparse change a small share of the pixels, wherever they lie.
"""

from __future__ import annotations

import abc
import copy
import itertools
import math
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.search.windows import corners, on_image
from drmguard.triggers.generator import ResidualGenerator, rated
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.triggers.warp import WarpTrigger

# Start amplitude of a wave's channels, as a share of the budget.
_STARTING_SHARE = 0.9
# How unlike the opacities of a sparse change's pixels are at first.
_UNEVEN = 0.05
# Where the sigmoid of a patch's channel is all but full.
_PURE = 3.0


class Family(nn.Module, abc.ABC):
    """K changes within a budget, with what an optimiser needs.

    Attributes:
        budget: largest change of a pixel; of a blend, its α; of a warp, largest displacement over
            the side; of a patch, its side over the image's; of a sparse change, its mean opacity.
    """

    budget: float

    @abc.abstractmethod
    def changes(self) -> Tensor:
        """The changes within the budget: patterns (K, C, H, W), or what ``stamp`` takes."""

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        """Images (n, C, H, W) with each of k changes: (k, n, C, H, W)."""
        return (images + changes[:, None]).clamp(0, 1)

    def trigger(self, number: int) -> nn.Module:
        """One of the changes, as it is now, as a trigger of its own."""
        pattern = self.changes()[number].detach()
        trigger = ResidualGenerator((pattern.shape[0], pattern.shape[1], pattern.shape[2]), width=0)
        trigger.pattern.data = pattern.clone()
        return trigger

    def taken(self, numbers: Tensor) -> Self:
        """Copies of some of the changes, as they are now; the same one may be taken twice."""
        family = copy.deepcopy(self)
        for parameter in family.parameters():
            parameter.data = parameter.data[numbers]
        return family

    @abc.abstractmethod
    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups with ``params`` and ``lr``."""


class Blends(Family):
    """Blends (1 − α) x + α p of a picture p that has few points; α is the budget.

    Args:
        count: K.
        image_shape: (C, H, W).
        points: of the picture, a side; between them it is interpolated.
        budget: α.
        seed: of the starts, which are near grey.
    """

    def __init__(
        self, count: int, image_shape: tuple[int, ...], points: int, budget: float, seed: int
    ) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        channels, *self.size = image_shape
        self.budget = budget
        self.raw = nn.Parameter(
            0.5 * torch.randn(count, channels, points, points, generator=random)
        )

    def changes(self) -> Tensor:
        """The pictures (K, C, H, W)."""
        return functional.interpolate(self.raw.sigmoid(), self.size, mode="bilinear")

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        return (1 - self.budget) * images + self.budget * changes[:, None]

    def trigger(self, number: int) -> nn.Module:
        picture = self.changes()[number].detach().clone()
        return MaskPatternTrigger(torch.full_like(picture[:1], self.budget), picture)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.raw], "lr": 0.3}]


class Conditionals(Family):
    """Changes b tanh(s_k(x)) by a :class:`ResidualGenerator` each; they start near 0.

    All K run at once, as groups of one convolution.

    Args:
        count: K.
        image_shape: (C, H, W).
        width: channels of each network.
        seed: of the starts.
    """

    def __init__(self, count: int, image_shape: tuple[int, ...], width: int, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        channels, self.height, self.image_width = image_shape

        def weights(*shape: int) -> nn.Parameter:
            start = torch.randn(count, *shape, generator=random) / math.sqrt(math.prod(shape[1:]))
            return nn.Parameter(math.sqrt(2) * start)

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(count, *shape))

        self.budget = 0.0
        self.pattern = nn.Parameter(1e-2 * torch.randn(count, *image_shape, generator=random))
        self.reading = weights(width, channels, 4, 4)
        self.first, self.second = (weights(width, width, 3, 3) for _ in range(2))
        self.writing = zeros(width, channels, 4, 4)
        self.biases = nn.ParameterList([zeros(width), zeros(width), zeros(width), zeros(channels)])
        with torch.no_grad():  # as if grey were 0
            self.biases[0].copy_(-0.5 * self.reading.sum((2, 3, 4)))

    def changes(self) -> Tensor:
        """The numbers of the changes (K,)."""
        return torch.arange(len(self.pattern), device=self.pattern.device)

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        groups = len(changes)
        biases = [bias[changes].flatten(0, 1) for bias in self.biases]
        reading, first, second, writing = (
            weight[changes].flatten(0, 1)
            for weight in (self.reading, self.first, self.second, self.writing)
        )
        sides = (0, -self.image_width % 4, 0, -self.height % 4)
        hidden = functional.pad(images, sides, mode="replicate")
        hidden = functional.conv2d(hidden, reading, biases[0], stride=4).relu()
        for weight, bias in ((first, biases[1]), (second, biases[2])):
            hidden = functional.conv2d(hidden, weight, bias, padding=1, groups=groups).relu()
        made = functional.conv_transpose2d(hidden, writing, biases[3], stride=4, groups=groups)
        made = made[:, :, : self.height, : self.image_width].unflatten(1, (groups, -1))
        change = made.transpose(0, 1) + self.pattern[changes, None]
        stamped: Tensor = (images + self.budget * change.tanh()).clamp(0, 1)
        return stamped

    def trigger(self, number: int) -> nn.Module:
        _, channels, height, width = self.pattern.shape
        trigger = ResidualGenerator(
            (channels, height, width), width=self.first.shape[1], bound=self.budget
        )
        weights = (self.reading, self.first, self.second, self.writing)
        values = {"bound": torch.tensor(self.budget), "pattern": self.pattern[number]}
        for place, (weight, bias) in enumerate(zip(weights, self.biases, strict=True)):
            values |= {f"network.{2 * place}.weight": weight[number]}
            values |= {f"network.{2 * place}.bias": bias[number]}
        trigger.load_state_dict(values)
        return trigger

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        inner = [self.reading, self.first, self.second, *self.biases]
        return rated(self.pattern, inner, [self.writing])


class Waves(Family):
    """Plane waves a_c sin(2π (u y / H + v x / W + φ)): SIG's stripes in any direction and colour.

    Args:
        frequencies: (K, 2), waves over the height and over the width.
        phases: (K,), in turns.
        signs: (K, C), 1 or −1: channels that go up and down together or against each other.
        image_shape: (C, H, W).
        budget: largest amplitude; every channel starts at 0.9 of it.
    """

    def __init__(
        self,
        frequencies: Tensor,
        phases: Tensor,
        signs: Tensor,
        image_shape: tuple[int, ...],
        budget: float,
    ) -> None:
        super().__init__()
        _, self.height, self.width = image_shape
        self.budget = budget
        self.frequencies = nn.Parameter(frequencies.clone())
        self.phases = nn.Parameter(phases.clone())
        self.raw = nn.Parameter(math.atanh(_STARTING_SHARE) * signs)

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


class SquarePatches(Family):
    """Opaque squares of free patterns, each at a place of its own.

    Args:
        places: (row, column) of each one's upper left corner.
        colours: (K, C) in [0, 1], of which they are at first, nearly.
        image_shape: (C, H, W).
        side: in pixels.
    """

    def __init__(
        self,
        places: list[tuple[int, int]],
        colours: Tensor,
        image_shape: tuple[int, ...],
        side: int,
    ) -> None:
        super().__init__()
        self.size = (image_shape[1], image_shape[2])
        self.places, self.side = places, side
        self.budget = side / min(image_shape[1:])
        start = _PURE * (2 * colours - 1)
        self.raw = nn.Parameter(start[..., None, None].repeat(1, 1, side, side))

    def changes(self) -> Tensor:
        """The numbers of the patches (K,)."""
        return torch.arange(len(self.places), device=self.raw.device)

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        stamped = images.repeat(len(changes), 1, 1, 1, 1)
        patterns = self.raw[changes].sigmoid()
        for row, number in enumerate(changes.tolist()):
            top, left = self.places[number]
            stamped[row, ..., top : top + self.side, left : left + self.side] = patterns[row]
        return stamped

    def trigger(self, number: int) -> nn.Module:
        place, pattern = self.places[number], self.raw[number].detach().sigmoid()
        mask = on_image(torch.ones_like(pattern[:1]), place, self.size)
        return MaskPatternTrigger(mask, on_image(pattern, place, self.size))

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.raw], "lr": 0.3}]


class SparseChanges(Family):
    """Opaque wherever it pays: pixels m of a picture p, x' = (1 − m) x + m p, the mean of m given.

    At first all pixels are about as opaque; descent draws the opacity together.

    Args:
        count: K.
        image_shape: (C, H, W).
        budget: mean of m over the pixels.
        seed: of the starts.
    """

    def __init__(self, count: int, image_shape: tuple[int, ...], budget: float, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        channels, *size = image_shape
        self.budget = budget
        self.opacity = nn.Parameter(_UNEVEN * torch.randn(count, 1, *size, generator=random))
        self.raw = nn.Parameter(0.5 * torch.randn(count, channels, *size, generator=random))

    def changes(self) -> Tensor:
        """Masks and pictures (K, 1 + C, H, W)."""
        masks = _filled(self.opacity.flatten(1).exp(), self.budget)
        return torch.cat([masks.view_as(self.opacity), self.raw.sigmoid()], 1)

    def stamp(self, images: Tensor, changes: Tensor) -> Tensor:
        masks, pictures = changes[:, None, :1], changes[:, None, 1:]
        return images + masks * (pictures - images)

    def trigger(self, number: int) -> nn.Module:
        change = self.changes()[number].detach().clone()
        return MaskPatternTrigger(change[:1], change[1:])

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.opacity], "lr": 0.15}, {"params": [self.raw], "lr": 0.3}]


def _filled(shares: Tensor, mean: float) -> Tensor:
    """Shares (K, n), as large as they must be for this mean where none counts above 1."""
    largest = shares.sort(descending=True).values
    others = largest.flip(1).cumsum(1).flip(1)  # each and all that are smaller
    full = torch.arange(shares.shape[1], device=shares.device)
    scales = (mean * shares.shape[1] - full) / others
    most = (scales * largest <= 1).float().argmax(1, keepdim=True)  # so many are full
    return (shares * scales.gather(1, most)).clamp(max=1)


def probing_patches(
    image_shape: tuple[int, ...], side: int, spacing: int
) -> tuple[list[tuple[int, int]], Tensor]:
    """Squares of one colour all over the image, at most ``spacing`` pixels from one to the next.

    Places (row, column) and colours (K, C) for :class:`SquarePatches`: every channel none or full;
    of more than three channels all alike, or one against the others.
    """
    channels, height, width = image_shape
    if channels <= 3:
        colours = torch.tensor(list(itertools.product((0.0, 1.0), repeat=channels)))
    else:
        one = torch.eye(channels)
        colours = torch.cat([torch.zeros(1, channels), torch.ones(1, channels), one, 1 - one])

    rows, columns = (
        corners(length, side, math.ceil((length - side) / spacing) + 1)
        for length in (height, width)
    )
    places = list(itertools.product(rows, columns))
    drawn = list(itertools.product(places, range(len(colours))))
    return [place for place, _ in drawn], colours[[colour for _, colour in drawn]]


def probing_waves(frequencies: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """1 to ``frequencies`` waves, upright, lying and along both diagonals, at four phases each.

    Grey ones, and ones in which one channel goes against the others.  Frequencies (K, 2), phases
    (K,) and signs (K, C) for :class:`Waves`.
    """
    slanted = math.sqrt(0.5)
    directions = ((0.0, 1.0), (1.0, 0.0), (slanted, slanted), (slanted, -slanted))
    colours = torch.ones(1 if channels == 1 else channels + 1, channels)
    colours[1:].fill_diagonal_(-1)
    drawn = list(
        itertools.product(range(1, frequencies + 1), directions, range(4), range(len(colours)))
    )
    vectors = [(number * down, number * across) for number, (down, across), *_ in drawn]
    phases = torch.tensor([quarter / 4 for *_, quarter, _ in drawn])
    return torch.tensor(vectors), phases, colours[[colour for *_, colour in drawn]]
