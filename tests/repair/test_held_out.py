"""What is chosen by, by hand."""

import torch

from drmguard.repair.held_out import Errors, surely_above


def test_errors_are_means_and_fine_tuning_ignores_triggers():
    errors = Errors(torch.tensor([1.0, 3.0]), torch.tensor([5.0, 9.0]))
    assert (errors.clean, errors.stamped) == (2.0, 7.0)
    assert errors.to_minimise(True).tolist() == [6.0, 12.0]
    assert errors.to_minimise(False).tolist() == [1.0, 3.0]
    alone = Errors(torch.tensor([1.0]), None)
    assert alone.stamped is None
    assert alone.to_minimise(True).tolist() == [1.0]


def test_surely_above_is_more_than_one_standard_error_of_the_differences():
    others = torch.tensor([5.0, 1.0, 7.0, 3.0])
    # Differences of mean .5 and deviation .577, a standard error of .289.
    assert surely_above(others + torch.tensor([0.0, 1.0, 0.0, 1.0]), others)
    # Mean .25, deviation .957: a standard error of .479.
    assert not surely_above(others + torch.tensor([-1.0, 0.0, 1.0, 1.0]), others)
    assert not surely_above(others, others)
