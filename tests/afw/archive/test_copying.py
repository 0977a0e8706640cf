# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Stored objects that are copied without being made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from lsst.meas.finalize.afw import (
    ArchiveError,
    MalformedArchiveError,
    UnsupportedPersistableError,
    read_exposure_catalog,
    write_exposure_catalog,
)
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter, StoredObject
from lsst.meas.finalize.afw.fits import PRIMARY_HDU, FitsFile, open_fits_in_memory
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the stack's exposure with a map of all sorts of fields."""
    path = Path(__file__).parents[2] / "data" / "stack_files" / "exposure_apcorr_mixed.fits"
    assert path.exists()
    return path


def _mixed_map(path: Path, old: bytes = b"", new: bytes = b"") -> StoredObject:
    """Return the map of the exposure, with a class under another name."""
    data = path.read_bytes()
    assert old in data
    file = FitsFile(io.BytesIO(data.replace(old, new)), path.name)
    return StoredObject(ArchiveReader(file, 4), fits.getheader(path)["AP_CORR_MAP_ID"], dict, "map")


def _catalog(maps: list[StoredObject]) -> ExposureCatalog:
    catalog = ExposureCatalog(Schema.exposure_minimal(), len(maps))
    catalog["id"] = np.arange(len(maps))
    catalog.ap_corr_maps = maps
    return catalog


def _write(catalog: ExposureCatalog) -> bytes:
    stream = io.BytesIO()
    write_exposure_catalog(catalog, stream)
    return stream.getvalue()


def _tables(data: bytes, archive_id: int) -> list[tuple[str, list[dict[str, object]]]]:
    """Describe an object and what it refers to, whatever the ids are."""
    archive = ArchiveReader(open_fits_in_memory(data), 2)
    references = {"field", "coaddWcs", "wcs", "validPolygon"}
    pending, found = [archive_id], []
    while pending:
        current = pending.pop(0)
        rows: list[dict[str, object]] = []
        for view in archive.tables(current):
            for row in range(len(view)):
                values = {name: view[name][row] for name in view.names}
                for name in view.names:
                    if name in references and values[name].dtype == np.int32:
                        nested = int(values.pop(name))
                        pending += [nested] if nested else []
                rows.append({name: np.asarray(value).tolist() for name, value in values.items()})
        found.append((archive.name(current), rows))
    return found


def _map_id(data: bytes, row: int = 0) -> int:
    with fits.open(io.BytesIO(data)) as hdulist:
        return int(hdulist[1].data["apCorrMap"][row])


@pytest.mark.parametrize("made", [False, True])
def test_unsupported_fields_are_written_as_they_were(mixed: Path, made: bool) -> None:
    """Keep a CoaddBoundedField with all it refers to, three times over."""
    stored = _mixed_map(mixed)
    catalog = _catalog([stored])
    data = _write(catalog)
    expected = _tables(data, _map_id(data))
    names = [name for name, _ in expected]
    assert names[:4] == ["ApCorrMap", "CoaddBoundedField", "ChebyshevBoundedField", "TransformBoundedField"]
    assert names.count("SkyWcs") == 3
    assert "Polygon" in names
    for _ in range(3):
        catalog = read_exposure_catalog(data)
        if made:
            found = catalog[0].ap_corr_map
            assert found["good"](x=50.0, y=70.0) == pytest.approx(1.42525, abs=1e-12)
            with pytest.raises(UnsupportedPersistableError, match="CoaddBoundedField"):
                found["coadd"](x=50.0, y=70.0)
        data = _write(catalog)
        assert _tables(data, _map_id(data)) == expected


def test_catalogues_of_several_files_are_merged(mixed: Path) -> None:
    """Give new ids to the objects of other files, and share objects."""
    one, other = _mixed_map(mixed), _mixed_map(mixed)
    data = _write(_catalog([one, other, one]))
    ids = [_map_id(data, row) for row in range(3)]
    assert ids[0] == ids[2] != ids[1]
    assert _tables(data, ids[0]) == _tables(data, ids[1])
    archive = ArchiveReader(open_fits_in_memory(data), 2)
    # CoaddBoundedField has two tables.
    assert len(archive.ids) == 2 * 10
    assert len(np.unique(archive.ids)) == 2 * 9


