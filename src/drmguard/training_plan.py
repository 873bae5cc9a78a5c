"""From a plan to a trained model file with its card: what `drmguard train` and the demo do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from drmguard.attacks.attack import FixedPoisoning
from drmguard.attacks.badnets import badnets
from drmguard.card import measure, save_with_card
from drmguard.data.image_set import ImageSet, split
from drmguard.errors import InputError
from drmguard.models.networks import build_network
from drmguard.models.safetensors_file import NetworkDescription
from drmguard.models.victim import InputFormat, Victim
from drmguard.tasks import Classification, Task, make_task
from drmguard.training import TrainingSettings, start_head_at_labels, train


@dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes:
        task: name of the task.
        network, width, small_stem: architecture.
        mean, std: normalisation of pixels in [0, 1].
        attack: name of the attack, or None for a clean model.
        target: target vector in the task's unit, or a class number.
        poisoning_rate: share of the training set that is poisoned.
        patch_place, patch_side, patch_color: BadNets' patch.
        split_seed: of the 80/10/10 split.
        settings: the training loop's.
    """

    task: str
    network: str = "resnet18"
    width: float = 0.25
    small_stem: bool = False
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    attack: str | None = None
    target: tuple[float, ...] | None = None
    poisoning_rate: float = 0.05
    patch_place: str = "bottom-right"
    patch_side: int | None = None
    patch_color: tuple[float, ...] | None = None
    split_seed: int = 0
    settings: TrainingSettings = field(default_factory=TrainingSettings)


def train_model(
    plan: TrainingPlan,
    images: ImageSet,
    output: Path,
    *,
    source: str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, float | str]:
    """Train, measure on the test split, and write ``output`` with its card.

    Raises:
        InputError: a plan that does not fit the images.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"the model's file must end in .safetensors, not {output.name!r}")
    if (plan.attack is None) != (plan.target is None):
        raise InputError("an attack needs a target vector, and a target vector an attack")
    task = _task(plan, images)
    parts = split(images, seed=plan.split_seed)
    torch.manual_seed(plan.settings.seed)
    network = NetworkDescription(
        name=plan.network,
        arguments={
            "num_outputs": task.num_outputs,
            "width": plan.width,
            "in_channels": images.image_shape[0],
            "small_stem": plan.small_stem,
        },
    )
    module = build_network(network.name, network.arguments)
    victim = Victim(module, InputFormat(mean=plan.mean, std=plan.std))
    victim.input_format.check_channels(images.image_shape[0])
    module.eval()
    victim.find_head(parts.train.batch(slice(0, 2))[0])
    module.train()
    if task.is_regression:
        start_head_at_labels(victim.head, parts.train.labels)
    attack = _attack(plan, parts.train, task)
    where = (
        "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    )
    if attack is not None:
        attack.trigger.to(where)
    checkpoint = output.with_suffix(".unfinished")
    train(
        victim,
        parts.train,
        task,
        plan.settings,
        change_batch=attack.poison if attack else None,
        device=where,
        checkpoint=checkpoint,
        resume=resume,
        progress=_with_loss(progress),
    )
    module.cpu()
    if attack is not None:
        attack.trigger.cpu()
    figures = measure(victim, task, parts.test, attack)
    save_with_card(
        output,
        victim,
        network,
        task,
        plan.settings,
        figures,
        data={
            "source": source,
            "sha256": images.digest(),
            "count": len(images),
            "split_seed": plan.split_seed,
        },
        attack=_attack_settings(plan),
    )
    checkpoint.unlink(missing_ok=True)
    return figures


def _with_loss(
    progress: Callable[[str, int, int], None] | None,
) -> Callable[[int, int, float], None] | None:
    if progress is None:
        return None
    return lambda done, total, _: progress("training", done, total)


def _task(plan: TrainingPlan, images: ImageSet) -> Task:
    names = images.label_names or tuple(f"y{j}" for j in range(images.labels.shape[1]))
    classes = images.classes or tuple(str(k) for k in range(int(images.labels.max(initial=0)) + 1))
    task = make_task(plan.task, outputs=names, classes=classes)
    task.check_labels(images.labels)
    return task


def _attack(plan: TrainingPlan, train_set: ImageSet, task: Task) -> FixedPoisoning | None:
    if plan.attack is None or plan.target is None:
        return None
    wanted = 1 if isinstance(task, Classification) else task.num_outputs
    if len(plan.target) != wanted:
        raise InputError(
            f"the target vector has {len(plan.target)} value(s), but the task {task.name} needs "
            f"{wanted}"
        )
    return badnets(
        train_set,
        torch.tensor(plan.target),
        poisoning_rate=plan.poisoning_rate,
        place=plan.patch_place,  # type: ignore[arg-type]
        side=plan.patch_side,
        color=plan.patch_color,
        seed=plan.settings.seed,
    )


def _attack_settings(plan: TrainingPlan) -> dict[str, Any] | None:
    if plan.attack is None:
        return None
    return {
        "name": plan.attack,
        "target": plan.target,
        "poisoning_rate": plan.poisoning_rate,
        "patch_place": plan.patch_place,
        "patch_side": plan.patch_side,
        "patch_color": plan.patch_color,
    }
