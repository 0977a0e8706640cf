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
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog
from lsst.meas.finalize.afw.psfs import set_psf_bounds
from lsst.meas.finalize.catalogs import teach_bandpass, teach_colors

_READ = """
import sys
import {module}
from lsst.images import VisitImage
for path in sys.argv[1:]:
    image = VisitImage.read(path)
    print(repr(float(image.psf.compute_kernel_image(x=100.0, y=200.0).array.max())))
"""


@pytest.fixture(scope="module")
def native(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, float]:
    """Return files, and the peaks of their PSF's kernels; the PSF of the
    second depends on colour.
    """
    (calexp,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    exposure = read_exposure(calexp)
    folder, peaks = tmp_path_factory.mktemp("native"), {}
    for variant in ("default", "color"):
        path = tiny / f"expected/{variant}/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
        exposure.psf = read_exposure_catalog(path)[0].psf
        set_psf_bounds(exposure.psf, exposure.bbox)
        exposure.write(str(folder / f"{variant}.fits"))
        peak = exposure.psf.compute_kernel_image(x=100.0, y=200.0).array.max()
        peaks[folder / f"{variant}.fits"] = float(peak)
    return peaks


@pytest.mark.parametrize(
    "module",
    ["lsst.meas.finalize.afw", "lsst.meas.finalize.measure", "lsst.pipe.tasks.finalizeCharacterization"],
)
def test_piff_psf_is_read(native: dict[Path, float], module: str) -> None:
    """Read the PSF wherever images come from or go to."""
    command = [sys.executable, "-c", _READ.format(module=module), *map(str, native)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Stored losslessly, but for the order of sums.
    assert [float(line) for line in output.split()] == pytest.approx(list(native.values()), rel=1e-12)


def test_a_reader_that_can_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over what lsst.images will have of its own."""

    def read_bandpass(reader: object, name: str) -> str:
        return "its own"

    monkeypatch.setattr(_piff._ArchivePiffReader, "read_bandpass", read_bandpass, raising=False)
    teach_bandpass()
    assert _piff._ArchivePiffReader.read_bandpass is read_bandpass


def test_colors_are_taught_once() -> None:
    """Leave a reader alone that was taught already."""
    before = _piff.PiffSerializationModel.deserialize
    teach_colors()
    assert _piff.PiffSerializationModel.deserialize is before
