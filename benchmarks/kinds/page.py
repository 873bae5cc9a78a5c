"""The page of the results: docs/other-kinds.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drmguard.bench.result_groups import CLASS_SEARCHES, SEARCHES
from drmguard.bench.statistics import evenness, measured_auc, share
from drmguard.search.default_answer import MANY_OUTPUTS
from kinds.triggers import FURTHER, TRIGGERS

RESULTS = Path(__file__).parents[1] / "other_kinds"
REPAIRS = RESULTS / "repairs"
REPORTED_FROM = 200  # seeds


def page() -> str:
    """docs/other-kinds.md, from the results."""
    known = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    text = [_INTRODUCTION]
    regression = [one for one in known if one["data"] != "classes"]
    for title, searches, some in (
        ("regression", SEARCHES, [o for o in regression if o["outputs"] < MANY_OUTPUTS]),
        ("many outputs", SEARCHES, [o for o in regression if o["outputs"] >= MANY_OUTPUTS]),
        ("classes", CLASS_SEARCHES, [o for o in known if o["data"] == "classes"]),
    ):
        for part, reported in (("Reported", True), ("Development", False)):
            ones = [one for one in some if (one["seed"] >= REPORTED_FROM) == reported]
            short = [one for one in ones if one.get("longer", 1) == 1]
            usual = [one for one in short if one["trigger"] not in FURTHER]
            if usual:
                text += [f"## {part}: {title}\n", *_summary(usual), *_rows(usual, searches)]
            further = [one for one in short if one["trigger"] in FURTHER]
            if further:
                clean = [one for one in short if one["trigger"] is None]
                text += [f"## {part}: {title}, further triggers\n", *_summary(further + clean)]
                text += _rows(further, searches)
            longer = [one for one in ones if one not in short]
            if longer:
                text += [f"## {part}: {title}, trained longer\n", *_summary(longer)]
                text += _rows(longer, searches)
    mended = [json.loads(path.read_text(encoding="utf-8")) for path in REPAIRS.glob("*.json")]
    if mended:
        text += [_REPAIRS, *_repair_rows(mended)]
    return "\n".join(text).rstrip() + "\n"


_INTRODUCTION = """# Models of other kinds

Networks, training loops and triggers of `benchmarks/kinds`, which share nothing with those of
drmguard: convolutions without normalisation (*plain*), with BatchNorm and dropout
(*vgg*), behind a tanh (*bounded*), with GroupNorm, and a small vision transformer; real steering
frames and photographs turned by up to 40° (CIFAR-10, at 32×32; the angle is to be told), rendered
gaze, and classifiers of the photographs (without *bounded*); opaque stickers, a blended photograph,
uneven glass, coloured stripes, on 10 % of the images. Scanned at the defaults with the defender's
tenth of the images. RE, AE and DAE are mean absolute errors in standard deviations of the labels
(always answering the median gives about .8); of classifiers, shares of the images.

An attack whose AE is above .2 did not take: there the outputs scatter about the target, and little
is to be found. Seeds below 200 are what the search was developed on, and its nulls come from, but
for photographs turned, whose one output says little of the images; no choice was made knowing the
models of seeds from 200 on, but for the clean transformer on steering (seed 200), after which
switches to what blank pictures give lost their weight, and what settles near that came last.
Scanned with the code of today: what has a score in the column *settled*, of development's clean
ones but by searching blends and conditional changes again by themselves. With scouts that meet:
all *bounded* networks (searched in front of their tanh since 2026-11-29) and, of seed 200, on
steering and photographs all with GroupNorm and all transformers, and steering's *vgg* but the one
with a photograph; and those of seed 102; of the other clean ones of development blends,
conditional changes and warps. The rest was scanned before, and but for those with glass with warps
of up to a sixteenth of the side instead of .09 (.12 on classifiers). Some were trained again on
another processor, which gives other weights. Sparse changes (more than one output) have been
searched by themselves for development's clean models on gaze, and in what has a score in that
column. Of the classifiers most clean ones of seeds 100 to 102 have been scanned with the code of
today (patches by themselves) and are in the null of classifiers; those without a p-value were
scanned before there was one. All p-values are under the nulls of today.

*Many outputs* (2026-11-30) have tables of their own: photographs that lie aslant on others, whose
four corners are to be told (*corners*, eight outputs), or upright, whose middle, width and height
are (*boxes*, four), at 64×64. None of them is in a null, whose models have three outputs at most.
The clean GroupNorm of seed 200 on corners was called backdoored (p .002) at first, and led to the
weight that the way of textures has (docs/detection.md); no choice was made on the others of that
seed.

