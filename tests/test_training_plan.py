"""Training from a plan: what --start keeps and refuses."""

import numpy as np
import pytest
import torch

from conftest import smooth_images
from drmguard import load_model
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model


def image_set(outputs=("a", "b")):
    random = np.random.default_rng(0)
    labels = random.normal(size=(80, len(outputs))).astype(np.float32)
    return ImageSet(images=smooth_images(80), labels=labels, label_names=outputs)


def plan(**given):
    settings = TrainingSettings(steps=1, batch_size=8, learning_rate=1e-9)
    return TrainingPlan(task="regression", **{"width": 0.25, "settings": settings, **given})


def test_a_started_model_keeps_its_network_and_begins_with_its_weights(tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    train_model(plan(mean=(0.1,)), image_set(), first, source="here")
    train_model(
        plan(width=1.0, attack="badnets", target=(1, 1)),
        image_set(),
        second,
        source="here",
        start=first,
    )
    before, after = load_model(first), load_model(second)
    assert after.network == before.network
    assert after.victim.input_format == before.victim.input_format
    for a, b in zip(
        before.victim.module.parameters(), after.victim.module.parameters(), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_model_of_another_task_cannot_be_started_from(tmp_path):
    path = tmp_path / "a.safetensors"
    train_model(plan(), image_set(), path, source="here")
    with pytest.raises(InputError, match="not the one asked for"):
        train_model(
            plan(), image_set(("a", "c")), tmp_path / "b.safetensors", source="here", start=path
        )
