# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Re-fit the aperture corrections of the real stack from its own fluxes."""

from __future__ import annotations

from pathlib import Path

import astropy.io.fits
import numpy as np
import pyarrow.parquet as pq
import pytest

from lsst.images import Box, Interval
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.apcorr import (
    ApplyApCorrTask,
    MeasureApCorrConfig,
    MeasureApCorrTask,
    add_ap_corr_name,
)
from lsst.meas.finalize.catalogs import Schema, SourceCatalog

CONVOLVED = [f"ext_convolved_ConvolvedFlux_{i}_{r}" for i in range(4) for r in ("3_3", "4_5", "6_0", "kron")]
GAAP = [
    f"ext_gaap_GaapFlux_1_15x_{s}" for s in ("0_5", "0_7", "1_0", "1_5", "2_5", "3_0", "Optimal", "PsfFlux")
]
NAMES = sorted(
    [
        "base_GaussianFlux",
        "base_PsfFlux",
        "ext_photometryKron_KronFlux",
        "modelfit_CModel",
        "modelfit_CModel_dev",
        "modelfit_CModel_exp",
        "modelfit_CModel_initial",
        *CONVOLVED,
        *GAAP,
    ]
)


class Exposure:
    """Only what the measuring task looks at."""

    def __init__(self, bbox: Box) -> None:
        self.bbox = bbox


def read_ap_corr_map(path: Path) -> dict[str, ChebyshevField]:
    """Read the map of a one-row catalogue by hand (spec 02 §5)."""
    fields: dict[int, ChebyshevField] = {}
    with astropy.io.fits.open(path) as hdus:
        entries = {h.header.get("EXTNAME"): h.data for h in hdus[1:]}
        index = entries["ARCHIVE_INDEX"]
        for row in index[index["name"] == "ChebyshevBoundedField"]:
            table = hdus[2 + row["cat.archive"]].data[row["row0"]]
            box = Box(
                Interval(int(table["bbox_min_y"]), int(table["bbox_max_y"]) + 1),
                Interval(int(table["bbox_min_x"]), int(table["bbox_max_x"]) + 1),
            )
            coefficients = np.array(table["coefficients"], dtype=np.float64)
            fields[row["id"]] = ChebyshevField(box, coefficients.reshape(-1, table["order_x"] + 1))
        return {str(e["name"]): fields[e["field"]] for e in entries["ApCorrMap"]}


def load(directory: Path) -> tuple[SourceCatalog, dict[str, ChebyshevField], dict[str, np.ndarray]]:
    """Make an uncorrected catalogue, and return the map and the table."""
    table = pq.read_table(directory / "finalized_src_detector_table.parquet")
    expected = {name: table[name].to_numpy() for name in table.column_names if name != "psf_color_type"}
    ap_corr_map = read_ap_corr_map(directory / "finalized_psf_ap_corr_detector_catalog.fits")
    schema = Schema.source_minimal()
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    schema.set_alias("slot_CalibFlux", "base_NormalizedCompensatedTophatFlux")
    columns = {name: expected[name] for name in schema.names}
    for name in ("base_SdssCentroid_x", "base_SdssCentroid_y"):
        schema.add_field(name, "D")
        columns[name] = expected[name]
    x, y = expected["base_SdssCentroid_x"], expected["base_SdssCentroid_y"]
    for name in ["base_NormalizedCompensatedTophatFlux", *NAMES]:
        factor = 1.0
        if name + "_instFlux" in ap_corr_map and name in NAMES:
            factor = np.asarray(ap_corr_map[name + "_instFlux"](x=x, y=y))
        for suffix in ("_instFlux", "_instFluxErr"):
            schema.add_field(name + suffix, "D")
            columns[name + suffix] = expected[name + suffix] / factor
        schema.add_flag(name + "_flag")
        columns[name + "_flag"] = expected[name + "_flag"]
    return SourceCatalog(schema, columns), ap_corr_map, expected


def make_config() -> MeasureApCorrConfig:
    """Return the configuration of the finalising task."""
    config = MeasureApCorrConfig()
    config.sourceSelector["science"].doFlags = False
    config.sourceSelector["science"].doUnresolved = False
    config.allowFailure = [*CONVOLVED, *GAAP]
    return config


def directories() -> list[str]:
    """List the outputs to compare with."""
    variants = ("default", "color", "field", "lsstcam")
    return [f"{variant}/detector_{detector}" for variant in variants for detector in (0, 1)]


def check(directory: Path) -> None:
    """Compare map, flags and corrected fluxes with the stack's."""
    for name in NAMES:
        add_ap_corr_name(name)
    catalog, expected_map, expected = load(directory)
    task = MeasureApCorrTask(make_config(), schema=catalog.schema, namesToCorrect=NAMES)
    apply_task = ApplyApCorrTask(schema=catalog.schema)
    bbox = expected_map["base_PsfFlux_instFlux"].bounds.bbox
    ap_corr_map = task.run(exposure=Exposure(bbox), catalog=catalog).apCorrMap

    # The input's own entry is merged later, by the finalising task.
    assert set(ap_corr_map) == {k for k in expected_map if "CompensatedTophat" not in k}
    for key, field in ap_corr_map.items():
        truth = expected_map[key].coefficients
        assert field.coefficients.shape == truth.shape, key
        # Dividing and multiplying by the factor costs a few ulp.
        np.testing.assert_allclose(field.coefficients, truth, rtol=0, atol=2e-12, err_msg=key)
    for name in ["slot_CalibFlux", *NAMES]:
        column = f"apcorr_{name}_used"
        np.testing.assert_array_equal(catalog[column], expected[column], err_msg=column)

    apply_task.run(catalog=catalog, apCorrMap=ap_corr_map)
    for name in NAMES:
        for suffix in ("_instFlux", "_instFluxErr"):
            np.testing.assert_allclose(catalog[name + suffix], expected[name + suffix], rtol=1e-11)
        for suffix in ("_flag", "_flag_apCorr"):
            np.testing.assert_array_equal(
                catalog[name + suffix], expected[name + suffix], err_msg=name + suffix
            )


@pytest.mark.parametrize("directory", directories())
def test_tiny_map_is_the_stacks(tiny: Path, directory: str) -> None:
    """Reproduce every aperture correction of the small golden set."""
    check(tiny / "expected" / directory)


@pytest.mark.parametrize("detector", [0, 1, 2])
def test_visit_map_is_the_stacks(golden_visit: Path, detector: int) -> None:
    """Reproduce the aperture corrections of the large golden set."""
    check(golden_visit / f"expected/default/detector_{detector}")
