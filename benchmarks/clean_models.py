"""Write the null that comes along (src/drmguard/clean_models.json) from the scans of development.

    python benchmarks/clean_models.py

Its models are the clean ones of the suite ``development`` and, of benchmarks/other_kinds.py, those
of seeds below 200, but for those of many outputs (of which textures are asked, and what waves and
blends leave is not comparable) and those whose one output says little of the images (which are hard
to send anywhere, and would make others look attacked); scan them first.  Classifiers, models of one
output and of several are a null each.  Results of other scans with a p-value are then judged again
by theirs, which needs no scan: it follows from what each search measured, and so does the decision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drmguard.atomic import write_text
from drmguard.bench.result_groups import part_scores
from drmguard.bench.store import Store
from drmguard.bench.suite import load_suite
from drmguard.calibration import SEARCHED, Null, decide
from drmguard.search.default_answer import MANY_OUTPUTS
from drmguard.shipped_null import CLEAN_MODELS, CleanModel, CleanModels, clean_models
from kinds.data import SIDES
from kinds.page import REPORTED_FROM, RESULTS

HERE = Path(__file__).parent
ALPHA = 0.05  # of the scans' defaults
# An output that errs by more, in standard deviations of the labels, says little of the images.
_LITTLE = 0.5
# A number of outputs, and whether they are classes, of each null.
_NULLS = ((1, False), (2, False), (10, True))


def main() -> None:
    """Read the results, write the file."""
    store, models, dates = Store(HERE / "results", HERE), [], []
    for cell in load_suite("development").cells:
        result = store.load(cell)
        if cell.work != "scan" or cell.model.attack is not None or result is None:
            continue
        dates.append(result.date)
        models.append(
            CleanModel(
                data=cell.model.data.name,
                network=cell.model.network,
                seed=cell.model.seed,
                classifies=cell.model.data.task == "classification",
                outputs=len(result.measured["target"]),
                side=cell.model.data.size,
                suspicions=_by_search(result.measured),
            )
        )
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        classifies = one["data"] == "classes"
        if one["trigger"] is not None or one["seed"] >= REPORTED_FROM:
            continue
        if not classifies and one["outputs"] >= MANY_OUTPUTS:
            continue
        if one["outputs"] == 1 and one["errors"]["RE"] > _LITTLE:
            continue
        dates.append(one["date"])
        models.append(
            CleanModel(
                data=one["data"],
                network=one["network"],
                seed=one["seed"],
                classifies=classifies,
                outputs=one["outputs"],
                side=SIDES[one["data"]],
                suspicions=one["suspicions"],
            )
        )
    known = CleanModels(
        command="python benchmarks/clean_models.py", date=max(dates)[:10], models=tuple(models)
    )
    write_text(CLEAN_MODELS, known.model_dump_json(indent=1) + "\n")
    for outputs, classify in _NULLS:
        of_kind = clean_models(outputs, classify=classify)
        usual = of_kind.usual()
        print(f"{len(of_kind.models)} clean models like one of {outputs} outputs or classes")
        for search, deviation in usual.deviations.items():
            print(f"{search}: {usual.middle(search):.1f}, deviation {deviation:.2f}")
    for result in store.all():
        if result.cell.work not in ("scan", "rescan") or "suspicions" not in result.measured:
            continue
        null = _null(len(result.measured["target"]), result.cell.model.data.task)
        if judged_again(result.measured, _by_search(result.measured), null):
            store.write(result)
    for path in RESULTS.glob("*.json"):
        one = json.loads(path.read_text(encoding="utf-8"))
        null = _null(one["outputs"], "classification" if one["data"] == "classes" else "regression")
        if judged_again(one, one["suspicions"], null):
            write_text(path, json.dumps(one, indent=1) + "\n")


def _null(outputs: int, task: str) -> Null:
    return clean_models(outputs, classify=task == "classification").null()


def _by_search(measured: dict[str, Any]) -> dict[str, float | None]:
    """Of a scan at the defaults: of windows, masks or patches, and of each family of changes."""
    known = part_scores(measured)
    return {search: known[search] for search in SEARCHED if search in known}


def judged_again(measured: dict[str, Any], suspicions: dict[str, float | None], null: Null) -> bool:
    """Bring p-value and decision of a scan up to the null; whether that changed anything."""
    before = measured.get("p_value")
    if before is None or null.usual is None:
        return False
    least = null.usual.least(suspicions)
    if least is None:
        return False
    held_back = measured["decision"] != decide(before, ALPHA)
    _, measured["standing"] = least
    measured["p_value"] = null.p_value(measured["standing"])
    if not held_back:
        measured["decision"] = decide(measured["p_value"], ALPHA)
    return bool(measured["p_value"] != before)


if __name__ == "__main__":
    main()
