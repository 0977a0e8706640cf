# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path

import pytest

from lsst.meas.finalize._open_registry import OpenRegistry
from lsst.meas.finalize.apcorr import MeasureApCorrTask
from lsst.pex.config import Config, Field, FieldValidationError, Registry
from lsst.pipe.base import Task
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

# What upstream's process had registered besides, and we don't have.
ABSENT = re.compile(
    r"config\.(psf_determiner\['pca'\]"
    r"|measurement\.(plugins|undeblended)\['(modelfit_GeneralShapeletPsfApprox|ip_diffim_\w+)'\])"
)
# What upstream lacks.
EXTRA = {
    "config.psf_determiner['piff'].fitter",
    "config.psf_determiner['piff'].zerothOrderInterpSingleStep",
    "config.apply_ap_corr.doWriteApCorr",
    "config.measure_ap_corr.detectorOrder",
    "config.measure_ap_corr.fitVisit",
    "config.measure_ap_corr.focalPlaneOrder",
    "config.connections.src_schema",
    "config.connections.prepared_isolated_stars",
    "config.connections.visit_psf_catalog",
    "config.connections.visit_psf_stars",
    "config.use_prepared_photometry",
    "config.use_prepared_stars",
    "config.use_visit_psf",
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
    own_determiner = {name for name in ours if name.startswith("config.psf_determiner['hierarchical'].")}
    assert set(ours) - set(golden) - own_determiner == EXTRA
    assert {name: ours.get(name) for name in golden} == golden


def test_slot_of_a_plugin_that_is_off_is_refused() -> None:
    """Validate slots against the active plugins, as upstream."""
    config = FinalizeCharacterizationDetectorConfig()
    config.measurement.plugins.names = ["base_PsfFlux", "base_GaussianFlux"]
    with pytest.raises(FieldValidationError, match="ext_shapeHSM_HsmSourceMoments"):
        config.validate()


def refused(config: FinalizeCharacterizationDetectorConfig) -> str:
    """Return why a configuration isn't valid."""
    with pytest.raises(FieldValidationError) as error:
        config.validate()
    return str(error.value)


@pytest.mark.parametrize("slot", ["shape", "psfShape"])
def test_sky_moments_need_moments(slot: str) -> None:
    """Refuse before any work to convert what isn't measured."""
    config = FinalizeCharacterizationDetectorConfig()
    setattr(config.measurement.slots, slot, None)
    config.validate()
    config.do_add_sky_moments = True
    message = refused(config)
    assert "do_add_sky_moments" in message
    assert f"measurement.slots.{slot}" in message


def test_candidates_must_hold_the_model() -> None:
    """Refuse stamps that are too small for the model, with any of which Piff
    would have no star.
    """
    config = FinalizeCharacterizationDetectorConfig()
    config.make_psf_candidates.kernelSize = 25
    config.validate()
    config.make_psf_candidates.kernelSize = 23
    assert "Candidates of 23 pixels" in refused(config)
    config.make_psf_candidates.borderWidth = 1
    config.validate()
    config.make_psf_candidates.borderWidth = 0
    config.psf_determiner["piff"].modelSize = 23
    config.validate()
    config.psf_determiner["piff"].samplingSize = 0.5
    config.psf_determiner["piff"].stampSize = None
    assert "a model of 46" in refused(config)
    config.psf_determiner = "hierarchical"
    config.validate()


def test_bands_are_given_once() -> None:
    """Refuse to add a column twice."""
    config = FinalizeCharacterizationDetectorConfig()
    config.fgcmPhotometryBands = ["g", "r", "g"]
    assert "fgcmPhotometryBands" in refused(config)


def test_unknown_plugin_is_refused() -> None:
    """Name a plugin that isn't registered, or only in the stack."""
    config = FinalizeCharacterizationDetectorConfig()
    config.measurement.plugins.names |= ["ext_trailedSources_Naive"]
    message = refused(config)
    assert "measurement.plugins" in message
    assert "'ext_trailedSources_Naive' can't run here" in message
    assert "'base_PsfFlux'" in message
    config.measurement.plugins.names.remove("ext_trailedSources_Naive")
    config.validate()


LATISS = """
config.psf_determiner.name = "psfex"
config.psf_determiner["psfex"].spatialOrder = 1
config.psf_determiner["psfex"].badMaskBits.append("BAD")
config.psf_determiner["psfex"].nested["key"].option = 1
config.psf_determiner["pca"].setDefaults()
config.source_selector["science"].signalToNoise.minimum = 20
"""


def test_overrides_of_what_only_the_stack_has() -> None:
    """Load a file for another determiner, and refuse it if it is active."""
    config = FinalizeCharacterizationDetectorConfig()
    config.loadFromString(LATISS)
    message = refused(config)
    assert "psf_determiner" in message
    assert "'psfex' can't run here: only 'hierarchical', 'piff' of lsst.meas.finalize can" in message
    copy = config.copy()
    assert "'psfex'" in refused(copy)
    stream = io.StringIO()
    config.saveToStream(stream)
    again = FinalizeCharacterizationDetectorConfig()
    again.loadFromString(stream.getvalue())
    assert "'psfex'" in refused(again)
    config.psf_determiner = "piff"
    config.validate()
    assert config.source_selector["science"].signalToNoise.minimum == 20


def test_selectors_that_only_the_stack_has() -> None:
    """Refuse selectors, also the nested one."""
    config = FinalizeCharacterizationDetectorConfig()
    config.source_selector = "astrometry"
    assert "source_selector" in refused(config)
    config.source_selector = "science"
    config.measure_ap_corr.sourceSelector.name = "astrometry"
    assert "measure_ap_corr.sourceSelector" in refused(config)


def test_typing_errors_are_refused_at_once() -> None:
    """Don't take a misspelt name for that of a plugin of the stack."""
    config = FinalizeCharacterizationDetectorConfig()
    with pytest.raises(FieldValidationError, match="did you mean 'base_GaussianFlux'"):
        config.measurement.plugins["base_GausianFlux"].background = 3
    with pytest.raises(FieldValidationError, match="did you mean 'modelfit_CModel'"):
        config.measurement.plugins.names |= ["modelfit_Cmodel"]


def test_options_we_lack_are_refused_by_name() -> None:
    """Set an option that isn't here."""
    config = FinalizeCharacterizationDetectorConfig()
    with pytest.raises(AttributeError, match="noSuchOption"):
        config.loadFromString('config.psf_determiner["piff"].noSuchOption = 1')


@pytest.mark.parametrize("variant", ["default", "color", "field", "lsstcam"])
def test_dump_of_the_stack_loads(tiny: Path, variant: str) -> None:
    """Load a dump of upstream's but for what it imports, and validate it."""
    text = (tiny / "expected" / variant / "config.py").read_text()
    lines = [
        line
        for line in text.splitlines()
        if not line.startswith(("import ", "assert ")) and "=lsst." not in line
    ]
    config = FinalizeCharacterizationDetectorConfig()
    config.loadFromString("\n".join(lines))
    config.validate()
    stream = io.StringIO()
    config.saveToStream(stream)
    golden = {name: value for name, value in parse(text).items() if not ABSENT.match(name)}
    ours = parse(stream.getvalue())
    assert {name: ours.get(name) for name in golden} == golden


def test_retargeting_to_a_task_of_the_stack() -> None:
    """Refuse subtasks with interfaces of the stack, allow one's own."""
    target = MeasureApCorrTask
    stack = type("MeasureApCorrTask", (Task,), {"ConfigClass": target.ConfigClass, "_DefaultName": "x"})
    stack.__module__ = "lsst.meas.algorithms.measureApCorr"
    config = FinalizeCharacterizationDetectorConfig()
    config.measure_ap_corr.retarget(stack)
    message = refused(config)
    assert "lsst.meas.algorithms.measureApCorr.MeasureApCorrTask can't run here" in message
    own = type("OwnTask", (target,), {"__module__": "lsst.meas.own"})
    config.measure_ap_corr.retarget(own)
    config.validate()


def test_options_are_taken_over_as_in_any_registry() -> None:
    """Assign options to a config that has others, looked at or not."""

    class Options(Config):
        number = Field[int]("A number.", default=1)

    results = []
    for kind in (Registry, partial(OpenRegistry, doc="Items.")):
        registry = kind(Options)
        for name in "abc":
            registry.register(name, object, Options)

        class Holder(Config):
            items = registry.makeField("Items.", default=["a"], multi=True)

        source, target = Holder(), Holder()
        source.items["b"].number = 2
        source.items.names = ["b", "c"]
        target.items["a"].number = 3
        target.items["c"].number = 4
        target.items = source.items
        source.items["b"].number = 5
        untouched = Holder()
        untouched.items = Holder().items
        results.append((target.saveToString(), untouched.saveToString(), target.items["c"].toDict()))
        assert target.items["b"].number == 2
        assert target.items["a"].number == 1
        target.validate()
    assert results[0] == results[1]
