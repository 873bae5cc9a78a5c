"""The embedded default: one clean and one backdoored gaze model, trained and scanned."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from drmguard.data.image_set import split
from drmguard.data.rendered_gaze import render_gaze
from drmguard.models.load import load_model
from drmguard.report.report import Report
from drmguard.scanning import scan
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model

IMAGES, SIDE, STEPS = 8000, 64, 1300
POISONING_RATE, TARGET = 0.1, (0.30, -0.35)
SOURCE = "rendered:gaze"


def run_demo(
    out: Path, *, seed: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Report, Path]]:
    """Train and scan both models, side by side; yields name, report and its folder."""
    say(f"rendering {IMAGES:,} faces, then training and scanning two models side by side ...")
    context = multiprocessing.get_context("spawn")
    workers = min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
        clean = pool.submit(_train_and_scan, out / "clean", seed, None)
        backdoored = pool.submit(_train_and_scan, out / "backdoored", seed, TARGET)
        yield "clean", clean.result(), out / "clean"
        yield "backdoored", backdoored.result(), out / "backdoored"


def end_with_parent(parent: int) -> None:
    """Let this worker end soon after its parent has been killed, instead of working on alone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
