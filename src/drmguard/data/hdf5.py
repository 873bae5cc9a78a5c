"""Numeric arrays from HDF5 files (MATLAB's v7.3 files are such), without executing anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drmguard.errors import InputError


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Raises:
        InputError: h5py is not installed, or the file is missing, damaged or of another format.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path}: HDF5 files need h5py; install it with pip install 'drmguard[datasets]'"
        ) from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path}: missing, damaged, or not an HDF5 (MATLAB v7.3) file ({error}); old MATLAB "
            "files can be saved again with save(..., '-v7.3')"
        ) from None
    with file:
        try:
            yield file
        except OSError as error:
            raise InputError(f"{path}: truncated or damaged ({error}); replace it") from None


def array_in(file: Any, name: str, path: Path, dimensions: int) -> Any:
    """The numeric array ``name``, not yet read.

    Raises:
        InputError: it is missing, not numeric, or has another number of axes.
    """
    array = file.get(name)
    if array is None or not hasattr(array, "shape"):
        raise InputError(f"{path}: no array {name!r}; it holds {', '.join(file) or 'nothing'}")
    if array.dtype.kind not in "iuf" or len(array.shape) != dimensions:
        raise InputError(
            f"{path}: {name!r} is {array.dtype} with shape {array.shape}; it must be numbers with "
            f"{dimensions} axes"
        )
    return array
