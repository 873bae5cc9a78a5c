"""The evidence of a few scans as pictures for docs/detection.md, drawn as a report draws it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drmguard.atomic import write_text
from drmguard.bench.cell import Cell
from drmguard.bench.store import Store
from drmguard.report import plots
from drmguard.report.schema import ReportContent

# Of which models, all of the same data and seed: a clean one, a patch, a change of the whole image.
_DATA, _SEED, _ATTACKS = "gaze", 20, (None, "badnets", "blend")
_DRAWN = {
    "efforts": plots.efforts,
    "spread": plots.spread,
    "dose-response": plots.dose_response,
}


def draw_evidence(cells: Iterable[Cell], store: Store, docs: Path) -> list[Path]:
    """Write ``docs/detection/ATTACK-PLOT.svg`` for every such scan by ``auto`` in the cache."""
    written = []
    for cell in cells:
        model = cell.model
        report = store.scan_folder(cell) / "report.json"
        ours = (cell.work, cell.method, cell.settings) == ("scan", "auto", {})
        shown = (model.data.name, model.seed) == (_DATA, _SEED) and model.attack in _ATTACKS
        if not (ours and shown and model.network == "resnet18" and report.is_file()):
            continue
        content = ReportContent.model_validate_json(report.read_text(encoding="utf-8"))
        for name, draw in _DRAWN.items():
            path = docs / "detection" / f"{model.attack or 'clean'}-{name}.svg"
            with plots.style():
                write_text(path, draw(content) + "\n")
            written.append(path)
    return written
