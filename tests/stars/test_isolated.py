# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from lsst.daf.butler import Butler, DatasetType
from lsst.meas.finalize.stars import ReserveIsolatedStarsTask, concat_isolated_star_cats, match_ids
from lsst.pipe.base import InMemoryDatasetHandle


def make_tables(seed: int, n: int = 60) -> tuple[Table, Table]:
    """Make stars with sources in two bands, three visits, two detectors.

    As upstream's, source tables hold the sources of one band, star by star.
    """
    rng = np.random.default_rng(seed)
    n_r = rng.integers(0, 4, n)
    star = np.repeat(np.arange(n), n_r)
    stars = Table(
        {
            "isolated_star_id": np.arange(n) + 1000 * seed,
            "nsource_r": n_r.astype(np.int32),
            "source_cat_index_r": (np.cumsum(n_r) - n_r).astype(np.int32),
            "nsource_g": np.zeros(n, np.int32),
            "source_cat_index_g": np.zeros(n, np.int32),
        }
    )
    sources = Table(
        {
            "sourceId": np.arange(len(star)) + 10**6 * seed,
            "obj_index": star.astype(np.int32),
            "visit": rng.integers(1, 4, len(star)),
            "detector": rng.integers(0, 2, len(star)).astype(np.int32),
            "extra": rng.normal(size=len(star)),
        }
    )
    return stars, sources


def make_handles(n_tracts: int = 3, n: int = 60) -> tuple[dict[int, Any], dict[int, Any]]:
    """Make in-memory handles of some tracts."""
    tables = {tract: make_tables(tract, n) for tract in range(1, n_tracts + 1)}
    return tuple(
        {t: InMemoryDatasetHandle(p[i], storageClass="ArrowAstropy", tract=t) for t, p in tables.items()}
        for i in (0, 1)
    )  # type: ignore[return-value]


def concat(cats: Any, sources: Any, band: str = "r", **kwargs: Any) -> tuple[Table | None, Table | None]:
    """Concatenate with the default reserve selection."""
    kwargs = {"id_column": "sourceId", "reserve": ReserveIsolatedStarsTask()} | kwargs
    return concat_isolated_star_cats(band, cats, sources, **kwargs)


def test_all_visits() -> None:
    """Meet all post-conditions of spec 01 §1.4."""
    cats, sources = make_handles()
    table, source_table = concat(cats, sources)
    assert table is not None
    assert source_table is not None
    assert source_table.colnames == ["sourceId", "obj_index", "reserved"]
    assert source_table["obj_index"].dtype == np.int32
    assert set(cats[1].get().colnames) < set(table.colnames)
    assert (table["nsource_r"] > 0).all()
    for i, (first, n) in enumerate(zip(table["source_cat_index_r"], table["nsource_r"], strict=True)):
        inside = np.zeros(len(source_table), bool)
        inside[first : first + n] = True
        np.testing.assert_array_equal(source_table["obj_index"] == i, inside)
    np.testing.assert_array_equal(
        source_table["reserved"], np.asarray(table["reserved"])[source_table["obj_index"]]
    )
    per_tract = [np.sum(cats[t].get()["nsource_r"] > 0) for t in cats]
    assert table["reserved"].sum() == sum(int(0.1 * n) for n in per_tract)


@pytest.mark.parametrize("detector", [None, 1])
def test_visit_and_detector(detector: int | None) -> None:
    """Keep the sources of a visit, but reserve as for all visits."""
    cats, sources = make_handles()
    everything, _ = concat(cats, sources)
    table, source_table = concat(cats, sources, visit=2, detector=detector)
    assert table is not None
    assert everything is not None
    assert source_table is not None
    assert source_table.colnames == ["sourceId", "obj_index", "visit", "detector", "reserved"]
    np.testing.assert_array_equal(table["isolated_star_id"], everything["isolated_star_id"])
    np.testing.assert_array_equal(table["reserved"], everything["reserved"])
    expected = {}
    for tract, handle in sources.items():
        original = handle.get()
        keep = (original["visit"] == 2) & ((original["detector"] == 1) | (detector is None))
        for row in original[keep]:
            expected[row["sourceId"]] = row["obj_index"] + 1000 * tract
    assert list(source_table["sourceId"]) == list(expected)
    stars = np.asarray(table["isolated_star_id"])[source_table["obj_index"]]
    assert stars.tolist() == list(expected.values())
    for i, first in enumerate(table["source_cat_index_r"]):
        own = np.flatnonzero(source_table["obj_index"] == i)
        assert first == (own[0] if len(own) else -1)


def test_inputs_are_not_changed() -> None:
    """Leave tables in memory as they were."""
    cats, sources = make_handles(1)
    before = [handle[1].get().copy() for handle in (cats, sources)]
    concat(cats, sources, visit=1)
    for handle, table in zip((cats, sources), before, strict=True):
        assert (handle[1].get() == table).all()


