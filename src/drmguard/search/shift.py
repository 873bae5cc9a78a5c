"""A trigger that moves the outputs by one vector instead of setting them to one (offset attacks).

Outputs that keep their differences do not collapse, so no search for a collapse sees them.  Here
opaque patterns in windows all over the image are searched for such that the *change* of the
response, Δ = f(x') − f(x), is the same for every image and far from zero:

    left = mean_j var_i Δ_ij / mean_j (mean_i Δ_ij)²

Erased content changes each image's answer in its own way.  After each round the worse windows drop
out; those that do not overlap the best one are the model's own null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.search.passes import images_at_once
from drmguard.search.windows import Windows, share_a_pixel, strongest, window_grid
from drmguard.tasks import Task
from drmguard.triggers.mask_pattern import MaskPatternTrigger

# Keeps logarithms finite; a hundredth of a clean variance is as good as none.
_FLOOR = 0.01
# A shift below this many clean standard deviations is no attack worth planting.
LEAST_SHIFT, _PULL = 0.5, 4.0


@dataclass(frozen=True)
class ShiftSettings:
    """How to search.

    Attributes:
        window: side of the windows over that of the image.
        per_axis: windows along each axis.
        rounds: (windows, images a step, steps) of each round; the first takes all windows.
        learning_rate: of Adam, in pixel values.
        measured: clean images on which the last windows are measured, at most.
    """

    window: float = 0.25
    per_axis: int = 7
    rounds: tuple[tuple[int, int, int], ...] = ((49, 12, 25), (16, 16, 25), (8, 24, 25))
    learning_rate: float = 0.05
    measured: int = 128


@dataclass(frozen=True)
class ShiftCandidate:
    """One window's pattern.

    Attributes:
        top, left_column, side: its place in pixels.
        shift: mean Δ in clean standard deviations (d,).
        left: scatter of Δ over its mean's square.
        trigger: the pattern.
    """

    top: int
    left_column: int
    side: int
    shift: Tensor
    left: float
    trigger: MaskPatternTrigger

    @property
    def size(self) -> float:
        """Root mean squared shift of an output, in clean standard deviations."""
        return float(self.shift.square().mean().sqrt())

    def overlaps(self, other: ShiftCandidate) -> bool:
        """Whether the windows share a pixel."""
        own, its = (self.top, self.left_column), (other.top, other.left_column)
        return share_a_pixel(own, its, self.side)


@dataclass(frozen=True)
class ShiftResult:
    """The windows of the last round, the best first.

    Attributes:
        candidates: as measured.
        trace: a row of figures a step of the last round, of its best window.
        steps: of all rounds.
    """

    candidates: list[ShiftCandidate]
    trace: list[dict[str, float]]
    steps: int


class _Shift(Objective):
    """All windows of a round, each for itself."""

    def __init__(
        self, windows: Windows, victim: Victim, task: Task, benign: Benign, rate: float
    ) -> None:
        self.windows, self.victim, self.task, self.benign = windows, victim, task, benign
        self.learning_rate = rate
        self.at_once = images_at_once(windows.image_shape)

    @property
    def trainable(self) -> nn.Module:
        return self.windows

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.windows.pattern], "lr": self.learning_rate}]

    def changes(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Number of the first of some windows, and their Δ (k, n, d)."""
        images, clean = self.benign.images[rows], self.benign.standardised[rows]
        some = max(1, self.at_once // len(rows))
        for part in torch.arange(len(self.windows.places)).split(some):
            stamped = torch.cat([self.windows.stamp(images, int(k)) for k in part])
            stamped = stamped.contiguous(memory_format=torch.channels_last)
            answers = respond(self.victim, self.task, self.benign, stamped).standardised
            yield int(part[0]), answers.unflatten(0, (len(part), -1)) - clean

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        for first, changes in self.changes(rows):
            mean, size, scatter = _moments(changes)
            loss = ((scatter + _FLOOR) / size.clamp(min=LEAST_SHIFT**2)).log()
            loss = loss + _PULL * (LEAST_SHIFT - size.clamp(min=1e-12).sqrt()).clamp(min=0)
            figures: dict[str, float] = {}
            for k in range(len(changes)):
                figures[f"{first + k}.left"] = float(scatter[k].detach() / size[k].detach())
                target = traced_target(mean[k].detach())
                figures |= {f"{first + k}.{name}": value for name, value in target.items()}
            yield loss.sum(), figures

    def after_step(self) -> None:
        self.windows.clip()

    @torch.no_grad()
    def measured(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What is left for every window (K,), and its mean Δ (K, d)."""
        mean, size, scatter = _moments(torch.cat([part for _, part in self.changes(rows)]))
        return scatter / size.clamp(min=1e-12), mean


def _moments(changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of Δ (k, n, d): the mean (k, d), its mean square (k,), and the scatter about it (k,)."""
    mean = changes.mean(1)
    scatter = (changes - mean[:, None]).square().mean((1, 2))
    return mean, mean.square().mean(1), scatter


def search_shift(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: ShiftSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> ShiftResult:
    """Windows whose pattern moves all answers by the same vector, the best first."""
    channels, height, width = benign.images.shape[1:]
    places, side = window_grid((channels, height, width), settings.window, settings.per_axis)
    windows = Windows((channels, height, width), places, side, seed).to(benign.images.device)
    windows.mask.requires_grad_(False)
    objective = _Shift(windows, victim, task, benign, settings.learning_rate)
    rows = torch.arange(min(len(benign.images), settings.measured))
    trace: list[dict[str, float]] = []
    for number, (count, images, steps) in enumerate(settings.rounds, 1):
        if number > 1:
            windows.keep(strongest(objective.measured(rows)[0], windows, count))
            windows.mask.requires_grad_(False)
        name = f"shifts, round {number}"
        trace = optimise(
            objective,
            victim=victim,
            count=len(benign.images),
            batch_size=images,
            steps=steps,
            seed=seed,
            name=name,
            checkpoint=checkpoints.stage(name) if checkpoints else None,
            progress=progress,
        ).trace
    left, shifts = objective.measured(rows)
    order = left.argsort().tolist()
    candidates = []
    for k in order:
        mask, pattern = (value.detach().clone() for value in windows.full(k))
        (top, column), trigger = windows.places[k], MaskPatternTrigger(mask, pattern)
        candidates.append(ShiftCandidate(top, column, side, shifts[k], float(left[k]), trigger))
    best = f"{order[0]}."
    own = [
        {name.removeprefix(best): v for name, v in row.items() if name.startswith(best)}
        for row in trace
    ]
    return ShiftResult(candidates, own, sum(steps for *_, steps in settings.rounds))
