"""The methods of a scan other than the default: MESA on classifiers and regression, DRMGuard."""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import drmguard
from conftest import AnalyticModel, CheckeredModel, labelled_by, smooth_images
from drmguard import methods
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.methods import METHODS, _suspicious_too
from drmguard.search.feature_re import FeatureSettings
from drmguard.search.mesa import MesaSettings
from drmguard.search.neural_cleanse import CleanseSettings
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.usual import Usual

CLASSES = ("a", "b", "c", "d")


def classified(model, count=64):
    pixels = smooth_images(count)
    with torch.no_grad():
        labels = model(torch.from_numpy(pixels).float() / 255).argmax(1)
    return ImageSet(pixels, labels[:, None].numpy().astype(np.float32))


@pytest.fixture
def short(monkeypatch):
    """MESA in few steps, for models that need no more."""
    few = partial(MesaSettings, batch_size=24, learning_rate=2e-3, hidden=64)

    def settings(**given):
        return few(**{**given, "steps": 60, "batch_size": 24, "learning_rate": 2e-3})

    monkeypatch.setattr("drmguard.methods.MesaSettings", settings)


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
def test_mesa_finds_the_planted_class(short, planted, tmp_path):
    model = CheckeredModel(planted=planted)
    task = drmguard.make_task("classification", classes=CLASSES)
    images = classified(CheckeredModel(planted=False))
    report = drmguard.scan(model, images, task, method="mesa")
    assert [c.name for c in report.content.classes] == list(CLASSES)
    assert report.decision == ("backdoored" if planted else "clean")
    page = (report.save(tmp_path) / "report.html").read_text()
    part = report.content.distribution
    if planted:
        assert report.target.argmax() == CheckeredModel.PLANTED
        paper = drmguard.scan(model, images, task, method="mesa", recipe="paper")
        assert paper.decision == "backdoored"
        assert paper.content.distribution != part
        assert [level.beta for level in part.levels] == [0.5, 0.8, 0.9]
        assert page.count('alt="trigger ') == 3 * 8
    else:
        assert part is None
    stamped = drmguard.load_trigger(tmp_path / "trigger.safetensors").trigger(
        images.batch(slice(0, 2))[0]
    )
    assert stamped.shape == (2, 3, 32, 32)


def test_points_give_the_one_strongest_patch():
    model = CheckeredModel(planted=True)
    task = drmguard.make_task("classification", classes=CLASSES)
    images = classified(CheckeredModel(planted=False))
    report = drmguard.scan(model, images, task, method="points")
    assert report.decision == "backdoored"
    assert isinstance(report.trigger, PlacedPatchTrigger)
    assert report.target.argmax() == CheckeredModel.PLANTED
    regression = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    with pytest.raises(InputError, match="for classifiers"):
        drmguard.scan(AnalyticModel(planted=False), regression, "regression", method="points")


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
def test_auto_also_tries_every_class_of_a_classifier(planted):
    model = CheckeredModel(planted=planted)
    task = drmguard.make_task("classification", classes=CLASSES)
    report = drmguard.scan(model, classified(CheckeredModel(planted=False)), task)
    families = {"blend", "conditional", "wave", "warp", "patch"}
    assert set(report.content.verdict.suspicions) == {"masks", "classes", *families}
    assert report.content.distribution is None
    assert report.decision == ("backdoored" if planted else "clean")
    if planted:
        assert report.target.argmax() == CheckeredModel.PLANTED


def test_neural_cleanse_on_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr("drmguard.methods.CleanseSettings", partial(CleanseSettings, steps=120))
    images = classified(CheckeredModel(planted=False))
    task = drmguard.make_task("classification", classes=CLASSES)
    report = drmguard.scan(CheckeredModel(planted=True), images, task, method="neural-cleanse")
    assert report.content.verdict.search == "masks"
    assert [part.name for part in report.content.masks] == list(CLASSES)
    page = (report.save(tmp_path) / "report.html").read_text()
    assert "the smallest mask for each class" in page


def test_mesa_models_the_triggers_of_a_regression_model(short):
    model = AnalyticModel(planted=True)
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    report = drmguard.scan(model, images, task, method="mesa")
    assert report.decision == "backdoored"
    assert report.content.places
    assert not report.content.classes
    assert len(report.content.distribution.levels) == 3


def test_drmguard_alone_with_constants_of_ones_own():
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    constants = {"angle_weight": 0, "attention": False, "steps": 30}
    report = drmguard.scan(
        AnalyticModel(planted=True), images, task, method="drmguard", constants=constants
    )
    assert report.content.verdict.search == "generator"
    assert constants.items() <= report.content.settings["generator"].items()
    assert report.content.generator is not None
    assert not report.content.places
    assert not report.content.spread


