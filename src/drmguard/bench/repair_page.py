"""docs/repairs.md: what repairs leave of the backdoor and of the model, from results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from drmguard.bench.result_groups import (
    grouped,
    in_digits,
    ordered,
    settings_of,
    subject_of,
    title_of,
)
from drmguard.bench.store import Result

_INTRODUCTION = """# Repairs

What each repair leaves, with the *true* trigger, on test images: means over *n* models, before →
after. AE is the error to the attacker's target and should grow to the clean model's own distance
from it; DAE, the error to the correct label under the trigger, should fall; RE is the clean error.
The *clean model* is the one from which the attack's training started (for Clean Label, one of the
same seed): under the same trigger it has a DAE of its own, since a warp, a blend or a patch on the
eyes hides some of what there is to see. No repair knows the true trigger. What the columns ask for:
DAE ≤ 1.5 times the clean model's RE; AE ≥ 90 % of the clean model's; RE at most 5 % above that
before. *Kept* is RE after over the clean model's: attacked models, fine-tuned longer, often begin
below it.

Of classifiers AE, DAE and RE are shares of the images. How the methods work: [repair](repair.md);
published figures stand in [the benchmark](benchmark.md) (Tables 5, 6, 13 and 15). Seconds were
measured with two to four jobs on two cores. Written by `drmguard bench run zoo --only repair` and
`--only rescan` (and of the other suites) and `drmguard bench tables`.
"""


_SUITES = {
    "zoo": "Models that no choice was made on",
    "hard": "What is hard",
    "mesa": "Classifiers",
    "small": "Models that unlearning was developed on",
}


def repair_page(done: Mapping[str, Sequence[Result]]) -> str:
    """The page, of each suite's results; empty where nothing has been repaired."""
    text: list[str] = []
    for suite, title in _SUITES.items():
        repairs = [r for r in done.get(suite, ()) if r.cell.work == "repair"]
        if repairs:
            text += [f"## {title} (suite `{suite}`)\n", *_asked_for(repairs)]
        for subject, group in sorted(grouped(repairs, subject_of).items()):
            text += [f"### {title_of(subject)}\n", *_means(group)]
        text += _every_repair(repairs)
        text += _scanned_again([r for r in done.get(suite, ()) if r.cell.work == "rescan"])
    return "\n".join([_INTRODUCTION, *text]).rstrip() + "\n" if text else ""


def _asked_for(repairs: Sequence[Result]) -> list[str]:
    """How each method does on each attack, by data; empty where no clean model is known."""
    known = [
        r
        for r in repairs
        if r.cell.model.attack and not settings_of(r.cell) and "RE.clean" in r.measured
    ]
    if not known:
        return []
    subjects = sorted({subject_of(r.cell) for r in known})
    rows = grouped(known, lambda cell: (cell.method, cell.model.attack, subject_of(cell)))
    text = [
        _ASKED_FOR,
        f"| method | attack | {' | '.join(title_of(subject) for subject in subjects)} |",
        f"|{'---|' * (2 + len(subjects))}",
    ]
    methods = {method for method, *_ in rows}
    for method in sorted(methods, key=lambda name: (name != "unlearning", name)):
        for attack in ordered({attack for name, attack, _ in rows if name == method}):
            cells = (_as_asked(rows.get((method, attack, subject), [])) for subject in subjects)
            text.append(f"| {method} | {attack} | {' | '.join(cells)} |")
    return [*text, ""]


_ASKED_FOR = """### What was asked for

DAE over the clean model's RE (over its DAE under the same trigger), AE over the clean model's, RE
over that before; means over three models but where *n* says otherwise, ✓ where all three are as
asked for.
"""


def _as_asked(some: Sequence[Result]) -> str:
    kept, own, away, clean_error, _ = _mean_ratios(some)
    if kept is None or away is None or clean_error is None:
        return "–"
    met = kept <= _MOST_LEFT and away >= _LEAST_AWAY and clean_error <= _MOST_LOST
    figures = f"{in_digits(kept)} ({in_digits(own)}), {in_digits(away)}, {in_digits(clean_error)}"
    number = "" if len(some) == 3 else f" (n {len(some)})"
    return f"{figures}{number}{' ✓' if met else ''}"


# DAE over the clean model's RE, AE over the clean model's, RE over that before.
_MOST_LEFT, _LEAST_AWAY, _MOST_LOST = 1.5, 0.9, 1.05


