"""PilotNet (Bojarski et al., 2016): the small steering network."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from drmguard.errors import InputError


class PilotNet(nn.Module):
    """Images (N, C, H, W), normalised, to outputs (N, d); H is the last of the ``dense`` layers.

    Published for 66×200 images; other sizes change only the first dense layer.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: float,
        in_channels: int,
        image_height: int,
        image_width: int,
    ) -> None:
        super().__init__()
        channels = [max(1, round(width * c)) for c in (24, 36, 48, 64, 64)]
        layers: list[nn.Module] = []
        before, sides = in_channels, [image_height, image_width]
        for after, kernel, stride in zip(channels, (5, 5, 5, 3, 3), (2, 2, 2, 1, 1), strict=True):
            layers += [nn.Conv2d(before, after, kernel, stride), nn.ReLU()]
            before, sides = after, [(side - kernel) // stride + 1 for side in sides]
        if min(sides) < 1:
            raise InputError(
                f"images of {image_height}×{image_width} are too small for pilotnet (61×61 at "
                "least)"
            )
        self.convolutions = nn.Sequential(*layers)
        sizes = [before * sides[0] * sides[1], *(max(1, round(width * n)) for n in (100, 50, 10))]
        self.dense = nn.Sequential()
        for features_in, features in itertools.pairwise(sizes):
            self.dense.append(nn.Linear(features_in, features)).append(nn.ReLU())
        self.dense.append(nn.Linear(sizes[-1], num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(torch.flatten(self.convolutions(x), 1))  # type: ignore[no-any-return]


def pilotnet(
    num_outputs: int,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    image_height: int = 66,
    image_width: int = 200,
) -> PilotNet:
    """PilotNet: 0.25 million parameters at 66×200."""
    return PilotNet(
        num_outputs,
        width=width,
        in_channels=in_channels,
        image_height=image_height,
        image_width=image_width,
    )
