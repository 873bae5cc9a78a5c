"""An attack: a trigger, a target vector, and a way into the training batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drmguard.errors import InputError


class Attack(Protocol):
    """What training and measuring need of an attack."""

    @property
    def trigger(self) -> torch.nn.Module:
        """The trigger function A: images (N, C, H, W) in [0, 1] to the same."""

    @property
    def target(self) -> Tensor:
        """The target vector y_T (d,), or the target class number (1,)."""

    def poison(
        self, rows: NDArray[np.int64], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Poison a training batch; ``rows`` are its images' numbers in the training set."""


@dataclass(frozen=True)
class FixedPoisoning:
    """Always the same share of the training set carries the trigger and the target as label.

    Attributes:
        trigger: the trigger function A.
        target: the target vector y_T (d,).
        poisoned: which training images are poisoned, bool (N,).
    """

    trigger: torch.nn.Module
    target: Tensor
    poisoned: NDArray[np.bool_]

    def poison(
        self, rows: NDArray[np.int64], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(self.poisoned[rows]).to(images.device)
        if not chosen.any():
            return images, labels
        images, labels = images.clone(), labels.clone()
        images[chosen] = self.trigger(images[chosen])
        labels[chosen] = self.target.to(labels)
        return images, labels


def choose_poisoned(count: int, rate: float, seed: int) -> NDArray[np.bool_]:
    """Choose ``rate`` of ``count`` training images at random.

    Raises:
        InputError: a rate outside (0, 1], or one that poisons no image.
    """
    if not 0 < rate <= 1:
        raise InputError(f"the poisoning rate must lie above 0 and up to 1, not {rate}")
    number = round(rate * count)
    if number == 0:
        raise InputError(f"a poisoning rate of {rate} poisons none of the {count} training images")
    poisoned = np.zeros(count, dtype=np.bool_)
    poisoned[np.random.default_rng(seed).permutation(count)[:number]] = True
    return poisoned
