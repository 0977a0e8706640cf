# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lsst.images import Box, Image, Interval, Mask, MaskPlane, MaskSchema
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.stars import MakePsfCandidatesConfig, MakePsfCandidatesTask


def make_exposure() -> Any:
    """Make an image of 60 x 50 pixels counting up."""
    box = Box(Interval(-10, 40), Interval(100, 160))
    plane = np.arange(3000, dtype=np.float32).reshape(50, 60)
    return SimpleNamespace(
        bbox=box,
        image=Image(plane, bbox=box),
        variance=Image(np.full_like(plane, np.inf), bbox=box),
        mask=Mask(0xFF, schema=MaskSchema([MaskPlane("SATURATED", ""), MaskPlane("DETECTED", "")]), bbox=box),
    )


def make_catalog(x: list[float], y: list[float], *, fields: bool = True) -> SourceCatalog:
    """Make stars at some positions."""
    schema = Schema.source_minimal()
    for name in ("c_x", "c_y"):
        schema.add_field(name, "D")
    schema.set_alias("slot_Centroid", "c")
    if fields:
        schema.add_field("psf_max_value", "F")
        schema.add_field("psf_color_value", "F")
        schema.add_field("psf_color_type", "String", size=10)
        schema.add_flag("candidate")
    catalog = SourceCatalog(schema, len(x))
    catalog["id"] = np.arange(len(x)) + 5
    catalog["c_x"] = x
    catalog["c_y"] = y
    return catalog


def test_candidates_and_maximum(caplog: pytest.LogCaptureFixture) -> None:
    """Accept stars whose stamp fits, masked or not, and tell the maximum."""
    # Limits of 27 pixels: first pixel >= 100, last < 160.
    x = [112.4, 112.5, 146.4, 146.6, np.nan, 130.0]
    catalog = make_catalog(x, [10.0] * 6)
    catalog["psf_color_value"] = np.arange(6) / 4
    catalog["psf_color_type"] = "g-i"
    with caplog.at_level(logging.WARNING):
        result = MakePsfCandidatesTask().run(catalog, make_exposure(), psfCandidateField="candidate")
    assert result.good.tolist() == [False, True, True, False, False, True]
    assert "3 of 6" in caplog.text
    np.testing.assert_array_equal(catalog["candidate"], result.good)
    candidates = result.psfCandidates
    assert candidates.id.tolist() == [6, 7, 10]
    assert candidates.width == 27
    np.testing.assert_array_equal(candidates.color, [0.25, 0.5, 1.25])
    assert candidates.color_type.tolist() == ["g-i"] * 3
    # Largest value is that of the last row and column of the stamp.
    expected = [60 * 33 + 26, 60 * 33 + 59, 60 * 33 + 43]
    np.testing.assert_array_equal(catalog["psf_max_value"][result.good], expected)
    assert np.isnan(catalog["psf_max_value"][~result.good]).all()
    stamps = candidates.stamps(25)
    np.testing.assert_array_equal(stamps.image[:, 12, 12], [60 * 20 + 13, 60 * 20 + 46, 60 * 20 + 30])


def test_half_pixels_round_up() -> None:
    """Put the centre of 112.5 on pixel 113."""
    result = MakePsfCandidatesTask().run(make_catalog([130.5], [9.5]), make_exposure())
    assert result.psfCandidates.stamps(27).x0.tolist() == [131 - 13]
    assert result.psfCandidates.stamps(27).y0.tolist() == [10 - 13]


def test_pixels_that_are_not_finite() -> None:
    """Ignore NaN and infinite pixels; drop a star without finite ones."""
    exposure = make_exposure()
    exposure.image.array[33, 43] = np.inf
    exposure.image.array[33, 42] = np.nan
    catalog = make_catalog([130.0], [10.0])
    MakePsfCandidatesTask().run(catalog, exposure)
    assert catalog["psf_max_value"].tolist() == [60 * 33 + 41]
    exposure.image.array[:] = np.nan
    result = MakePsfCandidatesTask().run(catalog, exposure)
    assert result.good.tolist() == [False]
    assert len(result.psfCandidates) == 0
    assert np.isnan(catalog["psf_max_value"]).all()


def test_no_stars_and_no_fields() -> None:
    """Work on empty catalogues and without the optional fields."""
    assert len(MakePsfCandidatesTask().run(make_catalog([], []), make_exposure()).psfCandidates) == 0
    catalog = make_catalog([130.0], [10.0], fields=False)
    candidates = MakePsfCandidatesTask().run(catalog, make_exposure()).psfCandidates
    assert np.isnan(candidates.color).all()
    assert candidates.color_type.tolist() == [""]


def test_border_widens_the_stamp() -> None:
    """Demand the border to be inside the image, too."""
    config = MakePsfCandidatesConfig(kernelSize=25, borderWidth=4)
    result = MakePsfCandidatesTask(config=config).run(
        make_catalog([115.0, 116.0], [10.0] * 2), make_exposure()
    )
    assert result.good.tolist() == [False, True]
    assert result.psfCandidates.width == 33
