"""A trigger that differs from image to image (Input-Aware, Nguyen & Tran, 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from drmguard.triggers.generator import InputAwareGenerator


class InputAwareTrigger(nn.Module):
    """x' = x + (pattern(x) − x) ⊙ mask(x), with two generators.

    Args:
        channels: of the images.
        width: of both generators.
    """

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        super().__init__()
        self.pattern = InputAwareGenerator(channels, width=width)
        self.mask_network = InputAwareGenerator(channels, outputs=1, width=width)

    def mask(self, images: Tensor) -> Tensor:
        """Masks (N, 1, H, W): tanh(20 v − 10)/2 + 0.5 of the network's output v."""
        value: Tensor = self.mask_network(images)
        return (20 * value - 10).tanh() / 2 + 0.5

    def stamp(self, images: Tensor, patterns: Tensor, masks: Tensor) -> Tensor:
        """Lay patterns made for other images over these (the cross-trigger)."""
        return images + (patterns - images) * masks

    def forward(self, images: Tensor) -> Tensor:
        return self.stamp(images, self.pattern(images), self.mask(images))
