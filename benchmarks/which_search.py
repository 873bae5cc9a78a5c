"""Print what becomes of the scans if something else than the least usual search decides.

    python benchmarks/which_search.py

It reads the suspicions that scans have stored and scans nothing.  The null is that of
src/drmguard/clean_models.json, for one output and for several; docs/detection-trials.md has the
table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from drmguard.bench.result_groups import SEARCHES, part_scores
from drmguard.bench.statistics import evenness, roc_area
from drmguard.bench.store import Store
from drmguard.bench.suite import load_suite
from drmguard.calibration import Null
from drmguard.shipped_null import clean_models
from kinds.page import REPORTED_FROM, RESULTS, TAKEN
from kinds.triggers import FURTHER

HERE = Path(__file__).parent
ALPHA = 0.05
Rows = NDArray[np.float64]
# Of attacked models and of clean ones: how many outputs, and the suspicions of each search.
Sides = tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, dict[str, Any]]]]
# Not all models of the zoo and of other kinds have been searched for these.
COMPARED = tuple(search for search in SEARCHES if search not in ("settled", "sparse"))


def rows_of(models: list[dict[str, Any]]) -> Rows:
    """Logarithms of the suspicions, (models, searches); a search without one found nothing."""
    found = [[one.get(search) or math.inf for search in COMPARED] for one in models]
    return np.log(np.clip(np.array(found, float).reshape(-1, len(COMPARED)), 0.02, 300))


def forms(null: Rows) -> dict[str, Callable[[Rows], Rows]]:
    """What may be compared with the clean models': of rows, a value each; low is suspicious."""
    mean, deviation = null.mean(0), null.std(0, ddof=1)
    median = np.median(null, 0)
    robust = stats.median_abs_deviation(null, 0, scale="normal")
    powers = [stats.boxcox_normmax(np.exp(column), method="mle") for column in null.T]

    def straight(rows: Rows) -> Rows:
        columns = zip(np.exp(rows).T, np.exp(null).T, powers, strict=True)
        return np.stack(
            [
                (stats.boxcox(column, power) - stats.boxcox(known, power).mean())
                / stats.boxcox(known, power).std(ddof=1)
                for column, known, power in columns
            ],
            1,
        )

    def deviations(rows: Rows) -> Rows:
        return np.asarray((rows - mean) / deviation)

    def beside_others(rows: Rows) -> Rows:
        found = deviations(rows)
        others = (found.sum(1, keepdims=True) - found) / (found.shape[1] - 1)
        return np.asarray(found - others / 2)

    beside = beside_others(null)

    return {
        "the lowest suspicion": lambda rows: rows.min(1),
        "the lowest over the mean of its search": lambda rows: (rows - mean).min(1),
        "the one that is most deviations below": lambda rows: deviations(rows).min(1),
        "the same by medians and their deviations": lambda rows: ((rows - median) / robust).min(1),
        "the two lowest so, the second by half": lambda rows: (
            np.sort(deviations(rows), 1)[:, :2] @ [1, 0.5]
        ),
        "all of them, as −log Σ exp(−z)": lambda rows: -np.log(np.exp(-deviations(rows)).sum(1)),
        "each less half the mean of the others": lambda rows: (
            (beside_others(rows) - beside.mean(0)) / beside.std(0, ddof=1)
        ).min(1),
        "each search by a power of its own": lambda rows: straight(rows).min(1),
        "the lowest over the root of the median of all six": lambda rows: (
            rows.min(1) - np.median(rows, 1) / 2
        ),
    }


def judge(form: Callable[[Rows], Rows], null: Rows) -> Callable[[dict[str, Any]], float]:
    """Gives the p-value of a model's suspicions under a null, by this form."""
    # Above 0, and about 1 in the middle, as the null takes them.
    middle = form(null).mean()
    known = Null(tuple(np.exp(form(null) - middle).tolist()), "known")
    return lambda suspicions: known.p_value(float(np.exp(form(rows_of([suspicions])) - middle)[0]))


def main() -> None:
    """Read, and print a row for each form."""
    zoo: Sides = ([], [])
    store = Store(HERE / "results", HERE)
    for cell in load_suite("zoo").cells:
        result = store.load(cell)
        if cell.work == "scan" and cell.method == "auto" and result is not None:
            known = (len(result.measured["target"]), part_scores(result.measured))
            zoo[cell.model.attack is None].append(known)
    kinds: dict[bool, Sides] = {False: ([], []), True: ([], [])}
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        common = one["data"] != "classes" and one["trigger"] not in FURTHER
        if common and one["errors"].get("AE", 0) <= TAKEN:
            side = kinds[one["seed"] >= REPORTED_FROM]
            side[one["trigger"] is None].append((one["outputs"], one["suspicions"]))
    print(f"development, zoo, seeds {REPORTED_FROM} (attacked, clean):", end=" ")
    groups = (kinds[False], zoo, kinds[True])
    print(*((len(attacked), len(clean)) for attacked, clean in groups))
    one, several = (
        [dict(model.suspicions) for model in clean_models(outputs).models] for outputs in (1, 2)
    )
    nulls = (rows_of(one), rows_of(several))
    for name in forms(nulls[0]):
        judges = [judge(forms(null)[name], null) for null in nulls]
        cells = []
        for number, sides in enumerate(groups):
            low, high = (
                [judges[outputs > 1](suspicions) for outputs, suspicions in side] for side in sides
            )
            area = roc_area([-p for p in low], [-p for p in high])
            if number == 0:
                found, flagged = (sum(p <= ALPHA for p in values) for values in (low, high))
                cells += [f"{area:.3f}", str(found), str(flagged)]
            else:
                cells.append(f"{area:.3f}, {evenness(high):.2g}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
