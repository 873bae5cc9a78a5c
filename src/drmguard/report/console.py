"""The summary on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from drmguard.report.report import Report
from drmguard.report.schema import RepairRecord
from drmguard.report.wording import (
    headline,
    repair_headline,
    repair_rows,
    score_text,
    target_name,
    target_text,
)

_COLORS = {"clean": "green", "backdoored": "red", "inconclusive": "yellow"}


def print_summary(report: Report, console: Console) -> None:
    """What was checked, the verdict, the target and the cost."""
    content, run = report.content, report.run
    error = content.clean_error
    console.print(Text(headline(content), style=f"bold {_COLORS[report.decision]}"))
    rows = [
        ("model", f"{content.model.name}, {content.model.parameters:,} parameters"),
        ("images", f"{content.images.used} of {content.images.count} from {content.images.source}"),
        ("clean error", f"{error.value:.4g} {error.unit} (median label: {error.constant:.4g})"),
        ("score", score_text(content)),
        (target_name(content), target_text(content)),
        (
            "cost",
            f"{run.seconds:.0f} s, {content.cost.image_passes:,} image passes, "
            f"{run.peak_memory_mib:.0f} MiB peak",
        ),
    ]
    for name, value in rows:
        console.print(Text(f"  {name:<13}{value}"))
    for reason in content.verdict.reasons:
        console.print(Text(f"  · {reason}"))
    for warning in content.warnings:
        console.print(Text(f"  ! {warning}", style="yellow"))


def print_repair(record: RepairRecord, console: Console) -> None:
    """What was kept, and every figure before and after."""
    color = _COLORS[record.verdict.after or "inconclusive"]
    console.print(Text(repair_headline(record), style=f"bold {color}"))
    console.print(Text(f"  model        {record.model}; {record.kept}"))
    for name, before, after in repair_rows(record):
        console.print(Text(f"  {name:<30} {before} -> {after}"))
