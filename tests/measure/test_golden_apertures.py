# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Circular and compensated apertures against the real stack's.

The finalized tables carry these fluxes over from the calibration's catalogue,
so it is this one that is measured again: same image, centroids and noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf

CIRCLE, TOPHAT = "base_CircularApertureFlux", "base_CompensatedTophatFlux"


def _measure(tiny: Path, label: str) -> tuple[SourceCatalog, SourceCatalog]:
    """Return our catalogue and the stack's."""
    calexp, src = (next((tiny / "export").glob(f"**/{kind}_*_{label}_*.fits")) for kind in ("calexp", "src"))
    expected, exposure = read_source_catalog(src), read_exposure(calexp)
    config = SingleFrameMeasurementConfig()
    config.plugins.names = [CIRCLE, TOPHAT]
    config.plugins[CIRCLE].radii = [6.0, 12.0, 17.0]
    slots = ("shape", "psfShape", "apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux")
    for slot in ("centroid", *slots):
        setattr(config.slots, slot, None)
    schema = Schema.source_minimal()
    for axis in "xy":
        schema.add_field(f"base_SdssCentroid_{axis}", "D")
    schema.add_flag("base_SdssCentroid_flag", "")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(expected))
    for name in ("id", "parent", *(f"base_SdssCentroid_{k}" for k in ("x", "y", "flag"))):
        catalog[name] = expected[name]
    seed = expected.metadata["NOISE_EXPOSURE_ID"]
    psf = as_batch_psf(exposure.psf)
    task.run(catalog, exposure, exposureId=seed, footprints=expected, psf=psf)
    return catalog, expected


@pytest.mark.parametrize("label", ["S00", "S01"])
def test_tiny(tiny: Path, label: str) -> None:
    """Agree in every value and flag, edges and blends included."""
    catalog, expected = _measure(tiny, label)
    own = [field for field in catalog.schema if field.name.startswith((CIRCLE, TOPHAT))]
    assert len(own) == 3 * 4 + 1 + 5
    for field in own:
        values, theirs = catalog[field.name], expected[field.name]
        their_field = expected.schema[field.name]
        assert (field.type, field.unit, field.doc) == (their_field.type, their_field.unit, their_field.doc)
        if f"{CIRCLE}_6_0_instFlux" in field.name:
            # Upstream sums the sinc products in float32.
            np.testing.assert_allclose(values, theirs, rtol=2e-6, err_msg=field.name)
        else:
            np.testing.assert_array_equal(values, theirs, err_msg=field.name)
    assert expected[f"{TOPHAT}_12_flag_bounds"].any()
    assert expected[f"{CIRCLE}_17_0_flag_apertureTruncated"].any()
    assert expected[f"{CIRCLE}_6_0_flag_sincCoeffsTruncated"].any()


def test_aliases(tiny: Path) -> None:
    """Declare the centroid's flag for the same plugins as the stack does."""
    catalog, expected = _measure(tiny, "S00")
    wanted = {k: v for k, v in expected.schema.aliases.items() if k.startswith((CIRCLE, TOPHAT))}
    aliases = catalog.schema.aliases.items()
    assert {k: v for k, v in aliases if k.startswith((CIRCLE, TOPHAT))} == wanted