def test_plain_tables_and_columns() -> None:
    """Take tables instead of handles, and read only wanted star columns."""
    stars, sources = make_tables(1)
    table, _ = concat({1: stars}, {1: sources}, star_columns=["isolated_star_id"])
    assert table is not None
    assert table.colnames == ["isolated_star_id", "nsource_r", "source_cat_index_r", "reserved"]


class Handle:
    """Handle that records its parameters and may refuse filters."""

    def __init__(self, table: Table, knows_filters: bool) -> None:
        self.table = table
        self.knows_filters = knows_filters
        self.calls: list[dict[str, Any]] = []

    def get(self, *, parameters: dict[str, Any] | None = None) -> Table:
        """Return columns and rows."""
        parameters = parameters or {}
        self.calls.append(parameters)
        table = self.table[parameters.get("columns", self.table.colnames)]
        for name, operator, value in parameters.get("filters", ()):
            if not self.knows_filters:
                raise ValueError("Unsupported parameters: filters")
            assert operator == "="
            table = table[table[name] == value]
        return table


@pytest.mark.parametrize("knows_filters", [True, False])
def test_filters_are_used_where_known(knows_filters: bool) -> None:
    """Ask for rows, once only if that's refused, with the same result."""
    tables = [make_tables(i) for i in (1, 2)]
    cats = {i: t[0] for i, t in enumerate(tables)}
    handles = {i: Handle(t[1], knows_filters) for i, t in enumerate(tables)}
    columns = ["sourceId", "obj_index", "visit", "detector"]
    _, got = concat(cats, handles, visit=2, detector=1)
    _, expected = concat(cats, {i: t[1] for i, t in enumerate(tables)}, visit=2, detector=1)
    assert (got == expected).all()
    filters = [("visit", "=", 2), ("detector", "=", 1)]
    full, plain = {"columns": columns, "filters": filters}, {"columns": columns}
    assert handles[0].calls == ([full] if knows_filters else [full, plain])
    assert handles[1].calls == ([full] if knows_filters else [plain])


def test_butler_handles(tmp_path: Path) -> None:
    """Read Parquet files through a butler, whatever its reader knows."""
    Butler.makeRepo(tmp_path)
    butler = Butler.from_config(str(tmp_path), run="run", writeable=True)
    handles = []
    for name, table in zip(("stars", "sources"), make_tables(1), strict=True):
        butler.registry.registerDatasetType(DatasetType(name, (), "ArrowAstropy", universe=butler.dimensions))
        butler.put(table, name)
        handles.append({1: butler.getDeferred(name)})
    table, sources = concat(*handles, visit=2)
    expected, expected_sources = concat(*({1: t} for t in make_tables(1)), visit=2)
    assert (table == expected).all()
    assert (sources == expected_sources).all()


def test_nothing_usable_gives_none() -> None:
    """Return None for no tract, visit, band, or empty tables."""
    assert concat({}, {}) == (None, None)
    cats, sources = make_handles()
    assert concat(cats, sources, visit=77) == (None, None)
    assert concat(cats, sources, visit=2, detector=9) == (None, None)
    assert concat(cats, sources, band="g") == (None, None)
    empty = [make_tables(1)[i][:0] for i in (0, 1)]
    assert concat({1: empty[0]}, {1: empty[1]}) == (None, None)
    assert concat({1: empty[0]}, {1: empty[1]}, visit=2) == (None, None)


def test_sources_without_a_band_star_give_none() -> None:
    """Return None, not empty tables, if the visit's sources match nothing."""
    stars, sources = make_tables(1)
    stars["nsource_r"][1:] = 0
    stars["nsource_r"][0] = 1
    sources = sources[sources["obj_index"] > 0]
    assert concat({1: stars}, {1: sources}, visit=2) == (None, None)


def test_missing_things_are_named() -> None:
    """Name the missing tract, column, or sources."""
    stars, sources = make_tables(1)
    with pytest.raises(KeyError, match="Tract 1"):
        concat({1: stars}, {2: sources})
    with pytest.raises(KeyError, match="nsource_z"):
        concat({1: stars}, {1: sources}, band="z")
    with pytest.raises(KeyError, match="myId"):
        concat({1: stars}, {1: sources}, id_column="myId")
    with pytest.raises(ValueError, match="tract 1.*no source"):
        concat({1: stars}, {1: sources[sources["obj_index"] > 20]})


