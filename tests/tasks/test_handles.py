# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from typing import Any

import pytest

from lsst.daf.butler import DataCoordinate, DimensionUniverse
from lsst.meas.finalize.tasks._handles import sorted_by, sorted_by_tract
from lsst.pipe.base import InMemoryDatasetHandle


def handle(**data_id: Any) -> InMemoryDatasetHandle:
    """Return a handle with a data ID."""
    return InMemoryDatasetHandle(data_id, storageClass="StructuredDataDict", **data_id)


def test_handles_are_sorted() -> None:
    """Sort by the value, whatever kind of data ID it is in."""
    universe = DimensionUniverse()
    standard = DataCoordinate.standardize(instrument="X", detector=3, universe=universe)
    handles = [
        InMemoryDatasetHandle(1, storageClass="int", dataId=standard),
        handle(instrument="X", detector=1),
        handle(instrument="X", detector=2),
    ]
    assert list(sorted_by(handles, "detector", "srcs")) == [1, 2, 3]
    assert sorted_by([], "detector", "srcs") == {}


def test_two_sky_maps_are_named_with_a_cure() -> None:
    """Name the sky maps of a repeated tract, and a query."""
    handles = [handle(skymap=s, tract=t, instrument="X") for s in ("rings", "hsc") for t in (4, 7)]
    with pytest.raises(
        ValueError, match=r"isolated_star_cats has 2 datasets of tract 4, of the sky maps"
    ) as e:
        sorted_by(handles, "tract", "isolated_star_cats")
    assert "'hsc', 'rings'" in str(e.value)
    assert "skymap = 'hsc'" in str(e.value)


def test_other_repetitions_are_named() -> None:
    """Name instruments, several dimensions at once, or equal data IDs."""
    two = [handle(instrument=i, detector=5, visit=1) for i in ("LATISS", "LSSTCam")]
    with pytest.raises(
        ValueError, match=r"srcs has 2 datasets of detector 5.*LSSTCam.*instrument = 'LATISS'"
    ):
        sorted_by(two, "detector", "srcs")
    two = [handle(instrument=i, detector=5, visit=v) for i, v in (("A", 1), ("B", 2))]
    with pytest.raises(ValueError, match=r"instrument = 'A'.*visits 1, 2.*visit = 1"):
        sorted_by(two, "detector", "srcs")
    with pytest.raises(ValueError, match=r"srcs has 3 datasets of detector 5 with equal data IDs"):
        sorted_by([handle(instrument="A", detector=5)] * 3, "detector", "srcs")
    with pytest.raises(ValueError, match=r"srcs has no tract"):
        sorted_by([handle(instrument="A", detector=5)], "tract", "srcs")


def test_tables_of_a_visit_are_of_one_sky_map() -> None:
    """Refuse stars and sources of tracts of different sky maps, though no
    number repeats.
    """
    a = [handle(skymap="a", tract=t) for t in (4, 7)]
    b = [handle(skymap="b", tract=t) for t in (4, 8)]
    inputs = {"isolated_star_cats": a, "isolated_star_sources": a, "src": 3}
    expected = {4: a[0], 7: a[1]}
    assert sorted_by_tract(inputs) == {
        "isolated_star_cats": expected,
        "isolated_star_sources": expected,
        "fgcm_standard_star": None,
    }
    for other in ("isolated_star_cats", "isolated_star_sources", "fgcm_standard_star"):
        with pytest.raises(ValueError, match=r"sky maps 'a', 'b'.*skymap = 'a'"):
            sorted_by_tract(inputs | {other: b})
    with pytest.raises(ValueError, match=r"sky maps 'a', 'b'"):
        sorted_by_tract({"isolated_star_cats": [a[0], b[1]], "isolated_star_sources": []})
