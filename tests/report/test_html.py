import math
import re
from html.parser import HTMLParser

import pytest

import drmguard
from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.models.load import LoadedModel
from drmguard.models.victim import Victim
from drmguard.report.schema import ReportContent

HOSTILE = '<script>alert("x")</script>$\\frac'


@pytest.fixture(scope="module")
def report():
    """A report in which every name is hostile."""
    images = labelled_by(AnalyticModel(planted=False), smooth_images(64))
    victim = Victim(AnalyticModel(planted=True))
    loaded = LoadedModel(victim=victim, name=HOSTILE, digest="0", network={}, task=None)
    task = drmguard.make_task("regression", outputs=(HOSTILE, "b"), unit=HOSTILE)
    return drmguard.scan(loaded, images, task, source=HOSTILE)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    folder = report.save(tmp_path_factory.mktemp("report"))
    return (folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.addresses = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href")]


def test_the_page_makes_no_request_and_runs_no_script(page):
    tags = Tags(page)
    assert "script" not in tags.found
    assert tags.found.count("svg") == 5
    assert len(tags.addresses) > 20
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in tags.addresses)
    assert "url(http" not in page
    assert "@import" not in page


def test_names_from_files_are_escaped(page):
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_every_picture_has_a_text(page):
    assert all("alt=" in tag for tag in re.findall(r"<img [^>]*>", page))


def test_the_verdict_is_said_in_words(page):
    assert "Backdoored: a planted trigger was found" in page
    assert "does not prove" in page


def test_json_comes_back_through_its_schema(report):
    again = ReportContent.model_validate_json(report.json())
    assert again.model_dump_json() == report.content.model_dump_json()
    assert again.schema_version == 3


def test_every_search_stands_beside_what_it_gives_for_clean_models(report, page):
    searches = report.content.calibration.searches
    families = {"blend", "conditional", "settled", "wave", "warp", "patch", "sparse"}
    assert set(searches) == {"places", *families}
    least = min(one.deviations for one in searches.values())
    assert math.exp(least) == pytest.approx(report.content.calibration.standing)
    rows = page[page.index("clean models, about") :]
    assert rows.index(f"{least:+.1f}") < rows.index("</table>")
    assert "small patches" in rows
