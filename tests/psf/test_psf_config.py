# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lsst.pex.config as pexConfig
from lsst.meas.finalize.psf import PiffPsfDeterminerConfig, PiffPsfDeterminerTask, psfDeterminerRegistry


def test_options_are_upstreams(tiny: Path) -> None:
    """Names and defaults are those in the stack's dump of its config."""
    text = (tiny / "expected" / "default" / "config.py").read_text()
    found = re.findall(r"^config\.psf_determiner\['piff'\]\.(\w+)=(.*)$", text, re.MULTILINE)
    config = PiffPsfDeterminerConfig()
    # The golden run changed the order; these choices are only ours.
    assert {name for name, _ in found} == set(config.toDict()) - {"fitter", "zerothOrderInterpSingleStep"}
    different = [name for name, value in found if repr(config.toDict()[name]) != value]
    assert different == ["spatialOrder"]


def test_registry() -> None:
    """The determiner is found under upstream's name, beside ours."""
    assert set(psfDeterminerRegistry) == {"piff", "hierarchical"}

    class Config(pexConfig.Config):
        determiner = psfDeterminerRegistry.makeField("determiner", default="piff")

    config = Config()
    config.determiner["piff"].spatialOrder = 3
    config.validate()
    task = config.determiner.apply()
    assert isinstance(task, PiffPsfDeterminerTask)
    assert task.config.spatialOrder == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stampSize", 24),
        ("stampSize", -1),
        ("interpolant", "Lanczos(11) + 1"),
        ("interpolant", "__import__('os')"),
        ("interpolant", "galsim.Moffat"),
        ("interpolant", "Lanczos(0)"),
        ("downsampleRandomSeed", -1),
        ("samplingSize", float("inf")),
        ("outlierNSigma", -1.0),
        ("outlierMaxRemove", 0.0),
        ("outlierMaxRemove", float("nan")),
        ("maxSNR", 0.0),
        ("maxSNR", float("nan")),
        ("minimumUnmaskedFraction", 1.01),
        ("piffLoggingLevel", 4),
        ("useCoordinates", "focal"),
        ("piffBasisPolynomialSolver", "magic"),
        ("fitter", "other"),
    ],
)
def test_bad_values_are_refused(name: str, value: object) -> None:
    """Checks of single options."""
    config = PiffPsfDeterminerConfig()
    with pytest.raises(pexConfig.FieldValidationError, match=name):
        setattr(config, name, value)


def test_colors_name_two_bands() -> None:
    """Refuse a color of one band when it is set."""
    config = PiffPsfDeterminerConfig()
    config.color["r"] = "g-i"
    with pytest.raises(pexConfig.FieldValidationError, match="color"):
        config.color["r"] = "g"


@pytest.mark.parametrize(
    "name", ["Lanczos(3)", "galsim.Lanczos(11)", "galsim.Quintic", "galsim.SincInterpolant", "galsim.Delta"]
)
def test_interpolants(name: str) -> None:
    """Names of GalSim's interpolants are accepted."""
    config = PiffPsfDeterminerConfig()
    config.interpolant = name
    config.validate()


@pytest.mark.parametrize(
    ("stamp", "model", "sampling", "mode", "good"),
    [
        (25, 25, 1.0, "pixel", True),
        (23, 25, 1.0, "pixel", False),
        (None, 25, 1.0, "pixel", True),
        (25, 25, 0.5, "field", False),
        (51, 25, 0.5, "field", True),
        (33, 25, 1.0, "sky", False),
        (35, 25, 1.0, "sky", True),
    ],
)
def test_stamps_must_hold_the_model(
    stamp: int | None, model: int, sampling: float, mode: str, good: bool
) -> None:
    """The size of stamps is checked against that of the model."""
    config = PiffPsfDeterminerConfig()
    config.stampSize, config.modelSize, config.samplingSize = stamp, model, sampling
    config.useCoordinates = mode
    if good:
        config.validate()
    else:
        with pytest.raises(pexConfig.FieldValidationError, match=f"stampSize={stamp} must be at least"):
            config.validate()
