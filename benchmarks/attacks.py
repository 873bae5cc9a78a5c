"""Train every attack on every task, and write docs/attacks.md from what was measured.

    python benchmarks/attacks.py train MODELS --steering steering.npz [--jobs 2] [--only gaze/wanet]
    python benchmarks/attacks.py page MODELS --steering steering.npz

A model that has its card is not trained again, so a stopped run goes on.  One process a job, one
thread a process.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from drmguard.card import card_path
from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.models.load import load_model
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model
from drmguard.triggers.trigger_file import load_trigger

SEED = 20
app = typer.Typer(pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Attacks: train them, write their page."""


@dataclass(frozen=True)
class Setting:
    """One task with its data and the attacker's targets."""

    task: str
    source: str
    target: tuple[float, ...]
    second_target: tuple[float, ...]
    shift: tuple[float, ...]


SETTINGS = {
    "gaze": Setting("gaze", "rendered:gaze", (0.3, -0.35), (-0.25, 0.3), (0.2, -0.25)),
    "head-pose": Setting(
        "head-pose", "rendered:head-pose", (30, -20, 10), (-35, 15, -10), (20, -15, 10)
    ),
    "steering": Setting("regression", "", (0.7,), (-0.5,), (0.4,)),
}


@dataclass(frozen=True)
class Attacked:
    """One attack with the settings that differ from its own defaults."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    published: str = "–"
    """Table 10 (AE / RE in degrees, MPIIFaceGaze) or 14 and 15, and Table 1 (RAV / RNV)."""


ATTACKS = (
    Attacked("clean", published="– / 2.35"),
    Attacked("badnets", published="3.25 / 2.61, .0433 / 1.4499"),
    Attacked("wanet", published="1.31 / 2.32, .0311 / .8528"),
    Attacked("clean-label", published=".72 / 1.82, .0328 / .0428"),
    Attacked("input-aware", published="3.19 / 2.33, .0489 / 2.5714"),
    Attacked("blend", published="2.94 / –"),
    Attacked("sig", published="1.83 / –"),
    Attacked("adaptive-wanet", published="5.71 / –"),
    Attacked("multi-target-wanet"),
    Attacked("offset"),
    Attacked("jitter"),
)


def _images(setting: Setting, steering: Path) -> ImageSet:
    return open_images(setting.source or str(steering))


def _train(cell: str, models: Path, steering: Path) -> str:
    torch.set_num_threads(1)
    task_name, attack_name = cell.split("/")
    setting = SETTINGS[task_name]
    attacked = next(a for a in ATTACKS if a.name == attack_name)
    arguments = dict(attacked.arguments)
    if attack_name == "multi-target-wanet":
        arguments["second_target"] = setting.second_target
    target = setting.shift if attack_name == "offset" else setting.target
    clean = attack_name == "clean"
    plan = TrainingPlan(
        task=setting.task,
        attack=None if clean else attack_name,
        target=None if clean else target,
        attack_arguments={} if clean else arguments,
        settings=TrainingSettings(steps=1500, seed=SEED),
    )
    start = time.monotonic()
    figures = train_model(
        plan,
        _images(setting, steering),
        models / f"{task_name}-{attack_name}.safetensors",
        source=setting.source or "steering.npz",
        device="cpu",
        resume=True,
    )
    shown = " ".join(f"{k}={v:.4g}" for k, v in figures.items() if isinstance(v, float))
    return f"{cell}: {shown} ({time.monotonic() - start:.0f} s)"


@app.command()
def train(
    models: Path,
    steering: Annotated[Path, typer.Option(help="The steering data's .npz.")],
    jobs: Annotated[int, typer.Option()] = 2,
    only: Annotated[list[str] | None, typer.Option(help="TASK/ATTACK; repeat.")] = None,
) -> None:
    """Train what is not trained yet."""
    cells = [f"{task}/{a.name}" for a in ATTACKS for task in SETTINGS]
    wanted = [
        cell
        for cell in only or cells
        if not card_path(models / f"{cell.replace('/', '-')}.safetensors").exists()
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(_train, c, models, steering) for c in wanted]):
            print(done.result(), flush=True)


if __name__ == "__main__":
    app()
