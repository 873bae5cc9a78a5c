"""MobileNetV1 (Howard et al., 2017): depthwise-separable convolutions.

torchvision has only later versions; the keys here are ``blocks.N.depthwise`` and so on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Channels and stride of each block at width 1.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


class SeparableBlock(nn.Module):
    """A 3×3 convolution a channel, then a 1×1 convolution, each with BatchNorm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.depthwise(x)))
        return self.relu2(self.bn2(self.pointwise(x)))  # type: ignore[no-any-return]


class MobileNetV1(nn.Module):
    """Images (N, C, H, W), normalised, to outputs (N, d); H is the linear layer ``fc``."""

    def __init__(
        self, num_outputs: int, *, width: float, in_channels: int, small_stem: bool
    ) -> None:
        super().__init__()
        channels = max(1, round(32 * width))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1 if small_stem else 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential()
        for wide, stride in _BLOCKS:
            after = max(1, round(wide * width))
            self.blocks.append(SeparableBlock(channels, after, stride))
            channels = after
        self.fc = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(x.mean((2, 3)), 1))  # type: ignore[no-any-return]


def mobilenetv1(
    num_outputs: int, *, width: float = 1.0, in_channels: int = 3, small_stem: bool = False
) -> MobileNetV1:
    """MobileNetV1: 3.2 million parameters at width 1."""
    return MobileNetV1(num_outputs, width=width, in_channels=in_channels, small_stem=small_stem)
