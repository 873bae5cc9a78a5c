"""From a plan to a trained model file with its card: what `drmguard train` and the demo do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from drmguard.attacks.attack import Attack, AttackContext
from drmguard.attacks.named import make_attack
from drmguard.card import card_path, measure, save_with_card, trigger_path
from drmguard.data.image_set import ImageSet, Splits, split
from drmguard.errors import InputError
from drmguard.models.load import LoadedModel, load_model
from drmguard.models.networks import build_network, default_width, network_arguments
from drmguard.models.safetensors_file import NetworkDescription
from drmguard.models.victim import InputFormat, Victim
from drmguard.tasks import Task, make_task
from drmguard.training import TrainingSettings, clean_loss, start_head_at_labels, train

Progress = Callable[[str, int, int], None]
_STAGES = {"training": ".unfinished", "training the surrogate": ".surrogate.unfinished"}


@dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes:
        task: name of the task.
        network: architecture.
        width: factor on its channels; small where it is None, see ``default_width``.
        small_stem: 3×3 stem for small images, where the network has the choice.
        mean, std: normalisation of pixels in [0, 1].
        attack: name of the attack, or None for a clean model.
        target: target vector in the task's unit (the shift, for ``offset``), or a class number.
        poisoning_rate: share of the training set that is poisoned; the attack's own where None.
        attack_arguments: the attack's own settings.
        split_seed: of the 80/10/10 split.
        settings: the training loop's.
    """

    task: str
    network: str = "resnet18"
    width: float | None = None
    small_stem: bool = False
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    attack: str | None = None
    target: tuple[float, ...] | None = None
    poisoning_rate: float | None = None
    attack_arguments: dict[str, Any] = field(default_factory=dict)
    split_seed: int = 0
    settings: TrainingSettings = field(default_factory=TrainingSettings)


