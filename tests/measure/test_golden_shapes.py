# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Plugins against what the real stack measured on the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure._task import SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf

_SLOTS = ("centroid", "shape", "psfShape", "apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux")
_HSM = [
    f"ext_shapeHSM_{name}"
    for name in (
        "HigherOrderMomentsPSF",
        "HigherOrderMomentsSource",
        "HsmPsfMoments",
        "HsmShapeRegauss",
        "HsmSourceMoments",
        "HsmSourceMomentsRound",
    )
]
_BASE = [
    "base_Blendedness",
    "base_CircularApertureFlux",
    "base_ClassificationSizeExtendedness",
    "base_CompensatedTophatFlux",
]


def _config(names: list[str]) -> Any:
    config = SingleFrameMeasurementTask.ConfigClass()
    config.plugins.names = names
    for slot in _SLOTS:
        setattr(config.slots, slot, None)
    return config


def _inputs(golden: Path, detector: int) -> tuple[Any, SourceCatalog]:
    inputs = golden / "export" / "golden" / "inputs"
    (calexp,) = inputs.glob(f"calexp/**/*S0{detector}*.fits")
    (src,) = inputs.glob(f"src/**/*S0{detector}*.fits")
    return read_exposure(calexp), read_source_catalog(src)


def _check_hsm(golden: Path, variant: str, detector: int) -> None:
    exposure, src = _inputs(golden, detector)
    expected = golden / "expected" / variant / f"detector_{detector}"
    psf = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits").psfs[0]
    table = pq.read_table(expected / "finalized_src_detector_table.parquet")
    config = _config(_HSM)
    config.slots.shape = "ext_shapeHSM_HsmSourceMoments"
    config.slots.psfShape = "ext_shapeHSM_HsmPsfMoments"
    schema = Schema.source_minimal()
    for axis in "xy":
        schema.add_field(f"base_SdssCentroid_{axis}", "D")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(table))
    for name in ("id", "parent", "base_SdssCentroid_x", "base_SdssCentroid_y"):
        catalog[name] = table[name].to_numpy()
    color = table["psf_color_value"].to_numpy().astype(np.float64)
    task.run(catalog, exposure, footprints=src, psf=as_batch_psf(psf), color=color)
    columns = [name for name in table.column_names if name.startswith(tuple(f"{n}_" for n in _HSM))]
    columns = [name for name in columns if "_flag_badCentroid" not in name]
    # Same columns in the same order; flags are identical.
    assert [name for name in schema.names if name.startswith("ext_")] == columns
    for name in columns:
        truth = table[name].to_numpy()
        if truth.dtype == bool:
            np.testing.assert_array_equal(catalog[name], truth, err_msg=name)
        else:
            # Rounding of float64 sums, in values that may be near zero.
            np.testing.assert_allclose(catalog[name], truth, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("variant", "detector"), [("default", 0), ("color", 1)])
def test_hsm_plugins(tiny: Path, variant: str, detector: int) -> None:
    """Reproduce all HSM columns, given the stack's final PSF."""
    _check_hsm(tiny, variant, detector)


def test_hsm_plugins_of_visit(golden_visit: Path) -> None:
    """Reproduce them among blends, saturated stars and bad columns."""
    _check_hsm(golden_visit, "default", 0)


class _GivenShapes:
    """PSF of which only the shapes are known."""

    def __init__(self, shapes: np.ndarray) -> None:
        self.shapes = shapes

    def compute_shapes(self, x: Any, y: Any, color: Any = None) -> np.ndarray:
        return self.shapes


def _run_initial(exposure: Any, src: SourceCatalog) -> SourceCatalog:
    """Repeat the measurements that made the input source catalogue."""
    names = [*_BASE, "ext_shapeHSM_HsmSourceMoments"]
    config = _config(names)
    config.plugins["base_CircularApertureFlux"].radii = [6.0, 12.0, 17.0]
    schema = Schema.source_minimal()
    for field in src.schema:
        if field.name not in schema and not field.name.startswith(tuple(names)):
            schema.add_field(field.name, field.type, doc=field.doc, unit=field.unit, size=field.size)
    for slot in ("slot_Centroid", "slot_Shape", "slot_PsfShape"):
        schema.set_alias(slot, src.schema.aliases[slot])
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(src), footprints=src.footprints)
    for name in schema.names:
        if name in src.schema and not name.startswith(tuple(names)):
            catalog[name] = src[name]
    shapes = np.stack([src[f"base_SdssShape_psf_{k}"] for k in ("xx", "yy", "xy")], axis=-1)
    exposure_id = int(src.metadata["NOISE_EXPOSURE_ID"])
    task.run(catalog, exposure, exposureId=exposure_id, psf=_GivenShapes(shapes))
    return catalog


@pytest.mark.parametrize("detector", [0, 1])
def test_base_plugins(tiny: Path, detector: int) -> None:
    """Reproduce the columns of the input catalogue, blends included."""
    exposure, src = _inputs(tiny, detector)
    catalog = _run_initial(exposure, src)
    prefixes = (*_BASE, "ext_shapeHSM_HsmSourceMoments")
    truth_fields = [f for f in src.schema if f.name.startswith(prefixes)]
    fields = {f.name: f for f in catalog.schema}
    names = [f.name for f in truth_fields]
    assert [name for name in fields if name.startswith(prefixes)] == names
    for field in truth_fields:
        mine = fields[field.name]
        assert (mine.type, mine.unit, mine.doc) == (field.type, field.unit, field.doc)
        if field.type in ("Flag", "I"):
            np.testing.assert_array_equal(catalog[field.name], src[field.name], err_msg=field.name)
            continue
        # Upstream sums sinc apertures (~10³ pixels) and weighted moments in
        # float32; blendedness ratios and xy are differences of such sums.
        loose = field.name.startswith("base_Blendedness") or "_6_0_instFlux" in field.name
        rtol, atol = (2e-6, 1e-6) if loose else (1e-11, 1e-15)
        np.testing.assert_allclose(
            catalog[field.name], src[field.name], rtol=rtol, atol=atol, err_msg=field.name
        )
