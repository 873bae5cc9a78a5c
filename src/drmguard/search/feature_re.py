"""FeatureRE (Wang et al., 2022), for classifiers and, as DRMGuard's Eq. 9, for regression.

The trigger is sought in feature space: a generator G and a mask m on the features such that the
features t = mean(m ⊙ F(G(x))), pasted into those of any clean image, decide the answer, while G(x)
stays near x, few features are masked and they hardly vary from image to image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.tasks import Task
from drmguard.triggers.generator import ResidualGenerator

# Weight of what exceeds a bound, as a share of the bound (published code).
_EXCESS = 10.0
_CHUNK = 64


@dataclass(frozen=True)
class FeatureSettings:
    """Constants of the search; bounds and rates are those of the published code.

    Its generator is a U-Net trained to the identity first; ours starts as the identity.  Its bound
    on the image is in normalised pixels, whose deviation is about a fifth of the range.

    Attributes:
        steps, images: optimiser steps a target, and images a step.
        generator_rate, mask_rate: of Adam (0.5, 0.9).
        image_weight: λ3, on mean |G(x) − x|.
        image_bound: mean squared change of a pixel at most.
        scatter_bound: τ1, standard deviation of the masked features, in that of clean ones.
        mask_bound: τ2, share of the features in the mask.
    """

    steps: int = 400
    images: int = 32
    generator_rate: float = 1e-3
    mask_rate: float = 0.1
    image_weight: float = 1.0
    image_bound: float = 0.15 / 25
    scatter_bound: float = 1.0
    mask_bound: float = 0.03


@dataclass(frozen=True)
class FeatureTrigger:
    """What was found for one target.

    Attributes:
        number: of the class; 0 for a regression's target vector.
        trigger: G.
        target: mean answer with the features pasted, standardised (d,).
        missed: regression: mean |y_t − answer| in clean standard deviations; classifiers: share of
            answers that are not the class.
        excess: by how much the bounds are exceeded in all, as shares of them.
    """

    number: int
    trigger: ResidualGenerator
    target: Tensor
    missed: float
    excess: float

    @property
    def score(self) -> float:
        """What is missed plus what exceeds the bounds: the smaller, the more suspicious."""
        return self.missed + self.excess


class _FeatureSearch(nn.Module):
    """Generator, mask on the features and target vector."""

    def __init__(
        self, image_shape: tuple[int, int, int], features: int, outputs: int, seed: int
    ) -> None:
        super().__init__()
        self.generator = ResidualGenerator(image_shape, seed=seed)
        # As published: tanh(1) / 2 + 0.5 = 0.88 of every feature at first.
        self.mask_raw = nn.Parameter(torch.ones(features))
        self.target = nn.Parameter(torch.zeros(outputs))

    def mask(self) -> Tensor:
        """(m,) in [0, 1]."""
        return self.mask_raw.tanh() / 2 + 0.5


@dataclass(frozen=True)
class _Pasted:
    """A batch with the trigger's features: outputs (n, d), and what is bounded."""

    outputs: Tensor
    change: Tensor
    excess: Tensor


class _FeatureRE(Objective):
    """Eq. 9 for one target."""

    def __init__(
        self,
        search: _FeatureSearch,
        number: int,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: FeatureSettings,
        clean: Tensor,
    ) -> None:
        self.search, self.number = search, number
        self.victim, self.task, self.benign, self.settings = victim, task, benign, settings
        self.clean = clean  # features of the benign images, (N, m)
        self.spread = clean.std(0, correction=0).mean().clamp(min=1e-9)

    @property
    def trainable(self) -> nn.Module:
        return self.search

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        settings = self.settings
        return [
            {"params": list(self.search.generator.parameters()), "lr": settings.generator_rate},
            {"params": [self.search.mask_raw, self.search.target], "lr": settings.mask_rate},
        ]

    def paste(self, rows: Tensor) -> _Pasted:
        """Paste the mean masked features of G(x) into the clean features of these rows."""
        images = self.benign.images[rows]
        generated = self.search.generator(images)
        features, _ = self.victim.features_and_outputs(generated)
        mask, settings = self.search.mask(), self.settings
        pasted = (1 - mask) * self.clean[rows] + (mask * features).mean(0)
        scatter = (mask * features).std(0, correction=0).sum() / mask.sum() / self.spread
        change = generated - images
        excess = torch.stack(
            [
                change.square().mean() / settings.image_bound - 1,
                scatter / settings.scatter_bound - 1,
                mask.mean() / settings.mask_bound - 1,
            ]
        ).clamp(min=0)
        return _Pasted(self.victim.head(pasted), change.abs().mean(), excess.sum())

    def fit(self, outputs: Tensor) -> Tensor:
        """What keeps the outputs (n, d) from the target."""
        if self.task.is_regression:
            return (self.standardised(outputs) - self.search.target).abs().mean()
        wanted = torch.full((len(outputs),), self.number, device=outputs.device)
        return nn.functional.cross_entropy(outputs, wanted)

    def standardised(self, outputs: Tensor) -> Tensor:
        """Responses in clean standard deviations from the clean mean."""
        return self.benign.standardise(self.task.responses(outputs))

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        pasted = self.paste(rows)
        fit = self.fit(pasted.outputs)
        loss = fit + self.settings.image_weight * pasted.change + _EXCESS * pasted.excess
        answers = self.standardised(pasted.outputs).detach()
        figures = {"loss": float(loss.detach()), "left": float(answers.var(0, correction=0).mean())}
        yield loss, figures | traced_target(answers.mean(0))

    @torch.no_grad()
    def measured(self) -> FeatureTrigger:
        """The result on all clean images."""
        pasted = self.paste(torch.arange(len(self.benign.images)))
        if self.task.is_regression:
            missed = float(self.fit(pasted.outputs))
        else:
            missed = float((pasted.outputs.argmax(1) != self.number).float().mean())
        return FeatureTrigger(
            number=self.number,
            trigger=self.search.generator.eval(),
            target=self.standardised(pasted.outputs).mean(0),
            missed=missed,
            excess=float(pasted.excess),
        )


def search_features(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: FeatureSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> tuple[list[FeatureTrigger], list[dict[str, float]]]:
    """A trigger for every class, or for the one target of a regression; the trace of the best.

    Raises:
        InputError: the last linear layer is not known.
    """
    channels, height, width = benign.images.shape[1:]
    outputs = benign.standardised.shape[1]
    clean, _ = victim.evaluate(list(benign.images.split(_CHUNK)))
    found, traces = [], []
    for number in range(1 if task.is_regression else outputs):
        search = _FeatureSearch(
            (channels, height, width), victim.head.in_features, outputs, seed + number
        ).to(benign.images.device)
        objective = _FeatureRE(search, number, victim, task, benign, settings, clean)
        name = "FeatureRE" if task.is_regression else f"FeatureRE, class {number}"
        run = optimise(
            objective,
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
        found.append(objective.measured())
        traces.append(run.trace)
    best = min(range(len(found)), key=lambda k: found[k].score)
    return found, traces[best]
