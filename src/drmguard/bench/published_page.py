"""Each published table with our figures beside the published ones, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy import stats

from drmguard.bench.published import Row, Table, published_tables
from drmguard.bench.statistics import accuracy, scans_auc
from drmguard.bench.store import Result

_OURS = ("gaze", "head-pose", "steering")


def published_sections(results: Sequence[Result]) -> list[str]:
    """A section for each published table.

    A cell of ours is a mean with half of its 95 % interval (Student's t) and the number of models;
    an accuracy has its Wilson interval, an area its bootstrap interval, and *backdoored + clean*
    models.
    """
    text: list[str] = []
    for table in published_tables():
        there = {r.cell.model.data.name for r in results}
        columns = [name for name in table.data if name in _OURS or name in there]
        text += [
            f"### Table {table.number}: {table.title}\n",
            f"What differs: {table.differs}.\n",
            f"| row | figure | published | {' | '.join(columns)} |",
            f"|{'---|' * (3 + len(columns))}",
        ]
        for row in table.rows:
            for method in row.method or (None,):
                label = row.name if method is None else f"{row.name}, {method}"
                for figure in table.figures:
                    cells = [_ours(table, row, method, figure, name, results) for name in columns]
                    known = row.published.get(figure)
                    text.append(
                        f"| {label} | {figure} | {_printed(figure, known)} | {' | '.join(cells)} |"
                    )
        text.append("")
    return text


def _printed(figure: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0%}" if figure == "accuracy" else f"{value:.3g}"


def _ours(
    table: Table,
    row: Row,
    method: str | None,
    figure: str,
    data: str,
    results: Sequence[Result],
) -> str:
    """Our figure for one row, method and data set; a dash where nothing was measured."""

    def chosen(result: Result) -> bool:
        return result.cell.model.data.name == data and result.cell.method == method

    rows = [r for r in results if chosen(r) and table.concerns(row, r.cell)]
    if not rows:
        return "–"
    if table.work != "scan":
        return _mean([r.measured.get(figure) for r in rows])
    clean = [
        r for r in results if chosen(r) and not r.cell.model.attack and table.compares(row, r.cell)
    ]
    sizes = f"{len(rows)} + {len(clean)}"
    if figure == "accuracy":
        found = accuracy([*rows, *clean])
        return f"{found.value:.0%} ({found.low:.0%}–{found.high:.0%}; {sizes})"
    area = scans_auc(rows, clean)
    if area is None:
        return f"– ({sizes})"
    return f"{area.value:.3f} ({area.low:.2f}–{area.high:.2f}; {sizes})"


def _mean(values: Sequence[object]) -> str:
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if not numbers:
        return "–"
    mean = statistics.mean(numbers)
    if len(numbers) == 1:
        return f"{mean:.3g} (1)"
    half = stats.t.ppf(0.975, len(numbers) - 1) * statistics.stdev(numbers) / len(numbers) ** 0.5
    return f"{mean:.3g} ± {half:.2g} ({len(numbers)})"
