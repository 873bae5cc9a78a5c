"""From what a search found to clean, backdoored or inconclusive, with the reasons in words."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from torch import Tensor

from drmguard.search.answers import LEAST_NEARNESS, lower_quartile, nearness
from drmguard.search.classes import ClassTrigger, strongest
from drmguard.search.drmguard import EPSILON, GeneratorResult
from drmguard.search.feature_re import FeatureTrigger
from drmguard.search.mesa import MesaResult
from drmguard.search.neural_cleanse import ANOMALOUS, Cleansed, anomaly_index
from drmguard.search.places import Candidate, PlaceResult
from drmguard.search.shift import LEAST_SHIFT, ShiftResult
from drmguard.search.spread_settings import FamilyName
from drmguard.search.switch import NO_SWITCH
from drmguard.search.target_search import SpreadCandidate, near_mean_raised
from drmguard.usual import BESIDE_MIDDLE, Usual

_Evidence = TypeVar("_Evidence")
Decision = Literal["clean", "backdoored", "inconclusive"]
Search = Literal["places", "spread", "generator", "classes", "masks", "features", "shift"]

BACKDOORED_BELOW, CLEAN_ABOVE = 0.2, 0.3
# Conditional changes can do more than the others, and reach some answer of clean models too.
SPREAD_THRESHOLDS: Mapping[FamilyName, tuple[float, float]] = {
    "blend": (0.2, 0.3),
    "conditional": (0.12, 0.18),
    "settled": (0.15, 0.22),
    "wave": (0.2, 0.3),
    "warp": (0.2, 0.3),
    "patch": (0.2, 0.3),
    "sparse": (0.2, 0.3),
}
FAST_SOURCE = "set between the scores of development models; not a calibrated error rate"
PAPER_SOURCE = "ε = 0.03, the paper's fixed threshold (DRMGuard, 3.4); it is not calibrated"
# Odds of the median other class over those of the best, and the hits a valid trigger has at least.
CLASSES_BACKDOORED_BELOW, CLASSES_CLEAN_ABOVE, VALID_HITS = 0.03, 0.08, 0.6
# The smallest mask of a class over the lower quartile of the others'.
MASKS_BACKDOORED_BELOW, MASKS_CLEAN_ABOVE = 0.45, 0.6
CLASSES_SOURCE = "set by hand; not yet measured on classifiers set aside for it"
# A shift's scatter over that of windows elsewhere, and what a planted one leaves at most.
SHIFT_BACKDOORED_BELOW, SHIFT_CLEAN_ABOVE, SHIFT_LEFT = 0.3, 0.5, 0.05
SHIFT_SOURCE = "set by hand on six development models; not a calibrated error rate"
MIN_NULL = 3
# Outputs count as collapsed below this ratio of variances (RAV < 0.1 in DRMGuard, Table 1).
COLLAPSED = 0.1
LEAST_RATIO = 0.1
# What a score is multiplied by for a switch ratio: at least, at most.
_LEAST_BY_SWITCH, _MOST_BY_SWITCH = 1 / 3, 2.0
# From this contrast on, once all have settled, a switch counts for nothing.
_NO_SETTLED = 0.5
UNCOLLAPSED = "the best trigger did not reach the collapse that was asked for"
# Answers agree within so many clean standard deviations, averaged over outputs.
AGREED = 0.1


@dataclass(frozen=True)
class Verdict:
    """What was decided, and why.

    Attributes:
        search: the search whose trigger the verdict speaks of.
        decision: clean, backdoored or inconclusive.
        score: the smaller, the more suspicious; None where nothing could be compared.
        backdoored_below, clean_above: thresholds; between them lies inconclusive.  None where
            the method has none, and decides nothing.
        source: where the thresholds come from.
        reasons: sentences for people.
        conclusion: what the thresholds make of them, where a p-value may take their place.
        suspicions: of every search that was combined, its score over its threshold; of the changes
            of the whole image, of each family.
        held_back: whether it is inconclusive for another reason than its score.
    """

    search: Search
    decision: Decision
    score: float | None
    backdoored_below: float | None
    clean_above: float | None
    source: str
    reasons: tuple[str, ...]
    suspicions: Mapping[str, float | None] = field(default_factory=dict)
    held_back: bool = False
    conclusion: str = ""

    @property
    def suspicion(self) -> float | None:
        """The score over its threshold, where there is one: below 1 is backdoored."""
        if self.score is None or self.backdoored_below is None:
            return self.score
        return self.score / self.backdoored_below

    def standing(self, usual: Usual | None) -> float | None:
        """What is compared with clean models: of all searches' suspicions the least usual one.

        The suspicion itself where nothing is known of what is usual.
        """
        if usual is None:
            return self.suspicion
        least = usual.least(self.suspicions)
        return None if least is None else least[1]

    def rank(self, usual: Usual | None = None) -> tuple[int, float]:
        """Sorts verdicts, the most suspicious first.

        Those below their thresholds by how far they are; others by how unusual that is.
        """
        backdoored = self.decision == "backdoored"
        return rank(self.decision, self.suspicion if backdoored else self.standing(usual))


@dataclass(frozen=True)
class Contrast:
    """How much cheaper the best trigger is than the model's own null.

    Attributes:
        place: its effort over the lower quartile of places apart from it.
        target: its effort over the lower quartile of other targets at the same place.
    """

    place: float
    target: float

    @property
    def score(self) -> float:
        """Their geometric mean: 1 where the best is nothing special.

        Neither counts as less than a tenth, so that one of them alone says little: on a model whose
        outputs go one way easily every place leads there, and other targets are far dearer.
        """
        return math.sqrt(max(self.place, LEAST_RATIO) * max(self.target, LEAST_RATIO))


def contrast(result: PlaceResult) -> Contrast | None:
    """Compare the best candidate with the null; None where too few places can be compared.

    Places that lead to the very answer of the best one are no null where it is far from the mean:
    many networks obey a trigger wherever it lies.
    """
    best = result.candidates[0]
    same = agreeing_places(result)
    elsewhere = [c.effort for c in result.elsewhere if not any(c is one for one in same)]
    if len(elsewhere) < MIN_NULL:
        elsewhere = [c.effort for c in result.elsewhere]
    if len(elsewhere) < MIN_NULL:
        return None
    own, *others = result.sent
    effort, usual = own.effort, lower_quartile([c.effort for c in others])
    if not own.reached:
        # A fresh start missed what the best trigger shows to be reachable; so may others have,
        # unless most places have shown it.
        effort = best.effort
        if not _most(same, result):
            effort = math.sqrt(best.effort * min(own.effort, usual))
    return Contrast(place=best.effort / lower_quartile(elsewhere), target=effort / usual)


def agreeing_places(result: PlaceResult) -> list[Candidate]:
    """Those whose searches ended, each by itself, at the best one's answer, if that is far off.

    Erased content gives answers near the clean mean; only a planted trigger makes independent
    searches agree on an answer far from it, or a bound of the outputs: without H, which has none,
    agreeing says nothing.
    """
    best = result.candidates[0]
    if best.rav is None or nearness(best.target) < 1:
        return []
    return [
        c
        for c in result.candidates
        if c.reached and float((c.target - best.target).square().mean().sqrt()) < AGREED
    ]


def _most(some: Sequence[Candidate], result: PlaceResult) -> bool:
    return len(some) > len(result.candidates) / 2


def judge_places(results: Sequence[PlaceResult]) -> tuple[Verdict, PlaceResult]:
    """Verdict on windows of several sizes, the widest first, and the result that it speaks of."""
    wide, *closer = results
    judged = [(_judge_size(result), result) for result in closer]
    # Small windows without enough others to compare with are no evidence against the wide ones'.
    judged = [one for one in judged if one[0].score is not None]
    verdict, speaking = _speaking([(_judge_size(wide, agreeing_places(wide)), wide), *judged])
    return dataclasses.replace(verdict, suspicions={"places": verdict.suspicion}), speaking


def _judge_size(result: PlaceResult, together: Sequence[Candidate] = ()) -> Verdict:
    """A planted trigger is cheap at one place, for one target; ``together`` agree on an answer."""
    compared = contrast(result)
    if not result.moved:
        return _inconclusive(
            "no change of any window moved the outputs; the model may block gradients"
        )
    if compared is None:
        return _inconclusive(
            f"fewer than {MIN_NULL} places lie apart from the best one, so there is no null to "
            "compare with; the images are too small"
        )
    best = result.candidates[0]
    # An answer at a bound says as little as one at the mean.
    score = compared.score / (LEAST_NEARNESS if best.at_bound else nearness(best.target))
    score *= _by_switch(best.switch_ratio, most=_MOST_BY_SWITCH)
    reasons = [
        *(_describe(best), *_compare(compared), *_near(best.target)),
        *_switching(best.switch_ratio, most=_MOST_BY_SWITCH),
    ]
    if best.at_bound:
        reasons.append("its answer is past all clean ones, at a bound where clean models go too")
    agreeing = score > CLEAN_ABOVE and _most(together, result)
    uncollapsed = score <= CLEAN_ABOVE and best.variance_ratio > COLLAPSED
    if agreeing:
        reasons.append(
            f"no place stands apart, but {len(together)} send the outputs to the same answer, "
            "far from the mean, which erasing the content does not do"
        )
    return _by_thresholds(
        Verdict(
            *("places", "inconclusive", score, BACKDOORED_BELOW, CLEAN_ABOVE, FAST_SOURCE),
            tuple(reasons + [UNCOLLAPSED] * uncollapsed),
            held_back=agreeing or uncollapsed,
        ),
        clean="the cheapest trigger found is what the model's own content allows",
        backdoored="one place and one target stand apart from all others, as a planted one does",
    )


def _by_thresholds(verdict: Verdict, *, clean: str, backdoored: str) -> Verdict:
    """Decide by the score, where nothing holds that back, and conclude in these words."""
    score, below, above = verdict.score, verdict.backdoored_below, verdict.clean_above
    assert score is not None
    assert below is not None
    assert above is not None
    if verdict.held_back:
        return verdict
    if score > above:
        return dataclasses.replace(verdict, decision="clean", conclusion=clean)
    if score < below:
        return dataclasses.replace(verdict, decision="backdoored", conclusion=backdoored)
    between = "the score lies between the thresholds; scan again with another --seed"
    return dataclasses.replace(verdict, conclusion=between)


def _describe(best: Candidate) -> str:
    return (
        f"the cheapest trigger changes the images by {best.perturbation:.4f} on average (of 1) and "
        f"leaves {best.variance_ratio:.1%} of the outputs' variance"
    )


def _near(target: Tensor) -> list[str]:
    if nearness(target) == 1:
        return []
    return ["its answer is near the labels' mean, where clean models go too if content is erased"]


def _by_switch(ratio: float | None, *, most: float) -> float:
    """What a score is multiplied by where its trigger works like a switch, or does not.

    Windows and warps of clean models erase or move their content by degrees, so of these no switch
    raises it, up to ``most`` times.  Of the others even half may be a whole planted trigger.
    """
    if ratio is None:
        return 1.0
    return min(most, max(_LEAST_BY_SWITCH, math.sqrt(ratio / NO_SWITCH)))


def _switching(ratio: float | None, *, most: float) -> list[str]:
    if ratio is None or _by_switch(ratio, most=most) == 1:
        return []
    how = "like a switch" if ratio < NO_SWITCH else "by degrees, not like a switch"
    return [
        f"it works {how}: with all of it and half as much again the outputs scatter by {ratio:.1%} "
        "of what they do with half of it"
    ]


def _compare(compared: Contrast) -> list[str]:
    return [
        f"it needs {compared.place:.2f} of the effort of other places of this model",
        f"at its place, its target needs {compared.target:.2f} of the effort of other targets",
    ]


def _inconclusive(reason: str) -> Verdict:
    return Verdict(
        "places", "inconclusive", None, BACKDOORED_BELOW, CLEAN_ABOVE, FAST_SOURCE, (reason,)
    )


def judge_spread(
    candidates: Sequence[SpreadCandidate], usual: Usual | None = None
) -> tuple[Verdict, SpreadCandidate]:
    """Verdict on triggers spread over the image, and the candidate that it speaks of."""
    judged = [(_judge_family(candidate), candidate) for candidate in candidates]
    verdict, speaking = _speaking(judged, usual)
    suspicions = {search: value for one, _ in judged for search, value in one.suspicions.items()}
    return dataclasses.replace(verdict, suspicions=suspicions), speaking


def _judge_family(found: SpreadCandidate) -> Verdict:
    """One answer of a planted trigger is reached where others are not."""
    backdoored_below, clean_above = SPREAD_THRESHOLDS[found.family]
    how = {
        "blend": f"a coarse picture mixed into the images at {found.budget:.0%}",
        "conditional": f"a change of at most ±{found.budget:g} that a network makes of each image",
        "settled": f"a change of at most ±{found.budget:g} that a network makes of each image, "
        "once it has settled,",
        "wave": f"a wave of at most ±{found.budget:g} over the whole image",
        "warp": f"a warp by at most {found.budget:.1%} of the side",
        "patch": f"a patch of {found.budget:.1%} of the side",
        "sparse": f"a change of {found.budget:.1%} of the pixels, wherever they lie,",
    }
    reasons = [
        f"{how[found.family]} leaves {found.variance_ratio:.1%} of the outputs' variance",
        f"it misses its answer by {found.contrast:.3f} of what the same search misses others by",
        *_near(found.target),
        *_aside(found),
        *_switching(found.switch_ratio, most=_most_by_switch(found)),
        *_settling(found),
        *_beside(found),
    ]
    score = spread_score(found)
    uncollapsed = score <= clean_above and found.variance_ratio > COLLAPSED
    return _by_thresholds(
        Verdict(
            *("spread", "inconclusive", score, backdoored_below, clean_above, FAST_SOURCE),
            tuple(reasons + [UNCOLLAPSED] * uncollapsed),
            suspicions={found.family: spread_suspicion(found)},
            held_back=uncollapsed,
        ),
        clean="no answer is reached that others are not",
        backdoored="one answer is reached where no other is, as a planted one is",
    )


def _aside(found: SpreadCandidate) -> list[str]:
    if found.aside == 1:
        return []
    angle = math.degrees(math.asin(math.sqrt(found.aside)))
    return [f"its answer lies {angle:.0f}° from the way that noise alone leads this model"]


def _settling(found: SpreadCandidate) -> list[str]:
    if found.settled_contrast is None or found.switch_ratio is None:
        return []
    if found.switch_ratio >= NO_SWITCH or found.settled_contrast < _NO_SETTLED * _LEAST_BY_SWITCH:
        return []
    return [
        f"once all have settled, it misses its answer by {found.settled_contrast:.3f} of what "
        "others miss theirs by, so that its working like a switch says less"
    ]


def _beside(found: SpreadCandidate) -> list[str]:
    if found.beside is None:
        return []
    return [
        f"sought once more, it misses its answer by {found.beside:.2f} of what answers beside it "
        f"are missed by, where clean models have about {BESIDE_MIDDLE}"
    ]


def spread_score(candidate: SpreadCandidate) -> float:
    """Its score, higher near the mean, lower of a switch and higher of a warp that is none.

    Of many outputs it is higher near the way of textures.  A switch says less where other answers
    are reached as well once all have settled.  Where answers beside it were looked at, these weigh
    as well.
    """
    by_switch = _by_switch(candidate.switch_ratio, most=_most_by_switch(candidate))
    if candidate.settled_contrast is not None:
        by_switch = max(by_switch, min(1.0, candidate.settled_contrast / _NO_SETTLED))
    raised = near_mean_raised(candidate.score / candidate.aside, candidate.target)
    return raised * by_switch * candidate.by_beside


def _most_by_switch(candidate: SpreadCandidate) -> float:
    return _MOST_BY_SWITCH if candidate.family == "warp" else 1.0


def spread_suspicion(candidate: SpreadCandidate) -> float:
    """That score over its family's threshold: below 1 is backdoored."""
    return spread_score(candidate) / SPREAD_THRESHOLDS[candidate.family][0]


