"""Write the null that comes along (src/drmguard/clean_models.json) from the scans of development.

    python benchmarks/clean_models.py

Its models are the clean ones of the suite ``development`` and, of benchmarks/other_kinds.py, those
of seeds below 200, but for those of many outputs (of which textures are asked, and what waves and
blends leave is not comparable); scan them first.  Classifiers are a null of their own.  Results of
other scans with a p-value are then judged again by theirs, which needs no scan: it follows from
what each search measured, and so does the decision.
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
    nulls = {}
    for classify in (False, True):
        of_kind = clean_models(classify=classify)
        nulls[classify], usual = of_kind.null(), of_kind.usual()
        print(f"{len(of_kind.models)} clean {'classifiers' if classify else 'regression models'}")
        for search, deviation in usual.deviations.items():
            print(f"{search}: {usual.middle(search):.1f}, deviation {deviation:.2f}")
    for result in store.all():
        if result.cell.work != "scan":
            continue
        null = nulls[result.cell.model.data.task == "classification"]
        if judged_again(result.measured, _by_search(result.measured), null):
            store.write(result)
    for path in RESULTS.glob("*.json"):
        one = json.loads(path.read_text(encoding="utf-8"))
        if judged_again(one, one["suspicions"], nulls[one["data"] == "classes"]):
            write_text(path, json.dumps(one, indent=1) + "\n")


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
