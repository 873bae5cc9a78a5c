"""DRMGuard (arXiv 2411.04811): one generator, searched for with Eq. 5 under the attention map.

minimise  λ1·mean_j var_i f_j(x'_i) + mean_i ‖x'_i − x_i‖_1
          + λ2·mean_j var_i B(F(x'_i), w_j) / var_i B(F(x_i), w_j)
with      x' = G(x) ⊙ (1 − T(x)) + x ⊙ T(x)                                        (Eq. 5, 7)

The published constants belong to 224×224×3 inputs, where the perturbation is a sum over 150,528
elements.  Here it is the mean over elements and λ1 and λ2 are divided by 150,528, so that one
setting serves every size.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from drmguard import metrics
from drmguard.arguments import checked_arguments
from drmguard.atomic import write_atomically
from drmguard.checkpoint import Checkpoint, Checkpoints
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.attention import attention_maps
from drmguard.search.benign import Benign, Response, respond
from drmguard.search.loop import Objective, Progress, optimise, traced_target
from drmguard.tasks import Classification, HeadPose, Regression, Task
from drmguard.triggers.generator import InputAwareGenerator, ResidualGenerator

PUBLISHED_ELEMENTS = 224 * 224 * 3
EPSILON = 0.03
_CHUNK = 64


@dataclass(frozen=True)
class GeneratorSettings:
    """Constants of one generator search.

    Attributes:
        generator: ``input-aware``, the paper's, pre-trained as the identity; or ``residual``,
            which starts as the identity.
        output_weight: λ1, on the outputs' variance.
        angle_weight: λ2, on the ratio of angle variance; 0 leaves the term out (Table 8).
        standardised: whether the outputs are in clean standard deviations in the first term;
            the paper's constants belong to radians (gaze) and degrees (head pose).
        attention: whether the attention map is used (Table 8).
        pretrain_steps: steps of the identity pre-training.
        steps, batch_size, learning_rate: of the search.
        patience: stop early once the loss has not fallen by 1 % in so many steps; 0 never does.
    """

    generator: Literal["input-aware", "residual"]
    output_weight: float = 20.0
    angle_weight: float = 800.0
    standardised: bool = False
    attention: bool = True
    pretrain_steps: int = 0
    steps: int = 2000
    batch_size: int = 50
    learning_rate: float = 1.5e-3
    patience: int = 0

    def __post_init__(self) -> None:
        if min(self.output_weight, self.angle_weight) < 0 or self.learning_rate <= 0:
            raise InputError(
                "the weights of DRMGuard's generator must be 0 or more and its learning rate above "
                f"0, not {self.output_weight}, {self.angle_weight} and {self.learning_rate}"
            )
        if self.steps < 1 or self.batch_size < 2 or min(self.pretrain_steps, self.patience) < 0:
            raise InputError(
                "DRMGuard's generator needs at least 1 step and 2 images a batch, not "
                f"{self.steps} and {self.batch_size}"
            )

    def changed(self, constants: Mapping[str, Any]) -> GeneratorSettings:
        """The same with some constants replaced by name, for ablations.

        Raises:
            InputError: no such constant, or a value that it cannot have.
        """
        arguments = {**dataclasses.asdict(self), **constants}
        return GeneratorSettings(
            **checked_arguments("DRMGuard's generator", GeneratorSettings, arguments)
        )


def paper_settings(task: Task) -> GeneratorSettings:
    """The paper's constants (4.1, A.10): its own for gaze and head pose.

    Other tasks take those of gaze with standardised outputs, since λ1 depends on the unit;
    classification has no angle term (A.9), so λ1 takes λ2's place.
    """
    common: dict[str, Any] = {"generator": "input-aware", "pretrain_steps": 5000}
    if isinstance(task, HeadPose):
        return GeneratorSettings(
            output_weight=10, angle_weight=100, batch_size=100, learning_rate=1e-4, **common
        )
    if isinstance(task, Classification):
        return GeneratorSettings(output_weight=800, angle_weight=0, standardised=True, **common)
    return GeneratorSettings(standardised=isinstance(task, Regression), **common)


def fast_settings(task: Task, *, large: bool = False) -> GeneratorSettings:
    """The same objective from a generator that starts as the identity, in far fewer steps.

    ``large`` images, whose passes cost more, take fewer still.
    """
    paper = paper_settings(task)
    return GeneratorSettings(
        generator="residual",
        output_weight=paper.output_weight,
        angle_weight=paper.angle_weight,
        standardised=paper.standardised,
        steps=40 if large else 150,
        batch_size=8 if large else 16,
        learning_rate=5e-3,
        patience=40,
    )


@dataclass(frozen=True)
class GeneratorResult:
    """What one generator search found.

    Attributes:
        generator: G_θ.
        reverse: row numbers of the clean images to their reversed poisoned images x'.
        perturbation: mean |x' − x| over elements, averaged over the clean images.
        largest_image: max over clean images of the mean of |x|.
        objective: Eq. 5 over all clean images, in the paper's units (224×224×3).
        variance_ratio: mean_j var f_j(x') / var f_j(x).
        rav: ratio of angle variance, or None where H is not known.
        target: mean response, standardised by the clean ones (d,).
        trace: figures of each step.
    """

    generator: nn.Module
    reverse: Callable[[Tensor], Tensor]
    perturbation: float
    largest_image: float
    objective: float
    variance_ratio: float
    rav: float | None
    target: Tensor
    trace: list[dict[str, float]]

    @property
    def relative_perturbation(self) -> float:
        """The paper's score: mean ‖x' − x‖_1 over max ‖x‖_1, to compare with ε = 0.03."""
        return self.perturbation / self.largest_image


class _GeneratorObjective(Objective):
    """Eq. 5 with Eq. 7 for one generator."""

    def __init__(
        self,
        generator: nn.Module,
        victim: Victim,
        task: Task,
        benign: Benign,
        settings: GeneratorSettings,
    ) -> None:
        self.generator, self.victim, self.task = generator, victim, task
        self.benign, self.settings = benign, settings
        images = benign.images
        self.attention = (
            attention_maps(victim, task, images)
            if settings.attention
            else torch.zeros_like(images[:, :1])
        )
        self._unit = torch.ones_like(benign.spread) if settings.standardised else benign.spread

    @property
    def trainable(self) -> nn.Module:
        return self.generator

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self.generator.parameters()), "lr": self.settings.learning_rate}]

    def rate(self, step: int) -> float:
        # Adam's steps are as large as its rate, and every one of them costs perturbation.
        falls = self.settings.generator == "residual"
        return 1.0 - 0.95 * step / self.settings.steps if falls else 1.0

    def settled(self, trace: list[dict[str, float]]) -> bool:
        patience = self.settings.patience
        if not patience or len(trace) < 2 * patience:
            return False
        before = min(figures["loss"] for figures in trace[:-patience])
        return min(figures["loss"] for figures in trace[-patience:]) > 0.99 * before

    def reverse(self, rows: Tensor) -> Tensor:
        """Reversed poisoned images x' of these rows (Eq. 7)."""
        images, attention = self.benign.images[rows], self.attention[rows]
        generated: Tensor = self.generator(images)
        return generated * (1 - attention) + images * attention

    def terms(self, perturbation: Tensor, response: Response) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, in mean pixel values, its output variance ratio and its RAV."""
        outputs = metrics.variance(response.standardised)
        output_term = self.settings.output_weight * (outputs * self._unit.square()).mean()
        rav = torch.zeros(())
        if response.angles is not None and self.benign.angle_variance is not None:
            rav = metrics.rav_of_angles(response.angles, self.benign.angle_variance)
        collapse = output_term + self.settings.angle_weight * rav
        return perturbation + collapse / PUBLISHED_ELEMENTS, outputs.mean(), rav

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        reversed_images = self.reverse(rows)
        perturbation = (reversed_images - self.benign.images[rows]).abs().mean()
        response = respond(self.victim, self.task, self.benign, reversed_images)
        loss, outputs, rav = self.terms(perturbation, response)
        figures = {
            "loss": loss.item(),
            "perturbation": perturbation.item(),
            "left": outputs.item(),
            "rav": rav.item(),
        }
        yield loss, figures | traced_target(response.standardised.mean(0))


def search_generator(
    victim: Victim,
    task: Task,
    benign: Benign,
    settings: GeneratorSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> GeneratorResult:
    """Run DRMGuard's search and measure its result on all of ``benign``'s images."""
    images = benign.images
    generator: nn.Module
    if settings.generator == "residual":
        channels, height, width = images.shape[1:]
        generator = ResidualGenerator((channels, height, width), seed=seed).to(images.device)
    else:
        generator = pretrained_generator(images, settings, seed=seed, progress=progress)
    objective = _GeneratorObjective(generator.train(), victim, task, benign, settings)
    run = optimise(
        objective,
        victim=victim,
        count=len(images),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
        name="reversing a trigger",
        checkpoint=checkpoints.stage("generator") if checkpoints else None,
        progress=progress,
    )
    generator.eval()
    return _measure(objective, run.trace)


@torch.no_grad()
def _measure(objective: _GeneratorObjective, trace: list[dict[str, float]]) -> GeneratorResult:
    images = objective.benign.images
    outputs, angles, change = [], [], 0.0
    for rows in torch.arange(len(images)).split(_CHUNK):
        reversed_images = objective.reverse(rows)
        response = respond(objective.victim, objective.task, objective.benign, reversed_images)
        outputs.append(response.standardised)
        if response.angles is not None:
            angles.append(response.angles)
        change += float((reversed_images - images[rows]).abs().sum())
    whole = Response(torch.cat(outputs), torch.cat(angles) if angles else None)
    perturbation = change / images.numel()
    loss, left, rav = objective.terms(torch.tensor(perturbation), whole)
    return GeneratorResult(
        generator=objective.generator,
        reverse=objective.reverse,
        perturbation=perturbation,
        largest_image=float(images.mean((1, 2, 3)).max()),
        objective=float(loss) * PUBLISHED_ELEMENTS,
        variance_ratio=float(left),
        rav=float(rav) if angles else None,
        target=whole.standardised.mean(0),
        trace=trace,
    )


class _Identity(Objective):
    """Pre-training of the paper's generator: reproduce the clean images (mean absolute error)."""

    def __init__(self, generator: nn.Module, images: Tensor, learning_rate: float) -> None:
        self._generator, self._images, self._rate = generator, images, learning_rate

    @property
    def trainable(self) -> nn.Module:
        return self._generator

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self._generator.parameters()), "lr": self._rate}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self._images[rows]
        error = (self._generator(images) - images).abs().mean()
        yield error, {"loss": error.item()}