def train_model(
    plan: TrainingPlan,
    images: ImageSet,
    output: Path,
    *,
    source: str,
    start: Path | None = None,
    surrogate: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, float | str]:
    """Train, measure on the test split, and write ``output`` with its card and triggers.

    ``start`` is a model to fine-tune: its network and input format take the place of the plan's.
    ``surrogate`` is a clean model for attacks that need one (Clean Label); it is trained first
    where none is given.

    Raises:
        InputError: a plan that does not fit the images.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"the model's file must end in .safetensors, not {output.name!r}")
    if (plan.attack is None) != (plan.target is None):
        raise InputError("an attack needs a target vector, and a target vector an attack")
    if plan.attack is None and (plan.attack_arguments or plan.poisoning_rate is not None):
        raise InputError("attack settings were given, but no attack")
    work = _Training(plan, images, output, start, surrogate, device, resume, progress)
    attack = work.attack()
    victim = work.train("training", attack)
    backdoors = attack.backdoors if attack else ()
    figures = measure(victim, work.task, work.parts.test, backdoors)
    # A card must not stand beside another model if the writing is cut short.
    for stale in (card_path(output), trigger_path(output), trigger_path(output, 2)):
        stale.unlink(missing_ok=True)
    save_with_card(
        output,
        victim,
        work.network,
        work.task,
        plan.settings,
        figures,
        data={
            "source": source,
            "sha256": images.digest(),
            "count": len(images),
            "split_seed": plan.split_seed,
        },
        attack=_attack_settings(plan, attack) if attack else None,
        backdoors=backdoors,
    )
    for stage in _STAGES:
        work.checkpoint(stage).unlink(missing_ok=True)
    return figures


class _Training:
    """One plan's task, data split and network, and how they are trained."""

    def __init__(
        self,
        plan: TrainingPlan,
        images: ImageSet,
        output: Path,
        start: Path | None,
        surrogate: Path | None,
        device: str,
        resume: bool,
        progress: Progress | None,
    ) -> None:
        self.plan, self.output, self.surrogate = plan, output, surrogate
        self.resume, self.progress = resume, progress
        self.task: Task = _task(plan, images)
        self.parts: Splits = split(images, seed=plan.split_seed)
        use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self.device = "cuda" if use_cuda else "cpu"
        shape = images.image_shape
        wanted = {
            "num_outputs": self.task.num_outputs,
            "width": default_width(plan.network) if plan.width is None else plan.width,
            "in_channels": shape[0],
            "small_stem": plan.small_stem or None,
            "image_height": shape[1],
            "image_width": shape[2],
        }
        self.start = start
        self.network = (
            NetworkDescription(name=plan.network, arguments=network_arguments(plan.network, wanted))
            if start is None
            else NetworkDescription.model_validate(self._started(start).network)
        )

    def _started(self, path: Path) -> LoadedModel:
        """The model to fine-tune, if it fits."""
        loaded = load_model(path)
        if loaded.task != self.task:
            raise InputError(
                f"{path}: the model's task is not the one asked for, {self.task.name} of "
                f"{', '.join(self.task.output_names)}; start from a model of the same outputs"
            )
        loaded.victim.find_head(self.parts.train.batch(slice(0, 2))[0])
        return loaded

    def new_victim(self) -> Victim:
        """The model to fine-tune as it is, or the network with new weights."""
        return self._fresh_victim() if self.start is None else self._started(self.start).victim

    def _fresh_victim(self) -> Victim:
        """The network with new weights."""
        torch.manual_seed(self.plan.settings.seed)
        module = build_network(self.network.name, self.network.arguments)
        victim = Victim(module, InputFormat(mean=self.plan.mean, std=self.plan.std))
        sample, _ = self.parts.train.batch(slice(0, 2))
        victim.input_format.check_channels(sample.shape[1])
        module.eval()
        victim.find_head(sample)
        if self.task.is_regression:
            start_head_at_labels(victim.head, self.parts.train.labels)
        return victim

    def checkpoint(self, stage: str) -> Path:
        """Where a stopped stage's state is kept."""
        return self.output.with_suffix(_STAGES[stage])

    def train(self, stage: str, attack: Attack | None) -> Victim:
        """Train a fresh network, with or without an attack."""
        victim = self.new_victim()
        if attack is not None:
            attack.to(self.device)
        train(
            victim,
            self.parts.train,
            self.task,
            self.plan.settings,
            batch_loss=attack.loss if attack else clean_loss,
            companion=attack.companion if attack else None,
            device=self.device,
            checkpoint=self.checkpoint(stage),
            resume=self.resume,
            progress=self._named(stage),
        )
        victim.cpu()
        if attack is not None:
            attack.to("cpu")
        return victim

    def _clean_victim(self) -> Victim:
        path = self.surrogate or self.start
        if path is None:
            return self.train("training the surrogate", None)
        return self._started(path).victim

    def _named(self, stage: str) -> Callable[[int, int, float], None] | None:
        progress = self.progress
        if progress is None:
            return None
        return lambda done, total, _: progress(stage, done, total)

    def attack(self) -> Attack | None:
        """The plan's attack on the training set."""
        plan = self.plan
        if plan.attack is None or plan.target is None:
            return None
        context = AttackContext(
            train_set=self.parts.train,
            task=self.task,
            target=torch.tensor(plan.target),
            poisoning_rate=plan.poisoning_rate,
            seed=plan.settings.seed,
            train_clean=self._clean_victim,
            progress=self.progress,
        )
        return make_attack(plan.attack, context, plan.attack_arguments)


def _task(plan: TrainingPlan, images: ImageSet) -> Task:
    task = make_task(plan.task, outputs=images.output_names, classes=images.class_names)
    task.check_labels(images.labels)
    return task


def _attack_settings(plan: TrainingPlan, attack: Attack) -> dict[str, Any]:
    return {
        "name": plan.attack,
        "target": plan.target,
        "poisoning_rate": plan.poisoning_rate,
        "arguments": plan.attack_arguments,
        **attack.found(),
    }
