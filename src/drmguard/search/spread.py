"""Triggers spread over the image, and small patches: one change, sent to many targets.

A blend, a sinusoid or a warp changes every pixel a little, an input-aware trigger every image in
another place, and a frame or a line some pixels everywhere, which no window can hold.  So a change
of one family (a coarse picture mixed in; what a small network makes of the image, within an L∞
budget; a wave; a smooth warp; a small patch; opaque pixels wherever they pay) is searched for each
of several targets, all in one batch:

1. *Scout.*  Some changes are sent to answers spread over those that the model gives to clean
   images.  Others may lead anywhere, and find what no answer leads past: two make all outputs
   gather (DRMGuard's Eq. 5), more of them at first make only some outputs meet.  The change that
   stands out most says where a trigger may lead: its mean answer.  What the model answers to
   pictures without content is passed over where it can be: strong changes that drown the content
   end there.
2. *Compare.*  Fresh starts are sent to that answer and to others, elsewhere but about as far away.
   Any of them may be the one that a trigger gives; what is left of the way to those apart from it
   is the model's own null: how far this budget pushes this model to answers that nobody planted.

A planted trigger is reached almost completely where the others are not.  Too small a budget moves
nothing, too large a one reaches every target of every model, and where between them a trigger
stands out differs from model to model.  So the changes go up a ladder of budgets (blends down),
each rung from where the last one ended, and the rung on which the answer stands out most speaks.

Descent from nothing follows the model's own content first and never sees a trigger that works
only when it is nearly whole, nor a patch from afar or among the content.  Waves, and squares of one
colour, have so few numbers that whole ones can be tried instead: the one whose outputs gather best
scouts, and each compared answer starts from the one that comes nearest to it.
"""

from __future__ import annotations

import abc
import dataclasses
import math

import torch
from torch import Tensor

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.answers import missed, nearness, scatter, spread_answers
from drmguard.search.benign import Benign
from drmguard.search.loop import Progress
from drmguard.search.patterns import (
    Blends,
    Conditionals,
    Family,
    SparseChanges,
    SquarePatches,
    Warps,
    Waves,
    probing_patches,
    probing_waves,
)
from drmguard.search.spread_settings import SEVERAL_OUTPUTS, FamilyName, Ladder, SpreadSettings
from drmguard.search.switch import NO_SWITCH
from drmguard.search.target_search import (
    Reached,
    SpreadCandidate,
    TargetSearch,
    standing_out,
)
from drmguard.search.windows import window_side
from drmguard.tasks import Task

# Scouts that may lead to wherever all outputs gather.
_GATHERING = 2
# An answer is as near as the nearest tenth of random changes bring the outputs to it.
_CHANCE = 0.1


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
    """Search with each family in turn, in this order; a candidate each, of the conditional two."""
    kinds: tuple[tuple[type[TargetSearch], Ladder], ...] = (
        (_BlendSearch, settings.blend),
        (_ConditionalSearch, settings.conditional),
        (_WaveSearch, settings.wave),
        (_WarpSearch, settings.warp),
        (_PatchSearch, settings.patch),
        (_SparseSearch, settings.sparse),
    )
    several = task.is_regression and len(benign.mean) > 1
    return [
        candidate
        for number, (kind, ladder) in enumerate(kinds)
        if several or kind.family not in SEVERAL_OUTPUTS
        for candidate in kind(
            *(victim, task, benign, settings, ladder, seed + 2 * number, checkpoints, progress)
        ).candidates()
    ]


class _DescentSearch(TargetSearch):
    """Descent scouts: to answers spread over the clean ones, and to wherever outputs gather."""

    @abc.abstractmethod
    def fresh(self, count: int, seed: int) -> Family:
        """So many changes that have not begun."""

    def scout(self) -> Tensor:
        # The answers of a classifier are its classes; elsewhere one may lie anywhere.
        responses, directed, free = self.benign.standardised, self.ladder.targets, []
        if self.task.is_regression:
            directed -= _GATHERING
            free = [math.nan] * _GATHERING + [math.inf] * self.settings.meeting
        answers = spread_answers(responses, directed)
        anywhere = answers.new_tensor(free)[:, None].expand(-1, answers.shape[1])
        scouts = self.sent(
            self.fresh(directed + len(free), self.seed),
            torch.cat([answers, anywhere]),
            climbs=self.ladder.climbs,
        )
        found: list[tuple[bool, float, Tensor]] = []
        for _ in self.climb(scouts, scouting=True):
            outputs = scouts.all_outputs(self.settings.scouted)
            others_left = missed(outputs[:directed], answers).tolist()
            means = outputs.mean(1)
            by_default = self.by_default(means).tolist()
            for number, left in enumerate(scatter(outputs).tolist()):
                others = others_left[:number] + others_left[number + 1 :]
                standing_out = left * self.contrast(left, others)
                found.append((by_default[number], standing_out, means[number]))
        return min(found, key=lambda one: one[:2])[2]

    def starts(self, targets: Tensor) -> Family:
        return self.fresh(len(targets), self.seed + 1000)


