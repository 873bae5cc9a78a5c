"""What each search of the default is worth, from stored scans."""

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.search_ablation import search_ablation
from drmguard.bench.store import Result
from drmguard.shipped_null import clean_models

DATA = Data(name="gaze", source="rendered:gaze", task="gaze", target=(0.3, 0.3))


def scan(seed, attack, scores):
    cell = Cell(work="scan", model=Model(data=DATA, seed=seed, attack=attack), method="auto")
    parts = {"suspicions": {"places": scores.pop("places")}, "spread": scores}
    return Result(cell=cell, status="done", measured=parts, seconds=1.0)


def usual_scores(**found):
    usual = clean_models().usual()
    return {search: usual.middle(search) for search in usual.means} | found


def test_a_patch_that_one_search_finds_is_missed_without_it():
    scans = [scan(seed, None, usual_scores()) for seed in range(10)]
    scans += [scan(seed, "badnets", usual_scores(patch=0.01)) for seed in range(2)]
    table = search_ablation(scans)[3:-1]
    rows = dict(line.strip("| ").split(" | ") for line in table)
    assert rows["all"] == rows["small patches alone"] == "2 of 2, 0 of 10, 1.000"
    assert rows["without small patches"] == rows["windows alone"] == "0 of 2, 0 of 10, 0.500"
    assert len(rows) == 13


def test_few_clean_models_and_scans_without_all_searches_make_no_table():
    assert search_ablation([scan(seed, None, usual_scores()) for seed in range(9)]) == []
    lacking = [scan(seed, None, {"places": 1.0}) for seed in range(10)]
    assert search_ablation(lacking) == []
