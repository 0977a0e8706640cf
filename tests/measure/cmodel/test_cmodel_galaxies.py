# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""CModel photometry of galaxies of known flux, and of bad input."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.meas.finalize.measure import MeasurementFatalError, radial_mixture, shapelet_moments
from lsst.meas.finalize.measure.cmodel._model_numba import model_column
from lsst.meas.finalize.measure.cmodel._shapelets import FLUX_FACTOR

_NAME = "modelfit_CModel"
_STAGES = ("initial", "exp", "dev")

# PSF "T" of spec 05 §8, normalised.
_FLUX_T = 1.2281845542607062
_PSF_T = np.array(
    [
        [2.1, 1.7, 0.3, 0.1, -0.2, 0.3, 0.02, -0.03, 0.015, 0.01, -0.02],
        [7.0, 6.0, -0.5, 0.1, -0.2, 0.05, 0.01, -0.004, 0.0, 0.0, 0.0],
    ]
)
_PSF_T[:, 5:] /= _FLUX_T


class _Plane:
    """A WCS that is linear near the equator, 0.2 arcsec per pixel."""

    def __init__(self, x0: float, y0: float) -> None:
        self.x0, self.y0 = x0, y0
        self.pixel_to_sky_transform = self

    def apply_forward(self, *, x: np.ndarray, y: np.ndarray) -> Any:
        scale = 0.2 * np.pi / 180 / 3600
        return SimpleNamespace(x=(x - self.x0) * scale, y=(y - self.y0) * scale)


