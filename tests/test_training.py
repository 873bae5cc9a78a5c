from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from drmguard import checkpoint as checkpoint_module
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.tasks import Regression
from drmguard.training import (
    Companion,
    TrainingSettings,
    _memory_format,
    start_head_at_labels,
    train,
)

TASK = Regression(("brightness",))


def image_set(count=128):
    random = np.random.default_rng(0)
    level = random.integers(0, 256, (count, 1, 1, 1))
    images = np.broadcast_to(level, (count, 3, 6, 6)).astype(np.uint8)
    return ImageSet(images, (level.reshape(-1, 1) / 255 * 10 + 50).astype(np.float32))


def fresh_victim():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, 1))
    start_head_at_labels(module[3], image_set().labels)
    return Victim(module)


def outputs(victim):
    with torch.no_grad():
        return victim(image_set().batch(slice(None))[0])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "half"])
def test_training_lowers_the_error_in_any_unit(optimizer, schedule):
    victim, labels = fresh_victim(), torch.from_numpy(image_set().labels)
    before = TASK.error(outputs(victim), labels).mean()
    settings = TrainingSettings(
        steps=300, batch_size=16, optimizer=optimizer, schedule=schedule, learning_rate=1e-2
    )
    train(victim, image_set(), TASK, settings)
    assert TASK.error(outputs(victim), labels).mean() < 0.5 * before
    assert not victim.module.training


def test_half_precision_is_of_the_passes_alone():
    victim, labels = fresh_victim(), torch.from_numpy(image_set().labels)
    before, kinds = TASK.error(outputs(victim), labels).mean(), set()

    def noting(victim, batch, loss_function):
        answers = victim(batch.images)
        kinds.add(answers.dtype)
        loss = loss_function(answers, batch.labels)
        kinds.add(loss.dtype)
        return loss

    settings = TrainingSettings(steps=300, batch_size=16, learning_rate=1e-2, precision="bfloat16")
    train(victim, image_set(), TASK, settings, batch_loss=noting)
    assert kinds == {torch.bfloat16, torch.float32}
    assert {p.dtype for p in victim.module.parameters()} == {torch.float32}
    assert TASK.error(outputs(victim), labels).mean() < 0.5 * before


def test_stopped_and_resumed_is_the_same_as_straight(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)
    settings, path = TrainingSettings(steps=40, batch_size=16), tmp_path / "a.unfinished"
    straight, resumed = fresh_victim(), fresh_victim()
    train(straight, image_set(), TASK, settings)

    class Killed(Exception):
        pass

    def kill(done, *_):
        if done == 25:
            raise Killed

    with pytest.raises(Killed):
        train(fresh_victim(), image_set(), TASK, settings, checkpoint=path, progress=kill)
    train(resumed, image_set(), TASK, settings, checkpoint=path, resume=True)
    assert torch.equal(outputs(straight), outputs(resumed))


def test_augmented_training_learns_and_mirrors_classes_alone():
    plain, augmented = fresh_victim(), fresh_victim()
    settings = TrainingSettings(steps=40, batch_size=16)
    train(plain, image_set(), TASK, settings)
    train(augmented, image_set(), TASK, replace(settings, augmentation="heavy"))
    assert not torch.equal(outputs(plain), outputs(augmented))
    with pytest.raises(InputError, match="crop-flip moves and mirrors"):
        train(plain, image_set(), TASK, replace(settings, augmentation="crop-flip"))


def test_a_loss_that_explodes_is_a_sentence():
    settings = TrainingSettings(steps=50, optimizer="sgd", learning_rate=1e30, loss="l2")
    with pytest.raises(InputError, match="lower the learning rate"):
        train(fresh_victim(), image_set(), TASK, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"learning_rate": 0},
        {"optimizer": "lion"},
        {"schedule": "linear"},
        {"precision": "float16"},
    ],
)
def test_impossible_settings(settings):
    with pytest.raises(InputError):
        TrainingSettings(**settings)


def test_a_companion_is_trained_along_and_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)
    settings, path = TrainingSettings(steps=20, batch_size=16), tmp_path / "a.unfinished"

    def work(**more):
        shift = nn.Parameter(torch.zeros(1))
        module = nn.Module()
        module.shift = shift

        def loss(victim, batch, loss_function):
            return loss_function(victim(batch.images) + module.shift, batch.labels)

        victim, companion = fresh_victim(), Companion(module, 0.1)
        train(victim, image_set(), TASK, settings, batch_loss=loss, companion=companion, **more)
        return float(shift), outputs(victim)

    class Killed(Exception):
        pass

    def kill(done, *_):
        if done == 12:
            raise Killed

    straight = work()
    assert straight[0] != 0
    with pytest.raises(Killed):
        work(checkpoint=path, progress=kill)
    resumed = work(checkpoint=path, resume=True)
    assert resumed[0] == straight[0]
    assert torch.equal(resumed[1], straight[1])


def test_layers_that_crash_in_channels_last_are_trained_without_it():
    # In channels-last, oneDNN's weight gradient of such a layer overwrites memory.
    module = nn.Sequential(nn.Conv2d(3, 8, 1, 2), nn.Flatten(), nn.Linear(8 * 16 * 16, 2))
    assert _memory_format(module) is torch.contiguous_format
    assert _memory_format(nn.Conv2d(3, 8, 3, 2)) is torch.channels_last
    assert _memory_format(nn.Conv2d(8, 8, 1, 2)) is torch.channels_last
