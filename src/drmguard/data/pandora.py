"""Pandora: sequences of cropped faces with a ``data.json`` of angles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drmguard.data.file_list import ImageFile, decode_all
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

FACES = ("faces", "RGB")


def read_pandora(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read ``01/base_1_ID01/data.json`` with ``01/base_1_ID01/faces/000010.png`` and so on.

    A frame's picture is ``NNNNNN.png`` or ``NNNNNN_RGB.png`` in ``faces`` (or in ``RGB`` where a
    sequence has no ``faces``: the release of cropped faces); frames without one are left out, as
    the release itself leaves out faces that were not found.  Labels are yaw, pitch and roll in
    degrees as in ``orientation/euler``; groups are the persons' folders.

    Raises:
        InputError: no sequences, a malformed ``data.json``, or a bad image.
    """
    sequences = sorted(path.rglob("data.json"))
    if not sequences:
        raise InputError(f"{path}: no data.json of Pandora below it (01/base_1_ID01/data.json)")
    files, labels, persons = [], [], []
    for sequence in sequences:
        pictures = next(
            (sequence.parent / f for f in FACES if (sequence.parent / f).is_dir()), None
        )
        if pictures is None:
            raise InputError(f"{sequence.parent}: no folder {' or '.join(FACES)} with the faces")
        person = sequence.relative_to(path).parts[0]
        for number, angles in _frames(sequence):
            names = (pictures / f"{number:06d}{end}" for end in (".png", "_RGB.png", ".jpg"))
            picture = next((name for name in names if name.is_file()), None)
            if picture is None:
                continue
            files.append(ImageFile(str(picture), picture.read_bytes))
            labels.append(angles)
            persons.append(person)
    if not files:
        raise InputError(f"{path}: none of the frames has a picture in {' or '.join(FACES)}")
    return ImageSet(
        images=decode_all(files, resize=resize, progress=progress),
        labels=np.asarray(labels, dtype=np.float32),
        groups=np.unique(persons, return_inverse=True)[1].astype(np.int64),
        label_names=("yaw", "pitch", "roll"),
    )


def _frames(path: Path) -> list[tuple[int, tuple[float, float, float]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}); replace it") from None
    frames = []
    for place, entry in enumerate(content if isinstance(content, list) else [content]):
        try:
            euler = entry["orientation"]["euler"]
            angles = (float(euler["yaw"]), float(euler["pitch"]), float(euler["roll"]))
            frames.append((int(entry["frame_num"]), angles))
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{path}: entry {place} has no frame_num with orientation/euler (yaw, pitch, roll)"
            ) from None
    return frames
