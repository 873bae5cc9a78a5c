"""Training a model and writing it with its card: what it is and how well it does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import drmguard
from drmguard import metrics
from drmguard.atomic import write_text
from drmguard.attacks.attack import Backdoor
from drmguard.data.image_set import ImageSet
from drmguard.models.safetensors_file import (
    NetworkDescription,
    describe,
    save_model,
)
from drmguard.models.victim import Victim
from drmguard.tasks import Task
from drmguard.training import TrainingSettings
from drmguard.triggers.trigger_file import save_trigger


def card_path(model_path: Path) -> Path:
    """The card beside a model file."""
    return model_path.with_suffix(".card.json")


def trigger_path(model_path: Path, number: int = 1) -> Path:
    """The file of a backdoor's trigger beside a model file."""
    ending = ".trigger.safetensors" if number == 1 else f".trigger-{number}.safetensors"
    return model_path.with_suffix(ending)


def measure(
    victim: Victim, task: Task, test_set: ImageSet, backdoors: Sequence[Backdoor] = ()
) -> dict[str, float | str]:
    """RE and, for each backdoor, AE, DAE, RAV and RNV on images that it was not trained on.

    Classification: RE and DAE are shares of wrong answers, and AE is the share of images of
    other classes that do not reach the target class.  From the second backdoor on the names end
    in its number, ``AE_2`` say.
    """
    images, labels = test_set.batch(slice(None))
    features, outputs = victim.evaluate([images])
    figures: dict[str, float | str] = {
        "error_unit": task.error_unit,
        "RE": metrics.regression_error(task, outputs, labels),
    }
    weight = victim.head.weight.detach()
    for number, backdoor in enumerate(backdoors, start=1):
        ending = "" if number == 1 else f"_{number}"
        with torch.no_grad():
            stamped = [backdoor.trigger(chunk) for chunk in torch.split(images, 128)]
        poisoned, poisoned_outputs = victim.evaluate(stamped)
        # An image of the target class says nothing about the attack.
        counted = (
            torch.ones(len(labels), dtype=torch.bool)
            if task.is_regression
            else labels[:, 0] != backdoor.target
        )
        errors = task.error(
            poisoned_outputs, backdoor.answers(outputs if backdoor.relative else labels)
        )
        figures[f"AE{ending}"] = float(errors[counted].mean())
        figures[f"DAE{ending}"] = metrics.regression_error(task, poisoned_outputs, labels)
        figures[f"RAV{ending}"] = float(metrics.rav(poisoned, features, weight))
        figures[f"RNV{ending}"] = float(metrics.rnv(poisoned, features))
    return figures


def save_with_card(
    path: Path,
    victim: Victim,
    network: NetworkDescription,
    task: Task,
    settings: TrainingSettings,
    figures: dict[str, float | str],
    *,
    data: dict[str, Any],
    attack: dict[str, Any] | None,
    backdoors: Sequence[Backdoor] = (),
) -> None:
    """Write ``path``, its triggers and its card, each complete or absent; the card comes last."""
    card = {
        "drmguard_version": drmguard.__version__,
        "model": path.name,
        "network": network.model_dump(),
        "task": task.settings(),
        "data": data,
        "training": dataclasses.asdict(settings),
        "attack": attack,
        "measured": figures,
    }
    save_model(path, victim.module, describe(network, victim.input_format, task.settings()))
    for number, backdoor in enumerate(backdoors, start=1):
        save_trigger(
            trigger_path(path, number),
            backdoor.trigger,
            target=backdoor.target,
            relative=backdoor.relative,
        )
    write_text(card_path(path), json.dumps(card, indent=2, ensure_ascii=False) + "\n")
