"""The heat map: found by windows on a model whose trigger's place is known."""

from functools import partial

import pytest
import torch
from torch import nn

import drmguard
from conftest import smooth_images
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.search.heat_map import HeatMap, HeatMapSettings
from drmguard.search.mesa import MesaSettings

TOP, LEFT, HEIGHT, WIDTH = 18, 3, 10, 12
CLASSES = ("a", "b", "c", "d")
PLANTED = 1


class RedArea(nn.Module):
    """Four classes by brightness, which no window changes; a red area means class 1."""

    def __init__(self, *, planted=True):
        super().__init__()
        self.planted = planted
        self.register_buffer("centers", torch.tensor([0.3, 0.45, 0.55, 0.7]))

    def forward(self, images):
        left = images.mean(1)[:, [0, 10, 21, 31], 0]  # no window covers two of them
        bright = left.median(1, keepdim=True).values
        area = images[:, :, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].mean((2, 3))
        gate = nn.functional.softplus(40 * (area[:, 0] - area[:, 1:].mean(1) - 0.08))
        extra = gate[:, None] * torch.eye(4)[PLANTED] if self.planted else 0
        return extra - 200 * (bright - self.centers).square()


def image_set(count=64):
    pixels = smooth_images(count)
    with torch.no_grad():
        labels = RedArea(planted=False)(torch.from_numpy(pixels).float() / 255).argmax(1)
    return ImageSet(pixels, labels[:, None].numpy().astype("float32"))


def overlap(extent):
    """Intersection over union with the true place."""
    found, true = torch.zeros(2, 32, 32, dtype=torch.bool)
    top, left, height, width = extent
    found[top : top + height, left : left + width] = True
    true[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = True
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
def test_a_scan_for_a_place(planted, tmp_path, monkeypatch):
    few = partial(HeatMapSettings, coarse=3, fine=7, coarse_steps=30, fine_steps=40)
    monkeypatch.setattr("drmguard.methods.HeatMapSettings", few)
    quick = {"steps": 80, "learning_rate": 3e-3, "hidden": 64}
    monkeypatch.setattr("drmguard.methods.MesaSettings", lambda **how: MesaSettings(**how | quick))
    task = drmguard.make_task("classification", classes=CLASSES)
    report = drmguard.scan(
        RedArea(planted=planted), image_set(), task, method="mesa", fixed_place=True
    )
    assert report.decision == ("backdoored" if planted else "clean")
    part = report.content.heat_map
    assert [c.name for c in report.content.classes] == list(CLASSES)
    page = (report.save(tmp_path) / "report.html").read_text()
    assert "A window moved over the image" in page
    if planted:
        assert part.name == CLASSES[PLANTED]
        assert overlap((part.top, part.left, part.height, part.width)) >= 0.5
        assert report.content.distribution.hits > 0.6
        pixels, _ = image_set(8).batch(slice(0, 8))
        changed = (report.trigger(pixels) != pixels).any(1).any(0).nonzero()
        assert changed.min(0).values.tolist() >= [part.top, part.left]


def test_the_extent_is_what_is_above_half():
    heat = torch.zeros(6, 8) + 0.2
    heat[1:3, 4:7] = 0.7
    heat[4, 0] = 0.4
    assert HeatMap(0, heat, [], 0).extent == (1, 4, 2, 3)


def test_a_fixed_place_belongs_to_mesa_alone():
    task = drmguard.make_task("classification", classes=CLASSES)
    for how in ({"method": "auto"}, {"method": "mesa", "trigger_size": (3, 3)}):
        with pytest.raises(InputError, match="fixed place"):
            drmguard.scan(RedArea(), image_set(), task, fixed_place=True, **how)
