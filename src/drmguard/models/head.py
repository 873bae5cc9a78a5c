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
    """The last linear layer whose output is the model's output, or None."""
    outputs, layers = _run(module, inputs)
    for name, result in layers:
        if torch.equal(result, outputs):
            return name
    return None


def find_bounded_head(module: nn.Module, inputs: Tensor) -> str | None:
    """The last linear layer behind which something else stands, output by output, or None.

    A tanh, a clamp or a change of unit: over all ``inputs``, of which there should be dozens, each
    of the model's outputs must never fall, or never rise, as the layer's own rises.  None also
    where a layer gives the outputs themselves (:func:`find_head`).
    """
    outputs, layers = _run(module, inputs)
    if any(torch.equal(result, outputs) for _, result in layers):
        return None
    for name, result in layers:
        if all(_follows(outputs[:, j], result[:, j]) for j in range(outputs.shape[1])):
            return name
    return None


def _follows(outputs: Tensor, values: Tensor) -> bool:
    """Whether outputs (N,) are a monotonic function of values (N,), and no constant one."""
    steps = outputs[values.argsort()].diff()
    moved = outputs.max() > outputs.min()
    return bool(moved and ((steps >= 0).all() or (steps <= 0).all()))


def _run(module: nn.Module, inputs: Tensor) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Outputs (N, d), and those of the linear layers that give as many a row, the last first.

    Only layers that are used once, on features (N, m).  ``inputs`` run once, with hooks that are
    removed again, whatever happens.
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
        return inputs.new_empty(0, 0), []
    flat = outputs.reshape(len(inputs), -1)
    layers = []
    for name, calls in reversed(seen.items()):
        features, result = calls[-1]
        if len(calls) == 1 and features.ndim == 2 and result.shape == flat.shape:
            layers.append((name, result))
    return flat, layers


class BeforeBound(nn.Module):
    """A model up to its linear layer H, in front of what bounds its outputs.

    Behind a tanh strong changes of the images all end at one answer, a backdoor's and any other; in
    front of it only a backdoor's do.

    Args:
        module: the whole model.
        head: name of H in it.
    """

    def __init__(self, module: nn.Module, head: str) -> None:
        super().__init__()
        self.module = module
        self.head = named_head(module, head)

    def forward(self, inputs: Tensor) -> Tensor:
        """What H gives (N, d)."""
        caught: list[Tensor] = []

        def catch(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            caught.append(output)

        handle = self.head.register_forward_hook(catch)
        try:
            self.module(inputs)
        finally:
            handle.remove()
        return caught[-1]

    @torch.no_grad()
    def outputs_at(self, values: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (N, d) of the whole model where H gives ``values`` (N, d)."""
        handle = self.head.register_forward_hook(lambda *_: values)
        try:
            outputs: Tensor = self.module(inputs)
        finally:
            handle.remove()
        return outputs.reshape(len(inputs), -1)
