"""Weights in a safetensors file, whose metadata says how to build and feed the network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from drmguard.atomic import write_atomically
from drmguard.errors import InputError
from drmguard.models.networks import build_network
from drmguard.models.victim import InputFormat, Victim

METADATA_KEY = "drmguard"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkDescription(_Strict):
    """Name and arguments of a known network."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class InputDescription(_Strict):
    """The fields of :class:`~drmguard.models.victim.InputFormat`."""

    pixel_range: tuple[float, float]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["NCHW", "NHWC"] = "NCHW"


class ModelDescription(_Strict):
    """What a model file says about itself, as JSON under the metadata key ``drmguard``."""

    version: int = 1
    network: NetworkDescription
    input: InputDescription
    task: dict[str, Any] = Field(default_factory=dict)
    head: str | None = None


@dataclass(frozen=True)
class ModelFile:
    """A file that was read: its description (where it has one), weights and digest."""

    description: ModelDescription | None
    weights: dict[str, Tensor]
    digest: str


def describe(
    network: NetworkDescription, input_format: InputFormat, task: dict[str, Any]
) -> ModelDescription:
    """Description to store with a model."""
    return ModelDescription(
        network=network, input=InputDescription(**asdict(input_format)), task=task
    )


def save_model(path: Path, module: nn.Module, description: ModelDescription | None) -> None:
    """Write weights to ``path``, atomically, with the description where there is one."""
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    metadata = {METADATA_KEY: description.model_dump_json()} if description else None
    write_atomically(path, lambda temporary: save_file(weights, temporary, metadata))


def read_model_file(path: Path) -> ModelFile:
    """Read a safetensors file; nothing in it is ever executed.

    Raises:
        InputError: not a safetensors file, truncated, or with a broken description.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: truncated or not a safetensors file ({error}); replace it"
        ) from None
    description = None
    if METADATA_KEY in metadata:
        try:
            description = ModelDescription.model_validate_json(metadata[METADATA_KEY])
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{path}: the description in its metadata is broken ({field}: {first['msg']})"
            ) from None
        if description.version != 1:
            raise InputError(
                f"{path}: its description has version {description.version}; this drmguard reads 1"
            )
    return ModelFile(description=description, weights=weights, digest=weights_digest(weights))


def build_victim(
    weights: dict[str, Tensor],
    network: NetworkDescription,
    input_format: InputFormat,
    *,
    where: str,
    head: str | None = None,
) -> Victim:
    """Build the network without allocating its weights, then let it adopt ``weights``.

    Raises:
        InputError: weights that are missing, left over, of the wrong shape, or not finite.
    """
    with torch.device("meta"):
        module = build_network(network.name, network.arguments)
    expected = module.state_dict()
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    if missing or unexpected:
        what = f"lacks {missing[0]!r}" if missing else f"has {unexpected[0]!r}, which is not its"
        raise InputError(
            f"{where}: the weights do not fit {network.name}: the file {what} "
            f"({len(missing)} missing, {len(unexpected)} unexpected); give the right network"
        )
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise InputError(
                f"{where}: {key} is {tuple(value.shape)}, but {network.name} with "
                f"{json.dumps(network.arguments)} has {tuple(expected[key].shape)}"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{where}: the weights {key} hold NaN or infinity")
    cast = {key: value.to(expected[key].dtype) for key, value in weights.items()}
    module.load_state_dict(cast, assign=True)
    return Victim(module.eval(), input_format, head=head)


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names, shapes, types and values."""
    sha = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        sha.update(f"{key}:{tuple(value.shape)}:{value.dtype};".encode())
        if value.numel():
            sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
