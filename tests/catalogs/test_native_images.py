# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of native images with a Piff PSF, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lsst.images.psfs import _piff
from lsst.meas.finalize.afw import read_exposure
from lsst.meas.finalize.catalogs import teach_bandpass

_READ = """
import sys
import {module}
from lsst.images import VisitImage
image = VisitImage.read(sys.argv[1])
print(repr(float(image.psf.compute_kernel_image(x=100.0, y=200.0).array.max())))
"""


@pytest.fixture(scope="module")
def native(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Return a file, and the peak of the PSF's kernel."""
    (calexp,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    exposure = read_exposure(calexp)
    path = tmp_path_factory.mktemp("native") / "image.fits"
    exposure.write(str(path))
    return path, float(exposure.psf.compute_kernel_image(x=100.0, y=200.0).array.max())


@pytest.mark.parametrize(
    "module",
    ["lsst.meas.finalize.afw", "lsst.meas.finalize.measure", "lsst.pipe.tasks.finalizeCharacterization"],
)
def test_piff_psf_is_read(native: tuple[Path, float], module: str) -> None:
    """Read the PSF wherever images come from or go to."""
    path, expected = native
    command = [sys.executable, "-c", _READ.format(module=module), str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Stored losslessly, but for the order of sums.
    assert float(output) == pytest.approx(expected, rel=1e-12)


def test_a_reader_that_can_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over what lsst.images will have of its own."""

    def read_bandpass(reader: object, name: str) -> str:
        return "its own"

    monkeypatch.setattr(_piff._ArchivePiffReader, "read_bandpass", read_bandpass, raising=False)
    teach_bandpass()
    assert _piff._ArchivePiffReader.read_bandpass is read_bandpass
