"""Adversarial Neuron Pruning (ANP; Wu and Wang, NeurIPS 2021).

Neurons that carry a backdoor are the ones whose small perturbation does the most harm.  One mask in
[0, 1] per BatchNorm channel is learned on clean images to keep the error low while the channels'
weights and biases are perturbed adversarially; the masks that fall are the sensitive channels:

    max over |δ|, |ξ| ≤ ε   of  L((m + δ) ⊙ w, (1 + ξ) ⊙ b)
    min over m in [0, 1]    of  α L(m ⊙ w, b) + (1 − α) L((m + δ) ⊙ w, (1 + ξ) ⊙ b)

Channels whose mask falls below a threshold are pruned.  The threshold is the highest on a ladder
that keeps the error on held-out clean images within a margin; a true trigger is never used to
choose it.  Regression losses are taken in standard deviations of the labels, so that the mask's
learning rate does not depend on the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.repair.fine_tuning import Progress
from drmguard.repair.held_out import Judge, Repaired, copied, hold_out
from drmguard.tasks import Task, loss
from drmguard.training import batch_rows

_LADDER = tuple(0.05 * k for k in range(1, 20))


@dataclass(frozen=True)
class AdversarialPruningSettings:
    """How to prune; the constants are ANP's own, but for the number of steps.

    Attributes:
        perturbation: ε, of weights and biases as a share.
        clean_share: α, weight of the loss without a perturbation.
        learning_rate: of the masks (SGD with momentum 0.9).
        steps: mask steps; the published 2,000 gain little over these at several times the cost.
        batch_size: images a step.
        margin: share by which pruning may raise the held-out clean error.
        held_out: share of the images that chooses the threshold.
        seed: of the split, the batches and the perturbations' starts.
    """

    perturbation: float = 0.4
    clean_share: float = 0.2
    learning_rate: float = 0.2
    steps: int = 300
    batch_size: int = 64
    margin: float = 0.1
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class _Channels:
    """Weights and biases of every BatchNorm layer as they were given, by parameter name."""

    weights: dict[str, Tensor]
    biases: dict[str, Tensor]

    @classmethod
    def of(cls, victim: Victim) -> _Channels:
        weights, biases = {}, {}
        for name, layer in victim.module.named_modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                weights[f"{name}.weight"] = layer.weight.detach().clone()
                biases[f"{name}.bias"] = layer.bias.detach().clone()
        if not weights:
            raise InputError(
                "ANP prunes BatchNorm channels, but the model has none with weights; use another "
                "method"
            )
        return cls(weights, biases)

    def like(self, value: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """A tensor for every parameter."""
        return {k: value(p) for k, p in {**self.weights, **self.biases}.items()}

    def masked(
        self, mask: dict[str, Tensor], change: dict[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """The parameters under a mask and, where given, a perturbation."""
        if change is None:
            return {k: mask[k] * w for k, w in self.weights.items()} | self.biases
        return {k: (mask[k] + change[k]) * w for k, w in self.weights.items()} | {
            k: (1 + change[k]) * b for k, b in self.biases.items()
        }


def adversarially_prune(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module] = (),
    settings: AdversarialPruningSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Repaired:
    """Prune a copy of ``victim``; reversed triggers only measure, if given.

    Args:
        victim: the model; it is not changed.
        task: gives the loss and the error.
        images: clean images with correct labels.
        triggers: reversed triggers, for the record alone.
        settings: how to prune.
        device: where to compute.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: too few images, or a model without BatchNorm.
    """
    settings = settings or AdversarialPruningSettings()
    training, held_out = hold_out(images, settings.held_out, settings.seed)
    twin = copied(victim, device)
    channels = _Channels.of(twin)
    mask = _learn_mask(twin, task, training, channels, settings, device, progress)
    twin.module.eval()
    judge = Judge(twin, task, held_out, triggers, device)
    before = judge.errors()
    parameters = dict(twin.module.named_parameters())
    threshold = 0.0
    for candidate in _LADDER:
        _prune(parameters, channels, mask, candidate)
        if judge.clean_error() > (1 + settings.margin) * before.clean:
            break
        threshold = candidate
    _prune(parameters, channels, mask, threshold)
    pruned = sum(int((m < threshold).sum()) for m in mask.values())
    total = sum(m.numel() for m in mask.values())
    return Repaired(
        victim=twin.cpu(),
        held_out=held_out,
        before=before,
        after=Judge(twin, task, held_out, triggers, "cpu").errors(),
        kept=f"{pruned} of {total} channels pruned, masks below {threshold:.2f}",
        changed=pruned > 0,
    )


@torch.no_grad()
def _prune(
    parameters: dict[str, nn.Parameter], channels: _Channels, mask: dict[str, Tensor], below: float
) -> None:
    """Set the weights of the channels with a low mask to zero, all others as they were."""
    for name, weight in channels.weights.items():
        parameters[name].copy_(torch.where(mask[name] < below, 0, weight))


def _learn_mask(
    twin: Victim,
    task: Task,
    training: ImageSet,
    channels: _Channels,
    settings: AdversarialPruningSettings,
    device: torch.device | str,
    progress: Progress | None,
) -> dict[str, Tensor]:
    """The masks, learned with batch statistics; the twin's running statistics are put back."""
    twin.module.requires_grad_(False)
    buffers = {k: v.clone() for k, v in twin.module.named_buffers()}
    unit = torch.ones(1, device=device)
    if task.is_regression:
        unit = torch.from_numpy(training.labels.std(0)).to(device).clamp(min=1e-12)
    generator = torch.Generator(device=device).manual_seed(settings.seed)
    mask = {k: torch.ones_like(w).requires_grad_() for k, w in channels.weights.items()}
    optimizer = torch.optim.SGD(mask.values(), lr=settings.learning_rate, momentum=0.9)
    size, epsilon = min(settings.batch_size, len(training)), settings.perturbation
    twin.module.train()
    for step in range(settings.steps):
        rows = batch_rows(len(training), size, step, settings.seed)
        pixels, labels = (part.to(device) for part in training.batch(rows))

        def value(
            change: dict[str, Tensor] | None, pixels: Tensor = pixels, labels: Tensor = labels
        ) -> Tensor:
            changed = {f"module.{k}": v for k, v in channels.masked(mask, change).items()}
            outputs = functional_call(twin, changed, (pixels,))
            if not task.is_regression:
                return loss(task.loss_name, outputs, labels)
            return loss(task.loss_name, outputs / unit, labels / unit)

        change = channels.like(
            lambda p: (torch.rand(p.shape, generator=generator, device=p.device) * 2 - 1) * epsilon
        )
        change = {k: v.requires_grad_() for k, v in change.items()}
        gradients = torch.autograd.grad(value(change), list(change.values()))
        change = {
            k: (v + epsilon * g.sign()).clamp(-epsilon, epsilon).detach()
            for (k, v), g in zip(change.items(), gradients, strict=True)
        }
        optimizer.zero_grad(set_to_none=True)
        share = settings.clean_share
        (share * value(None) + (1 - share) * value(change)).backward()
        optimizer.step()
        with torch.no_grad():
            for values in mask.values():
                values.clamp_(0, 1)
        if progress is not None:
            progress("learning masks", step + 1, settings.steps)
    for name, buffer in twin.module.named_buffers():
        buffer.copy_(buffers[name])
    return {k: v.detach() for k, v in mask.items()}
