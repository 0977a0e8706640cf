# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box, Interval
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.apcorr import (
    ApplyApCorrConfig,
    ApplyApCorrTask,
    MeasureApCorrConfig,
    MeasureApCorrError,
    MeasureApCorrTask,
    add_ap_corr_name,
    correctable_names,
    fit_chebyshev,
    get_ap_corr_names,
    n_coefficients,
)
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.pex.config import FieldValidationError

BOX = Box(Interval(-20, 180), Interval(10, 310))
NAME = "test_apcorr_Flux"


def make_catalog(n: int, *, seed: int = 3) -> SourceCatalog:
    """Make stars with ratio reference/flux = 1 + small slope + noise."""
    rng = np.random.default_rng(seed)
    schema = Schema.source_minimal()
    for name in ("cen_x", "cen_y"):
        schema.add_field(name, "D")
    for name in ("ref", NAME, "base_PsfFlux"):
        schema.add_field(f"{name}_instFlux", "D")
        schema.add_field(f"{name}_instFluxErr", "D")
        schema.add_flag(f"{name}_flag")
    schema.set_alias("slot_Centroid", "cen")
    schema.set_alias("slot_CalibFlux", "ref")
    catalog = SourceCatalog(schema, n)
    catalog["id"] = np.arange(n) + 100
    catalog["cen_x"] = rng.uniform(10, 310, n)
    catalog["cen_y"] = rng.uniform(-20, 180, n)
    ratio = 1.1 + 1e-4 * catalog["cen_x"] + rng.normal(0, 1e-3, n)
    for name, flux in (("ref", 1e5 * ratio), (NAME, np.full(n, 1e5)), ("base_PsfFlux", np.full(n, 1e5))):
        catalog[f"{name}_instFlux"] = flux
        catalog[f"{name}_instFluxErr"] = 100.0
    return catalog


def make_config(**kwargs: object) -> MeasureApCorrConfig:
    """Make a configuration that selects by signal to noise only."""
    config = MeasureApCorrConfig(**kwargs)
    config.sourceSelector["science"].doFlags = False
    config.sourceSelector["science"].doUnresolved = False
    return config


def measure(catalog: SourceCatalog, config: MeasureApCorrConfig | None = None) -> dict[str, ChebyshevField]:
    """Fit the correction of the test flux."""
    task = MeasureApCorrTask(config or make_config(), schema=catalog.schema, namesToCorrect=[NAME])
    return task.run(exposure=SimpleNamespace(bbox=BOX), catalog=catalog).apCorrMap


def test_registry_keeps_names() -> None:
    """Register a name and find it among those with all fields."""
    with pytest.raises(ValueError, match="non-empty"):
        add_ap_corr_name("")
    add_ap_corr_name("z_testFlux")
    assert "z_testFlux" in get_ap_corr_names()
    fields = {"z_testFlux_instFlux", "z_testFlux_instFluxErr"}
    assert correctable_names(fields) == ()
    assert correctable_names(fields | {"z_testFlux_flag"}) == ("z_testFlux",)


