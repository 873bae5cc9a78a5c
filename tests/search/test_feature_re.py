import pytest
import torch
from torch import nn

from conftest import AnalyticModel, smooth_images
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.feature_re import (
    FeatureSettings,
    _FeatureRE,
    _FeatureSearch,
    search_features,
)
from drmguard.tasks import Regression, make_task
from drmguard.verdict import judge_features

TASK = Regression(("a", "b"))
IMAGES = torch.from_numpy(smooth_images(64)).float() / 255


def subject(model, task=TASK):
    victim = Victim(model).frozen()
    victim.find_head(IMAGES[:4])
    return victim, task, measure_benign(victim, task, IMAGES)


def test_pasted_features_and_bounds_by_hand():
    victim, task, benign = subject(AnalyticModel(planted=False))
    settings = FeatureSettings()
    search = _FeatureSearch((3, 32, 32), 3, 2, seed=0)
    clean, _ = victim.features_and_outputs(IMAGES)
    objective = _FeatureRE(search, 0, victim, task, benign, settings, clean)
    rows = torch.arange(10)
    with torch.no_grad():
        search.mask_raw.copy_(torch.tensor([0.3, -1.0, 2.0]))
        pasted = objective.paste(rows)
        features, _ = victim.features_and_outputs(IMAGES[:10])
        mask = search.mask_raw.tanh() / 2 + 0.5
        expected = victim.head((1 - mask) * features + (mask * features).mean(0))
    assert torch.allclose(pasted.outputs, expected, atol=1e-5)
    assert float(pasted.change) == pytest.approx(0, abs=1e-6)
    # Only the mask's bound is exceeded: the generator starts as the identity.
    scatter = (mask * features).std(0, correction=0).sum() / mask.sum() / objective.spread
    above = float(mask.mean()) / settings.mask_bound - 1 + max(0.0, float(scatter) - 1)
    assert float(pasted.excess) == pytest.approx(above, rel=1e-4)


def test_a_regression_has_one_target_and_no_threshold():
    victim, task, benign = subject(AnalyticModel(planted=True))
    settings = FeatureSettings(steps=60, images=16, mask_bound=0.5)
    (found,), trace = search_features(victim, task, benign, settings, seed=0)
    assert len(trace) == 60
    assert trace[-1]["loss"] < trace[0]["loss"]
    assert found.target.shape == (2,)
    assert (found.trigger(IMAGES) - IMAGES).square().mean() < 2 * settings.image_bound
    verdict, best = judge_features([found], task.output_names)
    assert best is found
    assert (verdict.decision, verdict.backdoored_below) == ("inconclusive", None)
    assert verdict.score == pytest.approx(found.missed + found.excess)


class Quadrants(nn.Module):
    """Four classes by the quadrants' brightness, through a last linear layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        with torch.no_grad():
            self.fc.weight.copy_(30 * (torch.eye(4) - 0.25))
            self.fc.bias.zero_()

    def forward(self, images):
        return self.fc(nn.functional.avg_pool2d(images.mean(1, keepdim=True), 16).flatten(1))


def test_every_class_of_a_classifier_is_tried():
    task = make_task("classification", classes=("a", "b", "c", "d"))
    victim, task, benign = subject(Quadrants(), task)
    settings = FeatureSettings(steps=40, images=16)
    found, _ = search_features(victim, task, benign, settings, seed=0)
    assert [trigger.number for trigger in found] == [0, 1, 2, 3]
    assert all(0 <= trigger.missed <= 1 for trigger in found)
    _, best = judge_features(found, task.output_names)
    assert best.score == min(trigger.score for trigger in found)


def test_a_model_without_a_known_head_is_refused():
    class Headless(nn.Module):
        def forward(self, images):
            return images.mean((2, 3))[:, :2]

    with pytest.raises(InputError, match="no linear layer"):
        search_features(*subject(Headless()), FeatureSettings(steps=1), seed=0)
