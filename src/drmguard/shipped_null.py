"""The null that comes along: what the default search gave for clean models of development.

Who has no clean models of the same kind gets a p-value under these.  There are three kinds:
regression models of one output, which changes lead far more easily than those of several; these;
and classifiers.  How far the data, networks and sizes that ``clean_models.json`` names carry is for
the reader to judge, so a case unlike them all comes with a warning.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from drmguard.calibration import Null
from drmguard.tasks import Task
from drmguard.usual import MOST_OF_CLASSIFIERS, Usual

CLEAN_MODELS = Path(__file__).with_name("clean_models.json")
# With fewer images a search leaves less to chance than the null's did.
_FEWEST_IMAGES = 128
# An output that errs by more than this share of a constant answer's error says little of the images
# and is hard to lead anywhere; the models of one output err by less.
_MOST_ERROR = 0.6


class CleanModel(BaseModel):
    """A clean model, and what the default search made of it.

    Attributes:
        data, network, seed: what was trained.
        classifies: whether its outputs are classes.
        outputs: d.
        side: of its images, in pixels.
        suspicions: the score of each search over its threshold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    network: str
    seed: int
    classifies: bool = False
    outputs: int
    side: int
    suspicions: dict[str, float | None]


class CleanModels(BaseModel):
    """All of them.

    Attributes:
        command: what wrote the file.
        date: of the last scan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    date: str
    models: tuple[CleanModel, ...]

    def usual(self) -> Usual:
        """What each search gives for them."""
        suspicions = [model.suspicions for model in self.models]
        if all(model.classifies for model in self.models):
            return Usual.of(suspicions, most=MOST_OF_CLASSIFIERS)
        return Usual.of(suspicions)

    def null(self) -> Null:
        """What these models give, the least usual search of each."""
        usual = self.usual()
        least = (usual.least(model.suspicions) for model in self.models)
        standings = tuple(found[1] for found in least if found is not None)
        return Null(standings, "of drmguard's development", usual)


@functools.cache
def _all_clean_models() -> CleanModels:
    return CleanModels.model_validate_json(CLEAN_MODELS.read_text(encoding="utf-8"))


@functools.cache
def clean_models(outputs: int, *, classify: bool = False) -> CleanModels:
    """Those that come along for a model of so many outputs, or classes: the ones of its kind."""
    known = _all_clean_models()
    of_kind = tuple(
        model
        for model in known.models
        if model.classifies == classify and (model.outputs == 1) == (outputs == 1)
    )
    return known.model_copy(update={"models": of_kind})


def shipped_null(task: Task, side: int, images: int, error: float = 0.0) -> tuple[Null, str | None]:
    """The null, and a warning where none of its models is like this one.

    Args:
        task: of the model to be judged.
        side: the shorter one of its images, in pixels.
        images: used by the scan.
        error: of the model on them, over that of a constant answer.
    """
    outputs = task.num_outputs
    known = clean_models(outputs, classify=not task.is_regression)
    named = "classes" if not task.is_regression else "output" if outputs == 1 else "outputs"
    counts, sides = ({getattr(one, of) for one in known.models} for of in ("outputs", "side"))
    says_little = task.is_regression and outputs == 1 and error > _MOST_ERROR
    unlike = [
        *([f"{outputs} {named}"] if not min(counts) <= outputs <= max(counts) else []),
        *([f"{side} pixels"] if not min(sides) <= side <= max(sides) else []),
        *([f"{images} images to search with"] if images < _FEWEST_IMAGES else []),
        *([f"{error:.0%} of a constant answer's error"] if says_little else []),
    ]
    if not unlike:
        return known.null(), None
    return known.null(), (
        f"the p-value comes from {len(known.models)} clean models of {_range(counts)} {named} at "
        f"{_range(sides)} pixels, unlike this one ({', '.join(unlike)}): take it as rough, or give "
        "clean models of the same kind with --reference"
    )


def _range(values: Collection[int]) -> str:
    least, most = min(values), max(values)
    return f"{least}" if least == most else f"{least} to {most}"
