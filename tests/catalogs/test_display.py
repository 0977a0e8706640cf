# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of what catalogues show at a prompt and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lsst.meas.finalize.afw import read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import (
    ExposureCatalog,
    ExposureRecord,
    Footprints,
    PsfCandidates,
    Schema,
    SourceCatalog,
    StampSet,
)
from lsst.meas.finalize.psf import as_batch_psf


class Cells(HTMLParser):
    """Texts of the cells of a table, by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def finalized(tiny: Path) -> ExposureCatalog:
    """Return a catalogue of the stack with PSFs that aren't read yet."""
    return read_exposure_catalog(tiny / "expected/default/finalized_psf_ap_corr_catalog.fits")


def test_exposure_catalog_is_shown_without_reading(finalized: ExposureCatalog) -> None:
    """Tell what is there, but read no PSF for it."""
    assert repr(finalized) == "<ExposureCatalog of 2 rows, 6 fields>"
    header, *rows = Cells(finalized._repr_html_()).rows
    assert header[0] == "id"
    assert header[-2:] == ["psf", "ap_corr_map"]
    assert [row[0] for row in rows] == ["0", "1"]
    assert rows[0][-2:] == ["not read yet"] * 2
    assert repr(finalized[0]).endswith("visit=20260304011, psf: not read yet, ap_corr_map: not read yet>")


def test_record_is_shown_with_what_it_has(finalized: ExposureCatalog) -> None:
    """Name the type of the PSF and count the corrections."""
    record = ExposureRecord({"id": 3, "visit": 5}, finalized[0].psf, {})
    assert repr(record) == "<ExposureRecord id=3, visit=5, psf: PiffWrapper, ap_corr_map: 0 corrections>"
    header, row = Cells(record._repr_html_()).rows
    assert dict(zip(header, row, strict=True)) == {
        "id": "3",
        "visit": "5",
        "psf": "PiffWrapper",
        "ap_corr_map": "0 corrections",
    }
    assert repr(ExposureRecord({"id": 3})) == "<ExposureRecord id=3>"


def test_psf_tells_its_model(finalized: ExposureCatalog) -> None:
    """Say in a line what was fitted to how many stars."""
    text = repr(as_batch_psf(finalized[0].psf))
    stars = len([star for star in finalized[0].psf.piff_psf.stars if not star.is_flagged])
    assert text == f"<PiffPsf: PixelGrid, BasisPolynomial(x, y), {stars} stars, stamps of 25 × 25>"


def test_source_catalog_shows_few_columns(tiny: Path) -> None:
    """Show ten rows of positions and fluxes, not all of 183 columns."""
    path = next((tiny / "export/golden/inputs/src").glob("**/*S01*.fits"))
    src = read_source_catalog(path)
    assert repr(src) == "<SourceCatalog of 102 rows, 183 fields, footprints>"
    header, *rows = Cells(src._repr_html_()).rows
    assert len(header) == 9
    assert header[4] == "slot_Centroid_x"
    assert len(rows) == 11
    assert rows[-1] == ["…"] * 9
    assert float(rows[2][4]) == pytest.approx(src["slot_Centroid_x"][2], rel=1e-5)
    assert len(Cells(src[:10]._repr_html_()).rows) == 11
    assert repr(src[:1]).startswith("<SourceCatalog of 1 row, ")
    assert repr(src.footprints).startswith("<Footprints of 102 sources, ")


def test_text_in_cells_is_escaped() -> None:
    """Show what columns hold as text, whatever it is."""
    schema = Schema.source_minimal()
    schema.add_field("name", "String", doc="a name", size=20)
    schema.add_field("values", "ArrayD", doc="an array", size=3)
    catalog = SourceCatalog(schema, {"name": np.array(["<b>&amp;"]), "id": np.array([8])})
    header, row = Cells(catalog._repr_html_()).rows
    assert row[header.index("values")] == "array of 3"
    assert "&lt;b&gt;&amp;amp;" in catalog._repr_html_()


def test_arrays_are_counted_not_printed() -> None:
    """Keep footprints, candidates and stamps to a line."""
    spans = Footprints.from_spans([[(0, 0, 4), (1, 2, 2)], []], peaks=[[(1, 0, 5.0)], []])
    assert repr(spans) == "<Footprints of 2 sources, 6 pixels, 1 peak, 0 heavy>"
    assert repr(Footprints.empty(2)) == "<Footprints of 2 sources, 0 pixels, 0 peaks, 0 heavy, 2 absent>"
    n = 1000
    x = np.arange(float(n))
    candidates = PsfCandidates(None, np.arange(n), x, x, x, np.full(n, ""), 27)
    assert repr(candidates) == "<PsfCandidates of 1000 stars, stamps of 27 × 27>"
    image = np.zeros((1, 5, 7), dtype=np.float32)
    stamps = StampSet(image, image, image.astype(np.uint32), np.zeros(1), np.zeros(1), {})
    assert repr(stamps) == "<StampSet of 1 stamp of 5 × 7>"
