"""One change of a family, sent to many targets: the one that stands out, and what says so.

A family says where a trigger may lead (it *scouts*); then fresh starts are sent to that answer and
to others, elsewhere but about as far away.  Any of them may be the one that a trigger gives; what
is left of the way to those apart from it is the model's own null: how far this budget pushes this
model to answers that nobody planted.

A planted trigger is reached almost completely where the others are not.  Too small a budget moves
nothing, too large a one reaches every target of every model, and where between them a trigger
stands out differs from model to model.  So the changes go up a ladder of budgets (blends and sparse
changes down), each rung from where the last one ended, and the rung on which the answer stands out
most speaks.

There the changes may *settle*: each goes on, with smaller and smaller steps, to gather the outputs
where they are.  Then other answers than a planted one are approached, too, but not as closely.

A model may go one way more easily than the others, as after training on stamped images; then a
clean answer stands out, too.  So one that is to be trusted is compared once more with answers
*beside* it, on the same way from the mean, from fresh starts.
"""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.answers import (
    ALIKE,
    ALIKE_SETTLED,
    answers_elsewhere,
    apart,
    contrast_of,
    meeting_pairs,
    missed,
    nearness,
    scatter,
)
from drmguard.search.benign import Benign, respond
from drmguard.search.default_answer import DefaultAnswers
from drmguard.search.loop import Objective, Progress, Run, optimise, traced_target
from drmguard.search.patterns import Family
from drmguard.search.spread_settings import (
    DROWNING,
    TEXTURING,
    FamilyName,
    Ladder,
    SpreadSettings,
)
from drmguard.search.switch import switch_ratio
from drmguard.tasks import Task

# Below this the logarithm of what is left of the way stops pulling.
_FLOOR = 0.005
# Clean images that are stamped at once when what is left is measured.
_STAMPED = 8
# Fewer answers apart from one are too few to compare it with.
_FEWEST_OTHERS = 3


@dataclass(frozen=True)
class SpreadCandidate:
    """What one search found.

    Attributes:
        family: a blend, a conditional change, what one settles to, a wave, a warp, a patch, or a
            sparse change.
        trigger: images to images.
        number: of the change that it is, as in the trace.
        budget: of the rung: largest change of a pixel; of a warp, largest displacement over the
            side; of a patch, its side over the image's; of a sparse change, its mean opacity.
        target: mean response with the trigger, standardised by the clean ones.
        sent: the answer that the change was sent to, then those it is compared with (k, d),
            standardised.
        left: what is left of the way to each: mean squared distance to it over its squared
            distance from the clean mean; of the first, to the mean answer instead.
        contrast: what is left for the first over the others, see :func:`contrast_of`.
        score: the contrast, plus the variance that is left in the family's unit: a planted answer
            has little of both.  The contrast alone is deceived by a model with one direction in
            which all answers move easily; the variance alone, by a budget that reaches every
            target.
        variance_ratio: mean_j var f_j(x') / var f_j(x).
        switch_ratio: see :func:`~drmguard.search.switch.switch_ratio`; None where it says nothing.
        settled_contrast: the contrast once all have settled; None where they did not.
        aside: how far its answer lies aside of the way that textures take, which the score is
            divided by, see :meth:`~drmguard.search.default_answer.DefaultAnswers.aside`; 1 with few
            outputs.
        beside: how closely its answer is reached once more, over answers beside it, see
            :func:`~drmguard.search.spread.look_beside`; None where nobody looked.
        by_beside: what the score is multiplied by for that.
        perturbation: mean |x' − x| over pixels and images.
        trace: a row of figures a step of the comparison, of all rungs (keys ``NUMBER.FIGURE``).
        steps: optimiser steps of both stages.
    """

    family: FamilyName
    trigger: nn.Module
    number: int
    budget: float
    target: Tensor
    sent: Tensor
    left: tuple[float, ...]
    contrast: float
    score: float
    variance_ratio: float
    switch_ratio: float | None
    settled_contrast: float | None
    perturbation: float
    trace: list[dict[str, float]]
    steps: int
    aside: float = 1.0
    beside: float | None = None
    by_beside: float = 1.0


