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

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Task

MIN_IMAGES = 20


@dataclass(frozen=True)
class Errors:
    """Errors on the held-out images, to their correct labels, in the task's error unit.

    Attributes:
        of_clean: of each clean image (n,).
        of_stamped: of each under the reversed triggers, their mean (n,); None without a trigger.
    """

    of_clean: Tensor
    of_stamped: Tensor | None

    @property
    def clean(self) -> float:
        """The mean on clean images."""
        return float(self.of_clean.mean())

    @property
    def stamped(self) -> float | None:
        """The mean under the reversed triggers."""
        return None if self.of_stamped is None else float(self.of_stamped.mean())

    def to_minimise(self, unlearned: bool) -> Tensor:
        """What the choice of a stopping step minimises: both errors where triggers are unlearned.

        Else a trigger is only measured and must decide nothing.
        """
        if unlearned and self.of_stamped is not None:
            return self.of_clean + self.of_stamped
        return self.of_clean


def surely_above(errors: Tensor, others: Tensor) -> bool:
    """Whether errors of the same images (n,) are higher by more than one standard error."""
    difference = errors - others
    return float(difference.mean()) > float(difference.std() / len(difference) ** 0.5)


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
        clean = self._errors(self.images)
        stamped = [self._errors(trigger(self.images)) for trigger in self.triggers]
        self.victim.module.train(training)
        return Errors(clean, torch.stack(stamped).mean(0) if stamped else None)

    def clean_error(self, views: Tensor | None = None) -> float:
        """The error on clean images alone, or on other views of all of them."""
        training = self.victim.module.training
        self.victim.module.eval()
        with torch.no_grad():
            errors = self._errors(self.images if views is None else views)
        self.victim.module.train(training)
        return float(errors.mean())

    def _errors(self, images: Tensor) -> Tensor:
        outputs = torch.cat([self.victim(chunk) for chunk in images.split(128)])
        return self.task.error(outputs, self.labels)
