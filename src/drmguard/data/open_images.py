"""From what a user types to an image set: which reader or renderer a source means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drmguard.data.class_folders import read_class_folders, read_class_zip
from drmguard.data.csv_table import read_csv_table
from drmguard.data.image_set import ImageSet
from drmguard.data.npz import read_npz
from drmguard.data.presets import PRESETS, read_preset
from drmguard.data.rendered_gaze import render_gaze
from drmguard.data.rendered_head_pose import render_head_pose
from drmguard.errors import InputError

RENDERERS: dict[str, Callable[..., ImageSet]] = {
    "gaze": render_gaze,
    "head-pose": render_head_pose,
}
_RENDERED = "rendered:"


def open_images(
    source: str,
    *,
    resize: tuple[int, int] | None = None,
    count: int = 10_000,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Open a source of labelled images.

    Args:
        source: a CSV file, an ``.npz`` file, a folder of class folders, a zip of one (with
            ``FILE.zip:FOLDER`` for a folder inside), or ``rendered:gaze`` and
            ``rendered:head-pose`` for the embedded renderers, or ``NAME:PATH`` with the name of a
            published data set (:data:`~drmguard.data.presets.PRESETS`).
        resize: (height, width) that every image file shall have; images of different sizes are
            refused without it.
        count: number of rendered images.
        size: side of rendered images in pixels.
        seed: seed of rendered images.
        progress: called with (done, all) as image files are read.

    Raises:
        InputError: one sentence that names the file and line at fault.
    """
    if source.startswith(_RENDERED):
        kind = source.removeprefix(_RENDERED)
        if kind not in RENDERERS:
            raise InputError(
                f"no renderer {kind!r}; choose {_RENDERED}"
                + f" or {_RENDERED}".join(sorted(RENDERERS))
            )
        return RENDERERS[kind](count, size=size, seed=seed)
    preset, colon, place = source.partition(":")
    if colon and preset in PRESETS:
        return read_preset(preset, Path(place), resize=resize, progress=progress)
    path, folder = Path(source), ""
    if ".zip:" in source and not path.exists():
        name, folder = source.rsplit(":", 1)
        path = Path(name)
    if not path.exists():
        raise InputError(f"no images at {source}: the file or folder does not exist")
    if path.is_dir():
        return read_class_folders(path, resize=resize, progress=progress)
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return read_csv_table(path, resize=resize, progress=progress)
        if suffix == ".npz":
            if resize is not None:
                raise InputError(f"{path}: --resize serves image files, not .npz arrays")
            return read_npz(path)
        if suffix == ".zip":
            return read_class_zip(path, folder=folder, resize=resize, progress=progress)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    raise InputError(
        f"{path}: unknown kind of image source; give a .csv, an .npz, a folder of class folders "
        "or a .zip of one"
    )
