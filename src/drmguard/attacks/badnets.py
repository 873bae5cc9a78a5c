"""BadNets (Gu et al., 2019): a patch, and the target vector as its label.

The papers' setting is a red 20×20 patch at the bottom right of 224×224 images on 5 % of the
training set; here the side scales with the image.
"""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.triggers.patch import patch_trigger


def badnets(
    context: AttackContext,
    *,
    place: str = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
) -> FixedPoisoning:
    """Stamp a patch of any colour, place and size on 10 % of the training set.

    Args:
        context: what to attack.
        place: corner of the patch, or ``center``.
        side: side of the patch in pixels; 20 at 224, scaled, where it is None.
        color: one value in [0, 1] a channel; red where it is None.

    Raises:
        InputError: a patch that does not fit, or a rate outside (0, 1].
    """
    trigger = patch_trigger(context.image_shape, place=place, side=side, color=color)
    return poison_at_random(context, trigger, 0.1)
