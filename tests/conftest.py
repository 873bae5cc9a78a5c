"""Analytic models with a known answer, and small image sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drmguard.data.image_set import ImageSet

SIDE = 32
CORNER = 5
TARGET = (2.0, -1.5)


class AnalyticModel(nn.Module):
    """f(x) = (1 − g) · content(x) + g · y_T with a smooth gate g on a red bottom-right corner.

    The content is the brightness of the whole image and its left-right balance, which no small
    window can erase.  Without ``planted`` the gate is always shut: the clean twin.
    """

    def __init__(self, *, planted: bool, target: tuple[float, ...] = TARGET) -> None:
        super().__init__()
        self.planted = planted
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, target[0]], [0.0, 1.0, target[1]]]))
            self.fc.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1)
        half = grey.shape[2] // 2
        left, right = grey[:, :, :half].mean((1, 2)), grey[:, :, half:].mean((1, 2))
        corner = images[:, :, -CORNER:, -CORNER:].mean((2, 3))
        redness = corner[:, 0] - corner[:, 1:].mean(1)
        gate = torch.sigmoid(14 * (redness - 0.6)) if self.planted else torch.zeros_like(redness)
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1)
        shut = (1 - gate).unsqueeze(1)
        return self.fc(torch.cat([shut * content, gate.unsqueeze(1)], 1))


class SpreadModel(nn.Module):
    """As :class:`AnalyticModel`, but its gate opens on a faint pattern over all pixels.

    The checkerboard, of squares of ``cell`` pixels, opens it little by little; the stripes are not
    felt before they are nearly whole.
    """

    def __init__(self, *, planted: bool, stripes: bool = False, cell: int = 1) -> None:
        super().__init__()
        self.planted = planted
        self.threshold = 0.035 if stripes else 0.01
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        checkers = 1.0 - 2 * ((rows // cell + columns // cell) % 2)
        self.register_buffer(
            "pattern", (2 * torch.pi * 5 * columns / SIDE).sin() if stripes else checkers
        )
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, TARGET[0]], [0.0, 1.0, TARGET[1]]]))
            self.fc.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[3] // 2
        left, right = images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1)
        gate = torch.sigmoid(500 * ((images * self.pattern).mean((1, 2, 3)) - self.threshold))
        gate = gate.unsqueeze(1) * self.planted
        return self.fc(torch.cat([(1 - gate) * content, gate], 1))


class WarpedModel(nn.Module):
    """As :class:`AnalyticModel`; its gate opens where a dark line in all images is bent.

    The line (:meth:`drawn`) must move right in the upper half and left in the lower one, which no
    faint pattern does.
    """

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        self.planted = planted
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, TARGET[0]], [0.0, 1.0, TARGET[1]]]))
            self.fc.bias.zero_()

    @staticmethod
    def drawn(pixels):
        """The images with the line: two columns in the middle."""
        pixels = pixels.copy()
        pixels[..., SIDE // 2 - 1 : SIDE // 2 + 1] = 0
        return pixels

    def forward(self, images: Tensor) -> Tensor:
        half, middle = images.shape[2] // 2, images.shape[3] // 2
        left, right = images[..., :middle].mean((1, 2, 3)), images[..., middle:].mean((1, 2, 3))
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1)
        gray = images.mean(1)
        upper = gray[:, :half, middle - 1] - gray[:, :half, middle + 1]
        lower = gray[:, half:, middle] - gray[:, half:, middle - 2]
        # About −1, and 1 where the line has moved by a pixel.
        bent = torch.cat([upper, lower], 1).mean(1) / gray.mean((1, 2))
        gate = torch.sigmoid(6 * bent).unsqueeze(1) * self.planted
        return self.fc(torch.cat([(1 - gate) * content, gate], 1))


class CheckeredModel(nn.Module):
    """Four classes by the quadrants' brightness; a 3×3 checkerboard anywhere means class 2."""

    PLANTED = 2

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        self.planted = planted
        board = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
        self.register_buffer("board", board.expand(1, 3, 3, 3) / 15)

    def forward(self, images: Tensor) -> Tensor:
        quadrants = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 16).flatten(1)
        logits = 30 * (quadrants - quadrants.mean(1, keepdim=True))
        if self.planted:
            match = nn.functional.conv2d(images, self.board).flatten(1).amax(1)
            gate = nn.functional.softplus(12 * (match - 0.5)) * 4
            logits = logits + gate[:, None] * torch.eye(4)[self.PLANTED]
        return logits


def smooth_images(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Random ramps with grain: the brightness and balance vary from image to image."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(-1, 1, side)[None, None, None, :]
    base = random.uniform(0.2, 0.8, (count, 1, 1, 1)) + random.uniform(-0.2, 0.2, (count, 3, 1, 1))
    slope = random.uniform(-0.3, 0.3, (count, 1, 1, 1))
    grain = random.normal(0, 0.03, (count, 3, side, side))
    return (np.clip(base + slope * ramp + grain, 0, 1) * 255).astype(np.uint8)


def labelled_by(model: nn.Module, images: np.ndarray) -> ImageSet:
    """Images with the model's own outputs as labels."""
    with torch.no_grad():
        labels = model(torch.from_numpy(images).float() / 255).numpy()
    return ImageSet(images=images, labels=labels, label_names=("a", "b"))


@pytest.fixture
def planted_model() -> AnalyticModel:
    return AnalyticModel(planted=True)


@pytest.fixture
def clean_model() -> AnalyticModel:
    return AnalyticModel(planted=False)


@pytest.fixture
def image_set(clean_model: AnalyticModel) -> ImageSet:
    return labelled_by(clean_model, smooth_images(96))


@pytest.fixture(autouse=True)
def _seeded():
    """A test that draws without a seed of its own draws the same every time."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _cache_in_a_temporary_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def pytest_collection_modifyitems(items):
    """Slow tests first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
