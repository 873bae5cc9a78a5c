"""Write the null that comes along (src/drmguard/clean_models.json) from the scans of development.

    python benchmarks/clean_models.py

Its models are the clean ones of the suite ``development`` and, of benchmarks/other_kinds.py, those
of seeds below 100; scan them first.
"""

from __future__ import annotations

import json
from pathlib import Path

from other_kinds import REPORTED_FROM, RESULTS, SIDES

from drmguard.atomic import write_text
from drmguard.bench.store import Store
from drmguard.bench.suite import load_suite
from drmguard.shipped_null import CLEAN_MODELS, CleanModel, CleanModels

HERE = Path(__file__).parent


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
        if one["trigger"] is not None or one["seed"] >= REPORTED_FROM:
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


if __name__ == "__main__":
    main()
