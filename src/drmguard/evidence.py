"""What a scan's searches found, and how the report holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from drmguard.report.schema import CandidatePart, SpreadPart
from drmguard.search.drmguard import GeneratorResult
from drmguard.search.places import Candidate, PlaceResult
from drmguard.search.spread import SpreadCandidate


@dataclass(frozen=True)
class Searched:
    """What the searches of one scan gave."""

    generated: GeneratorResult
    places: PlaceResult | None = None
    spread: Sequence[SpreadCandidate] = ()


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


def spread_part(candidate: SpreadCandidate) -> SpreadPart:
    """One budget's candidate for the report."""
    return SpreadPart(
        budget=candidate.budget,
        score=candidate.score,
        contrast=candidate.contrast,
        left=candidate.left,
        variance_ratio=candidate.variance_ratio,
        perturbation=candidate.perturbation,
        standardised_target=numbers(candidate.target),
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
            rav=c.rav,
            reached=c.reached,
            standardised_target=numbers(c.target),
        )
        for c in candidates
    )
