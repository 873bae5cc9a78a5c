"""Run a suite's cells: each once, after those it needs, as many at a time as the engine takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from drmguard.bench.cell import Cell
from drmguard.bench.engines import Engine, WorkerLost
from drmguard.bench.store import Result, Store
from drmguard.bench.work import Outcome, Place, work_on

_LOOK_AGAIN = 2.0  # seconds until a cell that somebody else holds is asked for again
_TRIES = 3  # of a cell whose worker died


@dataclass
class Progress:
    """How a run stands.

    Attributes:
        cells: all cells of the suite.
        done, failed: keys of cells with a result, from earlier runs too.
        skipped: keys of cells that cannot run: a needed one failed, or data are missing.
        running: names of the cells at work.
        seconds: of cells that this run has finished, by kind of work and method.
    """

    cells: Sequence[Cell]
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    running: dict[str, str] = field(default_factory=dict)
    message: str = ""

    @property
    def left(self) -> int:
        """Cells still to do."""
        return len(self.cells) - len(self.done | self.failed | self.skipped)


def standing(cells: Sequence[Cell], store: Store, *, retry_failed: bool = False) -> Progress:
    """How the cells stand in the store, before anything runs.

    A cell that is done is done again where the cache lacks what a cell without a result needs of
    it: results travel with the repository, models and scans do not.
    """
    progress = Progress(cells)
    needed: set[str] = set()
    for cell in reversed(cells):  # those that need others come after them
        result = store.load(cell)
        if (
            result is not None
            and result.status == "done"
            and (cell.key not in needed or store.holds(cell))
        ):
            progress.done.add(cell.key)
        elif result is not None and result.status == "failed" and not retry_failed:
            progress.failed.add(cell.key)
        else:
            needed |= {other.key for other in cell.needs()}
    return progress


def run_cells(
    cells: Sequence[Cell],
    place: Place,
    engine: Engine,
    *,
    retry_failed: bool = False,
    show: Callable[[Progress], None] = lambda _: None,
    work: Callable[[Cell, Place], Outcome] = work_on,
) -> Progress:
    """Do every cell that has no result.

    Args:
        cells: each after those it needs.
        place: the store and the data.
        engine: where they run.
        retry_failed: do failed cells again.
        show: called whenever something has changed.
        work: what does a cell, in a worker.
    """
    store = place.store()
    progress = standing(cells, store, retry_failed=retry_failed)
    by_key = {cell.key: cell for cell in cells}
    waiting = [c for c in cells if c.key not in progress.done | progress.failed]
    at_work: dict[Future[Any], Cell] = {}
    later: dict[str, float] = {}
    tries: dict[str, int] = {}
    while waiting or at_work:
        waiting = _start_ready(waiting, at_work, later, progress, place, engine, work)
        show(progress)
        if not at_work:
            if not waiting:
                break
            time.sleep(_LOOK_AGAIN / 4)
            continue
        finished, _ = wait(at_work, timeout=_LOOK_AGAIN, return_when=FIRST_COMPLETED)
        for future in finished:
            cell = at_work.pop(future)
            progress.running.pop(cell.key, None)
            try:
                outcome: Outcome = future.result()
            except WorkerLost as error:
                tries[cell.key] = tries.get(cell.key, 0) + 1
                if tries[cell.key] < _TRIES:
                    waiting.append(cell)
                    continue
                reason = f"its worker died {_TRIES} times ({error})"
                store.write(Result(cell=cell, status="failed", reason=reason))
                outcome = "failed"
            if outcome == "busy":
                later[cell.key] = time.monotonic() + _LOOK_AGAIN
                waiting.append(by_key[cell.key])
            elif outcome == "done":
                progress.done.add(cell.key)
                progress.message = f"done: {cell.name}"
            else:
                progress.failed.add(cell.key)
                progress.message = f"FAILED: {cell.name}"
            show(progress)
            progress.message = ""
    return progress


def _start_ready(
    waiting: list[Cell],
    at_work: dict[Future[Any], Cell],
    later: dict[str, float],
    progress: Progress,
    place: Place,
    engine: Engine,
    work: Callable[[Cell, Place], Outcome],
) -> list[Cell]:
    """Submit what can run now, as many as the engine has slots; what is left to wait for."""
    still = []
    for cell in waiting:
        needed = {other.key for other in cell.needs()}
        missing = cell.model.data.needs_path and cell.model.data.name not in place.locations
        if missing or needed & (progress.failed | progress.skipped):
            progress.skipped.add(cell.key)
        elif (
            len(at_work) < engine.slots
            and needed <= progress.done
            and later.get(cell.key, 0) <= time.monotonic()
        ):
            at_work[engine.submit(work, cell, place)] = cell
            progress.running[cell.key] = cell.name
        else:
            still.append(cell)
    return still
