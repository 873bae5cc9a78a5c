"""Which linear layer is H, so that the outputs are H(F(x))."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drmguard.errors import InputError


def named_head(module: nn.Module, name: str) -> nn.Linear:
    """The linear layer of this name.

    Raises:
        InputError: no such layer, or not a linear one.
    """
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        linear = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
        raise InputError(
            f"the model has no layer {name!r}; its linear layers are: {', '.join(linear) or 'none'}"
        ) from None
    if not isinstance(layer, nn.Linear):
        raise InputError(f"the layer {name!r} is {type(layer).__name__}, not a linear layer")
    return layer


def find_head(module: nn.Module, inputs: Tensor) -> str | None:
    """The last linear layer whose output is the model's output, or None.

    Runs ``inputs`` once with hooks that are removed again, whatever happens.
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    handles = []

    def watch(name: str, layer: nn.Linear) -> None:
        def record(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(name, []).append((arguments[0], output))

        handles.append(layer.register_forward_hook(record))

    try:
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear):
                watch(name, layer)
        outputs = module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(outputs, Tensor):
        return None
    flat = outputs.reshape(len(inputs), -1)
    for name, calls in reversed(seen.items()):
        features, result = calls[-1]
        if (
            len(calls) == 1
            and features.ndim == 2
            and result.shape == flat.shape
            and torch.equal(result, flat)
        ):
            return name
    return None
