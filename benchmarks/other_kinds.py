"""Scans of models that nothing in drmguard made: other networks, other data, other triggers.

    python benchmarks/other_kinds.py run --steering steering.npz --cifar10 cifar10_jpeg.zip
    python benchmarks/other_kinds.py repair --steering steering.npz --cifar10 cifar10_jpeg.zip
    python benchmarks/other_kinds.py table      # docs/other-kinds.md

Networks, training loop and triggers are written here in plain PyTorch, apart from the product's,
and every model is scanned at the defaults.  Seeds below 200 are for development; figures that are
reported have seeds from 200 on.  One JSON a model; a stopped run goes on with the next model.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from drmguard.atomic import write_text
from drmguard.bench.engines import LocalEngine
from drmguard.bench.work import machine
from drmguard.data.image_set import split
from drmguard.repairing import repair_model
from drmguard.scanning import scan
from kinds.data import SIDES, Locations
from kinds.models import Kind, errors_of, planted, random_of, trained
from kinds.networks import NETWORKS
from kinds.page import REPAIRS, RESULTS, page
from kinds.triggers import FURTHER, TRIGGERS


def examine(kind: Kind, where: Locations) -> None:
    """Train one model, scan it at the defaults, write what came of it."""
    torch.set_num_threads(1)
    one = trained(kind, where)
    benign, errors, target = split(one.images).benign, one.errors, one.target
    report = scan(one.model, benign, one.task)
    verdict = report.content.verdict
    result: dict[str, Any] = {
        "data": kind.data,
        "network": kind.network,
        "trigger": kind.trigger,
        "seed": kind.seed,
        "longer": kind.longer,
        "outputs": report.target.numel(),
        "errors": errors,
        "decision": verdict.decision,
        "search": verdict.search,
        "suspicion": verdict.suspicion,
        "p_value": report.content.calibration and report.content.calibration.p_value,
        "standing": report.content.calibration and report.content.calibration.standing,
        "suspicions": verdict.suspicions,
        "beside": {
            part.family: part.beside for part in report.content.spread if part.beside is not None
        },
        "passes": report.content.cost.image_passes,
        "seconds": report.run.seconds,
        **_made(),
    }
    if target is not None and kind.classifies:
        result["class"], result["class_found"] = int(target), int(report.target.argmax())
    elif target is not None:
        spread = torch.from_numpy(benign.labels.std(0))
        result["target"] = target.tolist()
        result["target_error_sd"] = float(
            ((report.target - target) / spread).square().mean().sqrt()
        )
    write_text(RESULTS / f"{kind.name}.json", json.dumps(result, indent=1) + "\n")


def _made() -> dict[str, str]:
    return {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def mend(kind: Kind, where: Locations) -> None:
    """Scan, repair and scan again at the defaults; measured with the true trigger."""
    torch.set_num_threads(1)
    one, clock = trained(kind, where), time.monotonic()
    parts = split(one.images)
    repair = repair_model(one.model, parts.benign, one.task)
    seconds = time.monotonic() - clock
    hidden = planted(kind, parts.train, random_of(kind))
    clean = trained(dataclasses.replace(kind, trigger=None), where)
    result: dict[str, Any] = {
        **vars(kind),
        "before": one.errors,
        "after": errors_of(kind, repair.model.victim, parts.test, hidden),
        "clean": errors_of(kind, clean.model, parts.test, hidden),
        "clean_loss": repair.record.clean_loss,
        "verdict": repair.record.verdict.model_dump(),
        "kept": repair.record.kept,
        "seconds": round(seconds, 1),
        **_made(),
    }
    write_text(REPAIRS / f"{kind.name}.json", json.dumps(result, indent=1) + "\n")


app = typer.Typer(add_completion=False)


@app.command()
def run(
    steering: str | None = None,
    cifar10: str | None = None,
    seeds: str = "200",
    only: Annotated[list[str] | None, typer.Option(help="Texts that names must hold.")] = None,
    jobs: int = 2,
    cache: Path = Path("~/.cache/drmguard/other_kinds"),
    again: Annotated[bool, typer.Option(help="Also models that have a result.")] = False,
    every: Annotated[bool, typer.Option(help="All triggers for each network and data.")] = False,
    further: Annotated[bool, typer.Option(help="Triggers that nothing was developed on.")] = False,
    longer: Annotated[int, typer.Option(min=1, help="Train so many times as long.")] = 1,
) -> None:
    """Train and scan the models that have no result yet."""
    where = Locations(steering, cifar10, cache.expanduser())
    waiting = [
        kind
        for kind in kinds(
            where, seeds, only, FURTHER if further else TRIGGERS if every else (), longer
        )
        if again or not (RESULTS / f"{kind.name}.json").exists()
    ]
    _work_through(waiting, examine, where, RESULTS, jobs)


@app.command()
def repair(
    steering: str | None = None,
    cifar10: str | None = None,
    seeds: str = "200",
    only: Annotated[list[str] | None, typer.Option(help="Texts that names must hold.")] = None,
    jobs: int = 2,
    cache: Path = Path("~/.cache/drmguard/other_kinds"),
    every: Annotated[bool, typer.Option(help="All triggers for each network and data.")] = False,
    longer: Annotated[int, typer.Option(min=1, help="Those trained so many times as long.")] = 1,
) -> None:
    """Repair the models that a scan has called backdoored, where that is not done yet."""
    where = Locations(steering, cifar10, cache.expanduser())
    waiting = []
    for kind in kinds(where, seeds, only, TRIGGERS if every else (), longer):
        scanned = RESULTS / f"{kind.name}.json"
        if not scanned.exists() or (REPAIRS / f"{kind.name}.json").exists():
            continue
        if json.loads(scanned.read_text(encoding="utf-8"))["decision"] == "backdoored":
            waiting.append(kind)
    _work_through(waiting, mend, where, REPAIRS, jobs)


def kinds(
    where: Locations,
    seeds: str,
    only: list[str] | None,
    triggers: Collection[str],
    longer: int = 1,
) -> list[Kind]:
    """With these triggers or one for each network, the clean ones of a seed first."""
    wanted = []
    for seed in map(int, seeds.split(",")):
        for column, data in enumerate(SIDES):
            if data != "gaze" and not (where.steering if data == "steering" else where.cifar10):
                continue
            for row, network in enumerate(NETWORKS):
                if (data, network) == ("classes", "bounded"):
                    continue  # probabilities are bounded anyway
                # Every network meets another trigger on each of the data.
                one = list(TRIGGERS)[(row + column + seed) % len(TRIGGERS)]
                wanted += [
                    Kind(data, network, trigger, seed, longer)
                    for trigger in (None, *(triggers or [one]))
                ]
    named = [kind for kind in wanted if all(text in kind.name for text in only or [])]
    return sorted(named, key=lambda kind: (kind.seed, kind.trigger is not None))


def _work_through(
    waiting: Sequence[Kind],
    work: Callable[[Kind, Locations], None],
    where: Locations,
    results: Path,
    jobs: int,
) -> None:
    where.cache.mkdir(parents=True, exist_ok=True)
    results.mkdir(exist_ok=True)
    engine = LocalEngine(jobs)
    futures = {kind: engine.submit(work, kind, where) for kind in waiting}
    for kind, future in futures.items():
        future.result()
        print((results / f"{kind.name}.json").read_text().replace("\n", ""), flush=True)
    engine.close()


@app.command()
def table() -> None:
    """Write docs/other-kinds.md from the results."""
    write_text(Path(__file__).parents[1] / "docs" / "other-kinds.md", page())


if __name__ == "__main__":
    app()
