# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Aperture, blendedness, classification and count plugins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import Footprints, Schema, SourceCatalog
from lsst.meas.finalize.measure import (
    MeasureBatch,
    MeasurementFatalError,
    catalog_calculation_registry,
    denoised_absolute,
    kernel_order,
    plugin_registry,
)
from lsst.pex.config import FieldValidationError

CIRCLE, TOPHAT, GAUSSIAN = (
    f"base_{n}Flux" for n in ("CircularAperture", "CompensatedTophat", "CompensatedGaussian")
)
BLEND = "base_Blendedness"
BOX = np.array([[10, 10, 50, 50]])
MOMENTS = {"shape_xx": np.array([4.0]), "shape_yy": np.array([5.29]), "shape_xy": np.array([0.0])}


def _reference() -> np.ndarray:
    """Return the image of spec 03 §9."""
    j, i = np.mgrid[:61, :61]
    return 10000.0 * np.exp(-0.5 * ((i - 30.3) ** 2 / 4 + (j - 29.6) ** 2 / 5.29)) / (2 * np.pi * 4.6)


def test_circular_apertures(make_exposure: Any, run_plugins: Any) -> None:
    """Reproduce the spec's fluxes under upstream's field names."""
    exposure = make_exposure(_reference())

    def configure(config: Any) -> None:
        config.plugins[CIRCLE].radii = [3.0, 4.5, 6.0, 9.0, 12.0, 35.0]

    catalog = run_plugins([CIRCLE], exposure, [30.3], [29.6], BOX, configure=configure)
    names = [n for n in catalog.schema.names if n.startswith(CIRCLE)]
    assert names[:5] == [
        f"{CIRCLE}_3_0_{f}"
        for f in ("instFlux", "instFluxErr", "flag", "flag_apertureTruncated", "flag_sincCoeffsTruncated")
    ]
    assert f"{CIRCLE}_4_5_instFlux" in names
    # Radii above the limit of the sinc method have no flag of it.
    assert f"{CIRCLE}_9_0_flag_sincCoeffsTruncated" in names
    assert f"{CIRCLE}_12_0_flag_sincCoeffsTruncated" not in names
    assert f"{CIRCLE}_flag_badCentroid" in catalog.schema.aliases
    for radius, flux in (("3_0", 6373.28446), ("6_0", 9784.01070), ("9_0", 9996.56241)):
        assert catalog[f"{CIRCLE}_{radius}_instFlux"][0] == pytest.approx(flux, rel=5e-8)
    assert catalog[f"{CIRCLE}_12_0_instFlux"][0] == pytest.approx(9999.99660, abs=1e-5)
    assert catalog[f"{CIRCLE}_9_0_flag_sincCoeffsTruncated"][0]
    assert not catalog[f"{CIRCLE}_9_0_flag"][0]
    assert catalog[f"{CIRCLE}_35_0_flag"][0]
    assert catalog[f"{CIRCLE}_35_0_flag_apertureTruncated"][0]
    assert np.isnan(catalog[f"{CIRCLE}_35_0_instFlux"][0])


def test_circular_aperture_failures(make_exposure: Any, run_plugins: Any) -> None:
    """Flag all radii of bad centroids; leave the others alone."""
    exposure = make_exposure(_reference())
    x, y = np.array([30.3, np.nan, 30.3, np.inf]), np.full(4, 29.6)
    boxes = np.repeat(BOX, 4, axis=0)

    def configure(config: Any) -> None:
        config.plugins[CIRCLE].radii = [3.0, 12.0]

    flagged = {"slotted_flag": np.array([False, False, True, False])}
    catalog = run_plugins([CIRCLE], exposure, x, y, boxes, configure=configure, columns=flagged)
    for radius in ("3_0", "12_0"):
        flux = catalog[f"{CIRCLE}_{radius}_instFlux"]
        assert catalog[f"{CIRCLE}_{radius}_flag"].tolist() == [False, True, True, True]
        assert np.isfinite(flux).tolist() == [True, False, True, False]
        assert flux[0] == flux[2]


def test_radii_in_metadata() -> None:
    """Publish the radii, and refuse bad options."""
    metadata: dict[str, Any] = {}
    schema = Schema.source_minimal()
    schema.set_alias("slot_Centroid", "slotted")
    config = plugin_registry[CIRCLE].ConfigClass()
    plugin_registry[CIRCLE](config, CIRCLE, schema, metadata)
    assert metadata["BASE_CIRCULARAPERTUREFLUX_RADII"] == [3, 4.5, 6, 9, 12, 17, 25, 35, 50, 70]
    assert kernel_order("lanczos4") == 4
    for name in ("bilinear", "lanczos", "lanczos0", "lanczos8", "lanczos10"):
        with pytest.raises(ValueError, match=f"'{name}' is not supported"):
            kernel_order(name)
    with pytest.raises(FieldValidationError, match="radii"):
        config.radii = [3.0, -1.0]