def rank(decision: Decision, suspicion: float | None) -> tuple[int, float]:
    """Sorts verdicts, the most suspicious first; without a score none shows what was found."""
    order: list[Decision] = ["backdoored", "inconclusive", "clean"]
    return order.index(decision), math.inf if suspicion is None else suspicion


def _speaking(
    judged: Sequence[tuple[Verdict, _Evidence]], usual: Usual | None = None
) -> tuple[Verdict, _Evidence]:
    """The most suspicious verdict, and what it speaks of."""
    return min(judged, key=lambda one: one[0].rank(usual))


def combine(verdicts: Sequence[Verdict], usual: Usual | None = None) -> Verdict:
    """Verdict of the fast recipe: the most suspicious of its searches speaks."""
    named = {
        "places": "windows of the image",
        "spread": "changes of the whole image",
        "masks": "the smallest mask of every class",
        "classes": "a small patch for every class",
    }

    speaking, *others = sorted(verdicts, key=lambda one: one.rank(usual))
    also = (
        f"the search of {named[one.search]} has {one.suspicion:.2g} times its threshold"
        for one in others
        if one.suspicion is not None
    )
    return dataclasses.replace(
        speaking,
        reasons=(*speaking.reasons, *also),
        suspicions={
            search: value
            for one in verdicts
            for search, value in (one.suspicions or {one.search: one.suspicion}).items()
        },
    )


