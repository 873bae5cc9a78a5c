"""Suites: what their files declare, and what is wrong with a bad one."""

from functools import partial

import pytest

from drmguard.arguments import checked_arguments
from drmguard.attacks.named import ATTACKS
from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.suite import load_suite, suite_names
from drmguard.cli import app
from drmguard.errors import InputError
from drmguard.models.networks import NETWORKS

SUITE = """
about = "two models"
[data.gaze]
source = "rendered:gaze"
task = "gaze"
target = [0.3, -0.35]
shift = [0.1, 0.1]
[attack.clean-label]
poisoning_rate = 0.2
steps = { gaze = 50 }
[[models]]
data = ["gaze"]
attack = ["clean-label", "offset"]
seed = [4]
[[cells]]
work = "repair"
method = ["anp"]
attack = ["offset"]
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(SUITE)
    return path


def test_cells_come_after_those_they_need(suite):
    cells = load_suite(str(suite)).cells
    assert [(c.work, c.model.attack) for c in cells] == [
        ("train", None),  # Clean Label's surrogate, which the file does not name
        ("train", "clean-label"),
        ("train", "offset"),
        ("scan", "offset"),  # what the repair unlearns
        ("repair", "offset"),
    ]
    seen = set()
    for cell in cells:
        assert {needed.key for needed in cell.needs()} <= seen
        seen.add(cell.key)
    label, offset = cells[1].model, cells[2].model
    assert label.plan().settings.steps == 50
    assert label.plan().poisoning_rate == 0.2
    assert offset.plan().target == (0.1, 0.1)


def test_a_fine_tuned_model_needs_its_clean_one_and_other_keys_stay(tmp_path):
    path = tmp_path / "tuned.toml"
    path.write_text(SUITE.replace("seed = [4]", "seed = [4]\npretraining = { steps = 9 }"))
    cells = load_suite(str(path)).cells
    clean, label, *_ = (cell.model for cell in cells)
    assert (clean.attack, clean.training, clean.pretraining) == (None, {"steps": 9}, None)
    assert label.clean == clean
    data = Data(name="a", source="rendered:gaze", task="gaze")
    scratch = Model(data=data, attack="badnets")
    assert "pretraining" not in scratch.model_dump_json()
    assert scratch.key != scratch.model_copy(update={"pretraining": {}}).key


@pytest.mark.parametrize("work", ["repair", "rescan"])
def test_a_repair_needs_the_scan_whose_trigger_it_unlearns(work):
    model = Model(data=Data(name="a", source="rendered:gaze", task="gaze"))
    settings = {"scan": "mesa", "level": 1, "share": 0.05}
    cell = Cell(work=work, model=model, method="unlearning", settings=settings)
    _, scan = cell.needs()
    assert (scan.method, scan.settings) == ("mesa", {"share": 0.05})


def test_keys_change_with_what_decides_the_result_and_with_nothing_else():
    data = Data(name="a", source="rendered:gaze", task="gaze", target=(0.3, 0.3))
    cell = Cell(work="train", model=Model(data=data, seed=1))
    assert cell.key == Cell.model_validate_json(cell.model_dump_json()).key
    described = data.model_copy(update={"summary": "faces"})
    assert Cell(work="train", model=Model(data=described, seed=1)).key == cell.key
    assert Cell(work="train", model=Model(data=data, seed=2)).key != cell.key
    assert Cell(work="scan", model=Model(data=data, seed=1)).key != cell.key


@pytest.mark.parametrize("name", suite_names())
def test_the_suites_that_come_along(name):
    suite = load_suite(name)
    assert len({cell.key for cell in suite.cells}) == len(suite.cells)
    assert len({cell.name for cell in suite.cells}) == len(suite.cells)
    for model in suite.models:
        assert model.network in NETWORKS
        plan = model.plan()
        assert (plan.attack is None) == (plan.target is None)
        assert plan.attack is None or plan.target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("about", "abuot"), "own.toml: about"),
        (('data = ["gaze"]', 'data = ["age"]'), "data 'age', not declared"),
        (('work = "repair"', 'work = "magic"'), "cells.0.work"),
        (("[[models]]", "[[models"), "is not TOML"),
        (('task = "gaze"', 'tusk = "gaze"'), "own.toml"),
    ],
)
def test_a_bad_suite_is_refused_in_a_sentence(suite, change, message):
    suite.write_text(SUITE.replace(*change))
    with pytest.raises(InputError, match=message):
        load_suite(str(suite))


def test_a_variant_chooses_among_the_datas_targets(suite):
    variant = "seed = [4]\nvariants = [{ target = 0 }]"
    suite.write_text(SUITE.replace("seed = [4]", variant))
    with pytest.raises(InputError, match="target 0 of gaze, which has 0"):
        load_suite(str(suite))


def test_unknown_suites():
    with pytest.raises(
        InputError, match="choose one of development, hard, mesa, paper, small, smoke, zoo"
    ):
        load_suite("large")
    with pytest.raises(InputError, match="does not exist"):
        load_suite("none.toml")


def test_data_that_must_be_located():
    data = Data(name="road", source="npz:{path}", task="regression")
    with pytest.raises(InputError, match="give --data road=PATH"):
        data.located({})
    assert data.located({"road": "/x"}) == "npz:/x"


def test_an_attack_can_have_a_pretraining_of_its_own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(SUITE.replace("poisoning_rate = 0.2", "pretraining = { steps = 7 }"))
    models = {cell.model.attack: cell.model for cell in load_suite(str(path)).cells}
    assert models["clean-label"].pretraining == {"steps": 7}
    assert models[None].training == {"steps": 7}
    assert models["offset"].pretraining is None


@pytest.mark.parametrize("attack", ["multi-target-wanet", "input-aware", "clean-label", "clean"])
def test_a_models_command_trains_that_model(attack, monkeypatch, tmp_path):
    model = next(m for m in load_suite("small").models if (m.attack or "clean") == attack)
    given = {}

    def trained(plan, images, output, **how):
        given.update(plan=plan, **how)
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drmguard.training_plan.train_model", trained)
    monkeypatch.setattr("drmguard.cli._open", lambda *_, **how: given.update(how))
    app([*model.command().split()[1:], "--quiet"], standalone_mode=False)
    plan = model.plan()
    assert given["plan"].settings == plan.settings
    if plan.attack:
        arguments = checked_arguments(
            attack, partial(ATTACKS[attack], None), given["plan"].attack_arguments
        )
        assert arguments == plan.attack_arguments
    for name in ("task", "attack", "poisoning_rate", "width"):
        assert getattr(given["plan"], name) == getattr(plan, name)
    assert tuple(given["plan"].target or ()) == tuple(plan.target or ())
    assert (given["start"] is None) == (model.pretraining is None)
    assert (given["count"], given["size"]) == (model.data.count, model.data.size)


def test_a_block_of_models_overrides_the_attacks_own_settings(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(SUITE.replace("seed = [4]", "seed = [4]\npoisoning_rate = 0.3"))
    rates = {cell.model.attack: cell.model.poisoning_rate for cell in load_suite(str(path)).cells}
    assert rates == {None: None, "clean-label": 0.3, "offset": 0.3}


def test_variants_and_lists_of_settings_are_tried_in_turn(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        """
about = "patterns"
[data.digits]
source = "digits.npz"
task = "classification"
target = [1]
targets = [[3], [4]]
[attack.black-and-white]
training = { steps = 7, batch_size = 8 }
[[models]]
data = ["digits"]
attack = ["black-and-white"]
arguments = { share = 3 }
pretraining = {}
variants = [
    { arguments = { pattern = 1 } },
    { arguments = { pattern = 2 }, seed = 8, target = 1, poisoning_rate = 0.3 },
]
training = { steps = 9 }
[[cells]]
work = "scan"
method = ["drmguard"]
settings = [{ share = 0.5 }, { share = 0.1 }]
"""
    )
    suite = load_suite(str(path))
    attacked = [model for model in suite.models if model.attack]
    arguments = [{"share": 3, "pattern": 1}, {"share": 3, "pattern": 2}]
    assert [model.arguments for model in attacked] == arguments
    assert all(model.training == {"steps": 9, "batch_size": 8} for model in attacked)
    assert [(model.seed, model.poisoning_rate) for model in attacked] == [(0, None), (8, 0.3)]
    assert [model.plan().target for model in attacked] == [(1,), (4,)]
    # Targets are the attacker's: a clean model is the same whatever they are.
    assert [clean.seed for clean in suite.models if not clean.attack] == [0, 8]
    assert all(not clean.plan().target for clean in suite.models if not clean.attack)
    scans = [(c.model.arguments["pattern"], c.settings) for c in suite.cells if c.work == "scan"]
    assert scans == [(n, {"share": s}) for n in (1, 2) for s in (0.5, 0.1)]