def pretrained_generator(
    images: Tensor,
    settings: GeneratorSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> InputAwareGenerator:
    """The paper's generator, pre-trained as the identity on the clean images.

    It depends on no model, so it is kept in the user's cache folder under a hash of the images
    and settings, with a checkpoint that a stopped pre-training goes on from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = InputAwareGenerator(images.shape[1])
    settings_text = repr((settings.pretrain_steps, settings.batch_size, seed, images.shape))
    sha = hashlib.sha256(settings_text.encode())
    sha.update(images.cpu().contiguous().numpy().tobytes())
    folder = Path(platformdirs.user_cache_dir("drmguard")) / "identity"
    path = folder / f"{sha.hexdigest()[:32]}.safetensors"
    if path.is_file():
        generator.load_state_dict(load_file(path))
        return generator.to(images.device)
    generator.to(images.device)
    checkpoint = Checkpoint(path.with_suffix(".checkpoint"), {"settings": sha.hexdigest()})
    optimise(
        _Identity(generator, images, learning_rate=1e-3),
        victim=None,
        count=len(images),
        batch_size=settings.batch_size,
        steps=settings.pretrain_steps,
        seed=seed,
        name="pre-training the generator",
        checkpoint=checkpoint,
        progress=progress,
    )
    weights = {key: value.cpu().contiguous() for key, value in generator.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(weights, temporary))
    checkpoint.remove()
    return generator
