# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Base plugins that aren't in the default list against the real stack's.

The finalized tables carry their columns over from the calibration's
catalogue, so it is this one that is measured again: the same image, PSF and
noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf

PLUGINS = (
    "base_SdssCentroid",
    "base_PixelFlags",
    "base_PsfFlux",
    "base_GaussianFlux",
    "base_LocalBackground",
    "base_SdssShape",
    "base_Variance",
    "base_Blendedness",
    "base_ClassificationSizeExtendedness",
    "base_CircularApertureFlux",
    "base_CompensatedTophatFlux",
    "ext_shapeHSM_HsmSourceMoments",
    "ext_shapeHSM_HsmPsfMoments",
)
CIRCLE, TOPHAT = "base_CircularApertureFlux", "base_CompensatedTophatFlux"


@pytest.fixture(scope="module", params=["S00", "S01"])
def catalogs(request: pytest.FixtureRequest, tiny: Path) -> tuple[SourceCatalog, SourceCatalog]:
    """Return our catalogue and the stack's."""
    calexp, src = (
        next((tiny / "export").glob(f"**/{kind}_*_{request.param}_*.fits")) for kind in ("calexp", "src")
    )
    expected, exposure = read_source_catalog(src), read_exposure(calexp)
    config = SingleFrameMeasurementConfig()
    config.plugins.names = PLUGINS
    config.plugins[CIRCLE].radii = [6.0, 12.0, 17.0]
    config.slots.centroid = "base_SdssCentroid"
    config.slots.shape, config.slots.psfShape = PLUGINS[-2:]
    for slot in ("apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    schema = Schema.source_minimal()
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(expected))
    for name in ("id", "parent"):
        catalog[name] = expected[name]
    seed = expected.metadata["NOISE_EXPOSURE_ID"]
    psf = as_batch_psf(exposure.psf)
    task.run(catalog, exposure, exposureId=seed, footprints=expected, psf=psf)
    at = {axis: catalog[f"base_SdssCentroid_{axis}"] for axis in "xy"}
    # The calibration has corrected these.
    for name in ("base_PsfFlux", "base_GaussianFlux"):
        correction = np.asarray(exposure.aperture_corrections[f"{name}_instFlux"](**at))
        for end in ("instFlux", "instFluxErr"):
            catalog[f"{name}_{end}"] *= correction
    return catalog, expected


def _tolerance(name: str) -> float:
    if name.startswith("base_Blendedness"):
        return 3e-4  # single precision, and small differences
    if name.startswith(f"{CIRCLE}_6_0_instFlux"):
        return 2e-6  # upstream sums the sinc products in single precision
    return 1e-6


@pytest.mark.parametrize("plugin", PLUGINS)
def test_values(catalogs: tuple[SourceCatalog, SourceCatalog], plugin: str) -> None:
    """Agree in every value and flag, edges and blends included."""
    catalog, expected = catalogs
    own = [f for f in catalog.schema if f.name.startswith(f"{plugin}_") and f.name in expected.schema]
    assert own
    for field in own:
        values, theirs = catalog[field.name], expected[field.name]
        if values.dtype.kind != "f":
            np.testing.assert_array_equal(values, theirs, err_msg=field.name)
            continue
        np.testing.assert_allclose(values, theirs, rtol=_tolerance(field.name), err_msg=field.name)


def test_apertures_exactly(catalogs: tuple[SourceCatalog, SourceCatalog]) -> None:
    """Sum the very same pixels; meet all kinds of truncation."""
    catalog, expected = catalogs
    for prefix in (f"{CIRCLE}_12_0", f"{CIRCLE}_17_0", f"{TOPHAT}_12"):
        for end in ("instFlux", "instFluxErr"):
            name = f"{prefix}_{end}"
            np.testing.assert_array_equal(catalog[name], expected[name], err_msg=name)
    assert expected[f"{TOPHAT}_12_flag_bounds"].any()
    assert expected[f"{CIRCLE}_17_0_flag_apertureTruncated"].any()
    assert expected[f"{CIRCLE}_6_0_flag_sincCoeffsTruncated"].any()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_declarations(catalogs: tuple[SourceCatalog, SourceCatalog], plugin: str) -> None:
    """Declare the stack's fields and aliases, in its order."""
    catalog, expected = catalogs
    own = [f for f in catalog.schema if f.name.startswith(f"{plugin}_")]
    names = [f.name for f in own]
    theirs = [n for n in expected.schema.names if n.startswith(f"{plugin}_") and "apCorr" not in n]
    # The calibration doesn't keep all fields.
    assert [n for n in names if n in expected.schema.names] == theirs
    for field in own:
        if field.name in theirs:
            other = expected.schema[field.name]
            assert (field.type, field.unit, field.doc) == (other.type, other.unit, other.doc)
    aliases, wanted = (
        {k: v for k, v in c.schema.aliases.items() if k.startswith(f"{plugin}_")} for c in catalogs
    )
    assert aliases == wanted
