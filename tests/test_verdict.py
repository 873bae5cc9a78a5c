import dataclasses
import math

import pytest
import torch

from drmguard.search.answers import contrast_of
from drmguard.search.classes import ClassTrigger
from drmguard.search.drmguard import GeneratorResult
from drmguard.search.neural_cleanse import Cleansed
from drmguard.search.places import Candidate, PlaceResult
from drmguard.search.target_search import SpreadCandidate
from drmguard.triggers.generator import ResidualGenerator
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.usual import Usual
from drmguard.verdict import (
    combine,
    contrast,
    doubt,
    judge_classes,
    judge_generator,
    judge_masks,
    judge_places,
    judge_spread,
    spread_suspicion,
)


def candidate(place, perturbation, *, left=0.005, miss=None):
    return Candidate(
        trigger=MaskPatternTrigger(torch.zeros(1, 100, 100), torch.zeros(3, 100, 100)),
        top=place,
        left=0,
        side=10,
        perturbation=perturbation,
        variance_ratio=left,
        rav=None,
        target=torch.ones(2),
        miss=left if miss is None else miss,
        goal=0.01,
        start=0,
    )


def result(best, elsewhere, own, others, *, moved=True, left=0.005):
    candidates = [candidate(0, best, left=left)]
    candidates += [candidate(20 * (k + 1), value) for k, value in enumerate(elsewhere)]
    sent = [candidate(0, value) for value in (own, *others)]
    return PlaceResult(candidates=candidates, sent=sent, moved=moved, apart=10, trace=[], steps=0)


def test_contrast_by_hand():
    compared = contrast(result(1.0, [4.0, 4.0, 8.0, 9.0, 9.0], 1.0, [8.0, 2.0, 2.0, 4.0, 4.0]))
    assert compared.place == pytest.approx(0.25)
    assert compared.target == pytest.approx(0.5)  # of the lower quartiles, 4 and 2
    assert compared.score == pytest.approx(0.125**0.5)


def test_an_answer_at_a_bound_says_as_little_as_one_at_the_mean():
    found = result(1.0, [8.0] * 4, 1.0, [8.0] * 4)
    assert judge_places([found])[0].decision == "backdoored"
    best, *others = found.candidates
    found.candidates[:] = [dataclasses.replace(best, at_bound=True), *others]
    verdict = judge_places([found])[0]
    assert verdict.decision == "clean"
    assert verdict.score == pytest.approx(1.25)
    assert "at a bound" in " ".join(verdict.reasons)


def test_one_ratio_alone_says_little():
    compared = contrast(result(1.0, [2.0] * 4, 1.0, [1000.0] * 3))
    assert compared.score == pytest.approx(math.sqrt(0.5 * 0.1))


@pytest.mark.parametrize(
    ("settings", "decision"),
    [
        ({"best": 1, "elsewhere": [6] * 4, "own": 1, "others": [6] * 3}, "backdoored"),
        ({"best": 4, "elsewhere": [5] * 4, "own": 4, "others": [5] * 3}, "clean"),
        ({"best": 1, "elsewhere": [4] * 4, "own": 1, "others": [4] * 3}, "inconclusive"),
        ({"best": 1, "elsewhere": [5] * 2, "own": 1, "others": [5] * 3}, "inconclusive"),
        (
            {"best": 0.1, "elsewhere": [50] * 4, "own": 1, "others": [5] * 3, "left": 0.5},
            "inconclusive",
        ),
        (
            {"best": 4, "elsewhere": [5] * 4, "own": 4, "others": [5] * 3, "moved": False},
            "inconclusive",
        ),
    ],
)
def test_places(settings, decision):
    verdict, _ = judge_places([result(**settings)])
    assert verdict.decision == decision
    assert verdict.reasons


