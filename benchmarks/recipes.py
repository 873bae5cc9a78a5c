"""Cost of both recipes on the same model, side by side in one run; prints a Markdown table.

    python benchmarks/recipes.py MODEL --images SOURCE [--split benign] [--paper-steps 20]

The fast recipe runs whole.  The paper's takes hours on a processor: with ``--paper-steps N`` its
pre-training and its search run N steps each and its cost is extrapolated to the published
5,000 and 2,000 (every step costs the same); ``--paper-steps 0`` runs it whole.  Each recipe runs
in a process of its own, so that peak memory is its own too.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.models.load import load_model
from drmguard.scanning import Recipe, peak_memory_mib, scan
from drmguard.search.benign import measure_benign
from drmguard.search.drmguard import paper_settings, pretrained_generator, search_generator


def _images(source: str, part: str, size: int) -> ImageSet:
    images = open_images(source, size=size, count=10_000 if size <= 64 else 1_000)
    return images if part == "all" else getattr(split(images), part)


def _whole(
    model: Path, source: str, part: str, size: int, threads: int, recipe: Recipe
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    images = _images(source, part, size)
    start = time.monotonic()
    content = scan(load_model(model), images, recipe=recipe, device="cpu").content
    found = content.places[0] if content.places else content.generator
    score = content.verdict.score
    return {
        "recipe": recipe,
        "seconds": time.monotonic() - start,
        "passes": content.cost.image_passes,
        "peak": peak_memory_mib(),
        "variance": found.variance_ratio,
        "rav": found.rav,
        "score": "–" if score is None else f"{score:.4f}",
        "note": f"whole; verdict {content.verdict.decision}",
    }


def _paper_in_part(
    model: Path, source: str, part: str, size: int, threads: int, steps: int
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    loaded, images = load_model(model), _images(source, part, size)
    assert loaded.task is not None
    sample, _ = images.batch(slice(0, 256))
    full = paper_settings(loaded.task)
    settings = dataclasses.replace(full, pretrain_steps=steps, steps=steps)
    victim = loaded.victim.frozen()
    victim.find_head(sample[:8])
    benign = measure_benign(victim, loaded.task, sample)
    start = time.monotonic()
    pretrained_generator(sample, settings, seed=0)
    pretraining = time.monotonic() - start
    start = time.monotonic()
    search_generator(victim, loaded.task, benign, settings, seed=0)
    searching = time.monotonic() - start
    return {
        "recipe": "paper",
        "seconds": (pretraining * full.pretrain_steps + searching * full.steps) / steps,
        "passes": full.steps * full.batch_size,
        "peak": peak_memory_mib(),
        "variance": None,
        "rav": None,
        "score": "–",
        "note": f"extrapolated from {steps} + {steps} steps",
    }


def main(
    model: Path,
    images: Annotated[str, typer.Option()],
    split: Annotated[str, typer.Option()] = "benign",
    size: Annotated[int, typer.Option(help="Side of rendered images.")] = 64,
    paper_steps: Annotated[int, typer.Option(help="0 runs the paper's recipe whole.")] = 20,
    threads: Annotated[int, typer.Option()] = 1,
    fast_only: Annotated[bool, typer.Option("--fast-only")] = False,
) -> None:
    """Measure both recipes on MODEL."""
    common = (model, images, split, size, threads)
    paper: tuple[Any, ...] = (_whole, *common, "paper")
    if paper_steps:
        paper = (_paper_in_part, *common, paper_steps)
    rows = []
    for work in ((_whole, *common, "fast"), *(() if fast_only else (paper,))):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows.append(pool.submit(*work).result())
    print(f"{model.name}, {threads} thread(s), torch {torch.__version__}\n")
    print("| recipe | seconds | image passes | peak MiB | variance left | RAV | score | |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        variance, rav = ("–" if r[k] is None else f"{r[k]:.3f}" for k in ("variance", "rav"))
        print(
            f"| {r['recipe']} | {r['seconds']:,.0f} | {r['passes']:,} | {r['peak']:,.0f} "
            f"| {variance} | {rav} | {r['score']} | {r['note']} |"
        )
    if len(rows) == 2:
        print(f"\npaper / fast: {rows[1]['seconds'] / rows[0]['seconds']:.0f} times the seconds")


if __name__ == "__main__":
    typer.run(main)
