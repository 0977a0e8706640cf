# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import Footprints, Schema, SourceCatalog
from lsst.meas.finalize.measure import (
    MeasureBatch,
    MeasurementFatalError,
    SingleFrameMeasurementConfig,
    SingleFrameMeasurementTask,
    SingleFramePlugin,
    UnknownMaskPlaneError,
    get_psf,
    plugin_registry,
)
from lsst.pex.config import FieldValidationError

_RAN: list[tuple[str, int]] = []


class _Recorder(SingleFramePlugin):
    """Plugin that notes that it ran, and fails if told so."""

    error: Exception | None = None

    def __init__(self, config: Any, name: str, schema: Schema, metadata: Any) -> None:
        super().__init__(config, name, schema, metadata)
        schema.add_flag(f"{name}_flag")

    def measure(self, batch: MeasureBatch) -> None:
        _RAN.append((self.name, len(batch)))
        if self.error is not None:
            raise self.error


def _recorder(order: float) -> type[SingleFramePlugin]:
    return type(f"Recorder{order}", (_Recorder,), {"execution_order": order})


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Register plugins that record, for the duration of a test."""
    orders = {"test_B": 2.0, "test_A": 2.0, "test_Z": 0.0, "test_C": 3.0, "test_M": 1.0}
    for name, order in orders.items():
        monkeypatch.setitem(plugin_registry._dict, name, _recorder(order))
    _RAN.clear()
    return list(orders)


def _no_slots(config: SingleFrameMeasurementConfig) -> None:
    for name in config.slots._fields:
        setattr(config.slots, name, None)


def _make_task(names: list[str], **options: Any) -> SingleFrameMeasurementTask:
    config = SingleFrameMeasurementConfig()
    config.plugins.names = names
    _no_slots(config)
    for name, value in options.items():
        setattr(config, name, value)
    return SingleFrameMeasurementTask(Schema.source_minimal(), config=config)


def _stars(task: SingleFrameMeasurementTask, n: int) -> SourceCatalog:
    spans = [[(y, 3, 6) for y in range(5 * k + 1, 5 * k + 4)] for k in range(n)]
    catalog = SourceCatalog(task.schema, n, footprints=Footprints.from_spans(spans))
    catalog["id"] = np.arange(1, n + 1)
    return catalog


def test_config_defaults() -> None:
    """Have upstream's defaults."""
    config = SingleFrameMeasurementConfig()
    assert set(config.plugins.names) == {
        "base_PixelFlags",
        "base_SdssCentroid",
        "base_SdssShape",
        "base_GaussianFlux",
        "base_PsfFlux",
        "base_CircularApertureFlux",
        "base_SkyCoord",
        "base_Variance",
        "base_Blendedness",
        "base_LocalBackground",
        "base_CompensatedTophatFlux",
        "base_ClassificationSizeExtendedness",
    }
    assert config.algorithms is config.plugins
    assert config.undeblendedPrefix == "undeblended_"
    assert config.doReplaceWithNoise is True
    assert config.noiseReplacer.toDict() == {
        "noiseSource": "measure",
        "noiseOffset": 0.0,
        "noiseSeedMultiplier": 1,
    }
    assert config.slots.toDict() == {
        "centroid": "base_SdssCentroid",
        "shape": "base_SdssShape",
        "psfShape": "base_SdssShape_psf",
        "apFlux": "base_CircularApertureFlux_12_0",
        "modelFlux": "base_GaussianFlux",
        "psfFlux": "base_PsfFlux",
        "gaussianFlux": "base_GaussianFlux",
        "calibFlux": "base_CircularApertureFlux_12_0",
    }
    config.validate()


@pytest.mark.parametrize(
    ("slot", "value", "message"),
    [
        ("centroid", "base_PeakCentroid", "centroid slot 'base_PeakCentroid' is not one of"),
        ("shape", "base_SdssShape_psf", "shape slot 'base_SdssShape_psf' is not one of"),
        ("modelFlux", "modelfit_CModel", "modelFlux slot 'modelfit_CModel' begins with none"),
        ("calibFlux", "base_Naive", "calibFlux slot 'base_Naive' begins with none"),
    ],
)
def test_config_bad_slots(slot: str, value: str, message: str) -> None:
    """Refuse slots that no active plugin fills; psfShape is not checked."""
    config = SingleFrameMeasurementConfig()
    config.slots.psfShape = "nothing"
    config.validate()
    setattr(config.slots, slot, value)
    with pytest.raises(FieldValidationError, match=message):
        config.validate()


