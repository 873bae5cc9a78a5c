"""``*.repair.html``: a model before and after its repair, side by side, in one file."""

from __future__ import annotations

from markupsafe import Markup

from drmguard.report import plots
from drmguard.report.html import picture_columns, template
from drmguard.report.report import RepairPictures
from drmguard.report.schema import RepairRecord
from drmguard.report.wording import repair_headline, repair_rows
from drmguard.tasks import Task


def render_repair(
    record: RepairRecord, task: Task, held_out: int, pictures: RepairPictures | None
) -> str:
    """The whole page; without pictures where no trigger was known."""
    drawn: dict[str, object] = {"columns": None, "factor": 1}
    if pictures is not None:
        columns, factor = picture_columns(pictures.benign, pictures.stamped)
        with plots.style():
            drawn = {
                "columns": columns,
                "factor": factor,
                "before": Markup(plots.outputs(task, *pictures.before, like=pictures.after)),
                "after": Markup(plots.outputs(task, *pictures.after, like=pictures.before)),
            }
    return template("repair.html.jinja").render(
        record=record,
        headline=repair_headline(record),
        held_out=held_out,
        rows=repair_rows(record),
        **drawn,
    )
