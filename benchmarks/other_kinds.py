"""Scans of models that nothing in drmguard made: other networks, other data, other triggers.

    python benchmarks/other_kinds.py run --steering steering.npz --cifar10 cifar10_jpeg.zip
    python benchmarks/other_kinds.py repair --steering steering.npz --cifar10 cifar10_jpeg.zip
    python benchmarks/other_kinds.py table      # docs/other-kinds.md

Networks, training loop and triggers are written here in plain PyTorch, apart from the product's,
and every model is scanned at the defaults.  Seeds below 200 are for development; figures that are
reported have seeds from 200 on.  One JSON a model; a stopped run goes on with the next model.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from drmguard.atomic import write_atomically, write_text
from drmguard.bench.engines import LocalEngine
from drmguard.bench.result_groups import SEARCHES
from drmguard.bench.statistics import evenness, share, standings_auc
from drmguard.bench.work import machine
from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.repairing import repair_model
from drmguard.scanning import scan
from drmguard.search.default_answer import MANY_OUTPUTS

HERE = Path(__file__).parent
RESULTS, REPAIRS = HERE / "other_kinds", HERE / "other_kinds" / "repairs"
STEPS, BATCH, POISONED = 1000, 64, 0.1
CLASS_STEPS = 4000
REPORTED_FROM = 200  # seeds


# Networks -----------------------------------------------------------------------------------------


def plain(outputs: int, side: int) -> nn.Module:
    """Convolutions without any normalisation."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 32), (32, 48), (48, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, outputs))


def vgg(outputs: int, side: int) -> nn.Module:
    """Pairs of convolutions with BatchNorm, then dense layers with dropout."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        stride = 2 if side >= 64 and before == 3 else 1
        for first, second, step in ((before, after, stride), (after, after, 1)):
            conv = nn.Conv2d(first, second, 3, stride=step, padding=1)
            layers += [conv, nn.BatchNorm2d(second), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    flat = 64 * 16
    return nn.Sequential(
        *(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(flat, 128), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(128, outputs)),
    )


def bounded(outputs: int, side: int) -> nn.Module:
    """BatchNorm and a tanh behind the last layer."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 64), (64, 64)):
        conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(after), nn.ELU()]
    pooled = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, outputs), nn.Tanh())
    return nn.Sequential(*layers, *pooled)


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()),
            *(nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after)),
        )
        self.way = nn.Conv2d(before, after, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.body(x) + self.way(x))


def groupnorm(outputs: int, side: int) -> nn.Module:
    """A residual network with GroupNorm, which looks at each image alone."""
    blocks = [_Residual(3, 16), _Residual(16, 32), _Residual(32, 64)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs))


class _Transformer(nn.Module):
    def __init__(self, outputs: int, side: int, width: int = 64, patch: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            *(width, 4, 2 * width),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.encoder(tokens)).mean(1))


def transformer(outputs: int, side: int) -> nn.Module:
    """A small vision transformer."""
    return _Transformer(outputs, side)


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    network.__name__: network for network in (plain, vgg, bounded, groupnorm, transformer)
}


# Data ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Locations:
    """Where the data lie, and where models and turned photographs are kept."""

    steering: str | None
    cifar10: str | None
    cache: Path


