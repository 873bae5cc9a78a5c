"""ResNet-18 and -34 (He et al., 2016), with torchvision's parameter names.

A width factor scales every channel count; ``small_stem`` replaces the 7×7 stride-2 convolution
and the max-pooling by one 3×3 convolution, as is usual for images of 32 to 64 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module
        if stride == 1 and channels_in == channels:
            self.downsample = nn.Identity()
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.downsample(x))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A ResNet of basic blocks: images (N, C, H, W), normalised, to outputs (N, d).

    F is everything up to the pooled features; H is the linear layer ``fc``.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        *,
        num_outputs: int,
        width: float = 1.0,
        in_channels: int = 3,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        stages = [max(1, round(width * channels)) for channels in (64, 128, 256, 512)]
        if small_stem:
            self.conv1 = nn.Conv2d(in_channels, stages[0], 3, 1, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, stages[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stages[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, 1)
        channels = stages[0]
        for number, (depth, wide) in enumerate(zip(blocks, stages, strict=True), start=1):
            strides = [1 if number == 1 else 2] + [1] * (depth - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(BasicBlock(channels, wide, stride))
                channels = wide
            self.add_module(f"layer{number}", stage)
        self.fc = nn.Linear(channels, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(torch.flatten(x.mean((2, 3)), 1))  # type: ignore[no-any-return]


def resnet18(
    num_outputs: int, *, width: float = 1.0, in_channels: int = 3, small_stem: bool = False
) -> ResNet:
    """ResNet-18: 11.2 million parameters at width 1, 0.7 million at width 0.25."""
    return ResNet(
        (2, 2, 2, 2),
        num_outputs=num_outputs,
        width=width,
        in_channels=in_channels,
        small_stem=small_stem,
    )


def resnet34(
    num_outputs: int, *, width: float = 1.0, in_channels: int = 3, small_stem: bool = False
) -> ResNet:
    """ResNet-34: 21.3 million parameters at width 1."""
    return ResNet(
        (3, 4, 6, 3),
        num_outputs=num_outputs,
        width=width,
        in_channels=in_channels,
        small_stem=small_stem,
    )
