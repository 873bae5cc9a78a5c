"""The one optimisation loop of every search.

A method brings its trainable trigger, its parameters and its loss; the loop brings batches,
steps, progress, early stopping and resuming.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from drmguard.checkpoint import Checkpoint
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.training import batch_rows

TRACED_OUTPUTS = 8  # of many outputs only the first are traced
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps)."""


def traced_target(answer: Tensor) -> dict[str, float]:
    """The figures of a trace that follow the answer (d,) to which a search leads."""
    return {f"target.{j}": value for j, value in enumerate(answer[:TRACED_OUTPUTS].tolist())}


class Objective(abc.ABC):
    """What one search minimises."""

    @property
    @abc.abstractmethod
    def trainable(self) -> nn.Module:
        """The module whose state the search changes."""

    @abc.abstractmethod
    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """Groups for the optimiser, each with ``params`` and ``lr``."""

    @abc.abstractmethod
    def losses(self, rows: Tensor, step: int) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """Losses of the images with these row numbers, and the figures to trace.

        Parts that are independent come one at a time, so that memory holds one part's graph.
        """

    def rate(self, step: int) -> float:
        """Factor on every group's learning rate at a step."""
        return 1.0

    def after_step(self) -> None:  # noqa: B027
        """Bring parameters back into their range, where they have one."""

    def settled(self, trace: list[dict[str, float]]) -> bool:
        """Whether going on would change nothing that matters."""
        return False


@dataclass
class Run:
    """How a search went.

    Attributes:
        trace: a row of figures a step.
        steps: optimiser steps.
        optimizer: its last state.
    """

    trace: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    optimizer: dict[str, Any] = field(default_factory=dict)


def optimise(
    objective: Objective,
    *,
    victim: Victim | None,
    count: int,
    batch_size: int,
    steps: int,
    seed: int,
    betas: tuple[float, float] = (0.9, 0.999),
    after: Run | None = None,
    name: str = "searching",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Run:
    """Minimise ``objective`` with Adam over batches of ``count`` images.

    A checkpoint that holds a state is gone on from; the result, ``victim.images_seen``
    included, is the same as that of a run that was never stopped.  ``after`` is an earlier run on
    the same parameters, whose optimiser goes on.

    Raises:
        InputError: the loss is no longer finite.
    """
    optimizer = torch.optim.Adam(objective.parameter_groups(), betas=betas)
    start_rates = [group["lr"] for group in optimizer.param_groups]
    if after is not None:
        optimizer.load_state_dict(after.optimizer)
    run = Run()
    state = checkpoint.load() if checkpoint is not None else None
    if state is not None:
        objective.trainable.load_state_dict(state["trainable"])
        optimizer.load_state_dict(state["optimizer"])
        run = Run(trace=list(state["trace"]), steps=int(state["step"]))
        if victim is not None:
            victim.images_seen = int(state["images_seen"])

    def save() -> None:
        if checkpoint is not None:
            checkpoint.save(
                {
                    "step": run.steps,
                    "trainable": objective.trainable.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "trace": run.trace,
                    "images_seen": victim.images_seen if victim is not None else 0,
                }
            )

    saved = run.steps
    while run.steps < steps and not (run.trace and objective.settled(run.trace)):
        for group, rate in zip(optimizer.param_groups, start_rates, strict=True):
            group["lr"] = rate * objective.rate(run.steps)
        rows = torch.from_numpy(batch_rows(count, batch_size, run.steps, seed))
        optimizer.zero_grad(set_to_none=True)
        traced: dict[str, float] = {}
        for value, figures in objective.losses(rows, run.steps):
            if not torch.isfinite(value):
                raise InputError(
                    f"the search's loss is not finite at step {run.steps + 1}; the model gives "
                    "NaN or infinite outputs on these images"
                )
            value.backward()
            traced.update(figures)
        optimizer.step()
        objective.after_step()
        run.trace.append(traced)
        run.steps += 1
        if progress is not None:
            progress(name, run.steps, steps)
        if checkpoint is not None and checkpoint.due():
            save()
            saved = run.steps
    if run.steps > saved:
        save()
    run.optimizer = optimizer.state_dict()
    return run