@pytest.mark.parametrize("made", [False, True])
def test_unknown_classes_keep_their_archive(mixed: Path, made: bool) -> None:
    """Take over the archive of a class whose references aren't known; refuse
    two of them.
    """

    def unknown() -> StoredObject:
        return _mixed_map(mixed, b"CoaddBoundedField", b"NobodyKnowsFields")

    stored, known = unknown(), _mixed_map(mixed)
    if made:
        with pytest.raises(UnsupportedPersistableError, match="NobodyKnowsFields"):
            stored.get()["coadd"](x=1.0, y=1.0)
    data = _write(_catalog([known, stored]))
    expected = [
        ("NobodyKnowsFields" if n == "CoaddBoundedField" else n, t) for n, t in _tables(data, _map_id(data))
    ]
    assert _tables(data, _map_id(data, 1)) == expected
    again = _write(read_exposure_catalog(data))
    assert _tables(again, _map_id(again, 1)) == expected
    with pytest.raises(UnsupportedPersistableError, match=r"NobodyKnowsFields.*only those of one file"):
        _write(_catalog([stored, unknown()]))


def test_damaged_index_refuses_writing(mixed: Path) -> None:
    """Copy nothing that refers to what isn't there."""
    stored = _mixed_map(mixed)
    archive = stored.archive
    archive.ids = archive.ids.copy()
    archive.ids[archive.ids == 3] = 99
    order = np.argsort(archive.ids)
    for name in ("ids", "catalogs", "persistables", "row0", "n_rows", "names", "modules", "positions"):
        setattr(archive, name, getattr(archive, name)[order])
    with pytest.raises(MalformedArchiveError, match="no archive id 3"):
        _write(_catalog([stored]))


def test_rows_shared_without_end_are_refused(mixed: Path) -> None:
    """Don't multiply what hostile index entries share."""
    stored = _mixed_map(mixed)
    archive = stored.archive
    n = 100
    chosen = np.flatnonzero(archive.names == "Polygon")
    ids = np.arange(1000, 1000 + n)
    for name in ("catalogs", "persistables", "row0", "n_rows", "names", "modules", "positions"):
        values = getattr(archive, name)
        setattr(archive, name, np.concatenate([values, np.repeat(values[chosen], n)]))
    archive.ids = np.concatenate([archive.ids, ids])
    writer = ArchiveWriter()

    def put_all() -> None:
        # One after another, since each alone is fine.
        for i in ids.tolist():
            writer.put(StoredObject(archive, i))

    with pytest.raises(MalformedArchiveError, match="share too many rows"):
        put_all()


def test_copies_of_catalogues_are_independent(mixed: Path) -> None:
    """Copy and pickle catalogues whose objects aren't made."""
    import copy
    import pickle

    catalog = read_exposure_catalog(_write(_catalog([_mixed_map(mixed)])))
    for other in (copy.deepcopy(catalog), pickle.loads(pickle.dumps(catalog))):
        other.ap_corr_maps[0]["good"] = None
        assert catalog.ap_corr_maps[0]["good"] is not None


def test_empty_primary() -> None:
    """Write archives of nothing."""
    data = PRIMARY_HDU + b"".join(ArchiveWriter().hdus())
    assert len(ArchiveReader(open_fits_in_memory(data), 1).ids) == 0


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("field", [0, -3, 9999])
def test_references_to_nothing_refuse_writing(mixed: Path, made: bool, field: int) -> None:
    """Name an object that isn't there; 0, which means none, stays as it is."""
    with fits.open(mixed) as hdulist:
        (number,) = (
            i
            for i, hdu in enumerate(hdulist)
            if i > 3 and getattr(hdu, "columns", None) is not None and hdu.columns.names == ["name", "field"]
        )
        hdulist[number].data["field"][0] = field
        stream = io.BytesIO()
        hdulist.writeto(stream)
    archive = ArchiveReader(FitsFile(stream, "mixed"), 4)
    stored = StoredObject(archive, fits.getheader(mixed)["AP_CORR_MAP_ID"], dict, "map")
    if made:
        assert "coadd" in stored.get()
    if field or made:
        with pytest.raises(ArchiveError, match=f"there is no archive id {field}"):
            _write(_catalog([stored]))
    else:
        assert isinstance(read_exposure_catalog(_write(_catalog([stored]))), ExposureCatalog)
