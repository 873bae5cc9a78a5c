"""From a model file to a victim, with what the user has to say about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import nn

from drmguard.errors import InputError
from drmguard.models.safetensors_file import (
    NetworkDescription,
    build_victim,
    read_model_file,
    weights_digest,
)
from drmguard.models.state_dict_file import read_state_dict
from drmguard.models.victim import InputFormat, Victim
from drmguard.tasks import Task, make_task

T = TypeVar("T")

_PICKLES = {".pt", ".pth", ".ckpt", ".bin"}
_REFUSED = {".pkl", ".pickle", ".h5", ".keras", ".onnx", ".pt2", ".pb", ".tflite"}


@dataclass(frozen=True)
class LoadedModel:
    """A model that came from a file, or from Python.

    Attributes:
        victim: the model, ready to scan.
        name: its file's name, or its class's.
        digest: SHA-256 of its weights.
        network: architecture name and arguments; empty for a model from Python.
        task: what the file says its outputs mean, where it does.
    """

    victim: Victim
    name: str
    digest: str
    network: dict[str, Any]
    task: Task | None


def load_model(
    path: str | Path,
    *,
    network: str | None = None,
    network_arguments: dict[str, Any] | None = None,
    pixel_range: tuple[float, float] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    head: str | None = None,
) -> LoadedModel:
    """Load a model file; nothing in it is ever executed.

    A safetensors file written by drmguard describes itself.  Any other safetensors file or
    PyTorch state dict needs ``network`` (with its arguments) and ``pixel_range``.

    Args:
        path: ``.safetensors``, or ``.pt``/``.pth`` with a state dict.
        network: name of a known network.
        network_arguments: its arguments, ``{"num_outputs": 2, "width": 0.25}`` say.
        pixel_range: what black and white are to the model, before mean and std.
        mean, std: normalisation, a channel each, in the unit of the pixel range.
        layout: ``NCHW`` or ``NHWC``.
        head: name of the last linear layer, where it cannot be found.

    Raises:
        InputError: a file that is missing, damaged, unsafe or not described, or a description
            that contradicts what the file says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no model at {path}: the file does not exist")
    suffix = path.suffix.lower()
    description = None
    if suffix == ".safetensors":
        file = read_model_file(path)
        description, weights, digest = file.description, file.weights, file.digest
    elif suffix in _PICKLES:
        weights = read_state_dict(path)
        digest = weights_digest(weights)
    else:
        kinds = "a safetensors file or a PyTorch state dict"
        known = "is not read" if suffix in _REFUSED else "is of an unknown kind"
        raise InputError(
            f"{path}: {suffix or 'a file without a suffix'} {known}; give {kinds}, or scan the "
            "model from Python as an nn.Module"
        )
    given = NetworkDescription(name=network, arguments=network_arguments or {}) if network else None
    net = _agree(path, "network", description.network if description else None, given)
    stored = description.input if description else None
    form = InputFormat(
        pixel_range=_agree(
            path, "pixel range", stored.pixel_range if stored else None, pixel_range
        ),
        mean=_agree(path, "mean", stored.mean if stored else None, mean, ()),
        std=_agree(path, "std", stored.std if stored else None, std, ()),
        layout=_agree(path, "layout", stored.layout if stored else None, layout, "NCHW"),
    )
    victim = build_victim(
        weights,
        net,
        form,
        where=str(path),
        head=head or (description.head if description else None),
    )
    task = _stored_task(description.task, path) if description and description.task else None
    return LoadedModel(
        victim=victim, name=path.name, digest=digest, network=net.model_dump(), task=task
    )


def as_loaded(model: LoadedModel | Victim | nn.Module) -> LoadedModel:
    """The model as if it had been loaded; a module takes images in [0, 1] as N×C×H×W.

    Raises:
        InputError: it is no model, a path for instance.
    """
    if isinstance(model, LoadedModel):
        return model
    if not isinstance(model, nn.Module):
        raise InputError(
            "a model is a torch.nn.Module, a Victim or what drmguard.load_model gives, not "
            f"{model!r}"
        )
    victim = model if isinstance(model, Victim) else Victim(model)
    return LoadedModel(
        victim=victim,
        name=type(victim.module).__name__,
        digest=weights_digest(dict(victim.module.state_dict())),
        network={},
        task=None,
    )


def _stored_task(settings: dict[str, Any], path: Path) -> Task:
    try:
        return make_task(**settings)
    except TypeError:
        raise InputError(f"{path}: the task in its metadata is broken: {settings}") from None


def _agree(
    path: Path, what: str, stored: T | None, given: T | None, otherwise: T | None = None
) -> T:
    """The one value of two sources; a contradiction is never settled by a guess."""
    if stored is not None and given is not None and stored != given:
        raise InputError(
            f"{path}: the file says its {what} is {stored}, but {given} was given; "
            "leave the option out, or give a file without a description"
        )
    value = stored if stored is not None else given
    if value is None:
        value = otherwise
    if value is None:
        raise InputError(
            f"{path}: the file does not say its {what}; give it with --{what.replace(' ', '-')}"
        )
    return value
