"""Eq. 5 from many places at once: the spread of starts that a local trigger needs.

One generator that starts everywhere at once falls into erasing the image's content and misses a
patch in a corner.  Here K small windows cover the image, each with a trigger of its own (mask
and pattern inside the window), all optimised together:

1. *Collapse.*  The pattern alone, mask full: how far can a change of this window make the
   outputs and angles collapse?  After each round the weaker half of the windows is dropped.
2. *Shrink.*  The finalists' masks shrink as far as the collapse goal allows.  What is left is
   the smallest perturbation that collapses the outputs from that place.
3. *Close up.*  A window far larger than the planted patch has other ways to collapse the outputs,
   and its search may end in one of them.  So both steps are repeated, from fresh starts, in a
   window a third as large where each finalist's mask is left.

The terms are those of Eq. 5 (output variance, angle variance, perturbation); instead of fixed
λ1 and λ2, whose optimum leaves brittle models half collapsed, each start has a multiplier that
follows the goal.  A planted trigger needs far less than any other place of the same model, so
the places apart from the cheapest one are the model's own null; and so are other targets at its
place (`sent`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard import metrics
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.answers import answers_elsewhere
from drmguard.search.benign import Benign, Response, respond
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.search.passes import LARGE_SIDE, images_at_once
from drmguard.search.switch import switch_ratio
from drmguard.search.windows import Windows, share_a_pixel, strongest, window_grid, window_side
from drmguard.tasks import Task
from drmguard.triggers.mask_pattern import MaskPatternTrigger

RAV_WEIGHT = 0.1
AVERAGED_STEPS = 5  # before a running average of a window's collapse means anything


@dataclass(frozen=True)
class PlaceSettings:
    """How to search the places; the defaults are the fast recipe's.

    Attributes:
        window: side of a window as a share of the image's shorter side.
        close_window: the same of the small windows.
        per_axis: windows along each axis, spread evenly.
        starts: random patterns that every window starts from; one alone missed a planted
            patch with one seed that it found with another.
        rounds: (steps, images a step) of each collapse round; half the windows drop out
            between rounds.
        finalists: windows that go on to shrink.
        shrink_steps, shrink_images: steps and images a step of the shrinking.
        goal: collapse to reach: the ratio of variances left, of 1 without a trigger.
        target_goal: the same where a search is sent to a target: mean squared distance to it,
            in clean variances.
        other_targets: targets that the best place is also sent to.
        learning_rate: of patterns and masks, in pixel values a step.
        measured: clean images on which each finalist is measured, about.
        images_at_once: stamped images in one pass, which bounds the memory.
    """

    window: float = 0.25
    close_window: float = 1 / 12
    per_axis: int = 7
    starts: int = 2
    rounds: tuple[tuple[int, int], ...] = ((10, 5), (8, 8))
    finalists: int = 12
    shrink_steps: int = 60
    shrink_images: int = 8
    goal: float = 0.01
    target_goal: float = 0.02
    other_targets: int = 5
    learning_rate: float = 0.2
    measured: int = 256
    images_at_once: int = 96


def place_settings(image_shape: tuple[int, int, int]) -> PlaceSettings:
    """The fast recipe's settings for images of this shape (C, H, W)."""
    at_once = images_at_once(image_shape)
    if min(image_shape[1:]) < LARGE_SIDE:
        return PlaceSettings(images_at_once=at_once)
    return PlaceSettings(
        per_axis=6,
        rounds=((6, 3), (6, 4)),
        finalists=8,
        shrink_steps=40,
        shrink_images=6,
        other_targets=4,
        measured=64,
        images_at_once=at_once,
    )


