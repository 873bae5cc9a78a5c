"""Every trigger: what it does to images, and that a file gives the same one back."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import drmguard
from drmguard.errors import InputError
from drmguard.triggers.blend import blend_trigger
from drmguard.triggers.generator import InputAwareGenerator, ResidualGenerator
from drmguard.triggers.input_aware import InputAwareTrigger
from drmguard.triggers.mask_pattern import MaskPatternTrigger
from drmguard.triggers.patch import patch_trigger
from drmguard.triggers.placed_patch import (
    PlacedPatchTrigger,
    black_and_white_patch,
    random_color_patch,
)
from drmguard.triggers.sinusoid import SinusoidTrigger
from drmguard.triggers.sunglasses import sunglasses_trigger
from drmguard.triggers.trigger_file import save_trigger
from drmguard.triggers.warp import WarpTrigger, default_grid, default_strength, warp_trigger

SHAPE = (3, 32, 24)
TRIGGERS = {
    "patch": lambda: patch_trigger(SHAPE, side=4),
    "blend": lambda: blend_trigger(SHAPE, seed=1),
    "sinusoid": lambda: SinusoidTrigger(0.1, 4),
    "warp": lambda: warp_trigger(SHAPE, seed=2),
    "placed patch": lambda: PlacedPatchTrigger(random_color_patch(3, 5)),
    "sunglasses": lambda: sunglasses_trigger(SHAPE),
    "input-aware": lambda: InputAwareTrigger(3).eval(),
    "generator": lambda: InputAwareGenerator(3).eval(),
    "residual": lambda: ResidualGenerator(SHAPE, width=4),
    "pattern only": lambda: ResidualGenerator(SHAPE, width=0),
}


def images(count=5, shape=SHAPE):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_saved_trigger_is_the_same_on_any_batch(tmp_path, name):
    torch.manual_seed(0)
    path = tmp_path / "a.trigger.safetensors"
    save_trigger(path, TRIGGERS[name](), target=torch.tensor([0.3, -0.35]), relative=True)
    # A fresh one beside it, since a placed patch draws its places one after the other.
    torch.manual_seed(0)
    trigger, loaded = TRIGGERS[name](), drmguard.load_trigger(path)
    with torch.no_grad():
        for count in (5, 1):
            stamped = trigger(images(count))
            assert stamped.shape == (count, *SHAPE)
            assert stamped.min() >= 0
            assert stamped.max() <= 1
            assert torch.equal(loaded.trigger(images(count)), stamped)
    assert loaded.target.tolist() == pytest.approx([0.3, -0.35])
    assert loaded.relative
    assert not any(p.requires_grad for p in loaded.trigger.parameters())


def test_other_modules_are_not_triggers(tmp_path):
    with pytest.raises(ValueError, match="Linear"):
        save_trigger(tmp_path / "a.safetensors", nn.Linear(2, 2))


def test_bad_trigger_files(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        drmguard.load_trigger(path)
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="not a safetensors file"):
        drmguard.load_trigger(path)
    save_file({"mask": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not of a trigger"):
        drmguard.load_trigger(path)
    for metadata in ("{", '{"kind": "laser"}', '{"kind": "mask-pattern"}', "[]"):
        save_file({"mask": torch.zeros(1)}, path, {"drmguard_trigger": metadata})
        with pytest.raises(InputError, match="not a readable trigger"):
            drmguard.load_trigger(path)


def test_blend_is_a_weighted_mean():
    trigger = blend_trigger(SHAPE, alpha=0.25, cells=8, seed=3)
    assert torch.allclose(trigger(images()), 0.75 * images() + 0.25 * trigger.pattern)
    other = blend_trigger(SHAPE, alpha=0.25, cells=8, seed=4)
    assert not torch.equal(trigger.pattern, other.pattern)
    for settings in ({"alpha": 0}, {"alpha": 1.2}, {"cells": 0}, {"cells": 25}):
        with pytest.raises(InputError):
            blend_trigger(SHAPE, **settings)


def test_sinusoid_by_hand():
    grey = torch.full((1, 3, 4, 24), 0.5)
    wave = SinusoidTrigger(0.1, 6)(grey)[0, 0, 0] - 0.5
    expected = [0.1 * math.sin(2 * math.pi * j * 6 / 24) for j in range(24)]
    assert torch.allclose(wave, torch.tensor(expected), atol=1e-6)
    for settings in ((0, 6), (2, 6), (0.1, 0)):
        with pytest.raises(InputError):
            SinusoidTrigger(*settings)


def test_a_warp_of_nothing_is_the_identity_and_a_shift_shifts():
    still = WarpTrigger(torch.zeros(32, 24, 2))
    assert torch.allclose(still(images()), images(), atol=1e-5)
    one_pixel = torch.zeros(32, 24, 2)
    one_pixel[..., 0] = 2 / 23
    shifted = WarpTrigger(one_pixel)(images())
    assert torch.allclose(shifted[..., :-1], images()[..., 1:], atol=1e-5)


def test_warps_scale_with_the_image():
    assert [default_grid(side) for side in (224, 112, 64)] == [28, 14, 8]
    assert [default_strength(side) for side in (224, 128, 64)] == [1, 1, 4]
    noise = torch.rand(5, 32, 24, 2) * 2 - 1
    trigger = warp_trigger(SHAPE)
    assert not torch.equal(trigger(images(), noise), trigger(images()))
    for settings in ({"grid": 1}, {"grid": 40}, {"strength": 0}):
        with pytest.raises(InputError):
            warp_trigger(SHAPE, **settings)


def test_a_placed_patch_moves_from_image_to_image():
    patch = black_and_white_patch(3, 0b111111111)
    assert torch.equal(patch, torch.ones(3, 3, 3))
    stamped = PlacedPatchTrigger(patch, seed=1)(torch.zeros(40, *SHAPE))
    assert (stamped.sum((1, 2, 3)) == 27).all()
    corners = {tuple(torch.nonzero(image[0])[0].tolist()) for image in stamped}
    assert len(corners) > 20
    with pytest.raises(InputError):
        black_and_white_patch(3, 512)
    with pytest.raises(InputError, match="does not fit"):
        PlacedPatchTrigger(torch.ones(3, 40, 3))(images())


def test_bits_are_squares():
    assert black_and_white_patch(1, 0b000000101)[0].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_sunglasses_cover_the_wanted_share():
    for shape in ((3, 55, 47), (3, 64, 64), (1, 32, 32)):
        trigger = sunglasses_trigger(shape)
        assert isinstance(trigger, MaskPatternTrigger)
        assert 0.12 < trigger.mask.mean() < 0.2
    for settings in ({"width": 2.0}, {"top": 0.9}, {"left": -0.1}, {"color": (2.0, 0, 0)}):
        with pytest.raises(InputError):
            sunglasses_trigger(SHAPE, **settings)
