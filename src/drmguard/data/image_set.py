"""Images with labels: the one form in which every reader and renderer hands them over."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drmguard.errors import InputError

# Arrays beyond this many bytes live in a file and are paged in as needed.
MEMORY_MAP_BYTES = 1 << 30


@dataclass(frozen=True)
class ImageSet:
    """N images with their labels.

    Attributes:
        images: uint8 (N, C, H, W), in memory or memory-mapped; 0–255 stands for [0, 1].
        labels: float32 (N, d) for regression, or class numbers (N, 1) for classification.
        groups: int64 (N,): images of one group (a person, a drive) are never split apart.
        label_names: one name a label column, where the source gives them.
        classes: class names, where the labels are class numbers.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise InputError(
                "images must be uint8 with shape N×C×H×W (0–255), not "
                f"{self.images.dtype} with shape {self.images.shape}"
            )
        if len(self.images) == 0:
            raise InputError("the image set is empty; give at least one image")
        if self.labels.ndim != 2 or len(self.labels) != len(self.images):
            raise InputError(
                f"there must be one row of labels an image: {len(self.images)} images, labels of "
                f"shape {self.labels.shape}"
            )
        bad = ~np.isfinite(self.labels).all(axis=1)
        if bad.any():
            raise InputError(
                f"label of image {int(np.argmax(bad))} (counted from 0) is NaN or infinite; "
                "remove or mend it"
            )
        if self.groups is not None and self.groups.shape != (len(self.images),):
            raise InputError(
                f"there must be one group id an image: {len(self.images)} images, group ids of "
                f"shape {self.groups.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the label columns; y0, y1 ... where the source gives none."""
        return self.label_names or tuple(f"y{j}" for j in range(self.labels.shape[1]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers where the source gives none."""
        highest = int(self.labels.max(initial=0))
        return self.classes or tuple(str(number) for number in range(highest + 1))

    def subset(self, rows: NDArray[np.int64]) -> ImageSet:
        """The images of these rows, copied out of a memory map."""
        return ImageSet(
            images=self.images[rows],
            labels=self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            label_names=self.label_names,
            classes=self.classes,
        )

    def batch(self, rows: NDArray[np.int64] | slice) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) as float32 in [0, 1] and labels (n, d) of these rows."""
        images = torch.from_numpy(np.ascontiguousarray(self.images[rows])).float().div_(255)
        return images, torch.from_numpy(np.ascontiguousarray(self.labels[rows]))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def digest(self) -> str:
        """SHA-256 of images and labels, as hexadecimal."""
        sha = hashlib.sha256(repr((self.images.shape, self.labels.shape)).encode())
        for start in range(0, len(self), 1024):
            sha.update(np.ascontiguousarray(self.images[start : start + 1024]).tobytes())
        sha.update(np.ascontiguousarray(self.labels).tobytes())
        return sha.hexdigest()


@dataclass(frozen=True)
class Splits:
    """80 % to train on, 10 % for the defender (D_be), 10 % to test on."""

    train: ImageSet
    benign: ImageSet
    test: ImageSet


def split(image_set: ImageSet, *, seed: int = 0) -> Splits:
    """Split 80/10/10 at random, keeping groups whole where there are any.

    Raises:
        InputError: too few images or groups to fill three parts.
    """
    random = np.random.default_rng(seed)
    keys = np.arange(len(image_set)) if image_set.groups is None else image_set.groups
    unique, sizes = np.unique(keys, return_counts=True)
    if len(unique) < 3:
        what = "images" if image_set.groups is None else "groups"
        raise InputError(f"a split needs at least 3 {what}, but there are {len(unique)}")
    order = random.permutation(len(unique))
    # A unit goes where the middle of its share falls; the last two parts always get one.
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(image_set)
    part = np.digitize(middle, [0.8, 0.9])
    part[-2:] = np.maximum(part[-2:], [1, 2])
    part_of_unit = np.empty(len(unique), dtype=np.int64)
    part_of_unit[order] = part
    part_of_image = part_of_unit[np.searchsorted(unique, keys)]
    train, benign, test = (np.flatnonzero(part_of_image == p) for p in range(3))
    return Splits(image_set.subset(train), image_set.subset(benign), image_set.subset(test))


def allocate(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """An uninitialised uint8 array, memory-mapped to a temporary file when it is large."""
    if np.prod(shape, dtype=np.int64) <= MEMORY_MAP_BYTES:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="drmguard-") as file:  # freed with the last reference
        mapped: np.memmap[Any, np.dtype[np.uint8]] = np.memmap(file, np.uint8, "w+", shape=shape)
    return mapped
