"""What the searches of a scan usually give for clean models, so that they can be compared.

Clean models come near the threshold of one search more often than near another's.  So a suspicion
is also looked at among those that the same search gave for clean models.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Suspicions outside say no more than their ends; those of classifiers, of which only a planted
# class comes near the thresholds of most searches, less.
_LEAST, _MOST, MOST_OF_CLASSIFIERS = 1e-3, 300.0, 30.0
# What clean models that hardly differ are taken to differ by all the same (natural logarithm).
_LEAST_DEVIATION = 0.25
# How closely an answer of a clean model is reached, over those beside it: geometric mean and
# standard deviation of the logarithm (benchmarks/beside.py).  Of these two count at most: so few
# models say no more of the tails.
BESIDE_MIDDLE, BESIDE_DEVIATION, _MOST_BESIDE = 0.65, 0.35, 2.0


@dataclass(frozen=True)
class Usual:
    """What clean models usually give.

    Attributes:
        means, deviations: mean and standard deviation of the logarithms of their suspicions, by
            search.
        least_usual: mean and standard deviation, over the models, of how many of these deviations
            their least usual search lies above the mean.
        most: suspicions above say no more than this one.
    """

    means: Mapping[str, float]
    deviations: Mapping[str, float]
    least_usual: tuple[float, float] = (0.0, 1.0)
    most: float = _MOST

    @classmethod
    def of(cls, models: Sequence[Mapping[str, float | None]], most: float = _MOST) -> Usual:
        """From the suspicions of clean models, by search; of one model too little is known."""
        logarithms: dict[str, list[float]] = {}
        for model in models:
            for search, suspicion in model.items():
                if suspicion is not None:
                    logarithms.setdefault(search, []).append(_logarithm(suspicion, most))
        logarithms = {search: values for search, values in logarithms.items() if len(values) > 1}
        usual = cls(
            {search: statistics.mean(values) for search, values in logarithms.items()},
            {
                search: max(statistics.stdev(values), _LEAST_DEVIATION)
                for search, values in logarithms.items()
            },
            most=most,
        )
        least = [found for model in models if (found := usual.least(model)) is not None]
        deviations = [math.log(relative) for _, relative in least]
        if not deviations or min(deviations) == max(deviations):
            return usual
        spread = (statistics.mean(deviations), statistics.stdev(deviations))
        return dataclasses.replace(usual, least_usual=spread)

    def deviation(self, search: str, suspicion: float) -> float:
        """How many standard deviations a suspicion lies above the usual ones."""
        return (_logarithm(suspicion, self.most) - self.means[search]) / self.deviations[search]

    def relative(self, search: str, suspicion: float) -> float:
        """A suspicion relative to the usual ones: 1 is their middle, 1/e one deviation below."""
        return math.exp(self.deviation(search, suspicion))

    def by_beside(self, search: str, suspicion: float, ratio: float) -> float:
        """What to multiply a suspicion by once its answer was compared with those beside it.

        How unusual the suspicion is among clean models' least usual ones, and how unusual the
        ratio, are independent of each other on a clean model.  So they are combined as two normal
        deviations are (Stouffer): their sum over √2 takes the place of the first.
        """
        mean, spread = self.least_usual
        own = (self.deviation(search, suspicion) - mean) / spread
        beside = (math.log(ratio) - math.log(BESIDE_MIDDLE)) / BESIDE_DEVIATION
        beside = min(max(beside, -_MOST_BESIDE), _MOST_BESIDE)
        combined = (own + beside) / math.sqrt(2)
        return math.exp(spread * (combined - own) * self.deviations[search])

    def least(self, suspicions: Mapping[str, float | None]) -> tuple[str, float] | None:
        """The search whose suspicion is least usual, and how much so; None without any.

        Searches of which nothing is known, as of references from before there were these, say none.
        """
        known = (
            (search, self.relative(search, suspicion))
            for search, suspicion in suspicions.items()
            if suspicion is not None and search in self.means
        )
        return min(known, key=lambda one: one[1], default=None)

    def middle(self, search: str) -> float:
        """The geometric mean of what clean models give."""
        return math.exp(self.means[search])


def _logarithm(suspicion: float, most: float) -> float:
    return math.log(min(max(suspicion, _LEAST), most))