def test_scaled_aperture(make_exposure: Any, run_plugins: Any, moffat_psf: Any) -> None:
    """Measure a circle of the radius that the PSF's size gives."""
    name = "base_ScaledApertureFlux"
    exposure = make_exposure(_reference())
    moffat_psf.compute_shapes = lambda x, y, color=None: np.tile([2.0, 2.0, 0.0], (len(x), 1))

    def configure(config: Any) -> None:
        config.plugins[name].scale = 6.0 / (2.3548200450309493 * np.sqrt(2.0))

    catalog = run_plugins([name], exposure, [30.3], [29.6], BOX, psf=moffat_psf, configure=configure)
    assert catalog[f"{name}_instFlux"][0] == pytest.approx(9784.01070, rel=5e-8)
    moffat_psf.compute_shapes = lambda x, y, color=None: np.full((len(x), 3), np.nan)
    catalog = run_plugins([name], exposure, [30.3], [29.6], BOX, psf=moffat_psf)
    assert catalog[f"{name}_flag"][0]
    with pytest.raises(MeasurementFatalError, match="PSF"):
        run_plugins([name], exposure, [30.3], [29.6], BOX)


class _GaussianPsf:
    """Kernel images of a round Gaussian."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def draw_kernel_images(self, x: Any, y: Any, color: Any = None) -> np.ndarray:
        r = np.arange(-15, 16)
        image = np.exp(-0.5 * (r[None, :, None] ** 2 + r[None, None, :] ** 2) / self.sigma**2)
        return np.repeat(image / image.sum(), len(x), axis=0)


def test_peak_likelihood(make_exposure: Any, run_plugins: Any) -> None:
    """Recover the flux of a star from an image convolved with the PSF."""
    name = "base_PeakLikelihoodFlux"
    sigma, flux, x, y = 2.0, 1000.0, np.array([2030.3, 2031.0, 2000.0]), np.array([29.6, 30.0, 29.6])
    j, i = np.mgrid[:61, :61]
    wide = 2 * sigma**2
    image = flux * np.exp(-0.5 * ((i - 30.3) ** 2 + (j - 29.6) ** 2) / wide) / (2 * np.pi * wide)
    exposure = make_exposure(image, origin=(2000, 0))
    boxes = np.repeat(BOX + [2000, 0, 2000, 0], 3, axis=0)
    catalog = run_plugins([name], exposure, x, y, boxes, psf=_GaussianPsf(sigma))
    # Lanczos interpolation and the pixel integral of a 2-pixel Gaussian.
    assert catalog[f"{name}_instFlux"][0] == pytest.approx(flux, rel=2e-3)
    value = image[30, 31] * 4 * np.pi * sigma**2
    assert catalog[f"{name}_instFlux"][1] == pytest.approx(value, rel=1e-6)
    assert catalog[f"{name}_instFluxErr"][1] == pytest.approx(4 * np.pi * sigma**2, rel=1e-6)
    assert catalog[f"{name}_flag"].tolist() == [False, False, True]


def test_compensated_apertures(make_exposure: Any, run_plugins: Any) -> None:
    """Reproduce the spec's Gaussian, and see no constant background."""
    exposure = make_exposure(_reference())

    def configure(config: Any) -> None:
        config.plugins[TOPHAT].apertures = [6, 12]

    names = [TOPHAT, GAUSSIAN]
    catalog = run_plugins(names, exposure, [30.3], [29.6], BOX, configure=configure)
    assert catalog[f"{GAUSSIAN}_3_instFlux"][0] == pytest.approx(14628.76896, rel=1e-8)
    assert catalog[f"{GAUSSIAN}_3_instFluxErr"][0] == pytest.approx(11.8899820, rel=1e-7)
    fields = [n for n in catalog.schema.names if n.startswith(TOPHAT)]
    values = ["instFlux", "instFluxErr", "mask_bits"]
    assert fields == [f"{TOPHAT}_{a}_{f}" for a in (6, 12) for f in values] + [
        f"{TOPHAT}_{a}_{f}" for a in (6, 12) for f in ("flag", "flag_bounds")
    ]
    higher = make_exposure(_reference() + 100.0)
    raised = run_plugins(names, higher, [30.3], [29.6], BOX, configure=configure)
    for name, tolerance in ((f"{TOPHAT}_6", 2.0), (f"{TOPHAT}_12", 300.0), (f"{GAUSSIAN}_3", 5.0)):
        # Top-hats of whole pixels don't have their nominal area; Gaussians
        # end at 2.6 sigma of the wider one.
        difference = raised[f"{name}_instFlux"][0] - catalog[f"{name}_instFlux"][0]
        assert abs(difference) < tolerance * 100


