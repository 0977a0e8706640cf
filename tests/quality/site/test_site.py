# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import dataclasses
import os
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.quality import (
    StarColumns,
    SurveyAccumulator,
    measure_residual_maps,
    measure_visit,
    measure_visit_rho,
)
from lsst.meas.finalize.quality.plots import plot_histograms
from lsst.meas.finalize.quality.site import OccupiedDirectoryError, SurveyPage, VisitPage, write_report
from lsst.meas.finalize.quality.site._focal_plane import place_detectors

from ..conftest import make_catalog, make_stars

HOSTILE = "<script>alert('x')</script>\"&{{7*7}}../"


def png(columns: StarColumns, path: Path) -> bytes:
    """Draw a small plot."""
    plot_histograms(columns, "Cam").savefig(path, dpi=30)
    return path.read_bytes()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[VisitPage], list[SurveyPage]]:
    """Return three visits and a survey, with hostile names."""
    visits, accumulator = [], SurveyAccumulator()
    for i in range(3):
        stars = make_stars(np.random.default_rng(i), n_detectors=4, n_stars=60)
        if i == 1:
            stars["slot_Shape_xx"][stars["detector"] == 2] *= 1.1
        columns = StarColumns.from_table(stars, "r")
        catalog = make_catalog(4)
        if i == 2:
            catalog.psfs[3] = None
        band = "r" if i else HOSTILE
        metrics = measure_visit(columns, catalog, visit=100 + i, instrument=HOSTILE, band=band)
        rho = measure_visit_rho(columns, visit=100 + i)
        maps = measure_residual_maps(columns, visit=100 + i)
        accumulator.add_visit(metrics, rho, maps)
        image = png(columns, tmp_path_factory.mktemp("png") / "a.png")
        visits.append(VisitPage(HOSTILE, 100 + i, band, metrics, maps, rho, {"Histograms": image}))
    tables = {
        "metrics": accumulator.metrics_table(),
        "verdicts": accumulator.verdict_table(),
        "worst": accumulator.worst_table(),
        "rho": accumulator.rho_table(),
    }
    return visits, [SurveyPage(HOSTILE, "r", tables, {"Rho": image})]


