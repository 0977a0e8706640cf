# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.meas.finalize.afw import (
    ArchiveError,
    MalformedArchiveError,
    UnsupportedPersistableError,
    read_exposure,
)
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.psfs._kernels import (
    AnalyticKernel,
    Chebyshev1Function2,
    DoubleGaussianFunction2,
    FixedKernel,
    GaussianFunction2,
    LinearCombinationKernel,
    PolynomialFunction2,
)
from lsst.meas.finalize.afw.psfs._psfex import PsfexPsf, monomials, resampling_matrices
from lsst.meas.finalize.afw.psfs._psfs import (
    DoubleGaussianPsf,
    GaussianPsf,
    KernelImagePsf,
    KernelPsf,
    SingleGaussianPsf,
)
from lsst.meas.finalize.afw.psfs._resampling import recentre_kernel_images

from ..conftest import RawRow, persist

_BOX = Box.factory[0:100, 0:200]


def _gaussian(name: str, width: int, height: int, sigma: float) -> RawRow:
    return RawRow(
        name, [[("dimensions_x", "I", width), ("dimensions_y", "I", height), ("sigma", "D", sigma)]]
    )


def _sampled(width: int, height: int, sigma: float, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.exp(-((x - width // 2 - dx) ** 2 + (y - height // 2 - dy) ** 2) / (2 * sigma**2))


def test_gaussian_psf() -> None:
    """Read a Gaussian of odd size as a class lsst.images can store."""
    psf = persist(_gaussian("GaussianPsf", 25, 25, 2.1))
    assert isinstance(psf, GaussianPsf)
    assert isinstance(psf, GaussianPointSpreadFunction)
    expected = _sampled(25, 25, 2.1)
    kernel = psf.compute_kernel_image(x=3.0, y=4.0)
    np.testing.assert_allclose(kernel.array, expected / expected.sum(), rtol=1e-13)
    assert kernel.bbox == Box.factory[-12:13, -12:13]


@pytest.mark.parametrize("size", [(20, 31), (21, 20), (20, 20), (1, 2), (15, 21)])
@pytest.mark.parametrize("name", ["GaussianPsf", "SingleGaussianPsf", "DoubleGaussianPsf"])
def test_even_and_unequal_sides(name: str, size: tuple[int, int]) -> None:
    """Centre Gaussians as the stack does, and keep their classes."""
    width, height = size
    raw = _gaussian(name, width, height, 2.1)
    if name == "DoubleGaussianPsf":
        raw.tables[0][2:] = [("sigma1", "D", 2.1), ("sigma2", "D", 0.0), ("b", "D", 0.0)]
    # Kernels have another default than the stack's own GaussianPsf.
    x0, y0 = (n // 2 if name == "GaussianPsf" else (n - 1) // 2 for n in size)
    y, x = np.mgrid[:height, :width]
    expected = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 2.1**2))
    psf = persist(raw)
    for _ in range(3):
        images = psf.draw_kernel_images(1.0, 1.0)
        np.testing.assert_allclose(images[0], expected / expected.sum(), rtol=1e-13)
        assert psf.kernel_bbox == Box.factory[-y0 : height - y0, -x0 : width - x0]
        star = psf.compute_stellar_image(x=50.0, y=70.0)
        assert star.bbox == Box.factory[70 - y0 : 70 + height - y0, 50 - x0 : 50 + width - x0]
        writer = ArchiveWriter()
        writer.put(psf)
        assert name.encode() in writer.hdus()[0]
        psf = persist(psf)


@pytest.mark.parametrize(
    ("file", "shape", "first", "peak", "where", "star_first", "star_peak"),
    [
        ("even", (21, 20), (-9, -10), 0.0397887744261, (10, 9), (41, 60), 0.0386324074121),
        ("kernel_of_analytic", (21, 21), (-10, -10), 0.0618977594161, (10, 10), (40, 60), 0.0588630425053),
    ],
)
def test_files_of_the_stack(
    stack_files: Path,
    file: str,
    shape: tuple[int, int],
    first: tuple[int, int],
    peak: float,
    where: tuple[int, int],
    star_first: tuple[int, int],
    star_peak: float,
) -> None:
    """Draw what the stack draws."""
    psf = read_exposure(stack_files / f"exposure_psf_{file}.fits", component="psf")
    kernel = psf.compute_kernel_image(x=50.3, y=70.4)
    assert kernel.array.shape == shape
    assert (kernel.bbox.x.min, kernel.bbox.y.min) == first
    assert kernel.array.max() == pytest.approx(peak, abs=1e-12)
    assert np.unravel_index(np.argmax(kernel.array), shape) == where
    star = psf.compute_stellar_image(x=50.3, y=70.4)
    assert (star.bbox.x.min, star.bbox.y.min) == star_first
    assert star.array.max() == pytest.approx(star_peak, abs=1e-12)


def test_double_gaussian_psf() -> None:
    """Read the sum of two Gaussians."""
    columns = [("dimensions_x", "I", 31), ("dimensions_y", "I", 31)]
    values = [("sigma1", "D", 1.5), ("sigma2", "D", 4.0), ("b", "D", 0.1)]
    psf = persist(RawRow("DoubleGaussianPsf", [columns + values]))
    expected = _sampled(31, 31, 1.5) + 0.1 * _sampled(31, 31, 4.0)
    np.testing.assert_allclose(psf.draw_kernel_images(0, 0)[0], expected / expected.sum(), rtol=1e-13)
    single = DoubleGaussianPsf(_BOX, 31, 31, 1.5, 0.0, 0.0)
    expected = _sampled(31, 31, 1.5)
    np.testing.assert_allclose(single.draw_kernel_images(0, 0)[0], expected / expected.sum(), rtol=1e-13)


@pytest.mark.parametrize(("dx", "dy"), [(0.3, -0.45), (-0.5, 0.0), (0.49, 0.49)])
def test_star_images_are_shifted(dx: float, dy: float) -> None:
    """Put a well-sampled Gaussian at a sub-pixel position."""
    psf = SingleGaussianPsf(_BOX, 41, 41, 2.5)
    images, x0, y0 = psf.draw_star_images([50 + dx, 50.0], [60 + dy, 60.0])
    # floor(v + 0.5) rounds 49.5 up.
    np.testing.assert_array_equal(x0, [30, 30])
    np.testing.assert_array_equal(y0, [40, 40])
    expected = _sampled(41, 41, 2.5, dx, dy)
    # Lanczos-5 is good to about 2e-3 of the peak for such a profile.
    np.testing.assert_allclose(images[0], expected / expected.sum(), atol=2e-3 * images[0].max())
    # No shift is an exact identity.
    np.testing.assert_array_equal(images[1], psf.draw_kernel_images(0.0, 0.0)[0])


def test_shift_formula() -> None:
    """Apply exactly the ten weights of spec 03 §7.2."""
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1, 14, 13))
    shift = float(np.float32(0.37))
    result = recentre_kernel_images(image, [shift], [0.0])[0]
    taps = np.arange(-5, 5)
    weights = np.sinc(taps + shift) * np.sinc((taps + shift) / 5)
    weights /= weights.sum()
    padded = np.pad(image[0], ((0, 0), (5, 5)))
    expected = sum(w * padded[:, 5 + j : 18 + j] for w, j in zip(weights, taps, strict=True))
    np.testing.assert_allclose(result, expected, atol=1e-15)
    # A negative shift has its taps one further to the right.
    result = recentre_kernel_images(image, [0.0], [-shift])[0]
    taps = np.arange(-4, 6)
    weights = np.sinc(taps - shift) * np.sinc((taps - shift) / 5)
    weights /= weights.sum()
    padded = np.pad(image[0], ((5, 5), (0, 0)))
    expected = sum(w * padded[5 + j : 19 + j] for w, j in zip(weights, taps, strict=True))
    np.testing.assert_allclose(result, expected, atol=1e-15)


def test_nan_position_is_average() -> None:
    """Use the average position for NaN in every method."""
    kernels = [FixedKernel(_sampled(21, 21, s), (10, 10)) for s in (1.5, 3.0)]
    functions = [PolynomialFunction2(np.array([1.0, 0.01, 0.0])), PolynomialFunction2(np.array([0.5]))]
    psf = KernelPsf(_BOX, LinearCombinationKernel(kernels, functions), (50.0, 70.0))
    at_average = psf.draw_kernel_images(50.0, 70.0)
    assert not np.array_equal(psf.draw_kernel_images(10.0, 70.0), at_average)
    np.testing.assert_array_equal(psf.draw_kernel_images([np.nan], [3.0]), at_average)
    assert psf.compute_stellar_bbox(x=np.nan, y=np.nan) == psf.compute_stellar_bbox(x=50.0, y=70.0)


def test_kernel_psf() -> None:
    """Read a varying combination of kernels."""
    images = [_sampled(21, 23, s) for s in (1.5, 3.0)]
    geometry: list[tuple[str, str, Any]] = [
        ("dimensions_x", "I", 21),
        ("dimensions_y", "I", 23),
        ("center_x", "I", 10),
        ("center_y", "I", 11),
    ]
    fixed = [RawRow("FixedKernel", [[*geometry, ("image", "ArrayD", image.ravel())]]) for image in images]
    polynomial = RawRow("PolynomialFunction2D", [[("coefficients", "ArrayD", [1.0, 0.02, -0.01])]])
    chebyshev = RawRow(
        "Chebyshev1Function2D",
        [
            [
                ("coefficients", "ArrayD", [0.5, 0.1, 0.2, 0.3, 0.4, 0.5]),
                ("min_x", "D", 0.0),
                ("min_y", "D", -10.0),
                ("max_x", "D", 200.0),
                ("max_y", "D", 90.0),
            ]
        ],
    )
    kernel = RawRow(
        "LinearCombinationKernel",
        [
            [
                *geometry,
                ("spatialfunctions", "ArrayI", [polynomial, chebyshev]),
                ("components", "ArrayI", fixed),
            ]
        ],
    )
    psf = persist(
        RawRow(
            "PcaPsf",
            [[("kernel", "I", kernel), ("averagePosition_x", "D", 50.0), ("averagePosition_y", "D", 40.0)]],
        )
    )
    assert isinstance(psf, KernelPsf)
    assert psf.average_position == (50.0, 40.0)
    x, y = np.array([30.0, 150.0]), np.array([20.0, 80.0])
    u, v = x / 100 - 1, (y - 40) / 50
    weights = [
        1 + 0.02 * x - 0.01 * y,
        0.5 + 0.1 * u + 0.2 * v + 0.3 * (2 * u**2 - 1) + 0.4 * u * v + 0.5 * (2 * v**2 - 1),
    ]
    expected = sum(w[:, None, None] * image for w, image in zip(weights, images, strict=True))
    expected /= expected.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(psf.draw_kernel_images(x, y), expected, rtol=1e-12)


def _analytic_psf() -> RawRow:
    geometry: list[tuple[str, str, Any]] = [
        ("dimensions_x", "I", 15),
        ("dimensions_y", "I", 13),
        ("center_x", "I", 7),
        ("center_y", "I", 6),
    ]
    function = RawRow(
        "GaussianFunction2F", [[("sigma1", "D", 2.0), ("sigma2", "D", 1.0), ("angle", "D", 0.3)]]
    )
    analytic = RawRow("AnalyticKernel", [[*geometry, ("kernelfunction", "I", function)]])
    delta = RawRow("DeltaFunctionKernel", [[*geometry, ("pixel_x", "I", 9), ("pixel_y", "I", 4)]])
    polynomial = RawRow("PolynomialFunction2D", [[("coefficients", "ArrayD", [1.0, 0.02, -0.01])]])
    parts = [("spatialfunctions", "ArrayI", [polynomial] * 2), ("components", "ArrayI", [analytic, delta])]
    kernel = RawRow("LinearCombinationKernel", [[*geometry, *parts]])
    position = [("averagePosition_x", "D", 5.0), ("averagePosition_y", "D", 4.0)]
    return RawRow("PcaPsf", [[("kernel", "I", kernel), *position]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: _gaussian("GaussianPsf", 21, 21, 1.7),
        lambda: _gaussian("SingleGaussianPsf", 20, 23, 1.7),
        lambda: RawRow(
            "DoubleGaussianPsf",
            [
                [
                    *_gaussian("", 21, 21, 0).tables[0][:2],
                    ("sigma1", "D", 1.5),
                    ("sigma2", "D", 3.0),
                    ("b", "D", 0.1),
                ]
            ],
        ),
        _analytic_psf,
        lambda: _psfex_table(_psfex_components()),
    ],
)
def test_psfs_survive(make: Callable[[], RawRow]) -> None:
    """Keep class and images of all kinds of PSF."""
    raw = make()
    psf = persist(raw)
    writer = ArchiveWriter()
    archive_id = writer.put(psf)
    data = fits.PrimaryHDU().header.tostring().encode() + b"".join(writer.hdus())
    with fits.open(io.BytesIO(data)) as hdulist:
        archive = ArchiveReader(hdulist, 1)
        assert archive.name(archive_id) == raw.name
        again = archive.get(archive_id)
    assert type(again) is type(psf)
    assert again.average_position == psf.average_position
    x, y = [3.2, 77.7], [5.5, 12.1]
    np.testing.assert_array_equal(again.draw_kernel_images(x, y), psf.draw_kernel_images(x, y))


def test_shared_kernels_stay_shared() -> None:
    """Write a kernel once that several PSFs use, each time."""
    first = _analytic_psf()
    second = RawRow("KernelPsf", [[first.tables[0][0], *_analytic_psf().tables[0][1:]]])
    psfs: list[Any] = [first, second]
    for _ in range(3):
        writer = ArchiveWriter()
        ids = [writer.put(psf) for psf in psfs]
        data = fits.PrimaryHDU().header.tostring().encode() + b"".join(writer.hdus())
        with fits.open(io.BytesIO(data)) as hdulist:
            archive = ArchiveReader(hdulist, 1)
            assert len(archive.names) == 7
            assert archive.names.tolist().count("LinearCombinationKernel") == 1
            psfs = [archive.get(i) for i in ids]


def test_psfs_that_are_not_from_files(tmp_path: Path) -> None:
    """Refuse what has no tables."""
    psf = KernelPsf(_BOX, FixedKernel(np.ones((3, 3)), (1, 1)))
    with pytest.raises(UnsupportedPersistableError, match="KernelPsf that wasn't read from a file"):
        ArchiveWriter().put(psf)


def test_constant_combination_and_analytic_kernel() -> None:
    """Read constant amplitudes, sampled functions and a delta function."""
    geometry: list[tuple[str, str, Any]] = [
        ("dimensions_x", "I", 15),
        ("dimensions_y", "I", 15),
        ("center_x", "I", 7),
        ("center_y", "I", 7),
    ]
    function = RawRow(
        "GaussianFunction2D", [[("sigma1", "D", 2.0), ("sigma2", "D", 1.0), ("angle", "D", 0.3)]]
    )
    analytic = RawRow("AnalyticKernel", [[*geometry, ("kernelfunction", "I", function)]])
    delta = RawRow("DeltaFunctionKernel", [[*geometry, ("pixel_x", "I", 9), ("pixel_y", "I", 4)]])
    kernel = persist(
        RawRow(
            "LinearCombinationKernel",
            [[*geometry, ("components", "ArrayI", [analytic, delta]), ("amplitudes", "ArrayD", [3.0, 0.5])]],
        )
    )
    image = kernel.images(np.zeros(1), np.zeros(1))[0]
    y, x = np.mgrid[-7:8, -7:8]
    u, v = np.cos(0.3) * x + np.sin(0.3) * y, np.cos(0.3) * y - np.sin(0.3) * x
    # Samples of a function of unit integral, not of unit sum.
    expected = 3.0 * np.exp(-(u**2) / 8 - v**2 / 2) / (2 * np.pi * 2.0)
    expected[4, 9] += 0.5
    np.testing.assert_allclose(image, expected, rtol=1e-12)


def test_function_integrals() -> None:
    """Normalise the Gaussian functions to unit integral."""
    y, x = np.mgrid[-40:41, -40:41].astype(float)
    assert GaussianFunction2(2.0, 3.0, 0.4)(x, y).sum() == pytest.approx(1.0, abs=1e-9)
    assert DoubleGaussianFunction2(2.0, 5.0, 0.2)(x, y).sum() == pytest.approx(1.0, abs=1e-9)


def test_single_precision_functions() -> None:
    """Round the values of float functions."""
    value = persist(RawRow("PolynomialFunction2F", [[("coefficients", "ArrayD", [0.1, 0.3, 0.7])]]))(
        np.array([1.0]), np.array([2.0])
    )
    assert value[0] == float(np.float32(0.1 + 0.3 + 1.4))
    limits = (0.0, 0.0, 1.0, 1.0)
    assert Chebyshev1Function2(np.array([1.0]), limits)(np.array([0.3]), np.array([0.3]))[0] == 1.0


def _psfex_table(components: np.ndarray, **changes: Any) -> RawRow:
    n, h, w = components.shape
    values = {
        "group": [0, 0],
        "degree": [1],
        "_size": [w, h, n],
        "pixstep": 0.5,
        "first": [100.0, 50.0],
        "second": [100.0, 50.0],
        "ncoeff": n,
        **changes,
    }
    first: list[tuple[str, str, Any]] = [
        ("ndim", "I", 2),
        ("ngroup", "I", len(values["degree"])),
        ("ncoeff", "I", values["ncoeff"]),
        ("_size_size", "I", 3),
        ("_comp_size", "I", components.size),
        ("_context_size", "I", 2),
        ("averagePosition_x", "D", 90.0),
        ("averagePosition_y", "D", 40.0),
        ("_pixstep", "F", values["pixstep"]),
    ]
    second: list[tuple[str, str, Any]] = [
        ("group", "ArrayI", values["group"]),
        ("degree", "ArrayI", values["degree"]),
        ("basis", "ArrayD", np.zeros(n)),
        ("coeff", "ArrayD", np.zeros(n)),
        ("_size", "ArrayI*", np.array(values["_size"])),
        ("_comp", "ArrayF*", components.ravel().astype(np.float32)),
        ("_context_first", "ArrayD", values["first"]),
        ("_context_second", "ArrayD", values["second"]),
    ]
    return RawRow("PsfexPsf", [first, second])


def _psfex_components() -> np.ndarray:
    # Sampled twice as finely as the image, sigma 2 image pixels.
    base = _sampled(51, 51, 4.0)
    return np.stack([base / base.sum(), 0.1 * base / base.sum(), 0.02 * _sampled(51, 51, 3.0) / base.sum()])


def test_psfex() -> None:
    """Read a PSFEx model and draw it."""
    psf = persist(_psfex_table(_psfex_components()))
    assert isinstance(psf, PsfexPsf)
    assert psf.average_position == (90.0, 40.0)
    # int(51 * 0.5) = 25 image pixels.
    assert psf.kernel_bbox == Box.factory[-12:13, -12:13]
    images = psf.draw_kernel_images([100.0, 200.0], [50.0, 100.0])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), 1.0, atol=1e-6)
    expected = _sampled(25, 25, 2.0)
    # In the middle of the field the model is its first component; float32.
    np.testing.assert_allclose(images[0], expected / expected.sum(), atol=2e-6)
    # At the edge u = v = 1 adds the others with weight 1.
    expected = 1.1 * expected + 0.02 * _sampled(25, 25, 1.5)
    np.testing.assert_allclose(images[1], expected / expected.sum(), atol=2e-6)


