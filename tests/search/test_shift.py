"""Offset attacks: a patch that adds a vector to every answer."""

import pytest
import torch
from torch import nn

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.errors import InputError
from drmguard.search.shift import ShiftCandidate, ShiftResult
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.verdict import judge_shift

SHIFT = (2.5, -2.0)


class Shifted(nn.Module):
    """Brightness and balance, not linear; and a red bottom-right corner adds a vector to them."""

    def __init__(self, *, planted):
        super().__init__()
        self.planted = planted
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, SHIFT[0]], [0.0, 1.0, SHIFT[1]]]))
            self.fc.bias.zero_()

    def forward(self, images):
        grey = images.mean(1)
        left, right = grey[..., :16].mean((1, 2)), grey[..., 16:].mean((1, 2))
        corner = images[:, :, -6:, -6:].mean((2, 3))
        gate = torch.sigmoid(6 * (corner[:, 0] - corner[:, 1:].mean(1) - 0.2)) * self.planted
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1).mul(2).tanh()
        return self.fc(torch.cat([content, gate[:, None]], 1))


@pytest.fixture(scope="module")
def images():
    return labelled_by(AnalyticModel(planted=False), smooth_images(96))


def test_an_offset_is_found_where_it_lies(images, tmp_path):
    report = drmguard.scan(Shifted(planted=True), images, "regression", method="shift")
    assert report.decision == "backdoored"
    pixels, _ = images.batch(slice(0, 32))
    with torch.no_grad():
        moved = Shifted(planted=True)(report.trigger(pixels)) - Shifted(planted=True)(pixels)
    whole = torch.tensor(SHIFT) * (1 - torch.sigmoid(torch.tensor(-1.2)))  # ajar on clean images
    assert torch.allclose(moved.mean(0), whole, atol=0.3)
    changed = (report.trigger(pixels) != pixels).any(1).any(0).nonzero()
    assert changed.min() >= 16
    page = (report.save(tmp_path) / "report.html").read_text()
    assert "moves the outputs by nearly the same vector" in page


def test_the_clean_twin_passes(images):
    report = drmguard.scan(Shifted(planted=False), images, "regression", method="shift")
    assert report.decision == "clean"


def test_a_class_does_not_move(images):
    with pytest.raises(InputError, match="for regression"):
        drmguard.scan(
            nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)),
            drmguard.ImageSet(images.images, (images.labels[:, :1] > 0).astype("float32")),
            "classification",
            method="shift",
        )


def candidates(*left):
    trigger = MaskPatternTrigger(torch.zeros(1, 8, 8), torch.zeros(3, 8, 8))
    return [ShiftCandidate(4 * k, 0, 4, torch.ones(2), one, trigger) for k, one in enumerate(left)]


@pytest.mark.parametrize(
    ("left", "decision"),
    [
        ((0.01, 0.1, 0.2, 0.3), "backdoored"),
        ((0.01, 0.02, 0.025, 0.03), "inconclusive"),  # .4 of the others
        ((0.02, 0.02, 0.025, 0.03), "clean"),
        ((0.2, 1.0, 1.0, 1.0), "clean"),  # too uneven to be planted
        ((0.06, 1.0, 1.0, 1.0), "inconclusive"),
        ((0.01, 0.1, 0.2), "inconclusive"),  # nothing to compare with
    ],
)
def test_the_verdict_by_hand(left, decision):
    found = candidates(*left)
    assert judge_shift(ShiftResult(found, [], 0)).decision == decision
    found[0].shift.fill_(0.4)  # too short a vector to be worth planting
    assert judge_shift(ShiftResult(found, [], 0)).decision in ("clean", "inconclusive")
