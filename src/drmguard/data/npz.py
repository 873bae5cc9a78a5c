"""An ``.npz`` file with ``images``, ``labels`` and optionally ``groups``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from drmguard.data.image_set import ImageSet, allocate
from drmguard.errors import InputError

_CHANNELS = (1, 3)
_BLOCK_BYTES = 64 << 20
# Beyond this an archive is taken for a decompression bomb.
MAX_BYTES = 256 << 30


def read_npz(path: Path) -> ImageSet:
    """Read uint8 ``images`` (N×H×W×C or N×C×H×W), ``labels`` (N×d or N) and ``groups`` (N).

    Images are streamed, so that a large file does not have to fit in memory.  Pickled arrays
    are refused.

    Raises:
        InputError: a missing or malformed array, a wrong type, or a damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            images = _read_images(archive, path)
            labels = _read_array(archive, path, "labels")
            groups = _read_array(archive, path, "groups", optional=True)
            names = _read_array(archive, path, "label_names", optional=True)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: truncated or not an .npz file ({error}); replace it") from None
    assert labels is not None
    if labels.ndim == 1:
        labels = labels[:, None]
    _check_numeric(labels, path, "labels")
    if groups is not None:
        _check_numeric(groups, path, "groups")
    try:
        return ImageSet(
            images=images,
            labels=labels.astype(np.float32),
            groups=None if groups is None else np.unique(groups, return_inverse=True)[1],
            label_names=() if names is None else tuple(str(name) for name in names.ravel()),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise InputError(
            f"{path}: unpacks to {size / 2**30:,.0f} GiB (a decompression bomb?); remove it"
        )


def _check_numeric(array: NDArray[Any], path: Path, name: str) -> None:
    if array.dtype.kind not in "iufb":
        raise InputError(f"{path}: {name!r} holds {array.dtype}, not numbers")


def _open(
    archive: zipfile.ZipFile, path: Path, name: str
) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]:
    """Open an array's member and read its header: the stream, shape, Fortran order and type."""
    stream = archive.open(f"{name}.npy")
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise InputError(f"{path}: {name!r} is not a NumPy array ({error})") from None
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name!r} holds pickled Python objects, which are never loaded; "
            "save it as a plain numeric array"
        )
    return stream, shape, fortran, dtype


def _read_array(
    archive: zipfile.ZipFile, path: Path, name: str, *, optional: bool = False
) -> NDArray[Any] | None:
    if f"{name}.npy" not in archive.namelist():
        if optional:
            return None
        raise InputError(
            f"{path}: no array {name!r}; it needs 'images' and 'labels', and may have 'groups'"
        )
    stream, shape, fortran, dtype = _open(archive, path, name)
    with stream:
        count = int(np.prod(shape, dtype=np.int64))
        content = stream.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise InputError(f"{path}: {name!r} is truncated; replace the file")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _read_images(archive: zipfile.ZipFile, path: Path) -> NDArray[np.uint8]:
    if "images.npy" not in archive.namelist():
        raise InputError(
            f"{path}: no array 'images'; it needs 'images' and 'labels', and may have 'groups'"
        )
    stream, shape, fortran, dtype = _open(archive, path, "images")
    with stream:
        if dtype != np.uint8:
            raise InputError(
                f"{path}: 'images' is {dtype}, whose pixel range is not known; "
                "save it as uint8 from 0 to 255"
            )
        if len(shape) != 4 or fortran:
            raise InputError(
                f"{path}: 'images' has shape {shape}; it must be N×H×W×C or N×C×H×W, in C order"
            )
        channels_last = _channels_last(shape, path)
        if shape[0] == 0:
            raise InputError(f"{path}: 'images' is empty; give at least one image")
        n, a, b, c = shape
        images = allocate((n, c, a, b) if channels_last else (n, a, b, c))
        rows = max(1, _BLOCK_BYTES // (a * b * c))
        for start in range(0, n, rows):
            stop = min(n, start + rows)
            content = stream.read((stop - start) * a * b * c)
            if len(content) != (stop - start) * a * b * c:
                raise InputError(f"{path}: 'images' is truncated; replace the file")
            block = np.frombuffer(content, np.uint8).reshape(stop - start, a, b, c)
            images[start:stop] = block.transpose(0, 3, 1, 2) if channels_last else block
    return images


def _channels_last(shape: tuple[int, ...], path: Path) -> bool:
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        raise InputError(
            f"{path}: cannot tell the channels in the shape {shape} of 'images'; "
            "exactly one of the second and the last axis must be 1 or 3 long"
        )
    return last
