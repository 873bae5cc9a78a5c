"""The house keeps its floors: docs/architecture.md, held against the imports."""

import ast
from pathlib import Path

import pytest

import drmguard

FLOORS = [
    {
        "errors",
        "arguments",
        "atomic",
        "tasks",
        "metrics",
        "checkpoint",
        "worker",
        "augmentation",
        "usual",
    },
    {"data", "models", "triggers"},
    {"training", "search", "repair"},
    {"attacks", "verdict", "calibration"},
    {"report", "evidence", "methods", "references", "shipped_null", "scanning", "repairing"},
    {"card", "training_plan", "demo"},
    {"bench"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
NEVER = {
    "search": {"attacks"},
    "verdict": {"attacks"},
    "repair": {"attacks"},
    "repairing": {"attacks"},
    "scanning": {"attacks"},
    "evidence": {"attacks"},
    "methods": {"attacks"},
    "report": {"search"},
}
SOURCE = Path(drmguard.__file__).parent
FILES = [p for p in SOURCE.rglob("*.py") if p.name != "__init__.py"]


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drmguard"):
            parts = node.module.split(".")
            if len(parts) > 1:
                yield parts[1]
            else:
                yield from (alias.name for alias in node.names if alias.name in FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_from_below(path):
    room = room_of(path)
    for other in imported_rooms(path):
        assert FLOOR[other] <= FLOOR[room], f"{room} imports {other} from above"
        assert other not in NEVER.get(room, ()), f"{room} must not import {other}"


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOOR)
