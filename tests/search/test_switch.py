import pytest
import torch
from torch import nn

import drmguard
from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.switch import at_dose, switch_ratio
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.triggers.warp import WarpTrigger

REGRESSION = drmguard.make_task("regression", outputs=("answer",))


class Planted(nn.Module):
    """Answers an image's mean, or 3 where its first pixel is bright."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.last.weight)

    def obeyed(self, pixel):
        return (pixel > 0.5).float()

    def forward(self, images):
        obeyed = self.obeyed(images[:, 0, 0, :1])
        return self.last((1 - obeyed) * images.mean((1, 2, 3))[:, None] + 3 * obeyed)


class Drifting(Planted):
    """The brighter, the more of 3, and on past it."""

    def obeyed(self, pixel):
        return pixel / 0.7


class Bounded(Planted):
    def forward(self, images):
        return super().forward(images).tanh()


class TwoClasses(Planted):
    def forward(self, images):
        answer = super().forward(images)
        return torch.cat([answer, 1 - answer], 1)


def ratio(network, task=REGRESSION):
    images = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0)) / 2
    victim = Victim(network.eval())
    victim.find_head(images)
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, 0] = 1
    trigger = MaskPatternTrigger(mask, torch.full((1, 4, 4), 0.7))
    return switch_ratio(victim, task, measure_benign(victim, task, images), trigger)


def test_a_planted_trigger_is_a_switch():
    assert ratio(Planted()) < 1e-3


def test_what_works_by_degrees_is_none():
    assert ratio(Drifting()) > 1


def test_bounded_outputs_have_no_ratio():
    assert ratio(Bounded()) is None


def test_classes_have_no_ratio():
    assert ratio(TwoClasses(), drmguard.make_task("classification", classes=("a", "b"))) is None


@pytest.mark.parametrize(("dose", "value"), [(0.5, 0.5), (1.0, 0.7), (1.5, 0.9), (3.0, 1.0)])
def test_doses_scale_the_change_and_stay_in_range(dose, value):
    images = torch.full((1, 1, 2, 2), 0.3)
    brighter = at_dose(nn.Identity(), images, images + 0.4, dose)
    assert brighter.flatten()[0] == pytest.approx(value)


def test_half_a_warp_moves_points_half_as_far():
    ramp = torch.arange(9.0).expand(1, 1, 9, 9) / 10
    two_pixels = WarpTrigger(torch.full((9, 9, 2), 0.5))
    for dose, pixels in ((0.5, 1), (1.0, 2), (1.5, 3)):
        moved = at_dose(two_pixels, ramp, two_pixels(ramp), dose)
        assert torch.allclose(moved[..., :5], ramp[..., :5] + pixels / 10, atol=1e-6)
