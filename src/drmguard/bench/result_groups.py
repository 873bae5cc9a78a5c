"""Results put together by what they are of, for tables."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drmguard.bench.cell import Cell
from drmguard.bench.store import Result
from drmguard.calibration import SEARCHED

# In the order of the tables.
ATTACKS = (
    *("clean", "badnets", "blend", "sig", "clean-label", "wanet", "input-aware"),
    *("adaptive-wanet", "multi-target-wanet", "offset", "jitter"),
)
# The searches of `auto` for regression, and for classifiers.
SEARCHES = tuple(name for name in SEARCHED if name not in ("masks", "classes"))
CLASS_SEARCHES = ("masks", "classes", "blend", "conditional", "wave", "warp", "patch")
Group = dict[tuple[Any, ...], list[Result]]


def grouped(results: Iterable[Result], key: Callable[[Cell], tuple[Any, ...]]) -> Group:
    """Results by what ``key`` says of their cells."""
    groups: Group = defaultdict(list)
    for result in results:
        groups[key(result.cell)].append(result)
    return groups


def part_scores(measured: Mapping[str, Any]) -> dict[str, float | None]:
    """The score of each of a scan's searches over its threshold."""
    return {**measured.get("suspicions", {}), **measured.get("spread", {})}


def subject_of(cell: Cell) -> tuple[str, str, int]:
    """Data, network and side of the images."""
    return cell.model.data.name, cell.model.network, cell.model.data.size


def ordered(attacks: Iterable[str]) -> list[str]:
    """Attacks in the order of the tables."""
    order = {name: number for number, name in enumerate(ATTACKS)}
    return sorted(attacks, key=lambda name: (order.get(name, len(order)), name))


def mean_of(results: Iterable[Result], name: str) -> float | None:
    """Mean of a figure over the results that have it."""
    values = [r.measured[name] for r in results if isinstance(r.measured.get(name), int | float)]
    return statistics.mean(values) if values else None


def settings_of(cell: Cell) -> str:
    """A cell's settings in words."""
    own = {k: v for k, v in cell.settings.items() if k not in ("constants", "scan_again")}
    both = {**own, **cell.settings.get("constants", {})}
    return ", ".join(f"{name} {value}" for name, value in sorted(both.items()))


def title_of(subject: tuple[str, str, int]) -> str:
    """A subject in words."""
    data, network, size = subject
    return f"{data}, {network} at {size}×{size}"


def in_digits(value: float | None, digits: int = 3) -> str:
    """A figure in significant digits; a dash where it is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}g}"