def test_config_bad_options() -> None:
    """Refuse plugins that aren't there and values out of range."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["no_such_plugin"]
    with pytest.raises(FieldValidationError, match="no_such_plugin"):
        config.validate()
    config = SingleFrameMeasurementConfig()
    with pytest.raises(FieldValidationError):
        config.noiseReplacer.noiseSource = "magic"
    with pytest.raises(FieldValidationError):
        config.noiseReplacer.noiseSeedMultiplier = -1


def test_field_order_and_aliases(recorders: list[str]) -> None:
    """Sort fields by order and name, undeblended ones last."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = recorders
    config.undeblended.names = ["test_C", "test_B"]
    _no_slots(config)
    config.slots.psfFlux = "test_B_1"
    schema = Schema.source_minimal()
    task = SingleFrameMeasurementTask(schema, config=config)
    assert schema.names[4:] == (
        "test_Z_flag",
        "test_M_flag",
        "test_A_flag",
        "test_B_flag",
        "test_C_flag",
        "undeblended_test_B_flag",
        "undeblended_test_C_flag",
        "base_InvalidPsf_flag",
    )
    assert schema.aliases == {"slot_PsfFlux": "test_B_1"}
    assert list(task.plugins) == ["test_Z", "test_M", "test_A", "test_B", "test_C"]


def test_run_order(recorders: list[str], make_exposure: Callable[..., Any]) -> None:
    """Run the centroid slot first, then by order and name."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = recorders
    config.undeblended.names = ["test_A"]
    _no_slots(config)
    config.slots.centroid = "test_B"
    task = SingleFrameMeasurementTask(Schema.source_minimal(), config=config)
    catalog, exposure = _stars(task, 3), make_exposure(np.random.default_rng(1).normal(size=(20, 20)))
    task.run(catalog, exposure)
    ran = [name for name, _ in _RAN]
    assert ran == ["test_B", "test_Z", "test_M", "test_A", "test_C", "undeblended_test_A"]
    assert catalog.metadata == {"NOISE_SEED_MULTIPLIER": 1, "NOISE_SOURCE": "measure", "NOISE_OFFSET": 0.0}
    _RAN.clear()
    task.measure(catalog, exposure, beginOrder=1.0, endOrder=3.0, exposureId=12)
    assert [name for name, _ in _RAN] == ["test_B", "test_M", "test_A"]
    assert catalog.metadata["NOISE_EXPOSURE_ID"] == 12


@pytest.mark.parametrize("error", [None, MeasurementFatalError("slot undefined")])
def test_failures_flag_what_was_due(
    recorders: list[str],
    make_exposure: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    """Flag plugins that should have run after a failure, and no others."""
    task = _make_task(recorders)
    catalog = _stars(task, 2)
    monkeypatch.setattr(task.plugins["test_A"], "error", error)
    with contextlib.nullcontext() if error is None else pytest.raises(MeasurementFatalError):
        task.run(catalog, make_exposure(np.ones((20, 20))), beginOrder=1.0, endOrder=3.0)
    flagged = {name for name in recorders if catalog[f"{name}_flag"].all()}
    assert flagged == (set() if error is None else {"test_A", "test_B"})
    assert not any(catalog[f"{name}_flag"].any() for name in set(recorders) - flagged)


def test_fields_of_another_are_refused(recorders: list[str]) -> None:
    """Name the plugin whose fields are taken over from another catalogue."""
    schema = Schema.source_minimal()
    schema.add_flag("test_B_flag")
    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["test_A", "test_B"]
    _no_slots(config)
    with pytest.raises(ValueError, match="Plugin test_B can't add its fields: Field 'test_B_flag'"):
        SingleFrameMeasurementTask(schema, config=config)


def test_unknown_mask_planes_are_fatal(recorders: list[str], make_exposure: Callable[..., Any]) -> None:
    """Raise for options of whatever plugin, before stars are measured, unless
    it isn't run.
    """
    exposure = make_exposure(np.ones((20, 20)))
    for measured in (True, False):
        config = SingleFrameMeasurementConfig()
        config.plugins.names = ["test_A", "ext_shapeHSM_HsmSourceMoments"]
        config.plugins["ext_shapeHSM_HsmSourceMoments"].badMaskPlanes = ["BAD", "NOPE"]
        config.plugins["ext_shapeHSM_HsmSourceMoments"].doMeasure = measured
        _no_slots(config)
        schema = Schema.source_minimal()
        schema.set_alias("slot_Centroid", "coord")
        task = SingleFrameMeasurementTask(schema, config=config)
        catalog = _stars(task, 2)
        for call in (task.run, task.check):
            with (
                pytest.raises(UnknownMaskPlaneError, match="HsmSourceMoments: There is no mask plane 'NOPE'")
                if measured
                else contextlib.nullcontext()
            ):
                call(catalog, exposure)
        assert catalog["test_A_flag"].all() == measured
        assert bool(_RAN) != measured


def test_do_measure_and_no_stars(recorders: list[str], make_exposure: Callable[..., Any]) -> None:
    """Make fields but don't run what is switched off or has no stars."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["test_A", "test_B"]
    config.plugins["test_A"].doMeasure = False
    _no_slots(config)
    task = SingleFrameMeasurementTask(Schema.source_minimal(), config=config)
    exposure = make_exposure(np.ones((20, 20)))
    task.run(_stars(task, 0), exposure)
    assert not _RAN
    task.run(_stars(task, 2), exposure)
    assert _RAN == [("test_B", 2)]
    assert "test_A_flag" in task.schema


