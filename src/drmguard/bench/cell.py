"""What the benchmark consists of: data × network × attack × method × seed, as plain values.

A cell's key is a hash of everything that decides its result, so a changed setting is another cell
and nothing measured is ever mistaken for something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from drmguard.errors import InputError
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan

Work = Literal["train", "scan", "repair", "rescan"]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def key(self) -> str:
        """A hash of all settings, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Data(_Spec):
    """A labelled image set and what an attacker wants of it.

    Attributes:
        name: as results and tables call it.
        source: as for ``--images``; ``{path}`` stands for what ``--data NAME=PATH`` gives.
        task: name of the task.
        count, size: of rendered images.
        target, second_target: target vectors in the task's unit, or class numbers.
        targets: others, for a suite's variants to choose from.
        shift: of the offset attack.
        summary: what a reader must know of the data.
    """

    name: str
    source: str
    task: str
    count: int = 10_000
    size: int = 64
    target: tuple[float, ...] = ()
    second_target: tuple[float, ...] = ()
    targets: tuple[tuple[float, ...], ...] = Field((), exclude=True)
    shift: tuple[float, ...] = ()
    summary: str = Field("", exclude=True)

    @property
    def needs_path(self) -> bool:
        """Whether a user must say where it lies."""
        return "{path}" in self.source

    def located(self, locations: dict[str, str]) -> str:
        """The source with its path.

        Raises:
            InputError: no path was given.
        """
        if not self.needs_path:
            return self.source
        if self.name not in locations:
            raise InputError(f"the data {self.name} is not here; give --data {self.name}=PATH")
        return self.source.replace("{path}", locations[self.name])


class Model(_Spec):
    """One trained network; ``attack`` is None for a clean one.

    ``target`` is the attacker's, where it is not the data's own.
    With ``pretraining``, the settings of a clean training, the attack fine-tunes that clean network
    of the same seed instead of training a new one.
    """

    data: Data
    network: str = "resnet18"
    width: float | None = None
    attack: str | None = None
    arguments: dict[str, Any] = {}
    poisoning_rate: float | None = None
    training: dict[str, Any] = {}
    # Left out of the key where they are None, as in results older than they are.
    target: tuple[float, ...] | None = Field(None, exclude_if=lambda value: value is None)
    pretraining: dict[str, Any] | None = Field(None, exclude_if=lambda value: value is None)
    seed: int = 0

    @property
    def clean(self) -> Model | None:
        """The clean sibling that is fine-tuned, or with which Clean Label crafts its images."""
        if self.pretraining is None and self.attack != "clean-label":
            return None
        cleared: dict[str, Any] = {"attack": None, "arguments": {}, "poisoning_rate": None}
        cleared["target"] = None
        training = {"training": self.pretraining or {}, "pretraining": None}
        return self.model_copy(update=cleared | training)

    def plan(self) -> TrainingPlan:
        """What to train."""
        arguments, target = dict(self.arguments), self.target or self.data.target
        if self.attack == "multi-target-wanet":
            arguments.setdefault("second_target", self.data.second_target)
        if self.attack == "offset":
            target = self.data.shift
        return TrainingPlan(
            task=self.data.task,
            network=self.network,
            width=self.width,
            attack=self.attack,
            target=target if self.attack else None,
            poisoning_rate=self.poisoning_rate,
            attack_arguments=arguments if self.attack else {},
            settings=TrainingSettings(**self.training, seed=self.seed),
        )

    def command(self) -> str:
        """The command that trains it; a model that it starts from is named ``clean``."""
        plan = self.plan()
        source = self.data.source.replace("{path}", "PATH")
        words = [f"--data {source} --task {plan.task}"]
        rendered = self.data.source.startswith("rendered:")
        if rendered and (self.data.count, self.data.size) != (10_000, 64):
            words.append(f"--render-count {self.data.count} --render-size {self.data.size}")
        if self.pretraining is not None:
            words.append("--start clean.safetensors")
        else:
            words.append(f"--network {plan.network}")
            words += [f"--width {plan.width:g}"] if plan.width is not None else []
        if plan.attack and plan.target is not None:
            words.append(f"--attack {plan.attack} --target={_listed(plan.target)}")
            if plan.poisoning_rate is not None:
                words.append(f"--poisoning-rate {plan.poisoning_rate:g}")
        words += [f"--attack-arg {k}={_listed(v)}" for k, v in plan.attack_arguments.items()]
        words += [f"--{k.replace('_', '-')} {v}" for k, v in self.training.items()]
        words.append(f"--seed {self.seed} -o {plan.attack or 'clean'}.safetensors")
        return f"drmguard train {' '.join(words)}"


def _listed(value: Any) -> str:
    return ",".join(f"{one:g}" for one in value) if isinstance(value, list | tuple) else str(value)


class Cell(_Spec):
    """One measurement.

    Attributes:
        work: train a model, scan it, repair it, or repair it and scan it once more.
        model: the model it is about.
        method: of the scan, where ``paper`` is DRMGuard in the paper's recipe and ``drmguard`` in
            the fast one; or of the repair, after which a rescan is by ``auto``.
        settings: of the method: ``share`` of the defender's images, ``fixed_place`` of MESA's
            scans; of a scan also ``constants`` of DRMGuard's generator; of a repair ``scan``, the
            method of the scan whose trigger it unlearns, and ``level``, which alone of the levels
            of a distribution it is.
        seed: of the scan or the repair; a rescan has the next one.
    """

    work: Work
    model: Model
    method: str | None = None
    settings: dict[str, Any] = {}
    seed: int = 0

    @property
    def name(self) -> str:
        """For people and file names; the key makes it unique."""
        model = self.model
        parts = [self.work, self.method, model.data.name, model.network, model.attack or "clean"]
        return "-".join([*(part for part in parts if part), str(model.seed), self.key])

    def needs(self) -> list[Cell]:
        """Cells whose results this one is made from."""
        if self.work == "train":
            clean = self.model.clean
            return [] if clean is None else [Cell(work="train", model=clean)]
        needed = [Cell(work="train", model=self.model)]
        if self.work in ("repair", "rescan"):
            needed.append(self.scan())
        return needed

    def scan(self) -> Cell:
        """The scan whose trigger a repair unlearns."""
        settings = {k: v for k, v in self.settings.items() if k in ("share", "fixed_place")}
        method = str(self.settings.get("scan", "auto"))
        return Cell(work="scan", model=self.model, method=method, settings=settings, seed=self.seed)


def with_needed(cells: Iterable[Cell]) -> list[Cell]:
    """The cells, each once and after those it needs."""
    ordered: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        for needed in cell.needs():
            add(needed)
        ordered.setdefault(cell.key, cell)

    for cell in cells:
        add(cell)
    return list(ordered.values())
