"""The second job: a model and what a scan found in, a repaired model with its record out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import drmguard
from drmguard.atomic import write_text
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.load import LoadedModel
from drmguard.models.safetensors_file import NetworkDescription, describe, save_model
from drmguard.repair.fine_tuning import Errors, Repaired, RepairSettings, fine_tune
from drmguard.scanning import choose_task, scan
from drmguard.search.loop import Progress
from drmguard.tasks import Task
from drmguard.triggers.trigger_file import load_trigger

Method = Literal["unlearning", "fine-tuning"]
METHODS: tuple[Method, ...] = ("unlearning", "fine-tuning")


@dataclass(frozen=True)
class Repair:
    """The outcome of one repair.

    Attributes:
        method: how it was done.
        model: the repaired model.
        before, after: errors on the held-out clean images, and under the reversed trigger.
        step: the training step that was kept; 0 where the model is as it was given.
        verdict_before, verdict_after: what the scans said; None where none was made.
        error_unit: unit of the errors.
    """

    method: Method
    model: LoadedModel
    before: Errors
    after: Errors
    step: int
    verdict_before: str | None
    verdict_after: str | None
    error_unit: str

    @property
    def clean_loss(self) -> float:
        """Share by which the clean error has grown; negative where it has fallen."""
        if self.before.clean == 0:
            return 0.0 if self.after.clean == 0 else float("inf")
        return self.after.clean / self.before.clean - 1

    def record(self) -> dict[str, Any]:
        """What ``repair.json`` holds."""
        return {
            "schema_version": 1,
            "drmguard_version": drmguard.__version__,
            "method": self.method,
            "model": self.model.name,
            "model_sha256": self.model.digest,
            "error_unit": self.error_unit,
            "clean_error": {"before": self.before.clean, "after": self.after.clean},
            "clean_loss": self.clean_loss,
            "error_under_reversed_trigger": {
                "before": self.before.stamped,
                "after": self.after.stamped,
            },
            "verdict": {"before": self.verdict_before, "after": self.verdict_after},
            "kept_step": self.step,
        }

    def save(self, path: str | Path, *, max_loss: float = 0.1) -> Path:
        """Write the repaired model, loadable wherever the original was, and its record.

        Raises:
            InputError: the clean error has grown by more than ``max_loss``, or a file name that
                does not end in ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise InputError(f"the repaired file must end in .safetensors, not {path.name!r}")
        if self.clean_loss > max_loss:
            raise InputError(
                f"the repair made the clean error {self.clean_loss:.0%} worse "
                f"({self.before.clean:.4g} to {self.after.clean:.4g} {self.error_unit}), more "
                "than --max-loss allows "
                f"({max_loss:.0%}), so nothing was written; give more images or a higher limit"
            )
        victim = self.model.victim
        network = NetworkDescription.model_validate(self.model.network)
        task = self.model.task.settings() if self.model.task else {}
        save_model(path, victim.module, describe(network, victim.input_format, task))
        text = json.dumps(self.record(), indent=2, ensure_ascii=False) + "\n"
        write_text(path.with_suffix(".repair.json"), text)
        return path


def repair_model(
    model: LoadedModel,
    images: ImageSet,
    task: Task | str | None = None,
    *,
    method: Method = "unlearning",
    scan_folder: Path | None = None,
    scan_again: bool = True,
    settings: RepairSettings | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    source: str | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Repair a model with the trigger that a scan found, and scan it again.

    Args:
        model: what :func:`drmguard.load_model` gave; it is not changed.
        images: clean images with correct labels.
        task: what the outputs mean; the model file's own where it is None.
        method: ``unlearning`` of the reversed trigger, or plain ``fine-tuning``.
        scan_folder: a scan's report; the model is scanned first where it is None.
        scan_again: scan the repaired model, with another seed than the first scan's.
        settings: how to train.
        seed: of the scans and, where ``settings`` is None, of the training.
        device: ``auto``, ``cpu`` or ``cuda``.
        source: name of the images in the reports.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: a model or images that cannot be scanned, or a folder without a scan.
    """
    if method not in METHODS:
        raise InputError(f"the method must be {' or '.join(METHODS)}, not {method!r}")
    common: dict[str, Any] = {"device": device, "source": source, "progress": progress}
    triggers: list[nn.Module] = []
    verdict: str | None = None
    if scan_folder is not None:
        verdict = _verdict_of(scan_folder, model)
        triggers = [load_trigger(scan_folder / "trigger.safetensors").trigger]
    elif method == "unlearning":
        report = scan(model, images, task, seed=seed, **common)
        verdict, triggers = report.decision, [report.trigger]
    chosen = choose_task(model, task, images)
    model.victim.find_head(images.batch(slice(0, 2))[0])
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    repaired: Repaired = fine_tune(
        model.victim,
        chosen,
        images,
        triggers if method == "unlearning" else (),
        settings or RepairSettings(seed=seed),
        device="cuda" if use_cuda else "cpu",
        progress=progress,
    )
    after = LoadedModel(
        victim=repaired.victim,
        name=model.name,
        digest=model.digest,
        network=model.network,
        task=model.task or chosen,
    )
    again = scan(after, images, task, seed=seed + 1, **common).decision if scan_again else None
    return Repair(
        method=method,
        model=after,
        before=repaired.before,
        after=repaired.after,
        step=repaired.step,
        verdict_before=verdict,
        verdict_after=again,
        error_unit=chosen.error_unit,
    )


def _verdict_of(folder: Path, model: LoadedModel) -> str:
    """The verdict of a scan of this very model."""
    path = folder / "report.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        decision, digest = content["verdict"]["decision"], content["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: no readable report of a scan; scan the model first") from None
    if digest != model.digest:
        raise InputError(f"{path}: the report is of another model; scan {model.name} first")
    return str(decision)
