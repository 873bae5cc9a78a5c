"""Triggers spread over the image, and small patches: one change, sent to many targets.

A blend, a sinusoid or a warp changes every pixel a little, an input-aware trigger every image in
another place, and a frame or a line some pixels everywhere, which no window can hold.  So a change
of one family (a coarse picture mixed in; what a small network makes of the image, within an L∞
budget; a wave; a smooth warp; a small patch; opaque pixels wherever they pay) is searched for each
of several targets, all in one batch:

1. *Scout.*  Some changes are sent to answers spread over those that the model gives to clean
   images, or to the classes of a classifier.  Others, where not all of these are sent to, may lead
   anywhere, and find what no answer leads past: two make all outputs gather (DRMGuard's Eq. 5),
   more of them at first make only some outputs meet.  The change that stands out most says where a
   trigger may lead: its mean answer.  What the model answers to pictures without content is passed
   over where it can be: strong changes that drown the content end there.
2. *Compare.*  Fresh starts, or the nearest of several scouts, are sent to that answer and to
   others, elsewhere but about as far away.  Any of them may be the one that a trigger gives; what
   is left of the way to those apart from it is the model's own null: how far this budget pushes
   this model to answers that nobody planted.

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
import statistics
from collections.abc import Collection

import torch
from torch import Tensor

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.answers import (
    ALIKE_SETTLED,
    missed,
    nearness,
    scatter,
    spread_answers,
)
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
# Families that are compared with answers beside theirs, which have numbers enough to go anywhere.
LOOKED_BESIDE: tuple[FamilyName, ...] = ("blend", "conditional", "settled")
# Such answers, in ways to it from the mean; they are sought so many times, from other seeds.
_BESIDE, _LOOKS, _SEED_STEP = (0.45, 0.6, 0.75, 1.25, 1.45), 2, 5000


def search_spread(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: SpreadSettings,
    *,
    seed: int,
    families: Collection[FamilyName] | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[SpreadCandidate]:
    """Search with each family in turn (or some); a candidate each, of the conditional two."""
    several = task.is_regression and len(benign.mean) > 1
    common = (victim, task, benign, settings, seed, checkpoints, progress)
    return [
        candidate
        for family in _searches()
        if (several or family not in SEVERAL_OUTPUTS) and (not families or family in families)
        for candidate in _search(family, *common).candidates()
    ]


def look_beside(
    found: SpreadCandidate,
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: SpreadSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> SpreadCandidate:
    """The same with :attr:`~drmguard.search.target_search.SpreadCandidate.beside`.

    Args:
        found: of one of the families in :data:`LOOKED_BESIDE`, by :func:`search_spread` with the
            same arguments.
    """
    family: FamilyName = "conditional" if found.family == "settled" else found.family
    search = _search(family, victim, task, benign, settings, seed, checkpoints, progress)
    assert isinstance(search, _DescentSearch)
    return search.beside(found)


def _searches() -> dict[FamilyName, type[TargetSearch]]:
    """In the order in which they run."""
    kinds: tuple[type[TargetSearch], ...] = (
        *(_BlendSearch, _ConditionalSearch, _WaveSearch, _WarpSearch, _PatchSearch),
        _SparseSearch,
    )
    return {kind.family: kind for kind in kinds}


def _search(
    family: FamilyName,
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: SpreadSettings,
    seed: int,
    checkpoints: Checkpoints | None,
    progress: Progress | None,
) -> TargetSearch:
    searches = _searches()
    ladder: Ladder = getattr(settings, family)
    own_seed = seed + 2 * list(searches).index(family)
    return searches[family](
        *(victim, task, benign, settings, ladder, own_seed, checkpoints, progress)
    )


class _DescentSearch(TargetSearch):
    """Descent scouts: to answers spread over the clean ones, and to wherever outputs gather."""

    @abc.abstractmethod
    def fresh(self, count: int, seed: int) -> Family:
        """So many changes that have not begun."""

    def scout(self) -> Tensor:
        answers, free = self.answers, []
        # Where not every answer has a scout, a trigger may lead where none was sent.
        if len(answers) > self.ladder.targets:
            answers = spread_answers(answers, self.ladder.targets - _GATHERING)
            free = [math.nan] * _GATHERING + [math.inf] * self.settings.meeting
        number, answers = len(answers), answers.repeat(self.ladder.starts, 1)
        directed = len(answers)
        anywhere = answers.new_tensor(free)[:, None].expand(-1, answers.shape[1])
        self.scouts = scouts = self.sent(
            self.fresh(directed + len(free), self.seed),
            torch.cat([answers, anywhere]),
            climbs=self.ladder.climbs,
        )
        found: list[tuple[bool, float, Tensor]] = []
        steps = self.ladder.scouting
        for _ in self.climb(scouts, "scouting", steps=steps, seed=self.seed):
            self.scouted = outputs = scouts.all_outputs(self.settings.scouted)
            others_left = missed(outputs[:directed], answers).tolist()
            means = outputs.mean(1)
            by_default, aside = self.by_default(means).tolist(), self.aside(means).tolist()
            for scout, left in enumerate(scatter(outputs).tolist()):
                others = [
                    missing
                    for other, missing in enumerate(others_left)
                    if scout >= directed or (other - scout) % number
                ]
                standing_out = left * self.contrast(left, others) / aside[scout]
                found.append((by_default[scout], standing_out, means[scout]))
        return min(found, key=lambda one: one[:2])[2]

    def starts(self, targets: Tensor) -> Family:
        if self.ladder.starts == 1:
            return self.fresh(len(targets), self.seed + 1000)
        nearest = missed(self.scouted[None], targets[:, None]).argmin(1)
        return self.scouts.family.taken(nearest)

    def beside(self, found: SpreadCandidate) -> SpreadCandidate:
        """The same with how its answer is reached once more, over answers beside it.

        Fresh starts are sent to it and to others on the same way from the mean, up to its rung, and
        settle there.  Of the outputs' scatter that is left for it, over the median of what is left
        for the others (both plus .0001), the geometric mean of two looks is taken.  A planted
        answer stands alone; on a model that goes one way easily its neighbours are reached as
        closely.
        """
        ways, ladder = found.target.new_tensor((1.0, *_BESIDE)), self.ladder
        targets = ways[:, None] * found.target
        ratios = []
        for look in range(1, _LOOKS + 1):
            name, seed = f"looking beside {found.family} {look}", self.seed + _SEED_STEP * look
            sent = self.sent(self.fresh(len(targets), seed + 1000), targets, climbs=ladder.climbs)
            for _, budget in self.climb(sent, name, steps=ladder.comparing, seed=seed + 1):
                if budget == found.budget:
                    break
            answers = sent.all_outputs(self.settings.measured).mean(1)
            outputs, _ = self.settled(sent.family, answers, f"settling, {name}", seed + 1)
            left, means = scatter(outputs), outputs.mean(1)
            # One that was led past an answer nearer to the mean has missed that.
            led_past = (means - means[0]).norm(dim=1) < (means - targets).norm(dim=1)
            left = torch.where(led_past & (ways < 1), missed(outputs, targets), left)
            own, *others = (left + ALIKE_SETTLED).tolist()
            ratios.append(own / statistics.median(others))
        ratio, steps = statistics.geometric_mean(ratios), found.steps + self.steps
        return dataclasses.replace(found, beside=ratio, steps=steps)


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
        means = outputs.mean(1)
        return torch.where(self.by_default(means), math.inf, scatter(outputs) / self.aside(means))

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

    def candidates(self) -> list[SpreadCandidate]:
        """Of every size; the one that stands out most is the candidate."""
        found = []
        for size in self.ladder.budgets:
            self.ladder = dataclasses.replace(self.ladder, budgets=(size,))
            found += super().candidates()
        best = min(found, key=lambda one: one.score)
        return [dataclasses.replace(best, steps=self.steps)]

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
