"""How the cost of a scan grows; writes one JSON a point, docs/growth.md and docs/growth.svg.

    python benchmarks/growth.py              # measures what has no result yet, then draws
    python benchmarks/growth.py --draw       # draws what is there

Every scan runs at its defaults in a process of its own, with one thread, so that its peak memory is
its own.  Weights and images are random: all stages but DRMGuard's generator, which may stop early,
take a fixed number of steps, so the cost is that of a real model and the verdict means nothing.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from scipy import stats

from drmguard.atomic import write_text
from drmguard.bench.engines import LocalEngine
from drmguard.data.image_set import ImageSet
from drmguard.methods import MethodName
from drmguard.models.networks import build_network
from drmguard.models.victim import InputFormat, Victim
from drmguard.report.plots import style, svg_of
from drmguard.scanning import peak_memory_mib, scan
from drmguard.tasks import Regression

USUAL: dict[str, Any] = {"side": 64, "width": 0.25, "images": 256, "outputs": 2}
CURVES: dict[str, tuple[str, list[Any]]] = {
    "side": ("image side (pixels)", [32, 64, 96, 128, 160, 224]),
    "width": ("parameters (millions)", [0.0625, 0.25, 0.5, 1.0]),
    "images": ("clean images searched", [50, 256, 1000, 5000]),
    "outputs": ("outputs d", [1, 2, 16, 136]),
    "models": ("models", [(1, 1), (1, 4), (1, 16), (1, 100), (2, 4), (2, 16), (2, 100)]),
}
# Of a scan of the smallest kind, to vet many in minutes.
SMALL = {"side": 32, "width": 0.0625, "images": 64, "outputs": 2, "method": "drmguard"}


def scan_once(
    side: int, width: float, images: int, outputs: int, method: MethodName = "auto"
) -> dict[str, Any]:
    """One scan of a random network on random images."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    module = build_network("resnet18", {"num_outputs": outputs, "width": width})
    labels = random.normal(size=(images, outputs)).astype(np.float32)
    # Smooth pictures, as the searches expect: noise at an eighth of the resolution.
    coarse = torch.from_numpy(random.random((images, 3, side // 8, side // 8), np.float32))
    pixels = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    data = ImageSet(pixels.mul(255).byte().numpy(), labels)
    victim = Victim(module, InputFormat(mean=(0.5,), std=(0.25,)))
    before, start = peak_memory_mib(), time.monotonic()
    content = scan(
        victim,
        data,
        Regression(tuple(f"y{n}" for n in range(outputs))),
        method=method,
        max_images=images,
        device="cpu",
    ).content
    return {
        "seconds": round(time.monotonic() - start, 2),
        "passes": content.cost.image_passes,
        "peak_mib": round(peak_memory_mib()),
        "idle_mib": round(before),
        "parameters": sum(p.numel() for p in module.parameters()),
    }


def scan_many(processes: int, models: int) -> dict[str, Any]:
    """Seconds for so many small scans on so many processes, their start included."""
    start = time.monotonic()
    engine = LocalEngine(processes)
    try:
        scans = [engine.submit(scan_once, *SMALL.values()) for _ in range(models)]
        own = [scan.result()["seconds"] for scan in scans]
    finally:
        engine.close()
    return {"seconds": round(time.monotonic() - start, 2), "own_seconds": round(sum(own), 2)}


def name_of(curve: str, value: Any) -> str:
    """A point's name; the usual scan is one point of every curve."""
    return "usual" if USUAL[curve] == value else f"{curve}-{value}"


def points() -> list[tuple[str, Callable[..., dict[str, Any]], dict[str, Any]]]:
    """(name, function, arguments) of every measurement."""
    found: list[tuple[str, Callable[..., dict[str, Any]], dict[str, Any]]] = []
    for curve, (_, values) in CURVES.items():
        for value in values:
            if curve == "models":
                processes, models = value
                name = f"models-{models}-on-{processes}"
                found.append((name, scan_many, {"processes": processes, "models": models}))
            else:
                found.append((name_of(curve, value), scan_once, {**USUAL, curve: value}))
    return found


def measure(folder: Path, only: str) -> None:
    """Measure what has no result yet."""
    for name, function, arguments in points():
        path = folder / f"{name}.json"
        if path.exists() or only not in name:
            continue
        print(name, end=" ", flush=True)
        if function is scan_once:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, context) as alone:
                measured = alone.submit(function, **arguments).result()
        else:
            measured = function(**arguments)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        about = {"date": datetime.date.today().isoformat(), "machine": machine}
        write_text(path, json.dumps({**arguments, **measured, **about}, indent=1) + "\n")
        print(measured, flush=True)


Points = Sequence[dict[str, Any]]


def exponent(rows: Points, x: str, y: str) -> str:
    """Slope of log y over log x, with its standard error."""
    if len(rows) < 3:
        return "–"
    line = stats.linregress(*(np.log([row[name] for row in rows]) for name in (x, y)))
    return f"{line.slope:.2f} ± {line.stderr:.2f}"


def draw(folder: Path, docs: Path) -> None:
    """docs/growth.md and docs/growth.svg, from the results alone."""
    rows = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for row in rows.values():
        if "parameters" in row:
            row["millions"] = row["parameters"] / 1e6
    axis = {"side": "side", "width": "millions", "images": "images", "outputs": "outputs"}
    curves = {
        curve: [rows[name_of(curve, v)] for v in values if name_of(curve, v) in rows]
        for curve, (_, values) in CURVES.items()
        if curve != "models"
    }
    text = [_INTRODUCTION]
    for curve, x in axis.items():
        some = curves[curve]
        if not some:
            continue
        text += [
            f"## {CURVES[curve][0]}\n",
            f"| {CURVES[curve][0]} | seconds | passes | ms a pass | peak MiB |",
            "|---|---|---|---|---|",
        ]
        for row in some:
            each = 1000 * row["seconds"] / row["passes"]
            place = f"{row[x]:,}" if isinstance(row[x], int) else f"{row[x]:.3g}"
            text.append(
                f"| {place} | {row['seconds']:.0f} | {row['passes']:,} | {each:.2f} "
                f"| {row['peak_mib']:,} |"
            )
        text.append(
            f"\nExponents: seconds {exponent(some, x, 'seconds')}, "
            f"peak memory {exponent(some, x, 'peak_mib')}.\n"
        )
        if curve == "side":
            below = [row for row in some if row["side"] < 128]
            above = [row for row in some if row["side"] >= 128]
            text.append(
                f"Apart, since from 128 on a scan takes fewer passes: seconds "
                f"{exponent(below, x, 'seconds')} below, {exponent(above, x, 'seconds')} from "
                "128 on.\n"
            )
    many = [row for name, row in rows.items() if name.startswith("models-")]
    if many:
        many.sort(key=lambda row: (row["processes"], row["models"]))
        text += [
            "## models\n",
            f"Short scans ({SMALL['side']}×{SMALL['side']}, width {SMALL['width']}, method "
            f"{SMALL['method']}), each process one thread; the start of the processes included.\n",
            "| processes | models | seconds | seconds a model | share spent scanning |",
            "|---|---|---|---|---|",
        ]
        for row in many:
            used = row["own_seconds"] / (row["seconds"] * row["processes"])
            text.append(
                f"| {row['processes']} | {row['models']} | {row['seconds']:.0f} "
                f"| {row['seconds'] / row['models']:.1f} | {used:.0%} |"
            )
        for processes in (1, 2):
            own = [row for row in many if row["processes"] == processes]
            text.append(f"\nExponent on {processes}: seconds {exponent(own, 'models', 'seconds')}.")
        text.append("")
    text += _fleet(rows)
    dates = sorted({f"{row['date']}, {row['machine']}" for row in rows.values()})
    text += ["## Machine\n", *(f"- {date}" for date in dates), ""]
    write_text(docs / "growth.md", "\n".join(text).rstrip() + "\n")
    write_text(docs / "growth.svg", _plot(curves, axis))


def _fleet(rows: dict[str, Any]) -> list[str]:
    """What 10,000 models would cost: core-hours, and hours on a cluster of 32 × 16 cores."""
    kinds = {"usual": "64×64, 0.7 million parameters", "side-224": "224×224, the same network"}
    kinds["width-1.0"] = "64×64, 11 million parameters"
    text = [
        "## Vetting 10,000 models, on paper\n",
        "Models are independent, a core each, and the shared part (a result's file, a lock) takes "
        "milliseconds, so hours fall with the cores. Memory sets how many fit on a node. Nothing "
        "of this has been run.\n",
        "| models of | core-hours | hours on 32 nodes of 16 cores | memory a node |",
        "|---|---|---|---|",
    ]
    for name, kind in kinds.items():
        if name in rows:
            hours = 10_000 * rows[name]["seconds"] / 3600
            memory = 16 * rows[name]["peak_mib"] / 1024
            text.append(f"| {kind} | {hours:,.0f} | {hours / 512:.1f} | {memory:.0f} GiB |")
    return [*text, ""]


def _plot(curves: dict[str, Points], axis: dict[str, str]) -> str:
    with style():
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        for number, (curve, x) in enumerate(axis.items()):
            some = curves[curve]
            if not some:
                continue
            axes = figure.add_subplot(2, 2, number + 1)
            axes.spines[["top", "right"]].set_visible(False)
            for y, color, name in (("seconds", "#c0392b", "s"), ("peak_mib", "#3566a8", "MiB")):
                axes.plot([r[x] for r in some], [r[y] for r in some], "o-", color=color, label=name)
            axes.set(xscale="log", yscale="log", xlabel=CURVES[curve][0])
            axes.legend(frameon=False, fontsize=7)
        return svg_of(figure)


_INTRODUCTION = """# How the cost of a scan grows

One thread, a ResNet-18 of quarter width (0.7 million parameters) at 64×64 with 256 images and two
outputs unless the table says otherwise; random weights (every stage takes a fixed number of steps;
DRMGuard's generator may stop early). One run a point, other work on the machine's other core, which
moves single points by a third. Points from 128 on were taken with 24 steps of the search for warps,
which now takes 20.
Written by `python benchmarks/growth.py`.

![seconds and peak memory](growth.svg)
"""


def main(
    only: Annotated[str, typer.Option(help="Points with this text in their name.")] = "",
    draw_only: Annotated[bool, typer.Option("--draw", help="Measure nothing.")] = False,
    folder: Annotated[Path, typer.Option()] = Path("benchmarks/growth"),
    docs: Annotated[Path, typer.Option()] = Path("docs"),
) -> None:
    """Measure what has no result yet, then draw."""
    if not draw_only:
        measure(folder, only)
    draw(folder, docs)


if __name__ == "__main__":
    typer.run(main)
