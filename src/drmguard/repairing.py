"""The second job: a model and what a scan found in, a repaired model with its record out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import drmguard
from drmguard.atomic import write_text
from drmguard.data.image_set import ImageSet
from drmguard.data.open_images import open_images
from drmguard.errors import InputError
from drmguard.models.load import LoadedModel, as_loaded
from drmguard.models.safetensors_file import (
    NetworkDescription,
    describe,
    save_model,
    weights_digest,
)
from drmguard.models.victim import Victim
from drmguard.repair.adversarial_pruning import AdversarialPruningSettings, adversarially_prune
from drmguard.repair.fine_pruning import FinePruningSettings, fine_prune
from drmguard.repair.fine_tuning import (
    RepairSettings,
    fine_tune,
    unlearn,
    unlearning_settings,
)
from drmguard.repair.held_out import Repaired
from drmguard.report.report import RepairPictures, Report, found_triggers
from drmguard.report.schema import BeforeAfter, RepairRecord, VerdictsPart
from drmguard.scanning import choose_task, scan
from drmguard.search.loop import Progress
from drmguard.tasks import Task

_COMPARED, _PICTURES = 256, 6
Method = Literal["unlearning", "fine-tuning", "fine-pruning", "anp"]
Settings = RepairSettings | FinePruningSettings | AdversarialPruningSettings
Shape = tuple[int, int, int]
METHODS: dict[Method, tuple[Callable[..., Repaired], Callable[..., Settings]]] = {
    "unlearning": (unlearn, unlearning_settings),
    "fine-tuning": (fine_tune, lambda *_, seed: RepairSettings(seed=seed)),
    "fine-pruning": (
        fine_prune,
        lambda *_, seed: FinePruningSettings(tuning=RepairSettings(seed=seed)),
    ),
    "anp": (adversarially_prune, lambda *_, seed: AdversarialPruningSettings(seed=seed)),
}
"""Each method's function, and its settings for a task, images of a shape and a seed."""


@dataclass(frozen=True)
class Repair:
    """The outcome of one repair.

    Attributes:
        model: the repaired model.
        record: what ``*.repair.json`` holds.
        pictures: what ``*.repair.html`` draws; None where no trigger is known.
        held_out: clean images that the figures are means over.
    """

    model: LoadedModel
    record: RepairRecord
    pictures: RepairPictures | None
    held_out: int

    def save(self, path: str | Path, *, max_loss: float = 0.1) -> Path:
        """Write the repaired model, loadable wherever the original was, its record and its page.

        Of a module from Python the file holds the weights alone, for its ``load_state_dict``.

        Raises:
            InputError: the clean error has grown by more than ``max_loss``, or a file name that
                does not end in ``.safetensors``.
        """
        from drmguard.report.repair_page import render_repair  # matplotlib is slow to import

        path, record, model = Path(path), self.record, self.model
        if path.suffix != ".safetensors":
            raise InputError(f"the repaired file must end in .safetensors, not {path.name!r}")
        if record.clean_loss is None or record.clean_loss > max_loss:
            error = record.clean_error
            share = "" if record.clean_loss is None else f"{record.clean_loss:.0%} "
            raise InputError(
                f"the repair made the clean error {share}worse ({error.before:.4g} to "
                f"{error.after:.4g} {record.error_unit}), more than --max-loss allows "
                f"({max_loss:.0%}), so nothing was written; give more images or a higher limit"
            )
        assert model.task is not None
        description = None
        if model.network:
            network = NetworkDescription.model_validate(model.network)
            description = describe(network, model.victim.input_format, model.task.settings())
        save_model(path, model.victim.module, description)
        page = render_repair(record, model.task, self.held_out, self.pictures)
        write_text(path.with_suffix(".repair.html"), page)
        write_text(path.with_suffix(".repair.json"), record.model_dump_json(indent=2) + "\n")
        return path