class Sent(Objective):
    """Changes on their way to a target each, or to wherever the outputs gather.

    That is so where the target is NaN; where it is infinite, at first only some of them meet.
    """

    def __init__(
        self,
        family: Family,
        targets: Tensor,
        climbs: bool,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: SpreadSettings,
    ) -> None:
        self.family, self.targets, self.climbs, self.steps = family, targets, climbs, 0
        self.victim, self.task, self.benign, self.settings = victim, task, benign, settings

    @property
    def trainable(self) -> nn.Module:
        return self.family

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return self.family.parameter_groups()

    def rate(self, step: int) -> float:
        return 1.0 if self.climbs else 0.1 + 0.9 * (1 - step / self.steps)

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self.benign.images[rows]
        at_once = max(1, self.settings.images_at_once // len(rows))
        for some in torch.arange(len(self.targets), device=images.device).split(at_once):
            outputs = self.respond(images, self.family.changes()[some])
            targets = self.targets[some, None]
            goals = torch.where(targets.isfinite(), targets, outputs.mean(1, keepdim=True))
            left = (outputs - goals).square().mean((1, 2))
            meeting = targets.isinf().all((1, 2)) & (step < self.steps / 2)
            loss = (left[~meeting] + _FLOOR).log().sum()
            loss = loss - meeting_pairs(outputs[meeting]).log().sum()
            yield loss, self._figures(some.tolist(), outputs.detach())

    @staticmethod
    def _figures(numbers: list[int], outputs: Tensor) -> dict[str, float]:
        figures: dict[str, float] = {}
        for number, own in zip(numbers, outputs, strict=True):
            traced = traced_target(own.mean(0)) | {"left": float(metrics.variance(own).mean())}
            figures |= {f"{number}.{name}": value for name, value in traced.items()}
        return figures

    def respond(self, images: Tensor, changes: Tensor) -> Tensor:
        """Standardised responses (k, n, d) to images (n, C, H, W) with k of the changes."""
        flat = (
            self.family.stamp(images, changes)
            .flatten(0, 1)
            .contiguous(memory_format=torch.channels_last)
        )
        response = respond(self.victim, self.task, self.benign, flat)
        outputs: Tensor = response.standardised.unflatten(0, (len(changes), -1))
        return outputs

    @torch.no_grad()
    def all_outputs(self, count: int) -> Tensor:
        """Standardised responses (K, count, d) to the first images with every change."""
        changes = self.family.changes()
        stamped = min(_STAMPED, count)
        some = max(1, self.settings.images_at_once // stamped)
        return torch.cat(
            [
                torch.cat([self.respond(images, part) for part in changes.split(some)])
                for images in self.benign.images[:count].split(stamped)
            ],
            dim=1,
        )


@dataclass(frozen=True)
class Reached:
    """How far one of the compared changes stands out on one rung of the ladder.

    Attributes:
        number: of the change.
        by_default: whether the model gives its answer where there is no content, too; once it has
            settled, one near it.
        budget, left, contrast, score, sent: see :class:`SpreadCandidate`.
        standing: the score, higher for an answer near the mean, or near the way of textures.
    """

    number: int
    by_default: bool
    budget: float
    sent: Tensor
    left: tuple[float, ...]
    contrast: float
    score: float
    standing: float


def near_mean_raised(score: float, answer: Tensor) -> float:
    """A score, higher where its answer (d,) is near the mean.

    By the square of the nearness, since a change of the whole image drowns the content more easily
    than a window does.
    """
    return score / nearness(answer) ** 2


def standing_out(reached: Reached) -> tuple[bool, float]:
    """Sorts changes, the one that stands out most first."""
    return reached.by_default, reached.standing


class TargetSearch(abc.ABC):
    """Both stages with one family."""

    family: FamilyName

    def __init__(
        self,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: SpreadSettings,
        ladder: Ladder,
        seed: int,
        checkpoints: Checkpoints | None,
        progress: Progress | None,
    ) -> None:
        self.victim, self.task, self.benign, self.settings = victim, task, benign, settings
        self.ladder, self.seed = ladder, seed
        self.checkpoints, self.progress = checkpoints, progress
        channels, height, width = benign.images.shape[1:]
        self.image_shape = (channels, height, width)
        # Only outputs of a linear layer are known to have no bounds.
        self.bounded = not task.is_regression or benign.weight is None
        self.default = DefaultAnswers.of(victim, task, benign)
        # What changes may be sent to: (N, d).
        self.answers = benign.standardised
        if task.has_many_classes:
            self.answers = benign.standardise(torch.eye(task.num_outputs).to(benign.mean))
        self.steps = 0

    @abc.abstractmethod
    def scout(self) -> Tensor:
        """The answer (d,) to which a trigger may lead, standardised."""

    @abc.abstractmethod
    def starts(self, targets: Tensor) -> Family:
        """A change to start from for each target (K, d)."""

    def contrast(
        self,
        own: float,
        others: list[float],
        chance: float = math.inf,
        alike: float = ALIKE,
    ) -> float:
        """See :func:`contrast_of`."""
        return contrast_of(own, others, chance, bounded=self.bounded, alike=alike)

    def by_chance(self, answer: Tensor) -> float:
        """What random changes of the family leave of the way to an answer (d,) near the mean.

        Where clean models see their content drowned, much leads to the same answer there.
        """
        return math.inf

    def by_default(self, answers: Tensor) -> Tensor:
        """Whether each of the answers (K, d) is what the model says where there is no content.

        Strong changes drown the content, and a clean model then gives its default answer, or one at
        a bound of its outputs.  Warps and small patches drown nothing.  A class is no such answer:
        some class is given to everything.
        """
        by_default = self.benign.at_bound(answers)
        if self.family in DROWNING:
            by_default = by_default | self.default.given_to_blank(answers)
        return by_default & self.task.is_regression

    def aside(self, answers: Tensor) -> Tensor:
        """What the score of each of the answers (K, d) is divided by.

        What any strong change leads to on a model of many outputs says less.
        """
        if self.family in TEXTURING:
            return self.default.aside(answers)
        return answers.new_ones(len(answers))

    def _switch_ratio(self, trigger: nn.Module, answer: Tensor) -> float | None:
        """None where a clean model may switch, too, since its content is drowned.

        Waves drown it anywhere; blends and conditional changes where they lead near the mean, or to
        what the model says to half of the pictures without content.
        """
        if self.family in DROWNING:
            by_blank = bool(self.default.given_to_half(answer[None]))
            if self.family == "wave" or by_blank or nearness(answer) < 1:
                return None
        return switch_ratio(self.victim, self.task, self.benign, trigger)

    def candidates(self) -> list[SpreadCandidate]:
        """Scout, then compare; the change that stands out most, of all rungs, is the candidate."""
        scouted = self.scout()
        compared_with = min(self.ladder.targets, len(self.answers)) - 1
        others = answers_elsewhere(self.answers, scouted, compared_with)
        targets = torch.cat([scouted[None], others])
        compared = self.sent(self.starts(targets), targets, climbs=self.ladder.climbs)
        trace: list[dict[str, float]] = []
        rungs = []
        for run, budget in self.climb(
            compared, "comparing targets", steps=self.ladder.comparing, seed=self.seed + 1
        ):
            trace += run.trace
            outputs = compared.all_outputs(self.settings.measured)
            reached = self._reached(outputs, targets, budget)
            best = min(reached, key=standing_out)
            rungs.append((best, copy.deepcopy(compared.family), outputs.mean(1)))
        best, family, answers = min(rungs, key=lambda rung: standing_out(rung[0]))
        found = self.measured(best, family.trigger(best.number), trace, self.steps)
        return self.followed(found, family, targets, answers)

    def followed(
        self, found: SpreadCandidate, family: Family, targets: Tensor, answers: Tensor
    ) -> list[SpreadCandidate]:
        """What was found, with what more can be said of it.

        Args:
            found: the candidate.
            family: all compared changes, on its rung.
            targets: where each was sent (K, d).
            answers: the mean answer that each of them gives (K, d).
        """
        return [found]

    def settle(
        self, family: Family, targets: Tensor, answers: Tensor
    ) -> tuple[list[Reached], list[dict[str, float]], int]:
        """Let changes settle in place: those with others to compare with, the trace, the steps."""
        outputs, run = self.settled(family, answers, "settling", self.seed + 1)
        reached = self._reached(outputs, targets, family.budget, settled=True)
        return reached, run.trace, run.steps

    def settled(self, family: Family, answers: Tensor, name: str, seed: int) -> tuple[Tensor, Run]:
        """What the model answers (K, n, d) when changes have settled where they were (K, d)."""
        sent = self.sent(family, answers, climbs=False)
        sent.steps = self.settings.settling
        run = self._run(
            sent, f"{name}, {self.family}", images=self.settings.settling_images, seed=seed
        )
        return sent.all_outputs(self.settings.measured), run

    def _reached(
        self, outputs: Tensor, targets: Tensor, budget: float, *, settled: bool = False
    ) -> list[Reached]:
        """Of the outputs (K, n, d) of all changes, those that have others to compare with.

        The scouted answer is near the planted one at best, and so is any other: what counts is how
        closely the outputs gather, not how near to where they were sent.  So it is for the others,
        too, when they have settled; but one that ended at this very answer has missed its own.
        """
        alike = ALIKE_SETTLED if settled else ALIKE
        means, gathered, left = outputs.mean(1), scatter(outputs), missed(outputs, targets)
        default = self.by_default(means)
        if settled:
            default |= self.default.leaned_to(means)
        own, aside = gathered.tolist(), self.aside(means).tolist()
        found = []
        for number, answer in enumerate(means):
            # The scouted answer's others were chosen to be apart from it.
            which = apart(targets, answer) if number else targets.new_ones(len(targets)).bool()
            which[number] = False
            missing = left.where(~apart(means, answer), gathered) if settled else left
            others = missing[which].tolist()
            if number and len(others) < _FEWEST_OTHERS:
                continue
            contrast = self.contrast(own[number], others, self.by_chance(answer), alike)
            variance = float(outputs[number].var(0, correction=0).mean())
            score = contrast + variance / self.ladder.collapsed
            found.append(
                Reached(
                    number=number,
                    by_default=bool(default[number]),
                    budget=budget,
                    sent=torch.cat([targets[[number]], targets[which]]),
                    left=(own[number], *others),
                    contrast=contrast,
                    score=score,
                    standing=near_mean_raised(score / aside[number], answer),
                )
            )
        return found

    def sent(self, family: Family, targets: Tensor, *, climbs: bool) -> Sent:
        """Changes on their way to targets, with steps that stay as large where it ``climbs``."""
        family.to(self.benign.images.device)
        return Sent(family, targets, climbs, self.victim, self.task, self.benign, self.settings)

    def climb(self, sent: Sent, name: str, *, steps: int, seed: int) -> Iterator[tuple[Run, float]]:
        """Send the changes up the ladder, one rung and its budget at a time."""
        sent.steps = steps
        run = None
        for rung, budget in enumerate(self.ladder.budgets):
            sent.family.budget = budget
            run = self._run(
                sent,
                f"{name}, {self.family} ±{budget:g}",
                images=self.settings.images,
                seed=seed + 100 * rung,
                after=run,
            )
            yield run, budget

    def _run(
        self, sent: Sent, title: str, *, images: int, seed: int, after: Run | None = None
    ) -> Run:
        run = optimise(
            sent,
            victim=self.victim,
            count=len(self.benign.images),
            batch_size=images,
            steps=sent.steps,
            seed=seed,
            betas=(0.8, 0.95),
            after=after,
            name=title,
            checkpoint=self.checkpoints.stage(title) if self.checkpoints else None,
            progress=self.progress,
        )
        self.steps += run.steps
        return run

    @torch.no_grad()
    def measured(
        self,
        reached: Reached,
        trigger: nn.Module,
        trace: list[dict[str, float]],
        steps: int,
        *,
        settled: bool = False,
    ) -> SpreadCandidate:
        """A candidate, on all images; of what has settled a switch says nothing."""
        images = self.benign.images
        trigger = trigger.to(images.device)
        responses, change = [], 0.0
        for chunk in images.split(64):
            stamped = trigger(chunk)
            responses.append(respond(self.victim, self.task, self.benign, stamped).standardised)
            change += float((stamped - chunk).abs().sum())
        answers = torch.cat(responses)
        target = answers.mean(0)
        return SpreadCandidate(
            family="settled" if settled else self.family,
            trigger=trigger,
            number=reached.number,
            budget=reached.budget,
            target=target,
            sent=reached.sent,
            left=reached.left,
            contrast=reached.contrast,
            score=reached.score,
            variance_ratio=float(metrics.variance(answers).mean()),
            switch_ratio=None if settled else self._switch_ratio(trigger, target),
            settled_contrast=None,
            perturbation=change / images.numel(),
            trace=trace,
            steps=steps,
            aside=float(self.aside(target[None])),
        )