class _Scene(NamedTuple):
    """Galaxies and what other plugins would have measured of them."""

    exposure: Any
    x: np.ndarray
    y: np.ndarray
    boxes: np.ndarray
    columns: dict[str, np.ndarray]

    def take(self, index: np.ndarray) -> _Scene:
        """Return some of the galaxies."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return _Scene(self.exposure, self.x[index], self.y[index], self.boxes[index], columns)


def _galaxy(
    x: np.ndarray, y: np.ndarray, q: list[float], centre: tuple[float, float], profile: tuple[str, int]
) -> np.ndarray:
    """Draw a galaxy of unit flux, convolved with the PSF, about a centroid."""
    _, offset = shapelet_moments(_PSF_T[:, :3], _PSF_T[:, 3:5], _PSF_T[:, 5:])
    mixture = radial_mixture(*profile)
    out = np.empty(x.size, dtype=np.float32)
    model_column(
        x.astype(np.float32).ravel(),
        y.astype(np.float32).ravel(),
        np.array(q),
        np.array(centre) - offset,
        _PSF_T,
        np.array([2, 1]),
        (mixture.amplitudes / FLUX_FACTOR).astype(np.float32),
        mixture.variances,
        out,
    )
    return out.reshape(x.shape)


def _columns(n: int) -> dict[str, np.ndarray]:
    """Columns the plugin reads, for n galaxies like that of spec 05 §8."""
    columns: dict[str, np.ndarray] = {}
    for c, size in enumerate((6, 3)):
        names = ["xx", "yy", "xy", "x", "y", *map(str, range(size))]
        for name, value in zip(names, _PSF_T[c], strict=False):
            columns[f"psf_{c}_{name}"] = np.full(n, value)
    for name, value in zip(("xx", "yy", "xy"), (5.2, 4.4, 0.9), strict=True):
        columns[f"moments_{name}"] = np.full(n, value)
    columns["moments_flag"] = np.zeros(n, dtype=bool)
    columns["point_instFlux"] = np.full(n, 4000.0)
    columns["point_flag"] = np.zeros(n, dtype=bool)
    columns["ext_photometryKron_KronFlux_radius"] = np.full(n, 5.0)
    return columns


def _scene(
    make_exposure: Callable[..., Any],
    n: int = 1,
    *,
    origin: tuple[int, int] = (970, 480),
    noise: float = 0.0,
    profile: tuple[str, int] = ("lux", 6),
    columns: dict[str, np.ndarray] | None = None,
) -> _Scene:
    """Put galaxies of 5000 counts in a row of squares of 61 pixels."""
    height, width = 61, 61 * n
    rows, cols = np.mgrid[origin[1] : origin[1] + height, origin[0] : origin[0] + width]
    image = np.zeros((height, width), dtype=np.float32)
    xs = origin[0] + 30.25 + 61 * np.arange(n) + 0.13 * np.arange(n)
    ys = np.full(n, origin[1] + 30.5)
    for k in range(n):
        part = slice(61 * k, 61 * (k + 1))
        centre = float(xs[k]), float(ys[k])
        image[:, part] = 5000.0 * _galaxy(cols[:, part], rows[:, part], [3.0, 2.0, 0.6], centre, profile)
    image += np.random.default_rng(7).normal(0, 1, image.shape) * noise
    exposure = make_exposure(image, variance=np.full(image.shape, 100.0), origin=origin)
    exposure.sky_projection = _Plane(float(xs[0]), float(ys[0]))
    exposure.photometric_scaling = lambda *, x, y: np.ones(np.shape(x))
    x0, y0 = np.floor(xs).astype(int) - 15, np.floor(ys).astype(int) - 15
    boxes = np.stack([x0, y0, x0 + 29, y0 + 29], axis=1)
    return _Scene(exposure, xs, ys, boxes, _columns(n) | (columns or {}))


def _configure(config: Any) -> None:
    config.plugins[_NAME].psfName = "psf"


_ALIASES = {"slot_Shape": "moments", "slot_PsfFlux": "point"}


def _measure(run_plugins: Callable[..., Any], scene: _Scene, **kwargs: Any) -> SourceCatalog:
    options = {"configure": _configure, "aliases": _ALIASES, "psf": object(), **kwargs}
    return run_plugins(
        [_NAME], scene.exposure, scene.x, scene.y, scene.boxes, columns=scene.columns, **options
    )


def test_galaxy_of_the_specification(
    make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]
) -> None:
    """A noiseless galaxy gives what upstream gives, to float32 noise."""
    catalog = _measure(run_plugins, _scene(make_exposure))
    region = [catalog[f"{_NAME}_region_initial_ellipse_{k}"][0] for k in ("xx", "yy", "xy")]
    np.testing.assert_allclose(region, [62.2622346, 52.6834293, 10.7761560], rtol=1e-8)
    expected = {
        "initial_instFlux": (4981.03370, 1e-4),
        "initial_instFluxErr": (72.96672, 1e-4),
        "initial_instFlux_inner": (4943.06779, 1e-4),
        "exp_instFlux": (5001.54398, 1e-5),
        "exp_instFlux_inner": (4752.24374, 1e-5),
        "exp_nonlinear_2": (-1.1523982, 1e-5),
        "dev_instFlux": (6286.74, 1e-3),
        "instFlux": (5001.52351, 1e-5),
        "instFluxErr": (73.32186, 1e-5),
        "instFlux_inner": (4752.24446, 1e-5),
    }
    for name, (value, tolerance) in expected.items():
        assert catalog[f"{_NAME}_{name}"][0] == pytest.approx(value, rel=tolerance), name
    region = [catalog[f"{_NAME}_region_final_ellipse_{k}"][0] for k in ("xx", "yy", "xy")]
    np.testing.assert_allclose(region, [36.88458, 28.51731, 6.53771], rtol=3e-4)
    assert catalog[f"{_NAME}_fracDev"][0] == 0.0
    flags = [n for n in catalog.schema.names if n.startswith(_NAME) and catalog[n].dtype == bool]
    raised = {name.removeprefix(f"{_NAME}_") for name in flags if catalog[name][0]}
    trust = {f"{stage}_flag_trSmall" for stage in _STAGES}
    assert raised - trust == {"flags_region_usedInitialEllipseMax"}


def test_start_of_the_specification(
    make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]
) -> None:
    """Without a step the fit stays where it started; objective as given."""

    def configure(config: Any) -> None:
        _configure(config)
        config.plugins[_NAME].initial.optimizer.gradientThreshold = 1e9

    catalog = _measure(run_plugins, _scene(make_exposure), configure=configure)
    start = [catalog[f"{_NAME}_initial_nonlinear_{k}"][0] for k in range(3)]
    np.testing.assert_allclose(start, [0.1918764404706, -0.2543848914523, -1.1405647722983], rtol=1e-9)
    # Evaluated in float32.
    assert catalog[f"{_NAME}_initial_objective"][0] == pytest.approx(93.314908911, rel=1e-5)
    assert catalog[f"{_NAME}_initial_nIter"][0] == 1
    assert not catalog[f"{_NAME}_initial_flag_trSmall"][0]


def test_steps_of_the_specification(
    make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]
) -> None:
    """The first two steps are those of float64, to float32 noise."""
    start = np.array([0.1918764404706, -0.2543848914523, -1.1405647722983])
    first = start + [0.000531826, 0.025800776, -0.004803579]
    second = [0.1949059146, -0.2363125886, -1.1444554922]
    for count, place, objective in ((1, first, 2.229354547), (2, second, 2.222080434)):

        def configure(config: Any, count: int = count) -> None:
            _configure(config)
            config.plugins[_NAME].initial.optimizer.maxOuterIterations = count

        catalog = _measure(run_plugins, _scene(make_exposure), configure=configure)
        reached = [catalog[f"{_NAME}_initial_nonlinear_{k}"][0] for k in range(3)]
        np.testing.assert_allclose(reached, place, atol=5e-5)
        assert catalog[f"{_NAME}_initial_objective"][0] == pytest.approx(objective, rel=1e-4)
        assert catalog[f"{_NAME}_initial_nIter"][0] == count + 1
        assert catalog[f"{_NAME}_initial_flag_maxIter"][0]


def test_de_vaucouleurs_galaxy(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """A galaxy like the other profile is attributed to it."""
    catalog = _measure(run_plugins, _scene(make_exposure, profile=("luv", 8)))
    # Both fits see only the region, and dev stops early (spec 05 §8).
    assert catalog[f"{_NAME}_fracDev"][0] > 0.9
    assert catalog[f"{_NAME}_instFlux"][0] == pytest.approx(5000.0, rel=0.03)
    assert not catalog[f"{_NAME}_flag"][0]


def _raised(catalog: SourceCatalog, row: int) -> set[str]:
    """Names of a row's flags that are set, without those of stars."""
    names = [n for n in catalog.schema.names if n.startswith(_NAME) and catalog[n].dtype == bool]
    raised = {name.removeprefix(f"{_NAME}_") for name in names if catalog[name][row]}
    usual = {f"{stage}_flag_trSmall" for stage in _STAGES}
    return raised - usual - {"flags_region_usedInitialEllipseMax"}


