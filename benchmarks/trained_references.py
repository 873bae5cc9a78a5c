"""How good a null --calibrate gives: the zoo's scans, judged under references trained for them.

    python benchmarks/trained_references.py run steering --steering steering.npz
    python benchmarks/trained_references.py table

For each data set of the suite ``zoo`` references are trained on the defender's images, as
``drmguard scan --calibrate`` trains them, and scanned; one JSON a data set.  What the zoo's scans
have stored then gets its p-values under these instead of the null that comes along.  The first
clean model of the data set must lie in the cache.
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from drmguard.atomic import write_text
from drmguard.bench.result_groups import SEARCHES, part_scores
from drmguard.bench.search_ablation import standings
from drmguard.bench.statistics import evenness
from drmguard.bench.store import Store, default_cache
from drmguard.bench.suite import load_suite
from drmguard.bench.work import machine
from drmguard.calibration import MIN_REFERENCES, Null
from drmguard.card import measure
from drmguard.data.image_set import split
from drmguard.data.open_images import open_images
from drmguard.models.load import load_model
from drmguard.references import train_references
from drmguard.scanning import scan
from drmguard.shipped_null import clean_models

HERE = Path(__file__).parent
RESULTS = HERE / "trained_references"
ALPHA = 0.05
app = typer.Typer(add_completion=False)


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="Data set of the zoo.")],
    steering: Annotated[Path, typer.Option(help="steering.npz")] = Path("steering.npz"),
    count: Annotated[int, typer.Option(help="References to train.")] = 6,
) -> None:
    """Train references and scan them; go on where a stopped run ended."""
    torch.set_num_threads(1)
    store = Store(HERE / "results", default_cache())
    cells = [cell for cell in load_suite("zoo").cells if cell.model.data.name == data]
    if not cells:
        raise typer.BadParameter(f"the zoo has no data set {data!r}")
    cell = cells[0]
    if not store.model_path(cell.model).exists():
        raise typer.BadParameter(
            f"{cell.model.key} is not in the cache; train it: `drmguard bench run zoo --only "
            f"{cell.name} --results EMPTY_FOLDER` (what has a result is not trained again)"
        )
    model = load_model(store.model_path(cell.model))
    assert model.task is not None
    source = cell.model.data
    images = open_images(
        source.located({"steering": str(steering)}), count=source.count, size=source.size
    )
    parts = split(images)
    path = RESULTS / f"{data}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    for number in range(len(done), count):
        start = time.monotonic()
        reference = train_references(model, parts.benign, model.task, number + 1)[-1]
        trained = time.monotonic() - start
        report = scan(reference, parts.benign, model.task)
        reference.victim.find_head(parts.test.batch(slice(0, 2))[0])
        done.append(
            {
                "RE": measure(reference.victim, model.task, parts.test, ())["RE"],
                "suspicions": dict(report.content.verdict.suspicions),
                "seconds": [round(trained, 1), report.run.seconds],
                "machine": machine(),
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        )
        write_text(path, json.dumps(done, indent=1) + "\n")


@app.command()
def table() -> None:
    """Print what becomes of the zoo's scans, under all references and under every three of them."""
    store = Store(HERE / "results", HERE)
    results = [store.load(cell) for cell in load_suite("zoo").cells if cell.method == "auto"]
    for path in sorted(RESULTS.glob("*.json")):
        references = json.loads(path.read_text("utf-8"))
        scans = [
            result
            for result in results
            if result is not None
            and result.status == "done"
            and result.cell.model.data.name == path.stem
        ]
        usual = clean_models(len(scans[0].measured["target"])).usual()
        # All are compared by what all have: some scans are older than the newest search.
        known = [one["suspicions"] for one in references]
        known += [part_scores(scan.measured) for scan in scans]
        searches = [name for name in SEARCHES if all(one.get(name) is not None for one in known)]
        least = (usual.least({s: one["suspicions"][s] for s in searches}) for one in references)
        null = [found[1] for found in least if found is not None]
        attacked, clean = standings(scans, searches, usual)
        errors = ", ".join(f"{one['RE']:.3g}" for one in references)
        print(f"{path.stem}: RE {errors}")
        print(f"  by {', '.join(searches)}")
        print(
            f"  standings {', '.join(f'{value:.2g}' for value in null)}; of the zoo's clean models "
            f"{min(clean):.2g} to {max(clean):.2g}"
        )
        for size in sorted({MIN_REFERENCES, len(null)}):
            judged = [under(some, attacked, clean) for some in itertools.combinations(null, size)]
            found, flagged, even = zip(*judged, strict=True)
            print(
                f"  under {size}: {_range(found)} of {len(attacked)} attacked found, "
                f"{_range(flagged)} of {len(clean)} clean flagged, Kolmogorov-Smirnov p "
                f"{min(even):.2g} to {max(even):.2g}"
            )


def under(
    null: Sequence[float], attacked: Sequence[float], clean: Sequence[float]
) -> tuple[int, int, float]:
    """Attacked models found and clean ones flagged by their standings; evenness of the latter."""
    p_value = Null(tuple(null), "trained").p_value
    low, high = ([p_value(value) for value in values] for values in (attacked, clean))
    return sum(p <= ALPHA for p in low), sum(p <= ALPHA for p in high), evenness(high)


def _range(counts: Sequence[int]) -> str:
    mean = sum(counts) / len(counts)
    return f"{mean:.1f} ({min(counts)} to {max(counts)})" if len(counts) > 1 else str(counts[0])


if __name__ == "__main__":
    app()
