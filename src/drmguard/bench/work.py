"""What each kind of cell does, in a process of its own."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

import drmguard
from drmguard.attacks.attack import Backdoor
from drmguard.bench.cell import Cell, Model
from drmguard.bench.published import reported
from drmguard.bench.store import Result, Store
from drmguard.card import card_path, measure, trigger_path
from drmguard.checkpoint import StaleCheckpointError
from drmguard.data.image_set import ImageSet, Splits, split
from drmguard.data.open_images import open_images
from drmguard.errors import InputError
from drmguard.models.load import LoadedModel, load_model
from drmguard.repairing import Repair, repair_model
from drmguard.report.report import Report
from drmguard.scanning import scan
from drmguard.search.heat_map import hot_area
from drmguard.training_plan import train_model
from drmguard.triggers.distribution import TriggerDistribution
from drmguard.triggers.trigger_file import load_trigger

Outcome = Literal["done", "failed", "busy"]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a worker finds things, and what it computes on.

    Attributes:
        results, cache: of the store.
        locations: paths of data sets by name.
        device: ``cpu`` or ``cuda``.
    """

    results: str
    cache: str
    locations: dict[str, str]
    device: Literal["cpu", "cuda"] = "cpu"

    def store(self) -> Store:
        """The store that lies here."""
        return Store(Path(self.results), Path(self.cache))


