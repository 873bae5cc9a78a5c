"""Fine-tuning on clean images, with or without reversed triggers: the repair of DRMGuard (3.5).

*Unlearning* trains on D_be ∪ {(x', y)}: clean images, and the same stamped with the reversed
trigger, all under their correct labels.  Without a trigger it is plain *fine-tuning*, the strong
baseline.  When to stop is chosen on clean images held out from training and, for unlearning, on
the reversed trigger over those; a true trigger is never known here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Task
from drmguard.training import Batch, LossFunction, TrainingSettings, train

MIN_IMAGES = 20


@dataclass(frozen=True)
class RepairSettings:
    """How to repair.

    Attributes:
        steps: optimiser steps at most.
        batch_size: images a step, half of which are stamped.
        learning_rate: of Adam, at the start; it falls to zero along a cosine.
        held_out: share of the images that is not trained on.
        checks: how often the held-out images are looked at.
        doses: the reversed change is scaled by a factor drawn from this range for every step, since
            a reversed trigger is seldom exactly as strong as the planted one.
        seed: of the split, the batches and the doses.
    """

    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 3e-4
    held_out: float = 0.2
    checks: int = 10
    doses: tuple[float, float] = (0.5, 1.5)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.checks < 1 or self.steps < self.checks:
            raise InputError(
                "a repair needs a held-out share between 0 and 1, and at least as many steps as "
                f"checks, not {self.held_out}, {self.steps} and {self.checks}"
            )


@dataclass(frozen=True)
class Errors:
    """Mean errors on the held-out images, to their correct labels, in the task's error unit.

    Attributes:
        clean: on clean images.
        stamped: under the reversed triggers; None where there is none.
    """

    clean: float
    stamped: float | None

    @property
    def together(self) -> float:
        """What the choice of the stopping step minimises."""
        return self.clean if self.stamped is None else self.clean + self.stamped


@dataclass(frozen=True)
class Repaired:
    """A repaired copy of a victim, with what it cost.

    Attributes:
        victim: the new victim; the given one is left as it was.
        before, after: errors on the held-out images.
        step: the step that was kept; 0 where none was better than the model as given.
    """

    victim: Victim
    before: Errors
    after: Errors
    step: int


def fine_tune(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module] = (),
    settings: RepairSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> Repaired:
    """Unlearn ``triggers``, or fine-tune on the clean images alone where there are none.

    Args:
        victim: the model; it is not changed.
        task: gives the loss and the error.
        images: clean images with correct labels.
        triggers: reversed triggers, or samplers of a distribution of them; images to images.
        settings: how to repair.
        device: where to train.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: too few images.
    """
    settings = settings or RepairSettings()
    if len(images) < MIN_IMAGES:
        raise InputError(
            f"too few images for a repair: {len(images)} given, at least {MIN_IMAGES} needed"
        )
    order = np.random.default_rng(settings.seed).permutation(len(images))
    kept = max(2, round(settings.held_out * len(images)))
    held_out, training = images.subset(np.sort(order[:kept])), images.subset(np.sort(order[kept:]))
    twin = Victim(copy.deepcopy(victim.module).requires_grad_(True), victim.input_format)
    twin.head_name = victim.head_name
    twin.to(device)
    for trigger in triggers:
        trigger.to(device)
    judge = _Judge(twin, task, held_out, triggers, device)
    before = judge.errors()
    best, best_state, best_step = before, _state(twin), 0
    every = settings.steps // settings.checks

    def look(done: int, total: int, _: float) -> None:
        nonlocal best, best_state, best_step
        if progress is not None:
            progress("repairing", done, total)
        if done % every == 0:
            errors = judge.errors()
            if errors.together < best.together:
                best, best_state, best_step = errors, _state(twin), done

    unlearn = _Unlearning(triggers, settings)
    train(
        twin,
        training,
        task,
        TrainingSettings(
            steps=settings.steps,
            batch_size=min(settings.batch_size, len(training)),
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
        batch_loss=unlearn.loss,
        device=device,
        progress=look,
    )
    twin.module.load_state_dict(best_state)
    return Repaired(victim=twin.cpu().eval(), before=before, after=best, step=best_step)


def _state(victim: Victim) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in victim.module.state_dict().items()}


class _Unlearning:
    """Half of every batch carries a reversed trigger; all labels stay correct."""

    def __init__(self, triggers: Sequence[nn.Module], settings: RepairSettings) -> None:
        self.triggers, self.settings = triggers, settings

    def loss(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        images = batch.images
        if self.triggers:
            random = np.random.default_rng((self.settings.seed, batch.step))
            trigger = self.triggers[int(random.integers(len(self.triggers)))]
            dose = float(random.uniform(*self.settings.doses))
            half = len(images) // 2
            with torch.no_grad():
                stamped = images[:half] + dose * (trigger(images[:half]) - images[:half])
            images = torch.cat([stamped.clamp(0, 1), images[half:]])
        return loss_function(victim(images), batch.labels)


class _Judge:
    """Errors on the held-out images."""

    def __init__(
        self,
        victim: Victim,
        task: Task,
        images: ImageSet,
        triggers: Sequence[nn.Module],
        device: torch.device | str,
    ) -> None:
        self.victim, self.task, self.triggers = victim, task, triggers
        self.images, self.labels = (part.to(device) for part in images.batch(slice(None)))

    @torch.no_grad()
    def errors(self) -> Errors:
        """Errors of the victim as it is, in evaluation mode; its mode is restored."""
        training = self.victim.module.training
        self.victim.module.eval()
        clean = self._error(self.images)
        stamped = [self._error(trigger(self.images)) for trigger in self.triggers]
        self.victim.module.train(training)
        return Errors(clean, sum(stamped) / len(stamped) if stamped else None)

    def _error(self, images: Tensor) -> float:
        outputs = torch.cat([self.victim(chunk) for chunk in images.split(128)])
        return metrics.regression_error(self.task, outputs, self.labels)
