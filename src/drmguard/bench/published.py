"""The published tables (``published.toml``): which of our cells stand beside which figure."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from drmguard.bench.cell import Cell, Work


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Spec):
    """A row of a published table.

    Attributes:
        name: what the row is about.
        attack: whose models it is about; ``clean`` for those without.
        method: of the scan or repair; each of them is a row of ours.
        network: of the models.
        settings: of the scan or repair.
        data: where it differs from the table's.
        published: figures by name, as printed.
    """

    name: str
    attack: tuple[str, ...]
    method: tuple[str, ...] = ()
    network: str = "resnet18"
    settings: dict[str, Any] = {}
    data: tuple[str, ...] = ()
    published: dict[str, float]


class Table(_Spec):
    """A published table.

    Attributes:
        number, title: as published.
        work: of the cells that measure it.
        figures: names of what was measured; ``accuracy`` and ``auc`` are of scans.
        data: data sets beside which it may stand.
        differs: in one line, how ours differ.
        rows: its rows.
    """

    number: int
    title: str
    work: Work
    figures: tuple[str, ...]
    data: tuple[str, ...]
    differs: str
    rows: tuple[Row, ...]

    def concerns(self, row: Row, cell: Cell) -> bool:
        """Whether a cell of an attacked model, or a clean one of a clean row, is the row's."""
        return (cell.model.attack or "clean") in row.attack and self.compares(row, cell)

    def compares(self, row: Row, cell: Cell) -> bool:
        """Whether a cell is of the row's kind, whatever the attack."""
        model = cell.model
        settings = {k: v for k, v in cell.settings.items() if k != "scan_again"}
        return (
            cell.work == self.work
            and model.data.name in (row.data or self.data)
            and model.network == row.network
            and (not row.method or cell.method in row.method)
            and settings == row.settings
        )


@functools.cache
def published_tables() -> tuple[Table, ...]:
    """The published tables, in their order."""
    text = (resources.files("drmguard.bench") / "published.toml").read_text(encoding="utf-8")
    return tuple(Table.model_validate(table) for table in tomllib.loads(text)["table"])


def reported(cell: Cell) -> dict[str, float]:
    """The published figures of a cell's kind, by the names of what is measured; none for most."""
    found: dict[str, float] = {}
    for table in published_tables():
        for row in table.rows:
            if len(row.attack) == 1 and table.concerns(row, cell):
                found = {**row.published, **found}
    return found