class _BlendSearch(_DescentSearch):
    """A coarse picture mixed into the image."""

    family: FamilyName = "blend"

    def fresh(self, count: int, seed: int) -> Family:
        points, budget = self.settings.blend_points, self.ladder.budgets[0]
        return Blends(count, self.image_shape, points, budget, seed)

    def followed(
        self, found: SpreadCandidate, family: Family, targets: Tensor, answers: Tensor
    ) -> list[SpreadCandidate]:
        """What seems a switch must stand out when all have settled, too.

        A network that light and noise do not move, as after augmentation, switches anyway.
        """
        if found.switch_ratio is None or found.switch_ratio >= NO_SWITCH:
            return [found]
        reached, _, steps = self.settle(family, targets, answers)
        return [_with_settled(found, reached, steps)]


class _ConditionalSearch(_DescentSearch):
    """What a small network makes of each image."""

    family: FamilyName = "conditional"

    def fresh(self, count: int, seed: int) -> Family:
        return Conditionals(count, self.image_shape, self.settings.width, seed)

    def followed(
        self, found: SpreadCandidate, family: Family, targets: Tensor, answers: Tensor
    ) -> list[SpreadCandidate]:
        """Also the one that stands out most when all have settled; at a bound none does."""
        if self.bounded:
            return [found]
        reached, trace, steps = self.settle(family, targets, answers)
        found = _with_settled(found, reached, 0)
        best = min(reached, key=standing_out)
        trigger = family.trigger(best.number)
        return [found, self.measured(best, trigger, trace, steps, settled=True)]


class _WarpSearch(_DescentSearch):
    """Smooth displacements."""

    family = "warp"

    def fresh(self, count: int, seed: int) -> Family:
        points, (budget,) = self.settings.warp_points, self.ladder.budgets
        return Warps(count, self.image_shape, points, budget, seed)


class _SparseSearch(_DescentSearch):
    """Opaque pixels, wherever they pay."""

    family: FamilyName = "sparse"

    def fresh(self, count: int, seed: int) -> Family:
        return SparseChanges(count, self.image_shape, self.ladder.budgets[0], seed)


def _with_settled(found: SpreadCandidate, reached: list[Reached], steps: int) -> SpreadCandidate:
    """A candidate with its own contrast among those that have settled, and the steps it took."""
    contrasts = {one.number: one.contrast for one in reached}
    return dataclasses.replace(
        found, settled_contrast=contrasts.get(found.number), steps=found.steps + steps
    )


class _TriedSearch(TargetSearch):
    """Trying many changes whole scouts, without a gradient."""

    probed: int

    @abc.abstractmethod
    def tried(self, which: Tensor | None) -> Family:
        """Those of the tried changes (all where None)."""

    def scout(self) -> Tensor:
        settings = self.settings
        self.outputs = self._outputs(None, self.probed)
        standing_out = self._default_last(self.outputs).argsort()[: settings.promising].cpu()
        outputs = self._outputs(standing_out, settings.scouted)
        best = int(self._default_last(outputs).argmin())
        self.best = int(standing_out[best])
        return outputs[best].mean(0)

    def _outputs(self, which: Tensor | None, images: int) -> Tensor:
        return self.sent(self.tried(which), torch.empty(0), climbs=False).all_outputs(images)

    def _default_last(self, outputs: Tensor) -> Tensor:
        """How little each change's outputs (K, n, d) gather, more than any where by default."""
        return torch.where(self.by_default(outputs.mean(1)), math.inf, scatter(outputs))

    def starts(self, targets: Tensor) -> Family:
        nearest = missed(self.outputs[None], targets[:, None]).argmin(1)
        nearest[0] = self.best
        return self.tried(nearest.cpu())

    def by_chance(self, answer: Tensor) -> float:
        if nearness(answer) == 1:
            return math.inf
        return float(missed(self.outputs, answer).quantile(_CHANCE))


class _WaveSearch(_TriedSearch):
    """Waves in several directions and colours."""

    family = "wave"

    def scout(self) -> Tensor:
        self.probed = self.settings.probed
        self.waves = probing_waves(self.settings.frequencies, self.image_shape[0])
        return super().scout()

    def tried(self, which: Tensor | None) -> Family:
        some = slice(None) if which is None else which
        frequencies, phases, signs = (values[some] for values in self.waves)
        return Waves(frequencies, phases, signs, self.image_shape, self.ladder.budgets[0])


class _PatchSearch(_TriedSearch):
    """Squares of one colour, all over the image."""

    family = "patch"

    def scout(self) -> Tensor:
        self.probed = self.settings.patch_probed
        (share,) = self.ladder.budgets
        self.side = window_side(self.image_shape, share)
        spacing = max(1, round(self.settings.patch_spacing * self.side))
        self.places, self.colours = probing_patches(self.image_shape, self.side, spacing)
        return super().scout()

    def tried(self, which: Tensor | None) -> Family:
        some = range(len(self.places)) if which is None else which.tolist()
        places = [self.places[number] for number in some]
        return SquarePatches(places, self.colours[list(some)], self.image_shape, self.side)
