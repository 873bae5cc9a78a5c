"""Arguments that a user gives by name to something chosen by name: a network, an attack."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from drmguard.errors import InputError

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}


def checked_arguments(
    what: str, function: Callable[..., Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Arguments for ``function``, where they are ones that it takes; one number may be a tuple.

    Annotations must be written as strings (``from __future__ import annotations``); known are
    int, float, bool, str, literals of text and tuples of numbers, each also with ``| None``.

    Args:
        what: ``the network resnet18``, say, for errors.
        function: takes the arguments as keywords.
        arguments: what the user gave.

    Raises:
        InputError: an argument that is unknown, missing, or of the wrong type.
    """
    parameters = inspect.signature(function).parameters
    checked = dict(arguments)
    for name, value in arguments.items():
        if name not in parameters:
            raise InputError(
                f"{what} has no argument {name!r}; it takes {', '.join(parameters) or 'none'}"
            )
        annotation = str(parameters[name].annotation)
        if annotation.startswith("tuple[") and _fits(value, "float"):
            checked[name] = (value,)
        elif not _fits(value, annotation):
            raise InputError(f"{what}: {name} cannot be {value!r}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise InputError(f"{what} needs the argument {name!r}")
    return checked


def _fits(value: Any, annotation: str) -> bool:
    kind, _, optional = annotation.partition(" | ")
    if value is None:
        return optional == "None"
    if kind.startswith("Literal["):
        return repr(value) in kind.replace('"', "'")
    if kind.startswith("tuple["):
        return isinstance(value, (tuple, list)) and all(_fits(entry, "float") for entry in value)
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "bool":
        return False
    return isinstance(value, _TYPES[kind])
