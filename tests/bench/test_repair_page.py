"""The page of repairs: figures worked out by hand."""

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.repair_page import repair_page
from drmguard.bench.store import Result

DATA = Data(name="g", source="rendered:gaze", task="gaze", size=64, target=(0.3, -0.35))


def repaired(seed, attack="blend", *, clean=True, **changed):
    cell = Cell(
        work="repair", model=Model(data=DATA, attack=attack, seed=seed), method="unlearning"
    )
    figures = {
        "AE.before": 1.0,
        "DAE.before": 30.0,
        "RE.before": 3.0,
        "AE.after": 27.0,
        "DAE.after": 6.0,
        "RE.after": 3.3,
    }
    if clean:
        figures |= {"AE.clean": 30.0, "DAE.clean": 5.0, "RE.clean": 4.0}
    return Result(cell=cell, status="done", measured={**figures, **changed}, seconds=100.0)


def rows(page, attack):
    lines = [line.strip("| ").split(" | ") for line in page.splitlines()]
    return [line for line in lines if attack in line]


def test_means_of_ratios_and_every_repair():
    page = repair_page({"zoo": [repaired(22), repaired(23, **{"DAE.after": 10.0})]})
    asked, mean, *single = rows(page, "blend")
    assert asked == ["unlearning", "blend", "2 (1.6), 0.9, 1.1 (n 2)"]
    assert mean[3:] == (
        ["2", "1 → 27", "30 → 8", "3 → 3.3", "2", "1.6", "0.9", "1.1", "0.825", "100"]
    )
    assert [row[3] for row in single] == ["22", "23"]
    assert [row[9] for row in single] == ["1.5", "2.5"]


def test_what_is_not_known_is_a_dash_and_suites_stand_apart():
    old = repaired(20, "sig", clean=False)
    page = repair_page({"small": [old], "zoo": [repaired(22)], "mesa": []})
    mean, single = rows(page, "sig")
    assert mean[7:10] == ["–", "–", "–"]
    assert single[-2:] == ["1.1", "–"]
    assert page.index("suite `zoo`") < page.index("suite `small`")
    assert "suite `mesa`" not in page


def test_what_is_as_asked_for_has_a_tick():
    good = {"DAE.after": 4.0, "RE.after": 3.1}
    page = repair_page({"zoo": [repaired(seed, **good) for seed in (22, 23, 24)]})
    assert rows(page, "blend")[0][2] == "1 (0.8), 0.9, 1.03 ✓"
    for spoilt in ({"DAE.after": 6.1}, {"AE.after": 26.9}, {"RE.after": 3.16}):
        page = repair_page({"zoo": [repaired(seed, **(good | spoilt)) for seed in (22, 23, 24)]})
        assert "✓" not in rows(page, "blend")[0][2]


def test_no_page_without_repairs():
    assert repair_page({"zoo": []}) == ""


def test_what_a_second_scan_says_of_repaired_models():
    def rescanned(seed, decision, p_value, error=1.25):
        model = Model(data=DATA, attack="blend", seed=seed)
        cell = Cell(work="rescan", model=model, method="unlearning")
        said = {"decision": decision, "p_value": p_value, "search": "blend"}
        measured = {**said, "target_error_sd": error}
        return Result(cell=cell, status="done", measured=measured)

    again = [rescanned(22, "clean", 0.41), rescanned(23, "inconclusive", 0.07)]
    again.append(rescanned(24, "clean", 0.13, 0.2))
    page = repair_page({"zoo": [repaired(22), *again]})
    section = page[page.index("### Scanned again") :]
    assert "| blend | 2 of 3 (p 0.07, 0.13, 0.41) |" in section
    assert "| g, blend 23 | inconclusive | 0.07 | blend | 1.2 |" in section
    assert "| g, blend 24 | clean | 0.13 | blend | 0.2 |" in section
    assert "g, blend 22" not in section
    assert "Scanned again" not in repair_page({"zoo": [repaired(22)]})
