import numpy as np
import pytest
import torch

from drmguard.data.rendered_gaze import PITCH_RANGE, YAW_RANGE, render_gaze
from drmguard.data.rendered_head_pose import render_head_pose, rotation
from drmguard.errors import InputError

RENDERERS = [render_gaze, render_head_pose]


@pytest.mark.parametrize("render", RENDERERS)
def test_the_seed_decides_and_a_prefix_is_the_same(render):
    long, short, other = render(24, seed=5), render(7, seed=5), render(24, seed=6)
    assert np.array_equal(long.images[:7], short.images)
    assert np.array_equal(long.labels[:7], short.labels)
    assert not np.array_equal(long.images, other.images)


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("size", [16, 64, 224])
def test_any_size(render, size):
    images = render(2, size=size)
    assert images.images.shape == (2, 3, size, size)
    assert images.images.std() > 20


@pytest.mark.parametrize("render", RENDERERS)
def test_impossible_sizes(render):
    with pytest.raises(InputError, match="16 to 224"):
        render(2, size=500)
    with pytest.raises(InputError, match="at least 1"):
        render(0)


def test_labels_fill_their_range():
    labels = render_gaze(500, size=16).labels
    assert np.abs(labels[:, 0]).max() == pytest.approx(PITCH_RANGE, rel=0.02)
    assert np.abs(labels[:, 1]).max() == pytest.approx(YAW_RANGE, rel=0.02)


def test_rotation_is_a_rotation():
    turn = rotation(torch.tensor([[30.0, -20.0, 10.0], [0.0, 0.0, 0.0]]))
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-6)
    assert torch.allclose(turn[1], torch.eye(3))
    # Yaw alone turns the face (−z) sideways.
    face = rotation(torch.tensor([[90.0, 0.0, 0.0]]))[0] @ torch.tensor([0.0, 0.0, -1.0])
    assert torch.allclose(face, torch.tensor([-1.0, 0.0, 0.0]), atol=1e-6)
