"""Training a model and writing it with its card: what it is and how well it does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

import drmguard
from drmguard import metrics
from drmguard.atomic import write_text
from drmguard.attacks.attack import FixedPoisoning
from drmguard.data.image_set import ImageSet
from drmguard.models.safetensors_file import (
    NetworkDescription,
    describe,
    save_model,
)
from drmguard.models.victim import Victim
from drmguard.tasks import Task
from drmguard.training import TrainingSettings


def card_path(model_path: Path) -> Path:
    """The card beside a model file."""
    return model_path.with_suffix(".card.json")


def measure(
    victim: Victim, task: Task, test_set: ImageSet, attack: FixedPoisoning | None
) -> dict[str, float | str]:
    """RE and, for an attacked model, AE, DAE, RAV and RNV on the test set."""
    images, labels = test_set.batch(slice(None))
    features, outputs = victim.evaluate([images])
    figures: dict[str, float | str] = {
        "error_unit": task.error_unit,
        "RE": metrics.regression_error(task, outputs, labels),
    }
    if attack is not None:
        poisoned, poisoned_outputs = victim.evaluate(
            [attack.trigger(chunk) for chunk in torch.split(images, 128)]
        )
        figures["AE"] = metrics.attack_error(task, poisoned_outputs, attack.target)
        figures["DAE"] = metrics.regression_error(task, poisoned_outputs, labels)
        figures["RAV"] = float(metrics.rav(poisoned, features, victim.head.weight.detach()))
        figures["RNV"] = float(metrics.rnv(poisoned, features))
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
) -> None:
    """Write ``path`` and its card, each complete or absent."""
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
    write_text(card_path(path), json.dumps(card, indent=2, ensure_ascii=False) + "\n")
