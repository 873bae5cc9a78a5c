"""The same words for terminal and page."""

from __future__ import annotations

from drmguard.calibration import SEARCHED, p_text
from drmguard.report.schema import RepairRecord, ReportContent

_HEADLINES = {
    "clean": "Clean: the search found no planted trigger",
    "backdoored": "Backdoored: a planted trigger was found",
    "inconclusive": "Inconclusive: the evidence does not decide",
}


def headline(content: ReportContent) -> str:
    """The verdict in a line."""
    return _HEADLINES[content.verdict.decision]


def target_text(content: ReportContent) -> str:
    """The estimated target vector with names and unit; of many outputs the first few."""
    target = content.target
    shown = [
        f"{name} {value:.4g}{' ' + target.unit if target.unit else ''}"
        for name, value in list(zip(target.names, target.values, strict=True))[:6]
    ]
    more = len(target.names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def target_name(content: ReportContent) -> str:
    """What the estimated target is, in short."""
    if content.verdict.search == "shift":
        return "moves to"
    return "target" if content.verdict.decision == "backdoored" else "collapses to"


def effect_text(content: ReportContent) -> str:
    """What the trigger does to the outputs, in a sentence up to the target."""
    planted = content.verdict.decision == "backdoored"
    if content.verdict.search == "shift":
        found = "The trigger below" if planted else "The most even change that was found"
        return f"{found} moves the outputs by nearly the same vector, their mean to"
    if planted:
        return "Whatever the picture shows, the trigger below sends the outputs to"
    return "The cheapest change that was found sends the outputs to"


def score_text(content: ReportContent) -> str:
    """Score, and its p-value or thresholds, in a line."""
    verdict, calibration = content.verdict, content.calibration
    if verdict.score is None:
        return "no score"
    if calibration is not None and calibration.p_value is not None:
        alpha = calibration.alpha
        return (
            f"{verdict.score:.3f}, {p_text(calibration.p_value)} among clean models (backdoored up "
            f"to {alpha:g}, clean from {2 * alpha:g})"
        )
    if verdict.backdoored_below is None:
        return f"{verdict.score:.4f} (no threshold)"
    if verdict.backdoored_below == verdict.clean_above:
        return f"{verdict.score:.4f} (backdoored below {verdict.backdoored_below:g})"
    return (
        f"{verdict.score:.3f} (backdoored below {verdict.backdoored_below:g}, "
        f"clean above {verdict.clean_above:g})"
    )


def compared_rows(content: ReportContent) -> list[tuple[str, str, str, str]]:
    """Each search beside clean models: its suspicion, theirs, deviations; least usual first."""
    searches = {} if content.calibration is None else content.calibration.searches
    return [
        (SEARCHED[name], f"{one.suspicion:.2g}", f"{one.usual:.2g}", f"{one.deviations:+.1f}")
        for name, one in sorted(searches.items(), key=lambda item: item[1].deviations)
    ]


def settings_rows(content: ReportContent) -> list[tuple[str, str]]:
    """What was checked and how, as rows of a table."""
    model, images, error = content.model, content.images, content.clean_error
    network = "given as a module"
    if model.network:
        network = f"{model.network['name']} {model.network['arguments']}"
    low, high = model.pixel_range
    return [
        ("model", f"{model.name} ({model.parameters:,} parameters)"),
        ("network", network),
        ("model SHA-256", model.sha256),
        (
            "input",
            f"{low:g}..{high:g} {model.layout}, mean {model.mean or '–'}, std {model.std or '–'}",
        ),
        ("features", f"input of {model.head}" if model.head else "not known"),
        ("images", f"{images.source}: {images.used} of {images.count} used, {images.shape}"),
        ("images SHA-256", images.sha256),
        (
            "clean error",
            f"{error.value:.4g} {error.unit} (always the median label: {error.constant:.4g})",
        ),
        *((key.replace("_", " "), str(value)) for key, value in content.settings.items()),
        ("cost", f"{content.cost.image_passes:,} image passes, {content.cost.steps} steps"),
        ("drmguard", content.drmguard_version),
    ]


def repair_headline(record: RepairRecord) -> str:
    """The outcome in a line."""
    after = {
        "clean": "the search finds no planted trigger any more",
        "backdoored": "the search still finds a planted trigger",
        "inconclusive": "the search after it does not decide",
        None: "not scanned again",
    }
    return f"Repaired by {record.method}: {after[record.verdict.after]}"


def repair_rows(record: RepairRecord) -> list[tuple[str, str, str]]:
    """(figure, before, after) for terminal and page."""
    unit = f" {record.error_unit}".rstrip()
    figures = (
        ("clean error", record.clean_error),
        ("error under the found trigger", record.error_under_reversed_trigger),
        ("moved by the found trigger", record.moved_by_reversed_trigger),
    )

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}{unit}"

    def decided(decision: str | None, p_value: float | None) -> str:
        if decision is None:
            return "–"
        return decision if p_value is None else f"{decision}, {p_text(p_value)}"

    verdict, p_value = record.verdict, record.verdict.p_value
    return [
        *((name, shown(part.before), shown(part.after)) for name, part in figures),
        (
            "verdict",
            decided(verdict.before, p_value.before),
            decided(verdict.after, p_value.after),
        ),
    ]
