"""A pattern laid over the image through a mask: patches, blends and logos are all of this form."""

from __future__ import annotations

from torch import Tensor, nn


class MaskPatternTrigger(nn.Module):
    """x' = (1 − m) ⊙ x + m ⊙ p on images (N, C, H, W) in [0, 1].

    Args:
        mask: m (1, H, W) in [0, 1].
        pattern: p (C, H, W) in [0, 1].
    """

    mask: Tensor
    pattern: Tensor

    def __init__(self, mask: Tensor, pattern: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("pattern", pattern)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.mask * (self.pattern - images)
