"""One small patch a class, searched in pixel space: which classes have valid triggers, how strong.

For each class a patch of a given size, stamped at a place drawn anew for every image, is searched
for by gradient descent on the cross-entropy of that class, all classes in one batch and from
several random starts.  It is the point search that MESA is compared with, and what finds the
target class before its distribution is modelled: a planted trigger works where the patches of the
other classes, the model's own null, do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoints
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign
from drmguard.search.loop import Objective, Progress, optimise
from drmguard.search.passes import images_at_once
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.triggers.placing import paste, random_places


@dataclass(frozen=True)
class ClassSettings:
    """How to search the classes.

    Attributes:
        size: (height, width) of the patches.
        starts: random patches a class.
        steps, images: optimiser steps, and images a step for every patch.
        learning_rate: of Adam, in logits of the pixels.
        measured: clean images on which each patch is measured, at most.
    """

    size: tuple[int, int] = (3, 3)
    starts: int = 2
    steps: int = 80
    images: int = 12
    learning_rate: float = 0.3
    measured: int = 160


@dataclass(frozen=True)
class ClassTrigger:
    """The strongest patch that was found for one class.

    Attributes:
        number: of the class.
        hits: share of the clean images that do not give the class which do with the patch.
        counted: how many such images there were.
        trigger: the patch, at random places or its own.
    """

    number: int
    hits: float
    counted: int
    trigger: nn.Module

    @property
    def odds(self) -> float:
        """Hits against misses, half an image added to each."""
        successes = self.hits * self.counted
        return (successes + 0.5) / (self.counted - successes + 0.5)


def strongest(found: Sequence[ClassTrigger]) -> ClassTrigger:
    """That of the highest odds.

    Raises:
        InputError: no class has a trigger, since every clean image gives the same one.
    """
    if not found:
        raise InputError("the model gives one class to every clean image; check --pixel-range")
    return max(found, key=lambda trigger: trigger.odds)


class Patches(nn.Module):
    """(K, C, h, w) as logits of pixel values; a further channel is the pixels' opacity."""

    def __init__(self, count: int, shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(count, *shape, generator=random))


class PointSearch(Objective):
    """Each of K patches is to send clean images to its class.

    Args:
        patches: K of them.
        classes: their classes (K,).
        victim: frozen, with outputs (n, classes).
        benign: the clean images.
        learning_rate: of Adam, in logits.
        seed: of the places.
        places: (row, column) of every patch (K, 2); anew for every image where None.
    """

    def __init__(
        self,
        patches: Patches,
        classes: Tensor,
        victim: Victim,
        benign: Benign,
        learning_rate: float,
        seed: int,
        places: Tensor | None = None,
    ) -> None:
        self.patches, self.classes, self.victim, self.benign = patches, classes, victim, benign
        self.learning_rate, self.seed, self.places = learning_rate, seed, places
        shape = benign.images.shape[1:]
        self.at_once = images_at_once((shape[0], shape[1], shape[2]))

    @property
    def trainable(self) -> nn.Module:
        return self.patches

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        return [{"params": [self.patches.logits], "lr": self.learning_rate}]

    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        images = self.benign.images[rows]
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        some = max(1, self.at_once // len(images))
        for part in torch.arange(len(self.classes), device=images.device).split(some):
            repeated = images.repeat(len(part), 1, 1, 1)
            patches = self.patches.logits[part].sigmoid().repeat_interleave(len(images), 0)
            if self.places is None:
                height, width = patches.shape[2:]
                top, left = random_places(repeated, height, width, random)
            else:
                top, left = self.places[part].repeat_interleave(len(images), 0).unbind(1)
            outputs = self.victim(paste(repeated, patches, top, left))
            wanted = self.classes[part].repeat_interleave(len(images))
            loss = nn.functional.cross_entropy(outputs, wanted, reduction="sum") / len(images)
            yield loss, {f"{int(part[0])}.loss": float(loss.detach()) / len(part)}


def search_classes(
    victim: Victim,
    benign: Benign,
    settings: ClassSettings,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> list[ClassTrigger]:
    """The strongest patch of every class, in the order of the classes.

    A class that every clean image gives already has no patch and is left out.
    """
    number = benign.standardised.shape[1]
    shape = (benign.images.shape[1], *settings.size)
    patches = Patches(number * settings.starts, shape, seed).to(benign.images.device)
    classes = torch.arange(number, device=benign.images.device).repeat(settings.starts)
    name = "trying every class"
    optimise(
        PointSearch(patches, classes, victim, benign, settings.learning_rate, seed),
        victim=victim,
        count=len(benign.images),
        batch_size=settings.images,
        steps=settings.steps,
        seed=seed,
        betas=(0.8, 0.95),
        name=name,
        checkpoint=checkpoints.stage(name) if checkpoints else None,
        progress=progress,
    )
    answers = benign.responses(benign.standardised).argmax(1)
    found: dict[int, ClassTrigger] = {}
    for patch, k in zip(patches.logits.detach().sigmoid(), classes.tolist(), strict=True):
        images = benign.images[answers != k][: settings.measured]
        if not len(images):
            continue
        trigger = PlacedPatchTrigger(patch.clone(), seed)
        with torch.no_grad():
            stamped = torch.cat([victim(trigger(c)).argmax(1) for c in images.split(128)])
        hits = float((stamped == k).float().mean())
        if k not in found or hits > found[k].hits:
            found[k] = ClassTrigger(k, hits, len(images), PlacedPatchTrigger(patch.clone(), seed))
    return [found[k] for k in sorted(found)]