def _means(group: Sequence[Result]) -> list[str]:
    text = [
        "| attack | method | settings | n | AE | DAE | RE | DAE ÷ clean model's RE | … DAE "
        "| AE ÷ clean model's | RE ÷ before | kept | seconds |",
        f"|{'---|' * 13}",
    ]
    rows = grouped(
        group, lambda cell: (cell.model.attack or "clean", cell.method, settings_of(cell))
    )
    for attack in ordered({name for name, *_ in rows}):
        for key in sorted(key for key in rows if key[0] == attack):
            some = rows[key]
            seconds = in_digits(statistics.mean(r.seconds or math.nan for r in some))
            cells = (*key, str(len(some)), *_before_after(some), *_ratios(some), seconds)
            text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _every_repair(repairs: Sequence[Result]) -> list[str]:
    if not repairs:
        return []
    text = [
        "### Every repair\n",
        "| data | network | attack | seed | method | settings | AE | DAE | RE "
        "| DAE ÷ clean model's RE | … DAE | AE ÷ clean model's | RE ÷ before | kept |",
        f"|{'---|' * 14}",
    ]
    for (data, network, _), group in sorted(grouped(repairs, subject_of).items()):
        by_attack = grouped(group, lambda cell: (cell.model.attack or "clean",))
        for attack in ordered(name for (name,) in by_attack):
            rows = [
                (
                    *(data, network, attack, str(one.cell.model.seed), str(one.cell.method)),
                    *(settings_of(one.cell), *_before_after([one]), *_ratios([one])),
                )
                for one in by_attack[(attack,)]
            ]
            text += [f"| {' | '.join(row)} |" for row in sorted(rows)]
    return [*text, ""]


def _scanned_again(rescans: Sequence[Result]) -> list[str]:
    """How many repaired models are called clean, and where a rest of the backdoor may be."""
    if not rescans:
        return []
    subjects = sorted({subject_of(r.cell) for r in rescans})
    rows = grouped(rescans, lambda cell: (cell.model.attack, subject_of(cell)))
    text = [
        _SCANNED_AGAIN,
        f"| attack | {' | '.join(title_of(subject) for subject in subjects)} |",
        f"|{'---|' * (1 + len(subjects))}",
    ]
    for attack in ordered({str(attack) for attack, _ in rows}):
        cells = (_called_clean(rows.get((attack, subject), [])) for subject in subjects)
        text.append(f"| {attack} | {' | '.join(cells)} |")
    others = sorted((r for r in rescans if _finds_a_rest(r)), key=lambda r: r.cell.name)
    if others:
        text += [
            "\n| model | verdict | p | search | target, σ from the planted one |",
            f"|{'---|' * 5}",
        ]
    for one in others:
        model, said = one.cell.model, one.measured
        p_value, error = (in_digits(said.get(k), 2) for k in ("p_value", "target_error_sd"))
        name = f"{model.data.name}, {model.attack} {model.seed}"
        text.append(f"| {name} | {said['decision']} | {p_value} | {said['search']} | {error} |")
    return [*text, ""]


_SCANNED_AGAIN = """### Scanned again

The models repaired by unlearning, as the default search sees them from another seed: how many of
how many it calls clean, and their p-values. What it calls something else it may find a rest of the
backdoor in, or take for one by chance, as it does one clean model of ten at α = .05; a rest of the
backdoor would lead to the planted target. Models are named below where the verdict is another one,
or what the search found leads within .3 σ of that target.
"""

# As near, in standard deviations of the labels, a target counts as found.
_ON_TARGET = 0.3


def _finds_a_rest(result: Result) -> bool:
    error = result.measured.get("target_error_sd")
    return result.measured["decision"] != "clean" or (error is not None and error <= _ON_TARGET)


def _called_clean(some: Sequence[Result]) -> str:
    if not some:
        return "–"
    clean = sum(r.measured["decision"] == "clean" for r in some)
    p_values = sorted(r.measured["p_value"] for r in some if r.measured["p_value"] is not None)
    return f"{clean} of {len(some)} (p {', '.join(in_digits(p, 2) for p in p_values)})"


def _before_after(some: Sequence[Result]) -> list[str]:
    """AE, DAE and RE."""
    return [
        " → ".join(
            in_digits(_mean(r.measured.get(f"{name}.{when}") for r in some)) for when in _BOTH
        )
        for name in ("AE", "DAE", "RE")
    ]


_BOTH = ("before", "after")
# What is asked of a repair, as figures over others.
_RATIOS = (
    ("DAE.after", "RE.clean"),
    ("DAE.after", "DAE.clean"),
    ("AE.after", "AE.clean"),
    ("RE.after", "RE.before"),
    ("RE.after", "RE.clean"),
)


def _ratios(some: Sequence[Result]) -> list[str]:
    return [in_digits(ratio) for ratio in _mean_ratios(some)]


def _mean_ratios(some: Sequence[Result]) -> list[float | None]:
    """Means of each model's own ratios."""
    means = []
    for above, below in _RATIOS:
        pairs = [(r.measured.get(above), r.measured.get(below)) for r in some]
        means.append(_mean(a / b if a is not None and b else None for a, b in pairs))
    return means


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