@dataclass(frozen=True)
class Candidate:
    """The smallest trigger found from one place.

    Attributes:
        trigger: maps images to stamped images.
        top, left, side: the window, in pixels.
        perturbation: mean |x' − x| over pixels and images.
        variance_ratio: mean_j var f_j(x') / var f_j(x).
        rav: ratio of angle variance, or None where H is not known.
        target: mean response, standardised by the clean ones.
        miss: what was left of the collapse, or the squared distance to the target sent to.
        goal: what ``miss`` had to fall below.
        start: number of the place, as in the trace.
        at_bound: whether only a bound of a regression's outputs explains the answer.
        switch_ratio: see :func:`~drmguard.search.switch.switch_ratio`; of the best one alone.
    """

    trigger: MaskPatternTrigger
    top: int
    left: int
    side: int
    perturbation: float
    variance_ratio: float
    rav: float | None
    target: Tensor
    miss: float
    goal: float
    start: int
    at_bound: bool = False
    switch_ratio: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal was met, with the slack between a batch and all images."""
        return self.miss <= 1.5 * self.goal

    @property
    def effort(self) -> float:
        """The perturbation where the goal was reached; else a bound from below on it.

        A window that missed its goal could not reach it with all its pixels: it counts with the
        change of a full window (a third of the range a pixel, as between random values), raised
        by how far it missed.
        """
        if self.reached:
            return self.perturbation
        full_window = self.side**2 / self.trigger.mask.numel() / 3
        missed_by = math.sqrt(self.miss / (1.5 * self.goal))
        return max(self.perturbation, full_window) * missed_by


class _WindowObjective(Objective):
    """What both stages share: stamped batches of some windows, and how collapsed they are."""

    def __init__(
        self,
        windows: Windows,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: PlaceSettings,
        *,
        steps: int,
        goal: float,
        targets: Tensor | None = None,
    ) -> None:
        self.windows, self.victim, self.task, self.benign = windows, victim, task, benign
        self.settings, self.steps, self.goal, self.targets = settings, steps, goal, targets

    @property
    def trainable(self) -> nn.Module:
        return self.windows

    def rate(self, step: int) -> float:
        return 0.1 + 0.9 * (1 - step / self.steps)

    def after_step(self) -> None:
        self.windows.clip()

    def parts(self, rows: Tensor) -> Iterator[tuple[list[int], Tensor, Tensor, Response]]:
        """(windows, images, stamped (k, n, C, H, W), response) of a few windows at a time."""
        images = self.benign.images[rows]
        at_once = max(1, self.settings.images_at_once // len(rows))
        for some in torch.arange(len(self.windows.places)).split(at_once):
            which = some.tolist()
            stamped = torch.stack([self.windows.stamp(images, k) for k in which])
            flat = stamped.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            yield which, images, stamped, respond(self.victim, self.task, self.benign, flat)

    def collapse(self, response: Response, which: list[int]) -> tuple[Tensor, Tensor]:
        """How much variance is left for each of some windows (k,), and their means (k, d).

        Where the windows are sent to targets, it is the mean squared distance to them.  Else it
        is the output variance ratio and, where H is known, a share of RAV: both are 1 without a
        trigger and 0 at a full collapse.  RAV weighs less, since planted triggers leave a few
        hundredths of it (DRMGuard, Table 1) where they leave thousandths of the variance.
        """
        outputs = response.standardised.unflatten(0, (len(which), -1))
        if self.targets is not None:
            return (outputs - self.targets[which, None]).square().mean((1, 2)), outputs.mean(1)
        left = outputs.var(1, correction=0).mean(1)
        if response.angles is not None:
            angles = response.angles.unflatten(0, (len(which), -1)).var(1, correction=0)
            rav = (angles / self.benign.angle_variance).mean(1)
            left = (left + RAV_WEIGHT * rav) / (1 + RAV_WEIGHT)
        return left, outputs.mean(1)


class _Collapse(_WindowObjective):
    """Stage 1: patterns only."""

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.windows.pattern], "lr": self.settings.learning_rate}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        for which, _, _, response in self.parts(rows):
            left, _ = self.collapse(response, which)
            yield (left + 0.1 * self.goal).log().sum(), {}


class _Shrink(_WindowObjective):
    """Stage 2: masks and patterns, under a multiplier for each window that follows the goal."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        count = len(self.windows.places)
        side, (_, height, width) = self.windows.side, self.windows.image_shape
        # At first a full window's perturbation weighs about as much as the collapse.
        start = {
            "price": torch.full((count,), height * width / side**2),
            "left": torch.zeros(count),
            "best_cost": torch.full((count,), math.inf),
            "best_left": torch.full((count,), math.inf),
            "best_mask": self.windows.mask.data.clone(),
            "best_pattern": self.windows.pattern.data.clone(),
        }
        self.state = nn.ParameterDict(
            {name: nn.Parameter(value, requires_grad=False) for name, value in start.items()}
        )
        self.state.to(self.windows.mask.device)
        self._trainable = nn.ModuleDict({"windows": self.windows, "state": self.state})

    @property
    def trainable(self) -> nn.Module:
        return self._trainable

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [
            {
                "params": [self.windows.mask, self.windows.pattern],
                # Few steps must cover the same way as many.
                "lr": 5 * self.settings.learning_rate / self.settings.shrink_steps ** (2 / 3),
            }
        ]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        goal, state = self.goal, self.state
        for which, images, stamped, response in self.parts(rows):
            left, means = self.collapse(response, which)
            perturbation = (stamped - images).abs().mean((1, 2, 3, 4))
            # The mask's own size keeps pixels from staying open where pattern and image agree.
            area = self.windows.mask[which].sum((1, 2, 3)) / images[0, 0].numel()
            price = state["price"][which]
            yield (
                ((left + 0.01 * goal).log() + price * (2 * perturbation + 0.6 * area)).sum(),
                self._figures(which, perturbation, left, means),
            )
            self._follow_goal(which, left.detach(), perturbation.detach(), step)

    @torch.no_grad()
    def _follow_goal(self, which: list[int], left: Tensor, cost: Tensor, step: int) -> None:
        """Raise the price while the goal is met, lower it else; keep each window's best so far.

        Best is the cheapest that met the goal or, until one does, the one that missed it least.
        """
        state = self.state
        memory = 0.7 if step else 0.0
        state["left"][which] = memory * state["left"][which] + (1 - memory) * left
        average = state["left"][which]
        met = average < self.goal
        change = 5 / self.settings.shrink_steps  # of the price's logarithm in a step
        state["price"][which] *= torch.where(met, change, -change).exp()
        cheaper = met & (left < self.goal) & (cost < state["best_cost"][which])
        closer = ~met & state["best_cost"][which].isinf() & (average < state["best_left"][which])
        if step < AVERAGED_STEPS:
            return
        for k, is_cheaper, is_closer, value, missed in zip(
            which, cheaper.tolist(), closer.tolist(), cost, average, strict=True
        ):
            if is_cheaper or is_closer:
                state["best_mask"][k] = self.windows.mask[k]
                state["best_pattern"][k] = self.windows.pattern[k]
            if is_cheaper:
                state["best_cost"][k] = value
            if is_closer:
                state["best_left"][k] = missed

    @staticmethod
    def _figures(
        which: list[int], perturbation: Tensor, left: Tensor, means: Tensor
    ) -> dict[str, float]:
        figures = {}
        for k, cost, remaining, mean in zip(
            which, perturbation.tolist(), left.tolist(), means, strict=True
        ):
            figures[f"{k}.perturbation"], figures[f"{k}.left"] = cost, remaining
            figures |= {f"{k}.{name}": value for name, value in traced_target(mean).items()}
        return figures

    def restore_best(self) -> None:
        """Put back the best mask and pattern of each window."""
        self.windows.mask.data.copy_(self.state["best_mask"])
        self.windows.pattern.data.copy_(self.state["best_pattern"])


