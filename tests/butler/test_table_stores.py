# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables of stars in all kinds of datastores."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from lsst.daf.butler import Butler, DatasetRef, DatasetType, QuantumBackedButler
from lsst.meas.finalize.butler import StreamedTable, stream, stream_all
from lsst.meas.finalize.stars import ReserveIsolatedStarsTask, prepare_isolated_stars, read_prepared_stars

OPTIONS: dict[str, Any] = {"id_column": "sourceId", "reserve": ReserveIsolatedStarsTask(), "visit": 107}
N_STARS, N_DETECTORS = 3000, 20
DATASTORES = "lsst.daf.butler.datastores"
MEMORY = f"cls: {DATASTORES}.inMemoryDatastore.InMemoryDatastore"
FILES = f"cls: {DATASTORES}.fileDatastore.FileDatastore"
CHAIN = f"datastore:\n  cls: {DATASTORES}.chainedDatastore.ChainedDatastore\n  datastores:\n"
SECOND = f"    - datastore:\n        {FILES}\n        root: <butlerRoot>/second\n"
SEEDS = {
    "memory": f"datastore:\n  {MEMORY}\n",
    "memory, then files": f"{CHAIN}    - datastore:\n        {MEMORY}\n{SECOND}",
    "files twice": f"{CHAIN}    - datastore:\n        {FILES}\n        root: <butlerRoot>/first\n"
    f"        records:\n          table: first_records\n{SECOND}",
    "odd file names": "datastore:\n  templates:\n    default: '{run}/a b+{datasetType}%#ä_{id}'\n",
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    """Return a tract's sources in two visits, its stars, and what comes of
    them.
    """
    rng = np.random.default_rng(1)
    n = 12000
    sources = Table(
        {
            "sourceId": 2**60 + rng.permutation(n),
            "obj_index": rng.integers(0, N_STARS, n).astype(np.int32),
            "visit": 106 + np.arange(n) * 2 // n,
            "detector": rng.integers(0, N_DETECTORS, n),
            "unused": rng.random(n),
        }
    )
    stars = Table({"nsource_r": np.arange(N_STARS) % 3, "source_cat_index_r": np.arange(N_STARS)})
    prepared = prepare_isolated_stars("r", {3: stars}, {3: sources}, **OPTIONS)
    assert prepared is not None
    return {"sources": sources, "stars": stars, "finalize_isolated_stars": prepared}


def make_butler(folder: Path, seed: str, **options: Any) -> Butler:
    """Make a repository with some datastore."""
    (folder / "seed.yaml").write_text(seed)
    Butler.makeRepo(str(folder / "repo"), config=str(folder / "seed.yaml"), **options)
    return Butler.from_config(str(folder / "repo"), run="run", writeable=True)


def put_tables(butler: Butler, tables: dict[str, Table]) -> dict[str, DatasetRef]:
    """Store tables."""
    refs = {}
    for name, table in tables.items():
        kind = DatasetType(name, (), "ArrowAstropy", universe=butler.dimensions)
        if butler.registry.registerDatasetType(kind):
            refs[name] = butler.put(table, name)
        else:
            [refs[name]] = butler.query_datasets(name)
    return refs


def check_tables(butler: Any, refs: dict[str, DatasetRef], tables: dict[str, Table], streamed: bool) -> None:
    """Read what a visit's quanta read, in the way that is expected."""
    handles = {name: stream(butler.getDeferred(ref)) for name, ref in refs.items()}
    for handle in handles.values():
        assert isinstance(handle, StreamedTable) == streamed
        assert not streamed or handle.batches(["*"]) is not None
    together = stream_all([butler.getDeferred(ref) for ref in refs.values()])
    for handle, one in zip(together, handles.values(), strict=True):
        assert type(handle) is type(one)
        assert vars(handle) == vars(one)
    expected = tables["finalize_isolated_stars"]
    prepared = prepare_isolated_stars("r", {3: handles["stars"]}, {3: handles["sources"]}, **OPTIONS)
    assert prepared is not None
    assert (prepared == expected).all()
    for detector in (0, N_DETECTORS - 1):
        rows = expected[expected["detector"] == detector]
        got = read_prepared_stars(handles["finalize_isolated_stars"], "r", detector=detector, **OPTIONS)
        assert got is not None
        assert (got.sources == rows["sourceId", "reserved"]).all()
    assert read_prepared_stars(handles["finalize_isolated_stars"], "r", detector=77, **OPTIONS) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_datastores(tmp_path: Path, tables: dict[str, Table], seed: str) -> None:
    """Read files piece by piece wherever there are any."""
    with make_butler(tmp_path, SEEDS[seed]) as butler:
        check_tables(butler, put_tables(butler, tables), tables, streamed=seed != "memory")


@pytest.mark.parametrize("with_records", [True, False])
def test_quantum_backed_butlers(tmp_path: Path, tables: dict[str, Table], with_records: bool) -> None:
    """Read piece by piece in quanta, whether inputs or intermediates."""
    with make_butler(tmp_path, "{}") as butler:
        refs = put_tables(butler, tables)
        records = butler._datastore.export_records(refs.values()) if with_records else {}
        limited = QuantumBackedButler.from_predicted(
            config=str(tmp_path / "repo"),
            predicted_inputs=[ref.id for ref in refs.values()],
            predicted_outputs=[],
            dimensions=butler.dimensions,
            datastore_records=records,
        )
        with limited:
            check_tables(limited, refs, tables, streamed=True)


@pytest.fixture(scope="module")
def s3_butler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Butler]:
    """Return a butler whose files are in a simulated object store."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    tmp_path = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("S3_ENDPOINT_URL", "AWS_PROFILE", "LSST_RESOURCES_S3_PROFILE_DEFAULT"):
            patch.delenv(name, raising=False)
        boto3.client("s3").create_bucket(Bucket="bucket")
        seed = "datastore:\n  root: s3://bucket/root\n  cached:\n    expiry:\n      mode: disabled\n"
        with make_butler(tmp_path, seed, forceConfigRoot=False) as butler:
            yield butler


def test_object_stores(s3_butler: Butler, tables: dict[str, Table]) -> None:
    """Read few ranges of the objects only."""
    refs = put_tables(s3_butler, tables)
    check_tables(s3_butler, refs, tables, streamed=True)
    uri: Any = s3_butler.getURI(refs["sources"])
    lengths: list[int] = []

    def note(parsed: Any, **kwargs: Any) -> None:
        lengths.append(parsed["ContentLength"])

    metadata = pq.ParquetFile(BytesIO(uri.read())).metadata.row_group(0)
    columns = {metadata.column(i).path_in_schema: metadata.column(i) for i in range(metadata.num_columns)}
    uri.client.meta.events.register("after-call.s3.GetObject", note)
    pieces = list(stream(s3_butler.getDeferred(refs["sources"])).batches(["visit"], [("visit", "=", 107)]))
    assert sum(map(len, pieces)) == len(tables["sources"])
    # The footer, of which Arrow guesses the length, and the column.
    assert len(lengths) == 2
    assert sum(lengths) == 2**16 + columns["visit"].total_compressed_size


def test_damaged_objects_are_named(s3_butler: Butler, tables: dict[str, Table]) -> None:
    """Name dataset and tract of objects that are cut off, or gone."""
    refs = put_tables(s3_butler, {"stars": tables["stars"], "damaged": tables["sources"]})
    uri = s3_butler.getURI(refs["damaged"])
    content = uri.read()

    def prepare() -> None:
        handles = {name: stream(s3_butler.getDeferred(ref)) for name, ref in refs.items()}
        prepare_isolated_stars("r", {3: handles["stars"]}, {3: handles["damaged"]}, **OPTIONS)

    message = r"isolated_star_sources \(damaged\) of tract 3 can't be read"
    half = len(content) // 2
    for damaged in (content[:half], content[:5000] + bytes(half) + content[5000 + half :]):
        uri.write(damaged)
        with pytest.raises((OSError, ValueError), match=message):
            prepare()
    uri.remove()
    with pytest.raises((OSError, ValueError), match=message):
        prepare()
