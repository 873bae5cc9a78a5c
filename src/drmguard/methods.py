"""The methods of a scan, each from a frozen victim and its clean images to a verdict's evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from drmguard.checkpoint import Checkpoints
from drmguard.errors import InputError
from drmguard.evidence import Found, Searched
from drmguard.models.victim import Victim
from drmguard.search.benign import Benign, respond
from drmguard.search.classes import ClassSettings, ClassTrigger, search_classes, strongest
from drmguard.search.default_answer import MANY_OUTPUTS
from drmguard.search.drmguard import GeneratorSettings, search_generator
from drmguard.search.feature_re import FeatureSettings, search_features
from drmguard.search.heat_map import HeatMapSettings, search_heat_map
from drmguard.search.loop import Progress
from drmguard.search.mesa import MesaSettings, search_distribution
from drmguard.search.neural_cleanse import CleanseSettings, search_cleanse
from drmguard.search.places import PlaceResult, PlaceSettings, search_places
from drmguard.search.shift import ShiftSettings, search_shift
from drmguard.search.spread import LOOKED_BESIDE, look_beside, search_spread
from drmguard.search.spread_settings import SpreadSettings
from drmguard.search.target_search import SpreadCandidate
from drmguard.search.testing import Success
from drmguard.tasks import Task
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.usual import Usual
from drmguard.verdict import (
    MIN_NULL,
    VALID_HITS,
    Verdict,
    combine,
    judge_classes,
    judge_cleanse,
    judge_features,
    judge_generator,
    judge_masks,
    judge_places,
    judge_shift,
    judge_spread,
    spread_suspicion,
)

# A second search looks suspicious up to this suspicion, or two deviations below clean models'.
_ALSO, _UNUSUAL = 1.5, math.exp(-2)
# Suspicions relative to the usual ones that leave nothing to doubt: p = .0007, and .28.
_CLEAR, _USUAL = 0.04, 0.25
# A search's name, its suspicion and its trigger.
_Seen = tuple[str, float | None, nn.Module]

MethodName = Literal["auto", "drmguard", "mesa", "points", "shift", "neural-cleanse", "feature-re"]


@dataclass(frozen=True)
class Subject:
    """What a method examines, and how.

    Attributes:
        victim: frozen.
        task: what its outputs mean.
        benign: its clean images, measured once.
        generator, places, spread: settings of the searches of ``drmguard`` and of ``auto``.
        recipe: ``fast`` or ``paper``, of MESA.
        trigger_size: (height, width) of MESA's triggers for classifiers.
        fixed_place: whether a classifier's trigger has a place of its own, for MESA to find.
        usual: what the default's searches give for clean models, of regression.
        common: seed, checkpoints and progress, as every search takes them.
    """

    victim: Victim
    task: Task
    benign: Benign
    generator: GeneratorSettings
    places: PlaceSettings
    spread: SpreadSettings
    recipe: str
    trigger_size: tuple[int, int]
    fixed_place: bool
    usual: Usual | None
    seed: int
    checkpoints: Checkpoints | None
    progress: Progress | None

    @property
    def common(self) -> dict[str, Any]:
        """What every search takes."""
        return {"seed": self.seed, "checkpoints": self.checkpoints, "progress": self.progress}


@dataclass(frozen=True)
class Examined:
    """A method's verdict, the trigger that it speaks of, and all that was found.

    ``second`` is the trigger of the next most suspicious search, if it looks suspicious, too.
    """

    verdict: Verdict
    found: Found
    searched: Searched
    second: nn.Module | None = None


@dataclass(frozen=True)
class Method:
    """One method, as ``drmguard methods`` lists it."""

    summary: str
    needs: str
    examine: Callable[[Subject], Examined]


def _auto(subject: Subject) -> Examined:
    if not subject.task.has_many_classes:
        by_places, places, steps = _places(subject)
        verdicts, found = [by_places], {"places": Found.at_place(places)}
        searched = Searched(places=places, steps=steps)
    else:
        # Windows go for whatever class is easiest; each class of its own is searched instead.
        masks, trace = search_cleanse(
            subject.victim, subject.task, subject.benign, _FAST_MASKS, **subject.common
        )
        by_masks, mask = judge_masks(masks, subject.task.output_names)
        verdicts = [by_masks]
        found = {"masks": _untraced(subject, mask.trigger)}
        searched = Searched(masks=masks, steps=len(trace))
    spread = search_spread(
        subject.victim, subject.task, subject.benign, subject.spread, **subject.common
    )
    spread = [_looked_beside(subject, candidate) for candidate in spread]
    by_spread, best = judge_spread(spread, subject.usual)
    verdicts.append(by_spread)
    found["spread"] = Found(best.trigger, best.target, best.trace, f"{best.number}.")
    patches = () if subject.task.is_regression else _class_patches(subject, ClassSettings())
    if len(patches) >= MIN_NULL:
        verdicts.append(judge_classes(patches, None, subject.task.output_names))
        found["classes"] = _untraced(subject, strongest(patches).trigger)
    steps = searched.steps + (ClassSettings().steps if patches else 0)
    searched = dataclasses.replace(searched, spread=spread, classes=patches, steps=steps)
    verdict = combine(verdicts, subject.usual)
    speaking = found[verdict.search]
    seen: list[_Seen] = [
        (v.search, v.suspicion, found[v.search].trigger) for v in verdicts if v is not by_spread
    ]
    speaks = best.family if verdict.search == "spread" else None
    seen += [
        (candidate.family, spread_suspicion(candidate), candidate.trigger)
        for candidate in spread
        # What a conditional change settles to is no other trigger.
        if {candidate.family, speaks} != {"conditional", "settled"}
    ]
    second = _suspicious_too(seen, speaking.trigger, subject.usual)
    return Examined(verdict, speaking, searched, second)


def _looked_beside(subject: Subject, found: SpreadCandidate) -> SpreadCandidate:
    """The same, compared with answers beside its own where that may change what is decided."""
    usual, suspicion = subject.usual, spread_suspicion(found)
    if found.family not in LOOKED_BESIDE or usual is None or subject.benign.weight is None:
        return found
    # Beside a class lies none, and the neighbours of an extreme answer of many outputs are harder.
    if not subject.task.is_regression or subject.task.num_outputs >= MANY_OUTPUTS:
        return found
    if not _CLEAR < usual.relative(found.family, suspicion) < _USUAL:
        return found
    found = look_beside(
        found, subject.victim, subject.task, subject.benign, subject.spread, **subject.common
    )
    assert found.beside is not None
    weight = usual.by_beside(found.family, suspicion, found.beside)
    return dataclasses.replace(found, by_beside=weight)


def _suspicious_too(
    seen: Sequence[_Seen], speaking: nn.Module, usual: Usual | None
) -> nn.Module | None:
    """The trigger of the next most suspicious search, or least usual one, unless that is neither.

    What speaks may be the backdoor in part; more than two cost clean error (docs/repair.md).
    """
    others = {
        search: (suspicion, trigger)
        for search, suspicion, trigger in seen
        if suspicion is not None and trigger is not speaking
    }
    lowest, trigger = min(others.values(), key=lambda one: one[0], default=(math.inf, None))
    if lowest <= _ALSO:
        return trigger
    least = usual and usual.least({search: suspicion for search, (suspicion, _) in others.items()})
    return others[least[0]][1] if least and least[1] <= _UNUSUAL else None


def _places(subject: Subject) -> tuple[Verdict, PlaceResult, int]:
    """The verdict on windows, those that it speaks of, and the steps of the others."""
    results = search_places(
        subject.victim, subject.task, subject.benign, subject.places, **subject.common
    )
    verdict, speaking = judge_places(results)
    return verdict, speaking, sum(result.steps for result in results) - speaking.steps


def _class_patches(subject: Subject, settings: ClassSettings) -> Sequence[ClassTrigger]:
    return search_classes(subject.victim, subject.benign, settings, **subject.common)


def _drmguard(subject: Subject) -> Examined:
    generated = search_generator(
        subject.victim, subject.task, subject.benign, subject.generator, **subject.common
    )
    return Examined(judge_generator(generated), Found.generated(generated), Searched(generated))


def _mesa(subject: Subject) -> Examined:
    if subject.task.is_regression:
        return _mesa_of_regression(subject)
    if subject.fixed_place:
        heat = search_heat_map(subject.victim, subject.benign, HeatMapSettings(), **subject.common)
        top, left, height, width = heat.extent
        settings, start = _at_place(height, width, (top, left)), None
        searched = Searched(classes=heat.classes, heat=heat, steps=heat.steps)
    else:
        settings = MesaSettings(size=subject.trigger_size)
        searched = _searched_classes(subject)
        found, start = strongest(searched.classes).trigger, None
        if subject.recipe == "fast" and isinstance(found, PlacedPatchTrigger):
            settings, start = dataclasses.replace(settings, **_STARTED), found.patch
    best = strongest(searched.classes)
    if best.hits < VALID_HITS / 2:  # nothing whose distribution could be modelled
        return _judged(subject, searched, best.trigger)
    success = Success(subject.task, subject.benign, torch.tensor([best.number]))
    modelled = search_distribution(subject.victim, success, settings, start, **subject.common)
    searched = dataclasses.replace(searched, modelled=modelled)
    return _judged(subject, searched, modelled.distribution)


def _points(subject: Subject) -> Examined:
    if subject.task.is_regression:
        raise InputError("the method points is for classifiers; use auto or mesa for regression")
    searched = _searched_classes(subject)
    return _judged(subject, searched, strongest(searched.classes).trigger)


def _searched_classes(subject: Subject) -> Searched:
    settings = ClassSettings(size=subject.trigger_size)
    return Searched(classes=_class_patches(subject, settings), steps=settings.steps)


def _judged(subject: Subject, searched: Searched, trigger: nn.Module) -> Examined:
    """The verdict on a classifier by what was found for its classes."""
    verdict = judge_classes(searched.classes, searched.modelled, subject.task.output_names)
    return Examined(verdict, _untraced(subject, trigger), searched)


# Fewer and larger steps than Neural Cleanse's own: enough to tell the classes' masks apart.
_FAST_MASKS = CleanseSettings(steps=200, images=12, learning_rate=0.2)
# From the strongest patch that was found on, a sixth of MESA's images spreads its generators.
_STARTED: dict[str, Any] = {"steps": 200, "batch_size": 64, "learning_rate": 5e-4}


def _at_place(height: int, width: int, place: tuple[int, int]) -> MesaSettings:
    """An area far larger than a small patch: opacity lets the triggers in it be of any shape."""
    return MesaSettings(
        size=(height, width),
        place=place,
        opacity=True,
        steps=250,
        batch_size=24,
        learning_rate=1e-3,
    )


def _mesa_of_regression(subject: Subject) -> Examined:
    """Where the cheapest window lies, its triggers' distribution takes the single one's place."""
    verdict, places, other_steps = _places(subject)
    best = places.candidates[0]
    settings = _at_place(best.side, best.side, (best.top, best.left))
    success = Success(subject.task, subject.benign, best.target)
    modelled = search_distribution(subject.victim, success, settings, **subject.common)
    trigger = modelled.distribution
    found = Found(trigger, _mean_response(subject, trigger), places.trace, f"{best.start}.")
    return Examined(verdict, found, Searched(places=places, modelled=modelled, steps=other_steps))


def _shift(subject: Subject) -> Examined:
    if not subject.task.is_regression:
        raise InputError("the method shift is for regression: the answers of a class do not move")
    shifted = search_shift(
        subject.victim, subject.task, subject.benign, ShiftSettings(), **subject.common
    )
    best = shifted.candidates[0]
    found = Found(best.trigger, best.shift, shifted.trace)
    return Examined(judge_shift(shifted), found, Searched(steps=shifted.steps - len(shifted.trace)))


def _neural_cleanse(subject: Subject) -> Examined:
    settings = CleanseSettings()
    found, trace = search_cleanse(
        subject.victim, subject.task, subject.benign, settings, **subject.common
    )
    verdict, best = judge_cleanse(found, subject.task.output_names)
    searched = Searched(masks=found, steps=len(trace))
    if best.target is None:  # the trace follows a target vector
        return Examined(verdict, _untraced(subject, best.trigger), searched)
    return Examined(verdict, Found(best.trigger, best.target, trace), searched)


def _feature_re(subject: Subject) -> Examined:
    settings = FeatureSettings()
    found, trace = search_features(
        subject.victim, subject.task, subject.benign, settings, **subject.common
    )
    verdict, best = judge_features(found, subject.task.output_names)
    steps = settings.steps * len(found)
    return Examined(verdict, Found(best.trigger, best.target, trace), Searched(steps=steps))


def _untraced(subject: Subject, trigger: nn.Module) -> Found:
    """A class's trigger: its search has a trace, but of no target vector."""
    return Found(trigger, _mean_response(subject, trigger), [])