_FAILED = {"flag", "initial_flag", "exp_flag", "dev_flag"}
_NUMERIC = {f"{stage}_flag_numericError" for stage in _STAGES}


def _nan_pixel(scene: _Scene, part: Any) -> None:
    scene.exposure.image.array[30, part][30] = np.nan


def _zero_variance(scene: _Scene, part: Any) -> None:
    scene.exposure.variance.array[30, part][30] = 0.0


def _all_masked(scene: _Scene, part: Any) -> None:
    scene.exposure.mask.array[:, part] = 2


def _few_masked(scene: _Scene, part: Any) -> None:
    scene.exposure.mask.array[30, part][29:31] = 2


def _cosmic_ray(scene: _Scene, part: Any) -> None:
    scene.exposure.mask.array[:, part] = 8


def _flagged_flux(scene: _Scene, part: Any) -> None:
    scene.columns["point_flag"][1] = True


def _negative_flux(scene: _Scene, part: Any) -> None:
    scene.columns["point_instFlux"][1] = -4000.0


def _empty_image(scene: _Scene, part: Any) -> None:
    scene.columns["point_instFlux"][1] = np.nan
    scene.exposure.image.array[:, part] = 0.0


def _flagged_shape(scene: _Scene, part: Any) -> None:
    scene.columns["moments_flag"][1] = True


def _nan_shape(scene: _Scene, part: Any) -> None:
    scene.columns["moments_xx"][1] = np.nan


def _no_psf(scene: _Scene, part: Any) -> None:
    scene.columns["psf_1_2"][1] = np.nan