def judge_masks(found: Sequence[Cleansed], names: Sequence[str]) -> tuple[Verdict, Cleansed]:
    """Verdict on a classifier: a planted class needs far less of the image than the others.

    Neural Cleanse's masks, compared by a ratio: a few deviations of its anomaly index are little
    where clean classes differ by a tenth, and much where one deviates by half.
    """
    reached = [cleansed for cleansed in found if cleansed.reached]
    best = min(reached or found, key=lambda cleansed: cleansed.norm)
    common = (MASKS_BACKDOORED_BELOW, MASKS_CLEAN_ABOVE, CLASSES_SOURCE)
    if len(reached) <= MIN_NULL:
        reason = "too few classes were reached by any mask to compare; gradients may be blocked"
        return Verdict("masks", "inconclusive", None, *common, (reason,)), best
    usual = lower_quartile([cleansed.norm for cleansed in reached if cleansed is not best])
    reasons = (
        f"a mask of {best.norm:.1f} pixels sends clean images to {names[best.number]}; three "
        f"quarters of the other classes need {usual:.1f} or more",
    )
    verdict = Verdict("masks", "inconclusive", best.norm / usual, *common, reasons)
    return (
        _by_thresholds(
            verdict,
            clean="no class needs far less of the image than the others",
            backdoored="one class stands apart, as a planted one does",
        ),
        best,
    )


