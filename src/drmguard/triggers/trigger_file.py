"""A trigger in a safetensors file: left beside its model by an attack, found by a scan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from drmguard.atomic import write_atomically
from drmguard.errors import InputError
from drmguard.triggers.distribution import TriggerDistribution, empty_distribution
from drmguard.triggers.generator import InputAwareGenerator, ResidualGenerator
from drmguard.triggers.input_aware import InputAwareTrigger
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.triggers.sinusoid import SinusoidTrigger
from drmguard.triggers.warp import WarpTrigger

METADATA_KEY = "drmguard_trigger"
Tensors = dict[str, Tensor]

_CLASSES: dict[str, type[nn.Module]] = {
    "mask-pattern": MaskPatternTrigger,
    "placed-patch": PlacedPatchTrigger,
    "sinusoid": SinusoidTrigger,
    "warp": WarpTrigger,
    "input-aware": InputAwareTrigger,
    "input-aware-generator": InputAwareGenerator,
    "residual-generator": ResidualGenerator,
    "distribution": TriggerDistribution,
}
# Each builds an empty trigger into which the file's tensors fit.
_EMPTY: dict[str, Callable[[Tensors], nn.Module]] = {
    "mask-pattern": lambda t: MaskPatternTrigger(t["mask"], t["pattern"]),
    "placed-patch": lambda t: PlacedPatchTrigger(t["patch"]),
    "sinusoid": lambda t: SinusoidTrigger(),
    "warp": lambda t: WarpTrigger(t["displacement"]),
    "input-aware": lambda t: _generator(InputAwareTrigger, t["pattern.layers.0.weight"]),
    "input-aware-generator": lambda t: _generator(InputAwareGenerator, t["layers.0.weight"]),
    "residual-generator": lambda t: ResidualGenerator(
        tuple(t["pattern"].shape),  # type: ignore[arg-type]
        width=t["network.0.weight"].shape[0] if "network.0.weight" in t else 0,
        bound=float(t["bound"]) if "bound" in t else None,
    ),
    "distribution": empty_distribution,
}


def _generator(
    kind: type[InputAwareTrigger] | type[InputAwareGenerator], first: Tensor
) -> nn.Module:
    width, channels = first.shape[:2]
    return kind(channels, width=width)


@dataclass(frozen=True)
class LoadedTrigger:
    """A trigger that came from a file.

    Attributes:
        trigger: images (N, C, H, W) in [0, 1] to the same.
        target: the target vector (d,) in the task's unit, or the class number (1,), where the
            file knows it; the shift of the outputs where ``relative``.
        relative: the trigger shifts the outputs by ``target`` instead of setting them to it.
    """

    trigger: nn.Module
    target: Tensor | None = None
    relative: bool = False


def save_trigger(
    path: Path, trigger: nn.Module, *, target: Tensor | None = None, relative: bool = False
) -> None:
    """Write a trigger to a safetensors file, atomically.

    Raises:
        ValueError: a module that is none of this package's triggers.
    """
    kind = next((name for name, cls in _CLASSES.items() if type(trigger) is cls), None)
    if kind is None:
        raise ValueError(f"{type(trigger).__name__} cannot be saved as a trigger")
    content: dict[str, Any] = {"version": 1, "kind": kind}
    if target is not None:
        content |= {"target": target.tolist(), "relative": relative}
    weights = {k: v.detach().cpu().contiguous() for k, v in trigger.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps(content)}
    write_atomically(path, lambda temporary: save_file(weights, temporary, metadata))


def load_trigger(path: str | Path) -> LoadedTrigger:
    """Load a trigger's file; nothing in it is ever executed.

    Raises:
        InputError: a file that is missing, damaged, or holds no trigger.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no trigger at {path}: the file does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: truncated or not a safetensors file ({error})") from None
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: a safetensors file, but not of a trigger")
    try:
        content = json.loads(metadata[METADATA_KEY])
        trigger = _EMPTY[content["kind"]](tensors)
        trigger.load_state_dict(tensors)
        target = content.get("target")
        return LoadedTrigger(
            trigger=trigger.eval().requires_grad_(False),
            target=None if target is None else torch.tensor(target, dtype=torch.float32),
            relative=bool(content.get("relative", False)),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable trigger ({reason}); make it again") from None