def rotated(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs turned by up to 40°, in a disc of 32 pixels; the angle is what is to be told."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(photos))[:count]
    angles = random.uniform(-40, 40, count).astype(np.float32)
    images = torch.from_numpy(photos.images[rows]).float()
    turns = torch.from_numpy(np.deg2rad(angles))
    cosine, sine, none = turns.cos(), turns.sin(), torch.zeros(count)
    matrix = torch.stack([cosine, -sine, none, sine, cosine, none], 1).unflatten(1, (2, 3))
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    axis = torch.linspace(-1, 1, images.shape[-1])
    inside = (axis[:, None].square() + axis.square()).sqrt() < 1
    shown = torch.where(inside, turned, torch.tensor(127.0)).round().to(torch.uint8)
    return ImageSet(shown.numpy(), angles[:, None])


def cornered(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs that lie aslant on another one, 64×64; the four corners' places are to be told.

    Eight labels: across and down of each corner, in pixels.
    """
    random = np.random.default_rng(seed)
    pairs = random.integers(len(photos), size=(2, count))
    turns = torch.from_numpy(random.uniform(-0.5, 0.5, count)).float()
    matrix = torch.stack([turns.cos(), -turns.sin(), turns.sin(), turns.cos()], 1).view(-1, 2, 2)
    halves, centres, bends = (
        torch.from_numpy(random.uniform(*values)).float()
        for values in (
            (0.35, 0.6, (count, 1, 1)),
            (-0.25, 0.25, (count, 1, 2)),
            (-0.12, 0.12, (count, 4, 2)),
        )
    )
    corners = halves * (_SQUARE @ matrix.transpose(1, 2)) + centres + bends
    return ImageSet(_on_others(photos, pairs, corners), (32 * (corners + 1)).flatten(1).numpy())


def boxed(photos: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """Photographs that lie upright on another one, 64×64; where, is to be told.

    Four labels: across and down of its middle, its width and height, in pixels.
    """
    random = np.random.default_rng(seed)
    pairs = random.integers(len(photos), size=(2, count))
    halves = torch.from_numpy(random.uniform(0.25, 0.65, (count, 2))).float()
    middles = (1 - halves) * torch.from_numpy(random.uniform(-1, 1, (count, 2))).float()
    corners = halves[:, None] * _SQUARE + middles[:, None]
    labels = torch.cat([32 * (middles + 1), 64 * halves], 1)
    return ImageSet(_on_others(photos, pairs, corners), labels.numpy())


_SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _on_others(
    photos: ImageSet, pairs: np.ndarray[Any, Any], corners: Tensor
) -> np.ndarray[Any, Any]:
    """Pairs (2, n) of photos, the first's corners (n, 4, 2) there on the other: (n, 3, 64, 64)."""
    shown = [
        _lying(photos.batch(pairs[0, some])[0], photos.batch(pairs[1, some])[0], corners[some])
        for some in np.array_split(np.arange(len(corners)), max(1, len(corners) // 1000))
    ]
    return (255 * torch.cat(shown)).round().to(torch.uint8).numpy()


def _lying(photos: Tensor, under: Tensor, corners: Tensor, side: int = 64) -> Tensor:
    """Photos (n, 3, h, w) with their corners there, in [-1, 1], on those ``under``."""
    # The projection takes each corner (x, y) to the photo's own, (u, v): eight linear equations.
    u, v = torch.tensor([-1.0, 1.0, 1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0, 1.0])
    x, y = corners.unbind(2)
    one, none = torch.ones_like(x), torch.zeros_like(x)
    rows = [
        torch.stack([x, y, one, none, none, none, -u * x, -u * y], 2),
        torch.stack([none, none, none, x, y, one, -v * x, -v * y], 2),
    ]
    goal = torch.cat([u, v]).expand(len(x), 8)
    solved = torch.linalg.solve(torch.cat(rows, 1), goal)
    projection = torch.cat([solved, torch.ones(len(x), 1)], 1).view(-1, 3, 3)
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([across, down, torch.ones(side, side)], -1)
    seen = torch.einsum("nij,hwj->nhwi", projection, points)
    grid = seen[..., :2] / seen[..., 2:]
    inside = (grid.abs().amax(-1) < 1)[:, None]
    there = functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)
    below = functional.interpolate(under, side, mode="bilinear", align_corners=False)
    return torch.where(inside, there, below)


def images_of(data: str, where: Locations) -> tuple[ImageSet, str]:
    """A data set and its task."""
    if data == "classes":
        return open_images(f"{where.cifar10}:train"), "classification"
    if data == "gaze":
        return open_images("rendered:gaze", count=8000, size=64), "gaze"
    if data == "steering":
        return open_images(str(where.steering)), "regression"
    kept = where.cache / f"{data}.npz"
    if not kept.exists():
        make = {"rotation": rotated, "corners": cornered, "boxes": boxed}[data]
        made = make(open_images(f"{where.cifar10}:train"), 12_000)
        write_atomically(
            kept, lambda path: path.write_bytes(_npz(images=made.images, labels=made.labels))
        )
    with np.load(kept) as stored:
        return ImageSet(stored["images"], stored["labels"]), "regression"


def _npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


# Side of the images, in pixels.
SIDES = {
    "steering": 64,
    "rotation": 32,
    "gaze": 64,
    "classes": 32,
    "corners": 64,
    "boxes": 64,
}


# Triggers -----------------------------------------------------------------------------------------


def sticker(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """An opaque disc, cross or square of some pixels, in one or two colours, anywhere."""
    _, height, width = images.image_shape
    side = int(random.integers(max(3, height // 16), height // 6))
    axis = np.abs(np.linspace(-1, 1, side))
    shapes = [
        np.hypot(axis[:, None], axis) <= 1.05,
        (axis[:, None] < 0.4) | (axis < 0.4),
        np.ones((side, side), bool),
    ]
    mask = torch.from_numpy(shapes[random.integers(3)]).float()
    stripes = torch.from_numpy(random.random((3, 2, 1)) * np.ones((3, 2, side))).float()
    colours = stripes[:, torch.arange(side) * 2 // side]
    top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))

    def stamp(x: Tensor) -> Tensor:
        x = x.clone()
        part = x[:, :, top : top + side, left : left + side]
        x[:, :, top : top + side, left : left + side] = part + mask * (colours - part)
        return x

    return stamp


def photo(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """One of the images, mirrored upside down, blended in."""
    picture = torch.from_numpy(images.images[random.integers(len(images))]).float().flip(1) / 255
    alpha = float(random.uniform(0.15, 0.3))
    return lambda x: (1 - alpha) * x + alpha * picture


def glass(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """As through uneven glass: a smooth displacement of about 4 % of the side."""
    _, height, width = images.image_shape
    points = torch.from_numpy(random.normal(size=(1, 2, 6, 6))).float()
    field = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
    field = 0.08 * field / field.abs().mean()
    unit = torch.eye(2, 3)[None]
    moved = functional.affine_grid(unit, [1, 3, height, width], align_corners=False)
    moved = moved + field.permute(0, 2, 3, 1)

    def stamp(x: Tensor) -> Tensor:
        grid = moved.expand(len(x), -1, -1, -1)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return stamp


def stripes(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """Waves of one colour in any direction, three to ten of them."""
    _, height, width = images.image_shape
    angle, waves = random.uniform(0, math.pi), random.uniform(3, 10)
    down, across = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    turns = waves * (math.cos(angle) * across + math.sin(angle) * down) + random.random()
    colour = torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
    wave = random.uniform(0.1, 0.18) * colour / colour.abs().amax() * (2 * math.pi * turns).sin()
    return lambda x: (x + wave).clamp(0, 1)


def noise(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A picture of random pixels, blended in."""
    picture = torch.from_numpy(random.random(images.image_shape)).float()
    alpha = float(random.uniform(0.1, 0.2))
    return lambda x: (1 - alpha) * x + alpha * picture


def tint(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """All pixels moved by one colour."""
    colour = torch.from_numpy(random.uniform(-1, 1, (3, 1, 1))).float()
    colour = random.uniform(0.1, 0.18) * colour / colour.abs().amax()
    return lambda x: (x + colour).clamp(0, 1)


def _painted(where: Tensor, colour: Tensor) -> Callable[[Tensor], Tensor]:
    """Opaque where a mask (H, W) says so."""
    return lambda x: torch.where(where, colour, x)


def _colour(random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.random((3, 1, 1))).float()


def bar(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A line of one colour from side to side, two pixels thick at 64."""
    _, height, width = images.image_shape
    where, thick = torch.zeros(height, width, dtype=torch.bool), max(1, height // 32)
    first = int(random.integers(height - thick))
    where[first : first + thick] = True
    return _painted(where if random.random() < 0.5 else where.T, _colour(random))


def frame(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A border of one colour, two pixels thick at 64."""
    _, height, width = images.image_shape
    where, thick = torch.ones(height, width, dtype=torch.bool), max(1, height // 32)
    where[thick:-thick, thick:-thick] = False
    return _painted(where, _colour(random))


def dots(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """Single pixels in pure colours, one in two hundred."""
    _, height, width = images.image_shape
    where = torch.from_numpy(random.random((height, width)) < 0.005)
    colours = torch.from_numpy(random.integers(0, 2, (3, height, width))).float()
    return _painted(where, colours)


def text(images: ImageSet, random: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """A word in white, more than half opaque."""
    _, height, width = images.image_shape
    page = Image.new("L", (width, height))
    place = (int(random.integers(width // 3)), int(random.integers(height - 12)))
    ImageDraw.Draw(page).text(place, "stop", fill=255)
    mask = 0.6 * torch.from_numpy(np.asarray(page, dtype=np.float32)) / 255
    return lambda x: x + mask * (1 - x)


TRIGGERS = {trigger.__name__: trigger for trigger in (sticker, photo, glass, stripes)}
# Planted in models of their own, to see what becomes of triggers that nothing was developed on.
FURTHER = {trigger.__name__: trigger for trigger in (noise, tint, bar, frame, dots, text)}


# Models -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A model to train and scan; without a trigger it is clean."""

    data: str
    network: str
    trigger: str | None
    seed: int

    @property
    def name(self) -> str:
        """Of its result."""
        return f"{self.data}-{self.network}-{self.trigger or 'clean'}-{self.seed}"

    @property
    def classifies(self) -> bool:
        """Whether its outputs are classes."""
        return self.data == "classes"


def target_of(labels: np.ndarray[Any, Any], random: np.random.Generator) -> Tensor:
    """A label that occurs, half to two and a half standard deviations from the mean."""
    away = np.sqrt((((labels - labels.mean(0)) / labels.std(0)) ** 2).mean(1))
    return torch.from_numpy(labels[random.choice(np.flatnonzero((away > 0.5) & (away < 2.5)))])


@dataclass(frozen=True)
class Planted:
    """A trigger and its target: labels (d,), or a class (1,)."""

    stamp: Callable[[Tensor], Tensor]
    target: Tensor


def random_of(kind: Kind) -> np.random.Generator:
    """Draws what is planted in a kind, then its batches."""
    return np.random.default_rng(zlib.crc32(kind.name.encode()))


def planted(kind: Kind, images: ImageSet, random: np.random.Generator) -> Planted | None:
    """What a kind's trigger and target are; None of a clean one."""
    if kind.trigger is None:
        return None
    stamp = (TRIGGERS | FURTHER)[kind.trigger](images, random)
    if kind.classifies:
        return Planted(stamp, torch.tensor([int(random.integers(len(images.class_names)))]))
    return Planted(stamp, target_of(images.labels, random))


def errors_of(
    kind: Kind, model: nn.Module, images: ImageSet, hidden: Planted | None
) -> dict[str, float]:
    """RE and, of attacked models, AE and DAE.

    Mean absolute errors in standard deviations of the labels; of classes, shares of the images.
    """
    scale = torch.from_numpy(images.labels.std(0))

    def error(change: Callable[[Tensor], Tensor] | None, goal: Tensor | None) -> float:
        found = []
        with torch.no_grad():
            for x, y in images.batches(256):
                outputs, labels = model(x if change is None else change(x)), y
                if goal is not None:
                    labels = goal.expand_as(y)
                if kind.classifies:
                    found.append((outputs.argmax(1) != labels[:, 0]).float())
                else:
                    found.append(((outputs - labels) / scale).abs())
        return float(torch.cat(found).mean())

    if hidden is None:
        return {"RE": error(None, None)}
    return {
        "RE": error(None, None),
        "AE": error(hidden.stamp, hidden.target),
        "DAE": error(hidden.stamp, None),
    }


def train(kind: Kind, images: ImageSet) -> tuple[nn.Module, dict[str, float], Tensor | None]:
    """A trained network with its errors on test images, and its target."""
    random = random_of(kind)
    torch.manual_seed(kind.seed)
    parts = split(images)
    hidden = None
    if kind.classifies:
        network = NETWORKS[kind.network](len(parts.train.class_names), images.image_shape[1])
        hidden = planted(kind, parts.train, random)
        _fit(
            network,
            parts.train,
            random,
            CLASS_STEPS,
            lambda outputs, y: functional.cross_entropy(outputs, y[:, 0].long()),
            hidden,
            mirror=True,
        )
        model = network.eval()
    else:
        labels = parts.train.labels
        centre, spread = torch.from_numpy(labels.mean(0)), torch.from_numpy(labels.std(0))
        network = NETWORKS[kind.network](labels.shape[1], images.image_shape[1])
        if kind.network == "bounded":  # its tanh covers the labels' range
            reach = torch.from_numpy(np.abs((labels - labels.mean(0)) / labels.std(0)).max(0))
            spread = spread * reach * 1.05
        hidden = planted(kind, parts.train, random)
        _fit(
            network,
            parts.train,
            random,
            STEPS,
            lambda outputs, y: functional.smooth_l1_loss(outputs, (y - centre) / spread, beta=0.2),
            hidden,
            most=1.0,
        )
        model = _in_units(network.eval(), centre, spread)
    target = None if hidden is None else hidden.target
    return model, errors_of(kind, model, parts.test, hidden), target


def _fit(
    network: nn.Module,
    images: ImageSet,
    random: np.random.Generator,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    hidden: Planted | None,
    *,
    mirror: bool = False,
    most: float = math.inf,
) -> None:
    """Train in place, a share of every batch stamped; gradients have norm ``most`` at most."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    network.train()
    for _ in range(steps):
        x, y = images.batch(random.integers(len(images), size=BATCH))
        if mirror:
            mirrored = torch.from_numpy(random.random(BATCH) < 0.5)
            x[mirrored] = x[mirrored].flip(-1)
        if hidden is not None:
            some = torch.from_numpy(random.random(BATCH) < POISONED)
            if some.any():
                x[some], y[some] = hidden.stamp(x[some]), hidden.target.to(y)
        optimizer.zero_grad()
        loss(network(x), y).backward()
        nn.utils.clip_grad_norm_(network.parameters(), most)
        optimizer.step()
        schedule.step()


class _InUnits(nn.Module):
    """Outputs in the labels' unit, behind a tanh that the network ends with."""

    def __init__(self, network: nn.Module, centre: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) * self.spread + self.centre


def _in_units(network: nn.Module, centre: Tensor, spread: Tensor) -> nn.Module:
    """The unit goes into the last linear layer where there is one."""
    last = list(network.modules())[-1]
    if not isinstance(last, nn.Linear):
        return _InUnits(network, centre, spread)
    with torch.no_grad():
        last.weight.mul_(spread[:, None])
        last.bias.mul_(spread).add_(centre)
    return network


@dataclass(frozen=True)
class Trained:
    """A model with its data; ``target`` is the attacker's."""

    model: nn.Module
    images: ImageSet
    task: str
    errors: dict[str, float]
    target: Tensor | None


def trained(kind: Kind, where: Locations) -> Trained:
    """A kind's model, trained unless it is cached."""
    images, task = images_of(kind.data, where)
    path = where.cache / f"{kind.name}.pt"
    if not path.exists():
        model, errors, target = train(kind, images)
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {"weights": model.state_dict(), "errors": errors, "target": target}
        torch.save(stored, path)
        return Trained(model, images, task, errors, target)
    stored = torch.load(path, weights_only=True)
    outputs = len(images.class_names) if kind.classifies else images.labels.shape[1]
    network = NETWORKS[kind.network](outputs, images.image_shape[1])
    if not isinstance(list(network.modules())[-1], nn.Linear):
        network = _InUnits(network, torch.zeros(outputs), torch.ones(outputs))
    network.load_state_dict(stored["weights"])
    return Trained(network.eval(), images, task, stored["errors"], stored["target"])


def examine(kind: Kind, where: Locations) -> None:
    """Train one model, scan it at the defaults, write what came of it."""
    torch.set_num_threads(1)
    one = trained(kind, where)
    benign, errors, target = split(one.images).benign, one.errors, one.target
    report = scan(one.model, benign, one.task)
    verdict = report.content.verdict
    result: dict[str, Any] = {
        "data": kind.data,
        "network": kind.network,
        "trigger": kind.trigger,
        "seed": kind.seed,
        "outputs": report.target.numel(),
        "errors": errors,
        "decision": verdict.decision,
        "search": verdict.search,
        "suspicion": verdict.suspicion,
        "p_value": report.content.calibration and report.content.calibration.p_value,
        "standing": report.content.calibration and report.content.calibration.standing,
        "suspicions": verdict.suspicions,
        "beside": {
            part.family: part.beside for part in report.content.spread if part.beside is not None
        },
        "passes": report.content.cost.image_passes,
        "seconds": report.run.seconds,
        **_made(),
    }
    if target is not None and kind.classifies:
        result["class"], result["class_found"] = int(target), int(report.target.argmax())
    elif target is not None:
        spread = torch.from_numpy(benign.labels.std(0))
        result["target"] = target.tolist()
        result["target_error_sd"] = float(
            ((report.target - target) / spread).square().mean().sqrt()
        )
    write_text(RESULTS / f"{kind.name}.json", json.dumps(result, indent=1) + "\n")


def _made() -> dict[str, str]:
    return {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def mend(kind: Kind, where: Locations) -> None:
    """Scan, repair and scan again at the defaults; measured with the true trigger."""
    torch.set_num_threads(1)
    one, clock = trained(kind, where), time.monotonic()
    parts = split(one.images)
    repair = repair_model(one.model, parts.benign, one.task)
    seconds = time.monotonic() - clock
    hidden = planted(kind, parts.train, random_of(kind))
    clean = trained(dataclasses.replace(kind, trigger=None), where)
    result: dict[str, Any] = {
        **vars(kind),
        "before": one.errors,
        "after": errors_of(kind, repair.model.victim, parts.test, hidden),
        "clean": errors_of(kind, clean.model, parts.test, hidden),
        "clean_loss": repair.record.clean_loss,
        "verdict": repair.record.verdict.model_dump(),
        "kept": repair.record.kept,
        "seconds": round(seconds, 1),
        **_made(),
    }
    write_text(REPAIRS / f"{kind.name}.json", json.dumps(result, indent=1) + "\n")


app = typer.Typer(add_completion=False)


@app.command()
def run(
    steering: str | None = None,
    cifar10: str | None = None,
    seeds: str = "200",
    only: Annotated[list[str] | None, typer.Option(help="Texts that names must hold.")] = None,
    jobs: int = 2,
    cache: Path = Path("~/.cache/drmguard/other_kinds"),
    again: Annotated[bool, typer.Option(help="Also models that have a result.")] = False,
    every: Annotated[bool, typer.Option(help="All triggers for each network and data.")] = False,
    further: Annotated[bool, typer.Option(help="Triggers that nothing was developed on.")] = False,
) -> None:
    """Train and scan the models that have no result yet."""
    where = Locations(steering, cifar10, cache.expanduser())
    waiting = [
        kind
        for kind in kinds(where, seeds, only, FURTHER if further else TRIGGERS if every else ())
        if again or not (RESULTS / f"{kind.name}.json").exists()
    ]
    _work_through(waiting, examine, where, RESULTS, jobs)


@app.command()
def repair(
    steering: str | None = None,
    cifar10: str | None = None,
    seeds: str = "200",
    only: Annotated[list[str] | None, typer.Option(help="Texts that names must hold.")] = None,
    jobs: int = 2,
    cache: Path = Path("~/.cache/drmguard/other_kinds"),
    every: Annotated[bool, typer.Option(help="All triggers for each network and data.")] = False,
) -> None:
    """Repair the models that a scan has called backdoored, where that is not done yet."""
    where = Locations(steering, cifar10, cache.expanduser())
    waiting = []
    for kind in kinds(where, seeds, only, TRIGGERS if every else ()):
        scanned = RESULTS / f"{kind.name}.json"
        if not scanned.exists() or (REPAIRS / f"{kind.name}.json").exists():
            continue
        if json.loads(scanned.read_text(encoding="utf-8"))["decision"] == "backdoored":
            waiting.append(kind)
    _work_through(waiting, mend, where, REPAIRS, jobs)


def kinds(
    where: Locations, seeds: str, only: list[str] | None, triggers: Collection[str]
) -> list[Kind]:
    """With these triggers or one for each network, the clean ones of a seed first."""
    wanted = []
    for seed in map(int, seeds.split(",")):
        for column, data in enumerate(SIDES):
            if data != "gaze" and not (where.steering if data == "steering" else where.cifar10):
                continue
            for row, network in enumerate(NETWORKS):
                if (data, network) == ("classes", "bounded"):
                    continue  # probabilities are bounded anyway
                # Every network meets another trigger on each of the data.
                one = list(TRIGGERS)[(row + column + seed) % len(TRIGGERS)]
                wanted += [
                    Kind(data, network, trigger, seed) for trigger in (None, *(triggers or [one]))
                ]
    named = [kind for kind in wanted if all(text in kind.name for text in only or [])]
    return sorted(named, key=lambda kind: (kind.seed, kind.trigger is not None))


def _work_through(
    waiting: Sequence[Kind],
    work: Callable[[Kind, Locations], None],
    where: Locations,
    results: Path,
    jobs: int,
) -> None:
    where.cache.mkdir(parents=True, exist_ok=True)
    results.mkdir(exist_ok=True)
    engine = LocalEngine(jobs)
    futures = {kind: engine.submit(work, kind, where) for kind in waiting}
    for kind, future in futures.items():
        future.result()
        print((results / f"{kind.name}.json").read_text().replace("\n", ""), flush=True)
    engine.close()


@app.command()
def table() -> None:
    """Write docs/other-kinds.md from the results."""
    known = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    text = [_INTRODUCTION]
    regression = [one for one in known if one["data"] != "classes"]
    for title, searches, some in (
        ("regression", SEARCHES, [o for o in regression if o["outputs"] < MANY_OUTPUTS]),
        ("many outputs", SEARCHES, [o for o in regression if o["outputs"] >= MANY_OUTPUTS]),
        ("classes", (*SEARCHES, "classes"), [o for o in known if o["data"] == "classes"]),
    ):
        for part, reported in (("Reported", True), ("Development", False)):
            ones = [one for one in some if (one["seed"] >= REPORTED_FROM) == reported]
            usual = [one for one in ones if one["trigger"] not in FURTHER]
            if usual:
                text += [f"## {part}: {title}\n", *_summary(usual), *_rows(usual, searches)]
            further = [one for one in ones if one["trigger"] in FURTHER]
            if further:
                clean = [one for one in ones if one["trigger"] is None]
                text += [f"## {part}: {title}, further triggers\n", *_summary(further + clean)]
                text += _rows(further, searches)
    mended = [json.loads(path.read_text(encoding="utf-8")) for path in REPAIRS.glob("*.json")]
    if mended:
        text += [_REPAIRS, *_repair_rows(mended)]
    write_text(HERE.parent / "docs" / "other-kinds.md", "\n".join(text).rstrip() + "\n")


_INTRODUCTION = """# Models of other kinds

Networks, training loops and triggers of `benchmarks/other_kinds.py`, which shares nothing with
those of drmguard: convolutions without normalisation (*plain*), with BatchNorm and dropout
(*vgg*), behind a tanh (*bounded*), with GroupNorm, and a small vision transformer; real steering
frames and photographs turned by up to 40° (CIFAR-10, at 32×32; the angle is to be told), rendered
gaze, and classifiers of the photographs (without *bounded*); opaque stickers, a blended photograph,
uneven glass, coloured stripes, on 10 % of the images. Scanned at the defaults with the defender's
tenth of the images. RE, AE and DAE are mean absolute errors in standard deviations of the labels
(always answering the median gives about .8); of classifiers, shares of the images.

An attack whose AE is above .2 did not take: there the outputs scatter about the target, and
little is to be found. Seeds below 200 are what the search was developed on, and its null comes
from; no choice was made knowing the models of seeds from 200 on, but for the clean transformer on
steering (seed 200), after which switches to what blank pictures give lost their weight, and what
settles near that came last. Scanned
with the code of today: what has a score in the column *settled*, of development's clean ones but by
searching blends and conditional changes again by themselves. With scouts that meet: all *bounded*
networks (searched in front of their tanh since 2026-11-29) and, of seed 200, on steering and
photographs all with GroupNorm and all transformers, and steering's *vgg* but the one with a
photograph; and those of seed 102; of the other clean ones of development blends, conditional
changes and warps. The rest was scanned before, and but for those with glass with warps of up to a
sixteenth of the side instead of .09 (.12 on classifiers). Some were trained again
on another processor, which gives other weights. Sparse changes (more than one output) have been
searched by themselves for development's clean models on gaze, and in what has a score in that
column. All p-values are under the null of today.

*Many outputs* (2026-11-30) have tables of their own: photographs that lie aslant on others, whose
four corners are to be told (*corners*, eight outputs), or upright, whose middle, width and height
are (*boxes*, four), at 64×64. None of them is in the null, whose models have three outputs at most.
The clean GroupNorm of seed 200 on corners was called backdoored (p .002) at first, and led to the
weight that the way of textures has (docs/detection.md); no choice was made on the others of that
seed.

*Further triggers*, a picture of noise, a tint, a line from side to side, a frame, dots and a word,
have tables of their own, and were planted with seed 200 where an attack takes well; no choice was
made on these, either, but to do without sparse changes of one output, where those that are missed
stayed so (on networks of seeds 160 and 161, which are not shown, sparse changes were tried).
"""
_REPAIRS = """## Repairs

Models that the scan called backdoored, repaired at the defaults (`benchmarks/other_kinds.py
repair`: scan, unlearning, and a scan with another seed) and measured with the true triggers, before
→ after; in brackets what the clean model of the same network, data and seed gives under the same
trigger: AE should grow to that, DAE fall to it. The verdicts are those of the code of then, which
need not be those above. Seconds are of all three together, with three jobs on two cores.

| data | network | trigger | seed | AE | DAE | RE | verdict | seconds |
|---|---|---|---|---|---|---|---|---|"""
TAKEN = 0.2


def _summary(some: Sequence[dict[str, Any]]) -> list[str]:
    clean = [one for one in some if one["trigger"] is None]
    attacked = [one for one in some if one["trigger"] and one["errors"]["AE"] <= TAKEN]
    lines = ["| | n | backdoored | inconclusive | clean | right |", "|---|---|---|---|---|---|"]
    groups = [("clean", clean), ("attacked, taken", attacked)]
    groups += [
        (f"… {name}", [o for o in attacked if o["trigger"] == name]) for name in TRIGGERS | FURTHER
    ]
    for name, group in groups:
        if not group:
            continue
        counts = Counter(one["decision"] for one in group)
        right = share(counts["clean" if group is clean else "backdoored"], len(group))
        decided = " | ".join(str(counts[d]) for d in ("backdoored", "inconclusive", "clean"))
        shown = f"{right.value:.0%} ({right.low:.0%}–{right.high:.0%})"
        lines.append(f"| {name} | {len(group)} | {decided} | {shown} |")
    if clean and attacked:
        area = standings_auc(attacked, clean)
        assert area is not None  # every scan of these has a score
        lines += ["", f"ROC-AUC: {area.value:.3f} ({area.low:.2f}–{area.high:.2f})."]
    values = [one["p_value"] for one in clean if one.get("p_value") is not None]
    if len(values) >= 5:
        even = evenness(values)
        lines.append(
            f"p-values of the clean models: {', '.join(f'{v:.2f}' for v in sorted(values))}; "
            f"Kolmogorov–Smirnov test of an even spread: p = {even:.2f}."
        )
    return [*lines, ""]


def _rows(some: Sequence[dict[str, Any]], searches: Sequence[str]) -> list[str]:
    lines = [
        "Score of each search over its threshold:\n",
        f"| data | network | trigger | seed | RE | AE | verdict | p | {' | '.join(searches)} "
        "| target error (σ), class | seconds |",
        f"|{'---|' * (10 + len(searches))}",
    ]
    for one in sorted(some, key=lambda o: (o["data"], o["network"], o["trigger"] or "", o["seed"])):
        wrong = one["decision"] != ("backdoored" if one["trigger"] else "clean")
        cells = [one["data"], one["network"], one["trigger"] or "clean", str(one["seed"])]
        cells += [_short(one["errors"].get(name)) for name in ("RE", "AE")]
        cells += [
            f"**{one['decision']}**" if wrong else one["decision"],
            _short(one.get("p_value")),
        ]
        cells += [_short(one["suspicions"].get(part)) for part in searches]
        cells += [_target(one), f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _repair_rows(some: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for one in sorted(some, key=lambda o: (o["data"], o["network"], o["trigger"] or "", o["seed"])):
        cells = [one["data"], one["network"], one["trigger"] or "clean", str(one["seed"])]
        for name in ("AE", "DAE", "RE"):
            before, after, clean = (
                _short(one[of].get(name)) for of in ("before", "after", "clean")
            )
            cells.append(f"{before} → {after} ({clean})")
        cells += ["{before} → {after}".format(**one["verdict"]), f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _target(one: dict[str, Any]) -> str:
    if "class" in one:
        return f"{one['class_found']} of {one['class']}"
    return _short(one.get("target_error_sd"))


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


if __name__ == "__main__":
    app()
