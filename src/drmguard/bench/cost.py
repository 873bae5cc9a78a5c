"""What cells will cost, before anything runs: from what was measured, or a rough model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from drmguard.bench.cell import Cell
from drmguard.bench.store import Result
from drmguard.models.networks import default_width
from drmguard.search.passes import LARGE_SIDE

# Quarter-width ResNet-18 at 64×64 on one core (docs/performance.md): seconds per image.
_TRAINED, _SEARCHED = 0.0018, 0.0012
# Image passes of a repair.
_REPAIRED = 51_000
# The paper's generator costs about ten times the model's own pass.
_PAPER_FACTOR = 8
_PASSES = {
    "drmguard": 3_000,
    "neural-cleanse": 32_000,
    "feature-re": 13_000,
    "mesa": 65_000,
    "points": 20_000,
    "shift": 36_000,
}


@dataclass(frozen=True)
class Cost:
    """Image passes through the model, and seconds on one core."""

    passes: int
    seconds: float
    measured: bool


class CostModel:
    """Costs by kind of cell, from results where there are any of the kind: their medians."""

    def __init__(self, results: Iterable[Result]) -> None:
        seconds: dict[tuple[object, ...], list[float]] = defaultdict(list)
        passes: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for result in results:
            if result.status == "done" and result.seconds:
                seconds[_kind(result.cell)].append(result.seconds)
                if "passes" in result.measured:  # only scans count them
                    passes[_kind(result.cell)].append(result.measured["passes"])
        self._seconds = {kind: statistics.median(values) for kind, values in seconds.items()}
        self._passes = {kind: round(statistics.median(values)) for kind, values in passes.items()}

    def of(self, cell: Cell) -> Cost:
        """What a cell will cost."""
        kind, (passes, seconds) = _kind(cell), _rough(cell)
        return Cost(
            passes=self._passes.get(kind, passes),
            seconds=self._seconds.get(kind, seconds),
            measured=kind in self._seconds,
        )


def _kind(cell: Cell) -> tuple[object, ...]:
    model = cell.model
    return (
        *(cell.work, cell.method, model.network, model.width, model.data.size),
        *(model.attack == "input-aware", model.training.get("steps")),
    )


def _rough(cell: Cell) -> tuple[int, float]:
    model = cell.model
    width = default_width(model.network) if model.width is None else model.width
    # Channels on both sides of a layer, and pixels.
    unit = max(0.05, (width / 0.25) ** 1.7) * (model.data.size / 64) ** 2
    if cell.work == "train":
        steps = int(model.training.get("steps", 1500)) + (
            0 if model.attack != "input-aware" else 500
        )
        passes = steps * int(model.training.get("batch_size", 64))
        return passes, passes * _TRAINED * unit
    repair = _REPAIRED * _TRAINED * unit
    if cell.work == "repair":
        return _REPAIRED, repair
    if cell.method == "paper":
        passes = 2000 * (100 if model.data.task == "head-pose" else 50)
        return passes, 3.5 * passes * _SEARCHED * unit * _PAPER_FACTOR
    if cell.method in _PASSES:
        passes = _PASSES[cell.method]
        return passes, passes * _SEARCHED * unit
    passes = 40_000 if model.data.size >= LARGE_SIDE else 140_000
    if cell.work == "rescan":
        return _REPAIRED + passes, repair + passes * _SEARCHED * unit
    return passes, passes * _SEARCHED * unit
