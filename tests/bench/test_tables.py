"""The page: figures worked out by hand, the same bytes for the same results."""

import pytest

from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.cost import CostModel
from drmguard.bench.statistics import evenness, roc_auc, roc_curve, share
from drmguard.bench.store import Result
from drmguard.bench.suite import Suite, load_suite, suite_names
from drmguard.bench.tables import write_tables

DATA = Data(name="gaze", source="rendered:gaze", task="gaze", target=(0.3, 0.3))


def results():
    found = []
    for seed, attack, decision, suspicion, p_value in (
        (0, None, "clean", 2.0, 0.6),
        (1, None, "backdoored", 0.9, 0.04),
        (0, "badnets", "backdoored", 0.2, 0.001),
        (1, "badnets", "clean", 1.5, 0.2),
    ):
        model = Model(data=DATA, seed=seed, attack=attack)
        trained = {"error_unit": "°", "RE": 2.0 + seed}
        if attack:
            trained |= {"AE": 0.5, "DAE": 20.0, "RAV": 0.01, "RNV": 0.5}
        cell = Cell(work="train", model=model)
        found.append(Result(cell=cell, status="done", measured=trained, seconds=100.0))
        scanned = {"decision": decision, "suspicion": suspicion, "passes": 1000}
        scanned |= {"suspicions": {"places": suspicion}, "p_value": p_value}
        cell = Cell(work="scan", model=model, method="auto")
        found.append(Result(cell=cell, status="done", measured=scanned, seconds=50.0))
    return found


def suite_of(results):
    return Suite("own", "these", tuple(result.cell for result in results))


def test_the_page_has_our_figure_beside_the_published_one(tmp_path):
    page = write_tables([suite_of(results())], results(), tmp_path).read_text()
    attacks = (tmp_path / "attacks.md").read_text()
    row = "| badnets | 2 | 0.5 | 2.5 | +0% | 20 | 0.01 | 0.5 | 3.25 / 2.61 | 0.0433 / 1.45 |"
    assert row in attacks
    # One of two found, one of two cleared: 50 %, Wilson 15–85 %; three of four pairs in order.
    assert "| badnets | 2 + 2 | 1 | 1 | 1 | 1 | 0 | 50% (15%–85%) | 0.750" in page
    assert "| gaze | resnet18 | clean | 1 | auto |  | **backdoored** | – | 0.9 |" in page
    assert (tmp_path / "benchmark" / "scores.svg").read_text().startswith("<svg")


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_tables([suite_of(results())], results(), tmp_path / name)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 5
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


@pytest.mark.parametrize("name", ["zoo", "hard", "development"])
def test_suites_that_repeat_no_setting_have_pages_of_their_own(tmp_path, name):
    varied = {"target": (0.1, 0.2), "poisoning_rate": 0.05, "arguments": {"side": 3}}
    own = [
        result.model_copy(
            update={
                "cell": result.cell.model_copy(
                    update={"model": result.cell.model.model_copy(update=varied)}
                )
            }
        )
        if result.cell.model.attack
        else result
        for result in results()
    ]
    suites = [Suite(name, "these", tuple(r.cell for r in own)), suite_of(results()[:4])]
    page = write_tables(suites, own, tmp_path).read_text()
    assert "| badnets |" not in page  # the other suite has clean models alone
    zoo = (tmp_path / f"{name}.md").read_text()
    assert "| badnets | 2 + 2 | 1 | 1 | 1 | 1 | 0 | 50% (15%–85%) | 0.750" in zoo
    row = "| gaze | resnet18 | badnets | 1 | (0.1, 0.2) | 0.05 | side 3 | 3 | 0.5 |"
    assert f"{row} **clean** | 0.2 | 1.5 | – |\n" in zoo
    assert "| verdict | p | places | target error (σ) |" in zoo  # of the searches that ran
    # Of two clean models: .04 and .6; the largest gap from an even spread is .46.
    assert "| gaze | 2 | 1 | 1 | 0.32 |" in zoo


