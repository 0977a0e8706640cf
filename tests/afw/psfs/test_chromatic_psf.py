# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lsst.images import VisitImage
from lsst.images.psfs import PiffWrapper
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, write_exposure_catalog
from lsst.meas.finalize.afw.psfs import (
    DoubleGaussianPsf,
    FixedKernel,
    KernelPsf,
    PsfexPsf,
    SingleGaussianPsf,
    set_psf_bounds,
)
from lsst.meas.finalize.catalogs import ChromaticPiffWrapper, ExposureCatalog, Schema
from lsst.meas.finalize.psf import PiffPsf


@pytest.fixture(scope="module")
def expected(tiny: Path) -> Path:
    """Return the stack's results with a PSF that depends on colour."""
    return tiny / "expected/color/detector_0"


@pytest.fixture(scope="module")
def read(tiny: Path) -> VisitImage:
    """Read an image once; tests change copies."""
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    return read_exposure(path)


@pytest.fixture
def exposure(read: VisitImage) -> VisitImage:
    """Return an image to be given another PSF."""
    return copy.copy(read)


@pytest.fixture
def psf(expected: Path) -> ChromaticPiffWrapper:
    """Return the PSF by the documented interface."""
    record = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits").find(0)
    assert record is not None
    assert isinstance(record.psf, ChromaticPiffWrapper)
    return record.psf


def test_average_color_by_default(psf: ChromaticPiffWrapper, expected: Path) -> None:
    """Draw what the stack draws at the average colour."""
    with np.load(expected / "grid.npz") as grid:
        points, kernels, stars = (grid[key] for key in ("points", "kernel_images", "star_images"))
    for (x, y), kernel, star in zip(points[::6], kernels[::6], stars[::6], strict=True):
        found = psf.compute_kernel_image(x=x, y=y)
        np.testing.assert_allclose(found.array, kernel, rtol=0, atol=1e-12)
        assert found.bbox == psf.kernel_bbox
        image = psf.compute_stellar_image(x=x, y=y)
        np.testing.assert_allclose(image.array, star, rtol=0, atol=1e-12)
        assert image.bbox == psf.compute_stellar_bbox(x=x, y=y)


@pytest.mark.parametrize("color", [0.3, 1.7])
def test_given_color(psf: ChromaticPiffWrapper, color: float) -> None:
    """Draw at a given colour as Piff does; NaN means the average."""
    array = psf.piff_psf.draw(33.3, 44.4, stamp_size=25, center=True, colorValue=color).array
    found = psf.compute_kernel_image(x=33.3, y=44.4, color=color).array
    np.testing.assert_allclose(found, array / array.sum(), rtol=0, atol=1e-15)
    default = psf.compute_kernel_image(x=33.3, y=44.4).array
    assert abs(found - default).max() > 1e-5
    np.testing.assert_array_equal(psf.compute_kernel_image(x=33.3, y=44.4, color=np.nan).array, default)


@pytest.mark.parametrize(("x", "y"), [(33.5, 44.0), (33.0, 44.5), (-0.5, 0.5), (33.5, 44.25)])
def test_half_integer_positions(psf: ChromaticPiffWrapper, x: float, y: float) -> None:
    """Give the box of the pixels that hold the star, as new fits do."""
    image = psf.compute_stellar_image(x=x, y=y)
    expected = psf.piff_psf.draw(x, y, stamp_size=25, center=None, colorValue=psf.average_color)
    assert (image.bbox.x.min, image.bbox.y.min) == (expected.bounds.xmin, expected.bounds.ymin)
    assert image.bbox == psf.compute_stellar_bbox(x=x, y=y)
    again = PiffPsf.from_wrapper(psf).compute_stellar_image(x=x, y=y)
    assert again.bbox == image.bbox
    np.testing.assert_allclose(again.array, image.array, rtol=0, atol=1e-13)


def test_no_average_color(psf: ChromaticPiffWrapper) -> None:
    """Ask for a colour if there is no average one."""
    psf.piff_psf.stars = []
    with pytest.raises(ValueError, match="give a color"):
        psf.compute_stellar_image(x=33.3, y=44.4)
    assert psf.compute_stellar_image(x=33.3, y=44.4, color=0.5).array.sum() == pytest.approx(1.0)