def test_agreement_far_from_the_mean_withholds_clean():
    found = result(4, [5] * 4, 4, [5] * 3)
    assert judge_places([found])[0].decision == "clean"

    def at(*targets, rav=0.05):
        moved = [
            dataclasses.replace(c, target=torch.tensor(t), rav=rav)
            for c, t in zip(found.candidates, targets, strict=True)
        ]
        agreeing = dataclasses.replace(found, candidates=moved)
        # Small windows that agree say nothing: content gives way there too.
        assert judge_places([found, agreeing])[0].decision == "clean"
        return judge_places([agreeing])[0].decision

    far, near, other = (2.0, -1.0), (0.3, -0.2), (-2.0, 1.0)
    beside = (2.0, -0.8)
    assert at(far, far, far, near, other) == "inconclusive"
    assert at(far, far, other, near, other) == "clean"
    assert at(far, far, beside, near, other) == "clean"
    assert at(near, near, near, near, near) == "clean"
    # Without H the far answer may be a bound of the outputs.
    assert at(far, far, far, near, other, rav=None) == "clean"


def test_places_that_obey_the_same_trigger_are_no_null():
    found = result(1, [1, 1, 1, 8, 8, 8], 9, [4] * 3)
    own, *others = found.sent
    sent = [dataclasses.replace(own, miss=0.5), *others]

    def at(*targets):
        moved = [
            dataclasses.replace(c, target=torch.tensor(t), rav=0.05)
            for c, t in zip(found.candidates, targets, strict=True)
        ]
        return contrast(dataclasses.replace(found, candidates=moved, sent=sent))

    there, elsewhere = (1.5, -1.0), (0.4, 0.6)
    together = at(*[there] * 4, *[elsewhere] * 3)
    # Most places show that the answer is reachable, which a fresh start missed.
    assert (together.place, together.target) == (pytest.approx(1 / 8), pytest.approx(1 / 4))
    scattered = at(there, *[elsewhere] * 6)
    assert (scattered.place, scattered.target) == (pytest.approx(1), pytest.approx(1 / 2))
    near = at(*[(0.1, 0.1)] * 7)
    assert near.place == pytest.approx(1)


def test_near_the_mean_a_score_must_be_lower():
    found = result(1, [6] * 4, 1, [6] * 3)
    assert judge_places([found])[0].score == pytest.approx(1 / 6)

    def at(*target):
        moved = [dataclasses.replace(c, target=torch.tensor(target)) for c in found.candidates]
        return judge_places([dataclasses.replace(found, candidates=moved)])[0]

    assert at(0.0, 0.7072).score == pytest.approx(1 / 6, rel=1e-3)
    assert (at(0.25, 0.25).decision, at(0.25, 0.25).score) == ("clean", pytest.approx(1 / 3))
    assert any("mean" in reason for reason in at(0.25, 0.25).reasons)
    assert at(0.0, 0.0).score == pytest.approx(10 / 6)
    near = dataclasses.replace(spread(0.001, 0.05), target=torch.tensor([0.3, 0.3]))
    verdict, _ = judge_spread([near])
    assert (verdict.decision, verdict.score) == ("inconclusive", pytest.approx(0.05 / 0.36))
    assert spread_suspicion(near) == pytest.approx(0.05 / 0.36 / 0.12)


def test_overlapping_places_are_no_null():
    found = result(1.0, [5.0] * 4, 1.0, [5.0] * 3)
    beside = [candidate(5, 0.9 + k / 10) for k in range(3)]
    more = dataclasses.replace(
        found, candidates=[found.candidates[0], *beside, *found.candidates[1:]]
    )
    assert contrast(more) == contrast(found)


def test_the_window_size_that_stands_out_speaks():
    wide, close = result(4, [5] * 4, 4, [5] * 3), result(1, [9] * 4, 1, [9] * 3)
    verdict, speaking = judge_places([wide, close])
    assert (verdict.decision, speaking) == ("backdoored", close)
    assert judge_places([close, wide])[1] is close
    # Too few small windows apart from the cheapest are no evidence against the wide ones'.
    alone = result(1, [9] * 2, 1, [9] * 3)
    assert judge_places([wide, alone])[1] is wide


