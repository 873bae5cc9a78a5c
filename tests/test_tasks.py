import math

import numpy as np
import pytest
import torch

from drmguard.errors import InputError
from drmguard.tasks import TASK_NAMES, Classification, Gaze, HeadPose, Regression, loss, make_task


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        ((0.0, 0.0), (0.0, 0.0), 0.0),
        ((0.0, 0.0), (0.0, math.pi / 2), 90.0),
        ((math.pi / 4, 0.0), (-math.pi / 4, 0.0), 90.0),
        ((0.0, 0.0), (0.0, math.pi), 180.0),
        ((0.0, 0.0), (math.radians(0.01), 0.0), 0.01),
    ],
)
def test_gaze_error_is_the_angle_in_space(a, b, degrees):
    error = Gaze().error(torch.tensor([a]), torch.tensor([b]))
    assert error.item() == pytest.approx(degrees, abs=1e-4)


def test_yaw_counts_less_at_a_high_pitch():
    pitch = math.radians(60)
    error = Gaze().error(torch.tensor([[pitch, 0.0]]), torch.tensor([[pitch, 0.1]]))
    # cos of the angle = sin² p + cos² p · cos 0.1
    wanted = math.acos(math.sin(pitch) ** 2 + math.cos(pitch) ** 2 * math.cos(0.1))
    assert error.item() == pytest.approx(math.degrees(wanted), rel=1e-4)


def test_head_pose_and_regression_errors_by_hand():
    outputs, labels = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 4.0, 3.0]])
    assert HeadPose().error(outputs, labels).item() == pytest.approx(1.0)
    names = ("a", "b", "c")
    assert Regression(names).error(outputs, labels).item() == pytest.approx(1.0)
    l2 = Regression(names, norm="l2").error(outputs, labels).item()
    assert l2 == pytest.approx(math.sqrt(5 / 3))


def test_classification_error_and_probabilities():
    task = Classification(("cat", "dog"))
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert task.error(logits, torch.tensor([[0.0], [0.0]])).tolist() == [0.0, 1.0]
    assert task.responses(logits).sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_two_classes_are_too_few_to_stand_out_and_outputs_are_no_classes():
    assert Classification(tuple("abcd")).has_many_classes
    assert not Classification(tuple("abc")).has_many_classes
    assert not Regression(tuple("abcdefgh")).has_many_classes


def test_losses_by_hand():
    outputs, labels = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert loss("l1", outputs, labels).item() == pytest.approx(1.5)
    assert loss("l2", outputs, labels).item() == pytest.approx(2.5)
    logits = torch.tensor([[0.0, 0.0]])
    assert loss("cross-entropy", logits, torch.tensor([[1.0]])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", TASK_NAMES)
def test_settings_make_the_same_task_again(name):
    task = make_task(name, outputs=("a", "b"), unit="m", norm="l2", classes=("x", "y"))
    assert make_task(**task.settings()) == task


@pytest.mark.parametrize(
    ("task", "labels", "sentence"),
    [
        (Gaze(), np.zeros((3, 3)), "needs 2 label column"),
        (Gaze(), np.full((3, 2), 20.0), "radians"),
        (HeadPose(), np.full((3, 3), 400.0), "degrees"),
        (Classification(("a", "b")), np.array([[0.5]]), "whole numbers"),
        (Classification(("a", "b")), np.array([[2.0]]), "2 classes"),
    ],
)
def test_labels_that_cannot_belong_are_refused(task, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        task.check_labels(labels)


def test_unknown_task_names_the_known_ones():
    with pytest.raises(InputError, match="gaze"):
        make_task("pose")
