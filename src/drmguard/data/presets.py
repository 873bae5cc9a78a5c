"""The papers' data sets by name: reader, image size, label convention and training settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drmguard.data.biwi import read_biwi, read_biwi_npz
from drmguard.data.cifar import read_cifar10, read_cifar100
from drmguard.data.columbia_gaze import read_columbia_gaze
from drmguard.data.csaw import read_csaw
from drmguard.data.image_set import ImageSet
from drmguard.data.mpii_face_gaze import read_mpii_face_gaze
from drmguard.data.pandora import read_pandora
from drmguard.errors import InputError

Reader = Callable[..., ImageSet]


@dataclass(frozen=True)
class Preset:
    """One published data set as the papers use it.

    Attributes:
        task: name of its task.
        read: opens a folder or file in the layout in which it is distributed.
        size: (height, width) of the papers' images; None for the files' own.
        labels: label convention.
        training: the papers' training settings, as arguments of ``TrainingSettings``.
        images, groups: how many the whole release has; None where that is not fixed.
        group_name: what a group is.
        source: where it comes from and on which terms.
    """

    task: str
    read: Reader
    size: tuple[int, int] | None
    labels: str
    source: str
    training: dict[str, Any] = field(default_factory=dict)
    images: int | None = None
    groups: int | None = None
    group_name: str = "people"


def _read_biwi(
    path: Path,
    *,
    resize: tuple[int, int] | None,
    progress: Callable[[int, int], None] | None,
) -> ImageSet:
    if path.suffix == ".npz":
        return read_biwi_npz(path, resize=resize)
    return read_biwi(path, resize=resize, progress=progress)


_RADIANS = "pitch and yaw in radians"
_DEGREES = "yaw, pitch and roll in degrees"
# Batch sizes are not published; 64 here.
_CIFAR_TRAINING = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 5e-4, "steps": 40_000}

PRESETS: dict[str, Preset] = {
    "mpiifacegaze": Preset(
        task="gaze",
        read=read_mpii_face_gaze,
        size=(224, 224),
        labels=_RADIANS,
        training={"learning_rate": 1e-4, "steps": 10_000, "schedule": "constant"},
        images=45_000,
        groups=15,
        source="MPIIFaceGaze_normalized.zip of the MPI for Informatics; CC BY-NC-SA 4.0, "
        "https://www.mpi-inf.mpg.de (Appearance-based gaze estimation)",
    ),
    "columbiagaze": Preset(
        task="gaze",
        read=read_columbia_gaze,
        size=(224, 224),
        labels=f"{_RADIANS}, from the file names",
        training={"learning_rate": 1e-3, "steps": 10_000, "schedule": "step"},
        images=5_880,
        groups=56,
        source="Columbia Gaze Data Set, https://www.cs.columbia.edu/CAVE/databases/columbia_gaze; "
        "for research, on its terms",
    ),
    "biwi": Preset(
        task="head-pose",
        read=_read_biwi,
        size=(112, 112),
        labels=_DEGREES,
        training={"learning_rate": 1e-4, "steps": 5_000, "schedule": "constant"},
        images=15_678,
        groups=24,
        group_name="recordings",
        source="Biwi Kinect Head Pose Database, ETH Zürich; for research, on request. Cropped: a "
        ".npz with 'image' and 'pose', or the frames cut out under their own names",
    ),
    "pandora": Preset(
        task="head-pose",
        read=read_pandora,
        size=(112, 112),
        labels=f"{_DEGREES}, as in data.json",
        training={"learning_rate": 1e-4, "steps": 10_000, "schedule": "half"},
        groups=22,
        source="Pandora, AImageLab, Università di Modena e Reggio Emilia; for research, on "
        "request: https://aimagelab.ing.unimore.it/pandora",
    ),
    "cifar10": Preset(
        task="classification",
        read=read_cifar10,
        size=None,
        labels="class number 0 to 9",
        training=_CIFAR_TRAINING,
        images=60_000,
        source="https://www.cs.toronto.edu/~kriz/cifar.html, cifar-10-python.tar.gz or "
        "cifar-10-binary.tar.gz",
    ),
    "cifar100": Preset(
        task="classification",
        read=read_cifar100,
        size=None,
        labels="fine class number 0 to 99",
        training=_CIFAR_TRAINING,
        images=60_000,
        source="https://www.cs.toronto.edu/~kriz/cifar.html, cifar-100-python.tar.gz or "
        "cifar-100-binary.tar.gz",
    ),
    "csaw": Preset(
        task="classification",
        read=read_csaw,
        size=None,
        labels="person's number 0 to 1282",
        training={"optimizer": "adam", "learning_rate": 1e-3},
        source="https://github.com/csaw-hackml/CSAW-HackML-2020, clean_validation_data.h5",
    ),
}


def read_preset(
    name: str,
    path: Path,
    *,
    resize: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read a published data set at the papers' image size, or at ``resize``.

    Raises:
        InputError: an unknown name, nothing at ``path``, a size that the data set does not take,
            or a fault that the reader names.
    """
    preset = preset_named(name)
    if not path.exists():
        raise InputError(f"no {name} at {path}: the file or folder does not exist; {preset.source}")
    settings: dict[str, Any] = {"progress": progress}
    if preset.size is not None:
        settings["resize"] = resize or preset.size
    elif resize is not None:
        raise InputError(f"{name} has images of one size; leave --resize out")
    return preset.read(path, **settings)


def preset_named(name: str) -> Preset:
    """The preset of this name.

    Raises:
        InputError: an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"unknown data set {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def describe_preset(name: str, images: ImageSet) -> list[str]:
    """What was found of a data set, and what is missing, a line each."""
    preset = preset_named(name)
    channels, height, width = images.image_shape
    lines = [
        f"{name}: task {preset.task}, labels {preset.labels}",
        f"found: {len(images):,} images, {channels}×{height}×{width} (channels × height × width)",
    ]
    if preset.images is not None and len(images) != preset.images:
        fewer = preset.images - len(images)
        lines.append(
            f"missing: {fewer:,} of the release's {preset.images:,} images"
            if fewer > 0
            else f"more than the release's {preset.images:,} images: {-fewer:,}"
        )
    if images.groups is not None:
        numbers, counts = np.unique(images.groups, return_counts=True)
        lines.append(
            f"{preset.group_name}: {len(numbers)}, with {counts.min():,} to {counts.max():,} images"
        )
        if preset.groups is not None and len(numbers) < preset.groups:
            lines.append(
                f"missing: {preset.groups - len(numbers)} of {preset.groups} {preset.group_name}"
            )
    if preset.task == "classification":
        present, counts = np.unique(images.labels, return_counts=True)
        lines.append(
            f"classes: {len(present)} of {len(images.class_names)} occur, "
            f"{counts.min():,} to {counts.max():,} images each"
        )
    else:
        for column, label in enumerate(images.output_names):
            values = images.labels[:, column]
            lines.append(
                f"label {label}: {values.min():.4g} to {values.max():.4g}, mean "
                f"{values.mean():.4g}, standard deviation {values.std():.4g}"
            )
    lines.append(f"source: {preset.source}")
    return lines
