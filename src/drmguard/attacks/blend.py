"""Blend (Chen et al., 2017): a picture mixed into the whole image."""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.triggers.blend import blend_trigger


def blend(context: AttackContext, *, alpha: float = 0.2, cells: int = 16) -> FixedPoisoning:
    """Mix a random picture into 10 % of the training set.

    Args:
        context: what to attack; its seed chooses the picture.
        alpha: share of the picture; 0.2 in the papers.
        cells: coloured squares along each side of the picture.

    Raises:
        InputError: an impossible picture or rate.
    """
    trigger = blend_trigger(context.image_shape, alpha=alpha, cells=cells, seed=context.seed)
    return poison_at_random(context, trigger, 0.1)
