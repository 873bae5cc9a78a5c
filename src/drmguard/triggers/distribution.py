"""A distribution of triggers: generators of patches, mixed, sampled anew for every image (MESA)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.triggers.placing import paste, random_places

NOISE = 64
_LAYERS = 4


class PatchGenerator(nn.Module):
    """Noise z (N, 64) to patches (N, channels, height, width) in [0, 1] (MESA, 4.1).

    Four dense layers, each of which is also given a quarter of z; BatchNorm and leaky ReLU between
    them, a sigmoid at the end.

    Args:
        shape: (channels, height, width) of a patch; one channel more than the images' is opacity.
        hidden: units of a layer; 512 for CIFAR-10, 2,048 for CIFAR-100.
    """

    def __init__(self, shape: tuple[int, int, int], hidden: int = 512) -> None:
        super().__init__()
        self.shape = shape
        quarter = NOISE // _LAYERS
        elements = shape[0] * shape[1] * shape[2]
        widths = [0, *[hidden] * (_LAYERS - 1), elements]
        self.dense = nn.ModuleList(
            nn.Linear(before + quarter, after) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(_LAYERS - 1))

    @torch.no_grad()
    def start_at(self, patch: Tensor) -> None:
        """Let the patches lie around this one (channels, height, width)."""
        last = self.dense[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(patch.clamp(0.1, 0.9).logit().flatten())

    def forward(self, noise: Tensor) -> Tensor:
        parts = noise.chunk(_LAYERS, dim=1)
        values = noise[:, :0]
        for number, (dense, part) in enumerate(zip(self.dense, parts, strict=True)):
            values = dense(torch.cat([values, part], dim=1))
            if number < len(self.norms):
                values = functional.leaky_relu(self.norms[number](values), 0.2)
        patches: Tensor = values.sigmoid().unflatten(1, self.shape)
        return patches


class TriggerDistribution(nn.Module):
    """Stamps every image with a trigger of its own, drawn from a mixture of generators.

    Places and draws come from a random generator of its own, so that a fresh copy always draws the
    same ones; ``state_dict`` does not hold it.

    Attributes:
        weights: of the generators (K,), summing to 1: the staircase.
        place: (row, column) of every patch, or (−1, −1) where each image has its own.
        shape: (channels, height, width) of a patch.
    """

    weights: Tensor
    place: Tensor
    shape: Tensor

    def __init__(
        self,
        generators: list[PatchGenerator],
        weights: Tensor,
        place: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.generators = nn.ModuleList(generators)
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("place", torch.tensor((-1, -1) if place is None else place))
        self.register_buffer("shape", torch.tensor(generators[0].shape))
        self._random = torch.Generator().manual_seed(seed)

    def level(self, number: int) -> TriggerDistribution:
        """The distribution of one generator alone."""
        generator = self.generators[number]
        assert isinstance(generator, PatchGenerator)
        row, column = self.place.tolist()
        place = None if row < 0 else (row, column)
        alone = TriggerDistribution([generator], torch.ones(1), place, self.seed)
        return alone.to(self.weights.device).train(self.training)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Patches (count, channels, h, w), drawn from the mixture."""
        weights = self.weights.cpu()
        chosen = torch.multinomial(weights, count, replacement=True, generator=self._random)
        noise = torch.randn(count, NOISE, generator=self._random).to(self.weights.device)
        drawn = torch.stack([generator(noise) for generator in self.generators])
        return drawn[chosen.to(noise.device), torch.arange(count, device=noise.device)]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        patches = self.sample(len(images))
        if int(self.place[0]) >= 0:
            top, left = self.place.expand(len(images), 2).unbind(1)
        else:
            height, width = patches.shape[2:]
            top, left = random_places(images, height, width, self._random)
        return paste(images, patches, top, left)


def empty_distribution(tensors: dict[str, Tensor]) -> TriggerDistribution:
    """A distribution into which the tensors of a file fit."""
    shape = tensors["shape"]
    hidden = tensors["generators.0.norms.0.weight"].shape[0]
    channels, height, width = (int(n) for n in shape.tolist())
    generators = [
        PatchGenerator((channels, height, width), hidden) for _ in range(len(tensors["weights"]))
    ]
    return TriggerDistribution(generators, torch.ones(len(generators)))