def test_average_color_is_that_of_fitted_stars(psf: ChromaticPiffWrapper) -> None:
    """Leave out stars that were rejected or held back, and unknown colors."""
    states = [(0.2, False, False), (0.6, False, False), (5.0, True, False), (9.0, False, True)]
    psf.piff_psf.stars = [
        SimpleNamespace(
            data=SimpleNamespace(properties={"colorValue": color}), is_flagged=flagged, is_reserve=reserve
        )
        for color, flagged, reserve in [*states, (np.nan, False, False)]
    ]
    assert psf.average_color == pytest.approx(0.4)


def test_it_is_stored(psf: ChromaticPiffWrapper, exposure: VisitImage, tmp_path: Path) -> None:
    """Write it in a native image and as a pickle."""
    set_psf_bounds(psf, exposure.bbox)
    exposure.psf = psf
    exposure.write(tmp_path / "native.fits")
    found = VisitImage.read(tmp_path / "native.fits").psf
    again = pickle.loads(pickle.dumps(psf))
    # The stars that lsst.images stores have no colours, but the average is.
    for color in (None, 0.7):
        expected = psf.compute_kernel_image(x=33.3, y=44.4, color=color).array
        for other in (found, pickle.loads(pickle.dumps(found)), PiffPsf.from_wrapper(found)):
            image = other.compute_kernel_image(x=33.3, y=44.4, color=color).array
            np.testing.assert_allclose(image, expected, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(again.compute_kernel_image(x=33.3, y=44.4, color=color).array, expected)
    # And from there back to a catalogue, which has stars with colours.
    for other in (found, PiffPsf.from_wrapper(found)):
        catalog = ExposureCatalog(Schema.exposure_minimal(), 1)
        catalog.psfs = [other]
        write_exposure_catalog(catalog, stream := io.BytesIO())
        stored = read_exposure_catalog(stream.getvalue())[0].psf
        assert stored.average_color == pytest.approx(psf.average_color, rel=1e-14)
        np.testing.assert_array_equal(
            stored.compute_kernel_image(x=33.3, y=44.4).array,
            found.compute_kernel_image(x=33.3, y=44.4, color=stored.average_color).array,
        )


@pytest.mark.parametrize("known", [False, True])
def test_images_stored_by_others(
    psf: ChromaticPiffWrapper,
    exposure: VisitImage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    """Ask for a colour where none was stored; store that of new fits."""
    exposure.psf = PiffPsf.from_wrapper(psf) if known else PiffWrapper(psf.piff_psf, exposure.bbox, 25)
    if known:
        exposure.psf._bounds = exposure.bbox
    exposure.write(tmp_path / "native.fits")
    found = VisitImage.read(tmp_path / "native.fits").psf
    assert isinstance(found, ChromaticPiffWrapper)
    expected = psf.compute_kernel_image(x=33.3, y=44.4, color=0.7).array
    image = found.compute_kernel_image(x=33.3, y=44.4, color=0.7).array
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-13)
    if known:
        assert found.average_color == psf.average_color
    else:
        with pytest.raises(ValueError, match="give a color"):
            found.compute_kernel_image(x=33.3, y=44.4)


@pytest.mark.parametrize("name", ["KernelPsf", "PsfexPsf", "SingleGaussianPsf", "DoubleGaussianPsf"])
def test_what_native_images_can_not_have(name: str, exposure: VisitImage, tmp_path: Path) -> None:
    """Name the class of a PSF that lsst.images doesn't store."""
    box = exposure.bbox
    exposure.psf = {
        "KernelPsf": lambda: KernelPsf(box, FixedKernel(np.ones((3, 3)), (1, 1))),
        "PsfexPsf": lambda: PsfexPsf(box, np.ones((1, 21, 21)), (0, 0), (0,), (0, 0), (1, 1), 0.5),
        "SingleGaussianPsf": lambda: SingleGaussianPsf(box, 20, 21, 2.0),
        "DoubleGaussianPsf": lambda: DoubleGaussianPsf(box, 21, 21, 1.0, 2.0, 0.1),
    }[name]()
    with pytest.raises(TypeError, match=f"Cannot serialize VisitImage with unrecognized PSF type {name}"):
        exposure.write(tmp_path / "native.json")
    assert not list(tmp_path.iterdir())
