"""What is planted in which network, and its training."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.data.image_set import ImageSet, split
from kinds.data import Locations, images_of
from kinds.networks import NETWORKS
from kinds.triggers import FURTHER, TRIGGERS

STEPS, BATCH, POISONED = 1000, 64, 0.1
CLASS_STEPS = 4000


@dataclass(frozen=True)
class Kind:
    """A model to train and scan; without a trigger it is clean.

    Attributes:
        longer: trained so many times as long as usual.
    """

    data: str
    network: str
    trigger: str | None
    seed: int
    longer: int = 1

    @property
    def name(self) -> str:
        """Of its result."""
        length = "" if self.longer == 1 else f"-x{self.longer}"
        return f"{self.data}-{self.network}-{self.trigger or 'clean'}-{self.seed}{length}"

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
            kind.longer * CLASS_STEPS,
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
            kind.longer * STEPS,
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
