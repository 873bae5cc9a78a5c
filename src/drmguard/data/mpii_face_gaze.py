"""MPIIFaceGaze, the normalised release: one MATLAB v7.3 file a person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drmguard.data.decode import resized
from drmguard.data.hdf5 import array_in, open_hdf5
from drmguard.data.image_set import ImageSet, allocate
from drmguard.errors import InputError


def read_mpii_face_gaze(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read ``p00.mat`` … ``p14.mat``: ``Data/data`` (N, 3, 448, 448) BGR, ``Data/label`` (N, 16).

    The labels' first two columns are pitch and yaw of the gaze in radians, in the convention of
    :class:`~drmguard.tasks.Gaze`; the groups are the persons.

    Raises:
        InputError: no such files, or a malformed one.
    """
    files = sorted(path.glob("p[0-9][0-9].mat"))
    if not files:
        raise InputError(f"{path}: no p00.mat … p14.mat of the normalised MPIIFaceGaze")
    counts = []
    size = resize
    for file in files:
        with open_hdf5(file) as content:
            data = array_in(content, "Data/data", file, 4)
            labels = array_in(content, "Data/label", file, 2)
            if data.shape[1] != 3 or labels.shape[0] != data.shape[0] or labels.shape[1] < 2:
                raise InputError(
                    f"{file}: images {data.shape} and labels {labels.shape} do not fit; expected "
                    "(N, 3, 448, 448) and (N, 16)"
                )
            size = size or (data.shape[2], data.shape[3])
            if resize is None and data.shape[2:] != size:
                raise InputError(
                    f"{file}: images of {data.shape[2]}×{data.shape[3]}, but {files[0].name} has "
                    f"{size[0]}×{size[1]}; ask for one size with --resize HEIGHTxWIDTH"
                )
            counts.append(data.shape[0])
    assert size is not None
    total = sum(counts)
    images = allocate((total, 3, *size))
    gaze: NDArray[np.float32] = np.empty((total, 2), np.float32)
    done = 0
    for file in files:
        with open_hdf5(file) as content:
            data, labels = content["Data/data"], content["Data/label"]
            gaze[done : done + len(data)] = labels[:, :2]
            for start in range(0, len(data), 64):
                for pixels in _pixels(data[start : start + 64], file):
                    images[done] = resized(pixels[::-1], size)  # BGR to RGB
                    done += 1
                if progress is not None:
                    progress(done, total)
    return ImageSet(
        images=images,
        labels=gaze,
        groups=np.repeat(np.arange(len(files)), counts),
        label_names=("pitch", "yaw"),
    )


def _pixels(block: NDArray[np.float32], file: Path) -> NDArray[np.uint8]:
    """Pixels as uint8; MATLAB may have stored them as floats from 0 to 255."""
    if block.dtype != np.uint8 and (block.min() < 0 or not 1 < block.max() <= 255):
        raise InputError(
            f"{file}: pixels range from {block.min():.4g} to {block.max():.4g}, not from 0 to 255"
        )
    return block.astype(np.uint8)
