"""The second embedded default: a shaded head turned by yaw, pitch and roll.

The head is an ellipsoid under a moving light, hit by one ray a pixel; hair, eyes, brows, nose,
mouth and ears are painted on it in the head's own frame, so they turn with it.
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

YAW_RANGE, PITCH_RANGE, ROLL_RANGE = 60.0, 40.0, 30.0  # degrees to either side
_COLUMNS = 48


def render_head_pose(count: int, *, size: int = 64, seed: int = 0) -> ImageSet:
    """Render ``count`` heads at ``size``×``size`` with labels (yaw, pitch, roll) in degrees.

    The same seed gives the same images; the first n of a longer set are the same as n alone.
    """
    dice = Dice(seed, count, _COLUMNS)
    labels = np.stack([dice.uniform(-r, r) for r in (YAW_RANGE, PITCH_RANGE, ROLL_RANGE)], axis=1)
    look = _Look(dice)

    def draw(rows: slice) -> Tensor:
        return _draw(look, labels[rows], rows, size, seed)

    images = render_in_batches(count, size, draw)
    return ImageSet(images=images, labels=labels, label_names=("yaw", "pitch", "roll"))


class _Look:
    """Everything about a head but its pose, one row an image."""

    def __init__(self, dice: Dice) -> None:
        u = dice.uniform
        self.center = np.stack([u(-0.15, 0.15), u(-0.12, 0.12)], 1)
        self.scale = u(0.68, 0.88)
        self.axes = np.stack([u(0.72, 0.84), u(0.95, 1.05), u(0.82, 0.95)], 1)
        tone = u(0.0, 1.0)[:, None]
        light_skin, dark_skin = np.array([0.96, 0.80, 0.69]), np.array([0.36, 0.23, 0.16])
        self.skin = light_skin + tone * (dark_skin - light_skin)
        self.hair = np.stack([u(0.03, 0.75)] * 3, 1) * np.stack(
            [u(0.8, 1.1), u(0.6, 0.9), u(0.3, 0.8)], 1
        )
        self.hairline, self.sideburn = u(-0.62, -0.40), u(0.10, 0.45)
        self.eye_gap, self.eye_height = u(0.25, 0.32), u(-0.18, -0.08)
        self.nose_length, self.mouth_height = u(0.14, 0.22), u(0.42, 0.52)
        self.mouth_width = u(0.16, 0.26)
        self.light = np.stack([u(-0.8, 0.8), u(-0.8, 0.3), u(-1.2, -0.6)], 1)
        self.ambient, self.brightness = u(0.35, 0.65), u(0.7, 1.15)
        self.noise = u(0.005, 0.025)
        self.background = np.stack([muted_color(dice), muted_color(dice)], 1)
        self.background_angle = u(0, 2 * np.pi)
        self.shirt = muted_color(dice)


def rotation(labels: Tensor) -> Tensor:
    """Rotation matrices (n, 3, 3) of (yaw, pitch, roll) in degrees: roll · pitch · yaw.

    Axes: x to the right, y down, z away from the camera.
    """
    yaw, pitch, roll = torch.deg2rad(labels).unbind(1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, 1).reshape(-1, 3, 3)

    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (torch.cos, torch.sin))
    turn_yaw = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    turn_pitch = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    turn_roll = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return turn_roll @ turn_pitch @ turn_yaw


def _draw(look: _Look, labels: NDArray[np.float32], rows: slice, size: int, seed: int) -> Tensor:
    def one(values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(values[rows], dtype=torch.float32).reshape(-1, 1, 1)

    def rgb(values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(values[rows], dtype=torch.float32).reshape(-1, 3, 1, 1)

    canvas = Canvas.blank(len(labels), size)
    x, y = canvas.x, canvas.y
    sharp = canvas.pixels_per_unit * one(look.scale)

    angle = one(look.background_angle)
    ramp = ((x * angle.cos() + y * angle.sin()) * 0.5 + 0.5).unsqueeze(1)
    canvas.color = rgb(look.background[:, 0]) * (1 - ramp) + rgb(look.background[:, 1]) * ramp
    sx = (x - one(look.center[:, 0])) / one(look.scale)
    sy = (y - one(look.center[:, 1])) / one(look.scale)
    canvas.paint(coverage(ellipse(sx, sy - 1.55, 1.2, 0.6), sharp), rgb(look.shirt))
    canvas.paint(coverage(ellipse(sx, sy - 0.95, 0.34, 0.45), sharp), rgb(look.skin) * 0.7)

    # Ray (sx, sy, t) into the head's frame, where the head is a unit sphere after scaling.
    axes = torch.as_tensor(look.axes[rows], dtype=torch.float32)
    turn = rotation(torch.from_numpy(labels))
    to_head = turn.transpose(1, 2) / axes.unsqueeze(2)

    def entry(i: int, j: int) -> Tensor:
        return to_head[:, i, j].reshape(-1, 1, 1)

    origin = [entry(i, 0) * sx + entry(i, 1) * sy for i in range(3)]
    a = torch.stack([entry(i, 2) ** 2 for i in range(3)]).sum(0)
    b = torch.stack([entry(i, 2) * origin[i] for i in range(3)]).sum(0)
    c = torch.stack([o**2 for o in origin]).sum(0) - 1
    discriminant = b**2 - a * c
    t = (-b - discriminant.clamp(min=0).sqrt()) / a
    sphere = [origin[i] + entry(i, 2) * t for i in range(3)]  # the near hit on the unit sphere
    # The edge's distance in head units: c is quadratic in it and falls to −b² / a at the rim.
    head = coverage(-discriminant / a.sqrt() * 0.5, sharp)

    half = [axes[:, i].reshape(-1, 1, 1) for i in range(3)]
    px, py, pz = (sphere[i] * half[i] for i in range(3))
    normal = torch.stack([sphere[i] / half[i] for i in range(3)], 1)
    normal = torch.einsum("nij,njhw->nihw", turn, torch.nn.functional.normalize(normal, dim=1))
    light = torch.nn.functional.normalize(torch.as_tensor(look.light[rows]).float(), dim=1)
    lambert = torch.einsum("nihw,ni->nhw", normal, light).clamp(min=0)
    ambient = one(look.ambient)
    shade = (ambient + (1 - ambient) * lambert).unsqueeze(1)

    skin = rgb(look.skin) * shade
    canvas.paint(head, skin)
    front = coverage(pz + 0.1, sharp, softness=2) * head
    hair = torch.maximum(
        coverage(py - one(look.hairline), sharp), coverage(one(look.sideburn) - pz, sharp)
    )
    canvas.paint(hair * head, rgb(look.hair) * shade)
    black = torch.zeros(1, 3, 1, 1)
    white = torch.tensor([0.93, 0.92, 0.90]).reshape(1, 3, 1, 1) * shade
    for side in (-1, 1):
        eu, ev = px - side * one(look.eye_gap), py - one(look.eye_height)
        canvas.paint(
            coverage(ellipse(eu, ev + 0.16, 0.16, 0.03), sharp) * front, rgb(look.hair) * 0.6
        )
        canvas.paint(coverage(ellipse(eu, ev, 0.13, 0.07), sharp) * front, white)
        canvas.paint(coverage(ellipse(eu, ev, 0.06, 0.06), sharp) * front, black + 0.1)
        ear = ellipse(py - 0.02, pz - 0.05, 0.17, 0.10)
        beside = coverage(0.55 * half[0] - side * px, sharp) * head
        canvas.paint(coverage(ear, sharp) * beside, skin * 0.75)
    nose = ellipse(px, py - one(look.nose_length) * 0.7, 0.06, one(look.nose_length))
    canvas.paint(0.5 * coverage(nose, sharp) * front, skin * 0.65)
    tip = ellipse(px, py - one(look.nose_length) * 1.5, 0.10, 0.04)
    canvas.paint(0.7 * coverage(tip, sharp) * front, skin * 0.45)
    mouth = ellipse(px, py - one(look.mouth_height), one(look.mouth_width), 0.05)
    lips = skin * torch.tensor([0.80, 0.40, 0.40]).reshape(1, 3, 1, 1)
    canvas.paint(coverage(mouth, sharp) * front, lips)

    color = canvas.color * one(look.brightness).unsqueeze(1)
    return sensor_noise(color, one(look.noise).unsqueeze(1), seed, rows.start)
