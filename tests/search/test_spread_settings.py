from drmguard.search.spread_settings import spread_settings


def test_waves_on_classifiers_are_weaker():
    settings = spread_settings((3, 64, 64)), spread_settings((3, 64, 64), is_regression=False)
    assert [max(one.wave.budgets) for one in settings] == [0.26, 0.135]
    assert settings[0].blend == settings[1].blend


def test_large_images_take_fewer_passes():
    small, large = spread_settings((3, 64, 64)), spread_settings((3, 224, 224))

    def passes(settings):
        return settings.images * sum(
            len(one.budgets) * one.targets * (one.scouting + one.comparing)
            for one in (settings.conditional, settings.wave, settings.warp, settings.patch)
        )

    assert passes(large) < 0.3 * passes(small)