_ObjectiveT = TypeVar("_ObjectiveT", bound=_WindowObjective)


@dataclass(frozen=True)
class PlaceResult:
    """What the search of all places found with windows of one size.

    Attributes:
        candidates: the finalists, cheapest first; those whose answer is at a bound last.
        sent: the best candidate's place sent to its own target, then to the others.
        moved: whether the outputs answered to the windows' pixels at all.
        apart: places are one where they are nearer to each other than so many pixels.
        trace: a row of figures a shrinking step (keys ``START.FIGURE``).
        steps: optimiser steps of all its stages.
    """

    candidates: list[Candidate]
    sent: list[Candidate]
    moved: bool
    apart: int
    trace: list[dict[str, float]]
    steps: int

    @property
    def elsewhere(self) -> list[Candidate]:
        """The finalists at places of their own, apart from the cheapest one's."""
        best = self.candidates[0]
        where = (best.top, best.left)
        return [c for c in self.candidates if not share_a_pixel(where, (c.top, c.left), self.apart)]


def search_places(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: PlaceSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[PlaceResult]:
    """Search all places with wide windows, then look closely where their triggers lie.

    The best place of each size is also sent to other targets.
    """
    search = _PlaceSearch(victim, task, benign, settings, seed, checkpoints, progress)
    wide = search.wide()
    return [wide, search.close(wide)]


class _PlaceSearch:
    """The stages of one search, each an optimisation of its own."""

    def __init__(
        self,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: PlaceSettings,
        seed: int,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
    ) -> None:
        self.victim, self.task, self.benign = victim, task, benign
        self.settings, self.seed = settings, seed
        self.checkpoints, self.progress = checkpoints, progress
        channels, height, width = benign.images.shape[1:]
        self.image_shape = (channels, height, width)
        self.steps = 0

    def wide(self) -> PlaceResult:
        """Windows all over the image; the finalists among them shrink."""
        settings, before = self.settings, self.steps
        places, side = window_grid(self.image_shape, settings.window, settings.per_axis)
        windows = self._windows(places * settings.starts, side)
        for number, (steps, images) in enumerate(settings.rounds):
            objective = self._objective(_Collapse, windows, steps=steps, goal=settings.goal)
            self._optimise(objective, f"searching places {number + 1}", images)
            left = _remaining(objective, torch.arange(min(16, len(self.benign.images))))
            last = number == len(settings.rounds) - 1
            size = settings.finalists if last else len(windows.places) // 2
            windows.keep(strongest(left, windows, max(size, settings.finalists)))
        moved = bool(left.isfinite().all() and (left - left[0]).abs().max() > 0)
        return self._result(windows, "", before, moved=moved, apart=side)

    def close(self, wide: PlaceResult) -> PlaceResult:
        """Small windows where the wide ones' masks are left."""
        side, before = window_side(self.image_shape, self.settings.close_window), self.steps
        places = list(dict.fromkeys(_heaviest(c.trigger, side) for c in wide.candidates))
        windows = self._windows(places, side)
        self._collapse(windows, "searching closely", goal=self.settings.goal)
        return self._result(windows, " closely", before, moved=wide.moved, apart=2 * side)

    def _result(
        self, windows: Windows, how: str, before: int, *, moved: bool, apart: int
    ) -> PlaceResult:
        """Shrink windows that collapse the outputs, and send the cheapest place to targets."""
        shrink, trace = self._shrink(windows, f"shrinking triggers{how}", goal=self.settings.goal)
        measured = [_measure(shrink, k) for k in range(len(windows.places))]
        best, *others = sorted(measured, key=lambda c: (c.at_bound, c.effort))
        ratio = switch_ratio(self.victim, self.task, self.benign, best.trigger)
        best = dataclasses.replace(best, switch_ratio=ratio)
        sent = self._same_place(best, how)
        return PlaceResult([best, *others], sent, moved, apart, trace, self.steps - before)

    def _same_place(self, best: Candidate, how: str) -> list[Candidate]:
        """The best candidate's place, sent to its own target and to others, from fresh starts.

        All get the same steps, so their efforts can be compared.
        """
        settings = self.settings
        others = answers_elsewhere(self.benign.standardised, best.target, settings.other_targets)
        targets = torch.cat([best.target[None], others])
        windows = self._windows([(best.top, best.left)] * len(targets), best.side)
        common: dict[str, Any] = {"goal": settings.target_goal, "targets": targets}
        self._collapse(windows, f"sending to targets{how}", **common)
        shrink, _ = self._shrink(windows, f"shrinking per target{how}", **common)
        return [_measure(shrink, k) for k in range(len(targets))]

    def _windows(self, places: list[tuple[int, int]], side: int) -> Windows:
        windows = Windows(self.image_shape, places, side, self.seed + self.steps)
        return windows.to(self.benign.images.device)

    def _collapse(self, windows: Windows, name: str, **goal: Any) -> None:
        """As many steps as all rounds have, without dropping windows."""
        steps = sum(steps for steps, _ in self.settings.rounds)
        objective = self._objective(_Collapse, windows, steps=steps, **goal)
        self._optimise(objective, name, self.settings.shrink_images)

    def _shrink(
        self, windows: Windows, name: str, **goal: Any
    ) -> tuple[_Shrink, list[dict[str, float]]]:
        shrink = self._objective(_Shrink, windows, steps=self.settings.shrink_steps, **goal)
        trace = self._optimise(shrink, name, self.settings.shrink_images)
        shrink.restore_best()
        return shrink, trace

    def _objective(self, kind: type[_ObjectiveT], windows: Windows, **settings: Any) -> _ObjectiveT:
        return kind(windows, self.victim, self.task, self.benign, self.settings, **settings)

    def _optimise(
        self, objective: _WindowObjective, name: str, images: int
    ) -> list[dict[str, float]]:
        run = optimise(
            objective,
            victim=self.victim,
            count=len(self.benign.images),
            batch_size=images,
            steps=objective.steps,
            seed=self.seed + self.steps,
            name=name,
            checkpoint=self.checkpoints.stage(name) if self.checkpoints else None,
            progress=self.progress,
        )
        self.steps += run.steps
        return run.trace


def _heaviest(trigger: MaskPatternTrigger, side: int) -> tuple[int, int]:
    """Upper left corner of the window of this side that holds most of a mask."""
    held = functional.avg_pool2d(trigger.mask, side, stride=1)[0]
    return divmod(int(held.argmax()), held.shape[1])


@torch.no_grad()
def _remaining(objective: _WindowObjective, rows: Tensor) -> Tensor:
    """Variance left for every window on the same images."""
    return torch.cat(
        [objective.collapse(response, which)[0] for which, _, _, response in objective.parts(rows)]
    )


@torch.no_grad()
def _measure(objective: _Shrink, k: int) -> Candidate:
    """Measure one finalist on clean images spread over all of them."""
    windows, benign = objective.windows, objective.benign
    mask, pattern = (value.detach().clone() for value in windows.full(k))
    trigger = MaskPatternTrigger(mask, pattern)
    outputs, angles, change = [], [], 0.0
    sample = benign.images[:: max(1, len(benign.images) // objective.settings.measured)]
    for images in sample.split(64):
        stamped = trigger(images)
        response = respond(objective.victim, objective.task, benign, stamped)
        outputs.append(response.standardised)
        if response.angles is not None:
            angles.append(response.angles)
        change += float((stamped - images).abs().sum())
    responses = torch.cat(outputs)
    rav = None
    if benign.angle_variance is not None:
        rav = float(metrics.rav_of_angles(torch.cat(angles), benign.angle_variance))
    top, left = windows.places[k]
    target, variance_ratio = responses.mean(0), float(metrics.variance(responses).mean())
    if objective.targets is None:
        miss = variance_ratio
    else:
        miss = float((responses - objective.targets[k]).square().mean())
    return Candidate(
        trigger=trigger,
        top=top,
        left=left,
        side=windows.side,
        perturbation=change / sample.numel(),
        variance_ratio=variance_ratio,
        rav=rav,
        target=target,
        miss=miss,
        goal=objective.goal,
        start=k,
        at_bound=objective.task.is_regression and bool(benign.at_bound(target[None])),
    )
