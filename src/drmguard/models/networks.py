"""The networks that a weights file can name, and how each is built from its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from drmguard.errors import InputError
from drmguard.models.resnet import resnet18, resnet34

NETWORKS: dict[str, Callable[..., nn.Module]] = {"resnet18": resnet18, "resnet34": resnet34}
# A file names its own arguments; beyond these bounds they are an attack on memory or a mistake.
_MOST = {"num_outputs": 100_000, "width": 16, "in_channels": 64}


def build_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a known network with fresh weights.

    Raises:
        InputError: an unknown name, or arguments that the network does not take.
    """
    if name not in NETWORKS:
        raise InputError(f"unknown network {name!r}; known are {', '.join(sorted(NETWORKS))}")
    parameters = inspect.signature(NETWORKS[name]).parameters
    for key, value in arguments.items():
        if key not in parameters:
            raise InputError(
                f"the network {name} has no argument {key!r}; it takes {', '.join(parameters)}"
            )
        kind = {"int": int, "float": (int, float), "bool": bool}[parameters[key].annotation]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):  # type: ignore[arg-type]
            raise InputError(f"the network {name}: {key} cannot be {value!r}")
        if key in _MOST and not 0 < value <= _MOST[key]:
            raise InputError(f"the network {name}: {key} is {value}, outside 0 to {_MOST[key]}")
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in arguments
    ]
    if missing:
        raise InputError(f"the network {name} needs the argument {missing[0]!r}")
    return NETWORKS[name](**arguments)
