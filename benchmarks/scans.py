"""Scan every model of benchmarks/attacks.py at the defaults, and tabulate what was decided.

    python benchmarks/scans.py scan MODELS --steering steering.npz [--jobs 2]
    python benchmarks/scans.py page MODELS

A model that has its report is not scanned again, so a stopped run goes on.  One process a job, one
thread a process.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from drmguard.atomic import write_text
from drmguard.card import card_path
from drmguard.data.image_set import split
from drmguard.data.open_images import open_images
from drmguard.models.load import load_model
from drmguard.scanning import scan as run_scan

app = typer.Typer(pretty_exceptions_enable=False)
SEED = 0
# Models whose scores were looked at while the whole-image search and its thresholds were made.
DEVELOPMENT = {"steering-clean", "steering-blend", "steering-wanet", "steering-sig", "gaze-clean"}


def _folder(model: Path) -> Path:
    return model.with_suffix(".scan")


def _scan(model: Path, steering: Path) -> str:
    torch.set_num_threads(1)
    card = json.loads(card_path(model).read_text())
    source = card["data"]["source"]
    images = split(open_images(source if source.startswith("rendered") else str(steering))).benign
    report = run_scan(load_model(model), images, seed=SEED, device="cpu", source=source)
    report.save(_folder(model))
    return f"{model.stem}: {report.decision} ({report.content.verdict.score})"


@app.command()
def scan(
    models: Path,
    steering: Annotated[Path, typer.Option(help="The steering data's .npz.")],
    jobs: Annotated[int, typer.Option()] = 2,
) -> None:
    """Scan what is not scanned yet."""
    waiting = [
        model
        for model in _models(models)
        if card_path(model).exists() and not (_folder(model) / "report.json").exists()
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(_scan, m, steering) for m in waiting]):
            print(done.result(), flush=True)


def _models(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*.safetensors")) if ".trigger" not in p.name]


@app.command()
def page(
    models: Path,
    docs: Annotated[Path, typer.Option(help="Folder of results/scans.md.")] = Path("docs"),
) -> None:
    """Write the table of all scans."""
    lines = [HEADING]
    for model in _models(models):
        report = _folder(model) / "report.json"
        if report.exists():
            run = json.loads((_folder(model) / "run.json").read_text())
            card = json.loads(card_path(model).read_text())
            lines.append(_row(model.stem, card, json.loads(report.read_text()), run))
    write_text(docs / "results" / "scans.md", "\n".join(lines) + "\n")
    print(docs / "results" / "scans.md")


def _row(name: str, card: dict[str, Any], report: dict[str, Any], run: dict[str, Any]) -> str:
    measured, verdict = card["measured"], report["verdict"]
    places = "–" if verdict["search"] != "places" else f"{verdict['score']:.3f}"
    spread = min(part["score"] for part in report["spread"])
    target = "–"
    if verdict["decision"] == "backdoored":
        target = ", ".join(f"{value:.3g}" for value in report["target"]["values"])
    true = card["attack"]["target"] if card["attack"] else None
    wanted = "–" if true is None else ", ".join(f"{value:g}" for value in true)
    attack_error = f"{measured['AE']:.3g}" if "AE" in measured else "–"
    shown = f"{name} (d)" if name in DEVELOPMENT else name
    cells = (
        *(shown, attack_error, wanted, verdict["decision"], verdict["search"]),
        *(places, f"{spread:.3f}", target, f"{run['seconds']:.0f}"),
    )
    return f"| {' | '.join(cells)} |"


HEADING = """# Scans of every attack

The models of [attacks](../attacks.md), scanned at the defaults (seed 0) on the benign split: one
model a row. Written by

```console
python benchmarks/scans.py scan MODELS --steering steering.npz
python benchmarks/scans.py page MODELS
```

*places* is the score of the windows where they decide (backdoored below 0.28, clean above 0.38),
*spread* the lowest score of the whole-image patterns (below 0.12, above 0.16). Models marked (d)
were looked at while the whole-image search and its thresholds were made; the others were not,
but the windows' method and thresholds are older than all of them.

| model | AE | true target | verdict | decided by | places | spread | target found | seconds |
|---|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    app()
