# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import piff
import pytest

from lsst.meas.finalize.psf.structured import fit_structured

_WCS = galsim.PixelScale(0.2)

_ROTATION = 0.6

# Option sets of the configuration, and of the simulated stars.
_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "uncentred": ({"centered": False, "order": 2}, {}),
    "constant": ({"order": 0}, {}),
    "quadratic": ({"order": 2}, {"flagged": 0.1, "reserved": 0.2}),
    "cubic polynomial": ({"order": 3}, {}),
    "quartic": ({"order": 4, "size": 7}, {"stamp": 7, "count": 36}),
    "quintic polynomial": ({"order": 5, "size": 5}, {"stamp": 5, "count": 50}),
    "sextic": ({"order": 6, "size": 5, "interp": "Lanczos(3)"}, {"stamp": 5, "count": 60}),
    "colour": ({"keys": ("x", "y", "colorValue"), "orders": [2, 2, 1]}, {"count": 26}),
    "cross terms": ({"order": 1, "max_order": 2}, {}),
    "cpp": ({"solver": "cpp"}, {}),
    "qr": ({"solver": "qr"}, {}),
    "Lanczos 3": ({"interp": "Lanczos(3)"}, {}),
    "Cubic": ({"interp": "galsim.Cubic()"}, {}),
    "Quintic": ({"interp": "galsim.Quintic()"}, {}),
    "Linear": ({"interp": "galsim.Linear()"}, {}),
    "Nearest": ({"interp": "galsim.Nearest()", "centered": False}, {}),
    "larger stamp": ({}, {"stamp": 13}),
    "even stamp": ({}, {"stamp": 10}),
    "even model": ({"size": 8}, {}),
    "finer model": ({"scale": 0.1, "order": 0, "size": 11}, {"count": 30}),
    "coarser model": ({"scale": 0.4, "size": 5}, {"stamp": 11}),
    "delta": ({"init": "delta"}, {}),
    "no outliers": ({"outliers": {}}, {}),
    "one iteration": ({"max_iter": 1}, {}),
    "more iterations": ({"chisq_thresh": 1e-6, "min_iter": 4, "max_iter": 6}, {}),
    "many outliers": ({"outliers": {"type": "Chisq", "ndof": 1.1, "max_remove": 0.1}}, {"reserved": 0.1}),
    "probable outliers": ({"outliers": {"type": "Chisq", "prob": 0.01, "max_remove": 2}}, {}),
    "fixed limit": ({"outliers": {"type": "Chisq", "thresh": 150.0}}, {"reserved": 0.1}),
}