@pytest.mark.parametrize("step", [0.4, 0.5, 0.77, 1.0])
def test_psfex_centroid(step: float) -> None:
    """Put stars at their sub-pixel positions, for any sampling."""
    sigma = 2.0 / step
    n = int(2 * round(14 / step) + 1)
    psf = PsfexPsf(_BOX, _sampled(n, n, sigma)[np.newaxis], (0, 0), (0,), (0, 0), (1, 1), step)
    x, y = np.array([50.0, 50.3, 50.5, 50.7]), np.array([40.2, 40.5, 40.9, 40.0])
    images, x0, y0 = psf.draw_star_images(x, y)
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]]
    total = images.sum(axis=(1, 2))
    # Sums of 1000 float32 pixels.
    np.testing.assert_allclose(total, 1.0, atol=5e-6)
    # Lanczos-5 weights don't reproduce a linear function exactly; the
    # centroid is off by up to 0.011 model pixels.
    np.testing.assert_allclose((images * columns).sum(axis=(1, 2)) / total + x0, x, atol=0.012)
    np.testing.assert_allclose((images * rows).sum(axis=(1, 2)) / total + y0, y, atol=0.012)
    # 0.5 isn't more than 0.5: no change of pixel (spec 02 §6.2).
    np.testing.assert_array_equal(x0 + images.shape[2] // 2, [50, 50, 50, 51])


def test_psfex_monomials() -> None:
    """Order the terms as PSFEx does."""
    x, y = np.array([2.0]), np.array([3.0])
    np.testing.assert_array_equal(monomials(x, y, (0, 0), (2,))[0], [1, 2, 4, 3, 6, 9])
    np.testing.assert_array_equal(monomials(x, y, (0, 1), (1, 2))[0], [1, 2, 3, 6, 9, 18])


def test_psfex_resampling_by_definition() -> None:
    """Compare the weights with a literal transcription of the recipe."""
    delta, n_in, n_out, step = np.float32(0.3), 21, 31, np.float32(1 / 1.2)
    found = resampling_matrices(np.array([delta]), n_in, n_out, step)[0]
    d = float(np.float32(-delta * step))
    s = n_in // 2 + d - (n_out // 2) * float(step)
    k = 0
    if s < 0:
        k = int(1 - s / float(step))
        s += k * float(step)
    count = min(int((n_in - 1 - s) / float(step) + 1), n_out - k)
    expected = np.zeros((n_out, n_in))
    for j in range(count):
        taps = np.arange(max(int(s) - 6, 0), min(int(s) + 5, n_in - 1) + 1)
        t = taps - s
        weights = np.where(np.abs(t) <= 5, np.sinc(t) * np.sinc(t / 5), 0.0)
        expected[k + j, taps] = weights / weights.sum()
        s += float(step)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert k > 0


def test_star_image_of_galsim() -> None:
    """Agree with GalSim about where a star is."""
    psf = SingleGaussianPsf(_BOX, 31, 31, 2.0)
    image = psf.compute_stellar_image(x=20.25, y=30.75)
    box = image.bbox
    bounds = galsim.BoundsI(box.x.min, box.x.max, box.y.min, box.y.max)
    reference = galsim.Image(bounds, scale=1.0, dtype=float)
    galsim.Gaussian(sigma=2.0).drawImage(reference, method="no_pixel", center=(20.25, 30.75))
    np.testing.assert_allclose(image.array, reference.array, atol=2e-3 * reference.array.max())


def _kernel_psf_in_a_loop() -> RawRow:
    raw = RawRow("LinearCombinationKernel", [[]])
    raw.tables = [
        [
            ("dimensions_x", "I", 3),
            ("dimensions_y", "I", 3),
            ("center_x", "I", 1),
            ("center_y", "I", 1),
            ("components", "ArrayI", [1]),
            ("amplitudes", "ArrayD", [1.0]),
        ]
    ]
    return raw


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: _gaussian("GaussianPsf", 10**6, 10**6, 2.0), ArchiveError, "1000000 x 1000000"),
        (lambda: _gaussian("GaussianPsf", -3, 5, 2.0), ArchiveError, "-3 x 5"),
        (lambda: _gaussian("SingleGaussianPsf", 25, 25, float("nan")), ArchiveError, "width of a"),
        (lambda: _gaussian("GaussianPsf", 25, 25, 0.0), ArchiveError, "width of a"),
        (lambda: _gaussian("CoaddPsf", 25, 25, 0.0), UnsupportedPersistableError, "CoaddPsf"),
        (_kernel_psf_in_a_loop, MalformedArchiveError, "contains itself"),
        (lambda: _psfex_table(_psfex_components(), ncoeff=4), MalformedArchiveError, "of 4 terms"),
        (lambda: _psfex_table(_psfex_components(), _size=[51, 51, 10**6]), MalformedArchiveError, "terms"),
        (lambda: _psfex_table(_psfex_components(), degree=[10**6]), ArchiveError, "of degrees"),
        (lambda: _psfex_table(_psfex_components(), group=[0, 3]), ArchiveError, "polynomial groups"),
        (lambda: _psfex_table(_psfex_components(), pixstep=1e9), ArchiveError, "size of a PsfexPsf"),
        (lambda: _psfex_table(_psfex_components(), pixstep=-1.0), ArchiveError, "pixel step"),
        (lambda: _psfex_table(_psfex_components(), second=[0.0, 1.0]), ArchiveError, "scales"),
        (
            lambda: RawRow("PolynomialFunction2D", [[("coefficients", "ArrayD", [1.0, 2.0])]]),
            ArchiveError,
            "can't have 2 coefficients",
        ),
    ],
)
def test_malformed(make: Callable[[], RawRow], error: type[Exception], message: str) -> None:
    """Refuse sizes and combinations that make no sense."""
    with pytest.raises(error, match=message):
        persist(make())


def test_mismatched_kernels_are_refused() -> None:
    """Refuse combinations of kernels of different size."""
    kernels = [FixedKernel(np.ones((n, n)), (1, 1)) for n in (3, 5)]
    with pytest.raises(ArchiveError, match="differ in size"):
        LinearCombinationKernel(kernels, [1.0, 2.0])
    with pytest.raises(ArchiveError, match="outside of its"):
        FixedKernel(np.ones((3, 3)), (3, 1))
    with pytest.raises(ArchiveError, match="4096 x 3"):
        AnalyticKernel(4096, 3, (1, 1), GaussianFunction2(1.0, 1.0))


def test_piff_psf_is_persisted(tiny: Path) -> None:
    """Write a Piff PSF through the archive and draw the same."""
    path = tiny / "expected/default/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
    with fits.open(path) as hdulist:
        psf = ArchiveReader(hdulist, 2).get(1)
    again = persist(psf)
    np.testing.assert_array_equal(
        again.compute_stellar_image(x=10.3, y=20.4).array, psf.compute_stellar_image(x=10.3, y=20.4).array
    )
    assert isinstance(KernelPsf(_BOX, FixedKernel(np.ones((3, 3)), (1, 1))), KernelImagePsf)
