"""What benchmarks/beside.py prints of the models that were looked at."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("beside", BENCHMARKS / "beside.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("other_kinds", None)


def test_the_table_has_geometric_means(beside, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(beside, "RESULTS", tmp_path)
    for name, ratio in (("a", 0.5), ("b", 2.0)):
        ratios = {"blend": ratio, "conditional": 1.0, "settled": 0.5}
        (tmp_path / f"{name}.json").write_text(json.dumps({"beside": ratios}))
    beside.table()
    printed = capsys.readouterr().out
    assert "2 clean models" in printed
    assert "blend: 1.00, deviation 0.98, 0.50 to 2.00" in printed
    assert "settled: 0.50, deviation 0.00" in printed