@pytest.mark.parametrize("case", _CASES)
def test_options(
    case: str,
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Agree with Piff whatever the options."""
    options, simulation = dict(_CASES[case][0]), dict(_CASES[case][1])
    max_order = options.pop("max_order", None)
    init = options.pop("init", None)
    stars = make_star_list(simulation.pop("count", 22), **simulation)
    config = make_config(**options)
    if max_order is not None:
        config["interp"]["max_order"] = max_order
    if init is not None:
        config["model"]["init"] = init
    if not options.get("outliers", True):
        del config["outliers"]
    psf = fit_structured(stars, config, {0: _WCS}, None)
    # Raw powers of pixel coordinates cost Piff's Cholesky factors digits.
    tolerance = 1e-6 if options.get("order", 0) >= 5 else 1e-9
    assert_same_psf(psf, fit_with_piff(stars, config), tolerance=tolerance)


@pytest.mark.parametrize(
    "wcs",
    [
        galsim.AffineTransform(0.0, 0.2, 0.2, 0.0),
        galsim.AffineTransform(-0.2, 0.0, 0.0, 0.21),
        galsim.AffineTransform(
            0.2 * np.cos(_ROTATION),
            -0.2 * np.sin(_ROTATION),
            0.2 * np.sin(_ROTATION),
            0.2 * np.cos(_ROTATION),
        ),
        galsim.UVFunction("0.2*x + 1e-6*y*y", "0.2*y - 2e-6*x*x"),
    ],
    ids=["exchanged", "mirrored", "rotated", "distorted"],
)
@pytest.mark.parametrize("centered", [False, True])
def test_field_coordinates(
    wcs: galsim.BaseWCS,
    centered: bool,
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Agree with Piff in world coordinates of any orientation."""
    stars = make_star_list(20, wcs=wcs, stamp=12)
    config = make_config(keys=("u", "v"), order=1, centered=centered)
    psf = fit_structured(stars, config, {0: wcs}, None)
    assert_same_psf(psf, fit_with_piff(stars, config, wcs))


def test_sky_coordinates(
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Agree with Piff on the sky, with the pointing of the telescope."""
    pointing = galsim.CelestialCoord(1.0 * galsim.hours, -30.0 * galsim.degrees)
    affine = galsim.AffineTransform(0.16, -0.12, 0.12, 0.16, origin=galsim.PositionD(500, 500))
    wcs = galsim.TanWCS(affine, pointing)
    stars = make_star_list(16, wcs=wcs, stamp=14, pointing=pointing)
    config = make_config(keys=("u", "v"), order=2)
    psf = fit_structured(stars, config, {0: wcs}, pointing)
    assert_same_psf(psf, fit_with_piff(stars, config, wcs, pointing))
    assert psf.pointing == pointing


def test_full_size(
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Agree with Piff on the production's 25 pixel grids."""
    stars = make_star_list(14, stamp=25, flagged=0.05)
    config = make_config(size=25, order=1, solver="cpp", max_iter=2)
    assert_same_psf(fit_structured(stars, config, {0: _WCS}, None), fit_with_piff(stars, config))


def test_real_stars(
    real_stars: list[piff.Star],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Agree with Piff on real stars."""
    config = make_config(size=13, order=1, max_iter=4)
    psf = fit_structured(real_stars, config, {0: _WCS}, None)
    # A star drifts off its stamp, and dominates the sums for an iteration.
    assert_same_psf(psf, fit_with_piff(real_stars, config), tolerance=1e-7)


def test_inputs_stay(
    make_star_list: Callable[..., list[piff.Star]], make_config: Callable[..., dict[str, Any]]
) -> None:
    """Leave the stars and the configuration as they were."""
    stars = make_star_list(12)
    config = make_config(order=0)
    before = [(s.image.array.copy(), s.weight.array.copy(), dict(s.data.properties), s.fit) for s in stars]
    text = repr(config)
    psf = fit_structured(stars, config, {0: _WCS}, None)
    assert psf is not None
    assert repr(config) == text
    for star, (image, weight, properties, fit) in zip(stars, before, strict=True):
        np.testing.assert_array_equal(star.image.array, image)
        np.testing.assert_array_equal(star.weight.array, weight)
        assert star.data.properties == properties
        assert star.fit is fit
        assert fit.params is None


def test_result_is_piff_s(
    make_star_list: Callable[..., list[piff.Star]], make_config: Callable[..., dict[str, Any]], tmp_path: Any
) -> None:
    """Pickle the result, and write and read it with Piff."""
    psf = fit_structured(make_star_list(12), make_config(order=1), {0: _WCS}, None)
    assert psf is not None
    expected = psf.draw(300.0, 400.0).array
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(psf)).draw(300.0, 400.0).array, expected)
    # Nothing of this package is needed to read it.
    assert b"lsst" not in pickle.dumps(psf)
    psf.write(str(tmp_path / "psf.fits"))
    read = piff.read(str(tmp_path / "psf.fits"))
    np.testing.assert_allclose(read.draw(300.0, 400.0).array, expected, rtol=0, atol=1e-12)


def test_permutation(
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
) -> None:
    """Don't depend on the order of the stars."""
    stars = make_star_list(25)
    config = make_config(order=1)
    psf = fit_structured(stars, config, {0: _WCS}, None)
    other = fit_structured(stars[::-1], config, {0: _WCS}, None)
    assert psf is not None
    assert other is not None
    assert [s.is_flagged for s in psf.stars] == [s.is_flagged for s in other.stars[::-1]]
    np.testing.assert_allclose(other.interp.q, psf.interp.q, atol=1e-10 * np.abs(psf.interp.q).max())
