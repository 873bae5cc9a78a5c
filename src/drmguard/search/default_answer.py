"""What a model says to pictures without content: a change that drowns the content leads there.

*Blank* pictures are greys and the mean of the images.  A model of many outputs has many ways to go,
and one of them is the easiest: landmarks spread over the whole image wherever it is full of edges.
Noise and cut up images show it, and any strong change leads that way; so models of many outputs are
asked about such *textures* as well, and the nearer an answer lies to their way, the less it says.
With few outputs too many answers would lie near it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.tasks import Task

# An answer is the default one if all blank pictures but one give it within so many clean standard
# deviations; where they differ, there is none.
_DEFAULT = 0.25
# Changes that settle lean to what half of these pictures give within so many.
_LEANING = 0.5
# From so many outputs on textures are asked.
MANY_OUTPUTS = 4
# So far aside counts an answer on the very way to a texture's.
_LEAST_ASIDE = 0.01
# Pictures of each texture; where their answers scatter more (clean variances), or lie nearer to the
# mean (clean standard deviations), they show no way.
_TEXTURED, _AGREEING, _AWAY = 32, 0.3, 0.5
# Points a side of coarse noise, pieces a side of images that are cut up, deviation of added noise.
_POINTS, _PIECES, _NOISE = 16, 8, 0.1


@dataclass(frozen=True)
class DefaultAnswers:
    """A model's answers to pictures without content, standardised.

    Attributes:
        blank: to greys from black to white, and to the mean of the images, (6, d).
        textured: mean answers to textures, (k, d); of few outputs, and of classes, none.
    """

    blank: Tensor
    textured: Tensor

    @classmethod
    def of(cls, victim: Victim, task: Task, benign: Benign) -> Self:
        """Ask a frozen victim."""
        blank = respond(victim, task, benign, _blank(benign.images)).standardised
        if not task.is_regression or len(benign.mean) < MANY_OUTPUTS:
            return cls(blank, blank[:0])
        answers = torch.stack(
            [
                respond(victim, task, benign, pictures).standardised
                for pictures in _textures(benign.images[:_TEXTURED])
            ]
        )
        means, scatter = answers.mean(1), answers.var(1).mean(1)
        away = means.square().mean(1).sqrt() > _AWAY
        return cls(blank, means[away & (scatter < _AGREEING)])

    def given_to_blank(self, answers: Tensor) -> Tensor:
        """Which of the answers (K, d) all blank pictures but one are given."""
        return self._blank_near(answers, _DEFAULT) >= len(self.blank) - 1

    def given_to_half(self, answers: Tensor) -> Tensor:
        """Which of the answers (K, d) half of the blank pictures are given."""
        return 2 * self._blank_near(answers, _DEFAULT) >= len(self.blank)

    def leaned_to(self, answers: Tensor) -> Tensor:
        """Which of the answers (K, d) lie where changes that settle lean to."""
        return 2 * self._blank_near(answers, _LEANING) >= len(self.blank)

    def aside(self, answers: Tensor) -> Tensor:
        """How far each of the answers (K, d) lies aside of the ways to textures', (K,) in (0, 1].

        Seen from the mean, the squared sine of the angle to the nearest; 1 from a right angle on.
        """
        along = functional.cosine_similarity(answers[:, None], self.textured, dim=-1)
        along = torch.cat([along, along.new_zeros(len(answers), 1)], 1).amax(1)
        return (1 - along.square()).clamp(min=_LEAST_ASIDE)

    def _blank_near(self, answers: Tensor, within: float) -> Tensor:
        distances = (answers[:, None] - self.blank).square().mean(-1).sqrt()
        return (distances < within).sum(1)


def _blank(images: Tensor) -> Tensor:
    """Greys from black to white, and the mean of the images: (6, C, H, W)."""
    levels = torch.linspace(0, 1, 5, device=images.device)
    greys = levels.view(-1, 1, 1, 1).expand(-1, *images.shape[1:])
    return torch.cat([greys, images.mean(0, keepdim=True)])


def _textures(images: Tensor) -> list[Tensor]:
    """Noise, fine and coarse; the images (n, C, H, W) with pixels or pieces shuffled, or noise."""
    generator = torch.Generator().manual_seed(0)
    number, channels, height, width = images.shape

    def noise(*shape: int) -> Tensor:
        return torch.rand(number, channels, *shape, generator=generator)

    def shuffled(parts: Tensor) -> Tensor:
        return parts[:, :, torch.randperm(parts.shape[2], generator=generator)]

    cpu, side = images.cpu(), max(1, min(height, width) // _PIECES)
    whole = (height // side * side, width // side * side)
    pieces = functional.unfold(cpu[:, :, : whole[0], : whole[1]], side, stride=side)
    added = _NOISE * torch.randn(images.shape, generator=generator)
    textures = (
        noise(height, width),
        functional.interpolate(noise(_POINTS, _POINTS), (height, width), mode="bilinear"),
        shuffled(cpu.flatten(2)).view_as(images),
        functional.interpolate(
            functional.fold(shuffled(pieces), whole, side, stride=side), (height, width)
        ),
        (cpu + added).clamp(0, 1),
    )
    return [pictures.to(images.device) for pictures in textures]
