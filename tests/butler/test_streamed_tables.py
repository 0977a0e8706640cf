# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from lsst.daf.butler import Butler, DatasetType, FileDataset
from lsst.meas.finalize.butler import PreparedStarsFormatter, StreamedTable, stream, stream_all
from lsst.meas.finalize.stars import (
    PREPARED_FORMAT,
    ReserveIsolatedStarsTask,
    concat_isolated_star_cats,
    prepare_isolated_stars,
    read_fgcm_standard_stars,
    read_prepared_stars,
)
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.resources import ResourcePath

COLUMNS = ("sourceId", "obj_index", "visit", "detector")
N_VISITS = 20


@pytest.fixture
def butler(tmp_path: Path) -> Iterator[Butler]:
    """Return a butler with dataset types of tables."""
    Butler.makeRepo(str(tmp_path / "repo"))
    with Butler.from_config(str(tmp_path / "repo"), run="run", writeable=True) as butler:
        for name in ("table", "stars", "finalize_isolated_stars"):
            butler.registry.registerDatasetType(
                DatasetType(name, (), "ArrowAstropy", universe=butler.dimensions)
            )
        yield butler


def make_sources(n: int = 5000) -> Table:
    """Make sources sorted by visit."""
    rng = np.random.default_rng(1)
    return Table(
        {
            "sourceId": 2**60 + rng.permutation(n),
            "obj_index": rng.integers(0, 300, n).astype(np.int32),
            "visit": 100 + np.arange(n) * N_VISITS // n,
            "detector": rng.integers(0, 9, n).astype(np.int16),
            "ra": rng.random(n) * u.rad,
            "other": np.full(n, "some text"),
        }
    )


def make_stars() -> Table:
    """Make the stars of the sources."""
    return Table({"nsource_r": np.full(300, 5), "source_cat_index_r": np.arange(300)})


def ingest(butler: Butler, path: Path, table: pa.Table, rows: int = 300, **options: Any) -> Any:
    """Let the butler have a Parquet file of many row groups."""
    pq.write_table(table, path, row_group_size=rows, **options)
    ref = butler.registry.insertDatasets("table", [{}], run="run")[0]
    formatter = "lsst.daf.butler.formatters.parquet.ParquetFormatter"
    butler.ingest(FileDataset(path, [ref], formatter=formatter), transfer="direct")
    return butler.getDeferred(ref)


def read(source: Any, visit: int = 107) -> Table | None:
    """Select sources through the reader."""
    options: dict[str, Any] = {"id_column": "sourceId", "reserve": ReserveIsolatedStarsTask(), "visit": visit}
    return concat_isolated_star_cats("r", {3: make_stars()}, {3: source}, star_columns=(), **options)[1]


def changed(table: pa.Table, name: str, column: Any) -> pa.Table:
    """Replace a column."""
    return table.set_column(table.column_names.index(name), name, column)


