"""Triggers spread over the whole image: one additive pattern, sent to many targets.

A blend, a sinusoid or a warp changes every pixel a little, which no window can hold.  To first
order each of them is a small additive pattern, so a pattern (C, H, W) within an L∞ budget is
searched for each of several targets, all in one batch:

1. *Scout.*  Targets spread over the answers that the model gives to clean images.  The target that
   is reached best, for its distance from the mean, says where a trigger may lead: the mean
   answer that its pattern gives.
2. *Compare.*  Fresh starts are sent to that answer and to others, elsewhere but about as far away.
   What is left of the way to the others is the model's own null: how far this budget pushes this
   model to answers that nobody planted.

A planted trigger is reached almost completely where the others are not.  Budgets form a ladder:
too small a one moves nothing, too large a one reaches every target of every model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.search.loop import TRACED_OUTPUTS, Objective, Progress, optimise
from drmguard.search.passes import LARGE_SIDE, images_at_once
from drmguard.tasks import Task
from drmguard.triggers.generator import ResidualGenerator

# Squared share of the way to a planted target that is left at most, as a unit.
FULLY_REACHED = 0.005
# Below this the logarithm of what is left of the way stops pulling.
_FLOOR = 0.005
# An answer nearer to the mean counts as if it were this far, in clean standard deviations squared.
_NEAREST = 0.3
# Clean images that are stamped at once when what is left is measured.
_STAMPED = 8


@dataclass(frozen=True)
class SpreadSettings:
    """How to search for spread triggers.

    Attributes:
        budgets: largest change of a pixel, one search each.
        targets: targets searched at once; one of them is compared with the others.
        steps, images: optimiser steps of each stage, and images a step.
        scouted, measured: clean images on which each stage measures what is left.
        images_at_once: stamped images in one pass, which bounds the memory.
    """

    budgets: tuple[float, ...] = (0.02, 0.04, 0.08)
    targets: int = 8
    steps: int = 40
    images: int = 6
    scouted: int = 48
    measured: int = 128
    images_at_once: int = 96


def spread_settings(image_shape: tuple[int, int, int]) -> SpreadSettings:
    """The fast recipe's settings for images of this shape (C, H, W)."""
    at_once = images_at_once(image_shape)
    if min(image_shape[1:]) < LARGE_SIDE:
        return SpreadSettings(images_at_once=at_once)
    return SpreadSettings(
        budgets=(0.04, 0.08),
        targets=6,
        steps=20,
        images=4,
        scouted=24,
        measured=64,
        images_at_once=at_once,
    )


@dataclass(frozen=True)
class SpreadCandidate:
    """What one budget found.

    Attributes:
        trigger: x' = clip(x + pattern).
        budget: largest change of a pixel.
        target: mean response with the trigger, standardised by the clean ones.
        sent: the answers compared, standardised (K, d); the first is the scouted one.
        left: what is left of the way to each: mean squared distance to it over its squared
            distance from the clean mean; for the scouted one, to the mean answer instead.
        variance_ratio: mean_j var f_j(x') / var f_j(x).
        perturbation: mean |x' − x| over pixels and images.
        trace: a row of figures a step of the comparison, for the scouted answer.
    """

    trigger: ResidualGenerator
    budget: float
    target: Tensor
    sent: Tensor
    left: tuple[float, ...]
    variance_ratio: float
    perturbation: float
    trace: list[dict[str, float]]

    @property
    def contrast(self) -> float:
        """What is left of the way to the scouted answer, over the median for the others."""
        return self.left[0] / statistics.median(self.left[1:])

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
    """Search with every budget; the candidates in the order of the budgets."""
    found = []
    for number, budget in enumerate(settings.budgets):
        search = _BudgetSearch(
            victim, task, benign, settings, budget, seed + 2 * number, checkpoints, progress
        )
        found.append(search.candidate())
    return found