@torch.no_grad()
def _mean_response(subject: Subject, trigger: nn.Module) -> torch.Tensor:
    answers = [
        respond(subject.victim, subject.task, subject.benign, trigger(chunk)).standardised
        for chunk in subject.benign.images.split(64)
    ]
    return torch.cat(answers).mean(0)


METHODS: dict[MethodName, Method] = {
    "auto": Method(
        "many small windows and whole-image patterns, each sent to several targets; for "
        "classifiers the smallest mask and a small patch for every class instead of windows: the "
        "model is its own null",
        "clean images; labels only for the clean error",
        _auto,
    ),
    "drmguard": Method(
        "DRMGuard's generator (Eq. 5, 7) and its fixed threshold; --recipe paper or fast",
        "clean images, and for the angle term a last linear layer",
        _drmguard,
    ),
    "mesa": Method(
        "MESA: for classifiers every class is tried, then the distribution of triggers of the most "
        "suspicious one is modelled; for regression that of the cheapest window",
        "clean images; for classifiers the size of the triggers (3×3), or --fixed-place",
        _mesa,
    ),
    "points": Method(
        "MESA's baseline for classifiers: of every class the one strongest patch, by gradient "
        "descent on its pixels",
        "clean images and the size of the triggers (3×3)",
        _points,
    ),
    "shift": Method(
        "offset attacks on regression: windows that move all answers by the same vector, which no "
        "other method looks for",
        "clean images; two outputs or more",
        _shift,
    ),
    "neural-cleanse": Method(
        "Neural Cleanse: the smallest mask and pattern for every class, or for one target vector "
        "(Eq. 8), which has no threshold and decides nothing",
        "clean images",
        _neural_cleanse,
    ),
    "feature-re": Method(
        "FeatureRE: a trigger in feature space for every class, or for one target vector (Eq. 9); "
        "it has no threshold and decides nothing",
        "clean images and a last linear layer",
        _feature_re,
    ),
}
