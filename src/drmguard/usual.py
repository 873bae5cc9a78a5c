"""What the searches of a scan usually give for clean models, so that they can be compared.

Clean models come near the threshold of one search more often than near another's.  So a suspicion
is also looked at among those that the same search gave for clean models.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Suspicions outside say no more than their ends.
_LEAST, _MOST = 1e-3, 300.0


@dataclass(frozen=True)
class Usual:
    """Mean and standard deviation of the logarithms of clean models' suspicions, by search."""

    means: Mapping[str, float]
    deviations: Mapping[str, float]

    @classmethod
    def of(cls, models: Sequence[Mapping[str, float | None]]) -> Usual:
        """From the suspicions of clean models, by search; what fewer than two have is left out."""
        logarithms: dict[str, list[float]] = {}
        for model in models:
            for search, suspicion in model.items():
                if suspicion is not None:
                    logarithms.setdefault(search, []).append(_logarithm(suspicion))
        logarithms = {search: values for search, values in logarithms.items() if len(values) > 1}
        return cls(
            {search: statistics.mean(values) for search, values in logarithms.items()},
            {search: statistics.stdev(values) for search, values in logarithms.items()},
        )

    def deviation(self, search: str, suspicion: float) -> float:
        """How many standard deviations a suspicion lies above the usual ones."""
        return (_logarithm(suspicion) - self.means[search]) / self.deviations[search]

    def relative(self, search: str, suspicion: float) -> float:
        """A suspicion relative to the usual ones: 1 is their middle, 1/e one deviation below."""
        return math.exp(self.deviation(search, suspicion))

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


def _logarithm(suspicion: float) -> float:
    return math.log(min(max(suspicion, _LEAST), _MOST))
