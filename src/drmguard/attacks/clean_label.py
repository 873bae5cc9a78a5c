"""Clean Label (Turner et al., 2019), adapted to regression as DRMGuard does.

Only images whose label lies near the target are touched: half of them are made hard by an
adversarial perturbation, all of them carry the trigger, and their label becomes the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drmguard.attacks.attack import AttackContext, Backdoor, FixedPoisoning
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Task, loss
from drmguard.training import Batch
from drmguard.triggers.patch import patch_trigger


class CleanLabel(FixedPoisoning):
    """Poisoning of the target group, half of it with adversarial images.

    Args:
        backdoor: trigger and target.
        group: which training images belong to the target group, bool (N,).
        adversarial: row number to adversarial image, uint8 (C, H, W).
        radius: distance of the group's farthest label from the target.
    """

    def __init__(
        self,
        backdoor: Backdoor,
        group: NDArray[np.bool_],
        adversarial: dict[int, NDArray[np.uint8]],
        radius: float,
    ) -> None:
        super().__init__(backdoor, group)
        self.adversarial = adversarial
        self.radius = radius

    def before_trigger(self, batch: Batch) -> Tensor:
        images = batch.images.clone()
        for place, row in enumerate(batch.rows):
            hard = self.adversarial.get(int(row))
            if hard is not None:
                images[place] = torch.from_numpy(hard).to(images) / 255
        return images

    def found(self) -> dict[str, Any]:
        """Size and radius δ of the target group."""
        return {"group_images": int(self.poisoned.sum()), "group_radius": self.radius}


def clean_label(
    context: AttackContext,
    *,
    radius: float | None = None,
    epsilon: float = 16 / 255,
    pgd_steps: int = 40,
    place: str = "bottom-right",
    side: int | None = None,
    color: tuple[float, ...] | None = None,
) -> FixedPoisoning:
    """Patch the images whose label is near the target; half of them are made adversarial first.

    Args:
        context: what to attack; its poisoning rate is the size of the target group, the nearest
            10 % of the training set where it is None.  For classification the group is drawn
            from the target class.
        radius: δ: the group is ‖y − y_T‖ ≤ δ in the task's unit instead.
        epsilon: L∞ bound of the perturbation; steps are 1.5/8 of it, as in the reference.  With
            the reference's 8/255 the trigger was learned only in part at 64×64.
        pgd_steps: steps of projected gradient ascent on a surrogate's loss.
        place, side, color: of the patch, as in BadNets.

    Raises:
        InputError: a group without images, no surrogate, or an impossible patch.
    """
    group, reached = _target_group(context, radius)
    if context.train_clean is None:
        raise InputError("the clean-label attack needs a clean surrogate model")
    rows = np.flatnonzero(group)
    hard = np.sort(np.random.default_rng(context.seed).permutation(rows)[: len(rows) // 2])
    perturbed = projected_gradient_ascent(
        context.train_clean(),
        context.task,
        context.train_set.subset(hard),
        epsilon=epsilon,
        steps=pgd_steps,
        progress=context.progress,
    )
    trigger = patch_trigger(context.image_shape, place=place, side=side, color=color)
    return CleanLabel(
        Backdoor(trigger, context.target),
        group,
        dict(zip(hard.tolist(), perturbed, strict=True)),
        reached,
    )


def _target_group(context: AttackContext, radius: float | None) -> tuple[NDArray[np.bool_], float]:
    labels, target = context.train_set.labels, context.target.numpy()
    distance = np.linalg.norm(labels - target, axis=1)
    if not context.task.is_regression:
        candidates = np.flatnonzero(distance == 0)
        wanted = min(len(candidates), round(context.rate(0.1) * len(labels)))
        chosen = np.random.default_rng(context.seed).permutation(candidates)[:wanted]
    elif radius is not None:
        chosen = np.flatnonzero(distance <= radius)
    else:
        chosen = np.argsort(distance, kind="stable")[: round(context.rate(0.1) * len(labels))]
    if len(chosen) < 2:
        raise InputError(
            f"only {len(chosen)} training image(s) have a label near the target; choose a target "
            "that occurs, a larger radius or a higher poisoning rate"
        )
    group = np.zeros(len(labels), dtype=np.bool_)
    group[chosen] = True
    return group, float(distance[chosen].max())


def projected_gradient_ascent(
    surrogate: Victim,
    task: Task,
    images: ImageSet,
    *,
    epsilon: float,
    steps: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Raise a model's loss on images within an L∞ ball (Madry et al., 2018): uint8 (N, C, H, W).

    Raises:
        InputError: a ball without room, or no steps.
    """
    if not 0 < epsilon <= 1 or steps < 1:
        raise InputError(f"PGD needs an epsilon in (0, 1] and steps, not {epsilon} and {steps}")
    model = surrogate.frozen()
    size = 64
    total, results = -(-len(images) // size), []
    for number, (clean, labels) in enumerate(images.batches(size)):
        hard = clean.clone()
        for _ in range(steps):
            hard.requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(task.loss_name, model(hard), labels), hard)
            with torch.no_grad():
                hard = hard + 1.5 / 8 * epsilon * gradient.sign()
                hard = clean + (hard - clean).clamp(-epsilon, epsilon)
                hard = hard.clamp(0, 1)
        results.append((hard * 255).round().byte().numpy())
        if progress is not None:
            progress("making adversarial images", number + 1, total)
    return np.concatenate(results)
