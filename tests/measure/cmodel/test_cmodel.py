# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Pieces of CModel photometry, and the stack's stars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.apcorr import get_ap_corr_names
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure import (
    CModelConfig,
    SingleFrameMeasurementTask,
)
from lsst.meas.finalize.measure.cmodel._prior import pack_prior
from lsst.meas.finalize.measure.cmodel._prior_numba import log_prior_derivatives, prior_probability
from lsst.meas.finalize.measure.cmodel._region import final_regions, initial_regions, starting_moments
from lsst.meas.finalize.psf import as_batch_psf

_NAME = "modelfit_CModel"
_SHAPELET = "modelfit_DoubleShapeletPsfApprox"
_STAGES = ("initial", "exp", "dev")


def test_prior() -> None:
    """Densities and derivatives of the specification."""
    kind, prior = pack_prior(CModelConfig().exp)
    # Upstream's norm is known to 1e-7 only.
    norm = 1 + 2.51e-5
    x = np.array([0.0, 0.0, -3.0, 1.0])
    assert prior_probability(kind, prior, x) * norm == pytest.approx(0.3165820870908195, rel=2e-7)
    g, h = np.empty(4), np.empty((4, 4))
    log_prior_derivatives(kind, prior, x, g, h)
    assert np.all(g == 0)
    assert np.all(h == 0)
    # Within the core, where curvature is largest.
    x = np.array([0.0005, 0.0, -3.0, 1.0])
    p = prior_probability(kind, prior, x) * norm
    assert p == pytest.approx(0.316457553436079, rel=2e-7)
    log_prior_derivatives(kind, prior, x, g, h)
    hessian = -p * (h - np.outer(g, g))
    np.testing.assert_allclose(-p * g[:3], [-0.47174706765, 0.0, 0.0], rtol=2e-7)
    np.testing.assert_allclose(np.diag(hessian)[:2], [-754.0920692338, -943.4941353018], rtol=2e-7)
    x = np.array([0.2, -0.1, -0.5, 1.0])
    p = prior_probability(kind, prior, x) * norm
    assert p == pytest.approx(0.08092885209623954, rel=2e-7)
    log_prior_derivatives(kind, prior, x, g, h)
    np.testing.assert_allclose(
        -p * g[:3], [-0.24128080670829, 0.12064040335414, -0.19890946780281], rtol=2e-7
    )
    lower = (-p * (h - np.outer(g, g)))[np.tril_indices(3)]
    expected = [
        0.47805307783827,
        -0.84222855593985,
        -0.78528975557151,
        0.59302752492157,
        # Quirk: the derivative with respect to the other component.
        0.59302752492157,
        0.11023898215577,
    ]
    np.testing.assert_allclose(lower, expected, rtol=3e-7)
    assert prior_probability(kind, prior, np.array([0.0, 0.0, -3.0, -1e-9])) == 0.0
    assert prior_probability(kind, prior, np.array([0.0, 0.0, -6.01, 1.0])) == 0.0


@pytest.mark.parametrize("source", ["EMPIRICAL", "LINEAR"])
def test_prior_is_normalised(source: str) -> None:
    """Densities integrate to one; gradients are finite differences."""
    stage = CModelConfig().exp
    stage.priorSource = source
    stage.linearPriorConfig.logRadiusMinMaxRatio = 0.3
    kind, prior = pack_prior(stage)

    def density(eta: float, lam: float) -> float:
        return prior_probability(kind, prior, np.array([eta, 0.0, lam, 1.0]))

    edges = (0.0, 0.05, 2.0, 2.001, 8.0)
    counts = (2001, 2000, 41, 4001)
    eta = np.concatenate([np.linspace(edges[k], edges[k + 1], n) for k, n in enumerate(counts)])
    lam = np.concatenate(
        [np.linspace(-6.001, -6, 41), np.linspace(-6, 2.9999, 2000), np.linspace(3, 3.001, 41)]
    )
    in_eta = 2 * np.pi * np.trapezoid([e * density(e, -2.0) for e in eta], eta)
    in_lam = np.trapezoid([density(0.1, t) for t in lam], lam) / density(0.1, -2.0)
    # Upstream's ramp is off by 2.5e-5; trapezoidal rule.
    assert in_eta * in_lam == pytest.approx(1.0, abs=2e-4)
    g, h = np.empty(4), np.empty((4, 4))
    for x in ([0.2, -0.1, -2.5, 1.0], [0.2, -0.1, -0.4, 1.0]):
        at = np.array(x)
        log_prior_derivatives(kind, prior, at, g, h)
        for k in range(3):
            step = np.zeros(4)
            step[k] = 1e-6
            ahead, behind = (prior_probability(kind, prior, at + s * step) for s in (1, -1))
            assert g[k] == pytest.approx(-(np.log(ahead) - np.log(behind)) / 2e-6, abs=1e-6)


