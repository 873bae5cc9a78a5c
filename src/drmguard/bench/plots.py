"""Plots of the benchmark's page, as SVG that the same results give byte for byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from drmguard.bench.statistics import roc_curve
from drmguard.bench.store import Result
from drmguard.report.plots import axes_of, style, svg_of

_CLEAN, _BACKDOORED = "#3566a8", "#c0392b"


def _scores(results: Sequence[Result]) -> dict[str, tuple[list[float], list[float]]]:
    """(backdoored, clean) scores by data; a scan without a score is left out."""
    sides: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for result in results:
        score = result.measured["suspicion"]
        if score is not None:
            sides[result.cell.model.data.name][result.cell.model.attack is None].append(score)
    return dict(sorted(sides.items()))


def score_plot(results: Sequence[Result]) -> str:
    """Every scan's score over its threshold: below 1 is backdoored."""
    with style():
        figure, axes = axes_of()
        sides = _scores(results)
        for place, (backdoored, clean) in enumerate(sides.values()):
            for shift, values, color in ((-0.15, backdoored, _BACKDOORED), (0.15, clean, _CLEAN)):
                jitter = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else np.zeros(1)
                axes.scatter(place + shift + jitter[: len(values)], values, color=color, s=16)
        axes.axhline(1, color="grey", ls=":")
        axes.set_yscale("log")
        axes.set_xticks(range(len(sides)), list(sides))
        axes.set(ylabel="score over its threshold (red: backdoored models)")
        return svg_of(figure)


def roc_plot(results: Sequence[Result]) -> str:
    """ROC curves by data, where both kinds of models were scanned."""
    with style():
        figure, axes = axes_of()
        for name, (backdoored, clean) in _scores(results).items():
            if backdoored and clean:
                false, true = roc_curve([-v for v in backdoored], [-v for v in clean])
                axes.plot(false, true, label=f"{name} ({len(backdoored)} + {len(clean)})")
        axes.plot([0, 1], [0, 1], color="grey", ls=":")
        axes.set(xlabel="clean models flagged", ylabel="backdoored models flagged")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="lower right")
        return svg_of(figure)


def cost_plot(results: Sequence[Result]) -> str:
    """Mean seconds a scan against accuracy, one point a data set and method that decides."""
    kinds: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.measured.get("threshold", 1) is not None and not result.cell.settings:
            kinds[result.cell.model.data.name, str(result.cell.method)].append(result)
    with style():
        figure, axes = axes_of()
        for (data, method), some in sorted(kinds.items()):
            right = [result.right for result in some]
            seconds = [result.seconds for result in some if result.seconds is not None]
            if seconds:
                place = (float(np.mean(seconds)), float(np.mean(right)))
                axes.scatter(*place, s=16, label=f"{data}, {method} ({len(some)})")
        axes.set_xscale("log")
        axes.set(xlabel="seconds a scan on one core", ylabel="accuracy", ylim=(-0.05, 1.05))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)
        return svg_of(figure)
