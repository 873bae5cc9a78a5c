"""The report's plots, as SVG text that needs nothing from the network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from drmguard.report.report import Pictures
from drmguard.report.schema import ClassPart, HeatMapPart, MaskPart, ReportContent
from drmguard.tasks import Task

_CLEAN, _TRIGGER = "#3566a8", "#c0392b"
_LEGEND_OUTPUTS = 4
Limits = Sequence[NDArray[np.float32]] | None


def style() -> AbstractContextManager[None]:
    """Settings under which all plots are drawn.

    Ids from a fixed salt and no date: the same report gives the same bytes.  Text is drawn as
    shapes and never read as formulas, since names come from the user's files.
    """
    return mpl.rc_context(
        {"svg.hashsalt": "drmguard", "svg.fonttype": "path", "text.parse_math": False}
    )


def svg_of(figure: Figure) -> str:
    """The figure as an ``<svg>`` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def axes_of(width: float = 5.0, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one plain pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(
        frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0
    )


def target_trace(content: ReportContent, pictures: Pictures) -> str:
    """Estimated target and variance left over the steps of the search (Fig. 4 of the paper)."""
    figure, axes = axes_of()
    steps = np.arange(1, len(pictures.target_trace) + 1)
    for j, values in enumerate(pictures.target_trace.T[:_LEGEND_OUTPUTS]):
        axes.plot(steps, values, label=content.target.names[j])
    axes.plot(steps, pictures.collapse_trace, color="grey", ls=":", label="variance left")
    axes.set(xlabel="step", ylabel="clean standard deviations")
    _legend(axes)
    return svg_of(figure)


def outputs(
    task: Task, before: NDArray[np.float32], after: NDArray[np.float32], like: Limits = None
) -> str:
    """Outputs (n, d) on clean images and on the same images with the reversed trigger.

    ``like`` gives outputs whose range the axes take, so that two plots can be compared.
    """
    figure, axes = axes_of()
    unit = f" [{task.output_unit}]" if task.output_unit else ""
    names = task.output_names
    drawn = np.concatenate([before, after] if like is None else [before, after, *like])
    if not task.is_regression:
        _class_bars(axes, before, after, names)
    elif len(names) == 1:
        bins = np.histogram_bin_edges(drawn, 40).tolist()
        axes.hist(before[:, 0], bins, color=_CLEAN, alpha=0.7, label="clean")
        axes.hist(after[:, 0], bins, color=_TRIGGER, alpha=0.7, label="with the trigger")
        axes.set(xlabel=names[0] + unit, ylabel="images")
    else:
        axes.scatter(before[:, 0], before[:, 1], s=9, color=_CLEAN, alpha=0.6, label="clean")
        axes.scatter(
            after[:, 0], after[:, 1], s=9, color=_TRIGGER, alpha=0.6, label="with the trigger"
        )
        low, high = drawn.min(0), drawn.max(0)
        margin = 0.05 * (high - low) + 1e-9
        axes.set(
            xlabel=names[0] + unit,
            ylabel=names[1] + unit,
            xlim=(low[0] - margin[0], high[0] + margin[0]),
            ylim=(low[1] - margin[1], high[1] + margin[1]),
        )
    _legend(axes)
    return svg_of(figure)


def _class_bars(
    axes: Axes, before: NDArray[np.float32], after: NDArray[np.float32], names: tuple[str, ...]
) -> None:
    place = np.arange(len(names))
    for values, color, label, shift in (
        (before, _CLEAN, "clean", -0.2),
        (after, _TRIGGER, "with the trigger", 0.2),
    ):
        counts = np.bincount(values.argmax(1), minlength=len(names))
        axes.bar(place + shift, counts, 0.4, color=color, label=label)
    axes.set_xticks(place, names, rotation=45, ha="right", fontsize=7)
    axes.set_ylabel("images given this class")


def efforts(content: ReportContent) -> str:
    """The effort of the best trigger beside the model's own null."""
    figure, axes = axes_of()
    places = [part.effort for part in content.places]
    targets = [part.effort for part in content.targets]
    for column, values, label in ((0, places, "by place"), (1, targets, "by target")):
        if values:
            spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
            axes.scatter(column + spread[1:], values[1:], color=_CLEAN, s=22)
            axes.scatter(column + spread[:1], values[:1], color=_TRIGGER, s=40, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.set_xticks([0, 1], ["best place and\nother places", "its target and\nother targets"])
    axes.set(ylabel="effort (mean change of a pixel)", xlim=(-0.5, 1.5))
    return svg_of(figure)


def classes(parts: Sequence[ClassPart]) -> str:
    """What the strongest patch of every class reaches."""
    hits = [part.hits for part in parts]
    return _by_class(
        [part.name for part in parts],
        hits,
        hits.index(max(hits)),
        {"ylabel": "share of other images sent there", "ylim": (0, 1)},
    )


def masks(parts: Sequence[MaskPart]) -> str:
    """How small a mask every class needs."""
    shares = [part.share for part in parts]
    names, label = [part.name for part in parts], "share of the image that the mask covers"
    return _by_class(names, shares, shares.index(min(shares)), {"ylabel": label})


def _by_class(
    names: Sequence[str], values: Sequence[float], best: int, labels: dict[str, Any]
) -> str:
    figure, axes = axes_of()
    colors = [_TRIGGER if k == best else _CLEAN for k in range(len(values))]
    axes.bar(range(len(values)), values, color=colors)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axes.set(**labels)
    return svg_of(figure)


def spread(content: ReportContent) -> str:
    """What whole-image changes leave of the way to the answer found, and to others."""
    figure, axes = axes_of()
    for place, part in enumerate(content.spread):
        jitter = np.linspace(-0.12, 0.12, len(part.left) - 1)
        axes.scatter(place + jitter, part.left[1:], color=_CLEAN, s=22)
        axes.scatter([place], part.left[:1], color=_TRIGGER, s=40)
    axes.set_yscale("log")
    names = [f"{part.family}\n±{part.budget:g}" for part in content.spread]
    axes.set_xticks(range(len(names)), names)
    axes.set(
        xlabel="largest change of a pixel; blend: α; patch: side; warp: shift; sparse: opacity",
        ylabel="left of the way (squared)",
        xlim=(-0.5, len(content.spread) - 0.5),
    )
    return svg_of(figure)


def heat_map(part: HeatMapPart, pictures: Pictures) -> str:
    """How far windows over each pixel send images to the class, and the extent of what is hot."""
    figure, axes = axes_of()
    assert pictures.heat is not None
    axes.imshow(pictures.benign.mean((0, 1)), cmap="gray", vmin=0, vmax=255)
    shown = axes.imshow(pictures.heat, cmap="inferno", alpha=0.7, vmin=0, vmax=1)
    axes.add_patch(
        Rectangle(
            (part.left - 0.5, part.top - 0.5), part.width, part.height, fill=False, color="white"
        )
    )
    axes.axis("off")
    figure.colorbar(shown, ax=axes, label=f"share sent to {part.name}")
    return svg_of(figure)


def dose_response(content: ReportContent) -> str:
    """Outputs as the reversed change is scaled: a planted trigger saturates at its target."""
    figure, axes = axes_of()
    doses = [part.dose for part in content.dose_response]
    means = np.array([part.standardised_mean for part in content.dose_response])
    for j, values in enumerate(means.T[:_LEGEND_OUTPUTS]):
        axes.plot(doses, values, marker="o", ms=3, label=content.target.names[j])
    left = [part.variance_ratio for part in content.dose_response]
    axes.plot(doses, left, color="grey", ls=":", label="variance left")
    axes.set(xlabel="dose of the reversed change", ylabel="clean standard deviations")
    _legend(axes)
    return svg_of(figure)