def test_no_prior() -> None:
    """Without a prior everything is possible, negative amplitudes too."""
    stage = CModelConfig().exp
    stage.priorSource = "NONE"
    kind, prior = pack_prior(stage)
    assert prior_probability(kind, prior, np.array([5.0, 0.0, -60.0, -1.0])) == 1.0


def test_bad_prior() -> None:
    """Limits that make no sense are named."""
    stage = CModelConfig().exp
    stage.empiricalPriorConfig.logRadiusMinInner = -7.0
    with pytest.raises(ValueError, match="logRadiusMinInner"):
        pack_prior(stage)
    with pytest.raises(ValueError, match="FILE"):
        stage.priorSource = "FILE"


def test_regions() -> None:
    """Regions of the specification."""
    config = CModelConfig().region
    moments, psf = np.array([[3.5, 3.0, 0.2]] * 2), np.array([[4.0, 3.6, 0.3]] * 2)
    regions = initial_regions(moments, psf, np.array([2.7, 2.7]), np.array([700, 100]), config)
    np.testing.assert_allclose(
        regions.ellipse,
        [[235.60708265529604, 212.04637438976644, 17.670531199147202], [64.0, 57.6, 4.8]],
        rtol=1e-13,
    )
    np.testing.assert_array_equal(regions.used_footprint, [True, False])
    np.testing.assert_array_equal(regions.used_psf, [False, True])
    assert not regions.too_large.any()
    fitted = np.array([[0.012, 0.011, 0.001]])
    ellipse, used_min, used_max = final_regions(fitted, psf[:1], regions.ellipse[:1], config)
    np.testing.assert_allclose(ellipse, [[16.108, 14.499, 1.209]], atol=1e-12)
    assert used_max[0]
    assert not used_min[0]


def test_large_galaxies() -> None:
    """Kron radii count where they are larger than the PSF; limits."""
    config = CModelConfig().region
    psf = np.array([[4.0, 3.6, 0.0]] * 3)
    moments = np.array([[30.0, 20.0, 2.0], [30.0, 20.0, 2.0], [-1.0, 20.0, 0.0]])
    regions = initial_regions(moments, psf, np.array([10.0, 200.0, 10.0]), np.array([900] * 3), config)
    area = np.pi * np.sqrt(regions.ellipse[:, 0] * regions.ellipse[:, 1] - regions.ellipse[:, 2] ** 2)
    np.testing.assert_allclose(area, [np.pi * 15.0**2, np.pi * 300.0**2, 900.0])
    np.testing.assert_array_equal(regions.too_large, [False, True, False])
    np.testing.assert_array_equal(regions.used_footprint, [False, False, True])
    fitted = np.array([[300.0, 280.0, 5.0]])
    ellipse, used_min, _ = final_regions(fitted, psf[:1], regions.ellipse[:1], config)
    np.testing.assert_allclose(ellipse, fitted + 4 * psf[:1])
    assert used_min[0]


def test_start() -> None:
    """Moments below the PSF's give way to a small circle."""
    ellipse, small = starting_moments(
        np.array([[3.0, 3.0, 0.5], [3.0, 3.0, 0.005], [6.0, 5.0, 0.5]]),
        np.array([[4.0, 4.0, 0.0]] * 3),
        0.1,
        0.95473,
    )
    np.testing.assert_array_equal(small, [True, False, False])
    expected = np.array([[0.01, 0.01, 0.0], [0.01, 0.01, 0.005], [2.0, 1.0, 0.5]]) / 0.95473**2
    np.testing.assert_allclose(ellipse, expected)


