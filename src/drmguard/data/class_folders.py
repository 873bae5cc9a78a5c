"""A folder with one folder a class, or a zip of one."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from drmguard.data.file_list import ImageFile, decode_all
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}
# A member of a zip that unpacks to more is taken for a decompression bomb.
MAX_FILE_BYTES = 512 << 20


def read_class_folders(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read CLASS/IMAGE below a folder; classes are numbered in alphabetical order.

    Raises:
        InputError: no class folder, a class without images, or a bad image.
    """
    names = [
        PurePosixPath(file.relative_to(path).as_posix())
        for file in path.rglob("*")
        if file.is_file()
    ]
    return _read(
        names,
        path,
        lambda name: partial((path / name).read_bytes),
        resize=resize,
        progress=progress,
    )


def read_class_zip(
    path: Path,
    *,
    folder: str = "",
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read CLASS/IMAGE from a zip; ``folder`` names a folder inside it (``train``, say).

    Raises:
        InputError: as :func:`read_class_folders`, or a damaged zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = PurePosixPath(folder)
            names = [
                PurePosixPath(name).relative_to(prefix)
                for name in archive.namelist()
                if not name.endswith("/") and PurePosixPath(name).is_relative_to(prefix)
            ]

            def reader(name: PurePosixPath) -> Callable[[], bytes]:
                return partial(_read_member, archive, str(prefix / name), path)

            return _read(names, path, reader, resize=resize, progress=progress)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: truncated or not a zip file ({error}); replace it") from None


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_FILE_BYTES:
        raise InputError(
            f"{path}: {name} unpacks to {size / 2**20:,.0f} MiB (a decompression bomb?); remove it"
        )
    return archive.read(name)


def _read(
    names: Sequence[PurePosixPath],
    path: Path,
    reader: Callable[[PurePosixPath], Callable[[], bytes]],
    *,
    resize: tuple[int, int] | None,
    progress: Callable[[int, int], None] | None,
) -> ImageSet:
    images = sorted(
        name
        for name in names
        if name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")
    )
    if not images:
        raise InputError(f"{path}: no images found; expected CLASS/IMAGE.png or the like")
    depths = {len(name.parts) for name in images}
    if depths != {2}:
        odd = next(name for name in images if len(name.parts) != 2)
        raise InputError(
            f"{path}: {odd} does not lie directly in a class folder; every image must be at "
            "CLASS/IMAGE (for a folder inside a zip, write FILE.zip:FOLDER)"
        )
    classes = sorted({name.parts[0] for name in images})
    number = {name: i for i, name in enumerate(classes)}
    files = [ImageFile(where=f"{path}: {name}", read=reader(name)) for name in images]
    return ImageSet(
        images=decode_all(files, resize=resize, progress=progress),
        labels=np.asarray([[number[name.parts[0]]] for name in images], dtype=np.float32),
        label_names=("class",),
        classes=tuple(classes),
    )
