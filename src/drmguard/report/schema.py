"""The report's content: what ``report.json`` holds, versioned (see docs/report.md).

Everything here is the same for the same model, images, settings and seed on one machine; what
differs from run to run (seconds, memory, date) is in :class:`RunRecord`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 3
REPAIR_SCHEMA_VERSION = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VerdictPart(_Part):
    """The decision with its score, thresholds and reasons, and the search that it speaks of.

    ``suspicion`` is the score over its threshold, ``suspicions`` those of all searches combined.
    """

    search: Literal["places", "spread", "generator", "classes", "masks", "features", "shift"]
    decision: Literal["clean", "backdoored", "inconclusive"]
    score: float | None
    backdoored_below: float | None
    clean_above: float | None
    threshold_source: str
    reasons: tuple[str, ...]
    suspicion: float | None
    suspicions: dict[str, float | None]


class ComparedPart(_Part):
    """A search's suspicion beside those that it gives for clean models.

    ``usual`` is their geometric mean, ``deviations`` how many standard deviations of their
    logarithms the suspicion lies above that: below it, it is negative.
    """

    suspicion: float
    usual: float
    deviations: float


class CalibrationPart(_Part):
    """The p-value of the verdict under what clean models give.

    ``standing`` is what was compared with them: the suspicion, or of the default search on
    regression models that of its least usual search, relative to what clean models give there.
    """

    alpha: float
    p_value: float | None
    standing: float | None
    reference_suspicions: tuple[float, ...]
    source: str
    searches: dict[str, ComparedPart]


class TargetPart(_Part):
    """Where the cheapest trigger sends the outputs: the target vector if one is planted."""

    names: tuple[str, ...]
    unit: str
    values: tuple[float, ...]
    standardised: tuple[float, ...]


class ModelPart(_Part):
    """The model that was scanned."""

    name: str
    sha256: str
    network: dict[str, Any]
    parameters: int
    pixel_range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str
    head: str | None


class ImagesPart(_Part):
    """The clean images that were used."""

    source: str
    sha256: str
    count: int
    used: int
    shape: tuple[int, int, int]


class CleanErrorPart(_Part):
    """The model's error on the clean images, beside that of always giving the median label."""

    value: float
    constant: float
    unit: str


class CandidatePart(_Part):
    """The smallest trigger found from one start."""

    top: int
    left: int
    side: int
    perturbation: float
    effort: float
    variance_ratio: float
    switch_ratio: float | None = None
    rav: float | None
    reached: bool
    standardised_target: tuple[float, ...]


class SpreadPart(_Part):
    """A change of the whole image of one family, compared with other targets."""

    family: Literal["blend", "conditional", "settled", "wave", "warp", "patch", "sparse"]
    budget: float
    score: float
    suspicion: float
    contrast: float
    left: tuple[float, ...]
    variance_ratio: float
    switch_ratio: float | None = None
    settled_contrast: float | None = None
    aside: float = 1.0
    beside: float | None = None
    perturbation: float
    standardised_target: tuple[float, ...]


class GeneratorPart(_Part):
    """DRMGuard's generator, by the paper's own measure."""

    relative_perturbation: float
    epsilon: float
    objective: float
    variance_ratio: float
    rav: float | None
    steps: int


class ClassPart(_Part):
    """Share of the clean images of other classes that the strongest patch sends to a class."""

    name: str
    hits: float


class MaskPart(_Part):
    """The share of the image that the smallest mask for a class covers, if one reached it."""

    name: str
    share: float
    reached: bool


class LevelPart(_Part):
    """One level of MESA's staircase: success asked for and reached, entropy in nats."""

    beta: float
    success: float
    hits: float
    entropy: float


class DistributionPart(_Part):
    """MESA: the distribution of valid triggers."""

    hits: float
    weights: tuple[float, ...]
    levels: tuple[LevelPart, ...]


class HeatMapPart(_Part):
    """Where a window sends images to a class: the extent in pixels, and the shares sent there."""

    name: str
    top: int
    left: int
    height: int
    width: int
    hottest: float
    coldest: float


class DosePart(_Part):
    """Response to the reversed change scaled by a dose."""

    dose: float
    standardised_mean: tuple[float, ...]
    variance_ratio: float


class CostPart(_Part):
    """Work done: optimiser steps, and images that went through the model."""

    steps: int
    image_passes: int


class ReportContent(_Part):
    """``report.json``."""

    schema_version: int = SCHEMA_VERSION
    drmguard_version: str
    verdict: VerdictPart
    calibration: CalibrationPart | None
    target: TargetPart
    task: dict[str, Any]
    model: ModelPart
    images: ImagesPart
    clean_error: CleanErrorPart
    settings: dict[str, Any]
    places: tuple[CandidatePart, ...]
    targets: tuple[CandidatePart, ...]
    spread: tuple[SpreadPart, ...]
    generator: GeneratorPart | None
    classes: tuple[ClassPart, ...]
    masks: tuple[MaskPart, ...]
    distribution: DistributionPart | None
    heat_map: HeatMapPart | None
    dose_response: tuple[DosePart, ...]
    cost: CostPart
    warnings: tuple[str, ...]


class RunRecord(_Part):
    """``run.json``: what differs between two runs that give the same report."""

    started: str
    seconds: float
    peak_memory_mib: float
    threads: int
    device: str
    machine: str
    versions: dict[str, str]


class BeforeAfter(_Part):
    """A figure of the model as given and of the repaired one; None where it was not measured."""

    before: float | None
    after: float | None


class VerdictsPart(_Part):
    """What the scans said, with the p-values that they said it by; None where none was made."""

    before: str | None
    after: str | None
    p_value: BeforeAfter


class RepairRecord(_Part):
    """What ``*.repair.json`` holds; errors are means over clean images held out from the repair."""

    schema_version: int = REPAIR_SCHEMA_VERSION
    drmguard_version: str
    method: str
    model: str
    model_sha256: str
    images: str
    images_used: int
    error_unit: str
    clean_error: BeforeAfter
    clean_loss: float | None
    error_under_reversed_trigger: BeforeAfter
    moved_by_reversed_trigger: BeforeAfter
    verdict: VerdictsPart
    kept: str
