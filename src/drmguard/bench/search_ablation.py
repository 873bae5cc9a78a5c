"""What the default decides without one of its searches, or with one alone: its ablation.

Scans store what each of their searches found, so nothing is scanned again; the null is that of the
same searches of the same clean models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drmguard.bench.result_groups import SEARCHES, grouped, part_scores
from drmguard.bench.store import Result
from drmguard.calibration import SEARCHED, Null
from drmguard.search.spread_settings import SEVERAL_OUTPUTS
from drmguard.shipped_null import clean_models
from drmguard.usual import Usual

_ALPHA = 0.05
# Fewer clean models say too little of false alarms.
_FEWEST_CLEAN = 10

_TEXT = """## Without one search, and with one alone

What `auto` would decide with some of its searches: attacked models and clean ones with p up to .05,
and the ROC-AUC. The null is that of the same searches for the same clean models; verdicts that are
held back for another reason count as decided here.  Searches are left out that most of the scans
are older than.
"""


def search_ablation(scans: Sequence[Result]) -> list[str]:
    """A table's lines: a row for each choice of searches, of the data with enough clean models."""
    scans = [r for r in scans if (r.cell.method, r.cell.settings) == ("auto", {})]
    all_searches = _usually_there(scans)
    scans = [r for r in scans if all(_complete(r, search) for search in all_searches)]
    groups = {
        name: rows
        for (name,), rows in sorted(grouped(scans, lambda cell: (cell.model.data.name,)).items())
        if sum(r.cell.model.attack is None for r in rows) >= _FEWEST_CLEAN
    }
    if not groups:
        return []
    columns = " | ".join(f"{name}: found, flagged, ROC-AUC" for name in groups)
    text = [_TEXT, f"| searches | {columns} |", f"|---|{'---|' * len(groups)}"]
    choices = {"all": all_searches}
    choices |= {
        f"without {SEARCHED[search]}": tuple(one for one in all_searches if one != search)
        for search in all_searches
    }
    choices |= {f"{SEARCHED[search]} alone": (search,) for search in all_searches}
    for words, searches in choices.items():
        cells = (_decided(rows, searches) for rows in groups.values())
        text.append(f"| {words} | {' | '.join(cells)} |")
    return [*text, ""]


def _usually_there(scans: Sequence[Result]) -> tuple[str, ...]:
    """The searches that more than half of the scans have; older ones lack what came since."""
    return tuple(
        search
        for search in SEARCHES
        if 2 * sum(_complete(scan, search) for scan in scans) > len(scans)
    )


def _complete(scan: Result, search: str) -> bool:
    """Whether a scan has a search, or its model is not searched so."""
    unsearched = _outputs(scan) == 1 and search in SEVERAL_OUTPUTS
    return search in part_scores(scan.measured) or unsearched


def _outputs(scan: Result) -> int:
    return len(scan.measured.get("target", ()))


def _null_of(searches: Sequence[str], outputs: int) -> Null:
    known = clean_models(outputs)
    chosen = (
        model.model_copy(update={"suspicions": _some(model.suspicions, searches)})
        for model in known.models
    )
    return known.model_copy(update={"models": tuple(chosen)}).null()


def _some(
    suspicions: Mapping[str, float | None], searches: Sequence[str]
) -> dict[str, float | None]:
    return {search: suspicions.get(search) for search in searches}


def standings(
    scans: Sequence[Result], searches: Sequence[str], usual: Usual
) -> tuple[list[float], list[float]]:
    """Of attacked and of clean models: how unusual the least usual of these searches is."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for scan in scans:
        least = usual.least(_some(part_scores(scan.measured), searches))
        if least is not None:
            found[scan.cell.model.attack is not None].append(least[1])
    return found[True], found[False]


def _decided(rows: Sequence[Result], searches: Sequence[str]) -> str:
    from drmguard.bench.statistics import roc_area

    outputs = _outputs(rows[0])
    if outputs == 1 and all(search in SEVERAL_OUTPUTS for search in searches):
        return "–"
    null = _null_of(searches, outputs)
    assert null.usual is not None
    attacked, clean = standings(rows, searches, null.usual)
    if not attacked or not clean:
        return "–"
    found, flagged = (
        f"{sum(null.p_value(value) <= _ALPHA for value in side)} of {len(side)}"
        for side in (attacked, clean)
    )
    area = roc_area([-value for value in attacked], [-value for value in clean])
    return f"{found}, {flagged}, {area:.3f}"
