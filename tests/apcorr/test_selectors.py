# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from lsst.images import Box, Image, Interval, Mask, MaskPlane, MaskSchema
from lsst.meas.finalize.apcorr import (
    ColorLimit,
    MeasureApCorrConfig,
    ScienceSourceSelectorTask,
    find_star_locus,
    sourceSelectorRegistry,
)
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.pex.config import Config


def make_task(name: str, **options: Any) -> Any:
    """Make a selector with some options."""
    task_class = sourceSelectorRegistry[name]
    config = task_class.ConfigClass()
    for option, value in options.items():
        target, *path = option.split("__")
        if path:
            setattr(getattr(config, target), path[0], value)
        else:
            setattr(config, target, value)
    config.validate()
    return task_class(config=config)


def select(name: str, catalog: Any, **options: Any) -> list[bool]:
    """Return what a selector selects."""
    return make_task(name, **options).selectSources(catalog).selected.tolist()


def flat(config: Config, prefix: str) -> dict[str, Any]:
    """Return all options with dotted names."""
    result = {}
    for name, value in config.toDict().items():
        if isinstance(value, dict) and isinstance(getattr(config, name), Config):
            result |= flat(getattr(config, name), f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


@pytest.mark.parametrize("name", ["science", "references", "objectSize", "flagged"])
def test_options_are_upstreams(tiny: Path, name: str) -> None:
    """Have exactly the options and defaults of upstream's dump.

    The dump is of `MeasureApCorrConfig`, so that its own overrides of the
    science selector are included.
    """
    text = (tiny / "expected/default/config.py").read_text()
    start = f"config.measure_ap_corr.sourceSelector['{name}']."
    pairs = re.findall(rf"^{re.escape(start)}(\S+?)=(.*)$", text, flags=re.MULTILINE)
    expected = {key: ast.literal_eval(value) for key, value in pairs}
    config = MeasureApCorrConfig()
    # The finalising task switches these two off.
    config.sourceSelector["science"].doFlags = False
    config.sourceSelector["science"].doUnresolved = False
    assert flat(config.sourceSelector[name], "") == expected


def test_registry_has_upstreams_members() -> None:
    """Know all selectors that need no matches."""
    assert set(sourceSelectorRegistry) == {"science", "references", "null", "flagged", "objectSize"}
    assert not any(task.usesMatches for task in sourceSelectorRegistry.values())


class Frame(dict):
    """Columns like those of a data frame: selecting rows by a mask."""

    def __len__(self) -> int:
        return len(self["a"])


def as_source_catalog(columns: dict[str, np.ndarray]) -> SourceCatalog:
    """Make a source catalogue of float and bool columns."""
    schema = Schema.source_minimal()
    for name, column in columns.items():
        schema.add_field(name, "Flag" if column.dtype == bool else "D")
    return SourceCatalog(schema, columns)


@pytest.mark.parametrize(
    "convert",
    [
        dict,
        Table,
        as_source_catalog,
        lambda c: Table(c).as_array(),
        lambda c: Table(c, masked=True),
    ],
)
def test_any_table_will_do(convert: Any) -> None:
    """Select from catalogues, tables, mappings and structured arrays."""
    columns = {
        "f": np.array([10.0, 20.0, np.nan, 40.0]),
        "e": np.array([1.0, 1.0, 1.0, 0.0]),
        "bad": np.array([False, True, False, False]),
    }
    task = make_task(
        "science",
        doSignalToNoise=True,
        signalToNoise__fluxField="f",
        signalToNoise__errField="e",
        signalToNoise__minimum=5.0,
        doFlags=True,
        flags__bad=["bad"],
    )
    result = task.run(convert(columns))
    assert result.selected.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(np.asarray(result.sourceCat["f"]), [10])


def test_selection_is_written() -> None:
    """Write the selection to a field if asked to."""
    catalog = as_source_catalog({"calib_psf_used": np.array([True, False]), "out": np.zeros(2, bool)})
    make_task("flagged").run(catalog, sourceSelectedField="out")
    assert catalog["out"].tolist() == [True, False]


def test_uncontiguous_catalogue_is_refused() -> None:
    """Refuse what says it isn't contiguous."""
    with pytest.raises(RuntimeError, match="contiguous"):
        make_task("null").run(SimpleNamespace(is_contiguous=False))


def test_missing_column_is_named() -> None:
    """Tell column and option."""
    with pytest.raises(
        KeyError, match=r"'base_PsfFlux_instFlux'.*ScienceSourceSelectorConfig\.signalToNoise\.fluxField"
    ):
        select("science", {"f": np.zeros(2)}, doSignalToNoise=True)
    with pytest.raises(KeyError, match=r"'calib_psf_used'.*FlaggedSourceSelectorConfig\.field"):
        select("flagged", {"f": np.zeros(2)})


def test_bounds_are_strict_and_nan_fails_them() -> None:
    """Exclude the bounds themselves; NaN passes only without bounds."""
    cat = {"slot_CalibFlux_instFlux": np.array([1.0, 2.0, 3.0, np.nan])}
    assert select("science", cat, doFluxLimit=True) == [True] * 4
    assert select("science", cat, doFluxLimit=True, fluxLimit__minimum=1.0) == [False, True, True, False]
    assert select("science", cat, doFluxLimit=True, fluxLimit__maximum=3.0) == [True, True, False, False]


def test_flux_flag_counts_only_if_there() -> None:
    """Test <fluxField>_flag, which normal flux fields don't have."""
    cat = {"f": np.array([1.0, 2.0]), "f_flag": np.array([True, False])}
    assert select("science", cat, doFluxLimit=True, fluxLimit__fluxField="f") == [False, True]


def test_zero_error_is_no_signal_to_noise() -> None:
    """Pass no limit of S/N with an error that isn't positive."""
    cat = {"f": np.array([1.0, 0.0]), "e": np.zeros(2)}
    options = {"doSignalToNoise": True, "signalToNoise__fluxField": "f", "signalToNoise__errField": "e"}
    assert select("science", cat, **options, signalToNoise__minimum=5.0) == [False, False]
    assert select("science", cat, **options, signalToNoise__maximum=5.0) == [False, False]
    assert select("science", cat, **options) == [False, False]


def test_remaining_science_options() -> None:
    """Apply each of the other criteria."""
    cat: dict[str, np.ndarray] = {
        "base_ClassificationSizeExtendedness_value": np.array([0.0, 0.1, 1.0, np.nan]),
        "parent": np.array([0, 5, 0, 0]),
        "deblend_nChild": np.array([0, 0, 2, 0]),
        "coord_ra": np.array([1.0, np.nan, 1.0, 1.0]),
        "coord_dec": np.array([1.0, 1.0, np.inf, 1.0]),
        "detect_isPrimary": np.array([True, False, True, False]),
        "sky_source": np.array([False, False, False, True]),
        "slot_Centroid_xErr": np.array([0.1, 3.0, np.nan, 0.1]),
        "slot_Centroid_yErr": np.array([0.1, 0.1, 0.1, 2.9]),
        "good": np.array([True, True, False, False]),
    }
    assert select("science", cat, doUnresolved=True) == [True, False, False, False]
    assert select("science", cat, doIsolated=True) == [True, False, False, True]
    assert select("science", cat, doRequireFiniteRaDec=True) == [True, False, False, True]
    assert select("science", cat, doRequirePrimary=True) == [True, False, True, False]
    assert select("science", cat, doRequirePrimary=True, doSkySources=True) == [True, False, True, True]
    assert select("science", cat, doCentroidErrorLimit=True) == [True, False, False, True]
    assert select("science", cat, doFlags=True, flags__good=["good"], flags__bad=[]) == [
        True,
        True,
        False,
        False,
    ]


def test_masked_values_are_not_selected() -> None:
    """Take masked floats as NaN."""
    cat = Table({"slot_CalibFlux_instFlux": MaskedColumn([1.0, 2.0], mask=[True, False])})
    assert select("science", cat, doFluxLimit=True, fluxLimit__minimum=0.0) == [False, True]


def test_empty_catalogue() -> None:
    """Select nothing from nothing, whatever the columns' lengths."""
    for cat in ({"calib_psf_used": np.zeros(0, bool)}, Table({"calib_psf_used": np.zeros(0, bool)})):
        assert select("flagged", cat) == []
        assert select("null", cat) == []
    assert select("null", {}) == []


def test_references() -> None:
    """Select reference objects by magnitude, colour, error and mask."""
    ab = lambda mag: 10 ** ((31.4 - np.array(mag)) / 2.5)  # noqa: E731
    cat = {
        "coord_ra": np.zeros(4),
        "coord_dec": np.array([0.0, 0.0, np.nan, 0.0]),
        "flux": ab([18.0, 20.0, 18.0, 22.0]),
        "r_flux": ab([17.0, 20.5, 18.0, 22.0]),
        "flux_err": np.full(4, 10.0),
        "mag_err": np.array([0.01, 0.02, 0.01, 0.3]),
        "centroid_x": np.array([11.0, 12.4, 11.0, 99.0]),
        "centroid_y": np.array([5.0, 5.0, 5.0, 5.0]),
    }
    assert select("references", cat) == [True, True, False, True]
    assert select("references", cat, doMagLimit=True, magLimit__maximum=19.0) == [True, False, False, False]
    assert select("references", cat, doMagError=True, magError__maximum=0.1) == [True, True, False, False]
    assert select("references", cat, doSignalToNoise=True, signalToNoise__minimum=1e3) == [
        True,
        True,
        False,
        False,
    ]
    limit = ColorLimit(primary="flux", secondary="r_flux", minimum=0.0)
    assert select("references", cat, colorLimits={"g-r": limit}) == [True, False, False, False]

    box = Box(Interval(0, 10), Interval(10, 20))
    mask = Mask(schema=MaskSchema([MaskPlane("NO_DATA", "")]), bbox=box)
    mask.set("NO_DATA", np.broadcast_to(np.arange(10) == 2, (10, 10)))
    exposure = SimpleNamespace(
        bbox=box,
        mask=mask,
        image=Image(np.zeros((10, 10), np.float32), bbox=box),
        variance=Image(np.zeros((10, 10), np.float32), bbox=box),
    )
    task = make_task("references", doCullFromMaskedRegion=True)
    selected = task.selectSources(cat, exposure=exposure).selected
    assert selected.tolist() == [True, False, False, False]
    with pytest.raises(RuntimeError, match="exposure"):
        task.selectSources(cat)


def test_object_size_finds_stars() -> None:
    """Separate stars from galaxies, cosmic rays and faint objects."""
    rng = np.random.default_rng(5)
    width = np.concatenate([rng.normal(1.8, 0.03, 150), rng.uniform(2.1, 8, 300), rng.uniform(0.95, 1.4, 10)])
    truth = np.arange(460) < 150
    cat = {"slot_Shape_xx": width**2, "slot_Shape_yy": width**2}
    cat["base_PsfFlux_instFlux"] = np.full(460, 1e4)
    cat["base_PsfFlux_instFluxErr"] = np.full(460, 1e2)
    task = make_task("objectSize")
    for flag in task.config.badFlags:
        cat[flag] = np.zeros(460, bool)
    cat["base_PixelFlags_flag_edge"][0] = True
    cat["base_PsfFlux_instFlux"][1] = 10
    cat["slot_Shape_xx"][2] = np.nan
    selected = task.selectSources(cat).selected
    assert not selected[:3].any()
    # 2 sigma keep 95 % of a normal distribution.
    assert selected[truth].mean() > 0.85
    assert selected[~truth].sum() <= 2


def test_options_are_named_by_their_paths() -> None:
    """Tell which of several selectors needs a column that isn't there."""
    config = MeasureApCorrConfig()
    task = ScienceSourceSelectorTask(config=config.sourceSelector["science"])
    with pytest.raises(KeyError, match=r"option sourceSelector\['science'\]\.flags\.bad\."):
        task.selectSources({"a": np.zeros(1)})
    with pytest.raises(KeyError, match=r"needed for the option ScienceSourceSelectorConfig\.flags\.bad\."):
        make_task("science", doFlags=True, flags__bad=["b"]).selectSources({"a": np.zeros(1)})


def test_object_size_without_objects() -> None:
    """Select nothing if nothing is good."""
    task = make_task("objectSize")
    names = ["slot_Shape_xx", "slot_Shape_yy", "base_PsfFlux_instFlux", "base_PsfFlux_instFluxErr"]
    for n in (0, 3):
        cat = {name: np.full(n, np.nan) for name in names}
        cat |= {flag: np.zeros(n, bool) for flag in task.config.badFlags}
        assert not task.selectSources(cat).selected.any()


def test_locus_of_equal_widths() -> None:
    """Survive widths without any scatter."""
    assert find_star_locus(np.full(5, 1.5), 0.15, 2.0) == (1.5, 0.15)


def test_narrower_of_two_loci_is_that_of_stars() -> None:
    """Take the pile of the smallest widths if several are as full."""
    median, _ = find_star_locus(np.repeat([1.5, 2.5, 3.5], 7), 0.15, 2.0)
    assert median == 1.5


def test_object_size_checks_its_range() -> None:
    """Refuse an empty range of widths."""
    with pytest.raises(ValueError, match="widthMin=11"):
        make_task("objectSize", widthMin=11.0)
