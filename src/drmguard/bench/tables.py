"""docs/benchmark.md with its plots and the other generated pages, from results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from drmguard.atomic import write_text
from drmguard.bench.cell import Cell, Work
from drmguard.bench.mesa_page import mesa_page
from drmguard.bench.published import reported
from drmguard.bench.published_page import published_sections
from drmguard.bench.repair_page import repair_page
from drmguard.bench.result_groups import (
    ATTACKS,
    SEARCHES,
    grouped,
    in_digits,
    mean_of,
    ordered,
    part_scores,
    settings_of,
    subject_of,
    title_of,
)
from drmguard.bench.search_ablation import search_ablation
from drmguard.bench.store import Result
from drmguard.bench.suite import Suite
from drmguard.calibration import SEARCHED

_INTRODUCTION = """# Benchmark

Each published table of DRMGuard (arXiv 2411.04811) beside our own measurement. The published
figures belong to 224×224 images of real faces and 10 + 10 models a cell; ours to the data named
with each table, with quarter-width networks, on processors: the pattern can be compared, the
figures cannot. Figures are means over the models whose number stands in column *n*; intervals
are 95 %. Written by `drmguard bench tables`; nothing here is typed by hand.
"""


_PUBLISHED = """Ours: a mean with half of its 95 % interval and, in brackets, the number of models;
accuracies with their Wilson interval and areas with their bootstrap interval, and the number of
backdoored + clean models. An inconclusive verdict counts as wrong. A dash: not measured. Errors in
degrees, of steering in its own unit (−1 to 1). Methods: *paper* is DRMGuard in the paper's recipe,
*drmguard* the same search in a fast one, *auto* drmguard's default.
"""

_PLOTTED = """Scores of the method *auto* over their thresholds, one point a scan (below 1 is
backdoored); its ROC curves; and of every method that decides its mean seconds a scan beside its
accuracy over all models that it scanned.
"""

_ATTACKS_INTRODUCTION = """# Attacks

