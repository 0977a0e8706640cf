# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""HSM plugins on synthetic stars: vectors, failures, independence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.measure import MeasurementFatalError, plugin_registry
from lsst.pex.config import FieldValidationError

P = "ext_shapeHSM_"
SOURCE, ROUND, PSF = (f"{P}{n}" for n in ("HsmSourceMoments", "HsmSourceMomentsRound", "HsmPsfMoments"))
HOM_SOURCE, HOM_PSF = f"{P}HigherOrderMomentsSource", f"{P}HigherOrderMomentsPSF"
DEBIASED, REGAUSS = f"{P}HsmPsfMomentsDebiased", f"{P}HsmShapeRegauss"
ALL = [SOURCE, ROUND, PSF, HOM_SOURCE, HOM_PSF, DEBIASED, REGAUSS]
ALL += [f"{P}HsmShape{n}" for n in ("Bj", "Ksb", "Linear")]
FLUX = {"slot_PsfFlux": "flux"}


def _field(count: int = 9, seed: int = 2) -> tuple[np.ndarray, ...]:
    """Make stars on a grid: image, variance, x, y, boxes."""
    rng = np.random.default_rng(seed)
    n = np.arange(count)
    size = 40 * int(np.ceil(count / 3)) + 20
    x = 30.0 + 40 * (n % 3) + rng.uniform(-0.5, 0.5, count)
    y = 30.0 + 40 * (n // 3) + rng.uniform(-0.5, 0.5, count)
    j, i = np.mgrid[:size, :140]
    image = rng.normal(0, 5, (size, 140))
    for a, b in zip(x, y, strict=True):
        # Wider than the PSF, so that re-Gaussianization succeeds.
        image += rng.uniform(5e3, 5e4) * (1 + ((i - a) ** 2 + 1.1 * (j - b) ** 2) / 16.0) ** -3.2
    variance = 25.0 + np.maximum(image, 0) / 2
    corner = np.stack([np.floor(x + 0.5), np.floor(y + 0.5)], axis=-1).astype(int)
    half = rng.integers(10, 16, (count, 2))
    return (
        image.astype(np.float32),
        variance.astype(np.float32),
        x,
        y,
        np.hstack([corner - half, corner + half]),
    )


def _results(catalog: Any, names: list[str]) -> dict[str, np.ndarray]:
    prefixes = tuple(f"{n}_" for n in names)
    return {name: catalog[name].copy() for name in catalog.schema.names if name.startswith(prefixes)}


def _measure(run_plugins: Any, exposure: Any, x: Any, y: Any, boxes: Any, psf: Any, **kwargs: Any) -> Any:
    columns = {"flux_instFlux": np.full(len(x), 2e4), **kwargs.pop("columns", {})}
    names = kwargs.pop("names", ALL)
    return run_plugins(names, exposure, x, y, boxes, psf=psf, columns=columns, aliases=FLUX, **kwargs)


def test_defaults_and_fields(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Have upstream's defaults, fields, units and aliases."""
    image, variance, x, y, boxes = _field(1)
    catalog = _measure(run_plugins, make_exposure(image, variance=variance), x, y, boxes, moffat_psf)
    flags = ["no_pixels", "not_contained", "parent_source", "galsim", "invalid_param", "edge", "no_psf"]
    for name in (SOURCE, ROUND, PSF, DEBIASED):
        expected = ["flag", *(f"flag_{f}" for f in flags), "x", "y", "xx", "yy", "xy"]
        assert list(_results(catalog, [name])) == [f"{name}_{f}" for f in expected]
        assert catalog.schema[f"{name}_x"].unit == "pixel"
        assert catalog.schema[f"{name}_xy"].unit == "pixel^2"
    for letter, kind in (("e", "Regauss"), ("e", "Bj"), ("e", "Linear"), ("g", "Ksb")):
        expected = ["flag", *(f"flag_{f}" for f in flags[:4])]
        expected += [f"{letter}1", f"{letter}2", "sigma", "resolution"]
        name = f"{P}HsmShape{kind}"
        assert list(_results(catalog, [name])) == [f"{name}_{f}" for f in expected]
        assert plugin_registry[name].ConfigClass().shearType == kind.upper()
    moments = ["03", "12", "21", "30", "04", "13", "22", "31", "40"]
    for name in (HOM_SOURCE, HOM_PSF):
        assert list(_results(catalog, [name])) == [f"{name}_{f}" for f in ["flag", *moments]]
    for name in ALL:
        # HigherOrderMomentsSource alone doesn't look at the centroid slot.
        assert (f"{name}_flag_badCentroid" in catalog.schema.aliases) == (name != HOM_SOURCE)
        order = 2.1 if name == DEBIASED else 2.0 if "HigherOrder" in name else 1.0
        assert plugin_registry[name].execution_order == order


def test_config_validation() -> None:
    """Refuse a round plugin that isn't, and empty ranges of orders."""
    config = plugin_registry[ROUND].ConfigClass()
    assert config.roundMoments
    config.roundMoments = False
    with pytest.raises(FieldValidationError, match="roundMoments"):
        config.validate()
    config = plugin_registry[HOM_PSF].ConfigClass()
    config.min_order = 5
    with pytest.raises(FieldValidationError, match="min_order"):
        config.validate()


def _vector_exposure(make_exposure: Any, width: float, amplitude: float) -> Any:
    j, i = np.mgrid[:33, :33].astype(float)
    dx, dy = i - 16.27, j - 15.62
    image = amplitude * (1 + (1.06 * dx**2 + 0.1 * dx * dy + 0.96 * dy**2) / width) ** -3
    image += 5 * np.sin(1.3 * i + 0.7 * j + 0.11 * i * j)
    return make_exposure(image, variance=np.full((33, 33), 25.0), origin=(1000, 2000))


class _VectorPsf:
    """PSF images K and P of spec 04 §12, with a shape of 2 pixels."""

    def _image(self, x: float, y: float, count: int) -> np.ndarray:
        j, i = np.mgrid[:25, :25].astype(float)
        dx, dy = i - x, j - y
        image = (1 + (1.03 * dx**2 - 0.08 * dx * dy + 0.98 * dy**2) / 8.5) ** -3.2
        return np.repeat((image / image.sum())[None], count, axis=0)

    def draw_kernel_images(self, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return self._image(12.03, 11.98, len(x))

    def draw_star_images(self, x: Any, y: Any, color: Any = None) -> tuple[np.ndarray, ...]:
        return self._image(12.2, 11.7, len(x)), np.full(len(x), 1004), np.full(len(x), 2004)

    def compute_shapes(self, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return np.tile([4.0, 4.0, 0.0], (len(x), 1))

    def compute_aperture_fluxes(self, radius: float, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return np.ones(len(x))


BOX = np.array([[1000, 2000, 1032, 2032]])


@pytest.mark.parametrize(
    ("kind", "which", "values"),
    [
        ("Regauss", "g", (-0.074275270, -0.139384329, 4.85679862e-4, 0.568479359)),
        ("Regauss", "S", (-0.379512817, -1.255025268, 1.82070874e-3, 0.105366483)),
        ("Bj", "g", (-0.065441929, -0.107562765, 5.17561741e-4, 0.610357761)),
        ("Linear", "g", (-0.079235077, -0.157810718, 5.17561741e-4, 0.610357761)),
        ("Ksb", "g", (-0.036447406, -0.066114470, 2.59147346e-4, 0.609836578)),
    ],
)
def test_shape_vectors(make_exposure: Any, run_plugins: Any, kind: str, which: str, values: tuple) -> None:
    """Reproduce the spec's PSF-corrected shapes."""
    exposure = _vector_exposure(make_exposure, *((20.0, 9e3) if which == "g" else (9.0, 2e4)))
    name = f"{P}HsmShape{kind}"
    catalog = run_plugins([name], exposure, [1016.2], [2015.7], BOX, psf=_VectorPsf())
    letter = "g" if kind == "Ksb" else "e"
    result = [catalog[f"{name}_{f}"][0] for f in (f"{letter}1", f"{letter}2", "sigma", "resolution")]
    np.testing.assert_allclose(result, values, rtol=1e-7)
    assert not catalog[f"{name}_flag"][0]


@pytest.mark.parametrize(("x", "asked"), [(1016.2, []), (1000.0, [0])])
def test_galsim_without_guess(
    make_exposure: Any, run_plugins: Any, monkeypatch: pytest.MonkeyPatch, x: float, asked: list[int]
) -> None:
    """Leave stars to GalSim where it takes the guess of a centre for none."""
    calls: list[int] = []
    plugin = plugin_registry[REGAUSS]
    original = plugin._ask_galsim

    def ask(self: Any, *args: Any) -> Any:
        calls.extend(args[-1].tolist())
        return original(self, *args)

    monkeypatch.setattr(plugin, "_ask_galsim", ask)
    exposure = _vector_exposure(make_exposure, 9.0, 2e4)
    run_plugins([REGAUSS], exposure, [x], [2015.7], BOX, psf=_VectorPsf())
    assert calls == asked


def test_moment_vectors(make_exposure: Any, run_plugins: Any) -> None:
    """Reproduce the spec's moments with the plugins, at their XY0."""
    exposure = _vector_exposure(make_exposure, 9.0, 2e4)

    def configure(config: Any) -> None:
        config.plugins[SOURCE].addFlux = True
        config.plugins[ROUND].subtractCenter = True

    names = [SOURCE, ROUND, PSF, HOM_SOURCE, HOM_PSF]
    catalog = run_plugins(names, exposure, [1016.2], [2015.7], BOX, psf=_VectorPsf(), configure=configure)
    truth = {
        f"{SOURCE}_x": 1016.269927496, f"{SOURCE}_y": 2015.620026309, f"{SOURCE}_xx": 2.039174743,
        f"{ROUND}_x": 0.069933870, f"{ROUND}_y": -0.079970319, f"{ROUND}_yy": 2.189833620,
        f"{PSF}_x": 0.029974314, f"{PSF}_y": -0.019988997, f"{PSF}_xy": 0.073872912,
        f"{HOM_SOURCE}_30": 1.161459595e-4, f"{HOM_PSF}_30": 0.01559036268,
    }  # fmt: skip
    for name, value in truth.items():
        assert catalog[name][0] == pytest.approx(value, abs=1.1e-9), name
    assert catalog[f"{SOURCE}_Flux"][0] == pytest.approx(244721.84, abs=0.02)


def test_psf_moments_with_offset(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Measure PSFs drawn at their true positions, and their centres."""
    image, variance, x, y, boxes = _field()
    exposure = make_exposure(image, variance=variance)

    def configure(config: Any) -> None:
        config.plugins[PSF].useSourceCentroidOffset = True
        config.plugins[HOM_PSF].useSourceCentroidOffset = True

    names = [PSF, HOM_PSF]
    offset = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=names, configure=configure)
    # The Moffat of the PSF is symmetric about the star.
    np.testing.assert_allclose(offset[f"{PSF}_x"], 0.0, atol=3e-3)
    np.testing.assert_allclose(offset[f"{HOM_PSF}_30"], 0.0, atol=3e-3)

    class ShiftedPsf(type(moffat_psf)):
        def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
            return super().draw_star_images(x + 0.3, y - 0.2, color)

    shifted = _measure(run_plugins, exposure, x, y, boxes, ShiftedPsf(), names=names, configure=configure)
    np.testing.assert_allclose(shifted[f"{PSF}_x"], 0.3, atol=3e-3)
    # Third moments are about the measured centroid.
    for moment in ("30", "03"):
        np.testing.assert_allclose(shifted[f"{HOM_PSF}_{moment}"], 0.0, atol=3e-3)

    def absolute(config: Any) -> None:
        configure(config)
        config.plugins[PSF].subtractCenter = False

    parent = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[PSF], configure=absolute)
    np.testing.assert_allclose(parent[f"{PSF}_x"] - x, offset[f"{PSF}_x"], atol=1e-11)
    kernel = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[PSF, HOM_PSF])
    assert np.ptp(kernel[f"{PSF}_x"]) == 0.0
    # Quirk: third moments are about the central pixel (spec 04 §8).
    assert abs(kernel[f"{HOM_PSF}_30"][0]) > 1e-2


def test_debiased_psf_moments(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Scatter like the noise added, and depend on the seed alone."""
    image, variance, x, y, boxes = _field()
    x[0] = 5.0
    exposure = make_exposure(image, variance=variance)
    first = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[DEBIASED])
    again = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[DEBIASED])
    assert first[f"{DEBIASED}_flag_edge"].tolist() == [True] + [False] * 8
    assert first[f"{DEBIASED}_flag"].tolist() == [True] + [False] * 8
    np.testing.assert_array_equal(first[f"{DEBIASED}_xx"], again[f"{DEBIASED}_xx"])
    clean = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[PSF])
    difference = (first[f"{DEBIASED}_xx"] - clean[f"{PSF}_xx"])[1:]
    assert 1e-4 < np.std(difference) < 0.3

    def seed(config: Any) -> None:
        config.plugins[DEBIASED].seedOffset = 1

    shifted = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[DEBIASED], configure=seed)
    assert (shifted[f"{DEBIASED}_xx"] != first[f"{DEBIASED}_xx"])[1:].all()

    def meta(config: Any) -> None:
        config.plugins[DEBIASED].noiseSource = "meta"

    with pytest.raises(MeasurementFatalError, match="BGMEAN"):
        _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[DEBIASED], configure=meta)
    exposure.metadata["BGMEAN"] = 4.0
    by_meta = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[DEBIASED], configure=meta)
    # Beyond the edge the star is measured all the same, but flagged.
    assert by_meta[f"{DEBIASED}_flag_edge"].tolist() == [True] + [False] * 8
    assert not by_meta[f"{DEBIASED}_flag"].any()
    assert np.isfinite(by_meta[f"{DEBIASED}_xx"]).all()


