"""Suites: small readable TOML files that declare cells (docs/benchmark-suites.md).

[data.NAME]      a data set and its targets
[attack.NAME]    an attack's own settings: arguments, poisoning_rate, pretraining, training, steps
                 by data set
[[models]]       data × attack × network × seed × variants; every model is trained
[[cells]]        work, methods, settings and seeds, on all models or on some

Settings are one table, or a list of tables that are tried in turn; a variant is a table of an
attack's arguments, poisoning_rate, seed, and target, a number into the data's targets.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from drmguard.bench.cell import Cell, Data, Model, Work, with_needed
from drmguard.errors import InputError


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Attack(_Block):
    arguments: dict[str, Any] = {}
    poisoning_rate: float | None = None
    pretraining: dict[str, Any] | None = None
    training: dict[str, Any] = {}
    steps: dict[str, int] = {}


class _Variant(_Block):
    arguments: dict[str, Any] = {}
    poisoning_rate: float | None = None
    target: int | None = None
    seed: int | None = None


class _Models(_Block):
    data: list[str]
    attack: list[str] = ["clean"]
    network: list[str] = ["resnet18"]
    width: float | None = None
    seed: list[int] = [0]
    arguments: dict[str, Any] = {}
    poisoning_rate: float | None = None
    training: dict[str, Any] = {}
    pretraining: dict[str, Any] | None = None
    variants: list[_Variant] = [_Variant()]


class _Cells(_Block):
    work: Work
    method: list[str]
    seed: list[int] = [0]
    settings: dict[str, Any] | list[dict[str, Any]] = {}
    data: list[str] | None = None
    attack: list[str] | None = None
    network: list[str] | None = None
    model_seed: list[int] | None = None

    def concern(self, model: Model) -> bool:
        """Whether these cells are about this model."""
        return all(
            chosen is None or value in chosen
            for chosen, value in (
                (self.data, model.data.name),
                (self.attack, model.attack or "clean"),
                (self.network, model.network),
                (self.model_seed, model.seed),
            )
        )


class _File(_Block):
    about: str
    data: dict[str, dict[str, Any]]
    attack: dict[str, _Attack] = {}
    models: list[_Models]
    cells: list[_Cells] = []


@dataclass(frozen=True)
class Suite:
    """Cells under one name, each after those it needs."""

    name: str
    about: str
    cells: tuple[Cell, ...]

    @property
    def models(self) -> list[Model]:
        """Every model, once."""
        return [cell.model for cell in self.cells if cell.work == "train"]


def suite_names() -> list[str]:
    """The suites that come with drmguard."""
    folder = resources.files("drmguard.bench") / "suites"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name[-5:] == ".toml")


def load_suite(name: str) -> Suite:
    """Load a suite by name, or from a TOML file.

    Raises:
        InputError: no such suite, or one sentence on what the file gets wrong.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"no suite at {path}: the file does not exist")
        text = path.read_text(encoding="utf-8")
    elif name in suite_names():
        file = resources.files("drmguard.bench") / "suites" / f"{name}.toml"
        text = file.read_text(encoding="utf-8")
    else:
        known = ", ".join(suite_names())
        raise InputError(f"unknown suite {name!r}; choose one of {known}, or give a .toml file")
    try:
        file_content = _File.model_validate(tomllib.loads(text))
        data = {k: Data(name=k, **v) for k, v in file_content.data.items()}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the suite {name} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"the suite {name}: {place}: {first['msg']}") from None
    models = list(_models(name, file_content, data))
    cells = [Cell(work="train", model=model) for model in models]
    for block in file_content.cells:
        concerned = [model for model in models if block.concern(model)]
        cells += [
            Cell(work=block.work, model=model, method=method, settings=settings, seed=seed)
            for model, method, settings, seed in itertools.product(
                concerned, block.method, _listed(block.settings), block.seed
            )
        ]
    return Suite(name=Path(name).stem, about=file_content.about, cells=tuple(with_needed(cells)))


def _listed(tables: dict[str, Any] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return tables if isinstance(tables, list) else [tables]


def _models(name: str, file: _File, data: dict[str, Data]) -> Iterator[Model]:
    for block in file.models:
        for data_name, attack, network, seed, variant in itertools.product(
            block.data, block.attack, block.network, block.seed, block.variants
        ):
            if data_name not in data:
                raise InputError(f"the suite {name}: models of data {data_name!r}, not declared")
            own = file.attack.get(attack, _Attack())
            training = {**own.training, **block.training}
            if data_name in own.steps:
                training["steps"] = own.steps[data_name]
            attacked: dict[str, Any] = {}
            if attack != "clean":
                attacked = {
                    "attack": attack,
                    "arguments": {**own.arguments, **block.arguments, **variant.arguments},
                    "poisoning_rate": _first(
                        variant.poisoning_rate, block.poisoning_rate, own.poisoning_rate
                    ),
                    "pretraining": _first(block.pretraining, own.pretraining),
                    "target": _target(name, data[data_name], variant.target),
                }
            yield Model(
                data=data[data_name],
                network=network,
                width=block.width,
                training=training,
                seed=seed if variant.seed is None else variant.seed,
                **attacked,
            )


def _first(*settings: Any) -> Any:
    """The first one that is set."""
    return next((setting for setting in settings if setting is not None), None)


def _target(name: str, data: Data, number: int | None) -> tuple[float, ...] | None:
    if number is None:
        return None
    if not 0 <= number < len(data.targets):
        raise InputError(
            f"the suite {name}: target {number} of {data.name}, which has {len(data.targets)}"
        )
    return data.targets[number]
