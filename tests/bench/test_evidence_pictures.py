"""The evidence of scans in the cache, drawn for the documentation."""

from conftest import AnalyticModel
from drmguard import scan
from drmguard.bench.cell import Cell, Data, Model
from drmguard.bench.evidence_pictures import draw_evidence
from drmguard.bench.store import Store
from drmguard.models.victim import Victim
from drmguard.tasks import Regression


def test_pictures_of_the_scans_that_are_there(tmp_path, image_set):
    data = Data(name="gaze", source="rendered:gaze", task="gaze")
    models = [Model(data=data, seed=20), Model(data=data, seed=20, attack="badnets")]
    cells = [Cell(work="scan", model=model, method="auto") for model in models]
    store = Store(tmp_path / "results", tmp_path / "cache")
    assert draw_evidence(cells, store, tmp_path) == []
    report = scan(Victim(AnalyticModel(planted=True)), image_set, Regression(("a", "b")))
    report.save(store.scan_folder(cells[1]))
    other = Cell(work="scan", model=models[1], method="auto", settings={"share": 0.05})
    report.save(store.scan_folder(other))
    written = draw_evidence([*cells, other], store, tmp_path)
    names = [f"badnets-{plot}.svg" for plot in ("efforts", "spread", "dose-response")]
    assert [path.name for path in written] == names
    assert all(path.read_text().startswith("<svg") for path in written)
