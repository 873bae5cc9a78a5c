"""What `make demo` shows, with another seed."""

import pytest

from drmguard.demo import TARGET, run_demo


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_is_right_about_both_models(tmp_path):
    reports = {name: report for name, report, _ in run_demo(tmp_path, seed=1, say=lambda _: None)}
    assert reports["clean"].decision == "clean"
    assert reports["backdoored"].decision == "backdoored"
    target = reports["backdoored"].content.target.values
    assert target == pytest.approx(TARGET, abs=0.1)
    assert (tmp_path / "backdoored" / "report.html").is_file()
