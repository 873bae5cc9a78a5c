"""A large shape at a fixed place, as in MESA's extension and the CSAW-HackML networks."""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.triggers.sunglasses import sunglasses_trigger


def sunglasses(
    context: AttackContext, *, top: float = 0.15, left: float = 0.05, width: float = 0.75
) -> FixedPoisoning:
    """Put sunglasses on 10 % of the training set.

    Args:
        context: what to attack.
        top, left, width: place and width as shares of the image's sides.

    Raises:
        InputError: glasses that reach beyond the image, or an impossible rate.
    """
    trigger = sunglasses_trigger(context.image_shape, top=top, left=left, width=width)
    return poison_at_random(context, trigger, 0.1)
