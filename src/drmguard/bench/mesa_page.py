"""docs/mesa.md: MESA's figures on attacked classifiers, from the results alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from drmguard.bench.cell import Model
from drmguard.bench.store import Result
from drmguard.search.mesa import MesaSettings

_INTRODUCTION = """# MESA

MESA (arXiv 1910.04749) and its extensions, measured. Written by `drmguard bench run mesa`,
`drmguard bench run zoo` (regression) and `drmguard bench tables`.

CIFAR-10 as JPEG copies: networks are trained clean and fine-tuned with a 3×3 trigger that lies
elsewhere in every image, on a share of the images and for a number of steps that
`src/drmguard/bench/suites/mesa.toml` says (published: 1 %, ten epochs). Each is scanned with
`--method mesa` and repaired by unlearning what the scan found: triggers of one level β, of all
levels (*ensemble*), or, as the baseline, the one strongest patch of a search on pixels (`--method
points`). *Success* is the share of test images of other classes that the true trigger sends to its
class; *clean network* is that share of the network from which the fine-tuning started, which never
saw the trigger but takes some images for that class anyway. The paper's figures: 92.3 to 99.8 %
before, 1.2 to 5.9 % after. Black-and-white 16 and 186, marked by a star, are what the repair's
settings were chosen on ([repair](repair.md)); means and extremes leave them out. The network of
seed 30 was trained three times as long as that of seed 20, on images that are moved and mirrored.
Those of seed 20 were trained twice by the same recipe, on two processors, which gives other
weights: the ensemble's figures of its black-and-white patterns, and of 186 the point search's, are
of the first training, all others of the second.
"""
_CHOSEN_ON = ("black-and-white 16", "black-and-white 186")
_FIXED = """## A trigger with a place of its own

Sunglasses, scanned with `--fixed-place`. *Overlap* is the intersection over union of the heat map's
hotter half and the pixels that the true trigger changes; *pattern* is the success of the triggers
that are then modelled in its extent, on other classes.
"""
_REGRESSION = """## Regression

Steering models of [the zoo](zoo.md), repaired with the distribution of triggers that
`--method mesa` modelled at the cheapest window, and with the one trigger of the default scan. AE is
the error to the attacker's target (to be large), DAE that to the correct label under the true
trigger and RE that on clean images (to be small).
"""


def mesa_page(done: Sequence[Result], docs: Path) -> str:
    """The page, from all results; empty where there are no scans of MESA's."""
    scans = [r for r in done if r.cell.work == "scan" and r.cell.method == "mesa"]
    repairs = [r for r in done if r.cell.work == "repair" and r.cell.method == "unlearning"]
    of_classes = [r for r in scans if r.cell.model.data.task == "classification"]
    fixed = [r for r in of_classes if r.cell.settings.get("fixed_place")]
    moving = [r for r in of_classes if r not in fixed]
    if not scans:
        return ""
    text = [_INTRODUCTION, *_repairs([r for r in repairs if _moving(r)]), *_verdicts(moving)]
    text += _fixed_places(fixed, repairs)
    text += _of_regression([r for r in scans if r not in of_classes], repairs)
    pictures = sorted((docs / "mesa").glob("*.png"))
    if pictures:
        text.append(
            "## Pictures\n\nLeft the true trigger, then a row of samples for every level β; right "
            "the samples' two main directions, coloured by success. Written by `drmguard bench "
            "pictures --suite mesa`.\n"
        )
    text += [f"![{path.stem}](mesa/{path.name})\n" for path in pictures]
    return "\n".join(text).rstrip() + "\n"


def _moving(result: Result) -> bool:
    """Whether a repair is one of a classifier's small patch that lies elsewhere in every image."""
    cell = result.cell
    moving = "scan" in cell.settings and "fixed_place" not in cell.settings
    return moving and cell.model.data.task == "classification"


