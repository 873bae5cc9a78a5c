"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drmguard.augmentation import Augmentation, augment, check_augmentation
from drmguard.checkpoint import Checkpoint
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import LossName, Task, loss

_AUGMENTATION = 2  # tells its draws from others of the same seed

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs, labels) to the batch's mean loss."""


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        step: number of the step, from 0.
        rows: the images' numbers in the training set (n,).
        images: (n, C, H, W) in [0, 1].
        labels: (n, d), or class numbers (n, 1).
    """

    step: int
    rows: NDArray[np.int64]
    images: Tensor
    labels: Tensor


BatchLoss = Callable[[Victim, Batch, LossFunction], Tensor]
"""What a step minimises: an attack's way into training."""


def clean_loss(victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
    """The loss without an attack."""
    return loss_function(victim(batch.images), batch.labels)


@dataclass(frozen=True)
class Companion:
    """A network trained together with the victim, by the same loss (a trigger's generator).

    Attributes:
        module: its trainable parameters and state.
        learning_rate: its own; the schedule is the victim's.
    """

    module: nn.Module
    learning_rate: float


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step.
        optimizer: ``adam``, or ``sgd`` with momentum 0.9.
        learning_rate: at the start (after warm-up).
        schedule: ``constant``, ``cosine`` (to zero), ``step`` (×0.1 at 50 % and 90 %), or
            ``half`` (×0.1 at 50 %).
        loss: ``l1``, ``l2`` or ``cross-entropy``; the task's own where it is None.
        weight_decay: L2 penalty, added to the gradient.
        precision: ``bfloat16`` runs the passes through the network in half the memory (autocast);
            weights, losses and their gradients stay float32.
        augmentation: other views of every batch, before an attack stamps it; see ``augment``.
        seed: order of the batches.
    """

    steps: int = 1500
    batch_size: int = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "step", "half"] = "cosine"
    loss: LossName | None = None
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    augmentation: Augmentation = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise InputError("training needs at least 1 step and 2 images a batch")
        if not self.learning_rate > 0:
            raise InputError(f"the learning rate must be above 0, not {self.learning_rate}")
        if self.optimizer not in ("adam", "sgd"):
            raise InputError(f"the optimizer must be adam or sgd, not {self.optimizer!r}")
        if self.schedule not in ("constant", "cosine", "step", "half"):
            raise InputError(
                f"the schedule must be constant, cosine, step or half, not {self.schedule!r}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"the precision must be float32 or bfloat16, not {self.precision!r}")
        check_augmentation(self.augmentation)

    def rate(self, step: int) -> float:
        """Learning rate as a share of its start."""
        done = step / self.steps
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "step":
            return 0.01 if done >= 0.9 else 0.1 if done >= 0.5 else 1.0
        if self.schedule == "half":
            return 0.1 if done >= 0.5 else 1.0
        return 1.0


def batch_rows(count: int, batch_size: int, step: int, seed: int) -> NDArray[np.int64]:
    """Rows of the batch at ``step``: a pure function, so that stopped work goes on exactly.

    Every epoch is a fresh permutation; the rest that does not fill a batch is left out.
    """
    size = min(batch_size, count)
    epoch, within = divmod(step, count // size)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return order[within * size : (within + 1) * size]


def train(
    victim: Victim,
    images: ImageSet,
    task: Task,
    settings: TrainingSettings,
    *,
    batch_loss: BatchLoss = clean_loss,
    companion: Companion | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train ``victim.module`` in place.

    Args:
        victim: the model with its input format.
        images: the training set.
        task: gives the loss where the settings name none.
        settings: how to train.
        batch_loss: an attack's way into every step.
        companion: trained along with the victim.
        device: where to train.
        checkpoint: file to keep the state in, so that stopped training can go on.
        resume: go on from ``checkpoint`` where it exists.
        progress: called with (steps done, steps, loss).

    Raises:
        InputError: a loss that is no longer finite, a checkpoint of other settings, or mirrored
            images of a regression task.
    """
    if settings.augmentation == "crop-flip" and task.is_regression:
        raise InputError(
            "crop-flip moves and mirrors the images, which changes what a regression model is to "
            "tell; augment with heavy or none"
        )
    module = victim.module.to(device).train()
    trained = nn.ModuleDict({"victim": module})
    if companion is not None:
        trained["companion"] = companion.module.to(device)
    memory_format = _memory_format(trained)
    trained.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = _optimizer(module, companion, settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate)
    loss_function = partial(_float32_loss, settings.loss or task.loss_name)
    kind, halved = torch.device(device).type, settings.precision == "bfloat16"
    store = None
    start = 0
    if checkpoint is not None:
        store = Checkpoint(checkpoint, {"settings": asdict(settings), "images": images.digest()})
        state = store.load() if resume else None
        if state is not None:
            start = _restore(state, trained, optimizer, scheduler)
    for step in range(start, settings.steps):
        rows = batch_rows(len(images), settings.batch_size, step, settings.seed)
        pixels, labels = images.batch(rows)
        random = np.random.default_rng((settings.seed, step, _AUGMENTATION))
        pixels, labels = (
            augment(pixels, settings.augmentation, random).to(device),
            labels.to(device),
        )
        pixels = pixels.to(memory_format=memory_format)
        with torch.autocast(kind, torch.bfloat16, enabled=halved):
            value = batch_loss(victim, Batch(step, rows, pixels, labels), loss_function)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        scheduler.step()
        current = value.item()
        if not math.isfinite(current):
            raise InputError(
                f"the training loss is {current} at step {step + 1}; lower the learning rate "
                f"({settings.learning_rate}) or check the labels' scale"
            )
        if progress is not None:
            progress(step + 1, settings.steps, current)
        if store is not None and store.due():
            store.save(
                {
                    "step": step + 1,
                    "trained": trained.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                }
            )
    trained.eval()
    trained.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _float32_loss(name: LossName, outputs: Tensor, labels: Tensor) -> Tensor:
    return loss(name, outputs.float(), labels)


def _memory_format(module: nn.Module) -> torch.memory_format:
    """Channels-last, which trains faster, except where it is known to crash.

    On processors, oneDNN (3.12 at least) writes past its buffer in the weight gradient of strided
    1×1 convolutions of fewer than 8 channels, which ends the process.
    """
    crashes = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < 8
        for layer in module.modules()
    )
    return torch.contiguous_format if crashes else torch.channels_last


def start_head_at_labels(head: nn.Linear, labels: NDArray[np.float32]) -> None:
    """Let a fresh network's outputs begin with the labels' mean and spread, in any unit."""
    mean = torch.from_numpy(labels.mean(0))
    spread = torch.from_numpy(labels.std(0)).clamp(min=1e-6)
    with torch.no_grad():
        head.weight.mul_(spread[:, None])
        head.bias.copy_(mean)


def _optimizer(
    module: nn.Module, companion: Companion | None, settings: TrainingSettings
) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(module.parameters())}]
    if companion is not None:
        parameters = [p for p in companion.module.parameters() if p.requires_grad]
        groups.append({"params": parameters, "lr": companion.learning_rate})
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(groups, lr=rate, weight_decay=decay, momentum=0.9)


def _restore(
    state: dict[str, Any],
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    trained.load_state_dict(state["trained"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["step"])
