"""The embedded default: a clean and a backdoored gaze model, trained and scanned; one repaired."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from drmguard.attacks.attack import Backdoor
from drmguard.card import measure, trigger_path
from drmguard.data.image_set import split
from drmguard.data.rendered_gaze import render_gaze
from drmguard.models.load import LoadedModel, load_model
from drmguard.repairing import repair_model
from drmguard.report.report import Report
from drmguard.report.schema import RepairRecord
from drmguard.scanning import scan
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model
from drmguard.triggers.trigger_file import load_trigger
from drmguard.worker import end_with_parent

IMAGES, SIDE, STEPS = 8000, 64, 1300
POISONING_RATE, TARGET = 0.1, (0.30, -0.35)
SOURCE = "rendered:gaze"


@dataclass(frozen=True)
class Scanned:
    """One model's scan, and where its files are."""

    name: str
    report: Report
    folder: Path


@dataclass(frozen=True)
class Repaired:
    """The backdoored model's repair.

    Attributes:
        record: what ``*.repair.json`` holds.
        path: of the repaired model.
        before, after: RE, AE and DAE with the trigger that was really planted, on test images.
    """

    record: RepairRecord
    path: Path
    before: dict[str, float | str]
    after: dict[str, float | str]


def run_demo(out: Path, *, seed: int, say: Callable[[str], None]) -> Iterator[Scanned | Repaired]:
    """Train and scan both models, side by side, and repair the backdoored one."""
    say(f"rendering {IMAGES:,} faces, then training and scanning two models side by side ...")
    context = multiprocessing.get_context("spawn")
    workers = min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
        clean = pool.submit(_train_and_scan, out / "clean", seed, None)
        backdoored = pool.submit(_train_and_scan, out / "backdoored", seed, TARGET)
        yield Scanned("clean", clean.result(), out / "clean")
        yield Scanned("backdoored", backdoored.result(), out / "backdoored")
        say("\nrepairing the backdoored model with the trigger that was found ...")
        yield pool.submit(_repair, out / "backdoored", seed, torch.get_num_threads()).result()


def _train_and_scan(folder: Path, seed: int, target: tuple[float, ...] | None) -> Report:
    torch.set_num_threads(1)
    images = render_gaze(IMAGES, size=SIDE, seed=seed)
    plan = TrainingPlan(
        task="gaze",
        attack="badnets" if target else None,
        target=target,
        poisoning_rate=POISONING_RATE if target else None,
        settings=TrainingSettings(steps=STEPS, seed=seed),
    )
    path = folder / "model.safetensors"
    train_model(plan, images, path, source=SOURCE, device="cpu")
    report = scan(
        load_model(path),
        split(images).benign,
        seed=seed,
        device="cpu",
        source=f"{SOURCE} (benign split)",
    )
    report.save(folder)
    return report


def _repair(folder: Path, seed: int, threads: int) -> Repaired:
    torch.set_num_threads(threads)  # nothing else runs any more
    parts = split(render_gaze(IMAGES, size=SIDE, seed=seed))
    loaded = load_model(folder / "model.safetensors")
    done = repair_model(
        loaded,
        parts.benign,
        scan_folder=folder,
        seed=seed,
        device="cpu",
        source=f"{SOURCE} (benign split)",
    )
    path = done.save(folder / "repaired.safetensors", max_loss=math.inf)
    planted = load_trigger(trigger_path(folder / "model.safetensors"))
    assert planted.target is not None
    backdoor = Backdoor(planted.trigger, planted.target)

    def figures(model: LoadedModel) -> dict[str, float | str]:
        assert model.task is not None
        model.victim.find_head(parts.test.batch(slice(0, 2))[0])
        return measure(model.victim, model.task, parts.test, [backdoor])

    return Repaired(done.record, path, figures(loaded), figures(done.model))
