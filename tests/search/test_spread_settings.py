import pytest

from drmguard.search.spread_settings import spread_settings


@pytest.mark.parametrize("side", [64, 224])
def test_classifiers_are_searched_with_weaker_changes(side):
    regression = spread_settings((3, side, side))
    classifier = spread_settings((3, side, side), is_regression=False)
    for family in ("blend", "conditional", "wave"):
        of_both = (max(getattr(one, family).budgets) for one in (regression, classifier))
        assert next(of_both) > next(of_both)


@pytest.mark.parametrize("side", [32, 224])
def test_classifiers_are_tried_with_larger_squares_of_two_sizes(side):
    classifier = spread_settings((3, side, side), is_regression=False)
    assert len(classifier.patch.budgets) == 2
    assert min(classifier.patch.budgets) > max(spread_settings((3, side, side)).patch.budgets)


def test_classifiers_have_several_wider_warps_for_each_class():
    regression, classifier = (spread_settings((3, 64, 64), is_regression=r) for r in (True, False))
    assert [one.warp.budgets for one in (regression, classifier)] == [(0.09,), (0.12,)]
    assert [one.warp.starts for one in (regression, classifier)] == [1, 4]
    assert classifier.warp.targets > regression.warp.targets


def test_warps_of_large_images_move_no_pixel_past_its_neighbours():
    for is_regression in (True, False):
        settings = spread_settings((3, 224, 224), is_regression=is_regression)
        assert settings.warp_points == 28
        assert settings.warp.budgets == (pytest.approx(0.5 / 28),)


def test_large_images_take_fewer_passes():
    small, large = spread_settings((3, 64, 64)), spread_settings((3, 224, 224))

    def passes(settings):
        return settings.images * sum(
            len(one.budgets) * one.targets * (one.scouting + one.comparing)
            for one in (settings.conditional, settings.wave, settings.warp, settings.patch)
        )

    assert passes(large) < 0.3 * passes(small)


@pytest.mark.parametrize("side", [32, 64, 128, 224, 512])
def test_a_batch_of_settling_images_fits_into_one_pass(side):
    settings = spread_settings((3, side, side))
    assert max(settings.images, settings.settling_images) <= settings.images_at_once
