# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""GAaP photometry against what the real stack measured."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure._task import SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.tasks import FinalizeCharacterizationDetectorConfig

P = "ext_gaap_GaapFlux"
_PLUGINS = ["ext_shapeHSM_HsmPsfMoments", "ext_shapeHSM_HsmSourceMoments", P]


def _measure(golden: Path, table: Any, psf: Any, detector: int) -> SourceCatalog:
    """Measure the stack's stars with its final PSF."""
    inputs = golden / "export" / "golden" / "inputs"
    (calexp,) = inputs.glob(f"calexp/**/*S0{detector}*.fits")
    (src,) = inputs.glob(f"src/**/*S0{detector}*.fits")
    config = FinalizeCharacterizationDetectorConfig().measurement
    config.plugins.names = _PLUGINS
    for slot in ("modelFlux", "psfFlux", "gaussianFlux"):
        setattr(config.slots, slot, None)
    schema = Schema.source_minimal()
    for axis in "xy":
        schema.add_field(f"base_SdssCentroid_{axis}", "D")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    task = SingleFrameMeasurementTask(schema, config=config.value)
    catalog = SourceCatalog(schema, len(table))
    for name in ("id", "parent", "base_SdssCentroid_x", "base_SdssCentroid_y"):
        catalog[name] = np.asarray(table[name])
    color = np.asarray(table["psf_color_value"], dtype=np.float64)
    footprints = read_source_catalog(src)
    task.run(catalog, read_exposure(calexp), footprints=footprints, psf=as_batch_psf(psf), color=color)
    return catalog


def _check(golden: Path, variant: str, detector: int) -> None:
    expected = golden / "expected" / variant / f"detector_{detector}"
    (record,) = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits")
    table = arrow_to_astropy(pq.read_table(expected / "finalized_src_detector_table.parquet"))
    catalog = _measure(golden, table, record.psf, detector)
    names = [n for n in table.colnames if n.startswith(P) and not re.search("_(apCorr|apCorrErr)$", n)]
    assert [name for name in catalog.schema.names if name.startswith(P)] == names
    x, y = catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"]
    for name in names:
        assert catalog.schema[name].doc == table[name].description
        truth, mine = np.asarray(table[name]), catalog[name]
        if truth.dtype == bool:
            np.testing.assert_array_equal(mine, truth, err_msg=name)
            continue
        if "instFlux" in name:
            # The table has been corrected for the aperture.
            mine = mine * record.ap_corr_map[name.removesuffix("Err")](x=x, y=y)
        # Upstream transforms stamps in single precision.
        np.testing.assert_allclose(mine, truth, rtol=3e-7, err_msg=name)


@pytest.mark.parametrize(("variant", "detector"), [("default", 0), ("color", 1)])
def test_gaap(tiny: Path, variant: str, detector: int) -> None:
    """Reproduce all columns, also of a star with NaN in its stamp."""
    _check(tiny, variant, detector)


def test_gaap_of_visit(golden_visit: Path) -> None:
    """Reproduce them among blends, saturated stars and bad columns."""
    _check(golden_visit, "default", 0)


def test_options(tiny: Path) -> None:
    """Have upstream's options with its values, in both places."""
    config = FinalizeCharacterizationDetectorConfig()
    golden = (tiny / "expected" / "default" / "config.py").read_text()
    dump = io.StringIO()
    config.saveToStream(dump)
    pattern = re.compile(rf"^config\.measurement\.(?:plugins|undeblended)\['{P}'\]\..+?=.+$", re.M)
    mine, truth = (pattern.findall(text) for text in (dump.getvalue(), golden))
    own = re.compile(r".*\.(doConvolveAsFitted|doAverageSubpixels)=False")
    assert [line for line in mine if not own.fullmatch(line)] == truth
    assert len(truth) == 146
    assert [n for n in config.measure_ap_corr.allowFailure if n.startswith(P)] == [
        f"{P}_1_15x_{k}" for k in ("0_5", "0_7", "1_0", "1_5", "2_5", "3_0", "PsfFlux", "Optimal")
    ]