What each attack does, and how well it takes: means over *n* models, measured on the held-out 10 %.
Published figures are those of MPIIFaceGaze at 224×224 (Tables 1, 10, 14, 15; degrees): other data
and another size, so only the pattern can be compared. AE is the error to the attacker's target
(for offset, to the clean output plus the shift), RE the error on clean images, DAE the error to
the correct label under the trigger, RAV and RNV the ratios of angle and norm variance. Of two
backdoors in one model the figures are those of the worse-taking one. Below each table stand the
commands that train its models; `clean.safetensors` is the first one's. Written by `drmguard bench
run small` and `drmguard bench tables`.
"""


_ZOO = """# The zoo

Models that differ in everything: the place, size, colour and strength of the trigger, its target
(far from the labels' mean and near it), the poisoning rate and the seed (suite `zoo`). Attacks but
Clean Label fine-tune clean models of the zoo for some hundred steps. Settings and thresholds were
chosen on the models of [development](development.md), but where the text of
[detection](detection.md) names one; what was missed among attacked models of seeds 22 to 27 had
been seen, though, when the search was last changed (patches tried all over the image, blends from
.3 on, waves tried nearly whole, weight given to switches, wider warps; scouts that meet, for head
pose's Input-Aware 26). No choice was made on those of seed 28. Many were trained again on other
processors, which gives other weights. Scanned with the code of today: what has scores in the
columns *settled* and (of more than one output) *sparse*, that is the attacked models of seeds 22
to 24, all clean ones, gaze's BadNets 25, 27 and 28, Blend 25 and WaNet 25 and 26, head pose's SIG,
Blend and WaNet 25 and Input-Aware 26, and on steering all but Clean Label, WaNet and Input-Aware
of seeds 25 and 26. Sparse changes were searched by themselves for the clean models of gaze and, of
gaze's seeds 22 to 24, for Blend, SIG and Input-Aware, on the same weights. Blends 26 and 27 on
steering had been lost by settling, which led to the weight that it has now. Steering's Blend 25
was found (p .006) until it was trained once more. Answers in doubt are compared with those
beside them in scans of steering's attacked models of
seeds 22 to 24 and its Blends 25 to 27 and LOOKED; others where there is such doubt under the nulls
of today (all of them called backdoored already) are not. Of the rest, scanned with scouts that
meet: head pose's Input-Aware 25, BadNets and Blend 27, and gaze's SIG 25 and 26; but gaze's
BadNets 26 did not take when it was trained again (AE 29.6°; called clean), and its row is of
before. What is left was scanned before warps of up to .09 of the side were searched, and gaze's
BadNets 26, SIG 27 and Blends 26 and 27 and head pose's SIG 26 and 27 before switches had weight.
All p-values are under the nulls of today, computed from each scan's suspicions; target errors are
those of what spoke in the scan. RE and AE are those of the models that `auto` scanned. Twenty-two
of gaze's and head pose's scans ran on a slower machine beside two or three other jobs (155 to 434
seconds), three of steering's (Blends 24 and 26, Input-Aware 24) beside two other jobs. Neural
Cleanse and FeatureRE decide nothing without a threshold: their ROC-AUC counts; on gaze Neural
Cleanse scanned BadNets 22 and SIG 22 as trained on yet another processor. On steering and gaze
there are DRMGuard's ablations (Tables 7 and 8: its weights, without RAV and without the attention
map), in its fast recipe. In the paper's own (method *paper*) two models on gaze were scanned; the
seconds of the first include two thirds of the generator's pre-training.
Written by `drmguard bench run zoo` and `drmguard bench tables`.
"""
_DEVELOPMENT = """# The models of development

What thresholds and settings were chosen on, and what is therefore no measure of them (suite
`development`). Of the clean ones blends, conditional changes and warps were searched again by
themselves when scouts came that may lead to wherever some outputs meet, blends and conditional
changes once more when these were followed until they settle (of those that steer again when that
changed what a switch counts), and those of more than one output for sparse changes, which gives
what a whole scan does (on weights that were trained again); seconds and passes are of the scans
before. Seeds 44 and 45 were trained with heavy augmentation. Of the classifiers the patch for
every class, and the squares that are tried, were searched again by themselves.
Written by `drmguard bench run development` and `drmguard bench tables`.
"""
_HARD = """# What is hard to tell

Clean models that were trained in unusual ways, triggers of four pixels, targets at the labels'
mean, several targets, an attack that knows the defence, outputs that scatter about the target or
move by an offset (which the default does not look for), other networks, and a defender with 5 or 2
% of the data (suite `hard`). The models of seed 22 that [the zoo](zoo.md) has too, and scans with
less data of all but gaze's clean one, are of before scouts could lead to wherever some outputs
meet; only those with a score in the column *settled* are of after conditional changes are followed
until they settle. That was made for the clean model on steering with heavy augmentation (seed 50),
which therefore no longer counts as one that nobody had looked at, nor does its look beside its
answer, which led to how much that may count; no choice was made on the others, those of 128×128
(*gaze-128*) among them. An attack that did not take leaves nothing to be found: its AE is near the
clean model's distance from the target. Gaze's BadNets 22 was trained again (RE 3.14°, AE .74°
until then) after it was scanned and repaired with less data. Of the classifiers those of seeds 20
to 22 led to how classes are searched and compared; nothing was chosen on the others. Seconds are
up to three times too long where two to four jobs shared two cores.
Written by `drmguard bench run hard` and `drmguard bench tables`.
"""
# Suites that repeat no setting have a page each, with every model in a row.
_PAGES = {"zoo": _ZOO, "hard": _HARD, "development": _DEVELOPMENT}


def write_tables(suites: Sequence[Suite], results: Sequence[Result], docs: Path) -> Path:
    """Write ``benchmark.md``, its plots, ``attacks.md`` and the other pages under ``docs``.

    Only results of the suites' cells are shown: what a changed setting has left behind is not.
    The same results give the same bytes.
    """
    done_of = {
        suite.name: [r for r in _of([suite], results) if r.status == "done"] for suite in suites
    }
    for name, introduction in _PAGES.items():
        if done := done_of.get(name):
            write_text(docs / f"{name}.md", _models_page(introduction, done))
    covered = _coverage(suites, results)
    if mesa := mesa_page([r for r in _of(suites, results) if r.status == "done"], docs):
        write_text(docs / "mesa.md", mesa)
    if repairs := repair_page(done_of):
        write_text(docs / "repairs.md", repairs)
    results = _of([suite for suite in suites if suite.name not in _PAGES], results)
    done = [result for result in results if result.status == "done"]
    scans = [result for result in done if result.cell.work == "scan"]
    write_text(docs / "attacks.md", _attacks_page(done, docs))
    text = [_INTRODUCTION, covered, "## The published tables\n"]
    text += [_PUBLISHED, *published_sections(done)]
    if scans:
        text += _plots(scans, docs / "benchmark")
    text += _identification_tables(scans)
    text += _parts_table(scans)
    text += _scan_table(scans)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        text.append("## Failed cells\n")
        text += [f"- `{r.cell.name}`: {_first_line(r.reason)}" for r in failed]
        text.append("")
    path = docs / "benchmark.md"
    write_text(path, "\n".join(text).rstrip() + "\n")
    return path


def _of(suites: Sequence[Suite], results: Sequence[Result]) -> list[Result]:
    keys = {cell.key for suite in suites for cell in suite.cells}
    return [result for result in results if result.cell.key in keys]


def _models_page(introduction: str, done: Sequence[Result]) -> str:
    """What each method decides, and every model with its settings."""
    scans = [r for r in done if r.cell.work == "scan"]
    text = [introduction, *_identification_tables(scans), *_p_values(scans)]
    text += [*search_ablation(scans), *_every_model(done)]
    return "\n".join(text).rstrip() + "\n"


def _p_values(scans: Sequence[Result]) -> list[str]:
    """How evenly the p-values of clean models spread."""
    from drmguard.bench.statistics import evenness

    clean = [r for r in scans if r.cell.model.attack is None and r.measured.get("p_value")]
    if not clean:
        return []
    text = [
        "## p-values of the clean models\n",
        "They should spread evenly from 0 to 1. *Even* is the p-value of a Kolmogorov–Smirnov test "
        "that they do.\n",
        "| data | n | up to .05 | up to .1 | median | even |",
        "|---|---|---|---|---|---|",
    ]
    groups = grouped(clean, lambda cell: (cell.model.data.name,))
    for name, some in [*((name, rows) for (name,), rows in sorted(groups.items())), ("all", clean)]:
        values = [r.measured["p_value"] for r in some]
        low = [str(sum(value <= bound for value in values)) for bound in (0.05, 0.1)]
        shown = [in_digits(statistics.median(values), 2), in_digits(evenness(values), 2)]
        text.append(f"| {' | '.join([name, str(len(values)), *low, *shown])} |")
    return [*text, ""]


def _every_model(done: Sequence[Result]) -> list[str]:
    """Every model: its settings, how well its attack takes, and what ``auto`` says of it."""
    verdicts: dict[str, list[Result]] = {}
    for r in sorted(done, key=lambda r: settings_of(r.cell)):
        if (r.cell.work, r.cell.method) == ("scan", "auto"):
            verdicts.setdefault(r.cell.model.key, []).append(r)
    scans = (scan for several in verdicts.values() for scan in several)
    known = {search for scan in scans for search in part_scores(scan.measured)}
    searches = [search for search in SEARCHED if search in known]
    text = [
        "## Every model\n",
        "Verdict of `auto`, and the score of each of its searches over that search's threshold; "
        "*p* is the p-value of the least usual of them, which decides. Scans without one are "
        "older.\n",
        "| data | network | attack | seed | target | rate | arguments | RE | AE | verdict | p | "
        f"{' | '.join(searches)} | target error (σ) |",
        f"|{'---|' * (12 + len(searches))}",
    ]
    rows = []
    for result in (r for r in done if r.cell.work == "train"):
        rows += [
            _model_row(result, scan, searches)
            for scan in verdicts.get(result.cell.model.key, [None])
        ]
    order = {name: number for number, name in enumerate(ATTACKS)}
    rows.sort(key=lambda row: (row[0], order.get(row[2], 99), row[3], row[1]))
    return [*text, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _model_row(trained: Result, scan: Result | None, searches: Sequence[str]) -> tuple[str, ...]:
    model, m = trained.cell.model, trained.measured
    found = scan.measured if scan else {}
    decision = found.get("decision", "–")
    wrong = decision != ("clean" if model.attack is None else "backdoored")
    # An attack's steps are the suite's; a clean model's say whether it is trained to the end.
    told = model.arguments if model.attack else model.training
    words = [f"{k} {_in_short(v)}" for k, v in sorted(told.items())]
    words += [settings_of(scan.cell)] if scan and scan.cell.settings else []
    parts = part_scores(found)
    return (
        *(model.data.name, model.network, model.attack or "clean", str(model.seed)),
        _in_short(model.target) if model.target else "",
        "" if model.poisoning_rate is None else f"{model.poisoning_rate:g}",
        *(", ".join(words), in_digits(m["RE"]), in_digits(m.get("AE"))),
        f"**{decision}**" if wrong and found else decision,
        _in_thousandths(found.get("p_value")),
        *(in_digits(parts.get(part)) for part in searches),
        in_digits(found.get("target_error_sd"), 2),
    )


def _in_thousandths(p_value: float | None) -> str:
    return "< .001" if p_value is not None and p_value < 0.001 else in_digits(p_value, 2)


def _in_short(value: Any) -> str:
    """A setting in a few characters."""
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_in_short(one) for one in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plots(scans: Sequence[Result], folder: Path) -> list[str]:
    """Scores and ROC curves of ``auto``; cost against accuracy of every method."""
    from drmguard.bench.plots import cost_plot, roc_plot, score_plot

    comparable = [r for r in scans if r.cell.method == "auto" and not r.cell.settings]
    pictures = {
        "scores": ("scores of every scan", score_plot(comparable)),
        "roc": ("ROC curves", roc_plot(comparable)),
        "cost": ("seconds and accuracy by method", cost_plot(scans)),
    }
    for name, (_, picture) in pictures.items():
        write_text(folder / f"{name}.svg", picture)
    shown = [f"![{title}](benchmark/{name}.svg)" for name, (title, _) in pictures.items()]
    return ["## Scores, and cost against accuracy\n", _PLOTTED, *shown, ""]


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else "no reason"


def _coverage(suites: Sequence[Suite], results: Iterable[Result]) -> str:
    known = {result.cell.key for result in results if result.status == "done"}
    works = get_args(Work)
    head = f"| suite | {' | '.join(works)} |"
    lines = ["## What has been run\n", head, f"|{'---|' * (1 + len(works))}"]
    for suite in suites:
        shown = []
        for work in works:
            cells = [cell for cell in suite.cells if cell.work == work]
            shown.append(f"{sum(cell.key in known for cell in cells)} of {len(cells)}")
        lines.append(f"| {suite.name} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def _worse_backdoor(result: Result) -> Result:
    """Of two backdoors in one model, the figures of the one that takes worse."""
    m = result.measured
    if m.get("AE_2", 0) <= m.get("AE", 0):
        return result
    names = ("AE", "DAE", "RAV", "RNV")
    return result.model_copy(update={"measured": {**m, **{n: m[f"{n}_2"] for n in names}}})


def _attacks_page(done: Sequence[Result], docs: Path) -> str:
    """``attacks.md``: what each attack does to each task, and the pictures that are there."""
    text = [_ATTACKS_INTRODUCTION, *_attack_tables([r for r in done if r.cell.work == "train"])]
    pictures = [name for name in ATTACKS if (docs / "attacks" / f"{name}.png").is_file()]
    if pictures:
        text.append(
            "## Pictures\n\nBenign, poisoned, and difference (×3 around grey); three images of "
            "each data set. Written by `drmguard bench pictures`.\n"
        )
    text += [f"### {name}\n![{name}](attacks/{name}.png)\n" for name in pictures]
    return "\n".join(text).rstrip() + "\n"


def _attack_tables(results: Sequence[Result]) -> list[str]:
    text = []
    for subject, group in sorted(grouped(results, subject_of).items()):
        by_attack = grouped(group, lambda cell: (cell.model.attack or "clean",))
        clean = mean_of(by_attack.get(("clean",), []), "RE")
        text += [
            f"## Attacks: {title_of(subject)} (Tables 1, 10, 14, 15)\n",
            f"Unit of the errors: {group[0].measured.get('error_unit') or 'that of the label'}. "
            "ΔRE is against the clean models' mean.\n",
            "| attack | n | AE | RE | ΔRE | DAE | RAV | RNV | published AE / RE | RAV / RNV |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for attack in ordered(name for (name,) in by_attack):
            rows = [_worse_backdoor(result) for result in by_attack[(attack,)]]
            error = mean_of(rows, "RE")
            growth = "" if clean is None or error is None else f"{error / clean - 1:+.0%}"
            known = reported(rows[0].cell)
            pairs = [
                " / ".join(in_digits(known.get(name)) for name in names)
                for names in (("AE", "RE"), ("RAV", "RNV"))
            ]
            cells = (
                *(attack, str(len(rows)), in_digits(mean_of(rows, "AE")), in_digits(error)),
                "" if attack == "clean" else growth,
                *(in_digits(mean_of(rows, name)) for name in ("DAE", "RAV", "RNV")),
                *pairs,
            )
            text.append(f"| {' | '.join(cells)} |")
        text += ["", "```console"]
        text += [
            by_attack[(attack,)][0].cell.model.command()
            for attack in ordered(name for (name,) in by_attack)
        ]
        text += ["```", ""]
    return text


