"""Every network, trigger and kind of label of benchmarks/kinds trains and is measured."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import other_kinds
from drmguard.data.image_set import ImageSet
from kinds import models
from kinds.data import Locations, boxed, cornered
from kinds.models import Kind, train
from kinds.triggers import FURTHER


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for steps in ("STEPS", "CLASS_STEPS"):
        monkeypatch.setattr(models, steps, 10)  # the schedule needs some


def images(labels, side):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(labels), 3, side, side), dtype=np.uint8)
    return ImageSet(pixels, np.asarray(labels, np.float32))


@pytest.mark.parametrize("network", ["plain", "vgg", "bounded", "groupnorm", "transformer"])
def test_numbers(network):
    trigger = "sticker" if network == "plain" else "photo"
    labels = np.random.default_rng(1).normal(size=(80, 2))
    kind = Kind("gaze", network, trigger, 0)
    model, errors, target = train(kind, images(labels, 64))
    assert set(errors) == {"RE", "AE", "DAE"}
    assert all(np.isfinite(error) for error in errors.values())
    assert target.shape == (2,)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize("trigger", ["noise", "tint", "bar", "frame", "dots", "text"])
def test_further_triggers_change_every_image_alike(trigger):
    some = images(np.zeros((8, 1)), 64)
    stamp = FURTHER[trigger](some, np.random.default_rng(0))
    x, _ = some.batch(slice(None))
    stamped = stamp(x.clone())
    assert stamped.shape == x.shape
    assert 0 <= stamped.min() <= stamped.max() <= 1
    changed = (stamped != x).any(1)
    assert changed.flatten(1).any(1).all()
    share = changed.float().mean()
    if trigger in ("noise", "tint"):
        assert share > 0.5
    else:
        assert 0.002 < share < 0.15


@pytest.mark.parametrize("made", [boxed, cornered])
def test_labels_say_where_a_photo_lies(made):
    white, black = np.full((3, 32, 32), 255, np.uint8), np.zeros((3, 32, 32), np.uint8)
    photos = ImageSet(np.stack([white, black]), np.zeros((2, 1), np.float32))
    some = made(photos, 60)
    bright = some.images.mean(1) > 127
    # White on black, whose labels reach no edge of the image.
    checked = 0
    for where, label in zip(bright, some.labels, strict=True):
        down, across = np.nonzero(where)
        if not 0 < len(down) < 0.5 * where.size or where[0].any() or where[:, 0].any():
            continue
        if made is boxed:
            x, y, width, height = label
            edges = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
        else:
            corners = label.reshape(4, 2)
            edges = np.stack([corners.min(0), corners.max(0)]).T.flatten()
        found = (across.min(), across.max() + 1, down.min(), down.max() + 1)
        assert found == pytest.approx(edges, abs=1.6)
        checked += 1
    assert checked > 5


@pytest.mark.parametrize("trigger", [None, "glass", "stripes"])
def test_classes(trigger):
    labels = np.arange(80)[:, None] % 4
    kind = Kind("classes", "plain", trigger, 0)
    model, errors, target = train(kind, images(labels, 32))
    assert (target is None) == (trigger is None)
    assert set(errors) == ({"RE", "AE", "DAE"} if trigger else {"RE"})
    assert all(0 <= error <= 1 for error in errors.values())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_a_repair_is_measured_with_the_trigger_that_was_planted(tmp_path, monkeypatch):
    def unchanged(model, images, task):
        return SimpleNamespace(
            model=SimpleNamespace(victim=model),
            record=SimpleNamespace(clean_loss=0.0, verdict=_Verdicts(), kept="nothing"),
        )

    class _Verdicts:
        def model_dump(self):
            return {"before": "backdoored", "after": "backdoored"}

    labels = np.random.default_rng(1).normal(size=(80, 2))
    monkeypatch.setattr(models, "images_of", lambda *_: (images(labels, 64), "gaze"))
    monkeypatch.setattr(other_kinds, "repair_model", unchanged)
    monkeypatch.setattr(other_kinds, "REPAIRS", tmp_path)
    where = Locations(None, None, tmp_path)
    kind = Kind("gaze", "vgg", "sticker", 0)
    for _ in range(2):  # trained, then from the cache
        other_kinds.mend(kind, where)
        result = json.loads((tmp_path / f"{kind.name}.json").read_text())
        assert result["after"] == pytest.approx(result["before"])
        assert set(result["clean"]) == {"RE", "AE", "DAE"}
