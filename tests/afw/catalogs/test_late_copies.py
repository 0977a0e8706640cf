# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of copies of catalogues whose objects are made when asked for."""

from __future__ import annotations

import copy
import io
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.afw import UnsupportedPersistableError, read_exposure_catalog, write_exposure_catalog
from lsst.meas.finalize.afw.archive import ArchiveReader, _stored_object
from lsst.meas.finalize.afw.components import DetectorRecord
from lsst.meas.finalize.afw.fits import open_fits_in_memory
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema


def write_and_read(catalog: ExposureCatalog) -> ExposureCatalog:
    """Send a catalogue through a file."""
    stream = io.BytesIO()
    write_exposure_catalog(catalog, stream)
    return read_exposure_catalog(stream.getvalue())


def through_pickle(catalog: ExposureCatalog) -> ExposureCatalog:
    """Send a catalogue to another process."""
    result: ExposureCatalog = pickle.loads(pickle.dumps(catalog))
    return result


COPIES = pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, through_pickle, write_and_read])


@pytest.fixture
def catalog(tiny: Path) -> ExposureCatalog:
    """Catalogue of the small golden set, nothing of which is made."""
    return read_exposure_catalog(tiny / "expected/default/finalized_psf_ap_corr_catalog.fits")


@COPIES
def test_changes_are_copied(
    catalog: ExposureCatalog, copied: Callable[[ExposureCatalog], ExposureCatalog]
) -> None:
    """Keep what was done to objects since they were made."""
    names = list(catalog[0].ap_corr_map or {})
    del catalog.ap_corr_maps[0][names[3]]
    again = copied(catalog)
    assert list(again.ap_corr_maps[0]) == names[:3] + names[4:]
    assert list(again.ap_corr_maps[1]) == names
    image, expected = (c.psfs[0].compute_kernel_image(x=9.0, y=8.0).array for c in (again, catalog))
    np.testing.assert_array_equal(image, expected)
    assert again[0].psf is again.psfs[0]


def test_deep_copies_are_independent(catalog: ExposureCatalog) -> None:
    """Change a copy of what was made, and of what wasn't."""
    n = len(catalog.ap_corr_maps[0])
    again = copy.deepcopy(catalog)
    for row in range(2):
        again.ap_corr_maps[row].clear()
    assert [len(ap_corr_map) for ap_corr_map in catalog.ap_corr_maps] == [n, n]
    assert [len(ap_corr_map) for ap_corr_map in again.ap_corr_maps] == [0, 0]


@COPIES
def test_detectors_are_copied(tiny: Path, copied: Callable[[ExposureCatalog], ExposureCatalog]) -> None:
    """Copy a detector that was made, with the camera it is in."""
    (path,) = tiny.rglob("calexp_*_S01_*.fits")
    file = open_fits_in_memory(path)
    archive = ArchiveReader(file, 4)
    detector = archive.get(int(archive.ids[archive.names == "Detector"][0]))
    assert isinstance(detector, DetectorRecord)
    catalog = ExposureCatalog(Schema.exposure_minimal(), 1)
    catalog.components["detector"][0] = detector
    catalog = write_and_read(catalog)
    expected = _focal_plane(catalog.components["detector"][0])
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(_focal_plane(copied(catalog).components["detector"][0]), expected)


def _focal_plane(detector: DetectorRecord) -> Any:
    """Return where a pixel is in the focal plane."""
    name = detector.attributes.name
    mapping = detector.transform_map.mapping(("Pixels", name), ("FocalPlane", ""))
    return mapping.applyForward(np.array([[12.0], [34.0]]))


def test_threads_share_what_they_make(catalog: ExposureCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the archive once, and give the same PSF to all who ask at once."""
    opened = []

    def open_slowly(*args: Any) -> ArchiveReader:
        opened.append(args)
        time.sleep(0.05)
        return ArchiveReader(*args)

    monkeypatch.setattr(_stored_object, "ArchiveReader", open_slowly)
    monkeypatch.setattr(_stored_object.StoredObject, "archive", property(lambda self: self._source.open()))
    found: list[Any] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        found.append(catalog[1].psf)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len(found) == 4
    assert all(psf is found[0] for psf in found)


def test_a_row_is_pickled_without_the_others(catalog: ExposureCatalog, tiny: Path) -> None:
    """Send a row to another process with its own objects."""
    whole = len(pickle.dumps(catalog))
    record = pickle.loads(data := pickle.dumps(catalog[1]))
    assert len(data) < whole / 3
    assert record.values == catalog[1].values
    image, expected = (r.psf.compute_kernel_image(x=9.0, y=8.0).array for r in (record, catalog[1]))
    np.testing.assert_array_equal(image, expected)
    assert list(record.ap_corr_map) == list(catalog[1].ap_corr_map)
    assert record.get("wcs") is None
    assert set(record.components) == set(catalog[1].components)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_damaged_row_is_copied(tiny: Path, copied: Callable[[Any], Any]) -> None:
    """Say what is wrong with a copy, too."""
    data = (tiny / "expected/default/finalized_psf_ap_corr_catalog.fits").read_bytes()
    record = copied(read_exposure_catalog(data.replace(b"PixelGrid", b"PixelGrix"))[1])
    with pytest.raises(
        UnsupportedPersistableError, match=r"component 'psf' of the row with id \(detector\) 1"
    ):
        _ = record.psf
    assert record.ap_corr_map


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_rows_make_nothing(catalog: ExposureCatalog, copied: Callable[[Any], Any]) -> None:
    """Copy a row within a process as it is."""
    record = copied(catalog[0])
    assert "psf: not read yet" in repr(record)
    record.values["visit"] = 3
    record.psf = None
    assert catalog[0]["visit"] != 3
    assert catalog[0].psf is not None


def test_contents_are_pickled_once(tiny: Path) -> None:
    """Take the contents of the file along once, and copy none of them."""
    path = tiny / "expected/default/finalized_psf_ap_corr_catalog.fits"
    catalog = read_exposure_catalog(path)
    assert len(pickle.dumps(catalog)) < 1.2 * path.stat().st_size
    file = open_fits_in_memory(path)
    for again in (copy.copy(file), copy.deepcopy(file)):
        assert again._contents is file._contents
        stream, start = again.data_stream(1)
        stream.seek(start)
        assert stream.read(9) == bytes(file.read_data(1, 9))
