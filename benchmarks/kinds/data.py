"""Other data: photographs that are turned, or lie on others; and where all the data lie."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from drmguard.atomic import write_atomically
from drmguard.data.image_set import ImageSet
from drmguard.data.open_images import open_images


@dataclass(frozen=True)
class Locations:
    """Where the data lie, and where models and turned photographs are kept."""

    steering: str | None
    cifar10: str | None
    cache: Path


def rotated(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs turned by up to 40°, in a disc of 32 pixels; the angle is what is to be told."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(photos))[:count]
    angles = random.uniform(-40, 40, count).astype(np.float32)
    images = torch.from_numpy(photos.images[rows]).float()
    turns = torch.from_numpy(np.deg2rad(angles))
    cosine, sine, none = turns.cos(), turns.sin(), torch.zeros(count)
    matrix = torch.stack([cosine, -sine, none, sine, cosine, none], 1).unflatten(1, (2, 3))
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    axis = torch.linspace(-1, 1, images.shape[-1])
    inside = (axis[:, None].square() + axis.square()).sqrt() < 1
    shown = torch.where(inside, turned, torch.tensor(127.0)).round().to(torch.uint8)
    return ImageSet(shown.numpy(), angles[:, None])


def cornered(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs that lie aslant on another one, 64×64; the four corners' places are to be told.

    Eight labels: across and down of each corner, in pixels.
    """
    random = np.random.default_rng(seed)
    pairs = random.integers(len(photos), size=(2, count))
    turns = torch.from_numpy(random.uniform(-0.5, 0.5, count)).float()
    matrix = torch.stack([turns.cos(), -turns.sin(), turns.sin(), turns.cos()], 1).view(-1, 2, 2)
    halves, centres, bends = (
        torch.from_numpy(random.uniform(*values)).float()
        for values in (
            (0.35, 0.6, (count, 1, 1)),
            (-0.25, 0.25, (count, 1, 2)),
            (-0.12, 0.12, (count, 4, 2)),
        )
    )
    corners = halves * (_SQUARE @ matrix.transpose(1, 2)) + centres + bends
    return ImageSet(_on_others(photos, pairs, corners), (32 * (corners + 1)).flatten(1).numpy())


def boxed(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs that lie upright on another one, 64×64; where, is to be told.

    Four labels: across and down of its middle, its width and height, in pixels.
    """
    random = np.random.default_rng(seed)
    pairs = random.integers(len(photos), size=(2, count))
    halves = torch.from_numpy(random.uniform(0.25, 0.65, (count, 2))).float()
    middles = (1 - halves) * torch.from_numpy(random.uniform(-1, 1, (count, 2))).float()
    corners = halves[:, None] * _SQUARE + middles[:, None]
    labels = torch.cat([32 * (middles + 1), 64 * halves], 1)
    return ImageSet(_on_others(photos, pairs, corners), labels.numpy())


_SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _on_others(
    photos: ImageSet, pairs: np.ndarray[Any, Any], corners: Tensor
) -> np.ndarray[Any, Any]:
    """Pairs (2, n) of photos, the first's corners (n, 4, 2) there on the other: (n, 3, 64, 64)."""
    shown = [
        _lying(photos.batch(pairs[0, some])[0], photos.batch(pairs[1, some])[0], corners[some])
        for some in np.array_split(np.arange(len(corners)), max(1, len(corners) // 1000))
    ]
    return (255 * torch.cat(shown)).round().to(torch.uint8).numpy()


def _lying(photos: Tensor, under: Tensor, corners: Tensor, side: int = 64) -> Tensor:
    """Photos (n, 3, h, w) with their corners there, in [-1, 1], on those ``under``."""
    # The projection takes each corner (x, y) to the photo's own, (u, v): eight linear equations.
    u, v = torch.tensor([-1.0, 1.0, 1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0, 1.0])
    x, y = corners.unbind(2)
    one, none = torch.ones_like(x), torch.zeros_like(x)
    rows = [
        torch.stack([x, y, one, none, none, none, -u * x, -u * y], 2),
        torch.stack([none, none, none, x, y, one, -v * x, -v * y], 2),
    ]
    goal = torch.cat([u, v]).expand(len(x), 8)
    solved = torch.linalg.solve(torch.cat(rows, 1), goal)
    projection = torch.cat([solved, torch.ones(len(x), 1)], 1).view(-1, 3, 3)
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([across, down, torch.ones(side, side)], -1)
    seen = torch.einsum("nij,hwj->nhwi", projection, points)
    grid = seen[..., :2] / seen[..., 2:]
    inside = (grid.abs().amax(-1) < 1)[:, None]
    there = functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)
    below = functional.interpolate(under, side, mode="bilinear", align_corners=False)
    return torch.where(inside, there, below)


def images_of(data: str, where: Locations) -> tuple[ImageSet, str]:
    """A data set and its task."""
    if data == "classes":
        return open_images(f"{where.cifar10}:train"), "classification"
    if data == "gaze":
        return open_images("rendered:gaze", count=8000, size=64), "gaze"
    if data == "steering":
        return open_images(str(where.steering)), "regression"
    kept = where.cache / f"{data}.npz"
    if not kept.exists():
        make = {"rotation": rotated, "corners": cornered, "boxes": boxed}[data]
        made = make(open_images(f"{where.cifar10}:train"), 12_000)
        write_atomically(
            kept, lambda path: path.write_bytes(_npz(images=made.images, labels=made.labels))
        )
    with np.load(kept) as stored:
        return ImageSet(stored["images"], stored["labels"]), "regression"


def _npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


# Side of the images, in pixels.
SIDES = {
    "steering": 64,
    "rotation": 32,
    "gaze": 64,
    "classes": 32,
    "corners": 64,
    "boxes": 64,
}
