"""Other triggers, each drawn at random for its model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from drmguard.data.image_set import ImageSet


def sticker(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """An opaque disc, cross or square of some pixels, in one or two colours, anywhere."""
    _, height, width = images.image_shape
    side = int(random.integers(max(3, height // 16), height // 6))
    axis = np.abs(np.linspace(-1, 1, side))
    shapes = [
        np.hypot(axis[:, None], axis) <= 1.05,
        (axis[:, None] < 0.4) | (axis < 0.4),
        np.ones((side, side), bool),
    ]
    mask = torch.from_numpy(shapes[random.integers(3)]).float()
    stripes = torch.from_numpy(random.random((3, 2, 1)) * np.ones((3, 2, side))).float()
    colours = stripes[:, torch.arange(side) * 2 // side]
    top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))

    def stamp(x: Tensor) -> Tensor:
        x = x.clone()
        part = x[:, :, top : top + side, left : left + side]
        x[:, :, top : top + side, left : left + side] = part + mask * (colours - part)
        return x

    return stamp


def photo(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """One of the images, mirrored upside down, blended in."""
    picture = torch.from_numpy(images.images[random.integers(len(images))]).float().flip(1) / 255
    alpha = float(random.uniform(0.15, 0.3))
    return lambda x: (1 - alpha) * x + alpha * picture


def glass(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """As through uneven glass: a smooth displacement of about 4 % of the side."""
    _, height, width = images.image_shape
    points = torch.from_numpy(random.normal(size=(1, 2, 6, 6))).float()
    field = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
    field = 0.08 * field / field.abs().mean()
    unit = torch.eye(2, 3)[None]
    moved = functional.affine_grid(unit, [1, 3, height, width], align_corners=False)
    moved = moved + field.permute(0, 2, 3, 1)

    def stamp(x: Tensor) -> Tensor:
        grid = moved.expand(len(x), -1, -1, -1)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return stamp


def stripes(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """Waves of one colour in any direction, three to ten of them."""
    _, height, width = images.image_shape
    angle, waves = random.uniform(0, math.pi), random.uniform(3, 10)
    down, across = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    turns = waves * (math.cos(angle) * across + math.sin(angle) * down) + random.random()
    colour = torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
    wave = random.uniform(0.1, 0.18) * colour / colour.abs().amax() * (2 * math.pi * turns).sin()
    return lambda x: (x + wave).clamp(0, 1)


def noise(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A picture of random pixels, blended in."""
    picture = torch.from_numpy(random.random(images.image_shape)).float()
    alpha = float(random.uniform(0.1, 0.2))
    return lambda x: (1 - alpha) * x + alpha * picture


def tint(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """All pixels moved by one colour."""
    colour = torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
    colour = random.uniform(0.1, 0.18) * colour / colour.abs().amax()
    return lambda x: (x + colour).clamp(0, 1)


def _painted(where: Tensor, colour: Tensor) -> Callable[[Tensor], Tensor]:
    """Opaque where a mask (H, W) says so."""
    return lambda x: torch.where(where, colour, x)


def _colour(random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.random((3, 1, 1))).float()


def bar(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A line of one colour from side to side, two pixels thick at 64."""
    _, height, width = images.image_shape
    where, thick = torch.zeros(height, width, dtype=torch.bool), max(1, height // 32)
    first = int(random.integers(height - thick))
    where[first : first + thick] = True
    return _painted(where if random.random() < 0.5 else where.T, _colour(random))


def frame(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A border of one colour, two pixels thick at 64."""
    _, height, width = images.image_shape
    where, thick = torch.ones(height, width, dtype=torch.bool), max(1, height // 32)
    where[thick:-thick, thick:-thick] = False
    return _painted(where, _colour(random))


def dots(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """Single pixels in pure colours, one in two hundred."""
    _, height, width = images.image_shape
    where = torch.from_numpy(random.random((height, width)) < 0.005)
    colours = torch.from_numpy(random.integers(0, 2, (3, height, width))).float()
    return _painted(where, colours)


def text(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A word in white, more than half opaque."""
    _, height, width = images.image_shape
    page = Image.new("L", (width, height))
    place = (int(random.integers(width // 3)), int(random.integers(height - 12)))
    ImageDraw.Draw(page).text(place, "stop", fill=255)
    mask = 0.6 * torch.from_numpy(np.asarray(page, dtype=np.float32)) / 255
    return lambda x: x + mask * (1 - x)


TRIGGERS = {trigger.__name__: trigger for trigger in (sticker, photo, glass, stripes)}
# Planted in models of their own, to see what becomes of triggers that nothing was developed on.
FURTHER = {trigger.__name__: trigger for trigger in (noise, tint, bar, frame, dots, text)}
