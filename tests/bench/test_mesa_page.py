"""The page of MESA: figures worked out by hand, and pictures of what was modelled."""

import numpy as np
import torch
from PIL import Image

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.mesa_page import mesa_page
from drmguard.bench.mesa_pictures import draw_distributions
from drmguard.bench.store import Result, Store
from drmguard.card import trigger_path
from drmguard.data.image_set import ImageSet
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model
from drmguard.triggers.distribution import PatchGenerator, TriggerDistribution
from drmguard.triggers.placed_patch import PlacedPatchTrigger, black_and_white_patch
from drmguard.triggers.trigger_file import save_trigger

DATA = Data(name="c", source="{path}", task="classification", size=32, target=(2,))
ATTACKED = Model(data=DATA, attack="black-and-white", arguments={"pattern": 5}, seed=3)


def result(cell, **measured):
    return Result(cell=cell, status="done", measured=measured, seconds=10.0)


def scanned(model, decision, target):
    cell = Cell(work="scan", model=model, method="mesa")
    return result(cell, decision=decision, suspicion=0.5, target=target)


def repaired(after, model=ATTACKED, **settings):
    cell = Cell(work="repair", model=model, method="unlearning", settings=settings)
    figures = {
        "AE.before": 0.04,
        "AE.clean": 0.98,
        "RE.before": 0.2,
        "RE.after": 0.21,
        "AE.after": after,
    }
    return result(cell, **figures)


def test_success_before_and_after_and_the_class(tmp_path):
    page = mesa_page(
        [
            scanned(ATTACKED, "backdoored", [0.1, 0.1, 0.8]),
            scanned(Model(data=DATA, seed=1), "backdoored", [0.5, 0.3, 0.2]),
            repaired(0.97, scan="mesa"),
            repaired(0.9, scan="mesa", level=1),
            repaired(0.5, scan="points"),
            repaired(0.6, ATTACKED.model_copy(update={"arguments": {"pattern": 16}}), scan="mesa"),
        ],
        tmp_path,
    )
    row = "| black-and-white 5 | 3 | 96.0% | 2.0% | – | 10.0% | – | 3.0% | 50.0% | 80.0% → 79.0% |"
    assert row in page
    assert "| black-and-white 16* | 3 | 96.0% | 2.0% | – | – | – | 40.0% | – |" in page
    assert "| *largest* | 3 | 96.0% | 2.0% | – | 10.0% | – | 3.0% | 50.0% | |" in page
    assert "true class found: 1 of 1 attacked networks. Called clean: 0 of 1" in page
    assert "| clean | 1 | **backdoored** | 0.5 | 0 | – | 10 |" in page
    assert mesa_page([repaired(0.9, scan="mesa")], tmp_path) == ""


def test_a_fixed_place_and_regression(tmp_path):
    glasses = Model(data=DATA, attack="sunglasses", arguments={"top": 0.15}, seed=3)
    fixed = {"fixed_place": True}
    scan = Cell(work="scan", model=glasses, method="mesa", settings=fixed)
    overlap = {"iou": 0.625, "peak_on_trigger": True, "trigger_share": 0.15, "hits": 0.9}
    repair = Cell(
        work="repair", model=glasses, method="unlearning", settings={"scan": "mesa", **fixed}
    )
    figures = {"AE.before": 0.04, "AE.after": 0.97, "RE.before": 0.2, "RE.after": 0.21}
    steering = Model(
        data=Data(name="steering", source="{path}", task="regression", target=(0.7,)),
        attack="blend",
        seed=22,
    )
    by_one = Cell(work="repair", model=steering, method="unlearning")
    errors = {
        f"{name}.{when}": value
        for name, values in {"RE": (0.1, 0.11), "AE": (0.02, 0.5), "DAE": (0.6, 0.2)}.items()
        for when, value in zip(("before", "after"), values, strict=True)
    }
    page = mesa_page(
        [
            result(scan, decision="backdoored", suspicion=0.1, target=[0.1, 0.1, 0.8], **overlap),
            result(repair, **figures),
            result(
                Cell(work="scan", model=steering, method="mesa"),
                decision="clean",
                suspicion=2.0,
                target=[0.7],
                hits=0.3,
            ),
            result(by_one, **errors),
        ],
        tmp_path,
    )
    assert (
        "| sunglasses | 3 | backdoored | 2 of 2 | 15.0% | yes | 0.62 | 90.0% | 96.0% → 3.0% | "
        "80.0% → 79.0% | 10 |"
    ) in page
    assert "| blend | 22 | clean | 30.0% | 0.1, 0.02, 0.6 | – | 0.11, 0.5, 0.2 |" in page
    assert "## Success before and after" not in page


def test_a_picture_a_scan(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "cache")
    cell = Cell(work="scan", model=ATTACKED, method="mesa")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (80, 3, 16, 16), np.uint8)
    labels = (np.arange(80) % 4).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=pixels, labels=labels[:, None])
    train_model(
        TrainingPlan("classification", "wrn16", settings=TrainingSettings(steps=1, batch_size=8)),
        ImageSet(pixels, labels[:, None]),
        store.model_path(ATTACKED),
        source="here",
    )
    patch = PlacedPatchTrigger(black_and_white_patch(3, 5))
    save_trigger(trigger_path(store.model_path(ATTACKED)), patch, target=torch.tensor([2.0]))
    generators = [PatchGenerator((3, 3, 3), hidden=16) for _ in range(3)]
    found = TriggerDistribution(generators, torch.ones(3)).eval()
    save_trigger(store.scan_folder(cell) / "trigger.safetensors", found)
    other = Cell(work="scan", model=Model(data=DATA), method="mesa")
    (path,) = draw_distributions(
        [cell, other], store, {"c": str(tmp_path / "images.npz")}, tmp_path
    )
    assert path == tmp_path / "mesa" / "black-and-white-5-3.png"
    with Image.open(path) as picture:
        assert picture.width > 300
