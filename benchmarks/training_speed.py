"""Seconds of training at 64×64, and where they go; prints Markdown.

    python benchmarks/training_speed.py [--steps 200]

Steps cost the same, so 1,500 of them are extrapolated from ``--steps``; data are rendered faces.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from drmguard.data.rendered_gaze import render_gaze
from drmguard.models.networks import build_network
from drmguard.models.victim import InputFormat, Victim
from drmguard.tasks import Gaze
from drmguard.training import TrainingSettings, train


def main(
    steps: Annotated[int, typer.Option()] = 200,
    network: Annotated[str, typer.Option()] = "resnet18",
    width: Annotated[float, typer.Option()] = 0.25,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train on rendered faces and profile a few steps more."""
    torch.set_num_threads(threads)
    images = render_gaze(2_000, size=64, seed=0)
    module = build_network(network, {"num_outputs": 2, "width": width})
    victim = Victim(module, InputFormat(mean=(0.5,), std=(0.25,)))
    train(victim, images, Gaze(), TrainingSettings(steps=5))
    start = time.monotonic()
    train(victim, images, Gaze(), TrainingSettings(steps=steps))
    each = (time.monotonic() - start) / steps
    print(f"{network} × {width}, {threads} thread(s), torch {torch.__version__}")
    print(f"{1000 * each:.0f} ms a step of 64 images; 1,500 steps: {1500 * each:.0f} s\n")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        train(victim, images, Gaze(), TrainingSettings(steps=10))
    averages = profiled.key_averages()
    total = sum(row.self_cpu_time_total for row in averages)
    print("| operation | share of the time |\n|---|---|")
    for row in sorted(averages, key=lambda row: -row.self_cpu_time_total)[:8]:
        print(f"| {row.key} | {row.self_cpu_time_total / total:.0%} |")


if __name__ == "__main__":
    typer.run(main)
