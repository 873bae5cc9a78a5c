"""What a scan's searches found, and how the report holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from drmguard.calibration import Calibration
from drmguard.report.schema import (
    CalibrationPart,
    CandidatePart,
    ClassPart,
    ComparedPart,
    DistributionPart,
    GeneratorPart,
    HeatMapPart,
    LevelPart,
    MaskPart,
    SpreadPart,
)
from drmguard.search.classes import ClassTrigger
from drmguard.search.drmguard import EPSILON, GeneratorResult
from drmguard.search.heat_map import HeatMap
from drmguard.search.mesa import MesaResult
from drmguard.search.neural_cleanse import Cleansed
from drmguard.search.places import Candidate, PlaceResult
from drmguard.search.target_search import SpreadCandidate
from drmguard.verdict import spread_score, spread_suspicion


@dataclass(frozen=True)
class Searched:
    """What the searches of one scan gave; ``steps`` are those not in a trace here."""

    generated: GeneratorResult | None = None
    places: PlaceResult | None = None
    spread: Sequence[SpreadCandidate] = ()
    classes: Sequence[ClassTrigger] = ()
    masks: Sequence[Cleansed] = ()
    modelled: MesaResult | None = None
    heat: HeatMap | None = None
    steps: int = 0


@dataclass(frozen=True)
class Found:
    """The trigger that a verdict speaks of.

    Attributes:
        trigger: images to images.
        reverse: row numbers of the clean images to stamped images, where the trigger alone does
            not make them (Eq. 7's attention protects pixels).
        target: mean response with it, standardised (d,).
        trace: a row of figures a step, under names that begin with ``prefix``.
    """

    trigger: nn.Module
    target: Tensor
    trace: list[dict[str, float]]
    prefix: str = ""
    reverse: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def at_place(cls, places: PlaceResult) -> Found:
        """The cheapest of the windows' triggers."""
        best = places.candidates[0]
        return cls(best.trigger, best.target, places.trace, f"{best.start}.")

    @classmethod
    def generated(cls, result: GeneratorResult) -> Found:
        """The generator, with the attended pixels protected."""
        return cls(result.generator, result.target, result.trace, reverse=result.reverse)


def numbers(values: Tensor) -> tuple[float, ...]:
    """Values (d,) rounded to six digits, as the report holds them."""
    return tuple(float(f"{value:.6g}") for value in values.tolist())


def calibration_part(calibration: Calibration | None) -> CalibrationPart | None:
    """The verdict's p-value for the report."""
    if calibration is None:
        return None
    usual = calibration.null.usual
    return CalibrationPart(
        alpha=calibration.alpha,
        p_value=calibration.p_value,
        standing=calibration.standing,
        reference_suspicions=calibration.null.suspicions,
        source=calibration.null.source,
        searches={}
        if usual is None
        else {
            search: ComparedPart(
                suspicion=suspicion,
                usual=usual.middle(search),
                deviations=usual.deviation(search, suspicion),
            )
            for search, suspicion in calibration.suspicions.items()
            if suspicion is not None and search in usual.means
        },
    )


def spread_part(candidate: SpreadCandidate) -> SpreadPart:
    """One family's candidate for the report."""
    return SpreadPart(
        family=candidate.family,
        budget=candidate.budget,
        score=spread_score(candidate),
        suspicion=spread_suspicion(candidate),
        contrast=candidate.contrast,
        left=candidate.left,
        variance_ratio=candidate.variance_ratio,
        switch_ratio=candidate.switch_ratio,
        settled_contrast=candidate.settled_contrast,
        aside=candidate.aside,
        beside=candidate.beside,
        perturbation=candidate.perturbation,
        standardised_target=numbers(candidate.target),
    )


def generator_part(result: GeneratorResult) -> GeneratorPart:
    """DRMGuard's generator for the report."""
    return GeneratorPart(
        relative_perturbation=result.relative_perturbation,
        epsilon=EPSILON,
        objective=result.objective,
        variance_ratio=result.variance_ratio,
        rav=result.rav,
        steps=len(result.trace),
    )


def distribution_part(searched: Searched) -> DistributionPart | None:
    """MESA's levels for the report."""
    modelled = searched.modelled
    if modelled is None:
        return None
    return DistributionPart(
        hits=modelled.hits,
        weights=numbers(modelled.distribution.weights),
        levels=tuple(LevelPart(**vars(level)) for level in modelled.levels),
    )


def heat_map_part(searched: Searched, names: Sequence[str]) -> HeatMapPart | None:
    """Where a window sends the images to one class, for the report."""
    heat = searched.heat
    if heat is None:
        return None
    top, left, height, width = heat.extent
    return HeatMapPart(
        name=names[heat.number],
        top=top,
        left=left,
        height=height,
        width=width,
        hottest=float(heat.heat.max()),
        coldest=float(heat.heat.min()),
    )


def class_parts(searched: Searched, names: Sequence[str]) -> tuple[ClassPart, ...]:
    """What every class of a classifier showed, for the report."""
    return tuple(ClassPart(name=names[c.number], hits=c.hits) for c in searched.classes)


def mask_parts(searched: Searched, names: Sequence[str]) -> tuple[MaskPart, ...]:
    """The smallest mask of every class of a classifier, for the report."""
    return tuple(
        MaskPart(name=names[c.number], share=c.share, reached=c.reached)
        for c in searched.masks
        if c.target is None
    )


def candidate_parts(candidates: Sequence[Candidate]) -> tuple[CandidatePart, ...]:
    """The windows' candidates for the report."""
    return tuple(
        CandidatePart(
            top=c.top,
            left=c.left,
            side=c.side,
            perturbation=c.perturbation,
            effort=c.effort,
            variance_ratio=c.variance_ratio,
            switch_ratio=c.switch_ratio,
            rav=c.rav,
            reached=c.reached,
            standardised_target=numbers(c.target),
        )
        for c in candidates
    )
