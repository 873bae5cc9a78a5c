import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.calibration import Null, calibrate, p_text
from drmguard.errors import InputError
from drmguard.usual import Usual
from drmguard.verdict import Verdict

THREE = Null((1.0, math.e, math.e**2), "by hand")  # logarithms 0, 1, 2: mean 1, deviation 1


def verdict(score, decision="clean"):
    return Verdict("places", decision, score, 0.5, 0.6, "by hand", ("because",))


def test_p_values_by_hand():
    assert THREE.p_value(math.e) == pytest.approx(0.5)
    # Student's 5 % quantile with 2 degrees of freedom is −2.920; the spread is √(1 + 1/3).
    assert THREE.p_value(math.exp(1 - 2.9200 * math.sqrt(4 / 3))) == pytest.approx(0.05, abs=1e-4)
    assert THREE.p_value(0.0) < 0.01


def test_p_values_of_further_clean_models_spread_evenly():
    drawn = np.exp(np.random.default_rng(0).normal(0.5, 0.7, (3000, 6))).tolist()
    values = [Null(tuple(references), "drawn").p_value(one) for *references, one in drawn]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert 0.04 < sum(p <= 0.05 for p in values) / len(values) < 0.06


def test_p_values_under_many_models_follow_their_skew():
    # Inverses are normal, as if the suspicion were effort over what chance gives.
    drawn = 1 / np.random.default_rng(0).normal(1.0, 0.2, (1000, 31))
    values = [Null(tuple(known), "drawn").p_value(one) for *known, one in drawn.tolist()]
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert 0.03 < sum(p <= 0.05 for p in values) / len(values) < 0.07


def test_no_rate_is_told_that_so_few_models_cannot_show():
    assert p_text(1e-30) == "p < 0.001"
    assert p_text(0.0312) == "p = 0.031"


@pytest.mark.parametrize(
    ("p", "decision"), [(0.04, "backdoored"), (0.07, "inconclusive"), (0.2, "clean")]
)
def test_the_p_value_decides(p, decision):
    quantile = stats.t.ppf(p, 2) * math.sqrt(4 / 3) + 1
    decided, calibration = calibrate(verdict(0.5 * math.exp(quantile)), THREE, 0.05)
    assert decided.decision == decision
    assert calibration.p_value == pytest.approx(p)
    assert "3 clean models by hand" in decided.reasons[-1]


def test_of_several_searches_the_least_usual_is_compared():
    usual = Usual(means={"places": 1.0, "wave": 3.0}, deviations={"places": 1.0, "wave": 0.5})
    null = Null(THREE.suspicions, "by hand", usual)
    both = {"places": math.exp(0.5), "wave": math.exp(1.5)}  # −0.5 and −3 deviations
    decided, calibration = calibrate(
        dataclasses.replace(verdict(0.5 * math.exp(0.5)), suspicions=both), null, 0.05
    )
    assert calibration.standing == pytest.approx(math.exp(-3))
    assert calibration.p_value == pytest.approx(null.p_value(math.exp(-3)))
    assert (
        "the search for waves gave what is least usual: it has 4.5 times its threshold"
        in decided.reasons[-2]
    )
    assert decided.reasons[-2].endswith("where clean models have about 20")
    nothing = dataclasses.replace(verdict(1.0), suspicions={"places": None})
    assert calibrate(nothing, null, 0.05)[1].p_value is None


def test_what_is_held_back_for_another_reason_stays_inconclusive():
    for score in (1e-6, 1e3):
        held = dataclasses.replace(verdict(score, "inconclusive"), held_back=True)
        assert calibrate(held, THREE, 0.05)[0].decision == "inconclusive"


def test_the_p_value_takes_the_place_of_what_the_thresholds_conclude():
    concluded = dataclasses.replace(verdict(0.5 * math.exp(-3), "clean"), conclusion="so clean")
    decided, _ = calibrate(concluded, THREE, 0.2)
    assert (decided.decision, decided.conclusion) == ("backdoored", "")
    assert decided.source.endswith("clean models by hand")


def test_a_search_without_a_score_stays_inconclusive():
    decided, calibration = calibrate(verdict(None, "inconclusive"), THREE, 0.05)
    assert (decided.decision, calibration.p_value) == ("inconclusive", None)


def test_bad_rates_and_too_few_references():
    with pytest.raises(InputError, match="alpha must lie above 0"):
        calibrate(verdict(1.0), THREE, 0.7)
    with pytest.raises(InputError, match="at least 3 clean reference models, but 2"):
        Null((1.0, 2.0), "few")


def reference(gain):
    """Clean models of one kind that differ in how they weigh the content."""
    model = AnalyticModel(planted=False)
    with torch.no_grad():
        model.fc.weight[:, :2] *= torch.tensor([[1.0], [gain]])
    return model


def test_a_scan_with_references_gives_a_p_value_and_keeps_their_scores(tmp_path, monkeypatch):
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    references = [reference(gain) for gain in (0.9, 1.0, 1.2)]
    report = drmguard.scan(AnalyticModel(planted=True), images, task, references=references)
    part = report.content.calibration
    assert report.decision == "backdoored"
    assert part.p_value < 0.05
    assert len(part.reference_suspicions) == 3
    stages = []
    again = drmguard.scan(
        reference(1.1),
        images,
        task,
        references=references,
        progress=lambda stage, *_: stages.append(stage),
    )
    assert not any(stage.startswith("reference") for stage in stages)
    assert again.decision == "clean"
    saved = json.loads((again.save(tmp_path) / "report.json").read_text())
    assert saved["calibration"]["alpha"] == 0.05


def test_a_reference_that_learned_nothing_is_refused():
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    with pytest.raises(InputError, match=r"reference 1 of 3 .* no better than a constant answer"):
        drmguard.scan(AnalyticModel(planted=True), images, task, references=[reference(-3.0)] * 3)
