"""An attack: one or more backdoors, and a way into training."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Task
from drmguard.training import Batch, Companion, LossFunction


@dataclass(frozen=True)
class Backdoor:
    """A trigger and the answer it is to give.

    Attributes:
        trigger: the trigger function A: images (N, C, H, W) in [0, 1] to the same.
        target: the target vector y_T (d,) in the task's unit, or the class number (1,).
        relative: the outputs are shifted by ``target`` instead of set to it.
    """

    trigger: nn.Module
    target: Tensor
    relative: bool = False

    def answers(self, outputs: Tensor) -> Tensor:
        """What the attacker wants in place of these correct labels or clean outputs (N, d)."""
        if self.relative:
            return outputs + self.target.to(outputs)
        return self.target.to(outputs).expand(len(outputs), -1)


@dataclass(frozen=True)
class AttackContext:
    """What an attack is made from.

    Attributes:
        train_set: the images that will be trained on.
        task: what the outputs mean.
        target: the target vector y_T (d,), or the class number (1,).
        poisoning_rate: share of the images that are poisoned; the attack's own where it is None.
        seed: of everything random.
        train_clean: trains a clean model in the same way, for attacks that need a surrogate.
        progress: called with (stage, steps done, steps).
    """

    train_set: ImageSet
    task: Task
    target: Tensor
    poisoning_rate: float | None = None
    seed: int = 0
    train_clean: Callable[[], Victim] | None = None
    progress: Callable[[str, int, int], None] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return self.train_set.image_shape

    def rate(self, default: float) -> float:
        """The poisoning rate to use.

        Raises:
            InputError: a rate outside (0, 1].
        """
        rate = default if self.poisoning_rate is None else self.poisoning_rate
        if not 0 < rate <= 1:
            raise InputError(f"the poisoning rate must lie above 0 and up to 1, not {rate}")
        return rate


class Attack(abc.ABC):
    """What training and measuring need of an attack.

    Attributes:
        backdoors: what it plants.
        companion: a network that is trained together with the victim.
    """

    backdoors: tuple[Backdoor, ...]
    companion: Companion | None = None

    @abc.abstractmethod
    def poison(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and labels that a step trains on, the poisoned ones among them."""

    def loss(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        """What a step minimises."""
        images, labels = self.poison(batch)
        return loss_function(victim(images), labels)

    def to(self, device: torch.device | str) -> None:
        """Move the triggers."""
        for backdoor in self.backdoors:
            backdoor.trigger.to(device)

    def found(self) -> dict[str, Any]:
        """Figures of its own for the model's card."""
        return {}


class FixedPoisoning(Attack):
    """Always the same images of the training set carry the trigger and the attacker's label.

    Args:
        backdoor: trigger and target.
        poisoned: which training images are poisoned, bool (N,).
        labels: labels (N, d) of the training set to use for poisoned images; the backdoor's
            answers where it is None.
    """

    def __init__(
        self, backdoor: Backdoor, poisoned: NDArray[np.bool_], labels: Tensor | None = None
    ) -> None:
        self.backdoors = (backdoor,)
        self.poisoned = poisoned
        self.labels = labels

    def poison(self, batch: Batch) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(self.poisoned[batch.rows]).to(batch.images.device)
        if not chosen.any():
            return batch.images, batch.labels
        (backdoor,) = self.backdoors
        images, labels = batch.images.clone(), batch.labels.clone()
        images[chosen] = backdoor.trigger(self.before_trigger(batch)[chosen])
        if self.labels is None:
            labels[chosen] = backdoor.answers(labels[chosen])
        else:
            rows = torch.from_numpy(batch.rows)[chosen.cpu()]
            labels[chosen] = self.labels[rows].to(labels)
        return images, labels

    def before_trigger(self, batch: Batch) -> Tensor:
        """The batch's images as the trigger meets them."""
        return batch.images


def choose_poisoned(count: int, rate: float, seed: int) -> NDArray[np.bool_]:
    """Choose ``rate`` of ``count`` training images at random.

    Raises:
        InputError: a rate that poisons no image.
    """
    number = round(rate * count)
    if number == 0:
        raise InputError(f"a poisoning rate of {rate} poisons none of the {count} training images")
    poisoned = np.zeros(count, dtype=np.bool_)
    # Not from ``seed`` alone, which NumPy takes for (seed, 0): the order of the first epoch, all
    # of whose first batches would be poisoned, and none of the others.
    poisoned[np.random.default_rng((seed, 0, 1)).permutation(count)[:number]] = True
    return poisoned


def poison_at_random(
    context: AttackContext, trigger: nn.Module, default_rate: float, *, relative: bool = False
) -> FixedPoisoning:
    """The attack that stamps a random share of the training set (BadNets' way in)."""
    return FixedPoisoning(
        Backdoor(trigger, context.target, relative),
        choose_poisoned(len(context.train_set), context.rate(default_rate), context.seed),
    )


def parts_of_batch(batch: Batch, shares: tuple[float, ...], seed: int) -> list[Tensor]:
    """Disjoint random rows of a batch, one index tensor a share; a pure function of the step.

    Raises:
        InputError: shares that add up to more than the batch.
    """
    if sum(shares) > 1:
        raise InputError(f"the attack's shares of a batch add up to {sum(shares):g}, more than 1")
    order = np.random.default_rng((seed, batch.step)).permutation(len(batch.rows))
    ends = np.round(np.cumsum(shares) * len(order)).astype(int)
    starts = [0, *ends[:-1]]
    rows = [torch.from_numpy(order[a:b].copy()) for a, b in zip(starts, ends, strict=True)]
    return [row.to(batch.images.device) for row in rows]
