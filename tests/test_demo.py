"""What `make demo` shows, with another seed."""

import pytest

from drmguard.demo import TARGET, run_demo


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_is_right_about_both_models_and_repairs_one(tmp_path):
    clean, backdoored, repaired = run_demo(tmp_path, seed=1, say=lambda _: None)
    assert clean.report.decision == "clean"
    assert backdoored.report.decision == "backdoored"
    assert backdoored.report.content.target.values == pytest.approx(TARGET, abs=0.1)
    assert (tmp_path / "backdoored" / "report.html").is_file()
    assert (tmp_path / "backdoored" / "repaired.repair.html").is_file()
    assert repaired.before["AE"] < 3
    assert repaired.after["DAE"] < 1.5 * clean.report.content.clean_error.value
    assert repaired.after["AE"] > 0.8 * repaired.before["DAE"]
    assert repaired.after["RE"] < 1.1 * repaired.before["RE"]
    assert repaired.record.verdict.after == "clean"