def _fixed_places(scans: Sequence[Result], repairs: Sequence[Result]) -> list[str]:
    """Heat maps beside the true trigger."""
    rows = []
    for scan in sorted(scans, key=lambda r: sorted(r.cell.model.arguments.items())):
        model, measured = scan.cell.model, scan.measured
        after = next((r for r in repairs if r.cell.scan() == scan.cell), None)
        cells = [
            *(model.attack or "clean", str(model.seed), measured["decision"]),
            f"{_found_class(scan)} of {model.data.target[0]:g}",
            _percent(measured.get("trigger_share")),
            {True: "yes", False: "no", None: "–"}[measured.get("peak_on_trigger")],
            "–" if measured.get("iou") is None else f"{measured['iou']:.2f}",
            _percent(measured.get("hits")),
            *(_from_to(after, "AE"), _from_to(after, "RE")),
            "–" if scan.seconds is None else f"{scan.seconds:.0f}",
        ]
        rows.append(_row(cells))
    heads = (
        *("trigger", "seed", "verdict", "class found", "share of the image", "peak on the trigger"),
        *("overlap", "pattern", "success before → after", "clean accuracy before → after"),
        "seconds",
    )
    return [_FIXED, *_head(heads), *rows, ""] if rows else []


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _from_to(repair: Result | None, name: str) -> str:
    if repair is None:
        return "–"
    before, after = (1 - repair.measured[f"{name}.{when}"] for when in ("before", "after"))
    return f"{before:.1%} → {after:.1%}"


def _of_regression(scans: Sequence[Result], repairs: Sequence[Result]) -> list[str]:
    """Unlearning a distribution beside unlearning one trigger, on the same models."""
    rows = []
    for scan in sorted(scans, key=lambda r: (r.cell.model.attack or "", r.cell.model.seed)):
        model = scan.cell.model
        own = [r for r in repairs if r.cell.model == model and "share" not in r.cell.settings]
        by_mesa = next((r for r in own if r.cell.settings.get("scan") == "mesa"), None)
        by_one = next((r for r in own if "scan" not in r.cell.settings), None)
        before = by_mesa or by_one
        cells = [
            *(model.attack or "clean", str(model.seed), scan.measured["decision"]),
            _percent(scan.measured.get("hits")),
            *(_errors(before, "before"), _errors(by_mesa, "after"), _errors(by_one, "after")),
        ]
        rows.append(_row(cells))
    figures = ("before: RE, AE, DAE", "MESA: RE, AE, DAE", "one trigger: RE, AE, DAE")
    heads = ("attack", "seed", "verdict", "hits", *figures)
    return [_REGRESSION, *_head(heads), *rows, ""] if rows else []


def _errors(repair: Result | None, when: str) -> str:
    if repair is None:
        return "–"
    return ", ".join(f"{repair.measured[f'{name}.{when}']:.3g}" for name in ("RE", "AE", "DAE"))


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
    columns = [
        *("before", "clean network"),
        *(f"β = {beta:g}" for beta in MesaSettings().levels),
        *("ensemble", "point search"),
    ]
    rows: dict[str, dict[str, Result]] = {}
    for result in sorted(results, key=lambda r: _order(r.cell.model)):
        rows.setdefault(result.cell.model.key, {})[_column(result)] = result
    text = [
        "## Success before and after\n",
        *_head(("trigger", "seed", *columns, "clean accuracy before → after")),
    ]
    values: dict[tuple[int, str], list[float]] = {}
    for found in rows.values():
        model, some = (one := next(iter(found.values()))).cell.model, one.measured
        shares = {"before": 1 - some["AE.before"]}
        if "AE.clean" in some:
            shares["clean network"] = 1 - some["AE.clean"]
        shares |= {name: 1 - r.measured["AE.after"] for name, r in found.items()}
        chosen_on = pattern_name(model) in _CHOSEN_ON
        for name, value in shares.items() if not chosen_on else ():
            values.setdefault((model.seed, name), []).append(value)
        whole = found.get("ensemble")
        after = "–" if whole is None else f"{1 - whole.measured['RE.after']:.1%}"
        cells = [_percent(shares.get(name)) for name in columns]
        accuracy = f"{1 - some['RE.before']:.1%} → {after}"
        trigger = pattern_name(model) + "*" * chosen_on
        text.append(_row([trigger, str(model.seed), *cells, accuracy]))
    for seed in sorted({seed for seed, _ in values}):
        for title, of in (("mean", statistics.mean), ("largest", max), ("smallest", min)):
            own = [values.get((seed, name)) for name in columns]
            cells = [_percent(of(some)) if some else "–" for some in own]
            text.append(f"| *{title}* | {seed} | {' | '.join(cells)} | |")
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
        text.append(_row(cells))
    return [*text, ""]


def _found_class(result: Result) -> int:
    """Of the highest mean probability under the trigger that was found."""
    target = result.measured["target"]
    return max(range(len(target)), key=target.__getitem__)


def _right_class(result: Result) -> bool:
    return _found_class(result) == result.cell.model.data.target[0]
