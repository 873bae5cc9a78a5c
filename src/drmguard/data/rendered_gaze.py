"""The embedded default: full faces whose irises follow the gaze, rendered on the fly.

Skin, hair, background, light, head position, scale and roll vary; the gaze is given in the
camera's frame, so a rolled head does not roll the gaze.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drmguard.data.drawing import (
    Canvas,
    Dice,
    coverage,
    ellipse,
    muted_color,
    render_in_batches,
    sensor_noise,
)
from drmguard.data.image_set import ImageSet
from drmguard.tasks import gaze_vector

PITCH_RANGE, YAW_RANGE = 0.40, 0.60  # radians to either side
_EYEBALL = 0.17  # radius in face units: how far an iris moves at 90°
_COLUMNS = 64
_HAIR = np.array([[0.08, 0.06, 0.05], [0.35, 0.20, 0.10], [0.80, 0.62, 0.32], [0.60, 0.60, 0.60]])
_IRIS = np.array([[0.25, 0.13, 0.06], [0.20, 0.36, 0.55], [0.22, 0.40, 0.24], [0.10, 0.07, 0.05]])


def render_gaze(count: int, *, size: int = 64, seed: int = 0) -> ImageSet:
    """Render ``count`` faces at ``size``×``size`` with labels (pitch, yaw) in radians.

    The same seed gives the same images; the first n of a longer set are the same as n alone.
    """
    dice = Dice(seed, count, _COLUMNS)
    pitch = dice.uniform(-PITCH_RANGE, PITCH_RANGE)
    yaw = dice.uniform(-YAW_RANGE, YAW_RANGE)
    labels = np.stack([pitch, yaw], axis=1)
    look = _Look(dice)

    def draw(rows: slice) -> Tensor:
        return _draw(look, labels[rows], rows, size, seed)

    images = render_in_batches(count, size, draw)
    return ImageSet(images=images, labels=labels, label_names=("pitch", "yaw"))


class _Look:
    """Everything about a face but its gaze, one row an image."""

    def __init__(self, dice: Dice) -> None:
        u = dice.uniform
        self.roll = u(-0.30, 0.30)
        self.center = np.stack([u(-0.14, 0.14), u(-0.10, 0.14)], 1)
        self.scale = u(0.88, 1.12)
        tone = u(0.0, 1.0)[:, None]
        light_skin, dark_skin = np.array([0.96, 0.80, 0.69]), np.array([0.36, 0.23, 0.16])
        self.skin = light_skin + tone * (dark_skin - light_skin) + u(-0.05, 0.05)[:, None]
        hair = np.array(
            [[0.08, 0.06, 0.05], [0.35, 0.20, 0.10], [0.80, 0.62, 0.32], [0.6, 0.6, 0.6]]
        )
        self.hair = hair[(u(0, 3.999)).astype(int)] * u(0.7, 1.2)[:, None]
        self.hairline = u(-0.62, -0.42)
        self.hair_width = u(0.04, 0.24)
        iris = np.array(
            [[0.25, 0.13, 0.06], [0.20, 0.36, 0.55], [0.22, 0.40, 0.24], [0.10, 0.07, 0.05]]
        )
        self.iris = iris[(u(0, 3.999)).astype(int)] * u(0.8, 1.2)[:, None]
        self.head_width, self.head_height = u(0.54, 0.68), u(0.74, 0.88)
        self.eye_gap, self.eye_height = u(0.23, 0.29), u(-0.16, -0.08)
        self.eye_width, self.eye_opening = u(0.13, 0.165), u(0.065, 0.09)
        self.iris_radius = u(0.062, 0.078)
        self.brow_height, self.brow_tilt = u(0.12, 0.18), u(-0.2, 0.2)
        self.nose_length, self.mouth_height = u(0.16, 0.24), u(0.40, 0.50)
        self.mouth_width, self.mouth_opening = u(0.14, 0.24), u(0.025, 0.06)
        self.glasses = (u(0, 1) < 0.2).astype(np.float32)
        self.light = np.stack([u(-0.45, 0.45), u(-0.30, 0.30)], 1)
        self.brightness = u(0.65, 1.15)
        self.noise = u(0.005, 0.025)
        self.background = np.stack([muted_color(dice), muted_color(dice)], 1)
        self.background_angle = u(0, 2 * np.pi)
        self.blob = np.stack([u(-1, 1), u(-1, 1), u(0.2, 0.7)], 1)
        self.blob_color = muted_color(dice)
        self.shirt = muted_color(dice)


def _draw(look: _Look, labels: NDArray[np.float32], rows: slice, size: int, seed: int) -> Tensor:
    def one(values: NDArray[np.floating]) -> Tensor:
        """One number an image."""
        return torch.as_tensor(values[rows], dtype=torch.float32).reshape(-1, 1, 1)

    def rgb(values: NDArray[np.floating]) -> Tensor:
        """One colour an image."""
        return torch.as_tensor(values[rows], dtype=torch.float32).reshape(-1, 3, 1, 1)

    canvas = Canvas.blank(len(labels), size)
    x, y = canvas.x, canvas.y
    sharp = canvas.pixels_per_unit * one(look.scale)  # pixels in a face unit

    # Background: two colours in a ramp, and one soft blob.
    angle = one(look.background_angle)
    ramp = ((x * angle.cos() + y * angle.sin()) * 0.5 + 0.5).unsqueeze(1)
    canvas.color = rgb(look.background[:, 0]) * (1 - ramp) + rgb(look.background[:, 1]) * ramp
    blob_x, blob_y, blob_size = (one(look.blob[:, i]) for i in range(3))
    blob = ellipse(x - blob_x, y - blob_y, blob_size, blob_size)
    canvas.paint(coverage(blob, canvas.pixels_per_unit, softness=4), rgb(look.blob_color))

    # Face coordinates: u to the right, v down, in a frame that moves, scales and rolls.
    cos, sin = one(np.cos(look.roll)), one(np.sin(look.roll))
    shift_x = (x - one(look.center[:, 0])) / one(look.scale)
    shift_y = (y - one(look.center[:, 1])) / one(look.scale)
    u, v = shift_x * cos + shift_y * sin, shift_y * cos - shift_x * sin
    width, height = one(look.head_width), one(look.head_height)

    skin = rgb(look.skin)
    canvas.paint(coverage(ellipse(u, v - 1.35, 0.95, 0.55), sharp), rgb(look.shirt))
    canvas.paint(coverage(ellipse(u, v - 0.80, 0.26, 0.40), sharp), skin * 0.8)
    hair_width = width + one(look.hair_width)
    canvas.paint(coverage(ellipse(u, v + 0.12, hair_width, height), sharp), rgb(look.hair))
    shade = (1 + one(look.light[:, 0]) * u + one(look.light[:, 1]) * v).unsqueeze(1)
    edge = 1 - 0.25 * ((u / width) ** 2 + (v / height) ** 2).clamp(0, 1).unsqueeze(1)
    lit_skin = skin * shade * edge
    for side in (-1, 1):
        ear = coverage(ellipse(u - side * width, v + 0.02, 0.07, 0.14), sharp)
        canvas.paint(ear, lit_skin * 0.85)
    face = coverage(ellipse(u, v, width, height), sharp)
    canvas.paint(face, lit_skin)
    fringe = coverage(v - one(look.hairline) - 0.25 * u**2, sharp) * face
    canvas.paint(fringe, rgb(look.hair) * shade)

    # Nose and mouth.
    nose = ellipse(u - 0.03, v - one(look.nose_length) * 0.6, 0.045, one(look.nose_length))
    canvas.paint(0.3 * coverage(nose, sharp, softness=2), lit_skin * 0.6)
    tip = ellipse(u, v - one(look.nose_length) * 1.3, 0.09, 0.035)
    canvas.paint(0.5 * coverage(tip, sharp, softness=2), lit_skin * 0.5)
    mouth = ellipse(u, v - one(look.mouth_height), one(look.mouth_width), one(look.mouth_opening))
    lips = lit_skin * torch.tensor([0.80, 0.45, 0.45]).reshape(1, 3, 1, 1)
    canvas.paint(coverage(mouth, sharp), lips)

    # Where the irises go: the gaze's image-plane part, turned into the face's frame.
    direction = gaze_vector(torch.from_numpy(labels))
    gx, gy = (direction[:, i].reshape(-1, 1, 1) * _EYEBALL for i in range(2))
    iris_u, iris_v = gx * cos + gy * sin, gy * cos - gx * sin
    # Lids follow the gaze up and down.
    opening = one(look.eye_opening) * (1 - 1.6 * iris_v).clamp(0.6, 1.4)
    radius, black = one(look.iris_radius), torch.zeros(1, 3, 1, 1)
    for side in (-1, 1):
        eu = u - side * one(look.eye_gap)
        ev = v - one(look.eye_height)
        brow_v = ev + one(look.brow_height) + side * one(look.brow_tilt) * eu
        canvas.paint(coverage(ellipse(eu, brow_v, 0.15, 0.025), sharp), rgb(look.hair) * 0.7)
        lid = ellipse(eu, ev, one(look.eye_width) * 1.12, opening * 1.25)
        canvas.paint(0.5 * coverage(lid, sharp), lit_skin * 0.6)
        eye = coverage(ellipse(eu, ev, one(look.eye_width), opening), sharp)
        white = torch.tensor([0.93, 0.92, 0.90]).reshape(1, 3, 1, 1) * shade
        canvas.paint(eye, white)
        iris = ellipse(eu - iris_u, ev - iris_v, radius, radius)
        canvas.paint(coverage(iris, sharp) * eye, rgb(look.iris) * shade)
        pupil = ellipse(eu - iris_u, ev - iris_v, radius * 0.45, radius * 0.45)
        canvas.paint(coverage(pupil, sharp) * eye, black)
        rim = ellipse(eu, ev, 0.20, 0.15).abs() - 0.012
        canvas.paint(coverage(rim, sharp) * one(look.glasses), black + 0.1)

    color = canvas.color * one(look.brightness).unsqueeze(1)
    return sensor_noise(color, one(look.noise).unsqueeze(1), seed, rows.start)
