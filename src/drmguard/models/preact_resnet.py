"""Residual networks whose blocks normalise before they convolve (He et al., 2016; WRN, 2016).

PreActResNet-18 has the parameter names in common use for CIFAR (``layer1.0.bn1``, ``linear``);
WRN those of its authors' PyTorch ports (``block1.layer.0.bn1``, ``fc``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3×3 convolutions, beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.projects = stride != 1 or channels_in != channels
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(x))
        shortcut = self.shortcut(out) if self.projects else x
        out = self.conv1(out)
        out = self.conv2(self.relu2(self.bn2(out)))
        return out + shortcut  # type: ignore[no-any-return]


class PreActResNet(nn.Module):
    """Images (N, C, H, W), normalised, to outputs (N, d); H is the layer ``linear``.

    ``final_norm`` puts BatchNorm and ReLU before the pooling, as published; the version in common
    use for CIFAR leaves them out.
    """

    def __init__(
        self, num_outputs: int, *, width: float, in_channels: int, final_norm: bool
    ) -> None:
        super().__init__()
        stages = [max(1, round(width * channels)) for channels in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(in_channels, stages[0], 3, 1, 1, bias=False)
        channels = stages[0]
        for number, wide in enumerate(stages, start=1):
            stride = 1 if number == 1 else 2
            self.add_module(
                f"layer{number}",
                nn.Sequential(PreActBlock(channels, wide, stride), PreActBlock(wide, wide, 1)),
            )
            channels = wide
        self.bn = nn.BatchNorm2d(channels) if final_norm else nn.Identity()
        self.relu = nn.ReLU() if final_norm else nn.Identity()
        self.linear = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        x = self.relu(self.bn(x))
        return self.linear(torch.flatten(x.mean((2, 3)), 1))  # type: ignore[no-any-return]


def preactresnet18(
    num_outputs: int, *, width: float = 1.0, in_channels: int = 3, final_norm: bool = False
) -> PreActResNet:
    """PreActResNet-18 with the 3×3 stem: 11.2 million parameters at width 1."""
    return PreActResNet(num_outputs, width=width, in_channels=in_channels, final_norm=final_norm)


class WideBlock(nn.Module):
    """A pre-activation block with the names of the WRN ports."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.projects = channels_in != channels
        if self.projects:
            self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(x))
        # As published: where the width changes, the shortcut starts after the activation.
        shortcut = self.convShortcut(out) if self.projects else x
        out = self.conv2(self.relu2(self.bn2(self.conv1(out))))
        return out + shortcut  # type: ignore[no-any-return]


class _WideStage(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, blocks: int) -> None:
        super().__init__()
        self.layer = nn.Sequential()
        for number in range(blocks):
            first = number == 0
            self.layer.append(
                WideBlock(channels_in if first else channels, channels, stride if first else 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """Images (N, C, H, W), normalised, to outputs (N, d); H is the layer ``fc``."""

    def __init__(self, num_outputs: int, *, blocks: int, width: float, in_channels: int) -> None:
        super().__init__()
        stages = [max(1, round(width * channels)) for channels in (16, 32, 64)]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.block1 = _WideStage(16, stages[0], 1, blocks)
        self.block2 = _WideStage(stages[0], stages[1], 2, blocks)
        self.block3 = _WideStage(stages[1], stages[2], 2, blocks)
        self.bn1 = nn.BatchNorm2d(stages[2])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(stages[2], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        return self.fc(torch.flatten(x.mean((2, 3)), 1))  # type: ignore[no-any-return]


def wrn16(num_outputs: int, *, width: float = 1.0, in_channels: int = 3) -> WideResNet:
    """WRN-16-k with k = ``width``: 0.18 million parameters at 1, which MESA uses on CIFAR-10."""
    return WideResNet(num_outputs, blocks=2, width=width, in_channels=in_channels)
