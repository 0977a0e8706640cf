# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.catalogs import Footprints, Schema, SourceCatalog

type Spans = list[list[tuple[int, int, int]]]

# Rows from top to bottom, each with one span of 1 to 6 pixels.
_SPANS: st.SearchStrategy[Spans] = st.lists(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(0, 5)), max_size=4).map(
        lambda rows: [(y - 2, x, x + n) for y, (x, n) in enumerate(rows)]
    ),
    max_size=6,
)


def _make(spans: Spans, seed: int = 0) -> Footprints:
    """Make footprints, every second of them heavy, with 0 to 2 peaks."""
    rng = np.random.default_rng(seed)
    peaks = [[tuple(rng.normal(0, 10, 3)) for _ in range(i % 3)] for i in range(len(spans))]
    light = Footprints.from_spans(spans, peaks=peaks)
    heavy = np.arange(len(spans)) % 2 == 1
    counts = np.where(heavy, light.area, 0)
    n = int(counts.sum())
    return Footprints(
        light.span_offsets,
        light.span_y,
        light.span_x0,
        light.span_x1,
        peak_offsets=light.peak_offsets,
        peaks=light.peaks,
        heavy_offsets=np.concatenate([[0], np.cumsum(counts)]),
        is_heavy=heavy,
        heavy_image=np.arange(n),
        heavy_mask=np.arange(n) * 2,
        heavy_variance=np.arange(n) * 3,
        present=np.arange(len(spans)) % 5 != 4,
    )


@settings(max_examples=100, deadline=None)
@given(_SPANS)
def test_pixels_areas_and_boxes(spans: Spans) -> None:
    """Compare with loops over spans."""
    footprints = _make(spans)
    expected = [(i, y, x) for i, s in enumerate(spans) for y, x0, x1 in s for x in range(x0, x1 + 1)]
    assert list(zip(*(a.tolist() for a in footprints.pixels()), strict=True)) == expected
    assert footprints.area.tolist() == [sum(x1 - x0 + 1 for _, x0, x1 in s) for s in spans]
    for box, s in zip(footprints.bboxes.tolist(), spans, strict=True):
        if s:
            columns = [x for _, x0, x1 in s for x in (x0, x1)]
            rows = [y for y, _, _ in s]
            assert box == [min(columns), min(rows), max(columns), max(rows)]
        else:
            assert box == [0, 0, -1, -1]


@settings(max_examples=100, deadline=None)
@given(_SPANS, st.data())
def test_taken_rows_keep_everything(spans: Spans, data: st.DataObject) -> None:
    """Select, repeat and reorder rows."""
    footprints = _make(spans)
    n = len(spans)
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=8)) if n else []
    taken = footprints.take(np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    for i, row in enumerate(rows):
        for offsets, names in (
            ("span_offsets", ["span_y", "span_x0", "span_x1"]),
            ("heavy_offsets", ["heavy_image", "heavy_mask", "heavy_variance"]),
        ):
            of, to = getattr(footprints, offsets), getattr(taken, offsets)
            for name in names:
                expected = getattr(footprints, name)[of[row] : of[row + 1]]
                np.testing.assert_array_equal(getattr(taken, name)[to[i] : to[i + 1]], expected)
        of, to = footprints.peak_offsets, taken.peak_offsets
        for name, column in footprints.peaks.items():
            np.testing.assert_array_equal(taken.peaks[name][to[i] : to[i + 1]], column[of[row] : of[row + 1]])
        assert taken.is_heavy[i] == footprints.is_heavy[row]
        assert taken.present[i] == footprints.present[row]


@settings(max_examples=50, deadline=None)
@given(_SPANS, st.data())
def test_kinds_of_indices_agree(spans: Spans, data: st.DataObject) -> None:
    """Take the same rows by mask, by number and by list."""
    footprints = _make(spans)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans))), dtype=bool)
    rows = np.flatnonzero(mask)
    for index in (mask, rows, rows.tolist()):
        row, y, x = footprints.take(index).pixels()
        expected = footprints.pixels(rows)
        np.testing.assert_array_equal(row, expected[0])
        np.testing.assert_array_equal(y, expected[1])
        np.testing.assert_array_equal(x, expected[2])
    assert len(footprints.take(slice(None, None, -1))) == len(spans)


def test_first_peaks() -> None:
    """Return the first peak, NaN where there is none."""
    footprints = Footprints.from_spans(
        [[(0, 0, 1)]] * 3, peaks=[[(1.5, 2.0, 9.0), (3, 4, 5)], [], [(7, 8, 9)]]
    )
    x, y, has_peak = footprints.first_peaks()
    np.testing.assert_array_equal(has_peak, [True, False, True])
    np.testing.assert_array_equal(x, [1.5, np.nan, 7])
    np.testing.assert_array_equal(y, [2.0, np.nan, 8])
    assert footprints.peaks["i_x"].tolist() == [2, 3, 7]


def test_inconsistent_arrays_are_refused() -> None:
    """Refuse offsets and lengths that don't agree."""
    one = np.zeros(1, dtype=np.int32)
    with pytest.raises(ValueError, match="Offsets of spans"):
        Footprints(np.array([0, 2, 1]), one, one, one)
    with pytest.raises(ValueError, match="Arrays of spans"):
        Footprints(np.array([0, 2]), one, one, one)
    with pytest.raises(ValueError, match="ends before it begins"):
        Footprints(np.array([0, 1]), one, one + 1, one)
    with pytest.raises(ValueError, match="one pixel value per pixel"):
        Footprints(
            np.array([0, 1]), one, one, one + 1, is_heavy=np.array([True]), heavy_offsets=np.array([0, 0])
        )
    with pytest.raises(ValueError, match="do not have 1 elements"):
        Footprints(np.array([0, 1]), one, one, one, present=np.array([True, False]))


def test_catalogues_take_their_footprints_along() -> None:
    """Select rows of a catalogue with footprints."""
    footprints = _make([[(0, 0, 3)], [(1, 1, 2)], []])
    catalog = SourceCatalog(Schema.source_minimal(), 3, footprints=footprints)
    assert catalog[[2, 0]].footprints.area.tolist() == [0, 4]
    with pytest.raises(ValueError, match="3 footprints do not fit 2 rows"):
        SourceCatalog(Schema.source_minimal(), 2, footprints=footprints)
    assert not Footprints.empty(4).present.any()