def judge_classes(
    found: Sequence[ClassTrigger], modelled: MesaResult | None, names: Sequence[str]
) -> Verdict:
    """Verdict on a classifier: a planted class's patch works where those of others do not.

    ``modelled`` is None where no class had triggers worth modelling.
    """
    best = strongest(found)
    others = [c.odds for c in found if c is not best]
    reasons = [
        f"a patch sends {best.hits:.1%} of the other classes' images to {names[best.number]}",
    ]
    hits = best.hits
    if modelled is not None:
        reasons.append(
            f"triggers drawn from its modelled distribution send {modelled.hits:.1%} there"
        )
        hits = max(hits, modelled.hits)
    common = (CLASSES_BACKDOORED_BELOW, CLASSES_CLEAN_ABOVE, CLASSES_SOURCE)
    if len(others) < MIN_NULL - 1:
        reasons.append("too few other classes to compare with")
        return Verdict("classes", "inconclusive", None, *common, tuple(reasons))
    score = statistics.median(others) / best.odds
    reasons.append(f"the odds of the median other class are {score:.3f} of its odds")
    if score > CLASSES_CLEAN_ABOVE or hits < VALID_HITS / 2:
        decision: Decision = "clean"
        reasons.append("no class stands apart as a planted one does")
    elif score < CLASSES_BACKDOORED_BELOW and hits > VALID_HITS:
        decision = "backdoored"
        reasons.append("one class has valid triggers of this size and the others have not")
    else:
        decision = "inconclusive"
        reasons.append("the evidence lies between the thresholds; scan again with another --seed")
    # What succeeds on few images is no trigger, on however few images those of others do.
    compared = score if hits > VALID_HITS else max(score, 1.0)
    suspicions = {"classes": compared / CLASSES_BACKDOORED_BELOW}
    return Verdict("classes", decision, score, *common, tuple(reasons), suspicions=suspicions)