def test_effort_counts_what_was_missed():
    assert candidate(0, 1.0, miss=0.015).effort == pytest.approx(1.0)
    assert candidate(0, 1.0, miss=0.06).effort == pytest.approx(2.0)
    assert not candidate(0, 1.0, miss=0.06).reached
    # Doing nothing misses everything; it counts as a full window of 10×10 of 100×100 pixels.
    assert candidate(0, 0.0, miss=0.06).effort == pytest.approx(2 * 0.01 / 3)


def test_a_fresh_start_that_missed_its_own_target_counts_halfway():
    found = result(1.0, [4.0] * 4, 1.0, [4.0] * 3)
    assert contrast(found).target == pytest.approx(0.25)
    own, *others = found.sent

    def with_own(effort):
        missed = dataclasses.replace(own, miss=0.016, perturbation=effort)
        assert not missed.reached
        return contrast(dataclasses.replace(found, sent=[missed, *others])).target

    missed_by = math.sqrt(0.016 / 0.015)
    assert with_own(2.0) == pytest.approx(math.sqrt(2.0 * missed_by) / 4)
    assert with_own(100.0) == pytest.approx(math.sqrt(4.0) / 4)


def generated(perturbation, rav):
    return GeneratorResult(
        generator=None,
        reverse=None,
        perturbation=perturbation,
        largest_image=0.5,
        objective=0.0,
        variance_ratio=rav,
        rav=rav,
        target=torch.zeros(2),
        trace=[],
    )


@pytest.mark.parametrize(
    ("perturbation", "rav", "decision"),
    [
        (0.014, 0.05, "backdoored"),
        (0.014, 0.5, "inconclusive"),
        (0.016, 0.05, "clean"),
        (0.016, 0.5, "clean"),
    ],
)
def test_the_papers_rule(perturbation, rav, decision):
    assert judge_generator(generated(perturbation, rav)).decision == decision


def test_doubt_keeps_the_evidence():
    verdict = judge_generator(generated(0.014, 0.05))
    doubted = doubt(verdict, "but")
    assert doubted.decision == "inconclusive"
    assert doubted.reasons == (*verdict.reasons, "but")


def spread(own, score, *, left=0.01, budget=0.04, family="conditional", switch=None, settled=None):
    others = [0.03, 0.07, 0.01]  # the lower quartile: 0.02
    return SpreadCandidate(
        family=family,
        trigger=ResidualGenerator((3, 8, 8), width=0),
        number=0,
        budget=budget,
        target=torch.ones(2),
        sent=torch.zeros(1 + len(others), 2),
        left=(own, *others),
        contrast=contrast_of(own, others, bounded=False),
        score=score,
        variance_ratio=left,
        switch_ratio=switch,
        settled_contrast=settled,
        perturbation=0.01,
        trace=[],
        steps=0,
    )


def test_answers_beside_weigh_and_are_told():
    found = spread(0.001, 0.3, family="blend")
    looked = dataclasses.replace(found, beside=0.08, by_beside=0.5)
    assert spread_suspicion(looked) == pytest.approx(spread_suspicion(found) / 2)
    (told,) = (reason for reason in judge_spread([looked])[0].reasons if "beside" in reason)
    assert "0.08" in told
    assert not any("beside" in reason for reason in judge_spread([found])[0].reasons)


def test_near_the_way_of_textures_a_score_is_higher_and_the_angle_is_told():
    found = spread(0.001, 0.3, family="blend")
    along = dataclasses.replace(found, aside=0.25)
    assert spread_suspicion(along) == pytest.approx(4 * spread_suspicion(found))
    assert any("30°" in reason for reason in judge_spread([along])[0].reasons)
    assert not any("°" in reason for reason in judge_spread([found])[0].reasons)