def _stack_inputs(tiny: Path, detector: int) -> tuple[Any, SourceCatalog]:
    inputs = tiny / "export" / "golden" / "inputs"
    (calexp,) = inputs.glob(f"calexp/**/*S0{detector}*.fits")
    (src,) = inputs.glob(f"src/**/*S0{detector}*.fits")
    return read_exposure(calexp), read_source_catalog(src)


def _repeat_stack(tiny: Path, variant: str, detector: int) -> tuple[Any, SourceCatalog, Any]:
    """Measure with the stack's PSF, centroids, shapes and Kron radii."""
    exposure, src = _stack_inputs(tiny, detector)
    expected = tiny / "expected" / variant / f"detector_{detector}"
    record = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits")[0]
    table = pq.read_table(expected / "finalized_src_detector_table.parquet")
    config = SingleFrameMeasurementTask.ConfigClass()
    config.plugins.names = ["base_PsfFlux", _SHAPELET, _NAME]
    for slot in ("centroid", "shape", "psfShape", "apFlux", "modelFlux", "gaussianFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    schema = Schema.source_minimal()
    shape = "ext_shapeHSM_HsmSourceMoments"
    given = {f"base_SdssCentroid_{k}": "D" for k in "xy"} | {f"{shape}_{k}": "D" for k in ("xx", "yy", "xy")}
    given |= {f"{shape}_flag": "Flag", "ext_photometryKron_KronFlux_radius": "F"}
    for name, kind in given.items():
        schema.add_field(name, kind)
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    schema.set_alias("slot_Shape", shape)
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(table))
    for name in ("id", "parent", *given):
        catalog[name] = table[name].to_numpy()
    color = table["psf_color_value"].to_numpy().astype(np.float64)
    task.run(catalog, exposure, footprints=src, psf=as_batch_psf(record.psf), color=color)
    return table, catalog, record.ap_corr_map


@pytest.mark.parametrize(("variant", "detector"), [("default", 0), ("color", 1), ("lsstcam", 0)])
def test_stars_of_the_stack(tiny: Path, variant: str, detector: int) -> None:
    """Stars agree with the stack's as far as float32 noise lets them.

    The PSF of "lsstcam" has places without moments, where the fits fail.
    """
    table, catalog, ap_corr = _repeat_stack(tiny, variant, detector)
    columns = [name for name in table.column_names if name.startswith((_NAME, _SHAPELET))]
    columns = [name for name in columns if "apCorr" not in name and f"{_SHAPELET}_flag_badC" not in name]
    assert [name for name in catalog.schema.names if name.startswith("modelfit_")] == columns
    for name in columns:
        truth = table[name].to_numpy()
        assert catalog[name].dtype == truth.dtype, name
        if truth.dtype == bool:
            # Flags of these stars don't depend on where fits end.
            np.testing.assert_array_equal(catalog[name], truth, err_msg=name)
        elif name.startswith(_SHAPELET):
            # Higher orders are small differences.
            np.testing.assert_allclose(catalog[name], truth, rtol=1e-10, atol=1e-16, err_msg=name)
        elif "region_initial" in name:
            np.testing.assert_allclose(catalog[name], truth, rtol=1e-11, atol=1e-13, err_msg=name)
        elif "_fixed_" in name:
            # Derivatives of the WCS, AST's to 1e-7; arcsec.
            np.testing.assert_allclose(catalog[name], truth, rtol=1e-6, atol=1e-8, err_msg=name)
    x, y = catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"]
    for name in (_NAME, *(f"{_NAME}_{stage}" for stage in _STAGES)):
        correction = ap_corr[f"{name}_instFlux"](x=x, y=y)
        for suffix in ("instFlux", "instFluxErr"):
            ours, theirs = catalog[f"{name}_{suffix}"] * correction, table[f"{name}_{suffix}"].to_numpy()
            done = ~catalog[f"{name}_flag"]
            np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
            ratio = (ours / theirs)[done]
            # Demanded are 2e-4 and 3e-3 (spec 05 §9); 4e-7, 1e-4 were seen.
            assert abs(np.median(ratio) - 1) < 2e-5, name
            assert np.std(ratio) < 5e-4, name


def test_names() -> None:
    """All four fluxes are to be aperture-corrected."""
    assert {_NAME, *(f"{_NAME}_{stage}" for stage in _STAGES)} <= get_ap_corr_names()
