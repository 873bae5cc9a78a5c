"""MESA: the max-entropy staircase approximator (arXiv 1910.04749).

Valid triggers of a backdoored model form a distribution.  For each level β of the attack's success
a generator G_β is trained for

    max  h(G_β(Z))   subject to   E F(x ⊕ G_β(Z)) ≥ β

as the minimum of −α·I(G_β(Z); Z) + max(0, β − F): F is the success of images stamped at random
places (:mod:`~drmguard.search.testing`), the entropy an estimate of the mutual information
(:mod:`~drmguard.search.mutual_information`).  Together the levels are a staircase under the success
function, sampled as one distribution: level β_i has the weight (β_i − β_{i−1})·exp h_i, the height
of its step times the volume that its triggers fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoints
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.loop import Objective, Progress, optimise
from drmguard.search.mutual_information import StatisticsNetwork
from drmguard.search.testing import Success
from drmguard.triggers.distribution import NOISE, PatchGenerator, TriggerDistribution
from drmguard.triggers.placing import paste, random_places


@dataclass(frozen=True)
class MesaSettings:
    """How to model the distribution; the constants are MESA's own.

    Attributes:
        size: (height, width) of the triggers.
        levels: β, rising.
        entropy_weight: α.
        testing: penalise the mean success below β, or the mean cross-entropy above −log β.
        opacity: triggers of any shape, with a learned opacity a pixel.
        place: (row, column) of all triggers; None places them at random, anew for every image.
        steps, batch_size, learning_rate: of Adam.
        hidden: units of the generators' and the statistics network's layers.
        average_rate: of the moving average in the gradient of the mutual information.
        measured: images on which success is measured, at most.
    """

    size: tuple[int, int] = (3, 3)
    levels: tuple[float, ...] = (0.5, 0.8, 0.9)
    entropy_weight: float = 0.1
    testing: Literal["probability", "cross-entropy"] = "probability"
    opacity: bool = False
    place: tuple[int, int] | None = None
    steps: int = 620
    batch_size: int = 128
    learning_rate: float = 2e-4
    hidden: int = 512
    average_rate: float = 0.001
    measured: int = 256

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0.0, *self.levels), (*self.levels, 1.0), strict=True))
        if not self.levels or not rising:
            raise InputError(f"the levels must rise between 0 and 1, not {self.levels}")
        if min(self.size) < 1:
            raise InputError(f"the triggers' size must be at least 1×1, not {self.size}")


@dataclass(frozen=True)
class Level:
    """What one level found.

    Attributes:
        beta: the success asked for.
        success: mean success of its triggers on clean images that are not at the target.
        hits: share of such images that give the target.
        entropy: estimate of h, in nats.
    """

    beta: float
    success: float
    hits: float
    entropy: float


@dataclass(frozen=True)
class MesaResult:
    """The distribution of valid triggers for one target.

    Attributes:
        distribution: the staircase ensemble.
        levels: its generators' figures, in its order.
        hits: share of images that give the target under the ensemble.
        trace: a row of figures a step.
    """

    distribution: TriggerDistribution
    levels: tuple[Level, ...]
    hits: float
    trace: list[dict[str, float]]


class _Staircase(Objective):
    """All levels at once, each with a generator and a statistics network of its own."""

    def __init__(
        self,
        victim: Victim,
        success: Success,
        images: Tensor,
        settings: MesaSettings,
        start: Tensor | None,
        seed: int,
    ) -> None:
        self.victim, self.success, self.images = victim, success, images
        self.settings, self.seed = settings, seed
        channels = images.shape[1] + settings.opacity
        shape = (channels, *settings.size)
        elements = channels * settings.size[0] * settings.size[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generators = nn.ModuleList(
                PatchGenerator(shape, settings.hidden) for _ in settings.levels
            )
            if start is not None:
                for generator in self.generators:
                    generator.start_at(start)  # type: ignore[operator]
            self.statistics = nn.ModuleList(
                StatisticsNetwork(NOISE, elements, settings.hidden) for _ in settings.levels
            )
        self._trainable = nn.ModuleDict({"g": self.generators, "t": self.statistics})
        self._trainable.to(images.device)

    @property
    def trainable(self) -> nn.Module:
        return self._trainable

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self._trainable.parameters()), "lr": self.settings.learning_rate}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images, settings = self.images[rows], self.settings
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        for number, beta in enumerate(settings.levels):
            noise, other = torch.randn(2, len(images), NOISE, generator=random).to(images.device)
            patches = self.generators[number](noise)
            statistics = self.statistics[number]
            assert isinstance(statistics, StatisticsNetwork)
            information, bound = statistics.information(
                noise, patches.flatten(1), other, rate=settings.average_rate
            )
            succeeded = self.success.of(self.victim(_stamped(images, patches, settings, random)))
            if settings.testing == "probability":
                missing = (beta - succeeded.mean()).clamp(min=0)
            else:
                missing = (succeeded.clamp(min=1e-6).log().mean().neg() + _log(beta)).clamp(min=0)
            yield (
                missing - settings.entropy_weight * information,
                {
                    f"{number}.success": float(succeeded.detach().mean()),
                    f"{number}.entropy": float(bound),
                },
            )


def _log(beta: float) -> Tensor:
    return torch.tensor(beta).log()


def _stamped(
    images: Tensor, patches: Tensor, settings: MesaSettings, random: torch.Generator
) -> Tensor:
    if settings.place is None:
        top, left = random_places(images, *settings.size, random)
    else:
        top, left = (
            torch.full((len(images),), start, device=images.device) for start in settings.place
        )
    return paste(images, patches, top, left)


def search_distribution(
    victim: Victim,
    success: Success,
    settings: MesaSettings,
    start: Tensor | None = None,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    name: str = "modelling triggers",
) -> MesaResult:
    """Model the distribution of triggers that send clean images to ``success``'s target.

    Args:
        victim: frozen, with outputs (N, d).
        success: what counts as success; its clean images that already give the target are not used.
        settings: how to search.
        start: a patch that succeeds, around which the generators begin; None begins anywhere.
        seed: of everything random.
        checkpoints, progress: as for every search.
        name: of the stage.

    Raises:
        InputError: every clean image gives the target already.
    """
    clean = success.benign.images
    with torch.no_grad():
        outputs = torch.cat([victim(chunk) for chunk in clean.split(128)])
    rows = success.elsewhere(outputs)
    if len(rows) < 2:
        raise InputError("every clean image gives the target already, so no trigger can show")
    images = clean[rows]
    staircase = _Staircase(victim, success, images, settings, start, seed)
    staircase.trainable.train()
    run = optimise(
        staircase,
        victim=victim,
        count=len(images),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
        betas=(0.5, 0.999),
        name=name,
        checkpoint=checkpoints.stage(name) if checkpoints else None,
        progress=progress,
    )
    staircase.trainable.eval()
    return _measured(staircase, run.trace)


# Entropies are the mean of so many last steps' bounds; one batch's bound is noisy.
_AVERAGED = 50


@torch.no_grad()
def _measured(staircase: _Staircase, trace: list[dict[str, float]]) -> MesaResult:
    settings = staircase.settings
    images = staircase.images[: settings.measured]
    levels, heights, below = [], [], 0.0
    for number, beta in enumerate(settings.levels):
        generator = staircase.generators[number]
        assert isinstance(generator, PatchGenerator)
        alone = TriggerDistribution([generator], torch.ones(1), settings.place, staircase.seed)
        outputs = torch.cat([staircase.victim(alone(c)) for c in images.split(128)])
        last = [row[f"{number}.entropy"] for row in trace[-_AVERAGED:]]
        entropy = sum(last) / len(last)
        levels.append(
            Level(
                beta=beta,
                success=float(staircase.success.of(outputs).mean()),
                hits=float(staircase.success.hits(outputs).float().mean()),
                entropy=entropy,
            )
        )
        heights.append(torch.tensor(beta - below).log() + entropy)
        below = beta
    weights = torch.stack(heights).softmax(0)
    ensemble = TriggerDistribution(
        [g for g in staircase.generators if isinstance(g, PatchGenerator)],
        weights.to(images.device),
        settings.place,
        staircase.seed,
    ).eval()
    outputs = torch.cat([staircase.victim(ensemble(c)) for c in images.split(128)])
    hits = float(staircase.success.hits(outputs).float().mean())
    return MesaResult(ensemble, tuple(levels), hits, trace)
