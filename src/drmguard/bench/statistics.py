"""Shares and areas with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from drmguard.bench.store import Result


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def share(successes: int, of: int) -> Interval:
    """A share with its Wilson interval."""
    interval = stats.binomtest(successes, of).proportion_ci(method="wilson")
    return Interval(successes / of, float(interval.low), float(interval.high))


def roc_area(positive: ArrayLike, negative: ArrayLike) -> float:
    """Chance that a positive scores above a negative; half where they are level."""
    p, n = np.asarray(positive, float)[:, None], np.asarray(negative, float)[None]
    return float((p > n).mean() + 0.5 * (p == n).mean())


def roc_auc(positive: Sequence[float], negative: Sequence[float], *, seed: int = 0) -> Interval:
    """:func:`roc_area` with its bootstrap interval.

    The interval is that of the percentiles of 2,000 resamplings of each side; where both sides
    are perfectly apart it has no width, which says nothing of models that were not measured.
    """
    p, n = np.asarray(positive, float), np.asarray(negative, float)
    random = np.random.default_rng(seed)
    drawn = [roc_area(random.choice(p, len(p)), random.choice(n, len(n))) for _ in range(2000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(roc_area(positive, negative), float(low), float(high))


def evenness(p_values: Sequence[float]) -> float:
    """p-value of a Kolmogorov–Smirnov test that these spread evenly from 0 to 1."""
    return float(stats.kstest(p_values, "uniform").pvalue)


def accuracy(scans: Sequence[Result]) -> Interval:
    """Share of right verdicts."""
    return share(sum(scan.right for scan in scans), len(scans))


def ranking(measured: Mapping[str, Any]) -> float | None:
    """By what a scan ranks models: its p-value, or else the score."""
    found: float | None = measured.get("p_value")
    return measured["suspicion"] if found is None else found


def scans_auc(attacked: Sequence[Result], clean: Sequence[Result]) -> Interval | None:
    """Area under the scores' ROC curve; None where one side has no score."""
    return measured_auc([r.measured for r in attacked], [r.measured for r in clean])


def measured_auc(
    attacked: Sequence[Mapping[str, Any]], clean: Sequence[Mapping[str, Any]]
) -> Interval | None:
    """The same of what scans measured."""
    positive, negative = (
        [-value for value in map(ranking, side) if value is not None] for side in (attacked, clean)
    )
    return roc_auc(positive, negative) if positive and negative else None


def roc_curve(
    positive: Sequence[float], negative: Sequence[float]
) -> tuple[list[float], list[float]]:
    """False and true positive rates as the threshold falls."""
    levels = sorted({*positive, *negative}, reverse=True)
    false = [0.0, *(sum(v >= t for v in negative) / len(negative) for t in levels)]
    true = [0.0, *(sum(v >= t for v in positive) / len(positive) for t in levels)]
    return false, true
