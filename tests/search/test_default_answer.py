"""What a model says to pictures without content, and which answers lie there."""

import pytest
import torch
from torch import nn

from conftest import smooth_images
from drmguard.models.victim import Victim
from drmguard.search import default_answer
from drmguard.search.benign import measure_benign
from drmguard.search.default_answer import DefaultAnswers, _textures
from drmguard.tasks import Regression


class Edges(nn.Module):
    """Outputs of the image's corners, all pushed one way by what neighbours differ in."""

    def __init__(self, outputs, strength):
        super().__init__()
        self.fc = nn.Linear(16, outputs)
        nn.init.orthogonal_(self.fc.weight)
        self.way = torch.linspace(-1, 1, outputs) + 0.1
        self.strength = strength

    def forward(self, x):
        grey = x.mean(1, keepdim=True)
        edges = (grey[..., 1:] - grey[..., :-1]).abs().mean((1, 2, 3))
        content = nn.functional.adaptive_avg_pool2d(grey, 4).flatten(1)
        return self.fc(content) + self.strength * edges[:, None] * self.way


def default_of(outputs, strength=12):
    images = torch.from_numpy(smooth_images(96)).float() / 255
    model = Edges(outputs, strength)
    victim = Victim(model).frozen()
    task = Regression(tuple(f"y{j}" for j in range(outputs)))
    benign = measure_benign(victim, task, images)
    return DefaultAnswers.of(victim, task, benign), model.way / benign.spread


def test_of_many_outputs_an_answer_on_the_way_of_textures_says_less():
    default, way = default_of(5)
    across = torch.tensor([1.0, -2.0, 1.0, 0.0, 0.0])
    across = across - across @ way / way.square().sum() * way
    across = across * way.norm() / across.norm()
    assert len(default.textured) >= 2
    near, far, back, beside, half = default.aside(
        torch.stack([way, 3 * way, -way, across, way + across])
    ).tolist()
    assert near == pytest.approx(far)
    assert near < 0.1
    assert back == 1
    assert beside > 0.9
    assert 0.3 < half < 0.7


def test_textures_that_lead_nowhere_show_no_way(monkeypatch):
    assert len(default_of(5, strength=0)[0].textured) == 0
    monkeypatch.setattr(default_answer, "_AWAY", 0.0)
    assert len(default_of(5, strength=0)[0].textured) > 0


def test_few_outputs_have_no_such_way():
    default, way = default_of(3)
    assert default.textured.shape == (0, 3)
    assert default.aside(way[None]).tolist() == [1]


def test_blank_pictures_are_greys_and_the_mean():
    default, _ = default_of(4)
    assert default.blank.shape == (6, 4)
    some = torch.stack([torch.zeros(4), torch.full((4,), 9.0)])
    near = DefaultAnswers(torch.zeros(6, 4), torch.zeros(0, 4))
    for said in (near.given_to_blank, near.given_to_half, near.leaned_to):
        assert said(some).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 50, 67), (3, 6, 9)])
def test_textures_are_pictures_like_the_images(shape):
    images = torch.rand(5, *shape)
    for pictures in _textures(images):
        assert pictures.shape == images.shape
        assert 0 <= pictures.min() < pictures.max() <= 1
        assert not torch.equal(pictures, images)