def test_bad_stars_spoil_only_themselves(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Flag each kind of bad star; others are as without them."""
    image, variance, x, y, boxes = _field(12)
    good = _measure(run_plugins, make_exposure(image, variance=variance), x, y, boxes, moffat_psf)
    assert not any(good[f"{n}_flag"].any() for n in ALL)
    mask = np.zeros(image.shape, dtype=np.uint8)
    image = image.copy()
    image[int(y[0]) + 2, int(x[0])] = np.nan
    x0, y0, x1, y1 = boxes[1]
    mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    image[boxes[2, 1] : boxes[2, 3] + 1, boxes[2, 0] : boxes[2, 2] + 1] = 0.0
    x[3] = boxes[3, 2] + 1.0
    boxes[4, 0] = -1
    boxes[5] = 10, 10, 9, 9
    x[6] = np.nan
    y[7] = np.inf
    flag = np.zeros(12, dtype=bool)
    flag[8] = True
    exposure = make_exposure(image, variance=variance, mask=mask)
    catalog = _measure(run_plugins, exposure, x, y, boxes, moffat_psf, columns={"slotted_flag": flag})
    failed = np.flatnonzero(catalog[f"{SOURCE}_flag"]).tolist()
    assert failed == list(range(9))
    # A flagged centroid is used nevertheless.
    values = np.isfinite(catalog[f"{SOURCE}_xx"])
    assert np.flatnonzero(~values).tolist() == list(range(8))
    # Quirks: NaN data with a round weight is no failure; success clears the
    # flag of a doubtful centroid; specific flags are never set.
    assert np.flatnonzero(catalog[f"{ROUND}_flag"]).tolist() == list(range(1, 9))
    assert np.isnan(catalog[f"{ROUND}_xx"][0])
    assert np.flatnonzero(catalog[f"{REGAUSS}_flag"]).tolist() == list(range(8))
    # Higher moments fail where second moments are flagged.
    assert np.flatnonzero(catalog[f"{HOM_SOURCE}_flag"]).tolist() == list(range(9))
    for name in catalog.schema.names:
        if "HSM" in name and "_flag_" in name and not name.endswith("_flag_edge"):
            assert not catalog[name].any()
    for name, value in _results(good, ALL).items():
        np.testing.assert_array_equal(catalog[name][9:], value[9:], err_msg=name)


def test_no_psf(make_exposure: Any, run_plugins: Any) -> None:
    """Flag all stars without a PSF; higher PSF moments are fatal."""
    image, variance, x, y, boxes = _field()
    exposure = make_exposure(image, variance=variance)
    names = [n for n in ALL if n != HOM_PSF]
    catalog = _measure(run_plugins, exposure, x, y, boxes, None, names=names)
    for name in names:
        assert catalog[f"{name}_flag"].all()
    with pytest.raises(MeasurementFatalError, match="PSF"):
        _measure(run_plugins, exposure, x, y, boxes, None, names=[PSF, HOM_PSF])


def test_missing_prerequisite(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """End the run if second moments are not in the schema."""
    image, variance, x, y, boxes = _field()
    exposure = make_exposure(image, variance=variance)
    for name, missing in ((HOM_SOURCE, SOURCE), (HOM_PSF, PSF)):
        with pytest.raises(MeasurementFatalError, match=missing):
            _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[name])


def test_deblended_parents(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Refuse sources with children if a field tells of them."""
    image, variance, x, y, boxes = _field()
    exposure = make_exposure(image, variance=variance)

    def configure(config: Any) -> None:
        config.plugins[REGAUSS].deblendNChild = "nchild"

    children = {"nchild": np.array([0, 2, 0, 0, 0, 0, 0, 0, 1])}
    catalog = _measure(
        run_plugins, exposure, x, y, boxes, moffat_psf, names=[REGAUSS], configure=configure, columns=children
    )
    assert np.flatnonzero(catalog[f"{REGAUSS}_flag"]).tolist() == [1, 8]
    with pytest.raises(MeasurementFatalError, match=rf"{REGAUSS} needs the field 'nchild' \(deblendNChild\)"):
        _measure(run_plugins, exposure, x, y, boxes, moffat_psf, names=[REGAUSS], configure=configure)


def test_no_stars(make_exposure: Any, moffat_psf: Any, run_plugins: Any) -> None:
    """Measure an empty catalogue."""
    exposure = make_exposure(np.zeros((50, 50)))
    catalog = _measure(run_plugins, exposure, [], [], np.empty((0, 4), dtype=int), moffat_psf)
    assert len(catalog) == 0


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(9)),
    split=st.integers(1, 8),
    origin=st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)),
)
def test_order_parts_and_origin(
    make_exposure: Any, moffat_psf: Any, run_plugins: Any, order: list[int], split: int, origin: tuple
) -> None:
    """Measure the same in any order, in parts and at any XY0."""
    names = [n for n in ALL if n != DEBIASED]
    image, variance, x, y, boxes = _field()
    # Positions that survive the shift of the origin exactly.
    x, y = np.round(x * 1024) / 1024, np.round(y * 1024) / 1024
    whole = _measure(
        run_plugins, make_exposure(image, variance=variance), x, y, boxes, moffat_psf, names=names
    )
    truth = _results(whole, names)
    exposure = make_exposure(image, variance=variance, origin=origin)
    shift = np.array(origin)
    for rows in (np.array(order[:split]), np.array(order[split:])):
        part = _measure(
            run_plugins, exposure, x[rows] + shift[0], y[rows] + shift[1],
            boxes[rows] + np.tile(shift, 2), moffat_psf, names=names,
        )  # fmt: skip
        for name, value in _results(part, names).items():
            moved = {"_x": shift[0], "_y": shift[1]}.get(name[-2:], 0) if "Source" in name else 0
            # Float32 results may flip their last digit; e is worse by 1/R.
            np.testing.assert_allclose(value - moved if moved else value, truth[name][rows],
                                       rtol=3e-6, atol=1e-8, err_msg=name)  # fmt: skip
