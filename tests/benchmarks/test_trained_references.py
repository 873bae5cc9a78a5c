"""What benchmarks/trained_references.py makes of references' standings."""

from trained_references import under


def test_what_lies_far_below_the_references_is_found_and_what_lies_among_them_is_not():
    found, flagged, even = under(
        [0.8, 1.0, 1.25], attacked=[0.01, 0.02, 1.1], clean=[0.9, 1.0, 1.1]
    )
    assert (found, flagged) == (2, 0)
    assert 0 < even <= 1


def test_a_clean_model_as_low_as_an_attacked_one_is_flagged():
    _, flagged, _ = under([0.8, 1.0, 1.25], attacked=[0.01], clean=[0.01, 1.0])
    assert flagged == 1