def work_on(cell: Cell, place: Place) -> Outcome:
    """Do one cell, once: the result is in the store when this returns ``done`` or ``failed``.

    ``busy`` means that somebody else is at it.
    """
    torch.set_num_threads(1)
    store = place.store()
    with store.claim(cell) as held:
        if not held:
            return "busy"
        known = store.load(cell)
        if known is not None and known.status == "done" and store.holds(cell):
            return "done"
        start = time.monotonic()
        reason, measured = None, {}
        try:
            measured = WORK[cell.work](cell, place, store)
        except InputError as error:
            reason = str(error)
        except Exception:  # recorded with the cell; other cells go on
            reason = traceback.format_exc(limit=-4)
        if reason and known is not None and known.status == "done":
            # Made again for its model or scan alone; what was measured stays.
            print(f"{cell.name} could not be made again: {reason}", file=sys.stderr)
            return "failed"
        cached = bool(measured.pop("cached", False))
        store.write(
            Result(
                cell=cell,
                status="failed" if reason else "done",
                reason=reason,
                measured=measured,
                reported=reported(cell),
                seconds=None if cached else round(time.monotonic() - start, 1),
                machine=machine(place.device),
                versions={
                    "drmguard": drmguard.__version__,
                    "python": platform.python_version(),
                    "torch": str(torch.__version__),
                },
                date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
        )
        return "failed" if reason else "done"


def machine(device: str = "cpu") -> str:
    """The class of this machine and device, as results name it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, 1 of {os.cpu_count()} cores"


def _images(model: Model, place: Place) -> ImageSet:
    data = model.data
    return open_images(data.located(place.locations), count=data.count, size=data.size)


def _train(cell: Cell, place: Place, store: Store) -> dict[str, Any]:
    model, path = cell.model, store.model_path(cell.model)
    if card_path(path).exists():
        measured = json.loads(card_path(path).read_text(encoding="utf-8"))["measured"]
        return {**measured, "cached": True}
    parent = None if model.clean is None else store.model_path(model.clean)
    tuned = model.pretraining is not None
    return dict(
        _resumed(
            lambda resume: train_model(
                model.plan(),
                _images(model, place),
                path,
                source=model.data.source,
                start=parent if tuned else None,
                surrogate=None if tuned else parent,
                device=place.device,
                resume=resume,
            )
        )
    )


def _resumed(work: Callable[[bool], T]) -> T:
    """Go on with what is unfinished, or start anew where that belongs to other work.

    Poison that comes out of a gradient is not the same bit by bit under another load.
    """
    try:
        return work(True)
    except StaleCheckpointError:
        return work(False)


@dataclass(frozen=True)
class _Victim:
    """A trained model with what only the benchmark knows of it."""

    loaded: LoadedModel
    parts: Splits
    backdoors: list[Backdoor]

    @classmethod
    def of(cls, cell: Cell, place: Place, store: Store) -> _Victim:
        path = store.model_path(cell.model)
        if not path.exists():
            raise InputError(f"the model {cell.model.key} is not in the cache; run its training")
        backdoors = []
        for number in (1, 2):
            if trigger_path(path, number).exists():
                found = load_trigger(trigger_path(path, number))
                assert found.target is not None
                backdoors.append(Backdoor(found.trigger, found.target, found.relative))
        return cls(load_model(path), split(_images(cell.model, place)), backdoors)

    def defenders(self, cell: Cell) -> ImageSet:
        """The defender's clean images: a ``share`` of all data, 10 % where none is set."""
        benign = self.parts.benign
        share = float(cell.settings.get("share", 0.1))
        if not 0 < share <= 0.1:
            raise InputError(f"the defender's share must lie above 0 and up to .1, not {share}")
        return benign.subset(np.arange(max(1, round(len(benign) * share / 0.1))))

    def figures(self, model: LoadedModel) -> dict[str, float | str]:
        """RE, AE, DAE on test images, with the true triggers."""
        assert model.task is not None
        model.victim.find_head(self.parts.test.batch(slice(0, 2))[0])
        return measure(model.victim, model.task, self.parts.test, self.backdoors)

    def clean_figures(self, cell: Cell, store: Store) -> dict[str, float | str]:
        """What the clean network that was attacked gives under the true triggers, if it is here."""
        clean = cell.model.clean
        if clean is None or not store.model_path(clean).exists():
            return {}
        return self.figures(load_model(store.model_path(clean)))


def _scan(cell: Cell, place: Place, store: Store) -> dict[str, Any]:
    paper = cell.method == "paper"
    how: dict[str, Any] = {"recipe": "paper"} if paper else {"method": cell.method}
    victim = _Victim.of(cell, place, store)
    folder = store.scan_folder(cell)
    images = victim.defenders(cell)
    report = _resumed(
        lambda resume: scan(
            victim.loaded,
            images,
            **how,
            constants=cell.settings.get("constants"),
            fixed_place=bool(cell.settings.get("fixed_place", False)),
            seed=cell.seed,
            device=place.device,
            source=f"{cell.model.data.source} (defender's share)",
            resume_folder=folder / "unfinished",
            resume=resume,
        )
    )
    report.save(folder)
    content = report.content
    measured = _said(report, victim, images)
    if content.distribution is not None:
        measured["hits"] = content.distribution.hits
        measured["levels"] = [level.model_dump() for level in content.distribution.levels]
    if report.pictures.heat is not None and victim.backdoors:
        some, _ = images.batch(slice(0, 64))
        measured |= _overlap(torch.from_numpy(report.pictures.heat), victim.backdoors[0], some)
    return measured


def _said(report: Report, victim: _Victim, images: ImageSet) -> dict[str, Any]:
    """What a scan says, and how far its target is from the planted one."""
    verdict, content = report.content.verdict, report.content
    measured: dict[str, Any] = {
        "decision": verdict.decision,
        "search": verdict.search,
        "threshold": verdict.backdoored_below,
        "score": verdict.score,
        "suspicion": verdict.suspicion,
        "p_value": None if content.calibration is None else content.calibration.p_value,
        "standing": None if content.calibration is None else content.calibration.standing,
        "suspicions": verdict.suspicions,
        "spread": {part.family: part.suspicion for part in content.spread},
        "beside": {part.family: part.beside for part in content.spread if part.beside is not None},
        "target": list(content.target.values),
        "passes": content.cost.image_passes,
        "peak_memory_mib": report.run.peak_memory_mib,
        "images_used": content.images.used,
    }
    errors = [
        _target_error(report.target, backdoor.target, images)
        for backdoor in victim.backdoors
        if not backdoor.relative and victim.loaded.task and victim.loaded.task.is_regression
    ]
    if errors:
        measured["target_error_sd"] = min(errors)
    return measured


@torch.no_grad()
def _overlap(heat: torch.Tensor, backdoor: Backdoor, images: torch.Tensor) -> dict[str, Any]:
    """How a heat map (H, W) lies on the true trigger's pixels: those that it changes."""
    true = (backdoor.trigger(images) - images).abs().amax((0, 1)) > 0.02
    hot = hot_area(heat)
    return {
        "iou": float((true & hot).sum() / (true | hot).sum()),
        "peak_on_trigger": bool(true.flatten()[heat.argmax()]),
        "trigger_share": float(true.float().mean()),
    }


def _target_error(found: torch.Tensor, true: torch.Tensor, images: ImageSet) -> float:
    """Root mean squared difference of targets, in standard deviations of the labels."""
    spread = torch.from_numpy(images.labels.std(0)).clamp(min=1e-12)
    return float(((found - true) / spread).square().mean().sqrt())


def _repair(cell: Cell, place: Place, store: Store) -> dict[str, Any]:
    victim = _Victim.of(cell, place, store)
    scan_again = bool(cell.settings.get("scan_again", True))
    done = _repaired(victim, cell, place, store, scan_again=scan_again)
    figures = {
        "before": victim.figures(victim.loaded),
        "after": victim.figures(done.model),
        "clean": victim.clean_figures(cell, store),
    }
    record = done.record
    return {
        "error_unit": record.error_unit,
        **{
            f"{name}.{of}": value
            for of, measured in figures.items()
            for name, value in measured.items()
            if name != "error_unit"
        },
        "verdict.before": record.verdict.before,
        "verdict.after": record.verdict.after,
        "p_value.before": record.verdict.p_value.before,
        "p_value.after": record.verdict.p_value.after,
        "kept": record.kept,
    }


def _rescan(cell: Cell, place: Place, store: Store) -> dict[str, Any]:
    """What the default search says of a repaired model, from another seed."""
    victim = _Victim.of(cell, place, store)
    done = _repaired(victim, cell, place, store, scan_again=False)
    images = victim.defenders(cell)
    report = scan(done.model, images, seed=cell.seed + 1, device=place.device)
    return _said(report, victim, images)


def _repaired(
    victim: _Victim, cell: Cell, place: Place, store: Store, *, scan_again: bool
) -> Repair:
    """The cell's repair, of the triggers that its scan found or of the level that it asks for."""
    trigger = None
    if "level" in cell.settings:
        found = load_trigger(store.scan_folder(cell.scan()) / "trigger.safetensors").trigger
        if not isinstance(found, TriggerDistribution):
            raise InputError("the scan modelled no distribution, so it has no levels")
        trigger = found.level(int(cell.settings["level"]))
    return repair_model(
        victim.loaded,
        victim.defenders(cell),
        method=cell.method,  # type: ignore[arg-type]
        scan_folder=store.scan_folder(cell.scan()),
        trigger=trigger,
        scan_again=scan_again,
        seed=cell.seed,
        device=place.device,
    )


WORK: dict[str, Callable[[Cell, Place, Store], dict[str, Any]]] = {
    "train": _train,
    "scan": _scan,
    "repair": _repair,
    "rescan": _rescan,
}