def _singular_psf(scene: _Scene, part: Any) -> None:
    scene.columns["psf_0_xy"][1] = 5.0


def _no_centroid(scene: _Scene, part: Any) -> None:
    scene.x[1] = np.nan


def _outside(scene: _Scene, part: Any) -> None:
    scene.y[1] += 1000.0


@pytest.mark.parametrize(
    ("damage", "flags"),
    [
        (_nan_pixel, {*_FAILED, "initial_flag_numericError"}),
        (_zero_variance, {*_FAILED, "initial_flag_numericError"}),
        (_all_masked, {*_FAILED, "flag_region_maxBadPixelFraction"}),
        (_few_masked, set()),
        (_cosmic_ray, set()),
        (_flagged_flux, set()),
        (_negative_flux, set()),
        (_empty_image, _FAILED | _NUMERIC),
        (_flagged_shape, {"flag_noShape"}),
        (_nan_shape, _FAILED),
        (_no_psf, {*_FAILED, "flag_noShapeletPsf"}),
        (_singular_psf, {*_FAILED, "flag_noShapeletPsf"}),
        (_no_centroid, _FAILED),
        (_outside, {*_FAILED, "flag_region_maxBadPixelFraction"}),
    ],
)
def test_bad_input(
    make_exposure: Callable[..., Any],
    run_plugins: Callable[..., Any],
    damage: Callable[[_Scene, Any], None],
    flags: set[str],
) -> None:
    """Each failure raises its flags, and touches no other star."""
    scene = _scene(make_exposure, 3)
    clean = _measure(run_plugins, scene)
    damage(scene, slice(61, 122))
    catalog = _measure(run_plugins, scene)
    assert _raised(catalog, 1) == flags
    assert np.isnan(catalog[f"{_NAME}_instFlux"][1]) == ("flag" in flags)
    if "flag" in flags:
        assert np.isnan(catalog[f"{_NAME}_exp_instFlux"][1])
        assert np.isnan(catalog[f"{_NAME}_exp_fixed_0"][1])
        assert catalog[f"{_NAME}_exp_nIter"][1] == 0
        # Quirk: so has the stack where no final region was chosen.
        region = [catalog[f"{_NAME}_region_final_ellipse_{k}"][1] for k in ("xx", "yy", "xy")]
        assert region == [1.0, 1.0, 0.0]
    else:
        # The unit of flux and masked pixels matter little to good data.
        assert catalog[f"{_NAME}_instFlux"][1] == pytest.approx(5000, rel=5e-3)
    for name in catalog.schema.names:
        if name.startswith(_NAME) and not name.endswith("_time"):
            np.testing.assert_array_equal(catalog[name][[0, 2]], clean[name][[0, 2]], err_msg=name)


