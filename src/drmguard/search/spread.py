"""Triggers spread over the whole image: one pattern, wave or warp, sent to many targets.

A blend, a sinusoid or a warp changes every pixel a little, which no window can hold.  So a change
of one family (an additive pattern within an L∞ budget, a wave, a smooth warp) is searched for each
of several targets, all in one batch:

1. *Scout.*  Targets spread over the answers that the model gives to clean images.  The target that
   is reached best, for its distance from the mean, says where a trigger may lead: the mean
   answer that its pattern gives.
2. *Compare.*  Fresh starts are sent to that answer and to others, elsewhere but about as far away.
   What is left of the way to the others is the model's own null: how far this budget pushes this
   model to answers that nobody planted.

A planted trigger is reached almost completely where the others are not.  Budgets form a ladder:
too small a one moves nothing, too large a one reaches every target of every model.

Descent from nothing follows the model's own content first and never sees a trigger that works
only when it is nearly whole.  Waves have so few numbers that whole ones can be tried instead: the
wave whose outputs gather best scouts, and each compared answer starts from the wave that comes
nearest to it.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.search.passes import LARGE_SIDE, images_at_once
from drmguard.search.patterns import Family, Patterns, Warps, Waves, probing_waves
from drmguard.tasks import Task
from drmguard.triggers.warp import default_grid

FamilyName = Literal["pattern", "wave", "warp"]

# Squared share of the way to a planted target that is left at most, as a unit.
FULLY_REACHED = 0.005
# Below this the logarithm of what is left of the way stops pulling.
_FLOOR = 0.005
# An answer nearer to the mean counts as if it were this far, in clean standard deviations squared.
_NEAREST = 0.3
# A warp moves a pixel by at most this share of the side.
_WARP_BUDGET = 1 / 16
# Clean images that are stamped at once when what is left is measured.
_STAMPED = 8


@dataclass(frozen=True)
class SpreadSettings:
    """How to search for spread triggers.

    Attributes:
        budgets: largest change of a pixel by a free pattern, one search each.
        wave_budget: largest amplitude of a wave.
        warp_points: control points a side of a warp, which moves a pixel by half their distance
            at most, and by a sixteenth of the side.
        warp_targets, warp_steps: as below, of warps.
        frequencies, probed: waves tried over the image's side, and clean images that each is
            tried on.
        targets: targets searched at once; one of them is compared with the others.
        steps, images: optimiser steps of each stage, and images a step.
        scouted, measured: clean images on which each stage measures what is left.
        images_at_once: stamped images in one pass, which bounds the memory.
    """

    budgets: tuple[float, ...] = (0.02, 0.04, 0.08)
    wave_budget: float = 0.2
    warp_points: int = 8
    warp_targets: int = 8
    warp_steps: int = 80
    frequencies: int = 12
    probed: int = 16
    targets: int = 8
    steps: int = 40
    images: int = 6
    scouted: int = 48
    measured: int = 128
    images_at_once: int = 96


def spread_settings(image_shape: tuple[int, int, int]) -> SpreadSettings:
    """The fast recipe's settings for images of this shape (C, H, W)."""
    at_once, points = images_at_once(image_shape), default_grid(min(image_shape[1:]))
    if min(image_shape[1:]) < LARGE_SIDE:
        return SpreadSettings(warp_points=points, images_at_once=at_once)
    return SpreadSettings(
        warp_points=points,
        warp_targets=4,
        warp_steps=20,
        budgets=(0.04, 0.08),
        frequencies=8,
        probed=4,
        targets=6,
        steps=20,
        images=4,
        scouted=24,
        measured=64,
        images_at_once=at_once,
    )


