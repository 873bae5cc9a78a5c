"""Neural Cleanse (Wang et al., 2019), for classifiers and, as DRMGuard's Eq. 8, for regression.

A mask m and a pattern Δ, x' = (1 − m) ⊙ x + m ⊙ Δ, are searched for so that the model gives one
answer to every x' and the mask is small: for each class in turn, or for one target vector y_t
that is searched for along with them.  The weight of the mask follows the goal: it grows while the
goal holds and falls while it does not, and the smallest mask that met the goal is kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.search.passes import images_at_once
from drmguard.tasks import Task
from drmguard.triggers.mask_pattern import MaskPatternTrigger

# Anomaly index above which the smallest mask is a planted one's.
ANOMALOUS = 2.0
# Median absolute deviations to standard deviations, for normal values.
_CONSISTENCY = 1.4826
_FIRST_WEIGHT, _UP, _DOWN, _PATIENCE = 1e-3, 2.0, 2.0**1.5, 5
_EDGE = 1e-7


@dataclass(frozen=True)
class CleanseSettings:
    """Constants of the search; those of the published code but for the stopping.

    Attributes:
        steps, images: optimiser steps, and images a step for each target.
        learning_rate: of Adam (0.5, 0.9).
        goal_hits: share of the images that must give the class.
        goal_error: regression: mean |y_t − f(x')| in clean standard deviations at most.
    """

    steps: int = 1000
    images: int = 32
    learning_rate: float = 0.1
    goal_hits: float = 0.99
    goal_error: float = 0.1


@dataclass(frozen=True)
class Cleansed:
    """The smallest mask for one target.

    Attributes:
        number: of the class; 0 for a regression's target vector.
        trigger: mask and pattern.
        target: regression: y_t, standardised by the clean responses (d,); else None.
        norm: Σ m.
        reached: whether any step met the goal; if none did, the last mask stands here.
    """

    number: int
    trigger: MaskPatternTrigger
    target: Tensor | None
    norm: float
    reached: bool

    @property
    def share(self) -> float:
        """The mask's norm over the number of pixels."""
        return self.norm / self.trigger.mask.numel()


def anomaly_index(norms: list[float]) -> float:
    """Deviations by which the smallest norm lies under the median: (median − min) / (1.4826 MAD).

    0 where all norms are the same.
    """
    median = statistics.median(norms)
    spread = _CONSISTENCY * statistics.median(abs(norm - median) for norm in norms)
    below = median - min(norms)
    if spread == 0:
        return float("inf") if below > 0 else 0.0
    return below / spread


class _Masks(nn.Module):
    """K masks, patterns and targets, with the state of their weights."""

    weight: Tensor
    held: Tensor
    missed: Tensor
    best_norm: Tensor
    best_mask: Tensor
    best_pattern: Tensor
    best_target: Tensor

    def __init__(self, count: int, image_shape: tuple[int, ...], outputs: int, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        channels, height, width = image_shape
        self.mask_raw = nn.Parameter(
            _unsquash(torch.rand(count, 1, height, width, generator=random))
        )
        self.pattern_raw = nn.Parameter(
            _unsquash(torch.rand(count, channels, height, width, generator=random))
        )
        self.target = nn.Parameter(torch.zeros(count, outputs))
        self.register_buffer("weight", torch.zeros(count))
        self.register_buffer("held", torch.zeros(count, dtype=torch.long))
        self.register_buffer("missed", torch.zeros(count, dtype=torch.long))
        self.register_buffer("best_norm", torch.full((count,), torch.inf))
        self.register_buffer("best_mask", self.mask().detach().clone())
        self.register_buffer("best_pattern", self.pattern().detach().clone())
        self.register_buffer("best_target", torch.zeros(count, outputs))

    def mask(self) -> Tensor:
        """(K, 1, H, W) in [0, 1]."""
        return _squash(self.mask_raw)

    def pattern(self) -> Tensor:
        """(K, C, H, W) in [0, 1]."""
        return _squash(self.pattern_raw)

    @torch.no_grad()
    def keep(self, met: Tensor) -> None:
        """Remember the smallest masks that met the goal (K,), or the latest where none has yet."""
        mask = self.mask()
        norm = mask.sum((1, 2, 3))
        better = met & (norm < self.best_norm)
        take = better | self.best_norm.isinf()
        self.best_norm[better] = norm[better]
        self.best_mask[take] = mask[take]
        self.best_pattern[take] = self.pattern()[take]
        self.best_target[take] = self.target[take]

    @torch.no_grad()
    def follow(self, met: Tensor) -> None:
        """Let the weights follow the goal."""
        off = self.weight == 0
        self.held = torch.where(met, self.held + 1, 0)
        self.missed = torch.where(met, 0, self.missed + 1)
        start = off & (self.held >= _PATIENCE)
        up = ~off & (self.held >= _PATIENCE)
        down = ~off & (self.missed >= _PATIENCE)
        self.weight[start] = _FIRST_WEIGHT
        self.weight[up] *= _UP
        self.weight[down] /= _DOWN
        self.held[start | up] = 0
        self.missed[down] = 0


def _squash(raw: Tensor) -> Tensor:
    return raw.tanh() / (2 - _EDGE) + 0.5


def _unsquash(values: Tensor) -> Tensor:
    return torch.atanh((values - 0.5) * (2 - _EDGE))


class _Cleanse(Objective):
    """Eq. 8 for every target at once."""

    def __init__(
        self, masks: _Masks, victim: Victim, task: Task, benign: Benign, settings: CleanseSettings
    ) -> None:
        self.masks, self.victim, self.task, self.benign = masks, victim, task, benign
        self.settings = settings
        channels, height, width = benign.images.shape[1:]
        self.at_once = images_at_once((channels, height, width))
        self._met = torch.zeros(len(masks.weight), dtype=torch.bool, device=masks.weight.device)

    @property
    def trainable(self) -> nn.Module:
        return self.masks

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self.masks.parameters()), "lr": self.settings.learning_rate}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self.benign.images[rows]
        some = max(1, self.at_once // len(images))
        for part in torch.arange(len(self._met), device=images.device).split(some):
            mask, pattern = self.masks.mask()[part, None], self.masks.pattern()[part, None]
            stamped = (images + mask * (pattern - images)).flatten(0, 1)
            outputs = self.victim(stamped.contiguous(memory_format=torch.channels_last))
            outputs = outputs.unflatten(0, (len(part), -1))
            fit, self._met[part] = self._fit(outputs, part)
            norm = mask.sum((1, 2, 3, 4))
            yield (fit + self.masks.weight[part] * norm).sum(), self._figures(outputs, part, norm)
        self.masks.keep(self._met)  # before the step changes the masks that were judged

    def _fit(self, outputs: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """What keeps the outputs (k, n, d) from the targets (k,), and whether the goal is met."""
        if self.task.is_regression:
            error = (
                (self.benign.standardise(outputs) - self.masks.target[part, None])
                .abs()
                .mean((1, 2))
            )
            return error, error.detach() <= self.settings.goal_error
        wanted = part[:, None].expand(-1, outputs.shape[1])
        loss = nn.functional.cross_entropy(
            outputs.flatten(0, 1), wanted.flatten(), reduction="none"
        ).unflatten(0, wanted.shape)
        hits = (outputs.argmax(2) == wanted).float().mean(1)
        return loss.mean(1), hits >= self.settings.goal_hits

    def _figures(self, outputs: Tensor, part: Tensor, norm: Tensor) -> dict[str, float]:
        if int(part[0]) != 0:
            return {}
        figures = {"norm": float(norm[0].detach())}
        if self.task.is_regression:
            figures |= traced_target(self.masks.target[0].detach())
            standardised = self.benign.standardise(outputs[0].detach())
            figures["left"] = float(standardised.var(0, correction=0).mean())
        return figures

    def after_step(self) -> None:
        self.masks.follow(self._met)


def search_cleanse(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: CleanseSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> tuple[list[Cleansed], list[dict[str, float]]]:
    """The smallest mask for every class, or for the one target of a regression; and the trace."""
    shape = tuple(benign.images.shape[1:])
    outputs = benign.standardised.shape[1]
    count = 1 if task.is_regression else outputs
    masks = _Masks(count, shape, outputs, seed).to(benign.images.device)
    name = "Neural Cleanse"
    run = optimise(
        _Cleanse(masks, victim, task, benign, settings),
        victim=victim,
        count=len(benign.images),
        batch_size=settings.images,
        steps=settings.steps,
        seed=seed,
        betas=(0.5, 0.9),
        name=name,
        checkpoint=checkpoints.stage(name) if checkpoints else None,
        progress=progress,
    )
    found = [
        Cleansed(
            number=k,
            trigger=MaskPatternTrigger(masks.best_mask[k].clone(), masks.best_pattern[k].clone()),
            target=masks.best_target[k].clone() if task.is_regression else None,
            norm=float(masks.best_mask[k].sum()),
            reached=bool(masks.best_norm[k].isfinite()),
        )
        for k in range(count)
    ]
    return found, run.trace
