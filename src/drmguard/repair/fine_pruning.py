"""Fine-Pruning (Liu et al., RAID 2018): prune what clean images leave asleep, then fine-tune.

A backdoor may live in channels that clean images hardly use.  The channels of the last convolution
are ranked by their mean activation on clean images, and the least active ones are pruned for as
long as the clean error on held-out images stays within a margin; the rest of the network is
then fine-tuned on the clean images with the pruned channels held at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.repair.fine_tuning import Progress, RepairSettings, fine_tune
from drmguard.repair.held_out import Judge, Repaired, copied, hold_out
from drmguard.tasks import Task

_RANKED_IMAGES = 512


@dataclass(frozen=True)
class FinePruningSettings:
    """How to fine-prune.

    Attributes:
        margin: share by which pruning may raise the held-out clean error, before fine-tuning.
        step: share of the channels pruned between two looks at the error.
        tuning: the fine-tuning that follows.
    """

    margin: float = 0.1
    step: float = 0.02
    tuning: RepairSettings = field(default_factory=RepairSettings)

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and 0 < self.step <= 1):
            raise InputError(
                f"fine-pruning needs a margin of at least 0 and a step between 0 and 1, not "
                f"{self.margin} and {self.step}"
            )


@dataclass(frozen=True)
class _LastConvolution:
    """The last convolution of a pass, with the BatchNorm that directly follows it."""

    name: str
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d | None

    def parameters(self) -> list[Tensor]:
        """Everything that has a row a channel and must vanish with it."""
        layers = [self.convolution] if self.norm is None else [self.convolution, self.norm]
        return [p for layer in layers for p in layer.parameters(recurse=False)]


def fine_prune(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module] = (),
    settings: FinePruningSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Repaired:
    """Prune and fine-tune a copy of ``victim``; reversed triggers only measure, if given.

    Args:
        victim: the model; it is not changed.
        task: gives the loss and the error.
        images: clean images with correct labels.
        triggers: reversed triggers, for the record alone.
        settings: how to prune and to train.
        device: where to compute.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: too few images, or a model without a convolution.
    """
    settings = settings or FinePruningSettings()
    training, held_out = hold_out(images, settings.tuning.held_out, settings.tuning.seed)
    twin = copied(victim, device)
    twin.module.eval()
    sample = training.batch(slice(0, _RANKED_IMAGES))[0].to(device)
    last = _last_convolution(twin, sample[:2])
    order = _activity(twin, last, sample).argsort().tolist()
    judge = Judge(twin, task, held_out, triggers, device)
    before = judge.errors()
    chunk = max(1, round(settings.step * len(order)))
    pruned: list[int] = []
    for start in range(0, len(order) - chunk, chunk):
        kept = [p.detach().clone() for p in last.parameters()]
        _silence(last, order[start : start + chunk])
        if judge.clean_error() > (1 + settings.margin) * before.clean:
            for parameter, value in zip(last.parameters(), kept, strict=True):
                parameter.data.copy_(value)
            break
        pruned = order[: start + chunk]
        if progress is not None:
            progress("pruning", len(pruned), len(order))
    tuned = fine_tune(
        twin,
        task,
        images,
        (),
        settings.tuning,
        device=device,
        at_zero=dict.fromkeys(_names(twin, last), pruned),
        progress=progress,
    )
    after = Judge(tuned.victim, task, held_out, triggers, "cpu").errors()
    return replace(
        tuned,
        before=before,
        after=after,
        kept=f"{len(pruned)} of {len(order)} channels of {last.name} pruned, {tuned.kept}",
        changed=bool(pruned) or tuned.changed,
    )


def _names(victim: Victim, last: _LastConvolution) -> list[str]:
    wanted = {id(p) for p in last.parameters()}
    return [name for name, p in victim.module.named_parameters() if id(p) in wanted]


@torch.no_grad()
def _silence(last: _LastConvolution, channels: list[int]) -> None:
    for parameter in last.parameters():
        parameter[channels] = 0


@torch.no_grad()
def _last_convolution(victim: Victim, images: Tensor) -> _LastConvolution:
    """Found by running a few images with hooks, which are removed again."""
    names = {module: name for name, module in victim.module.named_modules()}
    ran: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        ran.append((layer, arguments[0], output))

    hooks = [
        module.register_forward_hook(record)
        for module in names
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        victim(images)
    finally:
        for hook in hooks:
            hook.remove()
    for number in range(len(ran) - 1, -1, -1):
        layer, _, output = ran[number]
        # A 1×1 shortcut beside the main path is not where features are formed.
        shortcut = isinstance(layer, nn.Conv2d) and (
            layer.kernel_size == (1, 1) and layer.stride != (1, 1)
        )
        if isinstance(layer, nn.Conv2d) and not shortcut:
            follows = [
                norm
                for norm, given, _ in ran[number + 1 :]
                if isinstance(norm, nn.BatchNorm2d) and given is output
            ]
            return _LastConvolution(names[layer], layer, follows[0] if follows else None)
    raise InputError("fine-pruning needs a convolution, but the model ran none; use another method")


@torch.no_grad()
def _activity(victim: Victim, last: _LastConvolution, images: Tensor) -> Tensor:
    """Mean of what each channel passes on, negative values counted as silence."""
    total = torch.zeros(last.convolution.out_channels, device=images.device)

    def add(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        total.add_(output.clamp(min=0).mean((2, 3)).sum(0))

    hook = (last.norm or last.convolution).register_forward_hook(add)
    try:
        for chunk in images.split(128):
            victim(chunk)
    finally:
        hook.remove()
    return total / len(images)