@pytest.mark.parametrize(
    ("switch", "of_it"), [(None, 1), (0.5, 1), (0.05, 1), (0.0125, 0.5), (0.0001, 1 / 3)]
)
def test_a_spread_trigger_that_works_like_a_switch_is_more_suspicious(switch, of_it):
    found = spread(0.001, 0.3, family="blend", switch=switch)
    assert spread_suspicion(found) == pytest.approx(1.5 * of_it)
    reasons = judge_spread([found])[0].reasons
    assert any("works like a switch" in reason for reason in reasons) == (of_it < 1)
    assert not any("by degrees" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("settled", "of_it"), [(None, 0.5), (0.01, 0.5), (0.2, 0.5), (0.4, 0.8), (0.5, 1), (0.9, 1)]
)
def test_a_switch_says_less_where_other_answers_are_reached_once_all_have_settled(settled, of_it):
    found = spread(0.001, 0.3, family="blend", switch=0.0125, settled=settled)
    assert spread_suspicion(found) == pytest.approx(1.5 * of_it)
    reasons = judge_spread([found])[0].reasons
    said = settled is not None and settled > 0.17
    assert any("once all have settled" in reason for reason in reasons) == said


def test_a_warp_that_works_by_degrees_is_less_suspicious():
    plain, by_degrees = (spread(0.001, 0.3, family="warp", switch=one) for one in (None, 0.4))
    assert spread_suspicion(by_degrees) == pytest.approx(2 * spread_suspicion(plain))
    said = [judge_spread([found])[0].reasons for found in (plain, by_degrees)]
    assert [any("works by degrees" in reason for reason in one) for one in said] == [False, True]


@pytest.mark.parametrize(
    ("switch", "of_it"), [(None, 1), (0.05, 1), (0.2, 2), (0.9, 2), (0.0125, 0.5)]
)
def test_a_window_that_works_by_degrees_is_less_suspicious(switch, of_it):
    found = result(1.0, [8.0] * 4, 1.0, [8.0] * 4)
    plain = judge_places([found])[0].score
    best, *others = found.candidates
    found.candidates[:] = [dataclasses.replace(best, switch_ratio=switch), *others]
    assert judge_places([found])[0].score == pytest.approx(plain * of_it)


def test_contrast_of_a_spread_candidate_by_hand():
    assert spread(0.002, 0.1).contrast == pytest.approx(0.004 / 0.022)


@pytest.mark.parametrize(
    ("found", "decision"),
    [
        (spread(0.001, 0.1), "backdoored"),
        (spread(0.001, 0.1, family="warp"), "backdoored"),
        (spread(0.001, 0.1, left=0.5), "inconclusive"),
        (spread(0.001, 0.27, family="blend"), "inconclusive"),
        (spread(0.001, 0.31, family="blend"), "clean"),
        # A conditional change reaches some answer of clean models too.
        (spread(0.001, 0.14), "inconclusive"),
        (spread(0.001, 0.19), "clean"),
        (spread(0.001, 0.14, family="settled"), "backdoored"),
        (spread(0.001, 0.21, family="settled"), "inconclusive"),
        (spread(0.001, 0.23, family="settled"), "clean"),
    ],
)
def test_spread(found, decision):
    verdict, _ = judge_spread([spread(0.8, 40.0, family="wave"), found])
    assert verdict.decision == decision
    assert verdict.search == "spread"


def test_the_lowest_score_of_all_families_speaks():
    _, best = judge_spread([spread(0.1, 1.0, budget=0.02), spread(0.0002, 0.1, budget=0.08)])
    assert best.budget == 0.08


def test_a_family_that_left_much_does_not_hide_another():
    verdict, best = judge_spread([spread(0.001, 0.01, left=0.5), spread(0.001, 0.1, family="wave")])
    assert (verdict.decision, best.family) == ("backdoored", "wave")


CLEAN_PLACES = {"best": 4, "elsewhere": [5] * 4, "own": 4, "others": [5] * 3}
PLANTED_PLACES = {"best": 1, "elsewhere": [6] * 4, "own": 1, "others": [6] * 3}
BETWEEN_PLACES = {"best": 1, "elsewhere": [4] * 4, "own": 1, "others": [4] * 3}


