"""What counts as a success of a trigger, from 0 to 1 an image: MESA's testing function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drmguard.errors import InputError
from drmguard.search.benign import Benign
from drmguard.tasks import Task

# Distance in clean standard deviations at which an answer counts as half a success.
HALF = 0.25


@dataclass(frozen=True)
class Success:
    """Success of stamped images at one target.

    Classifiers: the probability of the target class.  Regression: 1 / (1 + (d / HALF)²), d being
    the root mean squared distance to the target vector in clean standard deviations; it falls
    slowly, so that far answers still pull.

    Attributes:
        task: of the model.
        benign: the clean images' means and spreads.
        target: class number (1,), or target vector standardised by the clean responses (d,).
    """

    task: Task
    benign: Benign
    target: Tensor

    def __post_init__(self) -> None:
        wanted = self.task.num_outputs if self.task.is_regression else 1
        if self.target.shape != (wanted,):
            raise InputError(
                f"the target must have {wanted} value(s), not {tuple(self.target.shape)}"
            )

    def of(self, outputs: Tensor) -> Tensor:
        """Success (n,) of outputs (n, d)."""
        if not self.task.is_regression:
            return outputs.softmax(1)[:, int(self.target)]
        standardised = self.benign.standardise(outputs)
        squared = (standardised - self.target).square().mean(1)
        return 1 / (1 + squared / HALF**2)

    def hits(self, outputs: Tensor) -> Tensor:
        """Whether each image (n,) gives the target: the class, or within ``HALF``."""
        if not self.task.is_regression:
            return outputs.argmax(1) == int(self.target)
        return self.of(outputs) >= 0.5

    def elsewhere(self, outputs: Tensor) -> Tensor:
        """Rows of clean outputs that do not already give the target: only they can show success."""
        return torch.nonzero(~self.hits(outputs))[:, 0]
