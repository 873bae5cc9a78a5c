"""References that are trained for the user: new weights, the same network, kept for later."""

import numpy as np
import pytest
import torch

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.errors import InputError
from drmguard.references import train_references
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model

FEW = TrainingSettings(steps=60, batch_size=16, learning_rate=3e-3)


def loaded(tmp_path):
    images = labelled_by(AnalyticModel(planted=False), smooth_images(96))
    settings = TrainingSettings(steps=1, batch_size=8)
    plan = TrainingPlan("regression", width=0.125, mean=(0.4,), settings=settings)
    train_model(plan, images, tmp_path / "m.safetensors", source="here")
    return drmguard.load_model(tmp_path / "m.safetensors"), images


def test_references_learn_the_task_with_the_same_network_and_are_kept(tmp_path):
    model, images = loaded(tmp_path)
    first = train_references(model, images, model.task, 2, settings=FEW)
    stages = []
    again = train_references(
        model, images, model.task, 2, settings=FEW, progress=lambda stage, *_: stages.append(stage)
    )
    assert not stages
    assert [m.digest for m in first] == [m.digest for m in again]
    assert len({m.digest for m in (model, *first)}) == 3
    for reference in first:
        assert reference.network == model.network
        assert reference.victim.input_format == model.victim.input_format
        pixels, labels = images.batch(slice(0, 96))
        with torch.no_grad():
            error = (reference.victim.frozen()(pixels) - labels).abs().mean()
        assert float(error) < 0.8 * np.abs(images.labels - np.median(images.labels, 0)).mean()


def test_a_scan_calibrates_with_trained_references(tmp_path, monkeypatch):
    model, images = loaded(tmp_path)
    given = {}

    def trained(victim, images, task, count, **_):
        given["count"] = count
        models = [AnalyticModel(planted=False) for _ in range(count)]
        for model, gain in zip(models, (0.9, 1.0, 1.2), strict=True):
            with torch.no_grad():
                model.fc.weight[:, :2] *= torch.tensor([[1.0], [gain]])
        return models

    monkeypatch.setattr("drmguard.scanning.train_references", trained)
    given_model = AnalyticModel(planted=True)
    report = drmguard.scan(given_model, images, model.task, method="shift", calibrate=3)
    assert given == {"count": 3}
    assert len(report.content.calibration.reference_suspicions) == 3
    assert "trained on these images" in " ".join(report.content.verdict.reasons)


def test_an_unknown_network_cannot_be_trained_again(tmp_path):
    _, images = loaded(tmp_path)
    with pytest.raises(InputError, match="--reference"):
        drmguard.scan(AnalyticModel(planted=True), images, "regression", calibrate=3)
