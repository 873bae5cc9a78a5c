"""Trigger functions that are networks: images to images.

``InputAwareGenerator`` is the papers' generator; ``ResidualGenerator`` serves the fast recipe.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv_bn(channels_in: int, channels: int) -> list[nn.Module]:
    # BatchNorm momentum .05 as in the reference; it is 1 − momentum in other frameworks.
    return [nn.Conv2d(channels_in, channels, 3, 1, 1), nn.BatchNorm2d(channels, momentum=0.05)]


class InputAwareGenerator(nn.Module):
    """The generator of Nguyen & Tran (2020), as DRMGuard uses it for G_θ (A.10).

    Encoder of three stages (w, 2w, 4w; w is 32 as published), each two 3×3 convolutions with
    BatchNorm and ReLU and a 2×2 max-pooling; one convolution; decoder of three stages, each a
    bilinear ×2 and two convolutions; the last one without ReLU, then tanh(·)/2 + 0.5.  No skip
    connections, so it does not start as the identity and needs pre-training.  Sides must be
    multiples of 8; other images are padded by reflection and cropped again.

    Args:
        channels: of the images.
        outputs: channels that are generated; as many as go in where it is None.
        width: channels w of the first stage.
    """

    def __init__(self, channels: int = 3, *, outputs: int | None = None, width: int = 32) -> None:
        super().__init__()
        outputs = outputs or channels
        layers: list[nn.Module] = []
        stages = (width, 2 * width, 4 * width)
        before = channels
        for stage in stages:
            layers += [*_conv_bn(before, stage), nn.ReLU(), *_conv_bn(stage, stage), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            before = stage
        layers += [*_conv_bn(before, before), nn.ReLU()]
        for stage, after in zip(stages[::-1], (*stages[-2::-1], outputs), strict=True):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            layers += [*_conv_bn(stage, stage), nn.ReLU(), *_conv_bn(stage, after)]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers[:-1])  # no ReLU at the end

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        padded = functional.pad(images, (0, -width % 8, 0, -height % 8), mode="reflect")
        # So few channels at full resolution go a fifth faster with the channels last.
        padded = padded.contiguous(memory_format=torch.channels_last)
        generated: Tensor = self.layers(padded)
        return generated[:, :, :height, :width].tanh() / 2 + 0.5


def rated(
    pattern: nn.Parameter, inner: list[nn.Parameter], last: list[nn.Parameter]
) -> list[dict[str, Any]]:
    """Learning rates of what makes a change: the pattern's is highest, the inner layers' lowest."""
    return [
        {"params": [pattern], "lr": 0.25},
        {"params": inner, "lr": 3e-3},
        {"params": last, "lr": 3e-2},
    ]


class ResidualGenerator(nn.Module):
    """A small generator that starts as the identity: x' = clip(x + s(x)), s = 0 at first.

    With a bound b the change is b tanh(s(x)).

    The change s is a pattern of its own for every pixel, which holds what a stamped, blended or
    added trigger needs, plus a small convolutional network at a quarter of the resolution each
    way, which holds what depends on the image.

    Args:
        image_shape: (C, H, W) of the images.
        width: channels of the convolutional part; 0 leaves it out.
        seed: starting values of the convolutional part.
        bound: largest change of a pixel; None leaves it free.
    """

    bound: Tensor | None

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        width: int = 24,
        seed: int = 0,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        channels = image_shape[0]
        self.register_buffer("bound", None if bound is None else torch.tensor(bound))
        self.pattern = nn.Parameter(torch.zeros(image_shape))
        self.network: nn.Sequential | None = None
        if width:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = nn.Sequential(
                    nn.Conv2d(channels, width, 4, 4),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 3, 1, 1),
                    nn.ReLU(),
                    nn.Conv2d(width, width, 3, 1, 1),
                    nn.ReLU(),
                    nn.ConvTranspose2d(width, channels, 4, 4),
                )
            last = self.network[-1]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups with ``params`` and ``lr`` for an optimiser."""
        *inner, last = self.network or [nn.Identity()]
        within = [parameter for layer in inner for parameter in layer.parameters()]
        return rated(self.pattern, within, list(last.parameters()))

    def change(self, images: Tensor) -> Tensor:
        """The unclipped change s(x), within the bound where there is one."""
        change = self.pattern.expand_as(images)
        if self.network is not None:
            height, width = images.shape[2:]
            padded = functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
            change = change + self.network(padded)[:, :, :height, :width]
        return change if self.bound is None else self.bound * change.tanh()

    def forward(self, images: Tensor) -> Tensor:
        return (images + self.change(images)).clamp(0, 1)