def test_a_model_that_is_scanned_with_several_settings_has_a_row_for_each(tmp_path):
    plain = next(r for r in results() if r.cell.work == "scan" and r.cell.model.attack is None)
    less = plain.cell.model_copy(update={"settings": {"share": 0.02}})
    both = [*results(), plain.model_copy(update={"cell": less})]
    write_tables([Suite("hard", "these", tuple(r.cell for r in both))], both, tmp_path)
    rows = (tmp_path / "hard.md").read_text().splitlines()
    seed = plain.cell.model.seed
    own = [row for row in rows if row.startswith(f"| gaze | resnet18 | clean | {seed} |")]
    assert ["share 0.02" in row for row in own] == [False, True]


def test_statistics_against_known_values():
    wilson = share(19, 20)  # the paper's 19 of 20: 76 to 99 %
    assert (round(wilson.low, 2), round(wilson.high, 2)) == (0.76, 0.99)
    assert roc_auc([1, 2], [0, 0.5]).value == 1
    assert roc_auc([1, 1], [1, 1]).value == 0.5
    assert roc_auc([3, 1], [2]).value == 0.5
    assert roc_curve([2], [1]) == ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])


def test_evenness():
    assert evenness([0.1, 0.3, 0.5, 0.7, 0.9]) > 0.9
    assert evenness([0.01] * 5) < 1e-3


def test_costs_come_from_results_where_there_are_any():
    costs = CostModel(results())
    known = costs.of(Cell(work="scan", model=Model(data=DATA, seed=9), method="auto"))
    assert (known.passes, known.seconds, known.measured) == (1000, 50.0, True)
    trained = costs.of(Cell(work="train", model=Model(data=DATA, seed=9)))
    assert (trained.passes, trained.seconds) == (96_000, 100.0)  # which counts none
    paper = costs.of(Cell(work="scan", model=Model(data=DATA, seed=9), method="paper"))
    assert not paper.measured
    assert paper.seconds > 20 * known.seconds


@pytest.mark.parametrize("name", suite_names())
def test_a_plan_of_every_suite_costs_something(name):
    costs = CostModel([])
    assert all(costs.of(cell).seconds > 0 for cell in load_suite(name).cells)


def test_results_of_other_cells_are_left_out(tmp_path):
    page = write_tables([suite_of(results()[:2])], results(), tmp_path).read_text()
    assert "badnets" not in page
    assert "| own | 1 of 1 | 1 of 1 | 0 of 0 |" in page


def test_what_each_search_flags_by_itself(tmp_path):
    scans = []
    for seed, attack, places, wave in (
        (0, "sig", None, 0.1),
        (1, "sig", 0.5, 0.1),
        (0, None, 2, 2),
    ):
        cell = Cell(work="scan", model=Model(data=DATA, seed=seed, attack=attack), method="auto")
        measured = {
            "decision": "backdoored" if attack else "clean",
            "suspicion": wave,
            "suspicions": {"places": places, "spread": wave},
            "spread": {"conditional": 3.0, "wave": wave, "warp": 9.0},
            "passes": 1000,
        }
        scans.append(Result(cell=cell, status="done", measured=measured, seconds=50.0))
    page = write_tables([suite_of(scans)], scans, tmp_path).read_text()
    assert "| gaze | sig | 2 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 1 | 0 | 0 |" in page
    assert "| gaze | clean | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in page


def test_of_two_backdoors_the_worse_taking_one_is_shown(tmp_path):
    model = Model(data=DATA, attack="multi-target-wanet")
    names = ("AE", "DAE", "RAV", "RNV")
    measured = {"RE": 2.0} | dict.fromkeys(names, 1.0) | {f"{n}_2": 7.0 for n in names}
    result = Result(cell=Cell(work="train", model=model), status="done", measured=measured)
    write_tables([suite_of([result])], [result], tmp_path)
    row = "| multi-target-wanet | 1 | 7 | 2 |"
    assert row in (tmp_path / "attacks.md").read_text()
