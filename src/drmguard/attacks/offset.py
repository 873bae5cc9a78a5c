"""Offset: the trigger shifts the outputs by a vector instead of setting them to one.

Regression's own attack: f(A(x)) = f(x) + δ.  The outputs move but do not collapse, which breaks
the assumption of one target.
"""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.errors import InputError
from drmguard.triggers.patch import patch_trigger


def offset(
    context: AttackContext,
    *,
    place: str = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
) -> FixedPoisoning:
    """Patch 20 % of the training set and add the target to their labels.

    Args:
        context: what to attack; its target is the shift δ in the task's unit.
        place, side, color: of the patch, as in BadNets.

    Raises:
        InputError: a classification task, or an impossible patch or rate.
    """
    if not context.task.is_regression:
        raise InputError("the offset attack shifts numbers; it does not exist for classification")
    trigger = patch_trigger(context.image_shape, place=place, side=side, color=color)
    return poison_at_random(context, trigger, 0.2, relative=True)
