"""CIFAR-10 and CIFAR-100: the binary and the python version, as folder or as .tar.gz."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

_PIXELS = 3 * 32 * 32
_MAX_FILE_BYTES = 400 << 20
Files = dict[str, bytes]


class _ArraysOnly(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and NumPy arrays; all else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which CIFAR's files do not")


def read_cifar10(path: Path, *, progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Read ``cifar-10-batches-py`` or ``-bin``: data_batch_1 … 5 and test_batch, those there are.

    Raises:
        InputError: no such files, a truncated one, or a pickle that is not CIFAR's.
    """
    batches = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    return _read(path, batches, b"labels", "batches.meta", b"label_names", extra_bytes=1)


def read_cifar100(path: Path, *, progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """Read ``cifar-100-python`` or ``-binary``: train and test, with the 100 fine classes.

    Raises:
        InputError: as for CIFAR-10.
    """
    return _read(
        path, ["train", "test"], b"fine_labels", "meta", b"fine_label_names", extra_bytes=2
    )


def _read(
    path: Path,
    batches: list[str],
    label_key: bytes,
    meta: str,
    names_key: bytes,
    *,
    extra_bytes: int,
) -> ImageSet:
    names_file = "fine_label_names.txt" if extra_bytes == 2 else f"{meta}.txt"
    wanted = {meta, names_file, *batches, *(f"{name}.bin" for name in batches)}
    files = _files(path, wanted)
    images, labels = [], []
    for name in batches:
        if name in files:
            content = _unpickle(files[name], f"{path}: {name}")
            images.append(_pixels(content.get(b"data"), f"{path}: {name}"))
            labels.append(_labels(content.get(label_key), len(images[-1]), f"{path}: {name}"))
        elif f"{name}.bin" in files:
            records = _records(files[f"{name}.bin"], extra_bytes, f"{path}: {name}.bin")
            images.append(records[:, extra_bytes:])
            labels.append(records[:, extra_bytes - 1].astype(np.float32))
    if not images:
        raise InputError(f"{path}: no {batches[0]} (or {batches[0]}.bin) and the like in it")
    classes: tuple[str, ...] = ()
    if meta in files:
        listed = _unpickle(files[meta], f"{path}: {meta}").get(names_key)
        if isinstance(listed, list):
            classes = tuple(_text(name) for name in listed)
    elif names_file in files:
        classes = tuple(files[names_file].decode("utf-8", "replace").split())
    return ImageSet(
        images=np.ascontiguousarray(np.concatenate(images).reshape(-1, 3, 32, 32)),
        labels=np.concatenate(labels).reshape(-1, 1),
        label_names=("class",),
        classes=classes,
    )


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _files(path: Path, wanted: set[str]) -> Files:
    """The wanted files of a folder (or the folder inside it), or of a tar archive, by name."""
    if path.is_dir():
        found = [f for f in sorted(path.rglob("*")) if f.name in wanted and f.is_file()]
        return {f.name: f.read_bytes() for f in found}
    try:
        with tarfile.open(path) as archive:
            files: Files = {}
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile():
                    if member.size > _MAX_FILE_BYTES:
                        raise InputError(
                            f"{path}: {name} claims {member.size:,} bytes, more than any of "
                            "CIFAR's (a decompression bomb?); remove it"
                        )
                    stream = archive.extractfile(member)
                    assert stream is not None
                    files[name] = stream.read()
            return files
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path}: truncated or not a .tar.gz ({error}); replace it") from None


def _unpickle(content: bytes, where: str) -> dict[Any, Any]:
    try:
        value = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:
        # A damaged pickle can raise nearly anything; whatever it is, the file is unusable.
        raise InputError(f"{where}: not a readable CIFAR file ({error}); replace it") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not a CIFAR file; it holds {type(value).__name__}")
    return value


def _pixels(data: Any, where: str) -> NDArray[np.uint8]:
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise InputError(f"{where}: 'data' is not uint8 N×{_PIXELS}")
    return data


def _labels(labels: Any, count: int, where: str) -> NDArray[np.float32]:
    if not isinstance(labels, list) or len(labels) != count:
        raise InputError(f"{where}: there is no list of {count} labels")
    try:
        return np.asarray(labels, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{where}: a label is not a number") from None


def _records(content: bytes, extra: int, where: str) -> NDArray[np.uint8]:
    size = extra + _PIXELS
    if not content or len(content) % size:
        raise InputError(
            f"{where}: {len(content):,} bytes, not a multiple of a record's {size}; replace it"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, size)
