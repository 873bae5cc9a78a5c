"""MESA: the entropy estimate, the distribution found in a model with a known trigger, its file."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from conftest import CheckeredModel, smooth_images
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.classes import ClassSettings, search_classes
from drmguard.search.mesa import MesaSettings, search_distribution
from drmguard.search.mutual_information import StatisticsNetwork
from drmguard.search.testing import HALF, Success
from drmguard.tasks import Classification, Regression
from drmguard.triggers.distribution import NOISE, PatchGenerator, TriggerDistribution
from drmguard.triggers.placing import paste
from drmguard.triggers.trigger_file import load_trigger, save_trigger

CLASSES = Classification(("a", "b", "c", "d"))
PLANTED = CheckeredModel.PLANTED
FAST = MesaSettings(levels=(0.5, 0.9), steps=80, batch_size=24, learning_rate=2e-3, hidden=64)


def clean_images(count=64):
    return torch.from_numpy(smooth_images(count)).float() / 255


@pytest.fixture(scope="module", params=[True, False], ids=["planted", "clean"])
def searched(request):
    victim = Victim(CheckeredModel(planted=request.param)).frozen()
    benign = measure_benign(victim, CLASSES, clean_images())
    return request.param, victim, benign


def test_the_point_search_finds_the_planted_class_and_no_other(searched):
    planted, victim, benign = searched
    # A point search alone depends on its start: the check of the odds belongs to the verdict.
    found = search_classes(victim, benign, ClassSettings(starts=4, steps=60), seed=0)
    strongest = max(found, key=lambda c: c.hits)
    if planted:
        assert strongest.number == PLANTED
        assert strongest.hits > 0.95
        assert sorted(c.hits for c in found)[-2] < 0.4
    else:
        assert strongest.hits < 0.4


def test_the_distribution_succeeds_as_asked_and_widens_as_less_is_asked():
    victim = Victim(CheckeredModel(planted=True)).frozen()
    benign = measure_benign(victim, CLASSES, clean_images())
    success = Success(CLASSES, benign, torch.tensor([PLANTED]))
    result = search_distribution(victim, success, FAST, seed=1)
    low, high = result.levels
    assert high.success > 0.7
    assert low.success > 0.35
    assert result.hits > 0.4
    assert result.distribution.weights.sum() == pytest.approx(1)
    patches = result.distribution.sample(200)
    assert patches.std(0).mean() > 0.02  # a distribution, not a point
    again = search_distribution(victim, success, FAST, seed=1)
    assert again.levels == result.levels


def test_generators_that_start_at_a_valid_patch_need_few_steps():
    victim = Victim(CheckeredModel(planted=True)).frozen()
    benign = measure_benign(victim, CLASSES, clean_images())
    success = Success(CLASSES, benign, torch.tensor([PLANTED]))
    found = search_classes(victim, benign, ClassSettings(starts=4, steps=60), seed=0)
    patch = max(found, key=lambda c: c.hits).trigger.patch
    few = dataclasses.replace(FAST, steps=15)
    cold = search_distribution(victim, success, few, seed=1)
    started = search_distribution(victim, success, few, patch, seed=1)
    assert started.levels[1].success > 0.7 > cold.levels[1].success
    drawn = started.distribution.level(1).sample(64)
    assert (drawn.mean(0) - patch).abs().mean() < 0.2
    assert drawn.std(0).mean() > 0.02


def test_the_entropy_estimate_of_a_known_case():
    # Gaussians with correlation ρ in each of two dimensions: I = −log(1 − ρ²) nats.
    rho = 0.9
    torch.manual_seed(0)
    network = StatisticsNetwork(2, 2, hidden=64)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    bounds = []
    for _ in range(700):
        noise, fresh, other = torch.randn(3, 256, 2)
        triggers = rho * noise + math.sqrt(1 - rho**2) * fresh
        corrected, bound = network.information(noise, triggers, other, rate=0.01)
        optimizer.zero_grad()
        (-corrected).backward()
        optimizer.step()
        bounds.append(float(bound))
    assert sum(bounds[-100:]) / 100 == pytest.approx(-math.log(1 - rho**2), abs=0.25)


def test_success_of_regression_falls_with_the_distance():
    images = clean_images()
    task = Regression(("x", "y"))

    class Mean(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0].mean((1, 2)), x[:, 1].mean((1, 2))], 1)

    benign = measure_benign(Victim(Mean()), task, images)
    success = Success(task, benign, torch.tensor([1.0, -1.0]))
    at = benign.mean + benign.spread * success.target
    assert success.of(at[None]) == pytest.approx(1)
    assert success.of((at + HALF * benign.spread)[None]) == pytest.approx(0.5)
    assert success.hits((at + 1.1 * HALF * benign.spread)[None]).tolist() == [False]
    with pytest.raises(InputError, match="2 value"):
        Success(task, benign, torch.zeros(3))


def test_opacity_blends_and_gradients_reach_the_patch():
    images = torch.full((2, 3, 6, 6), 0.5)
    patches = torch.ones(2, 4, 2, 2, requires_grad=True)
    with torch.no_grad():
        patches[1, 3] = 0.25
    stamped = paste(images, patches, torch.tensor([0, 4]), torch.tensor([1, 4]))
    assert stamped[0, :, 0:2, 1:3].unique().tolist() == [1.0]
    assert stamped[1, :, 4:, 4:].unique().tolist() == [0.625]
    assert (stamped != 0.5).sum() == 2 * 3 * 4
    stamped.sum().backward()
    assert patches.grad.abs().sum() > 0


def test_a_saved_distribution_draws_the_same_triggers(tmp_path):
    torch.manual_seed(0)
    generators = [PatchGenerator((4, 3, 2), hidden=16) for _ in range(2)]
    distribution = TriggerDistribution(generators, torch.tensor([3.0, 1.0]), (2, 1)).eval()
    save_trigger(tmp_path / "d.safetensors", distribution, target=torch.tensor([1.0]))
    loaded = load_trigger(tmp_path / "d.safetensors").trigger
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(loaded(images), distribution(images))
    changed = (loaded(images) != images).any(1).any(0)
    assert changed.nonzero().min(0).values.tolist() == [2, 1]
    assert int(changed.sum()) == 6


def test_a_level_alone_draws_from_its_generator_at_the_same_place():
    torch.manual_seed(0)
    generators = [PatchGenerator((3, 2, 2), hidden=16) for _ in range(2)]
    with torch.no_grad():
        for generator, value in zip(generators, (-200.0, 200.0), strict=True):
            generator.dense[-1].weight.zero_()
            generator.dense[-1].bias.fill_(value)
    distribution = TriggerDistribution(generators, torch.tensor([1.0, 1.0]), (2, 1)).eval()
    images = torch.full((4, 3, 6, 6), 0.5)
    for number, color in ((0, 0.0), (1, 1.0)):
        stamped = distribution.level(number)(images)
        assert stamped[:, :, 2:4, 1:3].unique().tolist() == [color]
        assert int((stamped != 0.5).sum()) == 4 * 3 * 4


@pytest.mark.parametrize("settings", [{"levels": (0.9, 0.5)}, {"levels": ()}, {"size": (0, 3)}])
def test_impossible_settings(settings):
    with pytest.raises(InputError):
        MesaSettings(**settings)


def test_noise_is_fed_in_quarters():
    generator = PatchGenerator((3, 3, 3), hidden=32).eval()
    noise = torch.randn(4, NOISE)
    assert generator(noise).shape == (4, 3, 3, 3)
    for quarter in range(4):
        other = noise.clone()
        other[:, quarter * 16 : (quarter + 1) * 16] += 1
        assert not torch.equal(generator(other), generator(noise))
