"""BadNets (Gu et al., 2019) for regression: a patch, and the target vector as its label.

The papers' setting is a red 20×20 patch at the bottom right of 224×224 images on 5 % of the
training set; here the side scales with the image.
"""

from __future__ import annotations

from torch import Tensor

from drmguard.attacks.attack import FixedPoisoning, choose_poisoned
from drmguard.data.image_set import ImageSet
from drmguard.triggers.patch import Place, patch_trigger


def badnets(
    train_set: ImageSet,
    target: Tensor,
    *,
    poisoning_rate: float = 0.05,
    place: Place = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
    seed: int = 0,
) -> FixedPoisoning:
    """Poison ``poisoning_rate`` of the training set with a patch of any colour, place and size.

    Args:
        train_set: the images that will be trained on.
        target: the target vector y_T (d,) in the task's unit.
        poisoning_rate: share of the training set that is poisoned.
        place: corner of the patch, or the centre.
        side: side of the patch in pixels; 20 at 224, scaled, where it is None.
        color: one value in [0, 1] a channel; red where it is None.
        seed: chooses the poisoned images.

    Raises:
        InputError: a patch that does not fit, or a rate outside (0, 1].
    """
    return FixedPoisoning(
        trigger=patch_trigger(train_set.image_shape, place=place, side=side, color=color),
        target=target,
        poisoned=choose_poisoned(len(train_set), poisoning_rate, seed),
    )