@pytest.mark.parametrize(("orders", "n"), [((2, 2), 6), ((1, 1), 3), ((0, 0), 1), ((2, 1), 5), ((1, 3), 7)])
def test_coefficient_counts(orders: tuple[int, int], n: int) -> None:
    """Count the terms of triangular fits, also with unequal orders."""
    assert n_coefficients(*orders) == n
    assert n_coefficients(*orders, triangular=False) == (orders[0] + 1) * (orders[1] + 1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_chebyshev_fit_is_that_of_lsst_images(
    order_x: int, order_y: int, triangular: bool, seed: int
) -> None:
    """Agree with an independent solver for any orders."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(10, 310, 60), rng.uniform(-20, 180, 60), rng.normal(1, 0.1, 60)
    mine, model = fit_chebyshev(BOX, x, y, z, order_x=order_x, order_y=order_y, triangular=triangular)
    other = ChebyshevField.fit(BOX, z, x=x, y=y, x_order=order_x, y_order=order_y, triangular=triangular)
    np.testing.assert_allclose(model, mine(x=x, y=y), rtol=1e-12)
    # Normal equations lose about the square of the condition number (< 1e3).
    np.testing.assert_allclose(mine.coefficients, other.coefficients, rtol=0, atol=1e-10)


def test_degenerate_fit_has_minimum_norm() -> None:
    """Survive points on a line, where the slope in x isn't determined."""
    y = np.linspace(-20, 180, 20)
    x = np.full(20, 159.5)
    field, _ = fit_chebyshev(BOX, x, y, 2 + 0.01 * y, order_x=1, order_y=1)
    np.testing.assert_allclose(field(x=x, y=y), 2 + 0.01 * y, rtol=1e-12)
    # x' = 0 on this line: nothing tells c[0, 1], whose smallest value is 0.
    assert field.coefficients[0, 1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("bad", [([], [], []), ([1.0], [1.0], [np.nan]), ([1.0, 2.0], [1.0], [1.0])])
def test_impossible_fits_are_refused(bad: tuple[list[float], ...]) -> None:
    """Refuse no points, NaN and unequal lengths."""
    with pytest.raises(ValueError, match="Chebyshev fit needs"):
        fit_chebyshev(BOX, *map(np.array, bad))


def test_schema_gets_used_flags() -> None:
    """Add the never-set reference flag first, then one per flux."""
    catalog = make_catalog(5)
    MeasureApCorrTask(make_config(), schema=catalog.schema, namesToCorrect=["nothing", NAME])
    assert catalog.schema.names[-2:] == ("apcorr_slot_CalibFlux_used", f"apcorr_{NAME}_used")


def test_missing_reference_is_an_error() -> None:
    """Name the missing field of the reference flux."""
    with pytest.raises(KeyError, match="slot_CalibFlux_instFlux"):
        MeasureApCorrTask(make_config(), schema=Schema.source_minimal())


def test_clipping_rejects_outliers() -> None:
    """Find the slope in spite of outliers, and don't mark these as used."""
    catalog = make_catalog(200)
    catalog[f"{NAME}_instFlux"][:5] *= 2
    catalog["ref_instFlux"][5] = np.nan
    catalog["ref_flag"][6] = True
    catalog[f"{NAME}_flag"][7] = True
    catalog[f"{NAME}_instFlux"][8] = -1
    catalog["cen_x"][9] = np.nan
    catalog["base_PsfFlux_instFlux"][10] = 100  # S/N 1
    fields = measure(catalog)
    used = catalog[f"apcorr_{NAME}_used"]
    assert not used[:11].any()
    assert used.sum() >= 185
    # Truth 1.1 + 1e-4 x; 0.001 of scatter over ~190 stars.
    value = fields[f"{NAME}_instFlux"](x=np.array([50.0, 250.0]), y=np.array([0.0, 100.0]))
    np.testing.assert_allclose(value, [1.105, 1.125], atol=5e-4)
    assert fields[f"{NAME}_instFluxErr"].coefficients == pytest.approx(1e-3, rel=0.2)


@pytest.mark.parametrize(("n", "shape"), [(7, 3), (6, 2), (4, 2), (3, 1), (2, 1)])
def test_orders_fall_with_few_stars(n: int, shape: int) -> None:
    """Keep one degree of freedom: orders 2, 1, 0 need 7, 4, 2 stars."""
    config = make_config(numSigmaClip=1e6)
    field = measure(make_catalog(n), config)[f"{NAME}_instFlux"]
    assert field.coefficients.shape == (shape, shape)


def test_orders_fall_together() -> None:
    """Lower both orders by one until enough stars are left, and give up where
    one of them can't be lowered.
    """
    config = make_config(numSigmaClip=1e6)
    config.fitConfig.orderX, config.fitConfig.orderY, config.fitConfig.triangular = 3, 2, False
    field = measure(make_catalog(7), config)[f"{NAME}_instFlux"]
    assert field.coefficients.shape == (2, 3)
    field = measure(make_catalog(6), config)[f"{NAME}_instFlux"]
    assert field.coefficients.shape == (1, 2)
    with pytest.raises(MeasureApCorrError, match="on iteration 1"):
        measure(make_catalog(2), config)


def test_too_few_stars_raise_unless_allowed(caplog: pytest.LogCaptureFixture) -> None:
    """Raise with the numbers, or warn and leave the flux out."""
    with pytest.raises(MeasureApCorrError, match=f"{NAME}.*1 usable.*2 needed") as info:
        measure(make_catalog(1))
    assert info.value.metadata == {"name": NAME, "nSources": 1, "ndof": 2}
    with caplog.at_level(logging.WARNING):
        assert measure(make_catalog(1), make_config(allowFailure=[NAME])) == {}
    assert "allowed" in caplog.text


def test_clipping_away_too_many_stars_raises() -> None:
    """Tell the iteration in which the fit became impossible."""
    catalog = make_catalog(3)
    with pytest.raises(MeasureApCorrError, match="on iteration 1") as info:
        measure(catalog, make_config(numSigmaClip=1e-9))
    assert info.value.metadata["iteration"] == 1


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_clipping_of_all_stars_is_refused(value: float) -> None:
    """Refuse limits that no residual is within."""
    with pytest.raises(FieldValidationError, match="numSigmaClip"):
        make_config(numSigmaClip=value)


def test_no_stars_raise() -> None:
    """Treat an empty catalogue as too few stars."""
    with pytest.raises(MeasureApCorrError, match="0 usable"):
        measure(make_catalog(0))


def test_zero_errors_are_left_out() -> None:
    """Use no star whose errors say nothing, whichever of them it is."""
    catalog = make_catalog(20)
    catalog["base_PsfFlux_instFluxErr"][:3] = 0.0
    catalog[f"{NAME}_instFluxErr"][3:5] = -1.0
    assert f"{NAME}_instFlux" in measure(catalog)
    assert not catalog[f"apcorr_{NAME}_used"][:5].any()
    assert catalog[f"apcorr_{NAME}_used"][5:].any()


def apply(catalog: SourceCatalog, fields: dict[str, ChebyshevField], **options: object) -> ApplyApCorrTask:
    """Apply corrections to the test flux."""
    add_ap_corr_name(NAME)
    task = ApplyApCorrTask(ApplyApCorrConfig(**options), schema=catalog.schema)
    task.run(catalog=catalog, apCorrMap=fields)
    return task


def constant(value: float) -> ChebyshevField:
    """Make a constant field."""
    return ChebyshevField(BOX, np.full((1, 1), value))


def linear_map() -> dict[str, ChebyshevField]:
    """Make a correction that falls from 2 through 0 to -2 along x."""
    field = ChebyshevField(BOX, np.array([[0.0, -2.0]]))
    return {f"{NAME}_instFlux": field, f"{NAME}_instFluxErr": constant(0.1)}


def test_apply_scales_and_records() -> None:
    """Scale flux and error alike, write the factor, flag the rest."""
    catalog = make_catalog(4)
    catalog["cen_x"] = [84.5, 159.5, 234.5, np.nan]
    catalog[f"{NAME}_flag"][0] = True
    apply(catalog, linear_map())
    # Factors 1, 0, -1 and NaN: only the first can be applied.
    np.testing.assert_allclose(catalog[f"{NAME}_apCorr"], [1, 0, -1, np.nan], atol=1e-12)
    np.testing.assert_array_equal(catalog[f"{NAME}_apCorrErr"], 0)
    np.testing.assert_allclose(catalog[f"{NAME}_instFlux"], 1e5)
    np.testing.assert_array_equal(catalog[f"{NAME}_flag_apCorr"], [False, True, True, True])
    np.testing.assert_array_equal(catalog[f"{NAME}_flag"], [True, True, True, True])


def test_apply_keeps_upstreams_nan_columns() -> None:
    """Leave the columns unwritten if asked to be faithful."""
    catalog = make_catalog(3)
    fields = {f"{NAME}_instFlux": constant(2.0), f"{NAME}_instFluxErr": constant(0.1)}
    apply(catalog, fields, doWriteApCorr=False)
    assert np.isnan(catalog[f"{NAME}_apCorr"]).all()
    assert np.isnan(catalog[f"{NAME}_apCorrErr"]).all()
    np.testing.assert_array_equal(catalog[f"{NAME}_instFlux"], 2e5)
    np.testing.assert_array_equal(catalog[f"{NAME}_instFluxErr"], 200.0)


@pytest.mark.parametrize("missing", ["instFlux", "instFluxErr"])
def test_apply_flags_missing_corrections(missing: str) -> None:
    """Flag only that there was no correction, and keep the flux."""
    catalog = make_catalog(3)
    fields = linear_map()
    del fields[f"{NAME}_{missing}"]
    apply(catalog, fields)
    assert catalog[f"{NAME}_flag_apCorr"].all()
    assert not catalog[f"{NAME}_flag"].any()
    np.testing.assert_array_equal(catalog[f"{NAME}_instFlux"], 1e5)


def test_apply_can_spare_the_general_flag() -> None:
    """Leave the general flag alone without doFlagApCorrFailures."""
    catalog = make_catalog(3)
    apply(catalog, linear_map() | {f"{NAME}_instFlux": constant(-1.0)}, doFlagApCorrFailures=False)
    assert catalog[f"{NAME}_flag_apCorr"].all()
    assert not catalog[f"{NAME}_flag"].any()


def test_apply_to_no_rows() -> None:
    """Do nothing to an empty catalogue."""
    catalog = make_catalog(0)
    apply(catalog, linear_map())
    assert len(catalog[f"{NAME}_apCorr"]) == 0


@pytest.mark.parametrize("option", ["xColumn", "yColumn"])
def test_missing_positions_are_named(option: str) -> None:
    """Tell which option names a column that isn't there."""
    with pytest.raises(KeyError, match=f"'nowhere', needed for the option {option}"):
        apply(make_catalog(1), linear_map(), **{option: "nowhere"})


def test_ignored_names_get_no_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Skip ignored fluxes and warn about unknown ones."""
    catalog = make_catalog(2)
    with caplog.at_level(logging.WARNING):
        task = apply(catalog, linear_map(), ignoreList=[NAME, "no_such_Flux"])
    assert NAME not in task.names
    assert f"{NAME}_apCorr" not in catalog.schema
    assert "no_such_Flux" in caplog.text


def test_proxy_takes_the_models_correction() -> None:
    """Correct a flux with another one's field, aliasing the factor."""
    catalog = make_catalog(3)
    schema = catalog.schema
    for suffix in ("_instFlux", "_instFluxErr"):
        schema.add_field("proxied" + suffix, "D")
        catalog["proxied" + suffix] = 10.0
    fields = {f"{NAME}_instFlux": constant(3.0), f"{NAME}_instFluxErr": constant(0.1)}
    apply(catalog, fields, proxies={"proxied": NAME})
    np.testing.assert_array_equal(catalog["proxied_instFlux"], 30.0)
    np.testing.assert_array_equal(catalog["proxied_apCorr"], 3.0)
    assert "proxied_apCorr" not in schema.names
    assert not catalog["proxied_flag_apCorr"].any()
    with pytest.raises(KeyError, match="nowhere_instFlux"):
        apply(make_catalog(1), fields, proxies={"nowhere": NAME})