def test_edge(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """A region that leaves the image is rejected."""
    scene = _scene(make_exposure)
    shifted = scene._replace(y=scene.y - 27.0)
    assert _raised(_measure(run_plugins, shifted), 0) == {*_FAILED, "flag_region_maxBadPixelFraction"}


def test_huge_region(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """A region above maxArea is flagged; nothing but the image is cut out."""
    scene = _scene(make_exposure)
    scene.columns["ext_photometryKron_KronFlux_radius"][:] = 1e9
    raised = _raised(_measure(run_plugins, scene), 0)
    assert raised == {*_FAILED, "flag_region_maxArea", "flag_region_maxBadPixelFraction"}


def test_negative_galaxy(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """A hole in the sky has no model: amplitudes cannot be negative."""
    scene = _scene(make_exposure)
    scene.exposure.image.array[:] *= -1
    catalog = _measure(run_plugins, scene)
    # The linear amplitude of the first stage may be negative; the prior is
    # zero there, and the other stages cannot even start.
    assert catalog[f"{_NAME}_initial_instFlux"][0] < 0
    failed = {f"{stage}_{flag}" for stage in ("exp", "dev") for flag in ("flag", "flag_numericError")}
    assert _raised(catalog, 0) == failed | {"flag"}


def test_iteration_limit(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """A fit that takes too long fails, and with it the combination."""

    def configure(config: Any) -> None:
        _configure(config)
        config.plugins[_NAME].dev.optimizer.maxOuterIterations = 1

    catalog = _measure(run_plugins, _scene(make_exposure), configure=configure)
    assert _raised(catalog, 0) == {"flag", "dev_flag", "dev_flag_maxIter"}
    assert np.isfinite(catalog[f"{_NAME}_dev_instFlux"][0])
    assert np.isnan(catalog[f"{_NAME}_instFlux"][0])


def test_missing_slots(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """Without shape and PSF flux it starts from the PSF and the pixels."""
    scene = _scene(make_exposure)
    catalog = _measure(run_plugins, scene, aliases={})
    assert _raised(catalog, 0) == {"flag_noShape"}
    assert catalog[f"{_NAME}_instFlux"][0] == pytest.approx(5000, rel=5e-3)

    def configure(config: Any) -> None:
        _configure(config)
        config.plugins[_NAME].fallbackInitialMomentsPsfFactor = 0.0

    catalog = _measure(run_plugins, scene, aliases={}, configure=configure)
    assert _raised(catalog, 0) == {*_FAILED, "flag_noShape"}


def _no_wcs(exposure: Any) -> None:
    exposure.sky_projection = None


def _no_calibration(exposure: Any) -> None:
    exposure.photometric_scaling = None


def _zero_calibration(exposure: Any) -> None:
    exposure.photometric_scaling = lambda *, x, y: np.zeros(np.shape(x))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_wcs, "needs a WCS"),
        (_no_calibration, "needs a photometric calibration"),
        (_zero_calibration, "calibration is 0"),
    ],
)
def test_fatal_exposures(
    make_exposure: Callable[..., Any],
    run_plugins: Callable[..., Any],
    damage: Callable[[Any], None],
    message: str,
) -> None:
    """What no star can do without is an exception."""
    scene = _scene(make_exposure)
    damage(scene.exposure)
    with pytest.raises(MeasurementFatalError, match=message):
        _measure(run_plugins, scene)


def test_fatal_options(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """Options that don't fit the data are named."""
    scene = _scene(make_exposure)
    with pytest.raises(MeasurementFatalError, match="needs a PSF"):
        _measure(run_plugins, scene, psf=None)
    with pytest.raises(MeasurementFatalError, match="option psfName"):
        _measure(run_plugins, scene, configure=None)

    def configure(config: Any) -> None:
        _configure(config)
        config.plugins[_NAME].region.badMaskPlanes = ["NO_SUCH_PLANE"]

    with pytest.raises(MeasurementFatalError, match="NO_SUCH_PLANE"):
        _measure(run_plugins, scene, configure=configure)


def test_independence_of_the_batch(
    make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]
) -> None:
    """Alone, in another order or together: the numbers are the same."""
    scene = _scene(make_exposure, 4, noise=10.0)
    together = _measure(run_plugins, scene)
    order = np.array([2, 0, 3, 1])
    permuted = _measure(run_plugins, scene.take(order))
    halves = [_measure(run_plugins, scene.take(np.arange(k, k + 2))) for k in (0, 2)]
    for name in together.schema.names:
        if name.startswith(_NAME) and not name.endswith("_time"):
            np.testing.assert_array_equal(permuted[name], together[name][order], err_msg=name)
            joined = np.concatenate([half[name] for half in halves])
            np.testing.assert_array_equal(joined, together[name], err_msg=name)


def test_origin(make_exposure: Callable[..., Any], run_plugins: Callable[..., Any]) -> None:
    """Another XY0 changes results by no more than float32 noise."""
    near = _measure(run_plugins, _scene(make_exposure, 4, origin=(0, 0)))
    far = _measure(run_plugins, _scene(make_exposure, 4, origin=(970, -480)))
    # Coordinates lose three digits (spec 05 §6.8); dev is converged loosely.
    for name, tolerance in (("initial_instFlux", 2e-4), ("instFlux", 2e-4), ("dev_instFlux", 3e-3)):
        np.testing.assert_allclose(far[f"{_NAME}_{name}"], near[f"{_NAME}_{name}"], rtol=tolerance)
    for row in range(4):
        assert _raised(far, row) == _raised(near, row) == set()
