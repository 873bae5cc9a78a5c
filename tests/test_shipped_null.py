import pytest

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.shipped_null import clean_models, shipped_null
from drmguard.tasks import make_task


def regression(outputs):
    return make_task("regression", outputs=tuple(map(str, range(outputs))))


def classification(classes):
    return make_task("classification", classes=tuple(map(str, range(classes))))


@pytest.mark.parametrize(("outputs", "theirs"), [(1, {1}), (2, {2, 3}), (136, {2, 3})])
def test_what_comes_along_says_what_it_is(outputs, theirs):
    known = clean_models(outputs)
    assert len(known.models) >= 20
    assert {model.outputs for model in known.models} == theirs
    assert all(model.seed < 200 for model in known.models)
    found = [value for model in known.models for value in model.suspicions.values()]
    assert all(value > 0 for value in found if value is not None)
    assert len(known.null().suspicions) == len(known.models)


def test_the_p_value_falls_with_the_suspicion():
    null, _ = shipped_null(regression(2), 64, 256)
    assert null.p_value(0.05) < 0.01 < 0.5 < null.p_value(1.0)


@pytest.mark.parametrize(
    ("outputs", "side", "images", "said"),
    [
        (136, 64, 256, "136 outputs"),
        (2, 224, 256, "224 pixels"),
        (2, 64, 40, "40 images"),
    ],
)
def test_an_unlike_case_comes_with_a_warning(outputs, side, images, said):
    assert shipped_null(regression(2), 64, 256)[1] is None
    _, warning = shipped_null(regression(outputs), side, images)
    assert said in warning
    assert "--reference" in warning


def test_one_output_that_says_little_comes_with_a_warning():
    assert shipped_null(regression(1), 64, 256, 0.45)[1] is None
    assert "80% of a constant answer's error" in shipped_null(regression(1), 64, 256, 0.8)[1]
    assert shipped_null(regression(2), 64, 256, 0.8)[1] is None


def test_one_output_is_compared_with_its_like():
    one, several = (shipped_null(regression(outputs), 64, 256)[0] for outputs in (1, 2))
    # A blend leads one output anywhere.
    assert one.usual.middle("blend") < several.usual.middle("blend") / 3
    assert "sparse" not in one.usual.means
    assert len(one.suspicions) == len(clean_models(1).models)


def test_classifiers_have_a_null_of_their_own():
    known = clean_models(10, classify=True)
    assert len(known.models) >= 10
    assert all(model.classifies for model in known.models)
    assert not any(model.classifies for model in clean_models(10).models)
    assert {"masks", "classes", "blend", "warp"} <= set(known.usual().means)
    null, warning = shipped_null(classification(10), 32, 256)
    assert warning is None
    assert len(null.suspicions) == len(known.models)
    for unlike in (4, 43):
        assert f"{unlike} classes" in shipped_null(classification(unlike), 32, 256)[1]


def test_a_default_scan_gives_a_p_value_and_says_under_what():
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    task = drmguard.make_task("regression", outputs=("a", "b"))
    planted = drmguard.scan(AnalyticModel(planted=True), images, task, alpha=0.02)
    part = planted.content.calibration
    assert planted.decision == "backdoored"
    assert part.p_value <= part.alpha == 0.02
    assert part.source == "of drmguard's development"
    assert any("64 images" in warning for warning in planted.content.warnings)
    by_window = drmguard.scan(AnalyticModel(planted=True), images, task, method="drmguard")
    assert by_window.content.calibration is None