def _identification_tables(results: Sequence[Result]) -> list[str]:
    from drmguard.bench.statistics import accuracy, scans_auc

    def kind(cell: Cell) -> tuple[Any, ...]:
        return (*subject_of(cell), cell.method, settings_of(cell))

    text = []
    for key, group in sorted(grouped(results, kind).items(), key=lambda pair: str(pair[0])):
        *subject, method, settings = key
        with_settings = f", {settings}" if settings else ""
        clean = [r for r in group if r.cell.model.attack is None]
        cleared = sum(r.measured["decision"] == "clean" for r in clean)
        text += [
            f"## Identification: {title_of(tuple(subject))}, method {method}{with_settings}\n",
            f"The same {len(clean)} clean model(s) stand beside every attack. An inconclusive "
            "verdict counts as wrong on both sides (column *?*); a method without a threshold "
            "has no accuracy.\n",
            "| attack | n | TP | FP | FN | TN | ? | accuracy | ROC-AUC | target error (σ) "
            "| seconds | passes |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        by_attack = grouped(group, lambda cell: (cell.model.attack or "clean",))
        attacks = [name for name in ordered(n for (n,) in by_attack) if name != "clean"]
        attacked = [r for r in group if r.cell.model.attack is not None]
        for name in [*attacks, "all"]:
            rows = attacked if name == "all" else by_attack[(name,)]
            if not rows and not clean:
                continue
            found = sum(r.measured["decision"] == "backdoored" for r in rows)
            flagged = sum(r.measured["decision"] == "backdoored" for r in clean)
            unsure = sum(r.measured["decision"] == "inconclusive" for r in [*rows, *clean])
            right = accuracy([*rows, *clean])
            auc = scans_auc(rows, clean)
            area = f"{auc.value:.3f} ({auc.low:.2f}–{auc.high:.2f})" if auc else "–"
            decides = any(r.measured.get("threshold", 1) is not None for r in [*rows, *clean])
            missed = len(rows) - found - sum(r.measured["decision"] == "inconclusive" for r in rows)
            cells = (
                *(name, f"{len(rows)} + {len(clean)}", str(found), str(flagged), str(missed)),
                *(str(cleared), str(unsure)),
                f"{right.value:.0%} ({right.low:.0%}–{right.high:.0%})" if decides else "–",
                *(area, in_digits(mean_of(rows, "target_error_sd"), 2)),
                in_digits(statistics.mean(r.seconds or math.nan for r in [*rows, *clean])),
                f"{statistics.mean(r.measured['passes'] for r in [*rows, *clean]):,.0f}",
            )
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    return text


def _flagging(scan: Result) -> set[str]:
    """The searches whose score is below their threshold."""
    parts = part_scores(scan.measured)
    return {name for name, value in parts.items() if value is not None and value < 1}


def _parts_table(scans: Sequence[Result]) -> list[str]:
    """How many models each search of ``auto`` flags by itself."""
    scans = [r for r in scans if r.cell.method == "auto" and not r.cell.settings]
    scans = [r for r in scans if r.measured.get("spread")]
    if not scans:
        return []
    text = [
        "## What each search of auto flags by itself\n",
        "Models whose score is below the search's threshold, of *n*; *only* counts those that no "
        "other search flags.\n",
        f"| data | attack | n | {' | '.join(f'{part} | only' for part in SEARCHES)} |",
        f"|{'---|' * (3 + 2 * len(SEARCHES))}",
    ]
    groups = grouped(scans, lambda cell: (cell.model.data.name, cell.model.attack or "clean"))
    for data in sorted({data for data, _ in groups}):
        for attack in ordered(name for where, name in groups if where == data):
            rows = groups[data, attack]
            flags = [_flagging(result) for result in rows]
            counts = []
            for part in SEARCHES:
                others = set(SEARCHES) - {part}
                counts.append(sum(part in flagged for flagged in flags))
                counts.append(sum(part in flagged and not flagged & others for flagged in flags))
            text.append(f"| {data} | {attack} | {len(rows)} | {' | '.join(map(str, counts))} |")
    return [*text, ""]


def _scan_table(scans: Sequence[Result]) -> list[str]:
    """Every scan, one a row."""
    if not scans:
        return []
    text = [
        "### Every scan\n",
        "The score is that of the search which decided, over its threshold: below 1 is "
        "backdoored.\n",
        "| data | network | attack | model seed | method | settings | verdict | search | score "
        "| target error (σ) | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for result in scans:
        cell, m = result.cell, result.measured
        model = cell.model
        attack = model.attack or "clean"
        wrong = (m["decision"] == "backdoored") != (model.attack is not None)
        rows.append(
            (
                *(model.data.name, model.network, attack, str(model.seed), str(cell.method)),
                *(settings_of(cell), f"**{m['decision']}**" if wrong else m["decision"]),
                *(str(m.get("search", "–")), in_digits(m["suspicion"])),
                *(in_digits(m.get("target_error_sd"), 2), in_digits(result.seconds)),
            )
        )
    order = {name: number for number, name in enumerate(ATTACKS)}
    rows.sort(key=lambda row: (row[0], row[1], order.get(row[2], 99), *row[2:6]))
    return [*text, *(f"| {' | '.join(row)} |" for row in rows), ""]
