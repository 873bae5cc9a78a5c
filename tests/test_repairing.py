"""The repair job: its records, refusals and files."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import drmguard
from conftest import AnalyticModel, smooth_images
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.load import load_model
from drmguard.models.networks import build_network
from drmguard.models.safetensors_file import NetworkDescription, describe, save_model
from drmguard.models.victim import InputFormat, Victim
from drmguard.repair.adversarial_pruning import AdversarialPruningSettings
from drmguard.repair.fine_pruning import FinePruningSettings
from drmguard.repair.fine_tuning import RepairSettings
from drmguard.repairing import repair_model
from drmguard.report.report import found_triggers
from drmguard.report.wording import repair_rows
from drmguard.tasks import Regression
from drmguard.triggers.patch import patch_trigger
from drmguard.triggers.trigger_file import save_trigger

SETTINGS = RepairSettings(steps=4, checks=2, batch_size=16, learning_rate=1e-5)


@pytest.fixture
def work(tmp_path):
    """A model file, images labelled nearly with its own outputs, and a scan's folder."""
    torch.manual_seed(0)
    arguments = {"num_outputs": 2, "width": 0.0625}
    module = build_network("resnet18", arguments).eval()
    description = describe(
        NetworkDescription(name="resnet18", arguments=arguments),
        InputFormat(mean=(0.5,), std=(0.25,)),
        Regression(("a", "b")).settings(),
    )
    path = tmp_path / "model.safetensors"
    save_model(path, module, description)
    pixels = smooth_images(60)
    with torch.no_grad():
        outputs = Victim(module, InputFormat(mean=(0.5,), std=(0.25,)))(
            torch.from_numpy(pixels).float() / 255
        ).numpy()
    noise = np.random.default_rng(0).normal(0, outputs.std(0), outputs.shape)
    images = ImageSet(pixels, (outputs + noise).astype(np.float32), label_names=("a", "b"))
    loaded = load_model(path)
    scan = tmp_path / "scan"
    scan.mkdir()
    report = {
        "verdict": {"decision": "backdoored"},
        "model": {"sha256": loaded.digest},
        "calibration": {"p_value": 0.004},
    }
    (scan / "report.json").write_text(json.dumps(report))
    save_trigger(scan / "trigger.safetensors", patch_trigger((3, 32, 32), side=5))
    return loaded, images, scan, tmp_path


def repaired(work, **settings):
    loaded, images, scan, _ = work
    settings = {"scan_folder": scan, "scan_again": False, "settings": SETTINGS, **settings}
    return repair_model(loaded, images, **settings)


def test_the_record_and_a_file_that_loads_like_the_original(work):
    loaded, _, _, folder = work
    done = repaired(work)
    path = done.save(folder / "repaired.safetensors", max_loss=10)
    again = load_model(path)
    assert again.network == loaded.network
    assert again.task == loaded.task
    assert again.victim.input_format == loaded.victim.input_format
    assert again.digest == done.model.digest
    sample = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.victim(sample), done.model.victim(sample))
    record = json.loads((folder / "repaired.repair.json").read_text())
    assert record["verdict"] == {
        "before": "backdoored",
        "after": None,
        "p_value": {"before": 0.004, "after": None},
    }
    assert ("verdict", "backdoored, p = 0.004", "–") in repair_rows(done.record)
    assert record["clean_error"]["before"] == done.record.clean_error.before
    assert record["error_under_reversed_trigger"]["after"] is not None
    assert record["moved_by_reversed_trigger"]["before"] > 0
    page = (folder / "repaired.repair.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("<img") == 18
    assert "<script" not in page


def test_too_large_a_loss_writes_nothing(work):
    folder = work[3]
    done = repaired(work)
    with pytest.raises(InputError, match="more than --max-loss"):
        done.save(folder / "repaired.safetensors", max_loss=done.record.clean_loss - 0.01)
    assert not (folder / "repaired.safetensors").exists()
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        done.save(folder / "repaired.pt")


def test_a_report_of_another_model_or_none(work):
    loaded, images, scan, folder = work
    with pytest.raises(InputError, match="no readable report"):
        repair_model(loaded, images, scan_folder=folder)
    report = {"verdict": {"decision": "clean"}, "model": {"sha256": "0"}}
    (scan / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="of another model"):
        repaired(work)
    with pytest.raises(InputError, match="the method must be"):
        repair_model(loaded, images, method="magic")


def test_a_module_from_python_with_the_report_of_its_scan(planted_model, image_set, tmp_path):
    report = drmguard.scan(planted_model, image_set, "regression")
    done = repair_model(
        planted_model,
        image_set,
        "regression",
        report=report,
        scan_again=False,
        settings=SETTINGS,
    )
    assert done.record.verdict.before == report.decision
    assert done.record.verdict.p_value.before == report.content.calibration.p_value
    assert done.record.error_under_reversed_trigger.before is not None
    path = done.save(tmp_path / "repaired.safetensors", max_loss=10)
    twin = AnalyticModel(planted=True)
    twin.load_state_dict(load_file(path))
    sample = torch.rand(2, *image_set.image_shape)
    with torch.no_grad():
        assert torch.equal(twin(sample), done.model.victim(sample))
    with pytest.raises(InputError, match="the report is of another model"):
        repair_model(
            AnalyticModel(planted=True, target=(1.0, 1.0)), image_set, "regression", report=report
        )


def test_fine_tuning_needs_no_scan_and_gives_another_model(work):
    done = repaired(work, method="fine-tuning", scan_folder=None)
    assert done.model.digest != work[0].digest
    assert done.record.verdict.before is None
    assert done.record.error_under_reversed_trigger.before is None
    assert done.pictures is None


@pytest.mark.parametrize("method", ["fine-pruning", "anp"])
def test_pruning_measures_the_trigger_that_it_does_not_use(work, method):
    settings = {
        "fine-pruning": FinePruningSettings(step=0.2, tuning=SETTINGS),
        "anp": AdversarialPruningSettings(steps=3, batch_size=16),
    }[method]
    done = repaired(work, method=method, settings=settings)
    assert "pruned" in done.record.kept
    assert done.record.error_under_reversed_trigger.before is not None
    assert done.pictures is not None


def test_both_suspicious_triggers_of_a_scan_are_unlearned(work, planted_model, image_set, tmp_path):
    _, _, scan, _ = work
    one = repaired(work).record.error_under_reversed_trigger
    save_trigger(scan / "trigger-2.safetensors", patch_trigger((3, 32, 32), side=10))
    both = repaired(work).record.error_under_reversed_trigger
    assert both.before != one.before
    assert both.after != one.after
    report = drmguard.scan(planted_model, image_set, "regression")
    second = patch_trigger((3, 32, 32), side=3)
    folder = dataclasses.replace(report, second_trigger=second).save(tmp_path / "report")
    assert [found.mask.sum() for found in found_triggers(folder)[1:]] == [9]
    dataclasses.replace(report, second_trigger=None).save(folder)
    assert len(found_triggers(folder)) == 1
