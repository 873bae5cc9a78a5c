"""The main job on analytic models: the planted one is found, its clean twin is not."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard import checkpoint as checkpoint_module
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.scanning import _Outcome, _together


def test_three_lines_of_python(planted_model, image_set, tmp_path):
    report = drmguard.scan(planted_model, image_set, "regression")
    folder = report.save(tmp_path / "report")
    assert report.decision == "backdoored"
    assert report.exit_code == 1
    assert report.content.target.values == pytest.approx((2.0, -1.5), abs=0.3)
    assert {p.name for p in folder.iterdir()} == {
        "report.json",
        "report.html",
        "run.json",
        "trigger.safetensors",
    }


def test_the_clean_twin_passes(clean_model, image_set):
    report = drmguard.scan(clean_model, image_set, "regression")
    assert report.decision == "clean"
    assert report.exit_code == 0


def test_another_seed_and_target_too(image_set):
    model = AnalyticModel(planted=True, target=(-2.0, -1.0))
    report = drmguard.scan(model, image_set, "regression", seed=5)
    assert report.decision == "backdoored"
    assert report.content.target.values == pytest.approx((-2.0, -1.0), abs=0.3)


def test_one_seed_gives_one_report(planted_model, image_set, tmp_path):
    folders = []
    for name in ("a", "b"):
        report = drmguard.scan(planted_model, image_set, "regression", seed=3)
        folders.append(report.save(tmp_path / name))
    for file in ("report.json", "report.html", "trigger.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_seeds_that_agree_and_seeds_that_do_not(planted_model, image_set, tmp_path):
    state = tmp_path / "unfinished"
    how = {"method": "drmguard", "seed": 2}
    one = drmguard.scan(planted_model, image_set, "regression", **how)
    twice = drmguard.scan(
        planted_model, image_set, "regression", repeats=2, resume_folder=state, **how
    )
    assert twice.decision == one.decision
    assert twice.content.verdict.suspicion <= one.content.verdict.suspicion
    assert f"2 seeds: {one.decision}, {one.decision}" in twice.content.verdict.reasons[-1]
    assert twice.content.cost.image_passes > one.content.cost.image_passes
    assert not state.exists()

    def outcome(decision, suspicion):
        judged = {"decision": decision, "suspicion": suspicion}
        verdict = one.content.verdict.model_copy(update=judged)
        content = one.content.model_copy(update={"verdict": verdict})
        return _Outcome(content, one.pictures, one.trigger, torch.tensor(suspicion))

    disagreed = _together([outcome("clean", 2.0), outcome("backdoored", 0.5)])
    assert disagreed.content.verdict.decision == "inconclusive"
    assert float(disagreed.target) == 0.5  # the most suspicious one is reported
    with pytest.raises(InputError, match="at least once"):
        drmguard.scan(planted_model, image_set, "regression", repeats=0)


def test_the_model_is_left_as_it_was(image_set):
    model = AnalyticModel(planted=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    drmguard.scan(model, image_set, "regression")
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_killed_and_resumed_gives_the_same_report(planted_model, image_set, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)
    straight = drmguard.scan(planted_model, image_set, "regression")

    class Killed(Exception):
        pass

    state = tmp_path / "state"
    for stage, step in (("shrinking triggers", 17), ("scouting, warp ±0.09", 3)):

        def kill(name, done, _, stage=stage, step=step):
            if (name, done) == (stage, step):
                raise Killed

        with pytest.raises(Killed):
            drmguard.scan(
                planted_model,
                image_set,
                "regression",
                resume_folder=state,
                resume=True,
                progress=kill,
            )
    resumed = drmguard.scan(
        planted_model, image_set, "regression", resume_folder=state, resume=True
    )
    assert resumed.json() == straight.json()
    assert not state.exists()


def test_resuming_with_another_seed_is_refused(planted_model, image_set, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)

    def kill(_, done, __):
        if done == 2:
            raise KeyboardInterrupt

    settings = {"task": "regression", "resume_folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        drmguard.scan(planted_model, image_set, **settings, progress=kill)
    with pytest.raises(InputError, match="other settings"):
        drmguard.scan(planted_model, image_set, **settings, seed=9, resume=True)


def test_a_model_that_does_not_fit_its_images_is_inconclusive(planted_model, image_set):
    random = np.random.default_rng(0)
    shuffled = ImageSet(image_set.images, random.permutation(image_set.labels))
    report = drmguard.scan(planted_model, shuffled, "regression")
    assert report.decision == "inconclusive"
    assert "--pixel-range" in report.content.verdict.reasons[-1]


class Tanh(nn.Module):
    """Outputs behind a bound; ``mixed`` ones each depend on all that the last layer gives."""

    def __init__(self, *, mixed):
        super().__init__()
        self.inner, self.mixed = AnalyticModel(planted=True), mixed

    def forward(self, images):
        outputs = 3 * torch.tanh(self.inner(images) / 3)
        return outputs + 0.3 * outputs.flip(1) if self.mixed else outputs


def test_a_model_without_a_linear_head_is_scanned_without_angles(image_set):
    model = Tanh(mixed=True)
    images = labelled_by(model, image_set.images)
    report = drmguard.scan(model, images, "regression")
    assert report.decision == "backdoored"
    assert report.content.model.head is None
    assert "RAV" in report.content.warnings[0]
    assert all(part.rav is None for part in report.content.places)


def test_the_search_goes_in_front_of_a_bound(image_set):
    model = Tanh(mixed=False)
    images = labelled_by(model, image_set.images)
    report = drmguard.scan(model, images, "regression")
    inner = drmguard.scan(model.inner, images, "regression")
    assert report.decision == "backdoored"
    assert report.content.model.head == "inner.fc"
    assert "in front of it" in report.content.warnings[0]
    # The very search of the inner model, whose answer goes through the bound in the end.
    assert report.content.verdict.suspicions == inner.content.verdict.suspicions
    torch.testing.assert_close(report.target, 3 * torch.tanh(inner.target / 3))
    assert report.content.clean_error.value < 1e-5
    assert abs(report.pictures.before).max() < 3


class Constant(nn.Module):
    def forward(self, images):
        return torch.zeros(len(images), 2)


class Three(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


class Fussy(nn.Module):
    def forward(self, images):
        raise RuntimeError("expected 224×224")


@pytest.mark.parametrize(
    ("model", "count", "settings", "sentence"),
    [
        (Constant(), 64, {}, "same output for every clean image"),
        (Three(), 64, {}, "gives 3 outputs, but the task regression has 2"),
        (Fussy(), 64, {}, "fails on images of shape .*expected 224"),
        (AnalyticModel(planted=True), 20, {}, "too few images .* 20 given, at least 32 needed"),
        (AnalyticModel(planted=True), 40, {"recipe": "paper"}, "40 given, at least 50 needed"),
        (AnalyticModel(planted=True), 64, {"max_images": 8}, "at least 32 images"),
        (AnalyticModel(planted=True), 64, {"recipe": "slow"}, "fast or paper"),
        (AnalyticModel(planted=True), 64, {"constants": {"steps": 5}}, "not of auto"),
        (
            AnalyticModel(planted=True),
            64,
            {"method": "drmguard", "constants": {"lambda3": 1}},
            "no argument 'lambda3'; it takes generator, output_weight",
        ),
        (
            AnalyticModel(planted=True),
            64,
            {"method": "drmguard", "constants": {"generator": "gan"}},
            "generator cannot be 'gan'",
        ),
        (
            AnalyticModel(planted=True),
            64,
            {"method": "drmguard", "constants": {"angle_weight": -1.0}},
            "0 or more",
        ),
    ],
)
def test_what_cannot_be_scanned(clean_model, model, count, settings, sentence):
    images = labelled_by(clean_model, smooth_images(count))
    with pytest.raises(InputError, match=sentence):
        drmguard.scan(model, images, "regression", **settings)


def test_a_task_must_be_given_somewhere(planted_model, image_set):
    with pytest.raises(InputError, match="--task"):
        drmguard.scan(planted_model, image_set)


def test_a_classifier_is_scanned_by_its_probabilities(image_set):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = AnalyticModel(planted=True, target=(3.0, 0.0))

        def forward(self, images):
            return self.inner(images)

    model = Classifier()
    with torch.no_grad():
        logits = model(torch.from_numpy(image_set.images).float() / 255)
    images = ImageSet(
        image_set.images, logits.argmax(1, keepdim=True).float().numpy(), classes=("a", "b")
    )
    report = drmguard.scan(model, images, "classification")
    assert report.content.clean_error.value == 0
    assert json.loads(report.json())["task"]["classes"] == ["a", "b"]
    assert report.decision == "backdoored"
    assert report.content.target.values[0] > 0.8