def test_compensated_bounds_and_mask(make_exposure: Any, run_plugins: Any) -> None:
    """Flag windows that leave the image; report mask bits as afw's."""
    mask = np.zeros((61, 61), dtype=np.uint8)
    mask[30, 40] = 1 << 1
    mask[0, 0] = 1
    exposure = make_exposure(_reference(), mask=mask)
    x, y = np.array([30.3, 20.0, 30.3, np.nan, np.inf]), np.array([29.6, 29.6, 35.0, 29.6, 29.6])
    boxes = np.repeat(BOX, 5, axis=0)
    catalog = run_plugins([TOPHAT], exposure, x, y, boxes)
    for flag in ("flag", "flag_bounds"):
        assert catalog[f"{TOPHAT}_12_{flag}"].tolist() == [False, True, False, True, True]
    assert catalog[f"{TOPHAT}_12_mask_bits"].tolist() == [2, 0, 2, 0, 0]
    assert np.isfinite(catalog[f"{TOPHAT}_12_instFlux"]).tolist() == [True, False, True, False, False]


def test_compensated_options() -> None:
    """Refuse scales that make no annulus."""
    config = plugin_registry[TOPHAT].ConfigClass()
    config.outer_scale = 0.9
    with pytest.raises(FieldValidationError, match="outer_scale"):
        config.validate()
    with pytest.raises(FieldValidationError, match="t"):
        plugin_registry[GAUSSIAN].ConfigClass().t = 1.0


def test_blendedness(make_exposure: Any, run_plugins: Any) -> None:
    """Reproduce the spec's weighted flux; a lone star isn't blended."""
    exposure = make_exposure(_reference())
    catalog = run_plugins(
        [BLEND], exposure, [30.3], [29.6], BOX, columns=MOMENTS, aliases={"slot_Shape": "shape"}
    )
    for role in ("child", "parent"):
        assert catalog[f"{BLEND}_raw_{role}_instFlux"][0] == pytest.approx(9892.85031, rel=1e-8)
        assert catalog[f"{BLEND}_raw_{role}_xx"][0] == pytest.approx(3.9955436, abs=1e-7)
        assert catalog[f"{BLEND}_raw_{role}_yy"][0] == pytest.approx(5.2848668, abs=1e-7)
    assert catalog[f"{BLEND}_raw"][0] == 0.0
    assert catalog[f"{BLEND}_abs"][0] == 0.0
    assert catalog[f"{BLEND}_old"][0] == 0.0
    assert not catalog[f"{BLEND}_flag"][0]


def test_blendedness_of_neighbours(make_exposure: Any, run_plugins: Any) -> None:
    """See more light in the parent than in the child."""
    j, i = np.mgrid[:61, :61]
    image = _reference() + 5000.0 * np.exp(-0.5 * ((i - 36) ** 2 + (j - 29) ** 2) / 4) / (8 * np.pi)
    boxes = np.array([[20, 18, 32, 42], [33, 20, 48, 40]])
    moments = {name: np.repeat(value, 2) for name, value in MOMENTS.items()}
    catalog = run_plugins(
        [BLEND], make_exposure(image), [30.3, 36.0], [29.6, 29.0], boxes,
        columns=moments, aliases={"slot_Shape": "shape"}, replace=True,
    )  # fmt: skip
    assert (catalog[f"{BLEND}_raw"] > 0.01).all()
    assert (catalog[f"{BLEND}_raw_child_xx"] < catalog[f"{BLEND}_raw_parent_xx"]).all()


def test_blendedness_flags(make_exposure: Any, run_plugins: Any) -> None:
    """Tell missing centroids from missing shapes; measure what can be."""
    count = 6
    x = np.array([30.3, np.nan, 30.3, 30.3, 30.3, 500.0])
    moments = {name: np.repeat(value, count) for name, value in MOMENTS.items()}
    moments["shape_xx"][2] = np.nan
    moments["shape_xy"][3] = 10.0
    moments["shape_flag"] = np.arange(count) == 4
    catalog = run_plugins(
        [BLEND], make_exposure(_reference()), x, np.full(count, 29.6), np.repeat(BOX, count, axis=0),
        columns=moments, aliases={"slot_Shape": "shape"},
    )  # fmt: skip
    assert catalog[f"{BLEND}_flag_noCentroid"].tolist() == [False, True, False, False, False, False]
    assert catalog[f"{BLEND}_flag_noShape"].tolist() == [False, False, True, True, True, False]
    assert catalog[f"{BLEND}_flag"].tolist()[:5] == [False, True, True, True, True]
    flux = catalog[f"{BLEND}_raw_child_instFlux"]
    assert np.isfinite(flux).tolist() == [True, False, False, False, True, False]
    assert flux[0] == flux[4]


