import math

import pytest
import torch
from torch import nn

from drmguard.models.victim import Victim
from drmguard.search.attention import attention_maps
from drmguard.search.benign import measure_benign
from drmguard.search.drmguard import (
    PUBLISHED_ELEMENTS,
    GeneratorSettings,
    _GeneratorObjective,
    fast_settings,
    paper_settings,
    pretrained_generator,
    search_generator,
)
from drmguard.tasks import Classification, Gaze, HeadPose, Regression, make_task
from drmguard.triggers.generator import InputAwareGenerator, ResidualGenerator

TASK = Regression(("a", "b"))


def victim_and_images(dtype=torch.float32):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)
    images = torch.rand(10, 3, 4, 4, dtype=dtype)
    victim = Victim(module).frozen()
    victim.find_head(images)
    return victim, images


class Shift(nn.Module):
    """A one-parameter generator."""

    def __init__(self, dtype):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(0.05, dtype=dtype))

    def forward(self, images):
        return images * 0.8 + self.s


@pytest.mark.parametrize(
    ("output_weight", "angle_weight"), [(0.0, 0.0), (20.0, 0.0), (0.0, 800.0), (20.0, 800.0)]
)
@pytest.mark.parametrize("attention", [True, False])
def test_gradient_of_each_term_against_finite_differences(output_weight, angle_weight, attention):
    victim, images = victim_and_images(torch.float64)
    benign = measure_benign(victim, TASK, images)
    generator = Shift(torch.float64)
    settings = GeneratorSettings(
        generator="residual",
        output_weight=output_weight * PUBLISHED_ELEMENTS,
        angle_weight=angle_weight * PUBLISHED_ELEMENTS / 800,
        attention=attention,
    )
    objective = _GeneratorObjective(generator, victim, TASK, benign, settings)
    rows = torch.arange(10)

    def value():
        ((loss, _),) = objective.losses(rows, 0)
        return loss

    value().backward()
    analytic, step = generator.s.grad.item(), 1e-6
    with torch.no_grad():
        generator.s += step
        above = value().item()
        generator.s -= 2 * step
        below = value().item()
    assert analytic == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_loss_is_eq_5_in_mean_pixel_values():
    victim, images = victim_and_images()
    benign = measure_benign(victim, TASK, images)
    settings = GeneratorSettings("residual", attention=False, output_weight=3.0, angle_weight=7.0)
    generator = Shift(torch.float32)
    objective = _GeneratorObjective(generator, victim, TASK, benign, settings)
    ((loss, figures),) = objective.losses(torch.arange(10), 0)
    with torch.no_grad():
        stamped = generator(images)
        outputs = victim(stamped)
    output_variance = outputs.var(0, correction=0).mean().item()
    wanted = (stamped - images).abs().mean().item()
    wanted += (3.0 * output_variance + 7.0 * figures["rav"]) / PUBLISHED_ELEMENTS
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_attention_map_is_the_gradient_of_a_linear_model():
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 1, bias=False))
    maps = attention_maps(Victim(module), Regression(("a",)), torch.rand(5, 3, 4, 4))
    wanted = module[1].weight.detach().reshape(3, 4, 4).abs().sum(0)
    assert maps.shape == (5, 1, 4, 4)
    assert torch.allclose(maps[2, 0], wanted / wanted.max(), atol=1e-3)
    assert maps.max() < 1


def test_attended_pixels_keep_the_image():
    victim, images = victim_and_images()
    benign = measure_benign(victim, TASK, images)
    objective = _GeneratorObjective(
        Shift(torch.float32), victim, TASK, benign, GeneratorSettings("residual")
    )
    objective.attention = torch.ones_like(objective.attention) * 0.999999
    assert torch.allclose(objective.reverse(torch.arange(3)), images[:3], atol=1e-5)


def test_published_constants():
    gaze, pose = paper_settings(Gaze()), paper_settings(HeadPose())
    assert (gaze.output_weight, gaze.angle_weight) == (20, 800)
    assert (gaze.batch_size, gaze.learning_rate, gaze.steps) == (50, 1.5e-3, 2000)
    assert (pose.output_weight, pose.angle_weight) == (10, 100)
    assert (pose.batch_size, pose.learning_rate, pose.pretrain_steps) == (100, 1e-4, 5000)
    assert paper_settings(Classification(("a", "b"))).angle_weight == 0
    assert fast_settings(Gaze()).angle_weight == 800


def test_the_papers_generator():
    generator = InputAwareGenerator()
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(720_000, rel=0.05)
    images = torch.rand(2, 3, 20, 28)
    assert generator(images).shape == images.shape
    assert 0 <= generator(images).min() <= generator(images).max() <= 1


def test_the_residual_generator_starts_as_the_identity():
    images = torch.rand(2, 3, 17, 22)
    generator = ResidualGenerator((3, 17, 22))
    assert torch.equal(generator(images), images)
    generator(images).sum().backward()
    assert all(p.grad is not None for p in generator.parameters())


def test_pretraining_is_cached_by_the_images(tmp_path):
    images = torch.rand(12, 3, 8, 8)
    settings = GeneratorSettings("input-aware", pretrain_steps=120, batch_size=6)
    fresh = InputAwareGenerator().eval()
    first = pretrained_generator(images, settings, seed=0).eval()
    stages = []
    second = pretrained_generator(
        images, settings, seed=0, progress=lambda name, *_: stages.append(name)
    ).eval()
    assert not stages
    assert torch.equal(first(images), second(images))
    error = (first(images) - images).abs().mean()
    assert error < 0.9 * (fresh(images) - images).abs().mean()
    pretrained_generator(
        images + 1e-3, settings, seed=0, progress=lambda name, *_: stages.append(name)
    )
    assert stages


@pytest.mark.parametrize("name", ["gaze", "classification"])
def test_both_recipes_run_on_every_kind_of_task(name):
    victim, images = victim_and_images()
    images = torch.rand(16, 3, 4, 4)
    task = make_task(name, classes=("a", "b"))
    benign = measure_benign(victim, task, images)
    for settings in (
        GeneratorSettings("residual", steps=5, batch_size=8, learning_rate=1e-2),
        GeneratorSettings("residual", steps=5, batch_size=8, attention=False, angle_weight=0),
    ):
        result = search_generator(victim, task, benign, settings, seed=0)
        assert len(result.trace) == 5
        assert result.target.shape == (2,)
        assert math.isfinite(result.objective)
