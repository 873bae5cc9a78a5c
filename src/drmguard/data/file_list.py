"""Decoding many image files into one array: shared by the readers of separate files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drmguard.data.decode import Box, decode
from drmguard.data.image_set import allocate
from drmguard.errors import InputError


@dataclass(frozen=True)
class ImageFile:
    """One image to read: where it is for people, how to get its bytes, what to cut out."""

    where: str
    read: Callable[[], bytes]
    box: Box | None = None


def decode_all(
    files: Sequence[ImageFile],
    *,
    resize: tuple[int, int] | None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Decode files to uint8 (N, 3, H, W), memory-mapped when large.

    Raises:
        InputError: an image that is missing, unreadable, or of another size than the first
            (unless ``resize`` says which size all shall have).
    """
    images: NDArray[np.uint8] | None = None
    for row, file in enumerate(files):
        pixels = decode(file.read(), where=file.where, resize=resize, box=file.box)
        if images is None:
            images = allocate((len(files), *pixels.shape))
        elif pixels.shape != images.shape[1:]:
            raise InputError(
                f"{file.where}: the image is {pixels.shape[2]}×{pixels.shape[1]} (width×height), "
                f"but {files[0].where} is {images.shape[3]}×{images.shape[2]}; ask for one size "
                "with --resize HEIGHTxWIDTH"
            )
        images[row] = pixels
        if progress is not None:
            progress(row + 1, len(files))
    if images is None:
        raise InputError("there are no images to read")
    return images
