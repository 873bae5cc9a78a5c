"""Each family by hand."""

import itertools

import pytest
import torch

from drmguard.search.patterns import (
    Blends,
    Conditionals,
    SparseChanges,
    SquarePatches,
    Warps,
    Waves,
    probing_patches,
    probing_waves,
)
from drmguard.tasks import Regression
from drmguard.triggers.trigger_file import load_trigger, save_trigger

TASK = Regression(("a", "b"))


def test_a_blend_by_hand():
    blends = Blends(2, (3, 6, 4), 2, 0.25, seed=0)
    with torch.no_grad():
        blends.raw[0] = -1e3
        blends.raw[1] = 1e3
    images = torch.rand(5, 3, 6, 4)
    black, white = blends.stamp(images, blends.changes())
    assert torch.allclose(black, 0.75 * images)
    assert torch.allclose(white, 0.75 * images + 0.25)
    assert torch.allclose(blends.trigger(1)(images), white)


def test_some_of_the_changes_are_taken_as_they_are():
    blends = Blends(3, (3, 6, 4), 2, 0.25, seed=0)
    taken = blends.taken(torch.tensor([2, 0, 2]))
    assert torch.equal(taken.changes(), blends.changes()[[2, 0, 2]])
    with torch.no_grad():
        taken.raw.zero_()
    assert blends.raw.abs().min() > 0


def test_conditional_changes_stay_within_their_budget():
    family = Conditionals(2, (3, 6, 5), 4, seed=0)
    family.budget = 0.1
    with torch.no_grad():
        family.writing.normal_(0, 1e6)
    images = torch.rand(3, 3, 6, 5)
    stamped = family.stamp(images, family.changes())
    assert stamped.shape == (2, 3, 3, 6, 5)
    assert 0.05 < (stamped - images).abs().max() <= 0.1 + 1e-6


def test_a_conditional_change_alone_and_from_a_file_is_the_same(tmp_path):
    family = Conditionals(3, (3, 6, 5), 4, seed=0)
    family.budget = 0.1
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(torch.randn_like(parameter))
    images = torch.rand(2, 3, 6, 5)
    together = family.stamp(images, family.changes())
    some = family.stamp(images, torch.tensor([2, 0]))
    assert torch.allclose(some, together[[2, 0]], atol=1e-5)
    for number in range(3):
        alone = family.trigger(number)
        assert torch.allclose(alone(images), together[number], atol=1e-5)
    save_trigger(tmp_path / "conditional.safetensors", alone)
    again = load_trigger(tmp_path / "conditional.safetensors").trigger
    assert torch.equal(again(images), alone(images))


def test_a_warp_by_hand():
    warps = Warps(2, (3, 5, 9), 2, 0.125, seed=0)
    with torch.no_grad():
        warps.raw.zero_()
        warps.raw[1, 0] = 1e3  # to the right by an eighth of the width, in full: one pixel of nine
    images = torch.rand(3, 3, 5, 9)
    still, moved = warps.stamp(images, warps.changes())
    assert torch.allclose(still, images, atol=1e-5)
    assert torch.allclose(moved[..., :-1], images[..., 1:], atol=1e-5)
    assert torch.allclose(warps.trigger(1)(images), moved)


def test_a_wave_by_hand():
    signs = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    frequencies, phases = torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([0.0, 0.25])
    across, down = Waves(frequencies, phases, signs, (3, 8, 8), 0.1).changes()
    assert across.shape == (3, 8, 8)
    expected = 0.09 * torch.tensor([0.0, 1, 0, -1, 0, 1, 0, -1])
    assert torch.allclose(across[::2], expected.expand(2, 8, 8), atol=1e-7)
    assert torch.allclose(across[1], -expected.expand(8, 8), atol=1e-7)
    assert torch.allclose(down[:, 0], torch.tensor(0.09).expand(3, 8))
    assert torch.allclose(down[:, 4], torch.tensor(-0.09).expand(3, 8))


def test_every_probing_wave_is_tried_in_every_direction_phase_and_colour():
    frequencies, phases, signs = probing_waves(3, channels=3)
    assert frequencies.shape == (3 * 4 * 4 * 4, 2)
    assert signs.unique(dim=0).tolist() == [[-1, 1, 1], [1, -1, 1], [1, 1, -1], [1, 1, 1]]
    assert probing_waves(3, channels=1)[2].tolist() == [[1.0]] * (3 * 4 * 4)
    lengths = torch.linalg.vector_norm(frequencies, dim=1)
    assert sorted(set(lengths.round().tolist())) == [1, 2, 3]
    assert sorted(set(phases.tolist())) == [0, 0.25, 0.5, 0.75]


def test_patches_by_hand(tmp_path):
    places, colours = [(0, 1), (3, 2)], torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    patches = SquarePatches(places, colours, (3, 5, 4), side=2)
    images = torch.rand(6, 3, 5, 4)
    first, second = patches.stamp(images, patches.changes())
    for stamped, (top, left), colour in zip((first, second), places, colours, strict=True):
        inside = torch.zeros(5, 4, dtype=torch.bool)
        inside[top : top + 2, left : left + 2] = True
        assert torch.equal(stamped[..., ~inside], images[..., ~inside])
        expected = colour[:, None].expand(6, 3, 4)
        assert torch.allclose(stamped[..., inside], expected, atol=0.05)
    assert torch.equal(patches.stamp(images, torch.tensor([1]))[0], second)
    save_trigger(tmp_path / "patch.safetensors", patches.trigger(1))
    again = load_trigger(tmp_path / "patch.safetensors").trigger
    assert torch.allclose(again(images), second, atol=1e-6)


def test_sparse_changes_share_out_their_opacity(tmp_path):
    family = SparseChanges(3, (3, 8, 5), 0.1, seed=0)
    with torch.no_grad():
        family.opacity[1, :, 2, :3] = 8.0  # three pixels, full; the fourth of 40 is shared out
        family.opacity[2, :, 2, :3] = 30.0
    masks, pictures = family.changes().split([1, 3], 1)
    assert masks.shape == (3, 1, 8, 5)
    assert masks.max() <= 1
    assert masks.mean((1, 2, 3)).tolist() == pytest.approx([0.1] * 3, rel=0.01)
    assert masks[0].max() < 2 * masks[0].min()  # at first all are about as opaque
    assert torch.allclose(masks[1, 0, 2, :3], torch.ones(3))
    assert masks.isfinite().all()
    images = torch.rand(6, 3, 8, 5)
    stamped = family.stamp(images, family.changes())
    assert torch.allclose(stamped[1][..., 2, :3], pictures[1][:, 2, :3].expand(6, 3, 3))
    save_trigger(tmp_path / "sparse.safetensors", family.trigger(0))
    again = load_trigger(tmp_path / "sparse.safetensors").trigger
    assert torch.allclose(again(images), stamped[0], atol=1e-6)


def test_probing_patches_cover_the_image_in_every_colour():
    places, colours = probing_patches((3, 10, 7), 4, 2)
    assert len(places) == len(colours) == 4 * 3 * 8
    assert len(set(zip(places, map(tuple, colours.tolist()), strict=True))) == len(places)
    rows = sorted({row for row, _ in places})
    assert (rows[0], rows[-1]) == (0, 6)
    assert max(b - a for a, b in itertools.pairwise(rows)) == 2
    assert len(probing_patches((1, 10, 7), 4, 2)[1].unique(dim=0)) == 2
    assert len(probing_patches((5, 10, 7), 4, 2)[1].unique(dim=0)) == 12
