# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Kron and convolved photometry against the real stack's."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.tasks import FinalizeCharacterizationDetectorConfig

KRON, CONVOLVED = "ext_photometryKron_KronFlux", "ext_convolved_ConvolvedFlux"
MODELFIT = ("modelfit_DoubleShapeletPsfApprox", "modelfit_CModel")


def _config() -> SingleFrameMeasurementConfig:
    config = SingleFrameMeasurementConfig()
    config.plugins.names = [KRON, CONVOLVED, "ext_shapeHSM_HsmSourceMoments"]
    config.plugins[CONVOLVED].seeing = [3.5, 5.0, 6.5, 8.0]
    for slot in ("centroid", "psfShape", "apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    config.slots.shape = "ext_shapeHSM_HsmSourceMoments"
    return config


def _compare(golden: Path, detector: int) -> None:
    """Measure the stars of one detector and compare everything."""
    inputs, outputs = golden / "export", golden / "expected" / "default" / f"detector_{detector}"
    label = ("S00", "S01", "S10")[detector]
    files = {kind: next(inputs.glob(f"**/{kind}_*_{label}_*.fits")) for kind in ("calexp", "src")}
    result = read_exposure_catalog(outputs / "finalized_psf_ap_corr_detector_catalog.fits")
    psf, ap_corr = result.psfs[0], result.ap_corr_maps[0]
    assert psf is not None
    assert ap_corr is not None
    table = pq.read_table(outputs / "finalized_src_detector_table.parquet")
    expected: dict[str, Any] = {n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names}
    schema = Schema.source_minimal()
    for axis in "xy":
        schema.add_field(f"base_SdssCentroid_{axis}", "D")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    task = SingleFrameMeasurementTask(schema, config=_config())
    catalog = SourceCatalog(schema, len(table))
    for name in ("id", "parent", "base_SdssCentroid_x", "base_SdssCentroid_y"):
        catalog[name] = expected[name]
    task.run(
        catalog,
        read_exposure(files["calexp"]),
        footprints=read_source_catalog(files["src"]),
        psf=as_batch_psf(psf),
    )
    at = {axis: catalog[f"base_SdssCentroid_{axis}"] for axis in "xy"}
    compared = 0
    for field in schema:
        if not field.name.startswith((KRON, CONVOLVED)):
            continue
        compared += 1
        values, theirs = catalog[field.name], expected[field.name]
        if field.type == "Flag":
            np.testing.assert_array_equal(values, theirs, err_msg=field.name)
            continue
        tolerance = 2e-7  # float32
        if match := re.fullmatch(r"(\w+_instFlux)(Err)?", field.name):
            # The errors are scaled with the fluxes.
            values = values * np.asarray(ap_corr[match[1]](**at))
            # Upstream sums a thousand pixels in float32.
            tolerance = 5e-6
        np.testing.assert_allclose(values, theirs, rtol=tolerance, err_msg=field.name)
    assert compared == 5 + 10 + 2 + 4 * (1 + 3 * 5 + 3)


@pytest.mark.parametrize("detector", [0, 1])
def test_tiny(tiny: Path, detector: int) -> None:
    """Agree in every value and flag, NaN where the stack has NaN."""
    _compare(tiny, detector)


@pytest.mark.parametrize("detector", [0, 1, 2])
def test_visit(golden_visit: Path, detector: int) -> None:
    """Agree also where sources are blended, and beside bad pixels."""
    _compare(golden_visit, detector)


def test_metadata(tiny: Path) -> None:
    """Declare the fields with the types, units and descriptions of the
    stack's table, and in its order.
    """
    path = tiny / "expected" / "default" / "detector_0" / "finalized_src_detector_table.parquet"
    text = pq.read_schema(path).metadata[b"table_meta_yaml"].decode()
    schema = Schema.source_minimal()
    schema.add_field("c_x", "D")
    schema.set_alias("slot_Centroid", "c")
    config = _config()
    config.plugins.names |= MODELFIT
    SingleFrameMeasurementTask(schema, config=config)
    docs = _descriptions(text)
    own = [f for f in schema if f.name.startswith((KRON, CONVOLVED, *MODELFIT))]
    assert len(own) == 199
    units = {"pixel": "pix", "pixel^2": "pix2", "count": "ct", "second": "s", "": None}
    for field in own:
        unit, doc = docs[field.name]
        assert field.doc == doc, field.name
        assert units[field.unit] == unit, field.name
    order = [name for name in docs if name in {f.name for f in own}]
    assert order == [f.name for f in own]


def _descriptions(text: str) -> dict[str, tuple[str | None, str]]:
    """Return units and descriptions by name from a table's metadata."""

    class Loader(yaml.SafeLoader):
        """Loader that takes astropy's tagged values as they are."""

    def construct(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_scalar(node)

    Loader.add_multi_constructor("!", construct)
    columns = yaml.load(text, Loader)["datatype"]
    return {
        c["name"]: (
            (c["unit"] or {}).get("unit") if isinstance(c.get("unit"), dict) else c.get("unit"),
            c["description"],
        )
        for c in columns
    }


@pytest.mark.parametrize("tree", ["plugins", "undeblended"])
def test_config_tree(tiny: Path, tree: str) -> None:
    """Have upstream's options, with the task's defaults."""
    pattern = re.compile(rf"config\.measurement\.{tree}\['({'|'.join((KRON, CONVOLVED, *MODELFIT))})'\]\..*")
    text = (tiny / "expected" / "default" / "config.py").read_text()
    expected = {line for line in text.splitlines() if pattern.fullmatch(line)}
    stream = io.StringIO()
    config = FinalizeCharacterizationDetectorConfig()
    config.saveToStream(stream)
    ours = {line for line in stream.getvalue().splitlines() if pattern.fullmatch(line)}
    assert len(expected) > 180
    assert ours == expected


def test_allowed_failures(tiny: Path) -> None:
    """Let aperture corrections of convolved fluxes fail, as upstream."""
    text = (tiny / "expected" / "default" / "config.py").read_text()
    (line,) = re.findall(r"config\.measure_ap_corr\.allowFailure=(.*)", text)
    expected = [name for name in ast.literal_eval(line) if name.startswith(CONVOLVED)]
    allowed = FinalizeCharacterizationDetectorConfig().measure_ap_corr.allowFailure
    assert [name for name in allowed if name.startswith(CONVOLVED)] == expected
