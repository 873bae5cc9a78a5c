"""How the spread families are searched: budgets, steps and sizes, by the images' shape."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from drmguard.search.passes import LARGE_SIDE, images_at_once
from drmguard.triggers.warp import default_grid

# What a conditional change settles to counts as a family of its own.
FamilyName = Literal["blend", "conditional", "settled", "wave", "warp", "patch", "sparse"]
# Families whose changes can leave nothing of the content to be seen.
DROWNING: tuple[FamilyName, ...] = ("blend", "conditional", "wave")
# Families whose changes are as good as noise.
TEXTURING: tuple[FamilyName, ...] = (*DROWNING, "sparse")
# Families that only several outputs of a regression model are searched by: a few opaque pixels send
# one output anywhere, and a clean classifier to most classes.
SEVERAL_OUTPUTS: tuple[FamilyName, ...] = ("sparse",)

# A warp moves a pixel by at most this share of the side; of large images, where control points may
# lie nearer, by half their distance as well.
_WARP_BUDGET, _LARGE_WARP_BUDGET = 0.09, 1 / 16
# Budgets of blends, conditional changes and waves on classifiers: stronger ones send a clean one's
# images to any class, as wider warps do not.
_CLASS_BLEND, _CLASS_CONDITIONAL, _CLASS_WAVE = (0.2, 0.15), (0.03, 0.04, 0.055), (0.135,)
_CLASS_WARP = (0.12,)
# Squares on classifiers: every class of a clean one is far even from the larger.
_CLASS_PATCH = (5 / 32, 7 / 32)
# So many classes are searched at once.
_CLASSES = 16


@dataclass(frozen=True)
class Ladder:
    """How one family is searched.

    Attributes:
        budgets: the rungs: largest change of a pixel; of warps, largest displacement over the
            side; of patches, their side over the image's; of sparse changes, their mean opacity.
        targets: targets searched at once; one of them is compared with the others.
        scouting, comparing: optimiser steps on each rung.
        collapsed: unit of the outputs' variance that is left, in clean variances: a planted answer
            leaves a fraction of it.  Families of few numbers come less near.
        starts: scouts for each answer.  Of several the nearest goes on to be compared; else fresh
            ones are.
    """

    budgets: tuple[float, ...]
    targets: int
    scouting: int
    comparing: int
    collapsed: float
    starts: int = 1

    @property
    def climbs(self) -> bool:
        """Whether the budgets grow, so that no rung but the last is an end."""
        return self.budgets[-1] > self.budgets[0]


@dataclass(frozen=True)
class SpreadSettings:
    """How to search for spread triggers.

    Attributes:
        blend, conditional, wave, warp, patch, sparse: the families; waves and patches are scouted
            by trying them.
        settling: steps in which compared changes settle.
        settling_images: images a step of these.
        meeting: scouts more, which may lead to wherever some outputs meet.
        blend_points: points a side of a blend's picture.
        width: channels of a conditional change's network.
        frequencies, probed: waves tried over the image's side, and clean images that each is
            tried on.
        promising: waves that are then tried on ``scouted`` images.
        warp_points: control points a side of a warp.
        patch_spacing: from one tried patch to the next, in sides of them.
        patch_probed: clean images that each is tried on.
        images: images a step.
        scouted, measured: clean images on which each stage measures what is left.
        images_at_once: stamped images in one pass, which bounds the memory.
    """

    blend: Ladder = Ladder((0.3, 0.2, 0.14), 8, 30, 30, collapsed=0.02)
    conditional: Ladder = Ladder((0.035, 0.055, 0.08, 0.12), 8, 15, 22, collapsed=0.02)
    wave: Ladder = Ladder((0.2, 0.26), 8, 0, 40, collapsed=0.007)
    warp: Ladder = Ladder((_WARP_BUDGET,), 8, 80, 80, collapsed=0.25)
    patch: Ladder = Ladder((3 / 32,), 8, 0, 40, collapsed=0.05)
    sparse: Ladder = Ladder((0.06, 0.03, 0.015, 0.008), 8, 40, 40, collapsed=0.02)
    settling: int = 40
    settling_images: int = 12
    meeting: int = 4
    blend_points: int = 16
    width: int = 24
    frequencies: int = 12
    probed: int = 8
    promising: int = 32
    warp_points: int = 8
    patch_spacing: float = 0.5
    patch_probed: int = 4
    images: int = 6
    scouted: int = 48
    measured: int = 128
    images_at_once: int = 96


def spread_settings(
    image_shape: tuple[int, int, int], *, is_regression: bool = True
) -> SpreadSettings:
    """The fast recipe's settings for images of this shape (C, H, W)."""
    settings = _spread_settings(image_shape)
    if is_regression:
        return settings
    replace = dataclasses.replace
    settings = replace(
        settings,
        blend=replace(settings.blend, budgets=_CLASS_BLEND),
        conditional=replace(settings.conditional, budgets=_CLASS_CONDITIONAL),
        wave=replace(settings.wave, budgets=_CLASS_WAVE),
        patch=replace(settings.patch, budgets=_CLASS_PATCH),
    )
    if min(image_shape[1:]) >= LARGE_SIDE:
        return settings
    return replace(
        settings,
        blend=replace(settings.blend, targets=_CLASSES, scouting=60, comparing=60),
        conditional=replace(settings.conditional, targets=_CLASSES),
        wave=replace(settings.wave, targets=_CLASSES),
        warp=replace(settings.warp, targets=_CLASSES, budgets=_CLASS_WARP, starts=4),
        patch=replace(settings.patch, targets=_CLASSES),
        warp_points=6,
    )


def _spread_settings(image_shape: tuple[int, int, int]) -> SpreadSettings:
    at_once = images_at_once(image_shape)
    if min(image_shape[1:]) < LARGE_SIDE:
        return SpreadSettings(images_at_once=at_once)
    points = default_grid(min(image_shape[1:]))
    warped = (min(_LARGE_WARP_BUDGET, 0.5 / points),)
    return SpreadSettings(
        blend=Ladder((0.3, 0.2), 6, 14, 14, collapsed=0.02),
        conditional=Ladder((0.04, 0.07, 0.12), 6, 10, 14, collapsed=0.02),
        wave=Ladder((0.2, 0.26), 6, 0, 15, collapsed=0.007),
        warp=Ladder(warped, 4, 20, 20, collapsed=0.25),
        patch=Ladder((3 / 32,), 6, 0, 20, collapsed=0.05),
        sparse=Ladder((0.06, 0.02, 0.008), 6, 15, 15, collapsed=0.02),
        settling_images=8,
        meeting=2,
        warp_points=points,
        patch_spacing=1.0,
        frequencies=6,
        probed=4,
        promising=16,
        images=4,
        scouted=24,
        measured=64,
        images_at_once=at_once,
    )