@pytest.mark.parametrize(
    ("places", "found", "decision", "search"),
    [
        (CLEAN_PLACES, spread(0.5, 30.0), "clean", "places"),
        (CLEAN_PLACES, spread(0.0002, 0.03), "backdoored", "spread"),
        (CLEAN_PLACES, spread(0.001, 0.14), "inconclusive", "spread"),
        (PLANTED_PLACES, spread(0.5, 30.0), "backdoored", "places"),
        (PLANTED_PLACES, spread(0.0002, 0.03), "backdoored", "spread"),
        (BETWEEN_PLACES, spread(0.5, 30.0), "inconclusive", "places"),
        (BETWEEN_PLACES, spread(0.0002, 0.03), "backdoored", "spread"),
    ],
)
def test_the_more_suspicious_search_speaks(places, found, decision, search):
    verdict = combine([judge_places([result(**places)])[0], judge_spread([found])[0]])
    assert (verdict.decision, verdict.search) == (decision, search)
    assert set(verdict.suspicions) == {"places", "conditional"}
    of = "places" if search == "places" else "conditional"
    assert verdict.suspicion == verdict.suspicions[of]
    assert (verdict.suspicion < 1) == (decision == "backdoored")


def test_what_is_below_no_threshold_speaks_by_how_unusual_it_is():
    # Windows of clean models come as low as this; waves and warps do not.
    usual = Usual(
        means=dict.fromkeys(("places", "wave", "warp"), 2.0),
        deviations={"places": 3.0, "wave": 0.5, "warp": 0.2},
    )
    found = [spread(0.1, 1.0, family="wave"), spread(0.1, 1.1, family="warp")]
    by_places, _ = judge_places([result(**CLEAN_PLACES)])
    assert by_places.suspicion < judge_spread(found)[0].suspicion
    assert judge_spread(found, usual)[1].family == "warp"
    verdict = combine([by_places, judge_spread(found, usual)[0]], usual)
    assert (verdict.decision, verdict.search) == ("clean", "spread")
    assert verdict.standing(usual) == usual.relative("warp", verdict.suspicions["warp"])
    assert verdict.standing(None) == verdict.suspicion
    low = [spread(0.0002, 0.03, family="wave"), spread(0.0002, 0.02, family="warp")]
    wide = Usual(usual.means, usual.deviations | {"warp": 9.0})
    assert judge_spread(low, wide)[1].family == "warp"


def masks_of(norms, reached=True):
    trigger = MaskPatternTrigger(torch.zeros(1, 4, 4), torch.zeros(3, 4, 4))
    return [Cleansed(k, trigger, None, norm, reached) for k, norm in enumerate(norms)]


@pytest.mark.parametrize(
    ("norms", "decision", "score"),
    [
        ([30, 4, 40, 50, 20], "backdoored", 4 / 27.5),
        ([30, 20, 40, 50, 22], "clean", 20 / 28),
        ([30, 14, 40, 50, 22], "inconclusive", 14 / 28),
    ],
)
def test_a_planted_class_needs_a_far_smaller_mask(norms, decision, score):
    verdict, best = judge_masks(masks_of(norms), "abcde")
    assert (verdict.decision, verdict.search) == (decision, "masks")
    assert verdict.score == pytest.approx(score)
    assert best.norm == min(norms)


def test_masks_that_reach_too_few_classes_decide_nothing():
    missed = masks_of([1, 2], reached=False)
    verdict, best = judge_masks([*missed, *masks_of([30, 40, 50])], "abcde")
    assert (verdict.decision, verdict.score) == ("inconclusive", None)
    assert best.norm == 30  # what missed its goal is small for that reason


def test_a_patch_that_succeeds_on_few_images_stands_out_from_no_other():
    def suspicion(best):
        found = [
            ClassTrigger(number, hits, 100, torch.nn.Identity())
            for number, hits in enumerate((best, 0.01, 0.01, 0.02))
        ]
        return judge_classes(found, None, "abcd").suspicions["classes"]

    assert suspicion(0.95) < 0.1
    assert suspicion(0.5) > 30