def test_errors(
    recorders: list[str], make_exposure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag what fails unexpectedly, pass on what is fatal."""
    task = _make_task(["test_A", "test_B"])
    catalog, exposure = _stars(task, 2), make_exposure(np.ones((20, 20)))
    monkeypatch.setattr(task.plugins["test_A"], "error", ZeroDivisionError("oops"))
    task.run(catalog, exposure)
    assert catalog["test_A_flag"].tolist() == [True, True]
    assert not catalog["test_B_flag"].any()
    for error in (MeasurementFatalError("slot undefined"), MemoryError("full")):
        monkeypatch.setattr(task.plugins["test_A"], "error", error)
        with pytest.raises(type(error), match=str(error)):
            task.run(catalog, exposure)


@pytest.mark.parametrize("error", [None, MeasurementFatalError("slot undefined"), KeyboardInterrupt()])
def test_image_is_as_before(
    error: BaseException | None,
    recorders: list[str],
    make_exposure: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leave no noise on the image, whatever happens while it is there."""
    image = np.random.default_rng(1).normal(10, 3, (40, 50)).astype(np.float32)
    exposure = make_exposure(image.copy())
    task = _make_task(["test_A"])
    seen = []

    def measure(batch: MeasureBatch) -> None:
        seen.append(exposure.image.array.copy())
        if error is not None:
            raise error

    monkeypatch.setattr(task.plugins["test_A"], "measure", measure)
    if error is None:
        task.run(_stars(task, 3), exposure)
    else:
        with pytest.raises(type(error)):
            task.run(_stars(task, 3), exposure)
    np.testing.assert_array_equal(exposure.image.array, image)
    assert (seen[0] != image).sum() == 3 * 4 * 3


def test_image_is_as_before_without_a_record(recorders: list[str], make_exposure: Callable[..., Any]) -> None:
    """Take the noise out again if how it was made can't be recorded."""
    exposure = make_exposure(np.arange(400, dtype=np.float32).reshape(20, 20))
    image = exposure.image.array.copy()
    task = _make_task(["test_A"])
    catalog = _stars(task, 2)
    catalog.metadata = MappingProxyType({})
    with pytest.raises(TypeError, match="item assignment"):
        task.run(catalog, exposure)
    np.testing.assert_array_equal(exposure.image.array, image)


def test_missing_fields_and_footprints(recorders: list[str], make_exposure: Callable[..., Any]) -> None:
    """Complain about catalogues that don't fit."""
    task = _make_task(["test_A"])
    exposure = make_exposure(np.ones((20, 20)))
    with pytest.raises(ValueError, match=r"missing fields: \['test_A_flag', 'base_InvalidPsf_flag'\]"):
        task.run(SourceCatalog(Schema.source_minimal(), 1), exposure)
    bare = SourceCatalog(task.schema, 1)
    with pytest.raises(ValueError, match="has no footprints"):
        task.run(bare, exposure)
    bare["id"] = 2
    task.run(bare, exposure, footprints=_stars(task, 3))
    bare["id"] = 9
    with pytest.raises(ValueError, match=r"no footprint in the source catalog: 9\."):
        task.run(bare, exposure, footprints=_stars(task, 3))
    _make_task(["test_A"], doReplaceWithNoise=False).run(bare, exposure)


@pytest.mark.parametrize(
    "name", ["base_PsfFlux", "base_GaussianFlux", "base_SdssShape", "base_LocalBackground"]
)
def test_undefined_slots(name: str) -> None:
    """Refuse to construct plugins whose slots are not defined."""
    with pytest.raises(MeasurementFatalError, match=f"Plugin {name} needs the slot 'slot_Centroid'"):
        _make_task([name])


def test_no_psf(run_plugins: Callable[..., SourceCatalog], make_exposure: Callable[..., Any]) -> None:
    """Stop where a PSF is indispensable, flag where it isn't."""
    exposure = make_exposure(np.ones((40, 40)))
    box = np.array([[10, 10, 20, 20]])
    for name in ("base_PsfFlux", "base_SdssCentroid"):
        with pytest.raises(MeasurementFatalError, match=f"Plugin {name} needs a PSF"):
            run_plugins([name], exposure, [15.0], [15.0], box)
    exposure = make_exposure(np.ones((40, 40)))
    catalog = run_plugins(["base_LocalBackground", "base_SdssShape"], exposure, [15.0], [15.0], box)
    assert catalog["base_LocalBackground_flag_noPsf"][0]
    assert catalog["base_LocalBackground_flag"][0]
    assert catalog["base_SdssShape_flag_psf"][0]


def test_unsuitable_psf(make_exposure: Callable[..., Any]) -> None:
    """Name the remedy for a PSF that draws one star at a time."""
    exposure = make_exposure(np.ones((5, 5)))
    exposure.psf = object()
    with pytest.raises(TypeError, match=r"as_batch_psf\(exposure.psf\)"):
        get_psf(exposure)


def test_centroid_extractor(make_exposure: Callable[..., Any]) -> None:
    """Use flagged centroids with a flag, peaks for missing flagged ones."""
    schema = Schema.source_minimal()
    for name, code in (("c_x", "D"), ("c_y", "D"), ("c_flag", "Flag"), ("p_flag", "Flag")):
        schema.add_field(name, code)
    schema.set_alias("slot_Centroid", "c")
    spans = [[(4, 4, 6)]] * 5
    peak = {"f_x": np.array([5.0]), "f_y": np.array([4.0])}
    peaks = Footprints(
        np.arange(6), np.full(5, 4), np.full(5, 4), np.full(5, 6),
        peak_offsets=np.array([0, 1, 2, 3, 4, 4]), peaks={k: np.repeat(v, 4) for k, v in peak.items()},
    )  # fmt: skip
    assert len(peaks) == len(spans)
    catalog = SourceCatalog(schema, 5, footprints=peaks)
    catalog["c_x"] = [1.0, 2.0, np.nan, np.nan, np.nan]
    catalog["c_y"] = [1.0, 2.0, 3.0, 3.0, 3.0]
    catalog["c_flag"] = [False, True, False, True, True]
    batch = MeasureBatch(catalog, make_exposure(np.ones((9, 9))))
    np.testing.assert_array_equal(batch.x, [1.0, 2.0, np.nan, 5.0, np.nan])
    np.testing.assert_array_equal(batch.y, [1.0, 2.0, np.nan, 4.0, np.nan])
    assert batch.start("p").tolist() == [0, 1, 3]
    assert catalog["p_flag"].tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("many", [False, True])
def test_footprint_cutouts(
    many: bool, make_exposure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut out footprints' boxes once for the same stars, unless many."""
    from lsst.meas.finalize.measure import _batch

    spans = [[(4, 4, 6)], [(1, 0, 3), (2, 1, 2)], [(20, 10, 40)]]
    catalog = SourceCatalog(Schema.source_minimal(), 3, footprints=Footprints.from_spans(spans))
    image = np.arange(2500.0).reshape(50, 50)
    batch = MeasureBatch(catalog, make_exposure(image))
    if many:
        monkeypatch.setattr(_batch, "_MAX_KEPT_PIXELS", 1)
    made = [list(batch.footprint_cutouts(np.array(rows))) for rows in ([0, 1, 2], [0, 1, 2], [0, 2])]
    for rows, parts in zip(([0, 1, 2], [0, 1, 2], [0, 2]), made, strict=True):
        assert sorted(np.concatenate([part.rows for part, _ in parts])) == rows
        for part, stamps in parts:
            for k, (width, height) in enumerate(part.sizes):
                x0, y0 = part.x0[k], part.y0[k]
                expected = image[y0 : y0 + height, x0 : x0 + width]
                np.testing.assert_array_equal(stamps.image[k, :height, :width], expected)
    first, second, other = ([stamps for _, stamps in parts] for parts in made)
    assert all((a is b) != many for a, b in zip(first, second, strict=True))
    assert not {id(stamps) for stamps in other} & {id(stamps) for stamps in second}


def test_aperture_correction_names() -> None:
    """Declare the two base fluxes that are aperture-corrected."""
    from lsst.meas.finalize.apcorr import get_ap_corr_names

    base = {n for n in get_ap_corr_names() if n.startswith("base_") and "Tophat" not in n}
    assert base == {"base_PsfFlux", "base_GaussianFlux"}
