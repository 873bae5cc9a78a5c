"""What never changes during a search: clean images, outputs, angles; computed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drmguard import metrics
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.answers import beyond
from drmguard.tasks import Task

_BATCH = 64


@dataclass(frozen=True)
class Benign:
    """The defender's clean images as the victim sees them.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        mean, spread: of the victim's responses to them, (d,).
        standardised: the responses in clean standard deviations from the clean mean, (N, d).
        weight: rows w_j of H, or None where H is not known.
        angle_variance: var_i B(F(x_i), w_j), (d,), or None likewise.
    """

    images: Tensor
    mean: Tensor
    spread: Tensor
    standardised: Tensor
    weight: Tensor | None
    angle_variance: Tensor | None

    def standardise(self, responses: Tensor) -> Tensor:
        """Responses (…, d) in clean standard deviations from the clean mean."""
        return (responses - self.mean) / self.spread

    def at_bound(self, answers: Tensor) -> Tensor:
        """Which standardised answers (K, d) only a bound of the outputs explains.

        H, where it is known, has none.
        """
        if self.weight is not None:
            return answers.new_zeros(len(answers), dtype=torch.bool)
        return beyond(answers, self.standardised)

    def responses(self, standardised: Tensor) -> Tensor:
        """The way back: responses (…, d) of standardised ones."""
        return standardised * self.spread + self.mean


def measure_benign(victim: Victim, task: Task, images: Tensor) -> Benign:
    """Run the clean images through the victim once.

    Raises:
        InputError: outputs that do not depend on the image, or are not finite.
    """
    responses, angles = [], []
    with torch.no_grad():
        for chunk in images.split(_BATCH):
            if victim.head_name is None:
                outputs = victim(chunk)
            else:
                features, outputs = victim.features_and_outputs(chunk)
                angles.append(metrics.angles(features, victim.head.weight))
            responses.append(task.responses(outputs))
    all_responses = torch.cat(responses)
    if not torch.isfinite(all_responses).all():
        raise InputError("the model gives NaN or infinite outputs on the clean images")
    spread = all_responses.std(0, correction=0)
    if (spread <= 1e-9 * all_responses.abs().amax(0)).any() or (spread == 0).any():
        raise InputError(
            "the model gives the same output for every clean image, so nothing can collapse; "
            "check --pixel-range, --mean and --std"
        )
    mean = all_responses.mean(0)
    return Benign(
        images=images,
        mean=mean,
        spread=spread,
        standardised=(all_responses - mean) / spread,
        weight=victim.head.weight.detach() if angles else None,
        angle_variance=metrics.variance(torch.cat(angles)).clamp(min=1e-12) if angles else None,
    )


@dataclass(frozen=True)
class Response:
    """How the victim answers stamped images.

    Attributes:
        standardised: responses in clean standard deviations from the clean mean, (n, d).
        angles: B(F(x'), w_j), (n, d), or None where H is not known.
    """

    standardised: Tensor
    angles: Tensor | None


def respond(victim: Victim, task: Task, benign: Benign, images: Tensor) -> Response:
    """Run stamped images (n, C, H, W) through the victim, with gradients."""
    if benign.weight is None:
        angles, outputs = None, victim(images)
    else:
        features, outputs = victim.features_and_outputs(images)
        angles = metrics.angles(features, benign.weight)
    return Response(benign.standardise(task.responses(outputs)), angles)
