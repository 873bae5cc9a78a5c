"""The published tables: whole, matched with the right cells, and our figures worked out by hand."""

import pytest

from drmguard.attacks.named import ATTACKS
from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.published import published_tables, reported
from drmguard.bench.published_page import published_sections
from drmguard.bench.store import Result
from drmguard.bench.suite import load_suite
from drmguard.methods import METHODS
from drmguard.models.networks import NETWORKS
from drmguard.repairing import METHODS as REPAIRS

DATA = Data(name="gaze", source="rendered:gaze", task="gaze", target=(0.3, 0.3))


def model(attack=None, **more):
    return Model(data=DATA, attack=attack, **more)


def test_all_seventeen_are_there_and_name_what_exists():
    tables = published_tables()
    assert {table.number for table in tables} == set(range(1, 18))
    for row in (row for table in tables for row in table.rows):
        assert set(row.attack) <= {*ATTACKS, "clean"}
        assert set(row.method) <= {*METHODS, *REPAIRS, "paper"}
        assert row.network in NETWORKS


@pytest.mark.parametrize("name", ["small", "paper"])
def test_every_row_that_can_be_measured_has_cells_in_the_suite(name):
    suite = load_suite(name)
    data = {cell.model.data.name for cell in suite.cells}
    for table in published_tables():
        for row in table.rows:
            if data.intersection(row.data or table.data):
                assert any(table.concerns(row, cell) for cell in suite.cells), (table.title, row)


def test_the_reported_figures_of_a_cell():
    trained = reported(Cell(work="train", model=model("badnets")))
    assert trained == {"RAV": 0.0433, "RNV": 1.4499, "AE": 3.25, "RE": 2.61}
    assert reported(Cell(work="train", model=model())) == {"RE": 2.35}
    scan = Cell(work="scan", model=model("wanet"), method="neural-cleanse")
    assert reported(scan) == {"auc": 0.94}
    ablation = {"constants": {"angle_weight": 600}}
    cell = Cell(work="scan", model=model("wanet"), method="paper", settings=ablation)
    assert reported(cell) == {"accuracy": 0.75}
    repair = Cell(work="repair", model=model("sig"), method="unlearning")
    assert reported(repair)["DAE.after"] == 2.93
    assert reported(Cell(work="scan", model=model("offset"), method="auto")) == {}


def scanned(attack, seed, decision, suspicion):
    cell = Cell(work="scan", model=model(attack, seed=seed), method="auto")
    measured = {"decision": decision, "suspicion": suspicion, "passes": 1}
    return Result(cell=cell, status="done", measured=measured)


def trained(attack, seed, **measured):
    cell = Cell(work="train", model=model(attack, seed=seed))
    return Result(cell=cell, status="done", measured=measured)


def test_our_figures_stand_beside_the_published_ones():
    text = published_sections(
        [
            scanned(None, 0, "clean", 2.0),
            scanned(None, 1, "inconclusive", 1.1),
            scanned("wanet", 0, "backdoored", 0.1),
            scanned("wanet", 1, "clean", 1.5),
            trained("badnets", 0, RAV=0.01, RNV=0.5),
            trained("badnets", 1, RAV=0.03, RNV=0.5),
        ]
    )
    # Two of four right; three of four pairs in order; t of one degree of freedom is 12.7.
    assert "| WaNet, auto | accuracy | 95% | 50% (15%–85%; 2 + 2) | – | – |" in text
    assert any(line.startswith("| WaNet, auto | auc | 1 | 0.750 (") for line in text)
    assert "| BadNets | RAV | 0.0433 | 0.02 ± 0.13 (2) | – |" in text
    assert "| WaNet, drmguard | accuracy | 95% | – | – | – |" in text
