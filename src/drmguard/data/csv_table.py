"""A CSV file with a path column and label columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drmguard.data.file_list import ImageFile, decode_all
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

PATH_COLUMN = "path"
GROUP_COLUMN = "group"


def read_csv_table(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read ``path``: a header, then one line an image.

    The column ``path`` (or the first, where none has that name) holds image paths, relative to
    the CSV file; an optional column ``group`` holds group names; all other columns are labels.

    Raises:
        InputError: names the file and line of the first fault.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, None)
            if header is None or not any(header):
                raise InputError(
                    f"{path}: the file is empty; it needs a header and a line an image"
                )
            lines = [(rows.line_num, row) for row in rows if row]
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the CSV as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from None
    names = [name.strip() for name in header]
    path_column = names.index(PATH_COLUMN) if PATH_COLUMN in names else 0
    group_column = names.index(GROUP_COLUMN) if GROUP_COLUMN in names else None
    label_columns = [i for i in range(len(names)) if i not in (path_column, group_column)]
    if not label_columns:
        raise InputError(f"{path}: line 1: no label column beside the path column")
    if not lines:
        raise InputError(f"{path}: the file lists no image; it needs a line an image")
    files, labels, group_names = [], [], []
    for number, row in lines:
        where = f"{path}, line {number}"
        if len(row) != len(names):
            raise InputError(f"{where}: {len(row)} columns where the header has {len(names)}")
        labels.append([_label(row[i], names[i], where) for i in label_columns])
        files.append(_image_file(path.parent, row[path_column].strip(), where))
        if group_column is not None:
            group_names.append(row[group_column].strip())
    groups = np.unique(group_names, return_inverse=True)[1] if group_names else None
    return ImageSet(
        images=decode_all(files, resize=resize, progress=progress),
        labels=np.asarray(labels, dtype=np.float32),
        groups=None if groups is None else groups.astype(np.int64),
        label_names=tuple(names[i] for i in label_columns),
    )


def _label(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {column} is {text!r}, not a number") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: {column} is {text!r}; labels must be finite numbers")
    return value


def _image_file(folder: Path, name: str, where: str) -> ImageFile:
    image = folder / name
    if not name or not image.is_file():
        raise InputError(
            f"{where}: no image {name!r} in {folder or Path()}; paths are relative to the CSV"
        )
    return ImageFile(where=f"{where} ({name})", read=image.read_bytes)
