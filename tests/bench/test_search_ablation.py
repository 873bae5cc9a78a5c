"""What each search of the default is worth, from stored scans."""

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.search_ablation import search_ablation
from drmguard.bench.store import Result
from drmguard.shipped_null import clean_models

DATA = Data(name="gaze", source="rendered:gaze", task="gaze", target=(0.3, 0.3))


def scan(seed, attack, scores):
    cell = Cell(work="scan", model=Model(data=DATA, seed=seed, attack=attack), method="auto")
    parts = {"suspicions": {"places": scores.pop("places")}, "spread": scores, "target": [0, 0]}
    return Result(cell=cell, status="done", measured=parts, seconds=1.0)


def usual_scores(outputs=2, **found):
    usual = clean_models(outputs).usual()
    return {search: usual.middle(search) for search in usual.means} | found


def test_a_patch_that_one_search_finds_is_missed_without_it():
    scans = [scan(seed, None, usual_scores()) for seed in range(10)]
    scans += [scan(seed, "badnets", usual_scores(patch=0.01)) for seed in range(2)]
    table = search_ablation(scans)[3:-1]
    rows = dict(line.strip("| ").split(" | ") for line in table)
    assert rows["all"] == rows["small patches alone"] == "2 of 2, 0 of 10, 1.000"
    assert rows["without small patches"] == rows["windows alone"] == "0 of 2, 0 of 10, 0.500"
    assert len(rows) == 17


def test_few_clean_models_make_no_table():
    assert search_ablation([scan(seed, None, usual_scores()) for seed in range(9)]) == []


def test_searches_that_most_scans_lack_are_left_out_and_scans_that_lack_others():
    older = usual_scores()
    del older["settled"]
    scans = [scan(seed, None, dict(older)) for seed in range(10)]
    scans += [scan(11, None, usual_scores()), scan(12, None, {"places": 0.01})]
    scans += [scan(13, "badnets", dict(older))]
    table = search_ablation(scans)[3:-1]
    rows = dict(line.strip("| ").split(" | ") for line in table)
    assert not any("settled" in row for row in rows)
    assert rows["windows alone"] == "0 of 1, 0 of 11, 0.500"


def test_models_of_one_output_are_complete_without_sparse_changes():
    scores = usual_scores(outputs=1)
    scans = [scan(seed, "badnets" if seed == 10 else None, dict(scores)) for seed in range(11)]
    for one in scans:
        one.measured["target"] = [0.0]
    table = search_ablation(scans)[3:-1]
    rows = dict(line.strip("| ").split(" | ") for line in table)
    assert rows["all"] == "0 of 1, 0 of 10, 0.500"
    assert rows["sparse changes alone"] == "–"