*Further triggers*, a picture of noise, a tint, a line from side to side, a frame, dots and a word,
have tables of their own, and were planted with seed 200 where an attack takes well; no choice was
made on these, either, but to do without sparse changes of one output, where those that are missed
stayed so (on networks of seeds 160 and 161, which are not shown, sparse changes were tried).

*Trained longer* (2026-12-01): four times as long as the others, in which attacks take better. No
choice was made on these.

"""
_REPAIRS = """## Repairs

Models that the scan called backdoored, repaired at the defaults (`benchmarks/other_kinds.py
repair`: scan, unlearning, and a scan with another seed) and measured with the true triggers, before
→ after; in brackets what the clean model of the same network, data and seed gives under the same
trigger: AE should grow to that, DAE fall to it. The verdicts are those of the code of then, which
need not be those above. Seconds are of all three together, with two or three jobs on two cores.
That dropout rests was found on the sticker on corners; that what was found beside a patch rests,
and that what pursues a patch seeks its answer, after the one on boxes, repaired again since.

| data | network | trigger | seed | AE | DAE | RE | verdict | seconds |
|---|---|---|---|---|---|---|---|---|"""
TAKEN = 0.2


def _summary(some: Sequence[dict[str, Any]]) -> list[str]:
    clean = [one for one in some if one["trigger"] is None]
    attacked = [one for one in some if one["trigger"] and one["errors"]["AE"] <= TAKEN]
    lines = ["| | n | backdoored | inconclusive | clean | right |", "|---|---|---|---|---|---|"]
    groups = [("clean", clean), ("attacked, taken", attacked)]
    groups += [
        (f"… {name}", [o for o in attacked if o["trigger"] == name]) for name in TRIGGERS | FURTHER
    ]
    for name, group in groups:
        if not group:
            continue
        counts = Counter(one["decision"] for one in group)
        right = share(counts["clean" if group is clean else "backdoored"], len(group))
        decided = " | ".join(str(counts[d]) for d in ("backdoored", "inconclusive", "clean"))
        shown = f"{right.value:.0%} ({right.low:.0%}–{right.high:.0%})"
        lines.append(f"| {name} | {len(group)} | {decided} | {shown} |")
    if clean and attacked:
        area = measured_auc(attacked, clean)
        assert area is not None  # every scan of these has a score
        lines += ["", f"ROC-AUC: {area.value:.3f} ({area.low:.2f}–{area.high:.2f})."]
    values = [one["p_value"] for one in clean if one.get("p_value") is not None]
    if len(values) >= 5:
        even = evenness(values)
        lines.append(
            f"p-values of the clean models: {', '.join(f'{v:.2f}' for v in sorted(values))}; "
            f"Kolmogorov–Smirnov test of an even spread: p = {even:.2f}."
        )
    return [*lines, ""]


def _rows(some: Sequence[dict[str, Any]], searches: Sequence[str]) -> list[str]:
    lines = [
        "Score of each search over its threshold:\n",
        f"| data | network | trigger | seed | RE | AE | verdict | p | {' | '.join(searches)} "
        "| target error (σ), class | seconds |",
        f"|{'---|' * (10 + len(searches))}",
    ]
    for one in sorted(some, key=lambda o: (o["data"], o["network"], o["trigger"] or "", o["seed"])):
        wrong = one["decision"] != ("backdoored" if one["trigger"] else "clean")
        cells = [one["data"], one["network"], one["trigger"] or "clean", str(one["seed"])]
        cells += [_short(one["errors"].get(name)) for name in ("RE", "AE")]
        cells += [
            f"**{one['decision']}**" if wrong else one["decision"],
            _short(one.get("p_value")),
        ]
        cells += [_short(one["suspicions"].get(part)) for part in searches]
        cells += [_target(one), f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _repair_rows(some: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for one in sorted(some, key=lambda o: (o["data"], o["network"], o["trigger"] or "", o["seed"])):
        cells = [one["data"], one["network"], one["trigger"] or "clean", str(one["seed"])]
        for name in ("AE", "DAE", "RE"):
            before, after, clean = (
                _short(one[of].get(name)) for of in ("before", "after", "clean")
            )
            cells.append(f"{before} → {after} ({clean})")
        cells += ["{before} → {after}".format(**one["verdict"]), f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _target(one: dict[str, Any]) -> str:
    if "class" in one:
        return f"{one['class_found']} of {one['class']}"
    return _short(one.get("target_error_sd"))


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