FORMS: dict[str, Any] = {
    "plain": lambda t: t,
    "dictionary": lambda t: changed(t, "visit", t["visit"].dictionary_encode()),
    "large_string": lambda t: changed(t, "visit", t["visit"].cast(pa.large_string())),
    "float32": lambda t: changed(t, "visit", t["visit"].cast(pa.float32())),
    "unsigned": lambda t: changed(t, "sourceId", t["sourceId"].cast(pa.uint64())),
    "pandas index": lambda t: pa.Table.from_pandas(t.to_pandas().set_index("sourceId")),
    "pandas": lambda t: pa.Table.from_pandas(t.to_pandas()),
    "renamed": lambda t: t.append_column("__index_level_0__", t["visit"]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_streaming_is_like_reading(tmp_path: Path, form: str, order: str) -> None:
    """Select the same rows from many row groups as from a table in memory."""
    sources = make_sources()
    if order == "shuffled":
        sources = sources[np.random.default_rng(2).permutation(len(sources))]
    path = tmp_path / "a.parq"
    pq.write_table(FORMS[form](pa.table({n: sources[n] for n in sources.colnames})), path, row_group_size=300)
    # It has no handle to fall back to.
    streamed = StreamedTable(None, ResourcePath(path))
    for visit in (107, 100 + N_VISITS - 1, 5):
        got, expected = read(streamed, visit), read(sources, visit)
        if expected is None:
            assert got is None
            continue
        assert got is not None
        assert [got[n].tolist() for n in expected.colnames] == [
            expected[n].tolist() for n in expected.colnames
        ]


@pytest.mark.parametrize("form", [*FORMS, "butler"])
def test_reading_at_once_is_the_butlers(butler: Butler, tmp_path: Path, form: str) -> None:
    """Read whole tables of any origin as the butler gives them."""
    sources = make_sources(700)
    if form == "butler":
        sources.meta["where"] = "there"
        handle = butler.getDeferred(butler.put(sources, "stars"))
    else:
        handle = ingest(butler, tmp_path / "t.parq", FORMS[form](pa.table(dict(sources.columns))))
    table, expected = stream(handle).read(), handle.get(storageClass="ArrowTable")
    assert table.equals(expected, check_metadata=True)
    assert table.schema.metadata == expected.schema.metadata


def test_damage_is_named_when_reading_at_once(butler: Butler) -> None:
    """Name dataset and file where pages are overwritten, and where all is."""
    handle = butler.getDeferred(butler.put(make_sources(), "stars"))
    path = Path(butler.getURI("stars").ospath)
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(3000) + content[3200:])
    with pytest.raises(OSError, match=r"stars@\{\}.* can't be read from file:.*parq"):
        stream(handle).read()
    path.write_bytes(bytes(len(content)))
    with pytest.raises((ValueError, OSError), match="stars"):
        stream(handle).read()


def test_handles_are_looked_up_together(butler: Butler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up files one by one where one is missing, or means a part."""
    refs = [butler.put(make_sources(), name) for name in ("stars", "table")]
    deferred = [butler.getDeferred(ref) for ref in refs]
    part = butler.getDeferred(refs[0], parameters={"columns": ["visit"]})
    assert stream_all([part]) == [part]
    with monkeypatch.context() as patch:
        patch.setattr(type(butler), "getURI", None)
        assert [handle.ref for handle in stream_all(deferred)] == refs
        assert all(isinstance(handle, StreamedTable) for handle in stream_all(deferred))
    butler.pruneDatasets([refs[1]], disassociate=False, unstore=True)
    first, second = stream_all(deferred)
    assert isinstance(first, StreamedTable)
    with pytest.raises(FileNotFoundError, match="table"):
        second.get()


def test_row_groups_are_skipped(butler: Butler, tmp_path: Path) -> None:
    """Read only the row groups of a visit, and all that have a gap."""
    sources = make_sources()
    table = pa.table({n: sources[n] for n in COLUMNS})
    pieces = stream(ingest(butler, tmp_path / "a.parq", table)).batches(COLUMNS, [("visit", "=", 107)])
    assert sum(len(piece) for piece in pieces) in (300, 600)
    nothing = list(stream(ingest_again(butler, tmp_path, table)).batches(COLUMNS, [("visit", "=", 5)]))
    assert [len(piece) for piece in nothing] == [0]
    gap = pa.array(sources["obj_index"], mask=np.arange(len(sources)) == 4000)
    handle = stream(ingest_again(butler, tmp_path, changed(table, "obj_index", gap)))
    with pytest.raises(ValueError, match="'obj_index' of isolated_star_sources .* of tract 3"):
        read(handle, 101)


def ingest_again(butler: Butler, tmp_path: Path, table: pa.Table) -> Any:
    """Replace the dataset by another."""
    butler.pruneDatasets(list(butler.query_datasets("table")), unstore=True, purge=True, disassociate=True)
    return ingest(butler, tmp_path / f"{len(list(tmp_path.iterdir()))}.parq", table)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_damaged_pages_are_named(butler: Butler, tmp_path: Path, compression: str) -> None:
    """Name dataset and tract of a file that is cut off or overwritten."""
    sources = make_sources()
    path = tmp_path / "a.parq"
    table = pa.table({n: sources[n] for n in COLUMNS})
    options = {"compression": compression, "write_page_checksum": True, "use_dictionary": False}
    handle = ingest(butler, path, table, **options)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(800) + content[middle + 800 :])
    for piece in (stream(handle), handle):
        with pytest.raises(
            (ValueError, OSError), match=r"isolated_star_sources \(table\) of tract 3 can't be"
        ):
            [read(piece, visit) for visit in range(100, 100 + N_VISITS)]
    path.write_bytes(content[:middle])
    with pytest.raises((ValueError, OSError), match=r"isolated_star_sources \(table\) of tract 3 can't be"):
        read(stream(handle))
    path.unlink()
    with pytest.raises(OSError, match=r"isolated_star_sources \(table\) of tract 3 can't be"):
        read(stream(handle))


def test_checksums_are_verified(butler: Butler, tmp_path: Path) -> None:
    """Refuse values that were changed in the file, where it has checksums:
    the prepared table does.
    """
    path = tmp_path / "a.parq"
    table = pa.table({n: make_sources()[n] for n in COLUMNS})
    options = {"compression": "none", "write_page_checksum": True, "use_dictionary": False}
    handle = stream(ingest(butler, path, table, **options))
    prepared = butler.getURI(butler.put(make_prepared(), "finalize_isolated_stars"))
    prepared_handle = stream(butler.getDeferred("finalize_isolated_stars"))
    for file, columns, source in (
        (path, COLUMNS, handle),
        (Path(prepared.ospath), ("sourceId",), prepared_handle),
    ):
        assert list(source.batches(columns))
        content = bytearray(file.read_bytes())
        # In the values of the first column, which begins with its page header.
        content[1000] ^= 1
        file.write_bytes(content)
        with pytest.raises(OSError, match="checksum|CRC"):
            list(source.batches(columns))


def test_missing_columns_are_named(butler: Butler, tmp_path: Path) -> None:
    """Name the column, as reading through the butler does."""
    sources = make_sources(10)
    handle = ingest(butler, tmp_path / "a.parq", pa.table({n: sources[n] for n in COLUMNS[:3]}))
    with pytest.raises(KeyError, match=r"\(table\) of tract 3 has no columns \['detector'\]"):
        read(stream(handle))


@pytest.mark.parametrize("writer", ["butler", "astropy"])
def test_units_are_known(butler: Butler, tmp_path: Path, writer: str) -> None:
    """Convert positions in radians, wherever their unit is stored."""
    table = make_sources(10)["ra", "other"]
    table["dec"] = table["ra"].to(u.arcsec)
    table["mag_g"] = 20.0
    if writer == "butler":
        butler.put(table, "table")
        handle = butler.getDeferred("table")
    else:
        table.write(tmp_path / "b.parquet", format="parquet")
        handle = ingest(butler, tmp_path / "a.parq", pq.read_table(tmp_path / "b.parquet"))
    streamed, direct = (read_fgcm_standard_stars({3: h}) for h in (stream(handle), handle))
    assert streamed is not None
    assert direct is not None
    for name in ("ra", "dec"):
        np.testing.assert_allclose(streamed[name], np.rad2deg(make_sources(10)["ra"].value), rtol=1e-14)
        assert streamed[name].tobytes() == direct[name].tobytes()


def test_what_has_no_file_stays(butler: Butler) -> None:
    """Return other handles as they are."""
    table = make_sources(10)
    memory = InMemoryDatasetHandle(table, storageClass="ArrowAstropy")
    assert stream(memory) is memory
    assert stream(None) is None
    assert stream(table) is table
    butler.put(table, "table")
    with_parameters = butler.getDeferred("table", parameters={"columns": ["visit"]})
    assert stream(with_parameters) is with_parameters
    plain = stream(butler.getDeferred("table"))
    assert plain.get().colnames == table.colnames
    assert plain.dataId == plain.ref.dataId


def test_in_memory_datastores_are_read(tmp_path: Path) -> None:
    """Read from a store that has no files."""
    config = "datastore:\n  cls: lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore\n"
    (tmp_path / "seed.yaml").write_text(config)
    Butler.makeRepo(str(tmp_path / "repo"), config=str(tmp_path / "seed.yaml"))
    with Butler.from_config(str(tmp_path / "repo"), run="run", writeable=True) as butler:
        kind = DatasetType("table", (), "ArrowAstropy", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        butler.put(make_sources(), "table")
        got, expected = read(stream(butler.getDeferred("table"))), read(make_sources())
        assert (got == expected).all()


def make_prepared(n_detectors: int = 20, n: int = 8000) -> Table:
    """Prepare a visit's isolated sources."""
    sources = make_sources(n)
    sources["visit"] = 107
    sources["detector"] = np.arange(n) % n_detectors
    options: dict[str, Any] = {"id_column": "sourceId", "reserve": ReserveIsolatedStarsTask(), "visit": 107}
    table = prepare_isolated_stars("r", {3: make_stars()}, {3: sources}, **options)
    assert table is not None
    return table


def test_prepared_tables_have_row_groups_by_detector(butler: Butler) -> None:
    """Write whole detectors into row groups, for any client to read."""
    table = make_prepared()
    ref = butler.put(table, "finalize_isolated_stars")
    uri = butler.getURI(ref)
    groups = pq.ParquetFile(uri.ospath)
    detectors = [set(groups.read_row_group(i)["detector"].to_pylist()) for i in range(groups.num_row_groups)]
    assert len(detectors) > 3
    assert sum(map(len, detectors)) == 20
    records = butler._datastore.export_records([ref])
    [record] = [
        r for d in records.values() for table in d.records.values() for i in table.values() for r in i
    ]
    assert record.formatter == "lsst.daf.butler.formatters.parquet.ParquetFormatter"
    stored = butler.get(ref)
    assert stored.colnames == table.colnames
    assert all((stored[name] == table[name]).all() for name in table.colnames)
    assert stored["reserved"].description == table["reserved"].description
    whole = butler.get(ref, parameters={"strip_astropy_meta_yaml": False})
    assert whole.meta["finalize_isolated_stars"] == {
        "format_version": PREPARED_FORMAT,
        "band": "r",
    }
    pieces = list(stream(butler.getDeferred(ref)).batches(["detector"], [("detector", "=", 7)]))
    assert 0 < sum(map(len, pieces)) < 2000
    options: dict[str, Any] = {"id_column": "sourceId", "reserve": ReserveIsolatedStarsTask(), "visit": 107}
    for handle in (stream(butler.getDeferred(ref)), butler.getDeferred(ref)):
        got = read_prepared_stars(handle, "r", detector=7, **options)
        assert got is not None
        assert got.sources["sourceId"].tolist() == table["sourceId"][table["detector"] == 7].tolist()
        with pytest.raises(ValueError, match="is of visit 107, not 108"):
            read_prepared_stars(handle, "r", detector=77, **options | {"visit": 108})


READING = """
import sys
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from lsst.meas.finalize.butler import StreamedTable
from lsst.meas.finalize.stars import ReserveIsolatedStarsTask, read_prepared_stars
from lsst.resources import ResourcePath

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

path = Path(sys.argv[1])
reserve = ReserveIsolatedStarsTask()
# What every quantum does: write a table of stars.
pq.write_table(pa.table({f"c{i}": pa.nulls(100, pa.float64()) for i in range(700)}), path.with_suffix(".w"))
Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = memory("VmRSS")
stars = read_prepared_stars(
    StreamedTable(None, ResourcePath(path)), "r",
    id_column="sourceId", reserve=reserve, visit=107, detector=100,
)
print(len(stars.sources), memory("VmHWM") - before, pa.default_memory_pool().max_memory() / 2**20)
print(*({"pandas", "pyarrow.dataset"} & set(sys.modules)))
"""


def test_a_detector_needs_little_memory(tmp_path: Path) -> None:
    """Read a detector's rows of a full focal plane in a few megabytes."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no /proc to measure with")
    path = tmp_path / "prepared.parq"
    formatter = object.__new__(PreparedStarsFormatter)
    formatter.write_local_file(make_prepared(189, 37800), ResourcePath(path))
    command = [sys.executable, "-c", READING, str(path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows, growth, arrow = map(float, result[0].split())
    assert rows == 200
    assert growth < 5
    assert arrow < 1
    # These are 30 and 8 MB.
    assert not result[1]
