# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests that what the documentation shows works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from scipy.spatial import cKDTree

from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.psf import as_batch_psf
from lsst.pipe.base import Pipeline

DOC = Path(__file__).parents[2] / "doc/lsst.meas.finalize"
EXAMPLES = DOC / "examples"
PAGES = sorted(DOC.rglob("*.rst")) + [DOC.parents[1] / "README.rst"]

# Run where the plugin may be registered without other tests noticing.
MEASURE = """
import sys
import numpy as np
import box_flux
from measure_stars import measure_stars

catalog = measure_stars(*sys.argv[1:3], "ext_example_BoxFlux")
x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
# The image has 560 x 520 pixels.
near_edge = ~((x > 10.5) & (x < 548.5) & (y > 10.5) & (y < 508.5))
assert not np.any(near_edge & ~catalog["ext_example_BoxFlux_flag"])
star = catalog["base_PsfFlux_instFlux"] > 200 * catalog["base_PsfFlux_instFluxErr"]
star &= (catalog["parent"] == 0) & (catalog["deblend_nChild"] == 0)
star &= ~catalog["base_PixelFlags_flag_saturated"] & ~catalog["ext_example_BoxFlux_flag"]
assert star.sum() > 10
ratio = (
    catalog["ext_example_BoxFlux_instFlux"] / catalog["base_CircularApertureFlux_12_0_instFlux"]
)[star]
assert abs(np.median(ratio) - 1) < 0.005, ratio
assert np.abs(ratio - 1).max() < 0.02, ratio
error = catalog["ext_example_BoxFlux_instFluxErr"][star]
assert np.all((error > 0) & np.isfinite(error))
"""

CONFIGURE = """
import sys
from lsst.pipe.base import Pipeline

graph = Pipeline.from_uri(sys.argv[1]).to_graph()
task = graph.tasks["finalizeCharacterizationDetector"]
names = task.config.measurement.plugins.names
assert "ext_example_BoxFlux" in names and "base_PsfFlux" in names, names
"""


def run(code: str, *args: Path) -> None:
    """Run code in a new process that can import the examples."""
    path = os.pathsep.join([str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, *map(str, args)]
    result = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_plugin_example_measures_stars(tiny: Path) -> None:
    """Compare the example plugin with an aperture of about the same size.

    A box of 21 pixels and a circle of radius 12 both hold a star but for some
    permille; noise is below 0.5 % for these stars.
    """
    inputs = tiny / "export/golden/inputs"
    run(MEASURE, next(inputs.glob("calexp/**/*S01*.fits")), next(inputs.glob("src/**/*S01*.fits")))


def test_plugin_example_is_configured_by_a_pipeline() -> None:
    """Load the pipeline that adds the example plugin to the default ones."""
    run(CONFIGURE, EXAMPLES / "BoxFlux.yaml")


@pytest.fixture(scope="module")
def cells() -> dict[str, Any]:
    """Execute the cells of the notebook one by one, in its own folder."""
    text = (EXAMPLES / "without_a_butler.py").read_text()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        # As Jupyter and VS Code do.
        patch.chdir(EXAMPLES)
        for number, cell in enumerate(re.split(r"^# %%.*$", text, flags=re.MULTILINE)):
            exec(compile(cell, f"cell {number}", "exec"), namespace)
    return namespace


def test_notebook_finds_the_truth_from_arrays(cells: dict[str, Any]) -> None:
    """Compare PSF and fluxes with those that were simulated."""
    x = np.array([100.0, 350.0, 600.0])
    for image, fwhm in zip(cells["fit"].psf.draw_kernel_images(x, x), 3.6 + 0.4 * x / 700, strict=True):
        profile = galsim.Moffat(beta=3, fwhm=fwhm).shear(g1=0.04, g2=-0.02)
        expected = profile.drawImage(nx=25, ny=25, scale=1, dtype=float).array
        assert np.abs(image - expected / expected.sum()).max() < 0.03 * expected.max()
    measured = cells["measured"]
    assert len(measured) > 40
    positions = np.stack([measured["slot_Centroid_x"], measured["slot_Centroid_y"]], axis=1)
    nearest = cKDTree(np.stack([cells["x_true"], cells["y_true"]], axis=1)).query(positions)[1]
    ratio = measured["base_PsfFlux_instFlux"] / cells["flux_true"][nearest]
    # A circle of 12 pixels holds all but 0.9 % of that Moffat profile.
    assert np.median(ratio) == pytest.approx(0.991, abs=0.004)
    assert 0 < cells["reserved"].sum() < 0.25 * len(measured)


def test_notebook_repeats_the_stack_from_files(cells: dict[str, Any], tiny: Path) -> None:
    """Compare the PSF that was written and read with that of the stack."""
    expected = read_exposure_catalog(tiny / "expected/default/finalized_psf_ap_corr_catalog.fits").find(1)
    assert expected is not None
    x, y = np.array([100.0, 450.0]), np.array([250.0, 30.0])
    ours, theirs = (as_batch_psf(r.psf).draw_kernel_images(x, y) for r in (cells["record"], expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.max())
    name = "base_PsfFlux_instFlux"
    fields = [record.ap_corr_map[name](x=x, y=y) for record in (cells["record"], expected)]
    np.testing.assert_allclose(*fields, rtol=1e-5)
    drawn = {path.name for path in cells["folder"].glob("*.png")}
    assert drawn == {"psf.png", "ap_corr.png", "fluxes.png", "record-psf.png", "record-ap_corr.png"}


def test_developing_shows_all_examples() -> None:
    """Check that the pages include the files which are tested here."""
    text = "".join(page.read_text() for page in PAGES)
    included = set(re.findall(r"^\.\. literalinclude:: examples/(\S+)$", text, re.MULTILINE))
    assert included == {path.name for path in EXAMPLES.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "uri",
    sorted(
        {
            uri
            for page in PAGES
            for uri in re.findall(r"resource://[\w.]+/pipelines/[\w./]+\.yaml", page.read_text())
        }
    ),
)
def test_pipelines_named_in_pages_load(uri: str) -> None:
    """Load a pipeline that a page names."""
    assert Pipeline.from_uri(uri).task_labels


def test_all_pipelines_are_listed() -> None:
    """Check that the guide tells of every pipeline."""
    pipelines = DOC.parents[1] / "pipelines"
    text = (DOC / "getting-started.rst").read_text()
    for path in pipelines.glob("*.yaml"):
        assert f"``{path.name}``" in text
    for folder in pipelines.iterdir():
        if folder.is_dir() and not folder.name.startswith("_"):
            assert f"``{folder.name}/" in text
