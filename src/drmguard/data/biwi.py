"""Biwi Kinect Head Pose: frames with pose files, whole or cropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from drmguard.data.decode import Box, resized
from drmguard.data.file_list import ImageFile, decode_all
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError

LABEL_NAMES = ("yaw", "pitch", "roll")
_FRAME = (640, 480)
# A head with some room around it.
_HEAD_MILLIMETRES = 280.0


def read_biwi(
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read ``01/frame_00003_rgb.png`` with ``01/frame_00003_pose.txt`` beside it, and so on.

    Whole 640×480 frames are cut around the head, whose place the pose file gives and ``rgb.cal``
    of the folder projects into the image; frames of another size are taken as already cropped.
    Labels are yaw, pitch and roll in degrees; the groups are the 24 recordings.

    Raises:
        InputError: no frames, a frame without its pose, a bad pose or calibration file.
    """
    frames = sorted(f for f in path.rglob("frame_*_rgb.*") if f.suffix in (".png", ".jpg"))
    if not frames:
        raise InputError(f"{path}: no frames of Biwi (01/frame_00003_rgb.png, say) below it")
    files, labels, folders = [], [], []
    cameras: dict[Path, NDArray[np.float64] | None] = {}
    for frame in frames:
        pose = frame.with_name(frame.stem.removesuffix("_rgb") + "_pose.txt")
        if not pose.is_file():
            raise InputError(f"{frame}: no pose file {pose.name} beside it; add it or remove both")
        numbers = _numbers(pose, 12)
        rotation, center = numbers[:9].reshape(3, 3), numbers[9:]
        folder = frame.parent
        if folder not in cameras:
            calibration = folder / "rgb.cal"
            cameras[folder] = _numbers(calibration, 25) if calibration.is_file() else None
        files.append(ImageFile(str(frame), frame.read_bytes, _box(frame, center, cameras[folder])))
        labels.append(euler_angles(rotation))
        folders.append(folder)
    numbered = {folder: number for number, folder in enumerate(sorted(set(folders)))}
    return ImageSet(
        images=decode_all(files, resize=resize, progress=progress),
        labels=np.asarray(labels, dtype=np.float32),
        groups=np.asarray([numbered[folder] for folder in folders], dtype=np.int64),
        label_names=LABEL_NAMES,
    )


def read_biwi_npz(path: Path, *, resize: tuple[int, int] | None = None) -> ImageSet:
    """Read the cropped release in common use: ``image`` (N, H, W, 3) BGR and ``pose`` (N, 3).

    The poses are yaw, pitch and roll in degrees.

    Raises:
        InputError: a missing or malformed array, or a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays: dict[str, NDArray[Any]] = {k: content[k] for k in ("image", "pose")}
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: not a cropped Biwi file with 'image' and 'pose' ({error})"
        ) from None
    images, pose = arrays["image"], arrays["pose"]
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(
            f"{path}: 'image' is {images.dtype} with shape {images.shape}; it must be uint8 N×H×W×3"
        )
    if pose.shape != (len(images), 3):
        raise InputError(f"{path}: 'pose' has shape {pose.shape}; it must be {len(images)}×3")
    rgb = np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))
    if resize is not None and len(rgb):
        rgb = np.stack([resized(image, resize) for image in rgb])
    return ImageSet(rgb, pose.astype(np.float32), label_names=LABEL_NAMES)


def euler_angles(rotation: NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a pose file's matrix, as is usual for Biwi."""
    r = rotation.T
    yaw = -math.atan2(-r[2, 0], math.hypot(r[2, 1], r[2, 2]))
    pitch = math.atan2(r[2, 1], r[2, 2])
    roll = -math.atan2(r[1, 0], r[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _numbers(path: Path, count: int) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in path.read_text().split()])
    except (ValueError, OSError):
        raise InputError(f"{path}: not numbers; replace the file") from None
    if len(numbers) < count or not np.isfinite(numbers[:count]).all():
        raise InputError(f"{path}: {len(numbers)} numbers where {count} are needed")
    return numbers[:count]


def _box(
    frame: Path, center: NDArray[np.float64], camera: NDArray[np.float64] | None
) -> Box | None:
    """The head's square in a whole frame; None for a frame that is cropped already."""
    try:
        with Image.open(frame) as image:
            whole = image.size == _FRAME
    except (OSError, UnidentifiedImageError):
        return None  # reading the image says what is wrong with it
    if not whole:
        return None
    if camera is None:
        raise InputError(f"{frame}: a whole frame, but no rgb.cal beside it to find the head")
    # 3×3 intrinsics, 4 distortions, 3×3 rotation and translation from the depth camera.
    intrinsics, rotation, shift = camera[:9].reshape(3, 3), camera[13:22].reshape(3, 3), camera[22:]
    x, y, z = rotation @ center + shift
    if z <= 0:
        raise InputError(f"{frame}: its pose puts the head behind the camera; correct the pose")
    u = intrinsics[0, 0] * x / z + intrinsics[0, 2]
    v = intrinsics[1, 1] * y / z + intrinsics[1, 2]
    half = intrinsics[0, 0] * _HEAD_MILLIMETRES / z / 2
    return (u - half, v - half, u + half, v + half)