@dataclass(frozen=True)
class SpreadCandidate:
    """What one search found.

    Attributes:
        family: a free pattern, a wave, or a warp.
        trigger: images to images.
        budget: largest change of a pixel; of a warp, largest displacement over the side.
        target: mean response with the trigger, standardised by the clean ones.
        sent: the answers compared, standardised (K, d); the first is the scouted one.
        left: what is left of the way to each: mean squared distance to it over its squared
            distance from the clean mean; for the scouted one, to the mean answer instead.
        null: what is left for the others: the median for regression, the least for classifiers,
            where single classes are easy for clean models too.
        variance_ratio: mean_j var f_j(x') / var f_j(x).
        perturbation: mean |x' − x| over pixels and images.
        trace: a row of figures a step of the comparison, for the scouted answer.
        steps: optimiser steps of both stages.
    """

    family: FamilyName
    trigger: nn.Module
    budget: float
    target: Tensor
    sent: Tensor
    left: tuple[float, ...]
    null: float
    variance_ratio: float
    perturbation: float
    trace: list[dict[str, float]]
    steps: int

    @property
    def contrast(self) -> float:
        """What is left of the way to the scouted answer, over the null."""
        return self.left[0] / self.null

    @property
    def score(self) -> float:
        """Weighted geometric mean of the contrast (2) and of what is left (1).

        The contrast alone is deceived by a model with one direction in which all answers move
        easily; what is left alone (in units of ``FULLY_REACHED``), by a budget that reaches
        every target.
        """
        return float((self.contrast**2 * self.left[0] / FULLY_REACHED) ** (1 / 3))