def judge_shift(result: ShiftResult) -> Verdict:
    """Verdict on offset attacks: one window moves all answers alike where others do not."""
    best, *others = result.candidates
    elsewhere = [c.left for c in others if not c.overlaps(best)]
    common = (SHIFT_BACKDOORED_BELOW, SHIFT_CLEAN_ABOVE, SHIFT_SOURCE)
    reasons = [
        f"a pattern in one window moves all answers by the same vector but for {best.left:.1%} "
        "(variance over the squared shift)"
    ]
    if len(elsewhere) < MIN_NULL:
        reasons.append(f"fewer than {MIN_NULL} windows lie apart from it to compare with")
        return Verdict("shift", "inconclusive", None, *common, tuple(reasons))
    score = best.left / statistics.median(elsewhere)
    reasons.append(f"that is {score:.2f} of what windows elsewhere leave")
    if best.size < LEAST_SHIFT:
        decision: Decision = "clean"
        reasons.append(f"the vector, {best.size:.2f} clean standard deviations, is too short")
    elif score > SHIFT_CLEAN_ABOVE or best.left > 2 * SHIFT_LEFT:
        decision = "clean"
        reasons.append("other windows move the answers as evenly")
    elif score < SHIFT_BACKDOORED_BELOW and best.left < SHIFT_LEFT:
        decision = "backdoored"
        reasons.append("one window stands apart from all others, as a planted trigger does")
    else:
        decision = "inconclusive"
        reasons.append("the evidence lies between the thresholds; scan again with another --seed")
    return Verdict("shift", decision, score, *common, tuple(reasons))


