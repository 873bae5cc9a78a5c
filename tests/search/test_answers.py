import pytest
import torch

from drmguard.search.answers import (
    answers_elsewhere,
    contrast_of,
    missed,
    scatter,
    spread_answers,
)


def test_what_is_left_of_the_way_by_hand():
    outputs = torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert missed(outputs, torch.tensor([2.0, 0.0])) == pytest.approx(1 / 4)
    assert scatter(outputs) == pytest.approx(1 / 4)
    # Near the mean the way counts as .3, the mean square of its coordinates.
    assert missed(outputs, torch.zeros(2)) == pytest.approx(2.5 / 0.3)


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


def test_bounded_answers_are_compared_with_the_easiest_other_one_and_saturate():
    assert contrast_of(0.01, [0.02, 0.05, 0.01], bounded=False) == 0.5
    assert contrast_of(0.01, [0.02, 0.05, 0.01], bounded=False, alike=0.01) == pytest.approx(2 / 3)
    assert contrast_of(0.04, [0.2, 0.14, 0.5], bounded=True) == pytest.approx(0.5)
    assert contrast_of(1e-9, [0.02, 1e-5, 0.01], bounded=True) == pytest.approx(1, abs=0.01)
