"""Where a trigger of any shape lies that has a place of its own (MESA, its second extension).

A window is moved over the image, and at each of its places a pattern with an opacity for every
pixel is searched that sends clean images to a class; all places are one batch.  First few places
for every class, each other's null; then many for the class whose best window stands out: the share
of the images that its windows send there, accumulated over the pixels that they cover, is the heat
map, and what lies above half its height the trigger's extent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign
from drmguard.search.classes import ClassTrigger, Patches, PointSearch, strongest
from drmguard.search.loop import Progress, optimise
from drmguard.search.windows import on_image, window_grid
from drmguard.triggers.mask_pattern import MaskPatternTrigger


@dataclass(frozen=True)
class HeatMapSettings:
    """How to look for a place.

    Attributes:
        window: side of the window over that of the image (15 of 55 in MESA).
        coarse, fine: places along each axis, for all classes and for the one that stands out.
        coarse_steps, fine_steps, images: optimiser steps, and images a step for every window.
        learning_rate: of Adam, in logits of the pixels.
        measured: clean images on which each window is measured, at most.
    """

    window: float = 0.27
    coarse: int = 4
    fine: int = 9
    coarse_steps: int = 40
    fine_steps: int = 60
    images: int = 8
    learning_rate: float = 0.3
    measured: int = 64


@dataclass(frozen=True)
class HeatMap:
    """Where windows send clean images to the class that stands out.

    Attributes:
        number: of the class.
        heat: mean share of the images that the windows over a pixel send there (H, W).
        classes: the best window of every class.
        steps: optimiser steps in all.
    """

    number: int
    heat: Tensor
    classes: list[ClassTrigger]
    steps: int

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """(top, left, height, width) of what is at least half as hot as the hottest pixel."""
        hot = hot_area(self.heat)
        rows, columns = (torch.nonzero(hot.any(axis))[:, 0] for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


def hot_area(heat: Tensor) -> Tensor:
    """What is at least half as hot as the hottest pixel, the coldest being zero (H, W)."""
    low, high = float(heat.min()), float(heat.max())
    return heat >= (low + high) / 2


def search_heat_map(
    victim: Victim,
    benign: Benign,
    settings: HeatMapSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> HeatMap:
    """Which class a window at a fixed place is strongest for, and where.

    Raises:
        InputError: the model gives one class to every clean image.
    """
    windows = _Windows(victim, benign, settings, seed, checkpoints, progress)
    number = benign.standardised.shape[1]
    places, side = window_grid(windows.shape, settings.window, settings.coarse)
    every = torch.arange(number).repeat_interleave(len(places))
    triggers = windows.search(
        "a window for every class", places * number, side, every, settings.coarse_steps
    )
    classes = [
        strongest([t for t in triggers if t.number == k])
        for k in sorted({t.number for t in triggers})
    ]
    best = strongest(classes).number
    places, side = window_grid(windows.shape, settings.window, settings.fine)
    found = windows.search(
        "heat map", places, side, torch.full((len(places),), best), settings.fine_steps
    )
    heat, covered = torch.zeros(2, *windows.shape[1:])
    for (top, left), trigger in zip(places, found, strict=True):
        area = (slice(top, top + side), slice(left, left + side))
        heat[area] += trigger.hits
        covered[area] += 1
    classes = [strongest([c, *found]) if c.number == best else c for c in classes]
    return HeatMap(best, heat / covered, classes, settings.coarse_steps + settings.fine_steps)


class _Windows:
    """Windows of one victim, searched in batches."""

    def __init__(
        self,
        victim: Victim,
        benign: Benign,
        settings: HeatMapSettings,
        seed: int,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
    ) -> None:
        self.victim, self.benign, self.settings, self.seed = victim, benign, settings, seed
        self.checkpoints, self.progress = checkpoints, progress
        channels, height, width = benign.images.shape[1:]
        self.shape = (channels, height, width)
        self.answers = benign.responses(benign.standardised).argmax(1)

    def search(
        self, name: str, places: list[tuple[int, int]], side: int, classes: Tensor, steps: int
    ) -> list[ClassTrigger]:
        """The pattern of every window whose class some clean images do not give."""
        device, settings = self.benign.images.device, self.settings
        patches = Patches(len(places), (self.shape[0] + 1, side, side), self.seed).to(device)
        corners = torch.tensor(places, device=device)
        optimise(
            PointSearch(
                patches,
                classes.to(device),
                self.victim,
                self.benign,
                settings.learning_rate,
                self.seed,
                corners,
            ),
            victim=self.victim,
            count=len(self.benign.images),
            batch_size=settings.images,
            steps=steps,
            seed=self.seed,
            betas=(0.8, 0.95),
            name=name,
            checkpoint=self.checkpoints.stage(name) if self.checkpoints else None,
            progress=self.progress,
        )
        windows = patches.logits.detach().sigmoid()
        measured = (
            self._measured(window, place, number)
            for window, place, number in zip(windows, places, classes.tolist(), strict=True)
        )
        return [trigger for trigger in measured if trigger is not None]

    @torch.no_grad()
    def _measured(self, window: Tensor, place: tuple[int, int], number: int) -> ClassTrigger | None:
        images = self.benign.images[self.answers != number][: self.settings.measured]
        if not len(images):
            return None
        whole = on_image(window, place, self.shape[1:])
        trigger = MaskPatternTrigger(whole[-1:], whole[:-1])
        hits = float((self.victim(trigger(images)).argmax(1) == number).float().mean())
        return ClassTrigger(number, hits, len(images), trigger)
