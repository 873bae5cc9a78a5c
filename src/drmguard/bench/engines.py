"""Where cells run: processes of this machine, or a Ray cluster; both behind ``submit``."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from drmguard.errors import InputError
from drmguard.worker import end_with_parent


class WorkerLost(Exception):
    """A worker died before its cell was done: killed, out of memory, or its machine is gone."""


class Engine(Protocol):
    """Runs functions elsewhere.

    Attributes:
        slots: cells that run at once, as far as is known.
    """

    slots: int

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run ``function`` in a worker; the future raises :class:`WorkerLost` if that dies."""

    def close(self) -> None:
        """End the workers."""


class LocalEngine:
    """One process a core with one thread each, which beats fewer processes with more threads."""

    def __init__(self, jobs: int | None = None) -> None:
        self.slots = jobs or os.cpu_count() or 1
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.slots,
            multiprocessing.get_context("spawn"),
            _start_worker,
            (os.getpid(),),
        )

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            inner = self._pool.submit(function, *arguments)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            inner = self._pool.submit(function, *arguments)
        return _translated(inner, BrokenProcessPool)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(parent: int) -> None:
    # Before torch is imported: two spinning threads beside another job lose a factor of six.
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent(parent)


class RayEngine:
    """A Ray cluster; cells go where the processors and accelerators they need are free.

    Args:
        address: of a running cluster (``auto`` finds one); None starts one on this machine.
        cpus, gpus: what each cell takes; a fraction of a GPU puts several cells on one.
        workers: processors of a cluster that is started here.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        workers: int | None = None,
    ) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise InputError(
                "a cluster needs Ray; install it with: pip install 'drmguard[cluster]'"
            ) from None
        self._ray = ray
        if not ray.is_initialized():
            own = {"num_cpus": workers or os.cpu_count()} if address is None else {}
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
                **own,
            )
        # Ray itself retries what a lost node or worker was at; finished cells are never redone,
        # since work_on looks into the store first.
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 3}
        available = ray.cluster_resources()
        slots = available.get("CPU", 1) / max(cpus, 1e-9)
        if gpus:
            slots = min(slots, available.get("GPU", 0) / gpus)
        self.slots = max(1, int(slots))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        remote = self._ray.remote(**self._options)(function)
        exceptions = self._ray.exceptions
        return _translated(
            remote.remote(*arguments).future(),
            (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError),
        )

    def close(self) -> None:
        self._ray.shutdown()


def _translated(
    inner: Future[Any], lost: type[BaseException] | tuple[type[BaseException], ...]
) -> Future[Any]:
    """The same future, with the engine's own word for a dead worker."""
    outer: Future[Any] = Future()

    def settle(done: Future[Any]) -> None:
        if done.cancelled():
            outer.cancel()
            return
        error = done.exception()
        if error is None:
            outer.set_result(done.result())
        elif isinstance(error, lost):
            outer.set_exception(WorkerLost(str(error).splitlines()[0] if str(error) else "died"))
        else:
            outer.set_exception(error)

    inner.add_done_callback(settle)
    return outer
