"""Where results and models lie: one small JSON a cell, in git; models in a cache, outside it.

A result is written whole or not at all.  Who works on a cell holds an operating-system lock on it,
which vanishes with the process, however it ends: so no cell is done twice at a time, and none
stays claimed by the dead.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from drmguard.atomic import write_atomically, write_text
from drmguard.bench.cell import Cell, Model
from drmguard.errors import InputError


class Result(BaseModel):
    """One cell's outcome.

    Attributes:
        cell: what was measured.
        status: ``done``, or ``failed`` with a reason.
        measured: figures by name.
        reported: the published figures of this kind of cell, from 10 + 10 models on other data.
        seconds: wall-clock, of the work itself; None where a model came from the cache.
        machine: class of the machine and device.
        versions: of drmguard, Python and torch.
        date: of the end, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    cell: Cell
    status: Literal["done", "failed"]
    reason: str | None = None
    measured: dict[str, Any] = {}
    reported: dict[str, float] = {}
    seconds: float | None = None
    machine: str = ""
    versions: dict[str, str] = {}
    date: str = ""

    @property
    def right(self) -> bool:
        """Of a scan: whether it decided what the model is; inconclusive is wrong."""
        expected = "clean" if self.cell.model.attack is None else "backdoored"
        return bool(self.measured["decision"] == expected)


def default_cache() -> Path:
    """Where models and scans lie if nothing else is said: the user's cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("drmguard")) / "bench"


class Store:
    """Results under ``results``; models, scans and locks under ``cache``."""

    def __init__(self, results: Path, cache: Path) -> None:
        self.results, self.cache = results, cache

    def path(self, cell: Cell) -> Path:
        """Where a cell's result lies."""
        return self.results / f"{cell.name}.json"

    def model_path(self, model: Model) -> Path:
        """Where a trained model lies, by its content address."""
        return self.cache / "models" / f"{model.key}.safetensors"

    def scan_folder(self, cell: Cell) -> Path:
        """Where a scan's report lies."""
        return self.cache / "scans" / cell.key

    def holds(self, cell: Cell) -> bool:
        """Whether the cache has what other cells take from this one: its model, or its scan."""
        if cell.work == "train":
            return self.model_path(cell.model).exists()
        # The report is what a scan writes last; one that was stopped leaves a folder without.
        return cell.work != "scan" or (self.scan_folder(cell) / "report.json").exists()

    def load(self, cell: Cell) -> Result | None:
        """A cell's result, or None where it has none.

        Raises:
            InputError: a file that is not a result.
        """
        path = self.path(cell)
        return read_result(path) if path.exists() else None

    def write(self, result: Result) -> None:
        """Write a result, whole or not at all."""
        write_text(self.path(result.cell), result.model_dump_json(indent=1) + "\n")

    @contextmanager
    def claim(self, cell: Cell) -> Iterator[bool]:
        """Hold a cell; False where somebody else does."""
        folder = self.cache / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{cell.key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def all(self) -> list[Result]:
        """Every result, by file name."""
        return [read_result(path) for path in sorted(self.results.glob("*.json"))]


def read_result(path: Path) -> Result:
    """Read one result.

    Raises:
        InputError: a file that is not a result.
    """
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        raise InputError(f"{path}: not a result of this benchmark; move it away") from None


def flat(result: Result) -> dict[str, Any]:
    """A result as one row of a table."""
    cell, model = result.cell, result.cell.model
    row: dict[str, Any] = {
        "key": cell.key,
        "work": cell.work,
        "method": cell.method,
        "seed": cell.seed,
        "data": model.data.name,
        "size": model.data.size,
        "network": model.network,
        "attack": model.attack or "clean",
        "model": model.key,
        "model_seed": model.seed,
        "status": result.status,
        "reason": result.reason,
        "seconds": result.seconds,
        "machine": result.machine,
        "date": result.date,
    }
    parts = {f"setting.{k}": v for k, v in cell.settings.items()}
    parts |= result.measured | {f"reported.{k}": v for k, v in result.reported.items()}
    simple = (str, int, float, bool, type(None))
    row.update({k: v if isinstance(v, simple) else str(v) for k, v in parts.items()})
    return row


def export(results: Iterable[Result], path: Path) -> None:
    """Write results as a table, ``.csv`` or ``.parquet``.

    Raises:
        InputError: another ending, nothing to write, or DuckDB missing for Parquet.
    """
    rows = [flat(result) for result in results]
    if not rows:
        raise InputError("there are no results to export yet; run a suite first")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"the export must end in .csv or .parquet, not {path.name!r}")

    def write_csv(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    if path.suffix == ".csv":
        write_atomically(path, write_csv)
        return

    def write_parquet(temporary: Path) -> None:
        table = temporary.with_suffix(".csv")
        try:
            write_csv(table)
            query = "COPY (SELECT * FROM read_csv(?, sample_size=-1)) TO '{}' (FORMAT parquet)"
            _duckdb().execute(query.format(str(temporary).replace("'", "''")), [str(table)])
        finally:
            table.unlink(missing_ok=True)

    write_atomically(path, write_parquet)


def query(results: Iterable[Result], sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Ask the table ``results`` in SQL: column names and rows.

    Raises:
        InputError: a query that DuckDB does not accept, or DuckDB missing.
    """
    import tempfile

    connection = _duckdb()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "results.csv"
        export(results, table)
        connection.execute(
            "CREATE TABLE results AS SELECT * FROM read_csv(?, sample_size=-1)", [str(table)]
        )
    import duckdb

    try:
        answer = connection.execute(sql)
    except duckdb.Error as error:
        raise InputError(f"the query failed: {str(error).splitlines()[0]}") from None
    names = [column[0] for column in answer.description or []]
    return names, answer.fetchall()


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise InputError(
            "queries and Parquet need DuckDB; install it with: pip install 'drmguard[bench]'"
        ) from None
    return duckdb.connect(":memory:")
