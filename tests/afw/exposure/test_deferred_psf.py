# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Exposures whose PSF is made when it is asked for."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lsst.images import Box, VisitImage
from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper
from lsst.images.serialization import ArchiveReadError
from lsst.meas.finalize.afw import read_exposure
from lsst.meas.finalize.afw.exposure import _deferred_psf

BOX = Box.factory[10:40, 20:60]


@pytest.fixture
def path(tiny: Path) -> Path:
    """File of detector 0 of the small golden set."""
    (found,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[PiffWrapper]:
    """All PSFs that have been made of pickles."""
    found: list[PiffWrapper] = []

    def make(data: bytes) -> PiffWrapper:
        found.append(make_piff(data))
        return found[-1]

    make_piff = _deferred_psf.make_piff
    monkeypatch.setattr(_deferred_psf, "make_piff", make)
    return found


def test_psf_is_made_once_and_late(path: Path, made: list[PiffWrapper]) -> None:
    """Make the PSF for who asks first, and the same for all others."""
    exposure = read_exposure(path)
    copies = [copy.copy(exposure), copy.deepcopy(exposure._given_psf)]
    assert exposure.aperture_corrections
    assert not made
    assert exposure.psf is exposure.psf is exposure[BOX].psf is exposure.copy().psf
    assert made == [exposure.psf]
    expected = read_exposure(path, component="psf")
    assert exposure.psf.bounds == expected.bounds
    for psf in (exposure.psf, copies[0].psf, copies[1].get()):
        image = psf.compute_kernel_image(x=100.0, y=200.0)
        np.testing.assert_array_equal(image.array, expected.compute_kernel_image(x=100.0, y=200.0).array)


def test_psf_is_replaced_unseen(path: Path, made: list[PiffWrapper]) -> None:
    """Don't make the PSF for who gives another one."""
    exposure = read_exposure(path)
    exposure.psf = GaussianPointSpreadFunction(2.0, bounds=exposure.bbox, stamp_size=25)
    assert isinstance(exposure[BOX].psf, GaussianPointSpreadFunction)
    assert not made


def test_image_is_stored_and_told_of(path: Path, tmp_path: Path) -> None:
    """Write and describe the image with its PSF."""
    read_exposure(path).write(str(tmp_path / "image.fits"))
    stored = VisitImage.read(str(tmp_path / "image.fits"))
    expected = read_exposure(path, component="psf").compute_kernel_image(x=9.0, y=7.0)
    np.testing.assert_allclose(
        stored.psf.compute_kernel_image(x=9.0, y=7.0).array, expected.array, atol=1e-14
    )
    described = read_exposure(path)
    assert str(described)
    assert "Piff" in str(described.describe())


def test_deferred_psf_is_pickled(path: Path) -> None:
    """Send the PSF to other processes before it is made."""
    psf = pickle.loads(pickle.dumps(read_exposure(path)._given_psf)).get()
    assert psf.bounds == read_exposure(path).psf.bounds


def test_threads_get_the_same_psf(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give one PSF to threads of which none has made it yet."""
    barrier = threading.Barrier(3)
    make_piff = _deferred_psf.make_piff

    def make(data: bytes) -> PiffWrapper:
        barrier.wait(20)
        return make_piff(data)

    monkeypatch.setattr(_deferred_psf, "make_piff", make)
    exposure = read_exposure(path)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: exposure.psf, range(3)))
    assert all(psf is exposure.psf for psf in found)


@pytest.mark.parametrize("name", [b"piff.pixelgrid", b"SimplePSF"])
def test_damage_is_told_late(path: Path, tmp_path: Path, name: bytes) -> None:
    """Name file and component whenever the PSF is asked for."""
    data = path.read_bytes()
    assert name in data
    file = tmp_path / "damaged.fits"
    file.write_bytes(data.replace(name, name[:-2] + b"xx"))
    exposure = read_exposure(file)
    file.unlink()
    for image in (exposure, exposure, exposure[BOX], exposure.copy()):
        with pytest.raises(ArchiveReadError, match="damaged.fits.*component 'psf' can't be read: .*PiffPsf"):
            _ = image.psf
    with pytest.raises(ArchiveReadError, match="damaged.fits.*component 'psf' can't be read: .*PiffPsf"):
        exposure.write(str(tmp_path / "image.fits"))
