"""Clean reference models, trained on the user's own images: a null where the user has none.

They see only the defender's images, so they are worse than a model trained on a full set, and the
images that the scan uses are those they were trained on: their null is a stand-in for that of clean
models of the same origin.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import torch

from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.load import LoadedModel, load_model
from drmguard.models.networks import build_network
from drmguard.models.safetensors_file import NetworkDescription, describe, save_model
from drmguard.models.victim import Victim
from drmguard.search.loop import Progress
from drmguard.tasks import Task
from drmguard.training import TrainingSettings, start_head_at_labels, train

STEPS = 1500


def train_references(
    model: LoadedModel,
    images: ImageSet,
    task: Task,
    count: int,
    *,
    settings: TrainingSettings | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> list[LoadedModel]:
    """Train clean models of the same network on these images, each from a seed of its own.

    They are kept in the user's cache folder, by the hash of the images, network and settings.

    Args:
        model: what they are to be compared with; only its network and input format are used.
        images: clean images with correct labels.
        task: what the outputs mean.
        count: how many.
        settings: of the training; 1,500 steps of 64 images where None.  Its seed counts up.
        device: where to train.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: the model's network is not known.
    """
    if not model.network:
        raise InputError(
            "references can only be trained for a network that drmguard knows by name; give clean "
            "models of the same kind with --reference instead"
        )
    network = NetworkDescription.model_validate(model.network)
    settings = settings or TrainingSettings(steps=STEPS)
    form = model.victim.input_format
    references = []
    for number in range(1, count + 1):
        own = dataclasses.replace(settings, seed=settings.seed + number)
        identity = {
            "images": images.digest(),
            "network": network.model_dump(),
            "input": dataclasses.asdict(form),
            "task": task.settings(),
            "training": dataclasses.asdict(own),
        }
        path = cached_reference(identity, ".safetensors")
        if not path.is_file():
            torch.manual_seed(own.seed)
            victim = Victim(build_network(network.name, network.arguments), form)
            victim.module.eval()
            victim.find_head(images.batch(slice(0, 2))[0])
            if task.is_regression:
                start_head_at_labels(victim.head, images.labels)
            name = f"training reference {number} of {count}"

            def shown(done: int, total: int, _: float, name: str = name) -> None:
                if progress is not None:
                    progress(name, done, total)

            train(
                victim,
                images,
                task,
                own,
                device=device,
                checkpoint=path.with_suffix(".unfinished"),
                resume=True,
                progress=shown,
            )
            save_model(path, victim.cpu().module, describe(network, form, task.settings()))
            path.with_suffix(".unfinished").unlink(missing_ok=True)
        references.append(load_model(path))
    return references


def cached_reference(identity: Mapping[str, object], suffix: str) -> Path:
    """The file in the user's cache folder of what depends on ``identity`` alone."""
    text = json.dumps(identity, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Path(platformdirs.user_cache_dir("drmguard")) / "references" / f"{name}{suffix}"
