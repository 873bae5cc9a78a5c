"""The attacks by name, as the command line and the benchmark choose them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from drmguard.arguments import checked_arguments
from drmguard.attacks.attack import Attack, AttackContext
from drmguard.attacks.badnets import badnets
from drmguard.attacks.blend import blend
from drmguard.attacks.clean_label import clean_label
from drmguard.attacks.input_aware import input_aware
from drmguard.attacks.jitter import jitter
from drmguard.attacks.offset import offset
from drmguard.attacks.placed_patch import black_and_white, random_color
from drmguard.attacks.sig import sig
from drmguard.attacks.sunglasses import sunglasses
from drmguard.attacks.wanet import adaptive_wanet, multi_target_wanet, wanet
from drmguard.errors import InputError

ATTACKS: dict[str, Callable[..., Attack]] = {
    "badnets": badnets,
    "blend": blend,
    "sig": sig,
    "clean-label": clean_label,
    "wanet": wanet,
    "multi-target-wanet": multi_target_wanet,
    "adaptive-wanet": adaptive_wanet,
    "input-aware": input_aware,
    "offset": offset,
    "jitter": jitter,
    "black-and-white": black_and_white,
    "random-color": random_color,
    "sunglasses": sunglasses,
}


def make_attack(name: str, context: AttackContext, arguments: dict[str, Any]) -> Attack:
    """Make an attack from its name and its own arguments.

    Raises:
        InputError: an unknown name, a target that does not fit the task, or bad arguments.
    """
    if name not in ATTACKS:
        raise InputError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    task = context.task
    wanted = task.num_outputs if task.is_regression else 1
    if len(context.target) != wanted:
        raise InputError(
            f"the target vector has {len(context.target)} value(s), but the task {task.name} "
            f"needs {wanted}"
        )
    if not task.is_regression:
        task.check_labels(context.target.reshape(1, 1).numpy())
    factory = partial(ATTACKS[name], context)
    return factory(**checked_arguments(f"the attack {name}", factory, arguments))
