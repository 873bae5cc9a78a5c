import math

import pytest
import torch

from conftest import AnalyticModel, CheckeredModel, smooth_images
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search.benign import measure_benign
from drmguard.search.neural_cleanse import (
    Cleansed,
    CleanseSettings,
    _Masks,
    anomaly_index,
    search_cleanse,
)
from drmguard.tasks import Regression, make_task
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.verdict import judge_cleanse

CLASSES = ("a", "b", "c", "d")


def search(model, task, settings, **more):
    images = torch.from_numpy(smooth_images(64)).float() / 255
    victim = Victim(model).frozen()
    victim.find_head(images[:4])
    benign = measure_benign(victim, task, images)
    found, trace = search_cleanse(victim, task, benign, settings, seed=0, **more)
    return found, trace, victim, benign


def test_anomaly_index_by_hand():
    # Median 10, deviations 1 0 1 2 8, whose median is 1.
    norms = [9.0, 10, 11, 12, 2]
    assert anomaly_index(norms) == pytest.approx((10 - 2) / (1.4826 * 1))
    even = [8.0, 10, 12, 2]  # median 9, deviations 1 1 3 7, whose median is 2
    assert anomaly_index(even) == pytest.approx((9 - 2) / (1.4826 * 2))
    assert anomaly_index([3.0, 3, 3]) == 0
    assert anomaly_index([3.0, 3, 3, 1]) == math.inf


def test_the_weight_follows_the_goal():
    masks = _Masks(1, (3, 4, 4), 2, seed=0)
    met, missed = torch.tensor([True]), torch.tensor([False])
    seen = []
    for goal in [met] * 10 + [missed] * 5 + [met, missed] * 5:
        masks.follow(goal)
        seen.append(float(masks.weight))
    assert seen[:4] == [0] * 4
    assert seen[4:9] == pytest.approx([1e-3] * 5)
    assert seen[9:14] == pytest.approx([2e-3] * 5)
    assert seen[14:] == pytest.approx([2e-3 / 2**1.5] * 11)


def test_the_smallest_mask_that_met_the_goal_is_kept():
    masks = _Masks(1, (1, 2, 2), 2, seed=0)
    met, missed = torch.tensor([True]), torch.tensor([False])
    for raw, goal in ((1.0, met), (-1.0, missed), (0.0, met), (2.0, met)):
        with torch.no_grad():
            masks.mask_raw.fill_(raw)
        masks.keep(goal)
    assert float(masks.best_norm) == pytest.approx(2.0)
    assert torch.allclose(masks.best_mask, torch.tensor(0.5))


def test_the_planted_class_of_a_classifier_has_the_smallest_mask():
    task = make_task("classification", classes=CLASSES)
    settings = CleanseSettings(steps=250, images=8)
    found, _, _, _ = search(CheckeredModel(planted=True), task, settings)
    verdict, best = judge_cleanse(found, CLASSES)
    assert best.number == CheckeredModel.PLANTED
    assert best.reached
    assert best.norm < 0.5 * min(c.norm for c in found if c is not best)
    assert verdict.decision == "backdoored"
    found, _, _, _ = search(CheckeredModel(planted=False), task, settings)
    assert judge_cleanse(found, CLASSES)[0].decision == "clean"


def test_a_regression_has_one_mask_and_no_threshold():
    task = Regression(("a", "b"))
    settings = CleanseSettings(steps=200, images=8)
    (found,), trace, victim, benign = search(AnalyticModel(planted=True), task, settings)
    assert found.reached
    assert len(trace) == 200
    outputs = victim(found.trigger(benign.images))
    standardised = (outputs - benign.mean) / benign.spread
    assert (standardised - found.target).abs().mean() < 2 * settings.goal_error
    verdict, _ = judge_cleanse([found], task.output_names)
    assert verdict.decision == "inconclusive"
    assert verdict.backdoored_below is None
    assert verdict.score == pytest.approx(found.norm / 32**2)


def test_a_stopped_search_goes_on_to_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr("drmguard.checkpoint.Checkpoint.due", lambda self: True)

    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        if done == 12:
            raise Stopped

    task, settings = Regression(("a", "b")), CleanseSettings(steps=20, images=8)
    model = AnalyticModel(planted=True)
    (straight,), *_ = search(model, task, settings)
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(Stopped):
        search(model, task, settings, checkpoints=checkpoints, progress=stop)
    (resumed,), *_ = search(model, task, settings, checkpoints=checkpoints)
    assert resumed.norm == straight.norm
    assert torch.equal(resumed.trigger.pattern, straight.trigger.pattern)


def test_a_small_mask_that_never_met_its_goal_does_not_decide():
    def mask(number, norm, reached):
        trigger = MaskPatternTrigger(torch.full((1, 4, 4), norm / 16), torch.zeros(3, 4, 4))
        return Cleansed(number, trigger, None, norm, reached)

    norms = [9.0, 10, 11, 2]
    reached = judge_cleanse([mask(k, n, True) for k, n in enumerate(norms)], CLASSES)[0]
    missed = judge_cleanse([mask(k, n, n > 2) for k, n in enumerate(norms)], CLASSES)[0]
    assert (reached.decision, missed.decision) == ("backdoored", "inconclusive")
    assert reached.score == missed.score < reached.backdoored_below
