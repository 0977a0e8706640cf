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
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.catalogs import Deferred, ExposureCatalog, ExposureRecord, Schema


def _catalog(ids: list[int]) -> ExposureCatalog:
    schema = Schema.exposure_minimal()
    schema.add_field("visit", "L")
    schema.add_field("seeing", "D")
    catalog = ExposureCatalog(schema, len(ids))
    catalog["id"] = np.array(ids, dtype=np.int64)
    catalog.ap_corr_maps = [{"row": row} for row in range(len(ids))]  # type: ignore[dict-item]
    catalog.components["wcs"] = [f"wcs {i}" for i in ids]
    return catalog


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(-(2**62), 2**62), max_size=8), st.integers(-(2**62), 2**62))
def test_rows_are_found_by_id(ids: set[int], other: int) -> None:
    """Find each row with what belongs to it, and nothing else."""
    catalog = _catalog(sorted(ids))
    for row, detector in enumerate(sorted(ids)):
        record = catalog.find(detector)
        assert record is not None
        assert record.id == detector
        assert record.ap_corr_map == {"row": row}
        assert record.get("wcs") == f"wcs {detector}"
        assert record.get("detector") is None
    assert (catalog.find(other) is not None) == (other in ids)


@pytest.mark.parametrize("ids", [[1, 1], [2, 1], [0, 5, 3, 1]])
def test_unsorted_rows_are_found(ids: list[int]) -> None:
    """Find rows in whatever order they are, the first of several."""
    catalog = _catalog(ids)
    record = catalog.find(1)
    assert record is not None
    assert record.id == 1
    assert record.ap_corr_map == {"row": ids.index(1)}
    assert catalog.find(7) is None


class _Late(Deferred):
    def __init__(self) -> None:
        self.n = 0

    def get(self) -> str:
        self.n += 1
        return "made"


def test_deferred_objects_are_made_when_asked_for() -> None:
    """Make objects for whoever asks, and not for appending rows."""
    source, target = _catalog([1, 4]), _catalog([])
    late = [_Late() for _ in range(3)]
    source.psfs[1], source.ap_corr_maps[1], source.components["wcs"][1] = late
    for record in source:
        target.append(record)
    found = target.find(4)
    assert found is not None
    assert [item.n for item in late] == [0, 0, 0]
    assert target.raw_objects()["psf"] == [None, late[0]]
    assert found.get("wcs") == found.psf == found.ap_corr_map == "made"
    assert target.psfs[-1] == "made"
    assert target.psfs == [None, "made"]
    target.psfs[1] = None
    assert target.psfs[1] is None
    del target.psfs[0]
    assert len(target.psfs) == 1


def test_records_are_appended() -> None:
    """Append rows of one catalogue to another."""
    source, target = _catalog([1, 4]), _catalog([])
    source["visit"] = [10, 11]
    for record in source:
        target.append(record)
    assert len(target) == 2
    np.testing.assert_array_equal(target["visit"], [10, 11])
    assert target.psfs == [None, None]
    assert target.find(4).ap_corr_map == {"row": 1}
    assert target[-1].get("wcs") == "wcs 4"
    target.append(ExposureRecord({"id": 9}))
    assert target[2]["visit"] == 0
    assert np.isnan(target[2]["seeing"])
    assert target[2].get("wcs") is None


def test_unsuitable_records_are_refused() -> None:
    """Refuse unknown fields and rows that aren't there."""
    catalog = _catalog([1])
    with pytest.raises(KeyError, match=r"no fields \['band'\]"):
        catalog.append(ExposureRecord({"id": 2, "band": "r"}))
    assert len(catalog) == 1
    with pytest.raises(IndexError, match="Row 1 is outside a catalog of 1 rows"):
        catalog[1]


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        slice(None, None, -1),
        np.array([True, False, False, True]),
        [2, 0, 0, -1],
        [],
        np.zeros(4, dtype=bool),
    ],
)
def test_some_rows(index: slice | np.ndarray | list[int]) -> None:
    """Take rows with what is attached to them, none of which is made."""
    catalog = _catalog([3, 5, 7, 9])
    late = [_Late() for _ in range(4)]
    catalog.psfs = late
    catalog.metadata["A"] = 1
    rows = np.arange(4)[index].tolist()
    part = catalog[index]
    assert part["id"].tolist() == [[3, 5, 7, 9][row] for row in rows]
    assert list(part.ap_corr_maps) == [{"row": row} for row in rows]
    assert [record.get("wcs") for record in part] == [f"wcs {record.id}" for record in part]
    assert part.raw_objects()["psf"] == [late[row] for row in rows]
    assert all(obj.n == 0 for obj in late)
    part["id"] = -1
    part.metadata["A"] = 2
    assert catalog["id"].tolist() == [3, 5, 7, 9]
    assert catalog.metadata == {"A": 1}
    with pytest.raises(IndexError):
        _ = catalog[np.zeros(3, dtype=bool)]


def test_a_copy_has_its_own_rows() -> None:
    """Append to a copy, and index by numbers of NumPy."""
    catalog = _catalog([3, 5])
    again = catalog.copy()
    again.append(ExposureRecord({"id": 7}))
    again.psfs[0] = None
    assert (len(catalog), len(again)) == (2, 3)
    assert again[np.int64(-1)].id == 7
    assert catalog[np.uint8(1)].ap_corr_map is again[1].ap_corr_map


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda objects: objects.copy()])
def test_lists_of_objects_are_copied(copied: Callable[[Any], Any]) -> None:
    """Change a copy and leave the catalogue as it is, as with a list."""
    catalog = _catalog([3, 5])
    catalog.psfs = late = [_Late(), _Late()]
    for objects in (catalog.psfs, catalog.components["wcs"]):
        again = copied(objects)
        again[0] = None
        again.append(1)
        assert len(objects) == 2
    assert all(obj.n == 0 for obj in late)
    assert catalog.raw_objects()["psf"] == late