def test_all_reserved() -> None:
    """Reserve every star if that's configured, also by a plain function."""
    cats, sources = make_handles()
    config = ReserveIsolatedStarsTask.ConfigClass(reserve_fraction=1.0)
    for reserve in (ReserveIsolatedStarsTask(config=config), lambda n, extra: np.ones(n, bool)):
        table, source_table = concat(cats, sources, visit=1, reserve=reserve)
        assert table is not None
        assert source_table is not None
        assert table["reserved"].all()
        assert source_table["reserved"].all()


@pytest.mark.parametrize("column", ["sourceId", "obj_index", "visit", "detector"])
@pytest.mark.parametrize("dtype", [str, ">i8", "u8", object])
@pytest.mark.parametrize("knows_filters", [True, False])
def test_sources_are_the_same_in_any_form(column: str, dtype: Any, knows_filters: bool) -> None:
    """Find the same rows whatever type a key has, even if filters on it find
    none.
    """
    stars, sources = make_tables(1)
    sources["sourceId"] += 2**60
    _, expected = concat({1: stars}, {1: sources}, visit=2, detector=1)
    odd = sources.copy()
    odd[column] = np.asarray(sources[column]).astype(dtype)
    _, got = concat({1: stars}, {1: Handle(odd, knows_filters)}, visit=2, detector=1)
    assert expected is not None
    assert got is not None
    assert len(expected)
    for name in expected.colnames:
        assert got[name].tolist() == expected[name].tolist()
        assert got[name].dtype.kind in "iub"


@pytest.mark.parametrize("column", ["sourceId", "obj_index", "visit", "detector"])
def test_uncertain_keys_are_refused(column: str) -> None:
    """Name dataset, tract and column of keys with gaps or rounded ones."""
    stars, sources = make_tables(1)
    gap = Table(sources, masked=True)
    gap[column].mask[5] = True
    rounded = sources.copy()
    rounded[column] = np.asarray(sources[column]) + 2.0**53
    for table in (gap, rounded):
        with pytest.raises(ValueError, match=rf"'{column}' of isolated_star_sources of tract 7"):
            concat({7: stars}, {7: table}, visit=2)
    for column in ("nsource_r", "source_cat_index_r"):
        gap = Table(stars, masked=True)
        gap[column].mask[5] = True
        with pytest.raises(ValueError, match=rf"'{column}' of isolated_star_cats of tract 7"):
            concat({7: gap}, {7: sources}, visit=2)


def test_small_integers_do_not_overflow() -> None:
    """Widen indices that count the rows of all tracts."""
    tables = {tract: make_tables(tract) for tract in (1, 2, 3)}
    expected, expected_sources = concat(*({t: p[i] for t, p in tables.items()} for i in (0, 1)))
    for stars, sources in tables.values():
        stars["source_cat_index_r"] = stars["source_cat_index_r"].astype(np.uint8)
        sources["obj_index"] = sources["obj_index"].astype(np.int8)
    got, got_sources = concat(*({t: p[i] for t, p in tables.items()} for i in (0, 1)))
    assert got["source_cat_index_r"].tolist() == expected["source_cat_index_r"].tolist()
    assert got_sources["obj_index"].tolist() == expected_sources["obj_index"].tolist()


class ClientError(Exception):
    """Error like those of the clients of object stores."""


@pytest.mark.parametrize("raised", [ValueError, ClientError, OSError, MemoryError])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_unreadable_tables_are_named(raised: type[Exception], in_pieces: bool) -> None:
    """Name dataset and tract of a table whose reader fails."""

    class Broken(Handle):
        def get(self, **kwargs: Any) -> Table:
            raise raised("truncated")

        def batches(self, *args: Any) -> Any:
            return iter(self.get, 0) if in_pieces else None

    stars, sources = make_tables(1)
    broken = Broken(sources, True)
    kind = raised if raised in (OSError, MemoryError) else ValueError
    with pytest.raises(kind, match="isolated_star_sources of tract 7 can't be read: truncated"):
        concat({7: stars}, {7: broken}, visit=2)
    with pytest.raises(kind, match="isolated_star_cats of tract 7 can't be read: truncated"):
        concat({7: broken}, {7: sources}, visit=2)


@given(st.lists(st.integers(-5, 30), unique=True), st.lists(st.integers(-5, 30)))
def test_match_is_that_of_a_loop(unique: list[int], values: list[int]) -> None:
    """Agree with a dictionary for any numbers."""
    a, b = match_ids(np.array(unique, dtype=np.int64), np.array(values, dtype=np.int64))
    lookup = {value: i for i, value in enumerate(unique)}
    expected = [(lookup[v], j) for j, v in enumerate(values) if v in lookup]
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == expected


def test_match_refuses_repetitions() -> None:
    """Name the id that isn't unique."""
    with pytest.raises(ValueError, match="first repeated one is 4"):
        match_ids(np.array([4, 1, 4]), np.array([1]))
