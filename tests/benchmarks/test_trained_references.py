"""What benchmarks/trained_references.py makes of references' standings."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trained_references.py"


@pytest.fixture(scope="module")
def trained_references():
    spec = importlib.util.spec_from_file_location("trained_references", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_lies_far_below_the_references_is_found_and_what_lies_among_them_is_not(
    trained_references,
):
    found, flagged, even = trained_references.under(
        [0.8, 1.0, 1.25], attacked=[0.01, 0.02, 1.1], clean=[0.9, 1.0, 1.1]
    )
    assert (found, flagged) == (2, 0)
    assert 0 < even <= 1


def test_a_clean_model_as_low_as_an_attacked_one_is_flagged(trained_references):
    _, flagged, _ = trained_references.under([0.8, 1.0, 1.25], attacked=[0.01], clean=[0.01, 1.0])
    assert flagged == 1
