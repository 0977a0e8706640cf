# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Whole runs on prepared stars, from tables of all forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lsst.meas.finalize.afw import write_exposure_catalog
from lsst.meas.finalize.butler import PreparedStarsFormatter, StreamedTable
from lsst.pipe.base import InMemoryDatasetHandle, Struct
from lsst.pipe.tasks.finalizeCharacterization import (
    FinalizeCharacterizationDetectorTask,
    PrepareIsolatedStarsConfig,
    PrepareIsolatedStarsTask,
)
from lsst.resources import ResourcePath

Tables = dict[str, dict[int, pa.Table]]

CATS, SOURCES, FGCM = "isolated_star_cat_dict", "isolated_star_source_dict", "fgcm_standard_star_dict"
FOLDERS = {
    CATS: "isolated_star_presource_associations",
    SOURCES: "isolated_star_presources",
    FGCM: "fgcm_standard_star",
}
# In the order of importance: the first three have stars of the detector.
TRACTS = (3, 4, 9, 7, 12, 13, 14)
KEYS = ("sourceId", "obj_index", "visit", "detector", "nsource_r", "source_cat_index_r")


def replaced(table: pa.Table, **columns: Any) -> pa.Table:
    """Replace columns."""
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


@pytest.fixture(scope="module")
def tables(tiny: Path) -> Tables:
    """Return the tables of seven tracts: two of them share the detector's
    stars, a third has half of these again; the others have stars elsewhere,
    sources of another visit, stars not seen in the band, and nothing.
    """
    result: Tables = {
        name: {
            tract: pq.read_table(next((tiny / "export/golden/inputs" / folder / str(tract)).glob("*.parq")))
            for tract in (4, 7)
        }
        for name, folder in FOLDERS.items()
    }
    cats, sources, fgcm = (result[name] for name in FOLDERS)
    star = sources[4]["obj_index"]
    for tract, rows in {3: pc.less(star, 40), 9: pc.equal(pc.bit_wise_and(star, 1), 0)}.items():
        cats[tract], sources[tract], fgcm[tract] = cats[4], sources[4].filter(rows), fgcm[4].slice(0, 30)
    sources[4] = sources[4].filter(pc.greater(star, 30))
    # A tract without rows of the visit.
    cats[12], fgcm[12] = cats[7], fgcm[7].slice(0, 0)
    sources[12] = replaced(sources[7], visit=pc.add(sources[7]["visit"], 1))
    # A band that nobody observed.
    cats[13] = replaced(cats[7], nsource_r=pc.multiply(cats[7]["nsource_r"], 0).cast(pa.int32()))
    sources[13], fgcm[13] = sources[7], fgcm[7].drop_columns(["mag_i"])
    # Empty tables.
    cats[14], sources[14], fgcm[14] = cats[4].slice(0, 0), sources[4].slice(0, 0), fgcm[4].slice(0, 0)
    # Some magnitudes are unknown.
    for tract in (4, 7):
        unknown = np.where(np.arange(len(fgcm[tract])) % 7, fgcm[tract]["mag_g"], np.nan)
        fgcm[tract] = replaced(fgcm[tract], mag_g=pa.chunked_array([unknown]))
    return {name: dict(sorted(tracts.items())) for name, tracts in result.items()}


@pytest.fixture
def make(make_task: Callable[..., Any]) -> Callable[..., FinalizeCharacterizationDetectorTask]:
    """Return a function that makes a task to which every column matters."""

    def make(**options: Any) -> FinalizeCharacterizationDetectorTask:
        config = make_task(do_add_fgcm_photometry=True, do_add_sky_moments=True, **options).config
        config = type(config)(**dict(config.items()))
        config.psf_determiner["piff"].useColor = True
        config.psf_determiner["piff"].color = {"r": "g-i"}
        config.reserve_selection.reserve_fraction = 0.4
        return FinalizeCharacterizationDetectorTask(config=config)

    return make


def run(inputs: Any, task: Any, handles: Mapping[str, Any], prepared: Any = None) -> Struct:
    """Run the detector task."""
    data = {name: getattr(inputs, name) for name in ("visit", "band", "detector", "src", "exposure")}
    return task.run(**data, **handles, prepared_isolated_stars=prepared)


def stored(result: Struct, folder: Path) -> dict[str, bytes]:
    """Return the bits of all that a run has made: each column, and the file
    of PSF and aperture corrections.
    """
    path = folder / "catalog.fits"
    write_exposure_catalog(result.psf_ap_corr_cat, path)
    table = result.output_table
    columns = {f"{name} {table[name].dtype}": np.asarray(table[name]).tobytes() for name in table.colnames}
    return columns | {"catalog": path.read_bytes()}


def check_that_it_matters(result: Struct, tables: Tables) -> None:
    """Check that a fault in any of the columns would change the results."""
    table = result.output_table
    in_tract = [np.isin(table["id"], tables[SOURCES][tract]["sourceId"]) for tract in (3, 4, 9)]
    for count in (1, 2):
        assert (np.sum(in_tract, axis=0) == count).sum() > 5
    reserved = np.asarray(table["calib_psf_reserved"])
    for rows in in_tract:
        assert 0 < reserved[rows].sum() < rows.sum()
    colors = np.asarray(table["psf_color_value"])
    assert 10 < np.isfinite(colors).sum() < len(colors)