def search_spread(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: SpreadSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[SpreadCandidate]:
    """Search with every budget, with waves, then with warps; the candidates in this order."""
    common = (victim, task, benign, settings)
    searches: list[_Search] = [
        _PatternSearch(*common, budget, seed + 2 * number, checkpoints, progress)
        for number, budget in enumerate(settings.budgets)
    ]
    number = len(searches)
    searches.append(
        _WaveSearch(*common, settings.wave_budget, seed + 2 * number, checkpoints, progress)
    )
    warped = dataclasses.replace(settings, targets=settings.warp_targets, steps=settings.warp_steps)
    budget = min(_WARP_BUDGET, 0.5 / settings.warp_points)
    searches.append(
        _WarpSearch(
            *(victim, task, benign, warped, budget, seed + 2 * number + 2, checkpoints, progress)
        )
    )
    return [search.candidate() for search in searches]


class _Sent(Objective):
    """Patterns on their way to a target each."""

    def __init__(
        self,
        patterns: Family,
        targets: Tensor,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: SpreadSettings,
    ) -> None:
        self.patterns, self.targets = patterns, targets
        self.victim, self.task, self.benign, self.settings = victim, task, benign, settings

    @property
    def trainable(self) -> nn.Module:
        return self.patterns

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return self.patterns.parameter_groups()

    def rate(self, step: int) -> float:
        return 0.1 + 0.9 * (1 - step / self.settings.steps)

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self.benign.images[rows]
        at_once = max(1, self.settings.images_at_once // len(rows))
        for some in torch.arange(len(self.targets), device=images.device).split(at_once):
            outputs = self.respond(images, self.patterns.changes()[some])
            left = (outputs - self.targets[some, None]).square().mean((1, 2))
            yield (left + _FLOOR).log().sum(), self._figures(outputs[0]) if some[0] == 0 else {}

    @staticmethod
    def _figures(outputs: Tensor) -> dict[str, float]:
        """Of the first pattern, whose way is shown."""
        target = traced_target(outputs.detach().mean(0))
        return target | {"left": float(metrics.variance(outputs.detach()).mean())}

    def respond(self, images: Tensor, changes: Tensor) -> Tensor:
        """Standardised responses (k, n, d) to images (n, C, H, W) with k of the changes."""
        flat = (
            self.patterns.stamp(images, changes)
            .flatten(0, 1)
            .contiguous(memory_format=torch.channels_last)
        )
        response = respond(self.victim, self.task, self.benign, flat)
        outputs: Tensor = response.standardised.unflatten(0, (len(changes), -1))
        return outputs

    @torch.no_grad()
    def all_outputs(self, count: int) -> Tensor:
        """Standardised responses (K, count, d) to the first images with every pattern."""
        changes = self.patterns.changes()
        stamped = min(_STAMPED, count)
        some = max(1, self.settings.images_at_once // stamped)
        return torch.cat(
            [
                torch.cat([self.respond(images, part) for part in changes.split(some)])
                for images in self.benign.images[:count].split(stamped)
            ],
            dim=1,
        )


def _missed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance (…) of outputs (…, n, d) from targets (…, d), in squared ways."""
    return (outputs - targets.unsqueeze(-2)).square().mean((-2, -1)) / _way(targets)


def _scatter(outputs: Tensor) -> Tensor:
    """Mean squared distance (…) of outputs (…, n, d) from their mean, in squared ways to it."""
    return _missed(outputs, outputs.mean(-2))


def _way(answers: Tensor) -> Tensor:
    """Squared distance (…) of answers (…, d) from the clean mean."""
    return answers.square().mean(-1).clamp(min=_NEAREST)


class _Search(abc.ABC):
    """Both stages with one family and budget."""

    family: FamilyName

    def __init__(
        self,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: SpreadSettings,
        budget: float,
        seed: int,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
    ) -> None:
        self.victim, self.task, self.benign, self.settings = victim, task, benign, settings
        self.budget, self.seed = budget, seed
        self.checkpoints, self.progress = checkpoints, progress
        self.image_shape = tuple(benign.images.shape[1:])
        self.steps = 0

    @abc.abstractmethod
    def scout(self) -> Tensor:
        """The answer (d,) to which a trigger may lead, standardised."""

    @abc.abstractmethod
    def starts(self, targets: Tensor) -> Family:
        """A pattern to start from for each target (K, d)."""

    def candidate(self) -> SpreadCandidate:
        """Scout, then compare."""
        scouted = self.scout()
        others = answers_elsewhere(self.benign.standardised, scouted, self.settings.targets - 1)
        targets = torch.cat([scouted[None], others])
        compared = self.sent(self.starts(targets), targets)
        trace = self.optimise(compared, "comparing targets", 1)
        outputs = compared.all_outputs(self.settings.measured)
        left = _missed(outputs, targets)
        # The scouted answer is near the planted one at best, where the outputs then gather: what
        # counts of it is how closely they do, not how near to the guess.
        left[0] = _scatter(outputs[0])
        return self._measured(compared, targets, left, trace)

    def sent(self, patterns: Family, targets: Tensor) -> _Sent:
        """Patterns on their way to targets."""
        patterns.to(self.benign.images.device)
        return _Sent(patterns, targets, self.victim, self.task, self.benign, self.settings)

    def optimise(self, sent: _Sent, name: str, stage: int) -> list[dict[str, float]]:
        """Send the patterns; the trace of the first."""
        title = f"{name}, {self.family} ±{self.budget:g}"
        run = optimise(
            sent,
            victim=self.victim,
            count=len(self.benign.images),
            batch_size=self.settings.images,
            steps=self.settings.steps,
            seed=self.seed + stage,
            betas=(0.8, 0.95),
            name=title,
            checkpoint=self.checkpoints.stage(title) if self.checkpoints else None,
            progress=self.progress,
        )
        self.steps += run.steps
        return run.trace

    @torch.no_grad()
    def _measured(
        self, sent: _Sent, targets: Tensor, left: Tensor, trace: list[dict[str, float]]
    ) -> SpreadCandidate:
        images = self.benign.images
        trigger = sent.patterns.trigger(0).to(images.device)
        responses, change = [], 0.0
        for chunk in images.split(64):
            stamped = trigger(chunk)
            responses.append(respond(self.victim, self.task, self.benign, stamped).standardised)
            change += float((stamped - chunk).abs().sum())
        answers = torch.cat(responses)
        return SpreadCandidate(
            family=self.family,
            trigger=trigger,
            budget=self.budget,
            target=answers.mean(0),
            sent=targets,
            left=tuple(left.tolist()),
            null=null_of(left[1:].tolist(), self.task),
            variance_ratio=float(metrics.variance(answers).mean()),
            perturbation=change / images.numel(),
            trace=trace,
            steps=self.steps,
        )


class _PatternSearch(_Search):
    """Free patterns: descent to answers spread over the clean ones scouts."""

    family: FamilyName = "pattern"

    def scout(self) -> Tensor:
        answers = spread_answers(self.benign.standardised, self.settings.targets)
        scouts = self.sent(self._fresh(len(answers), 0), answers)
        self.optimise(scouts, "scouting", 0)
        outputs = scouts.all_outputs(self.settings.scouted)
        return outputs[_missed(outputs, answers).argmin()].mean(0)

    def starts(self, targets: Tensor) -> Family:
        return self._fresh(len(targets), 1)

    def _fresh(self, count: int, stage: int) -> Family:
        return Patterns(count, self.image_shape, self.budget, self.seed + 1000 * stage)


class _WarpSearch(_PatternSearch):
    """Warps, searched as free patterns are."""

    family = "warp"

    def _fresh(self, count: int, stage: int) -> Family:
        points, seed = self.settings.warp_points, self.seed + 1000 * stage
        return Warps(count, self.image_shape, points, self.budget, seed)


class _WaveSearch(_Search):
    """Waves: trying many of them whole scouts, without a gradient."""

    family = "wave"

    def scout(self) -> Tensor:
        self.frequencies, self.phases = probing_waves(self.settings.frequencies)
        waves = Waves(self.frequencies, self.phases, self.image_shape, self.budget)
        probes = self.sent(waves, torch.empty(0))
        self.outputs = probes.all_outputs(self.settings.probed)
        self.best = _scatter(self.outputs).argmin()
        return self.outputs[self.best].mean(0)

    def starts(self, targets: Tensor) -> Family:
        nearest = _missed(self.outputs[None], targets[:, None]).argmin(1)
        nearest[0] = self.best
        chosen = nearest.cpu()
        return Waves(self.frequencies[chosen], self.phases[chosen], self.image_shape, self.budget)


def null_of(others: list[float], task: Task) -> float:
    """What the scouted answer is compared with, from what is left for the others."""
    return statistics.median(others) if task.is_regression else min(others)


def spread_answers(responses: Tensor, number: int) -> Tensor:
    """Clean answers (N, d) spread over their range, away from the mean: (number, d)."""
    norms = torch.linalg.vector_norm(responses, dim=1)
    away = responses[norms >= 0.6 * math.sqrt(responses.shape[1])]
    pool = away if len(away) else responses
    norms = torch.linalg.vector_norm(pool, dim=1)
    first = pool[(norms - norms.quantile(0.8)).abs().argmin()]
    return _farthest(pool, first[None], number)


def answers_elsewhere(responses: Tensor, answer: Tensor, number: int) -> Tensor:
    """Clean answers (number, d) unlike ``answer``, where possible about as far from the mean."""
    radius = torch.linalg.vector_norm(answer)
    norms = torch.linalg.vector_norm(responses, dim=1)
    elsewhere = torch.linalg.vector_norm(responses - answer, dim=1) > 0.6 * radius
    alike = elsewhere & (norms > 0.5 * radius) & (norms < 1.4 * radius)
    pool = next(
        (responses[which] for which in (alike, elsewhere) if int(which.sum()) >= number), responses
    )
    return _farthest(pool, answer[None], number + 1)[1:]


def _farthest(pool: Tensor, chosen: Tensor, number: int) -> Tensor:
    """``chosen`` and those of the pool that lie farthest from all chosen, ``number`` in all."""
    while len(chosen) < number:
        distance = torch.cdist(pool, chosen).amin(1)
        chosen = torch.cat([chosen, pool[distance.argmax()][None]])
    return chosen
