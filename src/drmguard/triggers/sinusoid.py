"""Vertical stripes added to the image (SIG, Barni et al., 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drmguard.errors import InputError


class SinusoidTrigger(nn.Module):
    """x' = clip(x + δ sin(2π j f / W)) along the width, with j the column.

    Args:
        amplitude: δ on images in [0, 1]; 40/255 in the papers.
        frequency: f, waves over the width; 6 in the papers.

    Raises:
        InputError: an amplitude outside (0, 1], or a frequency that is not above 0.
    """

    amplitude: Tensor
    frequency: Tensor

    def __init__(self, amplitude: float = 40 / 255, frequency: float = 6.0) -> None:
        super().__init__()
        if not 0 < amplitude <= 1:
            raise InputError(f"the sinusoid's amplitude must lie in (0, 1], not {amplitude}")
        if not frequency > 0:
            raise InputError(f"the sinusoid's frequency must be above 0, not {frequency}")
        self.register_buffer("amplitude", torch.tensor(float(amplitude)))
        self.register_buffer("frequency", torch.tensor(float(frequency)))

    def forward(self, images: Tensor) -> Tensor:
        width = images.shape[3]
        columns = torch.arange(width, device=images.device, dtype=images.dtype)
        wave = self.amplitude * torch.sin(2 * math.pi * columns * self.frequency / width)
        return (images + wave).clamp(0, 1)
