"""What benchmarks/beside.py prints of the models that were looked at."""

import json

import beside


def test_the_table_has_geometric_means(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(beside, "RESULTS", tmp_path)
    for name, ratio in (("a", 0.5), ("b", 2.0)):
        ratios = {"blend": ratio, "conditional": 1.0, "settled": 0.5}
        (tmp_path / f"{name}.json").write_text(json.dumps({"beside": ratios}))
    beside.table()
    printed = capsys.readouterr().out
    assert "2 clean models" in printed
    assert "blend: 1.00, deviation 0.98, 0.50 to 2.00" in printed
    assert "settled: 0.50, deviation 0.00" in printed
