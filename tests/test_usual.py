import math

import pytest

from drmguard.usual import BESIDE_DEVIATION, BESIDE_MIDDLE, Usual

# Windows of clean models come nearer to their threshold, and scatter less, than waves do.
MODELS = [
    {"places": math.exp(1), "wave": math.exp(1)},
    {"places": math.exp(2), "wave": math.exp(3)},
    {"places": math.exp(3), "wave": math.exp(5)},
    {"places": None},
]


def test_suspicions_are_told_by_the_deviations_of_their_own_search():
    usual = Usual.of(MODELS)
    assert usual.relative("places", math.exp(2)) == pytest.approx(1)
    assert usual.relative("places", math.exp(1)) == pytest.approx(math.exp(-1))
    assert usual.relative("wave", math.exp(1)) == pytest.approx(math.exp(-1))
    assert usual.middle("wave") == pytest.approx(math.exp(3))


def test_the_least_usual_search_is_not_always_the_lowest():
    usual = Usual.of(MODELS)
    search, relative = usual.least({"places": math.exp(1.5), "wave": math.exp(1.4), "warp": None})
    assert search == "wave"
    assert relative == pytest.approx(math.exp(-0.8))
    assert usual.least({"places": None}) is None


def test_what_is_far_out_says_no_more():
    usual = Usual.of(MODELS)
    assert usual.relative("places", 0.0) == usual.relative("places", 1e-3)
    assert usual.relative("wave", 1e9) == usual.relative("wave", 300.0)


def test_a_search_of_which_too_little_is_known_says_nothing():
    usual = Usual.of([*MODELS, {"settled": 1.0}])
    assert set(usual.means) == {"places", "wave"}
    assert usual.least({"settled": 1e-3}) is None
    assert usual.least({"settled": 1e-3, "places": math.exp(2)})[0] == "places"


def test_models_that_hardly_differ_are_taken_to_differ_by_a_quarter():
    usual = Usual.of([{**model, "warp": 1e9} for model in MODELS])
    assert usual.relative("warp", 1e9) == 1
    assert usual.deviation("warp", 300 / math.e) == pytest.approx(-4)
    # Two models mirror each other: both are least usual by as much.
    alike = Usual.of([{"places": 1.0, "wave": 4.0}, {"places": 4.0, "wave": 1.0}])
    assert math.isfinite(alike.by_beside("wave", 2.0, BESIDE_MIDDLE))


def test_what_says_no_more_may_be_less():
    usual = Usual.of(MODELS, most=20.0)
    assert usual.relative("wave", 21.0) == usual.relative("wave", 20.0)
    assert usual.relative("wave", 19.0) < usual.relative("wave", 20.0)


def test_answers_beside_are_a_second_piece_of_evidence():
    usual = Usual.of([{"blend": math.exp(value)} for value in (1.0, 2.0, 3.0)])
    mean, spread = usual.least_usual
    assert (mean, spread) == pytest.approx((0, 1))

    def after(deviation: float, beside: float) -> float:
        suspicion, ratio = (
            math.exp(2 + deviation),
            BESIDE_MIDDLE * math.exp(BESIDE_DEVIATION * beside),
        )
        return deviation + math.log(usual.by_beside("blend", suspicion, ratio))

    assert after(-2, -2) == pytest.approx(-4 / math.sqrt(2))
    assert after(-2, 0) == pytest.approx(-math.sqrt(2))  # what was chance comes back
    assert after(-2, 2) == pytest.approx(0)
    assert after(-1, -9) == after(-1, -5) == pytest.approx(-3 / math.sqrt(2))  # two at most