def test_denoised_absolute() -> None:
    """Keep bright pixels, and take the noise's mean off dark ones."""
    noise = np.random.default_rng(6).normal(0, 1, 100000)
    bright = denoised_absolute(noise + 100.0, np.ones(noise.shape))
    np.testing.assert_allclose(bright, noise + 100.0, rtol=1e-6)
    dark = denoised_absolute(noise, np.ones(noise.shape))
    # The bias is that of the positive pixel's mean, so not all of it goes.
    assert (dark <= np.abs(noise)).all()
    assert 0 < dark.mean() < 0.75 * np.abs(noise).mean()


def test_size_extendedness(make_exposure: Any, run_plugins: Any) -> None:
    """Compare sizes with the PSF's; flag shapes and PSFs that are bad."""
    name = "base_ClassificationSizeExtendedness"
    columns = {
        "shape_xx": np.array([4.0, 5.0, np.nan, 5.0, 5.0, 5.0]),
        "shape_yy": np.array([5.0, 5.0, 4.0, 5.0, 5.0, 5.0]),
        "shape_xy": np.zeros(6),
        "shape_flag": np.array([False, False, False, True, False, False]),
        "psf_xx": np.array([4.5, 4.5, 4.5, 4.5, 0.0, -9.0]),
        "psf_yy": np.array([4.5, 4.5, 4.5, 4.5, 0.0, 4.5]),
    }
    catalog = run_plugins(
        [name], make_exposure(_reference()), np.full(6, 30.0), np.full(6, 30.0), np.repeat(BOX, 6, axis=0),
        columns=columns, aliases={"slot_Shape": "shape", "slot_PsfShape": "psf"},
    )  # fmt: skip
    expected = [0.0, 1.0 - np.exp(-0.5 / 9.0), *[np.nan] * 4]
    np.testing.assert_allclose(catalog[f"{name}_value"], expected, atol=1e-15)
    assert catalog[f"{name}_flag"].tolist() == [False, False, False, True, True, True]


def test_input_count(make_exposure: Any, run_plugins: Any) -> None:
    """Flag all stars of a single frame."""
    catalog = run_plugins(["base_InputCount"], make_exposure(_reference()), [30.0], [30.0], BOX)
    assert catalog["base_InputCount_flag"].all()
    assert catalog["base_InputCount_flag_noInputs"].all()
    assert catalog["base_InputCount_value"].tolist() == [0]


def _calculate(name: str, columns: dict[str, np.ndarray], exposure: Any) -> SourceCatalog:
    """Run one catalogue calculation plugin."""
    schema = Schema.source_minimal()
    for field, values in columns.items():
        schema.add_field(field, "Flag" if values.dtype == bool else "D")
    schema.set_alias("slot_ModelFlux", "model")
    schema.set_alias("slot_PsfFlux", "psf")
    plugin = catalog_calculation_registry[name]
    made = plugin(plugin.ConfigClass(), name, schema, {})
    footprints = Footprints.from_spans([[(3, 1, 4)], [], [(2, 5, 5), (3, 5, 6)], []])
    catalog = SourceCatalog(schema, 4, footprints=footprints)
    for field, values in columns.items():
        catalog[field] = values
    made.measure(MeasureBatch(catalog, exposure))
    return catalog


def test_catalog_calculations(make_exposure: Any) -> None:
    """Classify by the flux ratio, and count pixels of footprints."""
    name = "base_ClassificationExtendedness"
    columns = {
        "model_instFlux": np.array([100.0, 120.0, np.nan, 100.0]),
        "model_instFluxErr": np.ones(4),
        "model_flag": np.zeros(4, dtype=bool),
        "psf_instFlux": np.full(4, 100.0),
        "psf_instFluxErr": np.ones(4),
        "psf_flag": np.array([False, False, False, True]),
    }
    exposure = make_exposure(_reference())
    catalog = _calculate(name, columns, exposure)
    np.testing.assert_array_equal(catalog[f"{name}_value"], [0.0, 1.0, np.nan, np.nan])
    assert catalog[f"{name}_flag"].tolist() == [False, False, True, True]
    del columns["psf_instFlux"]
    with pytest.raises(MeasurementFatalError, match="PsfFlux"):
        _calculate(name, columns, exposure)
    areas = _calculate("base_FootprintArea", {}, exposure)["base_FootprintArea_value"]
    assert areas.tolist() == [4, 0, 3, 0]
