"""``report.html``: one self-contained file that makes no network request."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from drmguard.report import plots
from drmguard.report.report import Pictures
from drmguard.report.schema import ReportContent
from drmguard.report.wording import (
    compared_rows,
    effect_text,
    headline,
    score_text,
    settings_rows,
    target_text,
)
from drmguard.tasks import make_task

_SHOWN_SIDE = 112


@dataclass(frozen=True)
class Column:
    """One image's column of the picture table, as PNG data addresses."""

    benign: str
    reversed: str
    difference: str


def render_html(content: ReportContent, pictures: Pictures) -> str:
    """The whole page; every text from a file or a user is escaped by the template engine."""
    columns, factor = picture_columns(pictures.benign, pictures.reversed)
    mean = pictures.trigger_mean * 255
    # The plots are our own SVG; texts inside them are drawn as shapes, not as markup.
    with plots.style():
        drawn = {
            "target_trace": (
                Markup(plots.target_trace(content, pictures))
                if len(pictures.target_trace)
                else None
            ),
            "masks": Markup(plots.masks(content.masks)) if content.masks else None,
            "classes": (Markup(plots.classes(content.classes)) if content.classes else None),
            "outputs": Markup(
                plots.outputs(make_task(**content.task), pictures.before, pictures.after)
            ),
            "efforts": Markup(plots.efforts(content)) if content.places else None,
            "spread": Markup(plots.spread(content)) if content.spread else None,
            "heat_map": (
                Markup(plots.heat_map(content.heat_map, pictures)) if content.heat_map else None
            ),
            "dose_response": Markup(plots.dose_response(content)),
        }
    return template("report.html.jinja").render(
        content=content,
        headline=headline(content),
        effect=effect_text(content),
        target=target_text(content),
        score=score_text(content),
        compared=compared_rows(content),
        columns=columns,
        factor=factor,
        trigger_mean=png_address(_signed(mean * difference_factor(mean))),
        mean_factor=difference_factor(mean),
        settings=settings_rows(content),
        samples=[[png_address(patch) for patch in level] for level in pictures.samples],
        **drawn,
    )


def template(name: str) -> jinja2.Template:
    """One of the package's pages; it escapes every text that it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("drmguard.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def picture_columns(
    benign: NDArray[np.uint8], stamped: NDArray[np.uint8]
) -> tuple[list[Column], int]:
    """Columns of images (n, C, H, W) before and after, and the factor on their difference."""
    change = stamped.astype(np.float32) - benign.astype(np.float32)
    factor = difference_factor(change)
    columns = [
        Column(
            benign=png_address(before),
            reversed=png_address(after),
            difference=png_address(_signed(difference * factor)),
        )
        for before, after, difference in zip(benign, stamped, change, strict=True)
    ]
    return columns, factor


def difference_factor(change: NDArray[np.float32]) -> int:
    """A round number that makes the largest differences (of 255) well visible."""
    largest = float(np.quantile(np.abs(change), 0.999))
    return next((k for k in (1, 2, 5, 10, 20, 50) if largest * k >= 100), 100)


def _signed(change: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Differences as colours about mid-grey."""
    return np.clip(128 + change / 2, 0, 255).astype(np.uint8)


def png_address(pixels: NDArray[np.uint8]) -> str:
    """Pixels (C, H, W) as a ``data:`` address, enlarged without smoothing when small."""
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels[:3].transpose(1, 2, 0))
    scale = max(1, _SHOWN_SIDE // max(picture.size))
    picture = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.NEAREST
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
