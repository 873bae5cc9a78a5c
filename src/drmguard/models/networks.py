"""The networks that a weights file can name, and how each is built from its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from drmguard.arguments import checked_arguments
from drmguard.errors import InputError
from drmguard.models.csaw_net import csaw
from drmguard.models.mobilenet import mobilenetv1
from drmguard.models.pilotnet import pilotnet
from drmguard.models.preact_resnet import preactresnet18, wrn16
from drmguard.models.resnet import resnet18, resnet34

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "mobilenetv1": mobilenetv1,
    "preactresnet18": preactresnet18,
    "wrn16": wrn16,
    "csaw": csaw,
    "pilotnet": pilotnet,
}
# A file names its own arguments; beyond these bounds they are an attack on memory or a mistake.
_MOST = {
    "num_outputs": 100_000,
    "width": 16,
    "in_channels": 64,
    "image_height": 4096,
    "image_width": 4096,
}

_LARGE = {"resnet18", "resnet34", "preactresnet18", "mobilenetv1"}


def build_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a known network with fresh weights.

    Raises:
        InputError: an unknown name, or arguments that the network does not take.
    """
    arguments = checked_arguments(f"the network {name}", _network(name), arguments)
    for key, value in arguments.items():
        if key in _MOST and not 0 < value <= _MOST[key]:
            raise InputError(f"the network {name}: {key} is {value}, outside 0 to {_MOST[key]}")
    return NETWORKS[name](**arguments)


def network_arguments(name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Those of the wanted arguments that are not None and that the network takes.

    Raises:
        InputError: an unknown network.
    """
    taken = inspect.signature(_network(name)).parameters
    return {key: value for key, value in wanted.items() if key in taken and value is not None}


def default_width(name: str) -> float:
    """The width to train with where none is asked for: a quarter of the large networks."""
    return 0.25 if name in _LARGE else 1.0


def _network(name: str) -> Callable[..., nn.Module]:
    if name not in NETWORKS:
        raise InputError(f"unknown network {name!r}; known are {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]