class Patterns(nn.Module):
    """K additive patterns (K, C, H, W), kept within ±budget by a tanh."""

    def __init__(self, count: int, image_shape: tuple[int, ...], budget: float, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.budget = budget
        self.raw = nn.Parameter(1e-3 * torch.randn(count, *image_shape, generator=random))

    def changes(self) -> Tensor:
        """The patterns within the budget."""
        changes: Tensor = (self.raw / self.budget).tanh() * self.budget
        return changes


class _Sent(Objective):
    """Patterns on their way to a target each."""

    def __init__(
        self,
        patterns: Patterns,
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
        return [{"params": [self.patterns.raw], "lr": 0.25 * self.patterns.budget}]

    def rate(self, step: int) -> float:
        return 0.1 + 0.9 * (1 - step / self.settings.steps)

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self.benign.images[rows]
        at_once = max(1, self.settings.images_at_once // len(rows))
        for some in torch.arange(len(self.targets), device=images.device).split(at_once):
            outputs = self.respond(images, some)
            left = (outputs - self.targets[some, None]).square().mean((1, 2))
            yield (left + _FLOOR).log().sum(), self._figures(outputs[0]) if some[0] == 0 else {}

    @staticmethod
    def _figures(outputs: Tensor) -> dict[str, float]:
        """Of the first pattern, whose way is shown."""
        means = outputs.detach().mean(0)[:TRACED_OUTPUTS].tolist()
        figures = {f"target.{j}": value for j, value in enumerate(means)}
        return {**figures, "left": float(metrics.variance(outputs.detach()).mean())}

    def respond(self, images: Tensor, some: Tensor) -> Tensor:
        """Standardised responses (k, n, d) to images (n, C, H, W) with some patterns each."""
        stamped = (images + self.patterns.changes()[some, None]).clamp(0, 1)
        flat = stamped.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        response = respond(self.victim, self.task, self.benign, flat)
        outputs: Tensor = response.standardised.unflatten(0, (len(some), -1))
        return outputs

    @torch.no_grad()
    def measure(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of the way to each target, scatter about where it led, mean responses.

        (K,), (K,) and (K, d); the first two are mean squared distances, in squared ways.
        """
        every = torch.arange(len(self.targets), device=self.targets.device)
        some = max(1, self.settings.images_at_once // _STAMPED)
        outputs = torch.cat(
            [
                torch.cat([self.respond(images, part) for part in every.split(some)])
                for images in self.benign.images[:count].split(_STAMPED)
            ],
            dim=1,
        )
        means = outputs.mean(1)
        missed = (outputs - self.targets[:, None]).square().mean((1, 2))
        scatter = (outputs - means[:, None]).square().mean((1, 2))
        return missed / _way(self.targets), scatter / _way(means), means


def _way(answers: Tensor) -> Tensor:
    """Squared distance of answers (K, d) from the clean mean."""
    return answers.square().mean(1).clamp(min=_NEAREST)


class _BudgetSearch:
    """Both stages with one budget."""

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

    def candidate(self) -> SpreadCandidate:
        """Scout, then compare."""
        settings, responses = self.settings, self.benign.standardised
        scouts, _ = self._send(spread_answers(responses, settings.targets), "scouting", 0)
        left, _, means = scouts.measure(self.settings.scouted)
        scouted = means[left.argmin()]
        others = answers_elsewhere(responses, scouted, settings.targets - 1)
        targets = torch.cat([scouted[None], others])
        compared, trace = self._send(targets, "comparing targets", 1)
        left, scatter, _ = compared.measure(self.settings.measured)
        # The scouted answer is near the planted one at best, where the outputs then gather: what
        # counts of it is how closely they do, not how near to the guess.
        left[0] = scatter[0]
        return self._measured(compared, targets, left, trace)

    def _send(self, targets: Tensor, name: str, stage: int) -> tuple[_Sent, list[dict[str, float]]]:
        shape = self.benign.images.shape[1:]
        patterns = Patterns(len(targets), tuple(shape), self.budget, self.seed + 1000 * stage)
        patterns.to(self.benign.images.device)
        sent = _Sent(patterns, targets, self.victim, self.task, self.benign, self.settings)
        title = f"{name}, ±{self.budget:g}"
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
        return sent, run.trace

    @torch.no_grad()
    def _measured(
        self, sent: _Sent, targets: Tensor, left: Tensor, trace: list[dict[str, float]]
    ) -> SpreadCandidate:
        images = self.benign.images
        trigger = ResidualGenerator(tuple(images.shape[1:]), width=0)  # type: ignore[arg-type]
        trigger.to(images.device)
        trigger.pattern.copy_(sent.patterns.changes()[0])
        responses, change = [], 0.0
        for chunk in images.split(64):
            stamped = trigger(chunk)
            responses.append(respond(self.victim, self.task, self.benign, stamped).standardised)
            change += float((stamped - chunk).abs().sum())
        answers = torch.cat(responses)
        return SpreadCandidate(
            trigger=trigger,
            budget=self.budget,
            target=answers.mean(0),
            sent=targets,
            left=tuple(left.tolist()),
            variance_ratio=float(metrics.variance(answers).mean()),
            perturbation=change / images.numel(),
            trace=trace,
        )


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