def repair_model(
    model: LoadedModel | Victim | nn.Module,
    images: ImageSet | str | Path,
    task: Task | str | None = None,
    *,
    method: Method = "unlearning",
    report: Report | None = None,
    scan_folder: Path | None = None,
    trigger: nn.Module | None = None,
    scan_again: bool = True,
    settings: Settings | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    source: str | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Repair a model with the triggers that a scan found, and scan it again.

    Args:
        model: what :func:`drmguard.load_model` gave, a :class:`~drmguard.models.victim.Victim`, or
            any module that takes images in [0, 1] as N×C×H×W; it is not changed.
        images: clean images with correct labels, or a source for
            :func:`~drmguard.data.open_images.open_images`.
        task: what the outputs mean; the model file's own where it is None.
        method: ``unlearning`` of the reversed triggers; or, from clean images alone,
            ``fine-tuning``, ``fine-pruning`` or ``anp``.
        report: what :func:`drmguard.scan` gave for this model.
        scan_folder: where such a report was saved; the model is scanned first without either.
        trigger: reversed trigger, images to images, in place of those of the scan.
        scan_again: scan the repaired model, with another seed than the first scan's.
        settings: the method's own; its defaults with ``seed`` where None.
        seed: of the scans and, where ``settings`` is None, of the repair.
        device: ``auto``, ``cpu`` or ``cuda``.
        source: name of the images in the reports.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: a model or images that cannot be scanned, a folder without a scan, or a report
            of another model.
    """
    if method not in METHODS:
        raise InputError(f"the method must be one of {', '.join(METHODS)}, not {method!r}")
    model = as_loaded(model)
    if not isinstance(images, ImageSet):
        source = source or str(images)
        images = open_images(str(images))
    common: dict[str, Any] = {"device": device, "source": source, "progress": progress}
    triggers: list[nn.Module] = []
    before = _Said()
    if report is not None:
        _check_same(report.content.model.sha256, model, "the report")
        before, triggers = _Said.of(report), report.triggers
    elif scan_folder is not None:
        before = _Said.in_folder(scan_folder, model)
        triggers = found_triggers(scan_folder)
    elif method == "unlearning" and trigger is None:
        report = scan(model, images, task, seed=seed, **common)
        before, triggers = _Said.of(report), report.triggers
    if trigger is not None:
        triggers = [trigger]
    chosen = choose_task(model, task, images)
    model.victim.find_head(images.batch(slice(0, 2))[0])
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    repair, default_settings = METHODS[method]
    repaired = repair(
        model.victim,
        chosen,
        images,
        triggers,
        settings or default_settings(chosen, images.image_shape, seed=seed),
        device="cuda" if use_cuda else "cpu",
        progress=progress,
    )
    after = LoadedModel(
        victim=repaired.victim,
        name=model.name,
        digest=weights_digest(dict(repaired.victim.module.state_dict())),
        network=model.network,
        task=model.task or chosen,
    )
    again = _Said()
    if scan_again:
        again = _Said.of(scan(after, images, task, seed=seed + 1, **common))
    compared = _Compared.of(model.victim, after.victim, repaired.held_out, triggers)
    clean, stamped = (
        BeforeAfter(before=getattr(repaired.before, name), after=getattr(repaired.after, name))
        for name in ("clean", "stamped")
    )
    record = RepairRecord(
        drmguard_version=drmguard.__version__,
        method=method,
        model=model.name,
        model_sha256=model.digest,
        images=source or "images given in Python",
        images_used=len(images),
        error_unit=chosen.error_unit,
        clean_error=clean,
        clean_loss=_growth(repaired.before.clean, repaired.after.clean),
        error_under_reversed_trigger=stamped,
        moved_by_reversed_trigger=compared.moved(chosen),
        verdict=VerdictsPart(
            before=before.decision,
            after=again.decision,
            p_value=BeforeAfter(before=before.p_value, after=again.p_value),
        ),
        kept=repaired.kept,
    )
    return Repair(after, record, compared.pictures(), len(repaired.held_out))


def _growth(before: float, after: float) -> float | None:
    """Share by which an error has grown; None where it was zero and is no longer."""
    if before == 0:
        return 0.0 if after == 0 else None
    return after / before - 1


@dataclass(frozen=True)
class _Compared:
    """Outputs of both models on the held-out images, clean and with the first trigger."""

    clean: Tensor
    stamped: Tensor | None
    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]

    @classmethod
    @torch.no_grad()
    def of(
        cls, before: Victim, after: Victim, images: ImageSet, triggers: Sequence[nn.Module]
    ) -> _Compared:
        clean, _ = images.batch(slice(0, _COMPARED))
        stamped = triggers[0].cpu()(clean) if triggers else None

        def outputs(victim: Victim) -> tuple[Tensor, Tensor]:
            frozen = victim.frozen()
            both = [clean, clean if stamped is None else stamped]
            first, second = (torch.cat([frozen(c) for c in part.split(64)]) for part in both)
            return first, second

        return cls(clean, stamped, outputs(before), outputs(after))

    def moved(self, task: Task) -> BeforeAfter:
        """How far the trigger moves the outputs, in the task's error unit."""
        if self.stamped is None:
            return BeforeAfter(before=None, after=None)

        def distance(clean: Tensor, stamped: Tensor) -> float:
            answers = clean if task.is_regression else clean.argmax(1, keepdim=True)
            return float(task.error(stamped, answers).mean())

        return BeforeAfter(before=distance(*self.before), after=distance(*self.after))

    def pictures(self) -> RepairPictures | None:
        if self.stamped is None:
            return None
        benign, stamped = (
            (part[:_PICTURES] * 255).round().to(torch.uint8).numpy()
            for part in (self.clean, self.stamped)
        )
        before, after = (
            (clean.numpy(), under.numpy()) for clean, under in (self.before, self.after)
        )
        return RepairPictures(benign=benign, stamped=stamped, before=before, after=after)


@dataclass(frozen=True)
class _Said:
    """What a scan decided, and the p-value that it decided by; None where it has none."""

    decision: str | None = None
    p_value: float | None = None

    @classmethod
    def of(cls, report: Report) -> _Said:
        calibration = report.content.calibration
        return cls(report.decision, None if calibration is None else calibration.p_value)

    @classmethod
    def in_folder(cls, folder: Path, model: LoadedModel) -> _Said:
        """Of a scan of this very model."""
        path = folder / "report.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            decision, digest = content["verdict"]["decision"], content["model"]["sha256"]
            p_value = (content.get("calibration") or {}).get("p_value")
            said = cls(str(decision), None if p_value is None else float(p_value))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path}: no readable report of a scan; scan the model first"
            ) from None
        _check_same(digest, model, str(path))
        return said


def _check_same(digest: str, model: LoadedModel, report: str) -> None:
    if digest != model.digest:
        raise InputError(f"{report} is of another model; scan {model.name} first")
