import pytest

from drmguard.search.spread_settings import spread_settings


def test_waves_on_classifiers_are_weaker_and_warps_wider():
    settings = spread_settings((3, 64, 64)), spread_settings((3, 64, 64), is_regression=False)
    assert [max(one.wave.budgets) for one in settings] == [0.26, 0.135]
    assert [one.warp.budgets for one in settings] == [(0.09,), (0.12,)]
    assert settings[0].blend == settings[1].blend


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