def in_memory(tracts: Mapping[int, pa.Table]) -> dict[int, Any]:
    """Return handles of tables in memory."""
    return {t: InMemoryDatasetHandle(table, storageClass="ArrowTable") for t, table in tracts.items()}


def each(change: Callable[[pa.Table], pa.Table]) -> Callable[[str, pa.Table], pa.Table]:
    """Return a form in which all tables are changed alike."""
    return lambda name, table: change(table)


def cast(types: Mapping[str, Any]) -> Callable[[str, pa.Table], pa.Table]:
    """Return a form with columns of other types."""

    def change(table: pa.Table) -> pa.Table:
        return replaced(table, **{n: table[n].cast(t) for n, t in types.items() if n in table.column_names})

    return each(change)


def with_index(name: str, table: pa.Table) -> pa.Table:
    """Return what pandas writes of a table with an index.

    The index of a table without rows isn't in the file.
    """
    if not len(table):
        return table
    frame = table.to_pandas()
    return pa.Table.from_pandas(frame.set_index("sourceId" if name == SOURCES else "isolated_star_id"))


def with_gaps(table: pa.Table) -> pa.Table:
    """Mask what is unknown, and what nobody needs."""
    n = len(table)
    columns = {}
    for name in table.column_names:
        column = table[name]
        if name.startswith("mag_"):
            columns[name] = pc.if_else(pc.is_nan(column), None, column)
        elif name in ("isolated_star_id", "nsource", "nsource_g", "primary_band"):
            columns[name] = pc.if_else(pa.array(np.arange(n) % 3 == 0), None, column)
    return replaced(table, **columns)


def dictionary(table: pa.Table) -> pa.Table:
    """Encode all columns by dictionaries."""
    return replaced(table, **{n: table[n].dictionary_encode() for n in table.column_names if len(table)})


SMALL = {"detector": pa.uint8(), "obj_index": pa.int16(), "nsource_r": pa.int8(), "sourceId": pa.uint64()}
FORMS: dict[str, Callable[[str, pa.Table], pa.Table]] = {
    "plain": lambda name, table: table,
    "dictionary": each(dictionary),
    "large_string": cast(dict.fromkeys(KEYS, pa.large_string())),
    "float64": cast({n: pa.float64() for n in KEYS if n != "sourceId"}),
    "small": cast(SMALL),
    "float32": cast({n: pa.float32() for n in KEYS if n not in ("sourceId", "visit")}),
    "pandas index": with_index,
    "pandas": each(lambda table: pa.Table.from_pandas(table.to_pandas())),
    "masked": each(with_gaps),
}


def write(tables: Tables, first: int, folder: Path) -> dict[str, Any]:
    """Write tables, each tract in a form of its own; return handles that
    stream them.
    """
    handles: dict[str, Any] = {name: {} for name in tables}
    forms = list(FORMS.values())
    for i, tract in enumerate(TRACTS):
        for name, tracts in tables.items():
            path = folder / f"{name}_{tract}.parq"
            pq.write_table(forms[(first + i) % len(forms)](name, tracts[tract]), path, row_group_size=50)
            # Standard stars are read at once.
            whole = InMemoryDatasetHandle(pq.read_table(path), storageClass="ArrowTable")
            handle = StreamedTable(whole if name == FGCM else None, ResourcePath(path))
            handles[name][tract] = handle
    return {name: dict(sorted(tracts.items())) for name, tracts in handles.items()}


def prepare(inputs: Any, handles: Mapping[str, Any], folder: Path) -> StreamedTable:
    """Prepare stars, into a file like those of the butler."""
    task = PrepareIsolatedStarsTask(config=PrepareIsolatedStarsConfig(match_fgcm_standard_stars=True))
    uri = ResourcePath(folder / "prepared.parq")
    # Writing needs nothing of what a formatter knows.
    formatter = object.__new__(PreparedStarsFormatter)
    formatter.write_local_file(task.run(inputs.visit, inputs.band, **handles).prepared_isolated_stars, uri)
    return StreamedTable(None, uri)


def test_whole_runs_are_identical(make: Any, tiny_inputs: Any, tables: Tables, tmp_path: Path) -> None:
    """Get all bits with the step that there are without, whatever forms the
    tables have.
    """
    result = run(tiny_inputs, make(), {name: in_memory(tracts) for name, tracts in tables.items()})
    check_that_it_matters(result, tables)
    expected = stored(result, tmp_path)
    assert len(expected) > 100
    nothing = dict.fromkeys(FOLDERS)
    # The first three tracts have the stars.
    for first in range(0, len(FORMS), 3):
        handles = write(tables, first, tmp_path)
        prepared = prepare(tiny_inputs, handles, tmp_path)
        task = make(use_prepared_stars=True, use_prepared_photometry=True)
        got = stored(run(tiny_inputs, task, nothing, prepared), tmp_path)
        assert list(got) == list(expected)
        assert [name for name in expected if got[name] != expected[name]] == [], first
    # Standard stars, and all stars, from the tables of the tracts.
    task = make(use_prepared_stars=True)
    assert stored(run(tiny_inputs, task, nothing | {FGCM: handles[FGCM]}, prepared), tmp_path) == expected
    assert stored(run(tiny_inputs, make(), handles), tmp_path) == expected
