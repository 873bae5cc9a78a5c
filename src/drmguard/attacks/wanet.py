"""WaNet (Nguyen & Tran, 2021): a smooth warp, trained with a noise mode.

A part of every batch is warped and takes the target; another part is warped with extra noise
and keeps its label, so that only the one stored warp triggers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drmguard import metrics
from drmguard.attacks.attack import Attack, AttackContext, Backdoor, parts_of_batch
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.training import Batch, LossFunction
from drmguard.triggers.warp import WarpTrigger, warp_trigger


class WaNet(Attack):
    """Warped, noisily warped and clean images in every batch.

    Args:
        backdoors: each with a :class:`WarpTrigger`.
        attack_share: share of a batch that each backdoor gets.
        noise_share: share of a batch that is warped with noise and keeps its label.
        seed: of the choice and the noise.
    """

    def __init__(
        self,
        backdoors: tuple[Backdoor, ...],
        *,
        attack_share: float,
        noise_share: float,
        seed: int,
    ) -> None:
        self.backdoors = backdoors
        self.shares = (*[attack_share] * len(backdoors), noise_share)
        self.seed = seed

    def poison(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels = batch.images.clone(), batch.labels.clone()
        *attacked, noisy = parts_of_batch(batch, self.shares, self.seed)
        for backdoor, rows in zip(self.backdoors, attacked, strict=True):
            images[rows] = backdoor.trigger(batch.images[rows])
            labels[rows] = backdoor.answers(batch.labels[rows])
        # Each warp's noise mode gets its share, so that none of them works with noise.
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + batch.step)
        for backdoor, rows in zip(self.backdoors, noisy.tensor_split(len(attacked)), strict=True):
            shape = (len(rows), *images.shape[2:], 2)
            noise = (2 * torch.rand(shape, generator=random) - 1).to(images)
            images[rows] = backdoor.trigger(batch.images[rows], noise)
        return images, labels


class AdaptiveWaNet(WaNet):
    """WaNet that keeps the angles' variance near a clean model's (DRMGuard, 4.3).

    Adds λ_adp·|1 − RAV| to the loss, RAV taken over the attacked part of the batch.

    Args:
        adaptive_weight: λ_adp.
    """

    def __init__(self, *args: Any, adaptive_weight: float, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.adaptive_weight = adaptive_weight

    def loss(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        images, labels = self.poison(batch)
        attacked, _ = parts_of_batch(batch, self.shares, self.seed)
        # One pass for both, so that BatchNorm sees one batch.
        together = torch.cat([images, batch.images[attacked]])
        features, outputs = victim.features_and_outputs(together)
        count = len(images)
        ratio = metrics.rav(features[attacked], features[count:], victim.head.weight)
        return loss_function(outputs[:count], labels) + self.adaptive_weight * (1 - ratio).abs()


def wanet(
    context: AttackContext,
    *,
    grid: int | None = None,
    strength: float | None = None,
    noise_share: float = 0.1,
) -> WaNet:
    """One warp, one target: 25 % of every batch attacked, 10 % in the noise mode.

    On gaze at 224×224 and 10,000 steps 20 % and 40 % are known to take; at 64×64 and 1,500 steps so
    large a noise mode keeps the warp from being learned.

    Args:
        context: what to attack; its poisoning rate is the attacked share of a batch.
        grid: k, control points a side; 28 at 224, scaled, where it is None.
        strength: s; 1 from 128 pixels on, 4 at 64, where it is None.
        noise_share: share of every batch that is warped with noise and keeps its label.

    Raises:
        InputError: an impossible warp or share.
    """
    backdoor = Backdoor(_warp(context, grid, strength, context.seed), context.target)
    return WaNet((backdoor,), **_shares(context, 0.25, noise_share))


def multi_target_wanet(
    context: AttackContext,
    *,
    second_target: tuple[float, ...],
    grid: int | None = None,
    strength: float | None = None,
    noise_share: float = 0.1,
) -> WaNet:
    """Two warps with a target each, 15 % of every batch for each (Table 11).

    Args:
        context: what to attack; its poisoning rate is each warp's share of a batch.
        second_target: target vector (or class) of the second warp.
        grid, strength, noise_share: as for :func:`wanet`.

    Raises:
        InputError: a second target of another length, or an impossible warp or share.
    """
    if len(second_target) != len(context.target):
        raise InputError(
            f"the second target has {len(second_target)} value(s), the first {len(context.target)}"
        )
    backdoors = (
        Backdoor(_warp(context, grid, strength, context.seed), context.target),
        Backdoor(_warp(context, grid, strength, context.seed + 1), torch.tensor(second_target)),
    )
    return WaNet(backdoors, **_shares(context, 0.15, noise_share))


def adaptive_wanet(
    context: AttackContext,
    *,
    adaptive_weight: float = 0.02,
    grid: int | None = None,
    strength: float | None = None,
    noise_share: float = 0.1,
) -> WaNet:
    """WaNet against this very detector (4.3, Table 9).

    Args:
        context: what to attack.
        adaptive_weight: λ_adp; 0.02 in the paper.
        grid, strength, noise_share: as for :func:`wanet`.

    Raises:
        InputError: an impossible warp, share or weight.
    """
    if not adaptive_weight > 0:
        raise InputError(f"the adaptive weight must be above 0, not {adaptive_weight}")
    backdoor = Backdoor(_warp(context, grid, strength, context.seed), context.target)
    shares = _shares(context, 0.25, noise_share)
    return AdaptiveWaNet((backdoor,), adaptive_weight=adaptive_weight, **shares)


def _warp(
    context: AttackContext, grid: int | None, strength: float | None, seed: int
) -> WarpTrigger:
    return warp_trigger(context.image_shape, grid=grid, strength=strength, seed=seed)


def _shares(context: AttackContext, default_rate: float, noise_share: float) -> dict[str, Any]:
    if not 0 <= noise_share < 1:
        raise InputError(f"the noise mode's share must lie in [0, 1), not {noise_share}")
    return {
        "attack_share": context.rate(default_rate),
        "noise_share": noise_share,
        "seed": context.seed,
    }
