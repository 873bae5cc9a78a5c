"""What stands in for a cell's work in the runner's tests; importable by worker processes."""

import os
import signal
import time
from pathlib import Path

from drmguard.bench.store import Result


def _log(place, text):
    with Path(place.cache, "log").open("a") as file:  # one write of a short line is atomic
        file.write(text + "\n")


def quick(cell, place):
    """Take a moment, note the start, and write a result."""
    store = place.store()
    with store.claim(cell) as held:
        if not held:
            return "busy"
        if store.load(cell) is not None:
            return "done"
        _log(place, cell.key)
        time.sleep(0.05)
        store.write(Result(cell=cell, status="done", measured={"seed": cell.seed}))
        return "done"


def failing(cell, place):
    """Fail every training of seed 1."""
    if cell.work == "train" and cell.model.seed == 1:
        place.store().write(Result(cell=cell, status="failed", reason="no"))
        return "failed"
    return quick(cell, place)


def killed_once(cell, place):
    """The first worker that takes seed 2 is killed in the middle of it."""
    mark = Path(place.cache, "killed")
    if cell.seed == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(cell, place)


def always_killed(cell, place):
    """Seed 2 kills every worker that takes it."""
    if cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(cell, place)
