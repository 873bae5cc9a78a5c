import pytest
import torch

from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.places import PlaceSettings, other_targets, search_places
from drmguard.search.windows import Windows
from drmguard.tasks import Regression

SMALL = PlaceSettings(
    rounds=((8, 4),), finalists=8, shrink_steps=40, shrink_images=8, other_targets=3, per_axis=5
)


def test_a_window_changes_its_own_pixels_only():
    windows = Windows((3, 8, 8), [(2, 3)], side=4, seed=0)
    images = torch.rand(2, 3, 8, 8)
    changed = (windows.stamp(images, 0) != images).any(1).any(0)
    assert changed[2:6, 3:7].all()
    assert changed.sum() == 16


def test_a_closed_mask_is_the_identity_and_gradients_reach_both_parts():
    windows = Windows((3, 8, 8), [(0, 0)], side=4, seed=0)
    with torch.no_grad():
        windows.mask.zero_()
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(windows.stamp(images, 0), images)
    with torch.no_grad():
        windows.mask.fill_(0.5)
    windows.stamp(images, 0).square().sum().backward()
    assert (windows.mask.grad != 0).all()
    assert (windows.pattern.grad != 0).all()


def test_other_targets_are_elsewhere_and_as_far_from_the_mean():
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(500, 2, generator=generator)
    target = torch.tensor([1.5, 0.0])
    others = other_targets(responses, target, 4)
    norms = torch.linalg.vector_norm(others, dim=1)
    assert ((norms > 1.0) & (norms < 2.0)).all()
    assert (torch.linalg.vector_norm(others - target, dim=1) > 1.0).all()
    assert torch.pdist(others).min() > 0.5


@pytest.fixture
def search():
    def run(model, image_set):
        task = Regression(("a", "b"))
        images, _ = image_set.batch(slice(None))
        victim = Victim(model).frozen()
        victim.find_head(images[:4])
        benign = measure_benign(victim, task, images)
        return search_places(victim, task, benign, SMALL, seed=0), benign

    return run


def test_the_planted_corner_is_the_cheapest_place(search, planted_model, image_set):
    result, benign = search(planted_model, image_set)
    best = result.candidates[0]
    assert best.reached
    assert (best.top, best.left) == (24, 24)
    found = best.target * benign.spread + benign.mean
    assert torch.allclose(found, torch.tensor([2.0, -1.5]), atol=0.3)
    mask = best.trigger.mask[0]
    assert mask[-5:, -5:].mean() > 3 * mask.mean()
    elsewhere = [c for c in result.candidates if not c.overlaps(best)]
    assert len(elsewhere) >= 4
    assert min(c.effort for c in elsewhere) > 3 * best.effort
    assert not any(c.reached for c in result.sent[1:])


def test_the_clean_twin_has_no_cheap_place(search, clean_model, image_set):
    result, _ = search(clean_model, image_set)
    assert not any(c.reached for c in result.candidates)
    efforts = [c.effort for c in result.candidates]
    assert min(efforts) > 0.4 * max(efforts)
