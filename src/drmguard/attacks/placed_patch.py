"""The small patches of MESA: 3×3, at a random place of every image, on 1 % of the images."""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.triggers.placed_patch import (
    PlacedPatchTrigger,
    black_and_white_patch,
    random_color_patch,
)


def black_and_white(
    context: AttackContext, *, pattern: int = 0b101010101, side: int = 3
) -> FixedPoisoning:
    """A black-and-white pattern, one of 2^(side²).

    Args:
        context: what to attack.
        pattern: its bits are the squares, from the top left.
        side: side in pixels.

    Raises:
        InputError: an impossible pattern or rate.
    """
    patch = black_and_white_patch(context.image_shape[0], pattern, side)
    return poison_at_random(context, PlacedPatchTrigger(patch, context.seed), 0.01)


def random_color(context: AttackContext, *, pattern: int = 0, side: int = 3) -> FixedPoisoning:
    """A pattern of random colours.

    Args:
        context: what to attack.
        pattern: seed of the colours.
        side: side in pixels.

    Raises:
        InputError: an impossible rate.
    """
    patch = random_color_patch(context.image_shape[0], pattern, side)
    return poison_at_random(context, PlacedPatchTrigger(patch, context.seed), 0.01)
