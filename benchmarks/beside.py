"""How closely clean models' answers are reached, over answers beside them: what is usual there.

    python benchmarks/beside.py run --steering steering.npz --cifar10 cifar10.zip
    python benchmarks/beside.py table

The models are clean ones of development, which the null that comes along holds, too: those of the
suite ``development`` and, of benchmarks/other_kinds.py, of seeds below 200.  Those whose weights
lie in the cache are searched for blends and conditional changes; a scan looks beside an answer
where it is in doubt, here that is done of all.  One JSON a model; ``table`` prints what
``drmguard.usual`` takes as usual.
"""

from __future__ import annotations

import datetime
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from drmguard.atomic import write_text
from drmguard.bench.store import Store, default_cache
from drmguard.bench.suite import load_suite
from drmguard.bench.work import machine
from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.models.load import LoadedModel, as_loaded, load_model
from drmguard.scanning import ScanSettings, _Scan, choose_task
from drmguard.search.benign import measure_benign
from drmguard.search.default_answer import MANY_OUTPUTS
from drmguard.search.spread import LOOKED_BESIDE, look_beside, search_spread
from drmguard.verdict import spread_suspicion
from kinds.data import SIDES, Locations
from kinds.models import Kind, trained
from kinds.page import REPORTED_FROM

HERE = Path(__file__).parent
RESULTS = HERE / "beside"
app = typer.Typer(add_completion=False)


@app.command()
def run(
    steering: str | None = None,
    cifar10: str | None = None,
    cache: Path = Path("~/.cache/drmguard/other_kinds"),
    only: Annotated[str, typer.Option(help="Text that names must hold.")] = "",
) -> None:
    """Look beside what the models in the cache are sent to, where that is not done yet."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    where = Locations(steering, cifar10, cache.expanduser())
    for name, model, images, task in _models(where):
        path = RESULTS / f"{name}.json"
        if only in name and not path.exists():
            write_text(path, json.dumps(_looked(as_loaded(model), images, task), indent=1) + "\n")
            print(name, path.read_text().replace("\n", ""), flush=True)


def _models(
    where: Locations,
) -> Iterator[tuple[str, LoadedModel | nn.Module, ImageSet, str | None]]:
    store = Store(HERE / "results", default_cache())
    for cell in load_suite("development").cells:
        model, data, path = cell.model, cell.model.data, store.model_path(cell.model)
        if cell.work == "train" and model.attack is None and path.exists():
            source = data.located({"steering": str(where.steering)})
            images = split(open_images(source, count=data.count, size=data.size)).benign
            name = f"{data.name}-{model.network}-clean-{model.seed}"
            yield name, load_model(path), images, None
    for path in sorted(where.cache.glob("*-clean-*.pt")):
        data_name, network, _, seed = path.stem.split("-")
        if int(seed) < REPORTED_FROM and data_name in SIDES and data_name != "classes":
            one = trained(Kind(data_name, network, None, int(seed)), where)
            if one.images.labels.shape[1] < MANY_OUTPUTS:
                yield path.stem, one.model, split(one.images).benign, one.task


def _looked(model: LoadedModel, images: ImageSet, task: str | None) -> dict[str, Any]:
    chosen = choose_task(model, task, images)
    scan = _Scan(model, images, chosen, ScanSettings(device="cpu"), "images", None)
    benign = measure_benign(scan.victim, chosen, scan.sample)
    subject = (scan.victim, chosen, benign, scan.spread_settings)
    found = search_spread(*subject, seed=0, families=LOOKED_BESIDE)
    looked = [look_beside(one, *subject, seed=0) for one in found]
    return {
        "outputs": chosen.num_outputs,
        "suspicions": {one.family: spread_suspicion(one) for one in looked},
        "beside": {one.family: one.beside for one in looked},
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@app.command()
def table() -> None:
    """Print the geometric means, and the deviations of the logarithms."""
    models = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    print(f"{len(models)} clean models")
    ratios = {family: [model["beside"][family] for model in models] for family in LOOKED_BESIDE}
    ratios |= {"all": [value for values in ratios.values() for value in values]}
    for family, values in ratios.items():
        deviation = statistics.stdev(map(math.log, values))
        print(
            f"{family}: {statistics.geometric_mean(values):.2f}, deviation {deviation:.2f}, "
            f"{min(values):.2f} to {max(values):.2f}"
        )


if __name__ == "__main__":
    app()
