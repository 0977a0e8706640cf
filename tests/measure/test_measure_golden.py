# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compare with what the real stack measured on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf

_INPUT_PLUGINS = [
    "base_PixelFlags",
    "base_SdssCentroid",
    "base_SdssShape",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_SkyCoord",
    "base_Variance",
    "base_LocalBackground",
    "ext_shapeHSM_HsmSourceMoments",
]


class _Golden(NamedTuple):
    exposure: Any
    src: SourceCatalog
    expected: dict[str, np.ndarray]
    psf: Any
    ap_corr: dict[str, Any]


def _load(tiny: Path, detector: int) -> _Golden:
    inputs, outputs = tiny / "export", tiny / "expected" / "default" / f"detector_{detector}"
    files = {kind: next(inputs.glob(f"**/{kind}_*_S0{detector}_*.fits")) for kind in ("calexp", "src")}
    result = read_exposure_catalog(outputs / "finalized_psf_ap_corr_detector_catalog.fits")
    table = pq.read_table(outputs / "finalized_src_detector_table.parquet")
    return _Golden(
        read_exposure(files["calexp"]),
        read_source_catalog(files["src"]),
        {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names},
        as_batch_psf(result.psfs[0]),
        result.ap_corr_maps[0],
    )


@pytest.fixture(scope="module", params=[0, 1])
def golden(request: pytest.FixtureRequest, tiny: Path) -> _Golden:
    """Return inputs and outputs of one detector."""
    return _load(tiny, request.param)


def _config(plugins: list[str]) -> SingleFrameMeasurementConfig:
    config = SingleFrameMeasurementConfig()
    config.plugins.names = plugins
    for slot in ("centroid", "psfShape", "apFlux", "modelFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    config.slots.shape = "ext_shapeHSM_HsmSourceMoments"
    return config


def test_final_fluxes(golden: _Golden) -> None:
    """Measure positions and fluxes among noise as the real stack did."""
    plugins = ["base_FPPosition", "base_PsfFlux", "base_GaussianFlux", "ext_shapeHSM_HsmSourceMoments"]
    schema = Schema.source_minimal()
    for axis in "xy":
        schema.add_field(f"base_SdssCentroid_{axis}", "D")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    task = SingleFrameMeasurementTask(schema, config=_config(plugins))
    expected = golden.expected
    catalog = SourceCatalog(schema, len(expected["id"]))
    for name in ("id", "parent", "base_SdssCentroid_x", "base_SdssCentroid_y"):
        catalog[name] = expected[name]
    before = golden.exposure.image.array.copy(), golden.exposure.mask.array.copy()
    task.run(catalog, golden.exposure, footprints=golden.src, psf=golden.psf)
    np.testing.assert_array_equal(golden.exposure.image.array, before[0])
    np.testing.assert_array_equal(golden.exposure.mask.array, before[1])
    at = {"x": expected["base_SdssCentroid_x"], "y": expected["base_SdssCentroid_y"]}
    for name in ("base_PsfFlux", "base_GaussianFlux"):
        correction = np.asarray(golden.ap_corr[f"{name}_instFlux"](**at))
        for suffix in ("instFlux", "instFluxErr"):
            # All arithmetic is double: differences are rounding.
            np.testing.assert_allclose(
                catalog[f"{name}_{suffix}"] * correction, expected[f"{name}_{suffix}"], rtol=1e-12
            )
    for name in ("base_FPPosition_x", "base_FPPosition_y"):
        np.testing.assert_allclose(catalog[name], expected[name], rtol=1e-13)
    for name in ("base_PsfFlux_area", "base_PsfFlux_chi2"):
        np.testing.assert_allclose(catalog[name], expected[name], rtol=1.2e-7)  # float32
    np.testing.assert_array_equal(catalog["base_PsfFlux_npixels"], expected["base_PsfFlux_npixels"])
    for field in schema:
        if field.type == "Flag":
            np.testing.assert_array_equal(catalog[field.name], expected[field.name], err_msg=field.name)


@pytest.fixture(scope="module")
def remeasured(golden: _Golden) -> SourceCatalog:
    """Repeat the measurement that made the input catalogue."""
    config = _config(_INPUT_PLUGINS)
    config.slots.centroid = "base_SdssCentroid"
    src = golden.src
    # The stack's catalogue has had the sky errors before it was measured.
    errors = (src.schema[f"coord_{name}"] for name in ("raErr", "decErr", "ra_dec_Cov"))
    schema = Schema((*Schema.source_minimal(), *errors))
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(src), footprints=src.footprints)
    catalog["id"], catalog["parent"] = src["id"], src["parent"]
    task.run(
        catalog,
        golden.exposure,
        exposureId=src.metadata["NOISE_EXPOSURE_ID"],
        psf=as_batch_psf(golden.exposure.psf),
    )
    return catalog


