"""The face network of the CSAW-HackML competition (DeepID; Sun et al., 2014).

Two views of the face, one after three and one after four convolutions, are added before the
last layer.  Made for 55×47 images with pixels from 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drmguard.errors import InputError


class CSAWNet(nn.Module):
    """Images (N, C, H, W) to logits (N, d); H is the layer ``output``.

    The layers have the names of the competition's file, which ends in a softmax that is left out
    here: outputs are logits everywhere in drmguard.
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
        c1, c2, c3, c4 = (max(1, round(width * channels)) for channels in (20, 40, 60, 80))
        features = max(1, round(width * 160))
        self.conv_1 = nn.Conv2d(in_channels, c1, 4)
        self.conv_2 = nn.Conv2d(c1, c2, 3)
        self.conv_3 = nn.Conv2d(c2, c3, 3)
        self.conv_4 = nn.Conv2d(c3, c4, 2)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        sides = [_side(side) for side in (image_height, image_width)]
        if min(sides) < 2:
            raise InputError(
                f"images of {image_height}×{image_width} are too small for csaw (30×30 at least)"
            )
        self.fc_1 = nn.Linear(c3 * sides[0] * sides[1], features)
        self.fc_2 = nn.Linear(c4 * (sides[0] - 1) * (sides[1] - 1), features)
        self.output = nn.Linear(features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv_1, self.conv_2, self.conv_3):
            x = self.pool(self.relu(convolution(x)))
        early = self.fc_1(torch.flatten(x, 1))
        late = self.fc_2(torch.flatten(self.relu(self.conv_4(x)), 1))
        return self.output(self.relu(early + late))  # type: ignore[no-any-return]


def _side(side: int) -> int:
    """What is left of a side after three convolutions and poolings."""
    for kernel in (4, 3, 3):
        side = (side - kernel + 1) // 2
    return side


def csaw(
    num_outputs: int,
    *,
    width: float = 1.0,
    in_channels: int = 3,
    image_height: int = 55,
    image_width: int = 47,
) -> CSAWNet:
    """The CSAW-HackML face network: 0.6 million parameters with 1,283 classes."""
    return CSAWNet(
        num_outputs,
        width=width,
        in_channels=in_channels,
        image_height=image_height,
        image_width=image_width,
    )