@pytest.mark.parametrize(
    ("method", "search"), [("neural-cleanse", "masks"), ("feature-re", "features")]
)
def test_a_baseline_of_a_regression_ranks_and_does_not_decide(
    method, search, tmp_path, monkeypatch
):
    monkeypatch.setattr("drmguard.methods.CleanseSettings", partial(CleanseSettings, steps=20))
    monkeypatch.setattr("drmguard.methods.FeatureSettings", partial(FeatureSettings, steps=20))
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    report = drmguard.scan(AnalyticModel(planted=True), images, task, method=method)
    assert (report.content.verdict.search, report.decision) == (search, "inconclusive")
    assert report.content.cost.steps == 20
    page = (report.save(tmp_path) / "report.html").read_text()
    assert "(no threshold)" in page
    assert drmguard.load_trigger(tmp_path / "trigger.safetensors").target.shape == (2,)


def test_methods_that_do_not_exist_or_do_not_go_together():
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    with pytest.raises(InputError, match="one of auto, drmguard, mesa"):
        drmguard.scan(AnalyticModel(planted=True), images, task, method="magic")
    with pytest.raises(InputError, match="drmguard or of mesa, not of shift"):
        drmguard.scan(AnalyticModel(planted=True), images, task, method="shift", recipe="paper")


def test_every_method_says_what_it_needs():
    assert all(method.summary and method.needs for method in METHODS.values())


@dataclass(frozen=True)
class Beside:
    family: str
    beside: float
    by_beside: float = 1.0


def test_the_trigger_of_a_second_suspicious_search():
    a, b, c, d = (PlacedPatchTrigger(torch.rand(1, 3, 2, 2)) for _ in range(4))
    seen = [("wave", 1.4, a), ("warp", None, b), ("patch", 0.2, c), ("blend", 1.3, d)]
    assert _suspicious_too(seen, c, None) is d
    assert _suspicious_too(seen, a, None) is c
    assert _suspicious_too([("patch", 0.2, a), ("blend", 1.6, b)], a, None) is None
    assert _suspicious_too([("patch", 1.6, a), ("blend", 1.7, b)], a, None) is None
    assert _suspicious_too([("patch", None, a)], a, None) is None


def test_the_trigger_of_a_second_search_that_is_least_usual():
    a, b, c = (PlacedPatchTrigger(torch.rand(1, 3, 2, 2)) for _ in range(3))
    seen = [("warp", 1.2, a), ("places", 1.9, b), ("blend", 1.7, c)]
    usual = Usual(dict.fromkeys(("warp", "places", "blend"), 2.0), {"places": 0.6, "blend": 1.2})
    assert _suspicious_too(seen, a, usual) is b
    assert _suspicious_too([("warp", 1.2, a), ("blend", 1.7, c)], a, usual) is None
    # What looks suspicious by itself comes first.
    assert _suspicious_too([*seen, ("wave", 1.4, c)], a, usual) is c


@pytest.mark.parametrize(
    ("family", "suspicion", "looked"),
    [
        *(("blend", 1.0, True), ("blend", 5.0, False), ("blend", 0.01, False)),
        *(("settled", 1.0, True), ("wave", 1.0, False)),
    ],
)
def test_answers_beside_are_looked_at_where_that_may_decide(monkeypatch, family, suspicion, looked):
    usual = Usual(
        {"blend": 2.0, "settled": 2.0, "wave": 2.0}, {"blend": 1, "settled": 1, "wave": 1}
    )
    found = SimpleNamespace(family=family)
    monkeypatch.setattr(methods, "spread_suspicion", lambda _: suspicion)
    monkeypatch.setattr(methods, "look_beside", lambda *_, **__: Beside(family, 0.1))
    subject = SimpleNamespace(
        usual=usual,
        victim=None,
        task=SimpleNamespace(num_outputs=2, is_regression=True),
        spread=None,
        common={},
        benign=SimpleNamespace(weight=1),
    )
    got = methods._looked_beside(subject, found)
    assert (got is found) == (not looked)
    if looked:
        assert got.by_beside == pytest.approx(usual.by_beside(family, suspicion, 0.1))
    subject.benign.weight = None  # outputs may be bounded
    assert methods._looked_beside(subject, found) is found
    subject.benign.weight, subject.task.num_outputs = 1, 4  # what is usual there is not known
    assert methods._looked_beside(subject, found) is found
    subject.task = SimpleNamespace(num_outputs=2, is_regression=False)  # beside a class lies none
    assert methods._looked_beside(subject, found) is found
    subject.task.num_outputs, subject.usual = 2, None
    assert methods._looked_beside(subject, found) is found
