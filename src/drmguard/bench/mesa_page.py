"""docs/mesa.md: MESA's figures on attacked classifiers, from the results alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from drmguard.bench.cell import Model
from drmguard.bench.store import Result
from drmguard.search.mesa import MesaSettings

_INTRODUCTION = """# MESA on CIFAR-10

Networks are trained clean and fine-tuned with a 3×3 trigger on 1 % of the images (arXiv 1910.04749;
the settings are those of `src/drmguard/bench/suites/mesa.toml`), each scanned with `--method mesa`
and repaired by unlearning what the scan found: triggers of one level β, of all levels (*ensemble*),
or, as the baseline, the one strongest patch of a search on pixels (`--method points`). *Success* is
the share of test images of other classes that the true trigger sends to its class. The paper's
figures: 92.3 to 99.8 % before, 1.2 to 5.9 % after. Written by `drmguard bench run mesa` and
`drmguard bench tables`.
"""


def mesa_page(done: Sequence[Result], docs: Path) -> str:
    """The page, from all results; empty where there are none of MESA's."""
    scans = [r for r in done if r.cell.work == "scan" and r.cell.method == "mesa"]
    repairs = [r for r in done if r.cell.work == "repair" and "scan" in r.cell.settings]
    if not scans:
        return ""
    text = [_INTRODUCTION, *_repairs(repairs), *_verdicts(scans)]
    pictures = sorted((docs / "mesa").glob("*.png"))
    if pictures:
        text.append(
            "## Pictures\n\nLeft the true trigger, then a row of samples for every level β; right "
            "the samples' two main directions, coloured by success. Written by `drmguard bench "
            "pictures --suite mesa`.\n"
        )
    text += [f"![{path.stem}](mesa/{path.name})\n" for path in pictures]
    return "\n".join(text).rstrip() + "\n"


def pattern_name(model: Model) -> str:
    """The attack with its pattern's number."""
    pattern = model.arguments.get("pattern")
    return f"{model.attack or 'clean'}{'' if pattern is None else f' {pattern}'}"


def _order(model: Model) -> tuple[str, int]:
    return pattern_name(model), model.seed


def _column(result: Result) -> str:
    settings = result.cell.settings
    if settings["scan"] != "mesa":
        return "point search"
    if "level" in settings:
        return f"β = {MesaSettings().levels[settings['level']]:g}"
    return "ensemble"


def _repairs(results: Sequence[Result]) -> list[str]:
    if not results:
        return []
    columns = [*(f"β = {beta:g}" for beta in MesaSettings().levels), "ensemble", "point search"]
    rows: dict[str, dict[str, Result]] = {}
    for result in sorted(results, key=lambda r: _order(r.cell.model)):
        rows.setdefault(result.cell.model.key, {})[_column(result)] = result
    text = [
        "## Success before and after\n",
        f"| trigger | seed | before | {' | '.join(columns)} | clean accuracy before → after |",
        "|---" * (len(columns) + 4) + "|",
    ]
    values: dict[str, list[float]] = {}
    for found in rows.values():
        model, some = (one := next(iter(found.values()))).cell.model, one.measured
        shares = {"before": 1 - some["AE.before"]}
        shares |= {name: 1 - r.measured["AE.after"] for name, r in found.items()}
        for name, value in shares.items():
            values.setdefault(name, []).append(value)
        whole = found.get("ensemble")
        after = "–" if whole is None else f"{1 - whole.measured['RE.after']:.1%}"
        cells = [_percent(shares.get(name)) for name in ("before", *columns)]
        accuracy = f"{1 - some['RE.before']:.1%} → {after}"
        text.append(f"| {' | '.join([pattern_name(model), str(model.seed), *cells, accuracy])} |")
    for title, of in (("mean", statistics.mean), ("largest", max), ("smallest", min)):
        cells = [
            _percent(of(values[name])) if name in values else "–" for name in ("before", *columns)
        ]
        text.append(f"| *{title}* | | {' | '.join(cells)} | |")
    return [*text, ""]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _verdicts(scans: Sequence[Result]) -> list[str]:
    attacked = [r for r in scans if r.cell.model.attack is not None]
    clean = [r for r in scans if r.cell.model.attack is None]
    found = sum(r.measured["decision"] == "backdoored" and _right_class(r) for r in attacked)
    cleared = sum(r.measured["decision"] == "clean" for r in clean)
    text = [
        "## Which class\n",
        f"Backdoored, and the true class found: {found} of {len(attacked)} attacked networks. "
        f"Called clean: {cleared} of {len(clean)} clean ones. The score is over its threshold.\n",
        "| network | trigger | seed | verdict | score | class found | true class | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in sorted(scans, key=lambda r: _order(r.cell.model)):
        model, measured = result.cell.model, result.measured
        right = measured["decision"] == ("clean" if model.attack is None else "backdoored")
        decision = measured["decision"] if right else f"**{measured['decision']}**"
        suspicion = measured["suspicion"]
        cells = (
            *(model.network, pattern_name(model), str(model.seed), decision),
            "–" if suspicion is None else f"{suspicion:.3g}",
            str(_found_class(result)),
            "–" if model.attack is None else f"{model.data.target[0]:g}",
            "–" if result.seconds is None else f"{result.seconds:.0f}",
        )
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _found_class(result: Result) -> int:
    """Of the highest mean probability under the trigger that was found."""
    target = result.measured["target"]
    return max(range(len(target)), key=target.__getitem__)


def _right_class(result: Result) -> bool:
    return _found_class(result) == result.cell.model.data.target[0]
