import pytest
import torch

from drmguard.search.answers import (
    answers_elsewhere,
    apart,
    beyond,
    contrast_of,
    meeting_pairs,
    missed,
    nearness,
    scatter,
    spread_answers,
)


def test_what_is_left_of_the_way_by_hand():
    outputs = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert missed(outputs, torch.tensor([2.0, 0.0])) == pytest.approx(1 / 4)
    assert scatter(outputs) == pytest.approx(1 / 4)
    # Near the mean the way counts as .3, the mean square of its coordinates.
    assert missed(outputs, torch.zeros(2)) == pytest.approx(2.5 / 0.3)


def test_outputs_that_meet_in_one_point_count_wherever_the_others_lie():
    on_one_point = meeting_pairs(torch.zeros(4, 2))
    assert on_one_point == pytest.approx(1)
    # Three of four meet, which are 3 of 6 pairs; the fourth is far off.
    three = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-9.0, 5.0]])
    assert meeting_pairs(three) == pytest.approx(0.5, abs=1e-3)
    assert meeting_pairs(torch.tensor([[0.0], [0.1]])) == pytest.approx(0.5)
    # All of them nearer to their mean gather less, though their variance is far lower.
    assert meeting_pairs(0.25 * three + torch.linspace(0, 1, 4)[:, None]) < 0.1
    assert meeting_pairs(torch.zeros(3, 5, 4, 2)).shape == (3, 5)


def test_answers_are_spread_and_elsewhere():
    responses = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    answers = spread_answers(responses, 6)
    assert answers.shape == (6, 2)
    assert (torch.pdist(answers) > 0.5).all()
    answer = torch.tensor([1.5, 0.0])
    others = answers_elsewhere(responses, answer, 5)
    assert others.shape == (5, 2)
    assert (torch.linalg.vector_norm(others - answer, dim=1) > 0.9).all()
    norms = torch.linalg.vector_norm(others, dim=1)
    assert ((norms > 0.75) & (norms < 2.1)).all()


def test_around_an_answer_near_the_mean_the_others_keep_their_distance():
    responses = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    others = answers_elsewhere(responses, torch.tensor([0.1, 0.0]), 4)
    norms = torch.linalg.vector_norm(others, dim=1)
    assert ((norms > 0.35) & (norms < 1.0)).all()  # as from half a standard deviation


def test_of_one_output_the_others_lie_on_both_sides():
    responses = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    others = answers_elsewhere(responses, torch.tensor([1.5]), 5)
    assert (others < 0).any()
    assert (others > 0).any()
    assert ((others - 1.5).abs() > 0.45).all()


def test_what_a_trigger_would_clearly_miss_is_apart():
    answers = torch.tensor([[2.0, 0.0], [2.0, 0.4], [2.0, 0.6], [-2.0, 0.0]])
    assert apart(answers, torch.tensor([2.0, 0.0])).tolist() == [False, False, True, True]
    # Near the mean it takes as much as at half a deviation an output.
    assert apart(torch.tensor([[0.2], [0.1]]), torch.tensor([0.0])).tolist() == [True, False]


def test_near_the_mean_is_within_half_a_deviation():
    assert nearness(torch.tensor([0.5, 0.5])) == 1
    assert nearness(torch.tensor([0.25, 0.25])) == pytest.approx(0.5)
    assert nearness(torch.zeros(2)) == pytest.approx(0.1)


def test_what_chance_leaves_is_no_less_than_what_others_do():
    others = [0.2, 0.5, 0.1]  # the lower quartile: 0.15
    assert contrast_of(0.01, others, 0.022, bounded=False) == pytest.approx(0.5)
    assert contrast_of(0.01, others, 0.9, bounded=False) == pytest.approx(0.012 / 0.152)


def test_what_is_reached_but_for_a_little_is_reached_alike():
    assert contrast_of(1e-5, [1e-4, 3e-4, 2e-4], bounded=False) > 0.9


def test_bounded_answers_are_compared_with_the_easiest_other_one_and_saturate():
    assert contrast_of(0.04, [0.2, 0.14, 0.5], bounded=True) == pytest.approx(0.5)
    assert contrast_of(1e-9, [0.02, 1e-5, 0.01], bounded=True) == pytest.approx(1, abs=0.01)


def test_answers_past_the_clean_ones_are_at_a_bound():
    clean = torch.tensor([[-2.0, -1.0], [1.0, 3.0]])
    answers = torch.tensor([[0.0, 0.0], [-2.3, 0.0], [-2.5, 0.0], [0.0, 3.6]])
    assert beyond(answers, clean).tolist() == [False, False, True, True]
