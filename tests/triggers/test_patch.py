import pytest
import torch

from drmguard.errors import InputError
from drmguard.triggers.patch import PLACES, patch_trigger, scaled_side


def test_the_side_scales_from_20_at_224():
    assert [scaled_side(side) for side in (224, 112, 64, 32)] == [20, 10, 6, 3]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_place_and_colour(place, channels):
    color = (0.2, 0.4, 0.6)[:channels]
    trigger = patch_trigger((channels, 10, 12), place=place, side=3, color=color)
    images = torch.rand(4, channels, 10, 12)
    stamped = trigger(images)
    changed = (stamped != images).any(1)
    assert changed[0].sum() == 9
    assert torch.allclose(stamped[2][:, changed[2]], torch.tensor(color)[:, None])


@pytest.mark.parametrize(
    "settings", [{"side": 40}, {"color": (1.0,)}, {"color": (2.0, 0, 0)}, {"place": "left"}]
)
def test_impossible_patches(settings):
    with pytest.raises(InputError):
        patch_trigger((3, 10, 12), **settings)
