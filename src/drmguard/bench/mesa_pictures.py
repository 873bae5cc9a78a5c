"""Pictures of modelled trigger distributions beside the true trigger: samples and a projection."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from drmguard.atomic import write_atomically
from drmguard.bench.cell import Cell
from drmguard.bench.store import Store
from drmguard.card import trigger_path
from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.models.load import load_model
from drmguard.models.victim import Victim
from drmguard.report.plots import style
from drmguard.search.mesa import MesaSettings
from drmguard.triggers.distribution import TriggerDistribution
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.triggers.trigger_file import load_trigger

_SHOWN, _PROJECTED, _TRIED = 10, 150, 32


def draw_distributions(
    cells: Iterable[Cell], store: Store, locations: dict[str, str], docs: Path
) -> list[Path]:
    """Write ``docs/mesa/NAME.png`` for every scan whose distribution and model are in the cache."""
    tests: dict[str, ImageSet] = {}
    written = []
    for cell in cells:
        data = cell.model.data
        found = store.scan_folder(cell) / "trigger.safetensors"
        true = trigger_path(store.model_path(cell.model))
        absent = data.needs_path and data.name not in locations
        if cell.method != "mesa" or absent or not found.exists() or not true.exists():
            continue
        distribution, planted = load_trigger(found).trigger, load_trigger(true)
        if not isinstance(distribution, TriggerDistribution):
            continue
        if not isinstance(planted.trigger, PlacedPatchTrigger):
            continue  # only small patches are drawn beside their samples
        assert planted.target is not None
        if data.name not in tests:
            images = open_images(data.located(locations), count=data.count, size=data.size)
            tests[data.name] = split(images).test
        test, labels = tests[data.name].batch(slice(0, 4 * _TRIED))
        others = test[labels[:, 0] != planted.target][:_TRIED]
        victim = load_model(store.model_path(cell.model)).victim.frozen()
        target = int(planted.target)
        name = f"{cell.model.attack}-{cell.model.arguments.get('pattern', 0)}-{cell.model.seed}"
        path = docs / "mesa" / f"{name}.png"
        with style():
            figure = _drawn(distribution, planted.trigger.patch, victim, target, others)
            write_atomically(path, partial(figure.savefig, format="png", dpi=100))
        written.append(path)
    return written


@torch.no_grad()
def _drawn(
    distribution: TriggerDistribution, true: Tensor, victim: Victim, target: int, images: Tensor
) -> Figure:
    levels = len(distribution.weights)
    samples = [distribution.level(k).eval().sample(_PROJECTED) for k in range(levels)]
    figure = Figure(figsize=(9, 3), layout="constrained")
    halves = figure.add_gridspec(1, 2, width_ratios=(2, 1))
    left, right = (figure.add_subfigure(half) for half in (halves[0], halves[1]))
    grid = left.add_gridspec(levels, _SHOWN + 2)
    _patch(left.add_subplot(grid[:, :2]), true, "true trigger")
    for row, (beta, drawn) in enumerate(zip(MesaSettings().levels, samples, strict=True)):
        for column in range(_SHOWN):
            title = f"β = {beta:g}" if column == 0 else ""
            _patch(left.add_subplot(grid[row, column + 2]), drawn[column], title)
    patches = torch.cat(samples)
    center = patches.flatten(1).mean(0)
    _, _, directions = torch.linalg.svd(patches.flatten(1) - center, full_matrices=False)
    x, y = ((patches.flatten(1) - center) @ directions[:2].T).unbind(1)
    success = [_success(patch, victim, target, images) for patch in patches]
    axes = right.subplots()
    points = axes.scatter(x.numpy(), y.numpy(), c=success, s=6, vmin=0, vmax=1)
    own = (true.flatten() - center) @ directions[:2].T
    axes.plot(
        *own.tolist(), marker="*", markersize=9, linestyle="none", color="red", label="true trigger"
    )
    axes.legend(frameon=False, fontsize=7)
    right.colorbar(points, ax=axes, label="success")
    return figure


def _patch(axes: Axes, patch: Tensor, title: str) -> None:
    axes.imshow(patch.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
    axes.set_title(title, fontsize=8, loc="left")
    axes.axis("off")


def _success(patch: Tensor, victim: Victim, target: int, images: Tensor) -> float:
    """Share of the images that the patch sends to the target class."""
    return float((victim(PlacedPatchTrigger(patch)(images)).argmax(1) == target).float().mean())
