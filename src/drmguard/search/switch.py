"""Dose and response: whether a trigger works like a switch.

A planted trigger is obeyed or not: half of it sends some images to the target and not others, all
of it sends every image there, and half as much again changes nothing.  What erases or drowns the
content works by degrees: half of it already gathers the outputs, and more of it moves them on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drmguard import metrics
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.tasks import Task
from drmguard.triggers.warp import WarpTrigger

# From this ratio on a trigger is no switch.
NO_SWITCH = 0.05
_DOSED, _AT_ONCE = 128, 64


def at_dose(trigger: nn.Module, images: Tensor, stamped: Tensor, dose: float) -> Tensor:
    """Images (n, C, H, W) in [0, 1] with so many times the change that ``trigger`` made of them.

    A warp moves their points so many times as far.
    """
    if isinstance(trigger, WarpTrigger):
        warped: Tensor = trigger.scaled(dose)(images)
        return warped
    return (images + dose * (stamped - images)).clamp(0, 1)


@torch.no_grad()
def answers_at_dose(
    victim: Victim,
    task: Task,
    benign: Benign,
    trigger: nn.Module,
    images: Tensor,
    stamped: Tensor,
    dose: float,
) -> Tensor:
    """Standardised responses (n, d) to images with so many times their change, :func:`at_dose`."""
    chunks = at_dose(trigger, images, stamped, dose).split(_AT_ONCE)
    return torch.cat([respond(victim, task, benign, chunk).standardised for chunk in chunks])


@torch.no_grad()
def switch_ratio(victim: Victim, task: Task, benign: Benign, trigger: nn.Module) -> float | None:
    """How much the outputs scatter with a whole trigger, over how much they do with half of it.

    With half as much again, what moved their mean counts as scatter, and the larger of the two
    doses counts: ``max(v(1), v(3/2) + |m(3/2) - m(1)|²) / v(1/2)``, where v is the variance and m
    the mean of the standardised responses, averaged over the outputs.  Of a switch it is small.

    None for classifiers, and where no linear layer gives the outputs: at a bound all is a switch.
    """
    if not task.is_regression or benign.weight is None:
        return None
    images = benign.images[:_DOSED]
    stamped = torch.cat([trigger(chunk) for chunk in images.split(_AT_ONCE)])

    half, whole, more = (
        answers_at_dose(victim, task, benign, trigger, images, stamped, dose)
        for dose in (0.5, 1.0, 1.5)
    )
    moved = (more.mean(0) - whole.mean(0)).square().mean()
    left = torch.maximum(metrics.variance(whole).mean(), metrics.variance(more).mean() + moved)
    return float(left / metrics.variance(half).mean().clamp(min=1e-6))
