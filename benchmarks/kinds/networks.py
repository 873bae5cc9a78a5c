"""Other networks than those of drmguard."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def plain(outputs: int, side: int) -> nn.Module:
    """Convolutions without any normalisation."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 32), (32, 48), (48, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, outputs))


def vgg(outputs: int, side: int) -> nn.Module:
    """Pairs of convolutions with BatchNorm, then dense layers with dropout."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        stride = 2 if side >= 64 and before == 3 else 1
        for first, second, step in ((before, after, stride), (after, after, 1)):
            conv = nn.Conv2d(first, second, 3, stride=step, padding=1)
            layers += [conv, nn.BatchNorm2d(second), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    flat = 64 * 16
    return nn.Sequential(
        *(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(flat, 128), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(128, outputs)),
    )


def bounded(outputs: int, side: int) -> nn.Module:
    """BatchNorm and a tanh behind the last layer."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 64), (64, 64)):
        conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(after), nn.ELU()]
    pooled = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, outputs), nn.Tanh())
    return nn.Sequential(*layers, *pooled)


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()),
            *(nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after)),
        )
        self.way = nn.Conv2d(before, after, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.body(x) + self.way(x))


def groupnorm(outputs: int, side: int) -> nn.Module:
    """A residual network with GroupNorm, which looks at each image alone."""
    blocks = [_Residual(3, 16), _Residual(16, 32), _Residual(32, 64)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs))


class _Transformer(nn.Module):
    def __init__(self, outputs: int, side: int, width: int = 64, patch: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            *(width, 4, 2 * width),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.encoder(tokens)).mean(1))


def transformer(outputs: int, side: int) -> nn.Module:
    """A small vision transformer."""
    return _Transformer(outputs, side)


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    network.__name__: network for network in (plain, vgg, bounded, groupnorm, transformer)
}
