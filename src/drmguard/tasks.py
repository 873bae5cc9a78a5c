"""What a model's output means: its names, its units, its error and its loss.

A task is a small value.  Everything above it (training, search, report) asks the task and never
its name, so that a new task is one class here.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from drmguard.errors import InputError

# So few classes are too few to tell one of them from the others by what each needs.
FEW_CLASSES = 3
LossName = Literal["l1", "l2", "cross-entropy"]


class Task(abc.ABC):
    """The meaning of one model's outputs."""

    name: ClassVar[str]
    loss_name: ClassVar[LossName] = "l1"
    is_regression: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """One name an output, in the order of the model's outputs."""

    @property
    @abc.abstractmethod
    def output_unit(self) -> str:
        """Unit of the outputs and labels, empty where there is none."""

    @property
    @abc.abstractmethod
    def error_unit(self) -> str:
        """Unit of :meth:`error`."""

    @abc.abstractmethod
    def error(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Error of each image: (N, d) outputs and labels to (N,), in :attr:`error_unit`."""

    @property
    def num_outputs(self) -> int:
        """Number d of outputs."""
        return len(self.output_names)

    @property
    def has_many_classes(self) -> bool:
        """Whether answers are classes, and enough of them for one to stand out from the others."""
        return not self.is_regression and self.num_outputs > FEW_CLASSES

    def responses(self, outputs: Tensor) -> Tensor:
        """Return what a trigger makes collapse: the outputs (Eq. 5), or probabilities (A.9)."""
        return outputs

    def settings(self) -> dict[str, Any]:
        """Arguments of :func:`make_task` that make this task again."""
        return {"name": self.name}

    def check_labels(self, labels: NDArray[Any]) -> None:
        """Refuse labels that cannot belong to this task.

        Raises:
            InputError: a wrong number of columns, or values outside the task's range.
        """
        columns = labels.shape[1] if labels.ndim == 2 else 1
        if labels.ndim != 2 or columns != self.num_outputs:
            raise InputError(
                f"the task {self.name} needs {self.num_outputs} label column(s) "
                f"({', '.join(self.output_names)}), but the images have {columns}; "
                "give the right columns or another --task"
            )


@dataclass(frozen=True)
class Gaze(Task):
    """Gaze direction: (pitch, yaw) in radians; error is the 3-D angle in degrees."""

    name: ClassVar[str] = "gaze"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("pitch", "yaw")

    @property
    def output_unit(self) -> str:
        return "rad"

    @property
    def error_unit(self) -> str:
        return "°"

    def error(self, outputs: Tensor, labels: Tensor) -> Tensor:
        a, b = gaze_vector(outputs.double()), gaze_vector(labels.double())
        # atan2 keeps its accuracy where arccos loses it, near 0° and 180°.
        sine = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=1)
        return torch.rad2deg(torch.atan2(sine, (a * b).sum(1))).to(outputs.dtype)

    def check_labels(self, labels: NDArray[Any]) -> None:
        super().check_labels(labels)
        largest = float(np.abs(labels).max())
        if largest > np.pi:
            raise InputError(
                f"gaze labels are pitch and yaw in radians, but one is {largest:.4g}, which is "
                "more than π; convert degrees to radians"
            )


def gaze_vector(angles: Tensor) -> Tensor:
    """Unit vectors (N, 3) of gaze angles (N, 2): pitch and yaw in radians.

    Pitch 0 and yaw 0 look at the camera, along −z; positive pitch looks up, positive yaw left.
    """
    pitch, yaw = angles[:, 0], angles[:, 1]
    return torch.stack(
        [
            -torch.cos(pitch) * torch.sin(yaw),
            -torch.sin(pitch),
            -torch.cos(pitch) * torch.cos(yaw),
        ],
        dim=1,
    )


@dataclass(frozen=True)
class HeadPose(Task):
    """Head pose: (yaw, pitch, roll) in degrees; error is their mean absolute difference."""

    name: ClassVar[str] = "head-pose"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("yaw", "pitch", "roll")

    @property
    def output_unit(self) -> str:
        return "°"

    @property
    def error_unit(self) -> str:
        return "°"

    def error(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).abs().mean(1)

    def check_labels(self, labels: NDArray[Any]) -> None:
        super().check_labels(labels)
        largest = float(np.abs(labels).max())
        if largest > 360:
            raise InputError(
                f"head pose labels are yaw, pitch and roll in degrees, but one is {largest:.4g}"
            )


@dataclass(frozen=True)
class Regression(Task):
    """Any d numbers in the user's own unit.

    ``norm`` chooses the error over the outputs: ``l1`` is their mean absolute difference, ``l2``
    the root of their mean squared difference; both are in the labels' unit.
    """

    outputs: tuple[str, ...]
    unit: str = ""
    norm: Literal["l1", "l2"] = "l1"
    name: ClassVar[str] = "regression"

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.outputs

    @property
    def output_unit(self) -> str:
        return self.unit

    @property
    def error_unit(self) -> str:
        return self.unit

    def error(self, outputs: Tensor, labels: Tensor) -> Tensor:
        difference = outputs - labels
        if self.norm == "l1":
            return difference.abs().mean(1)
        return difference.square().mean(1).sqrt()

    def settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "outputs": list(self.outputs),
            "unit": self.unit,
            "norm": self.norm,
        }


@dataclass(frozen=True)
class Classification(Task):
    """One of d classes; outputs are logits, labels (N, 1) class numbers; error is 0 or 1."""

    classes: tuple[str, ...]
    name: ClassVar[str] = "classification"
    loss_name: ClassVar[LossName] = "cross-entropy"
    is_regression: ClassVar[bool] = False

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def output_unit(self) -> str:
        return ""

    @property
    def error_unit(self) -> str:
        return "of images"

    def error(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.argmax(1) != labels[:, 0].long()).to(outputs.dtype)

    def responses(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "classes": list(self.classes)}

    def check_labels(self, labels: NDArray[Any]) -> None:
        if labels.ndim != 2 or labels.shape[1] != 1:
            raise InputError("the task classification needs one label column with class numbers")
        if not np.array_equal(labels, np.round(labels)):
            raise InputError("class labels must be whole numbers from 0; some are fractions")
        if labels.min() < 0 or labels.max() >= self.num_outputs:
            raise InputError(
                f"class labels run from {labels.min():g} to {labels.max():g}, but the task has "
                f"{self.num_outputs} classes (0 to {self.num_outputs - 1})"
            )


TASK_NAMES = ("gaze", "head-pose", "regression", "classification")


def make_task(
    name: str,
    *,
    outputs: tuple[str, ...] | list[str] | None = None,
    unit: str = "",
    norm: Literal["l1", "l2"] = "l1",
    classes: tuple[str, ...] | list[str] | None = None,
) -> Task:
    """Make a task from its name and settings.

    Args:
        name: one of :data:`TASK_NAMES`.
        outputs: names of the outputs, for ``regression``.
        unit: unit of the outputs, for ``regression``.
        norm: error over the outputs, for ``regression``.
        classes: names of the classes, for ``classification``.

    Raises:
        InputError: an unknown name, or a setting that the task needs is missing.
    """
    if name == Gaze.name:
        return Gaze()
    if name == HeadPose.name:
        return HeadPose()
    if name == Regression.name:
        if not outputs:
            raise InputError("the task regression needs the names of its outputs")
        if norm not in ("l1", "l2"):
            raise InputError(f"the norm must be l1 or l2, not {norm!r}")
        return Regression(outputs=tuple(outputs), unit=unit, norm=norm)
    if name == Classification.name:
        if not classes:
            raise InputError("the task classification needs the names of its classes")
        return Classification(classes=tuple(classes))
    raise InputError(f"unknown task {name!r}; choose one of {', '.join(TASK_NAMES)}")


def loss(name: LossName, outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean training loss of outputs (N, d) against labels (N, d), or (N, 1) class numbers."""
    if name == "l1":
        return functional.l1_loss(outputs, labels)
    if name == "l2":
        return functional.mse_loss(outputs, labels)
    return functional.cross_entropy(outputs, labels[:, 0].long())
