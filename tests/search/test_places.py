import pytest
import torch

from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.places import PlaceSettings, search_places
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
    (result, close), benign = search(planted_model, image_set)
    best = result.candidates[0]
    assert best.reached
    assert (best.top, best.left) == (24, 24)
    found = best.target * benign.spread + benign.mean
    assert torch.allclose(found, torch.tensor([2.0, -1.5]), atol=0.3)
    mask = best.trigger.mask[0]
    assert mask[-5:, -5:].mean() > 3 * mask.mean()
    assert len(result.elsewhere) >= 4
    assert all(max(abs(c.top - 24), abs(c.left - 24)) >= 8 for c in result.elsewhere)
    assert min(c.effort for c in result.elsewhere) > 3 * best.effort
    assert not any(c.reached for c in result.sent[1:])
    # Looked at closely, in a window of 3 pixels inside the planted patch.
    assert (close.candidates[0].side, close.apart) == (3, 6)
    assert min(close.candidates[0].top, close.candidates[0].left) >= 24
    places = [(c.top, c.left) for c in close.candidates]
    assert len(set(places)) == len(places) <= len(result.candidates)


def test_the_clean_twin_has_no_cheap_place(search, clean_model, image_set):
    for result in search(clean_model, image_set)[0]:
        assert not any(c.reached for c in result.candidates)
        efforts = [c.effort for c in result.candidates]
        assert min(efforts) > 0.4 * max(efforts)
