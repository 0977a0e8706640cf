# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from lsst.pex.config import FieldValidationError
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

# What upstream's process had registered besides, and we don't have.
ABSENT = re.compile(
    r"config\.(psf_determiner\['pca'\]"
    r"|measurement\.(plugins|undeblended)\['(modelfit_GeneralShapeletPsfApprox|ip_diffim_\w+)'\])"
)
# What upstream lacks.
EXTRA = {
    "config.psf_determiner['piff'].fitter",
    "config.apply_ap_corr.doWriteApCorr",
    "config.connections.src_schema",
} | {
    f"config.measurement.{tree}['ext_gaap_GaapFlux'].{name}"
    for tree in ("plugins", "undeblended")
    for name in ("doConvolveAsFitted", "doAverageSubpixels")
}


def parse(text: str) -> dict[str, str]:
    """Return the options of a config dump."""
    return dict(line.split("=", 1) for line in text.splitlines() if line.startswith("config."))


@pytest.mark.parametrize("variant", ["default", "color", "field", "lsstcam"])
def test_dump_is_upstreams(tiny: Path, variant: str) -> None:
    """Have the names and values of upstream's dump, in its order."""
    golden = {
        name: value
        for name, value in parse((tiny / "expected" / variant / "config.py").read_text()).items()
        if not ABSENT.match(name)
    }
    config = FinalizeCharacterizationDetectorConfig()
    piff = config.psf_determiner["piff"]
    # What the golden run set (see its README); everything else is a default.
    piff.spatialOrder = 1
    if variant == "color":
        piff.useColor = True
        piff.color = dict.fromkeys("ugrizy", "g-i")
        config.do_add_sky_moments = config.do_add_fgcm_photometry = True
    elif variant == "field":
        piff.useCoordinates = "field"
    elif variant == "lsstcam":
        piff.spatialOrderPerBand = dict.fromkeys("grizy", 4)
        piff.piffBasisPolynomialSolver = "cpp"
        piff.piffPixelGridFitCenter = False
    stream = io.StringIO()
    config.saveToStream(stream)
    ours = parse(stream.getvalue())
    assert set(ours) - set(golden) == EXTRA
    assert {name: ours.get(name) for name in golden} == golden


def test_slot_of_a_plugin_that_is_off_is_refused() -> None:
    """Validate slots against the active plugins, as upstream."""
    config = FinalizeCharacterizationDetectorConfig()
    config.measurement.plugins.names = ["base_PsfFlux", "base_GaussianFlux"]
    with pytest.raises(FieldValidationError, match="ext_shapeHSM_HsmSourceMoments"):
        config.validate()


def test_unknown_plugin_is_refused() -> None:
    """Name a plugin that isn't registered."""
    config = FinalizeCharacterizationDetectorConfig()
    with pytest.raises(FieldValidationError, match="no_such_Plugin"):
        config.measurement.plugins.names = ["no_such_Plugin"]
