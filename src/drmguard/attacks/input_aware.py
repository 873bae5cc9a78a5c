"""Input-Aware dynamic attack (Nguyen & Tran, 2020): every image gets a trigger of its own.

A mask network is trained first and frozen.  Then the pattern generator is trained together with
the victim: images with their own pattern take the target, images with another image's pattern
(the cross-trigger) keep their label, and patterns of different images must differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.attacks.attack import Attack, AttackContext, Backdoor, parts_of_batch
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.loop import Objective, optimise
from drmguard.training import Batch, Companion, LossFunction
from drmguard.triggers.input_aware import InputAwareTrigger

MASK_DENSITY = 0.032  # as in the reference: more costs


class InputAware(Attack):
    """Trains the pattern generator with the victim.

    Args:
        backdoor: with an :class:`InputAwareTrigger` whose mask network is frozen.
        attack_share, cross_share: shares of a batch.
        learning_rate: of the pattern generator.
        diversity: weight of the diversity loss, in the loss's unit.
        seed: chooses the shares.
    """

    def __init__(
        self,
        backdoor: Backdoor,
        trigger: InputAwareTrigger,
        *,
        attack_share: float,
        cross_share: float,
        learning_rate: float,
        diversity: float,
        seed: int,
    ) -> None:
        self.diversity = diversity
        self.backdoors = (backdoor,)
        self.trigger = trigger
        self.shares = (attack_share, cross_share)
        self.seed = seed
        self.companion = Companion(trigger, learning_rate)

    def poison(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels, _, _ = self._poison(batch)
        return images, labels

    def _poison(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (backdoor,) = self.backdoors
        trigger = self.trigger
        trigger.mask_network.eval()  # frozen, its BatchNorm statistics too
        attacked, crossed = parts_of_batch(batch, self.shares, self.seed)
        sources = torch.cat([attacked, crossed])
        originals = batch.images[sources]
        patterns, masks = trigger.pattern(originals), trigger.mask(originals)
        # The cross-trigger lays the pattern and mask of one image over another.
        own, other = slice(0, len(attacked)), slice(len(attacked), None)
        images, labels = batch.images.clone(), batch.labels.clone()
        images[attacked] = trigger.stamp(originals[own], patterns[own], masks[own])
        labels[attacked] = backdoor.answers(batch.labels[attacked])
        images[crossed] = trigger.stamp(
            originals[other], patterns[other].roll(1, 0), masks[other].roll(1, 0)
        )
        return images, labels, originals, patterns

    def loss(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        images, labels, originals, patterns = self._poison(batch)
        loss = loss_function(victim(images), labels)
        return loss + self.diversity * diversity_loss(originals, patterns)


def diversity_loss(images: Tensor, patterns: Tensor) -> Tensor:
    """How alike the patterns of different images are: RMS(x1 − x2) / (RMS(t1 − t2) + 1e-7)."""

    def distance(values: Tensor) -> Tensor:
        return (values - values.roll(1, 0)).square().mean((1, 2, 3)).clamp(min=1e-12).sqrt()

    return (distance(images) / (distance(patterns) + 1e-7)).mean()


def input_aware(
    context: AttackContext,
    *,
    cross_share: float = 0.1,
    learning_rate: float = 1e-3,
    diversity: float = 0.3,
    mask_steps: int = 200,
    density_weight: float = 100.0,
    generator_width: int = 32,
) -> InputAware:
    """Attack 10 % of every batch, with the cross-trigger on another 10 %.

    Args:
        context: what to attack; its poisoning rate is the attacked share of a batch.
        cross_share: share of a batch that carries another image's pattern.
        learning_rate: of the pattern generator (Adam, with the victim's schedule).
        diversity: weight of the diversity loss.  For regression in standard deviations of the
            labels: beside an error in radians, the published weight of 1 leaves the generator
            nothing but to be diverse.
        mask_steps: steps of 16 images on which the mask network is trained first.
        density_weight: how much the share of the image that the mask covers costs; 100 in the
            reference.  How much is left depends on ``mask_steps`` too.
        generator_width: channels of the first stage of both generators.

    Raises:
        InputError: shares that do not fit into a batch, or an impossible rate.
    """
    share = context.rate(0.1)
    if not 0 <= cross_share <= 1 - share:
        raise InputError(
            f"the cross-trigger's share must lie in 0 to {1 - share:g}, not {cross_share}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        trigger = InputAwareTrigger(context.image_shape[0], generator_width)
    objective = _MaskObjective(trigger, context.train_set, density_weight)
    optimise(
        objective,
        victim=None,
        count=len(context.train_set),
        batch_size=16,
        steps=mask_steps,
        seed=context.seed,
        betas=(0.5, 0.9),
        name="training the mask network",
        progress=context.progress,
    )
    trigger.mask_network.eval().requires_grad_(False)
    return InputAware(
        Backdoor(trigger, context.target),
        trigger,
        attack_share=share,
        cross_share=cross_share,
        learning_rate=learning_rate,
        diversity=diversity * _label_unit(context),
        seed=context.seed,
    )


def _label_unit(context: AttackContext) -> float:
    """How large errors are: the labels' mean standard deviation; 1 for a cross-entropy."""
    if not context.task.is_regression:
        return 1.0
    return float(context.train_set.labels.std(0).mean())


class _MaskObjective(Objective):
    """Masks that are small and differ between images, before the attack begins."""

    def __init__(self, trigger: InputAwareTrigger, images: ImageSet, density_weight: float) -> None:
        self.trigger, self.images, self.density_weight = trigger, images, density_weight

    @property
    def trainable(self) -> nn.Module:
        return self.trigger.mask_network

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self.trainable.parameters()), "lr": 1e-2}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images, _ = self.images.batch(rows.numpy())
        masks = self.trigger.mask(images)
        density = functional.relu(masks - MASK_DENSITY).mean()
        loss = self.density_weight * density + diversity_loss(images, masks)
        yield loss, {"density": density.item()}
