"""Write the null that comes along (src/drmguard/clean_models.json) from the scans of development.

    python benchmarks/clean_models.py

Its models are the clean ones of the suite ``development`` and, of benchmarks/other_kinds.py, those
of seeds below 200; scan them first.  Results of scans made since the first of these are then judged
again by that null, which needs no scan: their p-value and decision follow from the suspicion that
was measured.  Older ones, which may have scored otherwise, keep what they said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from other_kinds import REPORTED_FROM, RESULTS, SIDES

from drmguard.atomic import write_text
from drmguard.bench.store import Store
from drmguard.bench.suite import load_suite
from drmguard.calibration import Null, decide
from drmguard.shipped_null import CLEAN_MODELS, CleanModel, CleanModels

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
                outputs=len(result.measured["target"]),
                side=cell.model.data.size,
                suspicion=min(
                    [
                        *result.measured["spread"].values(),
                        *filter(None, [result.measured["suspicions"]["places"]]),
                    ]
                ),
            )
        )
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        development = one["seed"] < REPORTED_FROM and one["data"] != "classes"
        if one["trigger"] is not None or not development:
            continue
        dates.append(one["date"])
        models.append(
            CleanModel(
                data=one["data"],
                network=one["network"],
                seed=one["seed"],
                outputs=one["outputs"],
                side=SIDES[one["data"]],
                suspicion=min(value for value in one["suspicions"].values() if value is not None),
            )
        )
    known = CleanModels(
        command="python benchmarks/clean_models.py", date=max(dates)[:10], models=tuple(models)
    )
    write_text(CLEAN_MODELS, known.model_dump_json(indent=1) + "\n")
    print(f"{len(models)} clean models, suspicions {min(m.suspicion for m in models):.2f} and more")
    null = Null(tuple(model.suspicion for model in models), "these")
    for result in store.all():
        if result.cell.work != "scan" or result.date < min(dates):
            continue
        if judged_again(result.measured, null):
            store.write(result)
    for path in RESULTS.glob("*.json"):
        one = json.loads(path.read_text(encoding="utf-8"))
        if one["date"] >= min(dates) and judged_again(one, null):
            write_text(path, json.dumps(one, indent=1) + "\n")


def judged_again(measured: dict[str, Any], null: Null) -> bool:
    """Bring p-value and decision of a scan up to the null; whether that changed anything."""
    before = measured.get("p_value")
    if before is None:
        return False
    held_back = measured["decision"] != decide(before, ALPHA)
    measured["p_value"] = null.p_value(measured["suspicion"])
    if not held_back:
        measured["decision"] = decide(measured["p_value"], ALPHA)
    return bool(measured["p_value"] != before)


if __name__ == "__main__":
    main()
