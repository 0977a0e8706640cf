# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import piff
import pytest

import lsst.meas.finalize.psf.structured._fit as structured_fit
from lsst.meas.finalize.psf import PsfUnsolvableError
from lsst.meas.finalize.psf.structured import fit_structured

_WCS = galsim.PixelScale(0.2)


def _off_centre(image: np.ndarray) -> np.ndarray:
    """Put a hot pixel into the corner."""
    return np.where(np.arange(image.size).reshape(image.shape) == 0, image + 3e4, image)


def _few_pixels(weight: np.ndarray) -> np.ndarray:
    """Mask all but three pixels."""
    middle = weight.size // 2
    return np.where(np.abs(np.arange(weight.size).reshape(weight.shape) - middle) < 2, weight.max(), 0.0)


_DEFECTS: dict[str, dict[str, Callable[[np.ndarray], Any]]] = {
    "zero": {"image": lambda image: 0.0},
    "negative": {"image": lambda image: -image},
    "noise": {"image": lambda image: np.random.default_rng(3).normal(size=image.shape) * 10.0},
    "off center": {"image": _off_centre},
    "masked": {"weight": lambda weight: 0.0},
    "few pixels": {"weight": _few_pixels},
}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("defect", _DEFECTS)
def test_one_bad_star(
    defect: str,
    centered: bool,
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Treat a bad star as Piff does."""
    stars = change_star(make_star_list(22), 3, **_DEFECTS[defect])
    config = make_config(centered=centered)
    # The solver "cpp" would crash on a star without pixels on the grid.
    assert_same_psf(
        fit_structured(stars, config, {0: _WCS}, None), fit_with_piff(stars, config), tolerance=1e-6
    )


def test_duplicate_positions(
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    assert_same_psf: Callable[..., None],
) -> None:
    """Accept a star twice."""
    stars = make_star_list(20)
    stars += stars[:4]
    config = make_config()
    assert_same_psf(fit_structured(stars, config, {0: _WCS}, None), fit_with_piff(stars, config))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": lambda image: np.where(image == image.max(), np.nan, image)}, "1 pixels aren't finite"),
        ({"weight": lambda weight: np.inf}, "weight is negative or not finite"),
        ({"weight": lambda weight: np.nan}, "weight is negative or not finite"),
        ({"weight": lambda weight: -weight}, "weight is negative or not finite"),
        (
            {"weight": lambda weight: np.where(np.arange(weight.size).reshape(weight.shape) == 40, 1.0, 0.0)},
            "depends on rounding errors",
        ),
    ],
    ids=["nan", "infinite weight", "nan weight", "negative weight", "one pixel"],
)
def test_left_to_piff(
    change: dict[str, Callable[[np.ndarray], Any]],
    reason: str,
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leave stars to Piff whose numbers can't be told by another way."""
    stars = change_star(make_star_list(12), 3, **change)
    with caplog.at_level(logging.INFO, "lsst.meas.finalize"):
        assert fit_structured(stars, make_config(order=0), {0: _WCS}, None) is None
    assert reason in caplog.text


def test_stars_of_one_pixel(
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether LAPACK calls their centring singular is up to rounding."""
    stars = make_star_list(12)
    # Other centres make other rounding errors.
    for i in range(6):
        stars = change_star(
            stars, i, weight=lambda weight: np.where(np.arange(81).reshape(9, 9) == 40, 1.0, 0.0)
        )
        with caplog.at_level(logging.INFO, "lsst.meas.finalize"):
            assert fit_structured(stars[i:], make_config(order=0), {0: _WCS}, None) is None
        assert "depends on rounding errors" in caplog.text
        caplog.clear()


def _on_a_line(stars: list[piff.Star]) -> list[piff.Star]:
    """Give all stars one row, for the polynomial only."""
    moved = []
    for star in stars:
        star.data.properties["row"] = 500.0
        moved.append(star)
    return moved


@pytest.mark.parametrize(
    ("count", "options", "reason"),
    [
        (0, {}, "there are no stars"),
        (2, {}, "2 stars for 3 polynomial terms"),
        (6, {"order": 2}, "no convergence|ill-conditioned|isn't positive"),
        (12, {"keys": ("x", "row")}, "don't constrain all polynomial terms"),
        (12, {"keys": ("x", "nokey")}, "lacks an interpolation property"),
        (12, {"interp": "galsim.Delta()"}, "no smooth finite kernel"),
        (12, {"interp": "galsim.SincInterpolant()"}, "no smooth finite kernel"),
        (12, {"interp": "galsim.Nearest()"}, "no derivative to center with"),
        (12, {"model": {"type": "Gaussian"}}, "model is Gaussian"),
        (12, {"model": {"type": "PixelGrid", "scale": 0.2, "size": 9, "fit_flux": True}}, "fits the flux"),
        (12, {"outliers": {"type": "Centroid", "max_offset": 1.0}}, "CentroidOutliers"),
    ],
)
def test_not_covered(
    count: int,
    options: dict[str, Any],
    reason: str,
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Say why a fit is left to Piff."""
    stars = _on_a_line(make_star_list(count))
    with caplog.at_level(logging.INFO, "lsst.meas.finalize"):
        assert fit_structured(stars, make_config(**options), {0: _WCS}, None) is None
    assert any(word in caplog.text for word in reason.split("|"))


def test_other_interpolation(
    make_star_list: Callable[..., list[piff.Star]], make_config: Callable[..., dict[str, Any]]
) -> None:
    """Leave interpolations to Piff that need a solution per star."""
    config = make_config(order=0)
    config["interp"] = {"type": "Polynomial", "order": 1}
    assert fit_structured(make_star_list(8), config, {0: _WCS}, None) is None


def test_gain(
    make_star_list: Callable[..., list[piff.Star]], make_config: Callable[..., dict[str, Any]]
) -> None:
    """Leave stars to Piff whose weights follow the model."""
    stars = [s.withProperties(gain=2.0) for s in make_star_list(8)]
    assert fit_structured(stars, make_config(order=0), {0: _WCS}, None) is None


@pytest.mark.parametrize("failure", ["flagged", "reserved", "small stamps", "masked", "rejected", "no limit"])
def test_no_stars_left(
    failure: str,
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
) -> None:
    """Raise what Piff raises if no star is left."""
    stars = make_star_list(8)
    config = make_config(order=0)
    if failure == "flagged":
        stars = [s.flag_if(True) for s in stars]
    elif failure == "reserved":
        stars = [s.withProperties(is_reserve=True) for s in stars]
    elif failure == "small stamps":
        config = make_config(order=0, size=11)
    elif failure == "masked":
        for i in range(len(stars)):
            stars = change_star(stars, i, weight=lambda weight: 0.0)
    elif failure == "rejected":
        config = make_config(order=0, outliers={"type": "Chisq", "thresh": 1e-3})
    else:
        # Without degrees of freedom the limit is NaN, and so is Piff's cut.
        stars = change_star(stars, 3, weight=_few_pixels)
    with pytest.raises(RuntimeError, match="stars") as expected:
        fit_with_piff(stars, config)
    with pytest.raises(RuntimeError, match="stars") as raised:
        fit_structured(stars, config, {0: _WCS}, None)
    assert str(raised.value) == str(expected.value)


def test_invalid_configuration(
    make_star_list: Callable[..., list[piff.Star]], make_config: Callable[..., dict[str, Any]]
) -> None:
    """Let Piff refuse a configuration."""
    config = make_config(order=0) | {"modle": 1}
    with pytest.raises(galsim.GalSimConfigError, match="modle"):
        fit_structured(make_star_list(4), config, {0: _WCS}, None)


_UNDETERMINED: dict[str, tuple[int, dict[str, Any]]] = {
    "fewer stars than terms": (2, {}),
    "one row": (12, {"keys": ("x", "row")}),
    "no color": (12, {"keys": ("x", "y", "zero"), "orders": [1, 1, 1]}),
    "one color, uncentered": (12, {"keys": ("x", "y", "row"), "orders": [1, 1, 1], "centered": False}),
}


@pytest.mark.parametrize("case", _UNDETERMINED)
def test_undetermined_terms(
    case: str,
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    fit_with_piff: Callable[..., piff.SimplePSF],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Find Piff's solution of minimum norm for large systems in place."""
    count, options = _UNDETERMINED[case]
    stars = _on_a_line(make_star_list(count))
    for star in stars:
        star.data.properties["zero"] = 0.0
    config = make_config(**options, max_iter=3)
    expected = fit_with_piff(stars, config)
    # As if these grids were large.
    monkeypatch.setattr(structured_fit, "MAX_DENSE_UNKNOWNS", 0)
    psf = fit_structured(stars, config, {0: _WCS}, None)
    assert psf is not None
    assert (psf.niter, psf.nremoved, psf.dof) == (expected.niter, expected.nremoved, expected.dof)
    np.testing.assert_allclose(psf.chisq, expected.chisq, rtol=1e-6, atol=1e-6)
    # What the coefficients of terms up to 1000 mean for the grid.
    typical = np.prod(1e3 ** np.indices(psf.interp._mask.shape)[:, psf.interp._mask], axis=0)
    largest = np.abs(expected.interp.q * typical).max()
    np.testing.assert_allclose(
        psf.interp.q * typical, expected.interp.q * typical, rtol=0, atol=1e-6 * largest
    )


@pytest.mark.parametrize("count", [3, 6, 7])
def test_as_many_stars_as_terms(
    count: int,
    make_star_list: Callable[..., list[piff.Star]],
    change_star: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fit few stars with masked pixels, which leave no degree of freedom."""
    stars = make_star_list(count, stamp=13)
    stars = change_star(
        stars, 1, weight=lambda weight: np.where(np.arange(169).reshape(13, 13) % 20 == 3, 0.0, weight)
    )
    monkeypatch.setattr(structured_fit, "MAX_DENSE_UNKNOWNS", 0)
    monkeypatch.setattr(piff.BasisPolynomial, "solve", _must_not_be_called)
    psf = fit_structured(stars, make_config(size=13, order=1 if count == 3 else 2), {0: _WCS}, None)
    assert psf is not None
    # 169 pixels each, and 169 free parameters.
    assert psf.chisq < (0.5 if count == 7 else 0.01) * psf.dof
    assert np.isfinite(psf.interp.q).all()


def _must_not_be_called(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("Piff's dense solver was called")


@pytest.mark.parametrize(
    "options",
    [
        {"outliers": {"type": "MAD", "nmad": 4.0}},
        {"model": {"type": "PixelGrid", "scale": 0.19, "size": 25, "fit_flux": True}},
    ],
    ids=["outliers", "flux"],
)
def test_too_large_for_piff(
    options: dict[str, Any],
    make_star_list: Callable[..., list[piff.Star]],
    make_config: Callable[..., dict[str, Any]],
) -> None:
    """Refuse large systems that only Piff could try, with the reason."""
    config = {**make_config(size=25), **options}
    with pytest.raises(PsfUnsolvableError, match="MADOutliers|the flux itself") as raised:
        fit_structured(make_star_list(3, stamp=25), config, {0: _WCS}, None)
    assert raised.value.metadata["unknowns"] == 1875
    assert "fitter='piff'" in str(raised.value)
    with pytest.raises(PsfUnsolvableError):
        fit_structured(make_star_list(3), {"type": "Sum", "components": [config]}, {0: _WCS}, None)
