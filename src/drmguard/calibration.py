"""From a suspicion to a p-value: how often clean models look as suspicious as this one.

The null is what the same search gives for clean models.  Suspicions are skewed: few clean models
come low, some very high.  Of a few models the logarithm is taken as normal, of many the power that
makes them most so (Box and Cox, 1964); with n of them, what a further clean model gives follows a
Student distribution with n − 1 degrees of freedom about their mean, wider by √(1 + 1/n).  Its lower
tail is the p-value, so that few references give wide ones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from drmguard.errors import InputError
from drmguard.usual import Usual
from drmguard.verdict import Decision, Verdict

MIN_REFERENCES = 3
# In words, what the searches of the default look for; the last two on classifiers alone.
SEARCHED = {
    "places": "windows",
    "blend": "blended pictures",
    "conditional": "conditional changes",
    "settled": "conditional changes that have settled",
    "wave": "waves",
    "warp": "warps",
    "patch": "small patches",
    "sparse": "sparse changes",
    "masks": "the smallest mask of every class",
    "classes": "a small patch for every class",
}
# So many models show how their suspicions are skewed.
_MANY = 15
# Clean models of one kind whose scores hardly differ still differ by this much (natural logarithm).
_LEAST_SPREAD = 0.1
_LEAST = 1e-12


@dataclass(frozen=True)
class Null:
    """What clean models give.

    Attributes:
        suspicions: of each clean model, above 0; the smaller, the more suspicious.  Where it is
            known what is usual, :meth:`~drmguard.verdict.Verdict.standing` of its least usual
            search.
        source: where they come from, in words.
        usual: what each of the searches gives for clean models.

    Raises:
        InputError: fewer than three.
    """

    suspicions: tuple[float, ...]
    source: str
    usual: Usual | None = None

    def __post_init__(self) -> None:
        if len(self.suspicions) < MIN_REFERENCES:
            raise InputError(
                f"a p-value needs at least {MIN_REFERENCES} clean reference models, but "
                f"{len(self.suspicions)} gave a score"
            )

    def p_value(self, suspicion: float) -> float:
        """Probability that a clean model looks at least as suspicious."""
        from scipy import special, stats

        power, mean, spread = self._straightened
        below = special.boxcox(max(suspicion, _LEAST), power) - mean
        return float(stats.t.cdf(below / spread, len(self.suspicions) - 1))

    @functools.cached_property
    def _straightened(self) -> tuple[float, float, float]:
        """The power that makes the suspicions most nearly normal, then their mean and spread."""
        from scipy import special, stats

        known = [max(value, _LEAST) for value in self.suspicions]
        count = len(known)
        power = float(stats.boxcox_normmax(known, method="mle")) if count >= _MANY else 0.0
        straight = special.boxcox(known, power)  # with 0 the logarithm
        least = _LEAST_SPREAD * statistics.geometric_mean(known) ** power
        spread = max(statistics.stdev(straight), least) * math.sqrt(1 + 1 / count)
        return power, float(statistics.mean(straight)), spread


@dataclass(frozen=True)
class Calibration:
    """A verdict's p-value and what it was compared with.

    Attributes:
        alpha: false-positive rate that was asked for.
        p_value: None where the search gave no score.
        null: the clean models.
        standing: what was compared with them, see :meth:`~drmguard.verdict.Verdict.standing`.
        suspicions: of every search.
    """

    alpha: float
    p_value: float | None
    null: Null
    standing: float | None = None
    suspicions: Mapping[str, float | None] = field(default_factory=dict)


def check_alpha(alpha: float) -> None:
    """Refuse a false-positive rate outside (0, 0.5).

    Raises:
        InputError: it lies outside.
    """
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha must lie above 0 and below 0.5, not {alpha}")


def p_text(p_value: float) -> str:
    """A p-value in words: the tail of some ten models says nothing of rates below a thousandth."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def decide(p_value: float, alpha: float) -> Decision:
    """Backdoored up to ``alpha``, clean from twice ``alpha``, inconclusive between."""
    if p_value <= alpha:
        return "backdoored"
    return "inconclusive" if p_value < 2 * alpha else "clean"


def calibrate(verdict: Verdict, null: Null, alpha: float) -> tuple[Verdict, Calibration]:
    """Decide by the p-value instead of by fixed thresholds.

    A search without a score stays as it is, and what is inconclusive for another reason stays that.
    """
    check_alpha(alpha)
    standing = verdict.standing(null.usual)
    if standing is None or verdict.suspicion is None:
        return verdict, Calibration(alpha, None, null)
    p_value = null.p_value(standing)
    decision = "inconclusive" if verdict.held_back else decide(p_value, alpha)
    reason = (
        f"{len(null.suspicions)} clean models {null.source} look this suspicious with "
        f"{p_text(p_value)}; alpha is {alpha:g}"
    )
    decided = dataclasses.replace(
        verdict,
        decision=decision,
        source=f"the score is compared with those of clean models {null.source}",
        reasons=(*verdict.reasons, *_least_usual(verdict, null.usual), reason),
        conclusion="",
    )
    return decided, Calibration(alpha, p_value, null, standing, verdict.suspicions)


def _least_usual(verdict: Verdict, usual: Usual | None) -> list[str]:
    least = None if usual is None else usual.least(verdict.suspicions)
    if usual is None or least is None:
        return []
    search, _ = least
    return [
        f"the search for {SEARCHED[search]} gave what is least usual: it has "
        f"{verdict.suspicions[search]:.2g} times its threshold, where clean models have about "
        f"{usual.middle(search):.2g}"
    ]