def test_input_flags(golden: _Golden, remeasured: SourceCatalog) -> None:
    """Set every flag as the real stack did."""
    n_set = 0
    for field in remeasured.schema:
        if field.type == "Flag" and field.name in golden.src.schema.names:
            np.testing.assert_array_equal(remeasured[field.name], golden.src[field.name], err_msg=field.name)
            n_set += np.count_nonzero(golden.src[field.name])
    assert n_set > 100


def test_input_schema(golden: _Golden, remeasured: SourceCatalog) -> None:
    """Declare fields with upstream's types, units, descriptions and order."""
    ours = [f for f in remeasured.schema if f.name in golden.src.schema.names]
    assert len(ours) > 90
    for field in ours:
        assert field == golden.src.schema[field.name]
    names = [f.name for f in ours]
    assert names == [n for n in golden.src.schema.names if n in set(names)]


# Centroids are sums of float32; what depends on them inherits 1e-9 pixels.
_TOLERANCES = {
    "base_SdssCentroid_x": 1e-9,
    "base_SdssCentroid_y": 1e-9,
    "base_SdssCentroid_xErr": 5e-7,
    "base_SdssCentroid_yErr": 5e-7,
    "coord_ra": 1e-12,
    "coord_dec": 1e-12,
    "coord_raErr": 5e-7,
    "coord_decErr": 5e-7,
    "base_SdssShape_x": 1e-9,
    "base_SdssShape_y": 1e-9,
    "base_SdssShape_xx": 1e-7,
    "base_SdssShape_yy": 1e-7,
    "base_SdssShape_xy": 1e-5,
    "base_SdssShape_xxErr": 5e-7,
    "base_SdssShape_yyErr": 5e-7,
    "base_SdssShape_xyErr": 5e-7,
    "base_SdssShape_instFlux": 1e-7,
    "base_SdssShape_instFluxErr": 5e-7,
    "base_SdssShape_psf_xx": 1e-9,
    "base_SdssShape_psf_yy": 1e-9,
    "base_SdssShape_psf_xy": 1e-7,
    "base_SdssShape_instFlux_xx_Cov": 1e-6,
    "base_SdssShape_instFlux_yy_Cov": 1e-6,
    "base_SdssShape_instFlux_xy_Cov": 1e-5,
    "base_LocalBackground_instFlux": 1e-9,
    "base_LocalBackground_instFluxErr": 1e-9,
    "base_PsfFlux_area": 1e-6,
    "base_PsfFlux_chi2": 1e-5,
    "base_Variance_value": 1e-12,
}


@pytest.mark.parametrize("name", list(_TOLERANCES))
def test_input_columns(golden: _Golden, remeasured: SourceCatalog, name: str) -> None:
    """Measure what the real stack measured, NaN where it has NaN."""
    np.testing.assert_allclose(remeasured[name], golden.src[name], rtol=_TOLERANCES[name])


@pytest.mark.parametrize("name", ["base_PsfFlux", "base_GaussianFlux"])
def test_input_fluxes(golden: _Golden, remeasured: SourceCatalog, name: str) -> None:
    """Measure the fluxes the real stack measured and corrected."""
    at = {axis: golden.src[f"base_SdssCentroid_{axis}"] for axis in "xy"}
    correction = np.asarray(golden.exposure.aperture_corrections[f"{name}_instFlux"](**at))
    for suffix in ("instFlux", "instFluxErr"):
        np.testing.assert_allclose(
            remeasured[f"{name}_{suffix}"] * correction, golden.src[f"{name}_{suffix}"], rtol=1e-7
        )
