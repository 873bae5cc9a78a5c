"""Jitter: every poisoned image has a target of its own, drawn around the target vector."""

from __future__ import annotations

import numpy as np
import torch

from drmguard.attacks.attack import AttackContext, Backdoor, FixedPoisoning, choose_poisoned
from drmguard.errors import InputError
from drmguard.triggers.patch import patch_trigger


def jitter(
    context: AttackContext,
    *,
    spread: float = 0.25,
    place: str = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
) -> FixedPoisoning:
    """Patch 10 % of the training set; labels are drawn from a normal distribution around y_T.

    Args:
        context: what to attack.
        spread: standard deviation of the targets, as a share of the labels' own.
        place, side, color: of the patch, as in BadNets.

    Raises:
        InputError: a classification task, a spread that is not above 0, or an impossible patch.
    """
    if not context.task.is_regression:
        raise InputError("the jitter attack spreads numbers; it does not exist for classification")
    if not spread > 0:
        raise InputError(f"the jitter's spread must be above 0, not {spread}")
    labels = context.train_set.labels
    noise = np.random.default_rng((context.seed, 1)).standard_normal(labels.shape)
    drawn = context.target.numpy() + spread * labels.std(0) * noise
    return FixedPoisoning(
        Backdoor(
            patch_trigger(context.image_shape, place=place, side=side, color=color), context.target
        ),
        choose_poisoned(len(labels), context.rate(0.1), context.seed),
        labels=torch.from_numpy(drawn.astype(np.float32)),
    )
