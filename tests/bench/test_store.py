"""Results: read back, exported, queried, and refused when they are something else."""

import csv

import pytest

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.store import Result, Store, export, query
from drmguard.errors import InputError

DATA = Data(name="a", source="rendered:gaze", task="gaze")


def result(seed, **measured):
    cell = Cell(work="train", model=Model(data=DATA, seed=seed))
    return Result(cell=cell, status="done", measured={"RE": 2.5 + seed, **measured}, seconds=1.5)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "cache")
    for seed in range(3):
        store.write(result(seed, target=[1.0, 2.0]))
    return store


def test_results_are_read_back_as_they_were(store):
    assert store.all()[0] in [result(seed, target=[1.0, 2.0]) for seed in range(3)]
    assert store.load(result(1).cell) == result(1, target=[1.0, 2.0])
    assert store.load(result(7).cell) is None


def test_a_cell_is_held_by_one_alone(store):
    cell = result(0).cell
    with store.claim(cell) as first, Store(store.results, store.cache).claim(cell) as second:
        assert first
        assert not second
    with store.claim(cell) as again:
        assert again


def test_a_scan_that_was_stopped_is_not_held(store):
    cell = Cell(work="scan", model=Model(data=DATA, seed=0), method="auto")
    (store.scan_folder(cell) / "unfinished").mkdir(parents=True)
    assert not store.holds(cell)
    (store.scan_folder(cell) / "report.json").touch()
    assert store.holds(cell)


def test_csv_and_parquet_hold_the_same(store, tmp_path):
    pytest.importorskip("duckdb")
    export(store.all(), tmp_path / "all.csv")
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(float(row["RE"]) for row in rows) == [2.5, 3.5, 4.5]
    export(store.all(), tmp_path / "all.parquet")
    import duckdb

    path = str(tmp_path / "all.parquet")
    found = duckdb.sql(f"SELECT RE FROM '{path}' ORDER BY RE").fetchall()
    assert found == [(2.5,), (3.5,), (4.5,)]
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == ["all.csv"]


def test_queries(store):
    pytest.importorskip("duckdb")
    names, rows = query(store.all(), "SELECT data, max(RE) AS worst FROM results GROUP BY data")
    assert (names, rows) == (["data", "worst"], [("a", 4.5)])
    with pytest.raises(InputError, match="the query failed"):
        query(store.all(), "SELECT nothing FROM results")


def test_what_cannot_be_exported(store, tmp_path):
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        export(store.all(), tmp_path / "all.xlsx")
    with pytest.raises(InputError, match="no results"):
        export([], tmp_path / "all.csv")


def test_a_file_that_is_no_result(store):
    (store.results / "x.json").write_text("{}")
    with pytest.raises(InputError, match="not a result"):
        store.all()