@pytest.fixture(scope="module")
def site(pages: tuple[list[VisitPage], list[SurveyPage]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of these."""
    folder = tmp_path_factory.mktemp("site") / "report"
    return write_report(folder, *pages, collection=f"u/me/{HOSTILE}", repository="/repo").parent


class Links(HTMLParser):
    """Collect links, resources, ids and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline_scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to."""
        values = dict(attrs)
        self.links += [str(values[name]) for name in ("href", "src") if name in values]
        self.ids += [str(values["id"])] if "id" in values else []
        self.inline_scripts += tag == "script" and "src" not in values


def test_links_resolve_and_nothing_is_elsewhere(site: Path) -> None:
    """Find the target of each link, file and fragment, in the folder."""
    parsed = {path.name: Links(path.read_text()) for path in site.glob("*.html")}
    assert len(parsed) == 6
    for name, page in parsed.items():
        assert page.inline_scripts == 0
        assert len(set(page.ids)) == len(page.ids)
        for link in page.links:
            file, _, fragment = link.partition("#")
            assert not re.match(r"[a-z]+:|//", link) or link == "data:,"
            if link == "data:,":
                continue
            assert (site / (file or name)).is_file(), link
            if fragment:
                assert fragment in parsed[file or name].ids, link
    for path in (site / "assets").iterdir():
        assert not re.search(r"https?://|url\((?!#)|@import", path.read_text())


def test_names_are_escaped(site: Path) -> None:
    """Show hostile names as text."""
    for path in site.glob("*.html"):
        text = path.read_text()
        assert "<script>alert" not in text
        assert "49../" not in text
    assert "&lt;script&gt;alert" in (site / "index.html").read_text()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", path.name) for path in site.rglob("*"))


def test_reports_are_replaced_and_others_left_alone(
    pages: tuple[list[VisitPage], list[SurveyPage]], tmp_path: Path
) -> None:
    """Replace an older report; refuse folders with something else."""
    write_report(tmp_path / "a", pages[0][:2])
    write_report(tmp_path / "a", pages[0][:1])
    assert len(list((tmp_path / "a").glob("visit-*.html"))) == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").touch()
    with pytest.raises(OccupiedDirectoryError, match="something else"):
        write_report(tmp_path / "b", pages[0])
    with pytest.raises(OccupiedDirectoryError, match="is a file"):
        write_report(tmp_path / "b" / "thesis.tex", pages[0])
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.tex"]

    def failing() -> Iterator[VisitPage]:
        yield pages[0][0]
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        write_report(tmp_path / "c", failing())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_older_tables_make_pages(pages: tuple[list[VisitPage], list[SurveyPage]], tmp_path: Path) -> None:
    """Show visits without maps, correlations, plots or some metrics."""
    metrics = copy.deepcopy(pages[0][0].metrics)
    metrics.remove_columns(["apCorrResidualScatter", "psfApFluxDelta", "psfStarDeltaE2Median", "reasons"])
    page = VisitPage("Cam", 1, "", metrics, None, None, {})
    empty = VisitPage("Cam", 2, "", metrics[:0], None, None, {})
    index = write_report(tmp_path / "a", [page, empty])
    assert "There are no plots" in (index.parent / "visit-Cam-1.html").read_text()


def test_memory_does_not_grow_much_with_visits(
    pages: tuple[list[VisitPage], list[SurveyPage]], tmp_path: Path
) -> None:
    """Keep only what the tables of all visits and detectors show."""
    used = []

    def visits() -> Iterator[VisitPage]:
        for i in range(4):
            used.append(tracemalloc.get_traced_memory()[0])
            yield dataclasses.replace(pages[0][0], visit=i, plots={})

    tracemalloc.start()
    write_report(tmp_path / "a", visits())
    tracemalloc.stop()
    # Of four detectors; with all of their metrics it would be 140 kB.
    assert (used[3] - used[1]) / 2 < 80_000


def test_detectors_are_placed_as_on_the_focal_plane(
    pages: tuple[list[VisitPage], list[SurveyPage]],
) -> None:
    """Put detectors in order, without overlaps, and unknown ones below."""
    squares = place_detectors([0, 1, 2, 3, 9], pages[0][0].maps)
    x = {detector: left for detector, left, _, _ in squares}
    assert x[0] < x[1] < x[2] < x[3]
    tops = {detector: top + size for detector, _, top, size in squares}
    assert squares[-1][0] == 9
    assert squares[-1][2] >= tops[0]
    assert place_detectors([], None) == []
    for a in squares:
        for b in squares:
            apart = max(abs(a[1] - b[1]), abs(a[2] - b[2]))
            assert a is b or apart >= min(a[3], b[3])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start the system's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Debian's package chromium isn't installed")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """Open a page that may not complain or ask for anything elsewhere."""
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    tab.complaints = []
    tab.on("console", lambda message: tab.complaints.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: tab.complaints.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: tab.complaints.append("dialog") or dialog.dismiss())
    tab.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}"))

    def note_request(request: Any) -> None:
        if not request.url.startswith(("file://", "data:")):
            tab.complaints.append(f"request: {request.url}")

    tab.on("request", note_request)
    yield tab
    assert tab.complaints == []
    tab.close()


def test_all_pages_open_in_chromium(tab: Any, site: Path) -> None:
    """Open each page from its file and follow its links in the browser."""
    for path in sorted(site.glob("*.html")):
        tab.goto(path.as_uri())
        assert tab.locator("h1").count() == 1
        for image in tab.locator("img").all():
            image.scroll_into_view_if_needed()
            tab.wait_for_function("image => image.complete", arg=image.element_handle())
            assert image.evaluate("image => image.naturalWidth") > 0


def test_sorting_and_filtering(tab: Any, site: Path) -> None:
    """Sort by a number, both ways, and filter by text and verdict."""
    tab.goto((site / "detectors.html").as_uri())
    rows = tab.locator("#detectors tbody tr:visible")
    assert rows.count() == 12
    button = tab.locator("#detectors thead button", has_text="|δe| /0.001, used")
    button.click()
    head = button.locator("xpath=..")
    assert head.get_attribute("aria-sort") == "ascending"
    column = head.evaluate("head => head.cellIndex")

    def values() -> list[float]:
        cells = rows.evaluate_all(f"rows => rows.map(row => row.cells[{column}].dataset.value)")
        return [float(cell) for cell in cells]

    ascending = values()
    assert ascending == sorted(ascending)
    button.focus()
    tab.keyboard.press("Enter")
    assert values() == ascending[::-1]
    tab.locator("[data-filter=verdict]").select_option("fail")
    assert rows.count() == 1
    assert "2" in rows.first.text_content()
    tab.locator("[data-filter=verdict]").select_option("")
    tab.locator("[data-filter=text]").fill("102")
    assert rows.count() == 4
    assert tab.locator("output").text_content() == "4 of 12 shown"


def test_focal_plane_chooses_detectors(tab: Any, site: Path) -> None:
    """Show a detector's metrics by mouse, by keyboard and by a link."""
    (page,) = site.glob("visit-*-101.html")
    tab.goto(page.as_uri())
    assert tab.locator(".detector-details:visible").count() == 0
    tab.locator("a.detector", has_text="2").click()
    assert tab.locator("#det-2").is_visible()
    assert "ellipticity residual" in tab.locator("#det-2 .verdict").text_content()
    tab.locator("a.detector", has_text="1").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#det-1").is_visible()
    assert not tab.locator("#det-2").is_visible()
    assert tab.locator("a.detector.chosen").text_content().strip().endswith("1")
    tab.goto((site / "detectors.html").as_uri())
    tab.locator("#detectors tbody tr", has_text="102").locator("td a").first.click()
    tab.locator("#det-0").wait_for(state="visible")  # another page must load first
    assert tab.locator(".detector-details:visible").count() == 1


def pdf_pages(content: bytes) -> int:
    """Count the pages of a PDF file."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", content))


@pytest.mark.parametrize("name", ["index", "detectors", "visit-*-101", "survey-*"])
def test_pages_print(tab: Any, site: Path, name: str) -> None:
    """Print each kind of page: nothing sticks out, is cut off or useless."""
    (path,) = site.glob(f"{name}.html")
    # The printable width of A4 in landscape, margins of 12 mm, at 96 dpi.
    tab.set_viewport_size({"width": 1031, "height": 700})
    tab.goto(path.as_uri())
    tab.emulate_media(media="print")
    width = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1]
    for selector in ("header nav", ".filters", ".skip", ".back"):
        assert all(not element.is_visible() for element in tab.locator(selector).all())
    clipped = "box => box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1"
    assert not any(box.evaluate(clipped) for box in tab.locator(".scroll").all())
    assert all(image.is_visible() for image in tab.locator("img").all())
    content = tab.pdf(prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    assert 1 <= pdf_pages(content) < 40
