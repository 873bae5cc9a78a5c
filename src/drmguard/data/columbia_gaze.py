"""ColumbiaGaze: the angles are in the file names; faces are cut out by boxes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drmguard.data.decode import Box
from drmguard.data.file_list import ImageFile, decode_all
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

# Person, distance, head pose P, vertical V and horizontal H gaze: 0001_2m_-15P_10V_-5H.jpg
_NAME = re.compile(r"(\d{4})_2m_(-?\d+)P_(-?\d+)V_(-?\d+)H\.(?:jpe?g|png)", re.IGNORECASE)
BOXES = "faces.csv"
_LARGEST_FACE = 2000


def read_columbia_gaze(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read ``0001/0001_2m_0P_10V_-15H.jpg`` and the like, in any folder below ``path``.

    Labels are pitch (V) and yaw (H) in radians, relative to the camera as in the release; groups
    are the 56 persons.  The release holds whole 5184×3456 photographs: cut the faces out
    and keep the names, or put a ``faces.csv`` (path, left, top, right, bottom) into ``path``.

    Raises:
        InputError: no such files, whole photographs without boxes, or a bad image.
    """
    found = [(file, _NAME.fullmatch(file.name)) for file in sorted(path.rglob("*"))]
    named = [(file, match) for file, match in found if match is not None]
    if not named:
        raise InputError(
            f"{path}: no file of ColumbiaGaze (0001_2m_0P_10V_-15H.jpg, say) in it or below it"
        )
    boxes = _boxes(path / BOXES) if (path / BOXES).is_file() else None
    files, labels, persons = [], [], []
    for file, match in named:
        name = file.relative_to(path).as_posix()
        if boxes is not None and name not in boxes:
            raise InputError(f"{path / BOXES}: no box for {name}; add its line")
        files.append(ImageFile(str(file), file.read_bytes, None if boxes is None else boxes[name]))
        person, _, vertical, horizontal = (int(part) for part in match.groups())
        labels.append((vertical, horizontal))
        persons.append(person)
    if boxes is None:
        _refuse_photographs(named[0][0], path)
    return ImageSet(
        images=decode_all(files, resize=resize, progress=progress),
        labels=np.deg2rad(np.asarray(labels, dtype=np.float32)),
        groups=np.asarray(persons, dtype=np.int64),
        label_names=("pitch", "yaw"),
    )


def _refuse_photographs(file: Path, path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            width = image.width
    except (OSError, UnidentifiedImageError):
        return  # reading the image says what is wrong with it
    if width > _LARGEST_FACE:
        raise InputError(
            f"{file}: {width} pixels wide, so a whole photograph and not a face; cut the faces out "
            f"(keep the names), or give their boxes in {path / BOXES} (path,left,top,right,bottom)"
        )


def _boxes(path: Path) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        wanted = ["path", "left", "top", "right", "bottom"]
        if rows.fieldnames is None or not set(wanted) <= set(rows.fieldnames):
            raise InputError(f"{path}: line 1: the columns must be {', '.join(wanted)}")
        for row in rows:
            try:
                left, top, right, bottom = (float(row[name]) for name in wanted[1:])
            except (TypeError, ValueError):
                raise InputError(f"{path}, line {rows.line_num}: a box is four numbers") from None
            boxes[row["path"]] = (left, top, right, bottom)
    return boxes
