"""The runner: each cell once, whatever dies, and several runners on one store."""

import dataclasses
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import stand_in

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.engines import LocalEngine, RayEngine
from drmguard.bench.runner import run_cells, standing
from drmguard.bench.store import Result, Store
from drmguard.bench.work import Place, work_on
from drmguard.checkpoint import Checkpoint

DATA = Data(name="a", source="rendered:gaze", task="gaze", target=(0.3, 0.3))
HERE = Data(name="here", source="{path}", task="gaze", target=(0.3, 0.3))


def cells_of(models=2, scans=3):
    trained = [Cell(work="train", model=Model(data=DATA, seed=s)) for s in range(models)]
    return trained + [
        Cell(work="scan", model=cell.model, method="auto", seed=s)
        for cell in trained
        for s in range(scans)
    ]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "cache").mkdir()
    return Place(results=str(tmp_path / "results"), cache=str(tmp_path / "cache"), locations={})


@pytest.fixture
def engine():
    engine = LocalEngine(2)
    yield engine
    engine.close()


def starts(place):
    return Counter((Path(place.cache) / "log").read_text().split())


def test_every_cell_once_and_nothing_twice(place, engine):
    cells = cells_of()
    end = run_cells(cells, place, engine, work=stand_in.quick)
    assert len(end.done) == len(cells)
    again = run_cells(cells, place, engine, work=stand_in.quick)
    assert again.left == 0
    assert set(starts(place).values()) == {1}


def test_two_runners_share_one_store(place):
    cells = cells_of(models=3, scans=4)
    ends = []

    def one():
        engine = LocalEngine(2)
        ends.append(run_cells(cells, place, engine, work=stand_in.quick))
        engine.close()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(end.done) for end in ends] == [len(cells)] * 2
    assert set(starts(place).values()) == {1}
    assert len(place.store().all()) == len(cells)


def test_what_needs_a_failed_cell_is_left_out_and_tried_again_on_request(place, engine):
    cells = cells_of()
    end = run_cells(cells, place, engine, work=stand_in.failing)
    assert (len(end.done), len(end.failed), len(end.skipped)) == (4, 1, 3)
    end = run_cells(cells, place, engine, work=stand_in.quick)
    assert len(end.failed) == 1
    end = run_cells(cells, place, engine, retry_failed=True, work=stand_in.quick)
    assert len(end.done) == len(cells)


def test_data_that_are_not_here_are_left_out(place, engine):
    cells = [*cells_of(1, 1), Cell(work="train", model=Model(data=HERE))]
    end = run_cells(cells, place, engine, work=stand_in.quick)
    assert (len(end.done), len(end.skipped)) == (2, 1)


def test_a_killed_worker_costs_no_cell(place, engine):
    cells = cells_of()
    end = run_cells(cells, place, engine, work=stand_in.killed_once)
    assert (Path(place.cache) / "killed").exists()
    assert len(end.done) == len(cells)


def test_a_cell_that_kills_every_worker_is_recorded(place):
    engine = LocalEngine(1)
    cells = cells_of(models=1)
    end = run_cells(cells, place, engine, work=stand_in.always_killed)
    engine.close()
    assert len(end.failed) == 1
    (failed,) = [r for r in place.store().all() if r.status == "failed"]
    assert "worker died 3 times" in failed.reason


def test_a_killed_runner_loses_at_most_the_running_cells(place, tmp_path):
    cells = cells_of(models=2, scans=10)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(stand_in.__file__).parent)!r})\n"
        "from test_runner import *\n"
        "if __name__ == '__main__':\n"
        f"    run_cells(cells_of(2, 10), {place!r}, LocalEngine(2), work=stand_in.quick)\n"
    )
    runner = subprocess.Popen([sys.executable, str(script)])
    log = Path(place.cache) / "log"
    while not log.exists() or log.read_text().count("\n") < 6:
        assert runner.poll() is None
    runner.kill()
    runner.wait()
    before = len(place.store().all())  # every file whole
    assert 0 < before < len(cells)
    engine = LocalEngine(2)
    end = run_cells(cells, place, engine, work=stand_in.quick)
    engine.close()
    assert len(end.done) == len(cells)
    assert sum(starts(place).values()) <= len(cells) + 2


def test_standing_before_anything_ran(place):
    assert standing(cells_of(), place.store()).left == 8


def test_what_a_fresh_cache_lacks_is_made_again_where_it_is_needed(place):
    store, cells = place.store(), cells_of(models=2, scans=1)
    trained, (scanned, waiting) = cells[:2], cells[2:]
    for cell in (*trained, scanned):
        store.write(Result(cell=cell, status="done"))
    assert scanned.key in standing(cells, store).done
    assert standing(cells, store).done == {trained[0].key, scanned.key}
    store.model_path(waiting.model).parent.mkdir(parents=True)
    store.model_path(waiting.model).touch()
    assert standing(cells, store).done == {cell.key for cell in (*trained, scanned)}


def test_a_result_stays_when_it_cannot_be_made_again(place, tmp_path, capsys):
    place = dataclasses.replace(place, locations={"here": str(tmp_path / "gone.npz")})
    cell, store = Cell(work="train", model=Model(data=HERE)), place.store()
    store.write(Result(cell=cell, status="done", measured={"RE": 3.0}))
    assert work_on(cell, place) == "failed"
    assert store.load(cell).measured == {"RE": 3.0}
    assert "could not be made again" in capsys.readouterr().err
    other = Cell(work="train", model=Model(data=HERE, seed=1))
    assert work_on(other, place) == "failed"
    assert "gone.npz" in store.load(other).reason


def test_a_repair_has_its_scan_made_again_and_the_model_of_that(place):
    store, cells = place.store(), cells_of(models=1, scans=1)
    repair = Cell(work="repair", model=cells[0].model, method="unlearning")
    for cell in cells:
        store.write(Result(cell=cell, status="done"))
    assert standing([*cells, repair], store).done == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ray_cluster_survives_a_killed_worker(place, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(stand_in.__file__).parent))  # for Ray's workers
    cells = cells_of(models=2, scans=4)
    engine = RayEngine(workers=3)
    try:
        assert engine.slots == 3
        end = run_cells(cells, place, engine, work=stand_in.killed_once)
    finally:
        engine.close()
    assert (Path(place.cache) / "killed").exists()
    assert len(end.done) == len(cells)
    assert len(place.store().all()) == len(cells)


def test_a_training_whose_checkpoint_belongs_to_other_work_starts_anew(place):
    data = Data(name="faces", source="rendered:gaze", task="gaze", target=(0.3, 0.3), count=80)
    model = Model(data=data, seed=0, training={"steps": 2, "batch_size": 4})
    path = Store(Path(place.results), Path(place.cache)).model_path(model)
    path.parent.mkdir()
    Checkpoint(path.with_suffix(".unfinished"), {"poison": "another"}).save({"step": 1})
    assert work_on(Cell(work="train", model=model), place) == "done"
    assert path.exists()
    assert not path.with_suffix(".unfinished").exists()