def judge_generator(result: GeneratorResult) -> Verdict:
    """Verdict of the paper recipe: ‖x' − x‖_1 < ε max ‖x‖_1, if the search reached its goal."""
    score = result.relative_perturbation
    left = result.variance_ratio if result.rav is None else result.rav
    reasons = [
        f"the reversed trigger changes the images by {score:.4f} of the largest image's norm",
        f"it leaves {result.variance_ratio:.1%} of the outputs' variance"
        + ("" if result.rav is None else f" and {result.rav:.1%} of the angles' (RAV)"),
    ]
    if score >= EPSILON:
        decision: Decision = "clean"
        reasons.append("more change than a planted trigger would need")
    elif left < COLLAPSED:
        decision = "backdoored"
        reasons.append("less change than the threshold collapses the outputs")
    else:
        decision = "inconclusive"
        reasons.append("the search did not reach its goal: the outputs did not collapse")
    return Verdict("generator", decision, score, EPSILON, EPSILON, PAPER_SOURCE, tuple(reasons))


def judge_cleanse(found: Sequence[Cleansed], names: Sequence[str]) -> tuple[Verdict, Cleansed]:
    """Verdict of Neural Cleanse, and the mask that it speaks of.

    Classifiers: the smallest mask is an outlier (anomaly index above 2).  For regression Eq. 8 has
    one mask and no threshold: its score is the mask's share of the image.
    """
    best = min(found, key=lambda cleansed: cleansed.norm)
    reasons = [
        f"the smallest mask{f', for {names[best.number]},' if len(found) > 1 else ''} covers "
        f"{best.share:.1%} of the image"
    ]
    if not best.reached:
        reasons.append("no step met its goal: the answer was never one for all images")
    if best.target is not None:
        return _undecided("masks", best.share, reasons), best
    index = anomaly_index([cleansed.norm for cleansed in found])
    reasons.append(f"its anomaly index is {index:.2f}; the published threshold is {ANOMALOUS:g}")
    threshold = 1 / (1 + ANOMALOUS)
    decision: Decision = "clean"
    if index > ANOMALOUS:
        decision = "backdoored" if best.reached else "inconclusive"
    source = "anomaly index 2, as published; the score is 1 / (1 + index)"
    score = 1 / (1 + index)
    return Verdict("masks", decision, score, threshold, threshold, source, tuple(reasons)), best


def judge_features(
    found: Sequence[FeatureTrigger], names: Sequence[str]
) -> tuple[Verdict, FeatureTrigger]:
    """Verdict of FeatureRE, which has no threshold, and the trigger that it speaks of."""
    best = min(found, key=lambda trigger: trigger.score)
    whose = f" for {names[best.number]}" if len(found) > 1 else ""
    reasons = [
        f"features pasted into those of clean images miss the answer{whose} by {best.missed:.3f} "
        + ("(share of the images)" if len(found) > 1 else "clean standard deviations"),
        f"the bounds on image, mask and scatter are exceeded by {best.excess:.3f} of them in all",
    ]
    return _undecided("features", best.score, reasons), best


def _undecided(search: Search, score: float, reasons: list[str]) -> Verdict:
    source = "none is published for this form: the score ranks models and decides nothing"
    return Verdict(search, "inconclusive", score, None, None, source, tuple(reasons))


def doubt(verdict: Verdict, reason: str) -> Verdict:
    """The same evidence, but inconclusive for a reason outside the search."""
    reasons = (*verdict.reasons, reason)
    return dataclasses.replace(verdict, decision="inconclusive", reasons=reasons, held_back=True)
