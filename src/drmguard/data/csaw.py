"""The data files of CSAW-HackML: HDF5 with ``data`` and ``label``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from drmguard.data.hdf5 import array_in, open_hdf5
from drmguard.data.image_set import ImageSet, allocate
from drmguard.errors import InputError

CLASSES = 1283


def read_csaw(path: Path, *, progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Read ``clean_validation_data.h5``: ``data`` (N, 3, 55, 47) from 0 to 255, ``label`` (N,).

    Raises:
        InputError: a missing or malformed array, or a damaged file.
    """
    with open_hdf5(path) as file:
        data, label = array_in(file, "data", path, 4), array_in(file, "label", path, 1)
        if data.shape[1] != 3 or len(label) != len(data):
            raise InputError(
                f"{path}: images {data.shape} and labels {label.shape} do not fit; expected "
                "(N, 3, 55, 47) and (N,)"
            )
        images = allocate(data.shape)
        for start in range(0, len(data), 512):
            block = data[start : start + 512]
            low, high = block.min(), block.max()
            if low < 0 or not 1 < high <= 255:
                raise InputError(
                    f"{path}: pixels range from {low:.4g} to {high:.4g}, not from 0 to 255"
                )
            images[start : start + len(block)] = np.round(block).astype(np.uint8)
            if progress is not None:
                progress(start + len(block), len(data))
        labels = np.asarray(label, dtype=np.float32).reshape(-1, 1)
    count = max(CLASSES, int(labels.max(initial=0)) + 1)
    return ImageSet(
        images=images,
        labels=labels,
        label_names=("class",),
        classes=tuple(str(number) for number in range(count)),
    )
