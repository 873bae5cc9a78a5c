"""What a repair may look at: the clean images, part of which are held out to choose by.

No method ever sees a true trigger; what is held out decides when to stop and how much to prune.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Task

MIN_IMAGES = 20


@dataclass(frozen=True)
class Errors:
    """Mean errors on the held-out images, to their correct labels, in the task's error unit.

    Attributes:
        clean: on clean images.
        stamped: under the reversed triggers; None where there is none.
    """

    clean: float
    stamped: float | None

    def to_minimise(self, unlearned: bool) -> float:
        """What the choice of a stopping step minimises: both errors where triggers are unlearned.

        Else a trigger is only measured and must decide nothing.
        """
        return self.clean + (self.stamped or 0.0) if unlearned else self.clean


@dataclass(frozen=True)
class Repaired:
    """A repaired copy of a victim.

    Attributes:
        victim: the new victim; the given one is left as it was.
        held_out: the clean images that were not trained on.
        before, after: errors on them.
        kept: what was kept, in words: the training step, the channels pruned.
        changed: whether the copy differs from the victim as given.
    """

    victim: Victim
    held_out: ImageSet
    before: Errors
    after: Errors
    kept: str
    changed: bool


def copied(victim: Victim, device: torch.device | str) -> Victim:
    """A copy of the victim that can be trained."""
    twin = Victim(copy.deepcopy(victim.module).requires_grad_(True), victim.input_format)
    twin.head_name = victim.head_name
    return twin.to(device)


def weights(victim: Victim) -> dict[str, Tensor]:
    """A copy of the victim's state."""
    return {key: value.detach().clone() for key, value in victim.module.state_dict().items()}


def hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """(training, held-out) parts of the clean images.

    Raises:
        InputError: too few images.
    """
    if len(images) < MIN_IMAGES:
        raise InputError(
            f"too few images for a repair: {len(images)} given, at least {MIN_IMAGES} needed"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    kept = max(2, round(share * len(images)))
    return images.subset(np.sort(order[kept:])), images.subset(np.sort(order[:kept]))


class Judge:
    """Errors of a victim on the held-out images."""

    def __init__(
        self,
        victim: Victim,
        task: Task,
        images: ImageSet,
        triggers: Sequence[nn.Module],
        device: torch.device | str,
    ) -> None:
        self.victim, self.task = victim, task
        self.triggers = [trigger.to(device) for trigger in triggers]
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

    def clean_error(self, views: Tensor | None = None) -> float:
        """The error on clean images alone, or on other views of all of them."""
        training = self.victim.module.training
        self.victim.module.eval()
        with torch.no_grad():
            error = self._error(self.images if views is None else views)
        self.victim.module.train(training)
        return error

    def _error(self, images: Tensor) -> float:
        outputs = torch.cat([self.victim(chunk) for chunk in images.split(128)])
        return metrics.regression_error(self.task, outputs, self.labels)
