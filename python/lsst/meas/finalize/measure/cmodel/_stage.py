# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""One fit of an elliptical profile by CModel (spec 05 §6.2, §6.10)."""

from __future__ import annotations

__all__ = ("CModelInputs", "CModelStage", "add_ellipse_fields", "psf_columns", "write_ellipse")

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...apcorr import add_ap_corr_name
from ...catalogs import Schema, SourceCatalog
from ..geometry import transform_quadrupole
from ._config import CModelStageConfig
from ._prior import pack_prior
from ._region import FitPixels
from ._shapelets import FLUX_FACTOR, radial_mixture, shapelet_size

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_TR_SMALL = 0x02
_MAX_ITERATIONS = 0x10 | 0x20
_NAN = 0x80
_FAILED = 0xF0
_XX_YY_XY = ("xx", "yy", "xy")


class CModelInputs(NamedTuple):
    """What all fits of some stars have in common."""

    rows: IntArray
    """Indices of the stars, (n,)."""
    stars: FloatArray
    """Model centre x, y (pixels), d(pixel)/d(fit), flux unit, (n, 7)."""
    fixed: FloatArray
    """Model centre in the fit system (arcsec), (n, 2)."""
    psf: FloatArray
    """PSF components: xx, yy, xy, x, y and six coefficients, (n, P, 11)."""
    orders: IntArray
    """Orders of the PSF components, (P,)."""

    @property
    def jacobians(self) -> FloatArray:
        """Derivatives of pixels with respect to fit coordinates, (n, 2, 2)."""
        return self.stars[:, 2:6].reshape(-1, 2, 2)

    @property
    def flux(self) -> FloatArray:
        """Flux units in counts, (n,)."""
        return self.stars[:, 6]

    def take(self, index: npt.NDArray) -> CModelInputs:
        """Return the inputs of some of the stars."""
        return CModelInputs(
            self.rows[index], self.stars[index], self.fixed[index], self.psf[index], self.orders
        )


def add_ellipse_fields(schema: Schema, prefix: str, doc: str) -> None:
    """Add the three fields of a quadrupole to a schema."""
    for suffix in _XX_YY_XY:
        schema.add_field(f"{prefix}_{suffix}", "D", doc=doc, unit="pixel^2")


def write_ellipse(catalog: SourceCatalog, prefix: str, rows: IntArray, ellipse: FloatArray) -> None:
    """Write quadrupoles (n, 3) of some rows."""
    for k, suffix in enumerate(_XX_YY_XY):
        catalog[f"{prefix}_{suffix}"][rows] = ellipse[:, k]


def psf_columns(schema: Schema, prefix: str) -> list[list[str]]:
    """Find the fields of a shapelet approximation.

    Parameters
    ----------
    schema : `Schema`
        Where to look.
    prefix : `str`
        Prefix of the fields.

    Returns
    -------
    columns : `list` [`list` [`str`]]
        Per component ellipse, centre and coefficients.

    Raises
    ------
    ValueError
        Raised if there is none, or if its order is not supported.
    """
    components: list[list[str]] = []
    while f"{prefix}_{len(components)}_xx" in schema:
        stem = f"{prefix}_{len(components)}"
        names = [f"{stem}_{suffix}" for suffix in ("xx", "yy", "xy", "x", "y")]
        count = 0
        while f"{stem}_{count}" in schema:
            names.append(f"{stem}_{count}")
            count += 1
        if count not in (shapelet_size(0), shapelet_size(1), shapelet_size(2)):
            raise ValueError(f"The shapelet PSF component {stem} has {count} coefficients, not 1, 3 or 6.")
        components.append(names)
    if not components:
        raise ValueError(f"There are no fields {prefix}_0_xx, ... with a shapelet PSF (option psfName).")
    return components


class CModelStage:
    """A fit of one profile to many stars.

    Parameters
    ----------
    config : `CModelStageConfig`
        Options.
    name : `str`
        Prefix of the stage's fields.
    label : `str`
        What the documentation of the fields calls the stage.
    schema : `Schema`
        Receives the fields.

    Raises
    ------
    ValueError
        Raised if there is no such mixture or prior.
    """

    def __init__(self, config: CModelStageConfig, name: str, label: str, schema: Schema) -> None:
        self.config = config
        self.name = name
        mixture = radial_mixture(config.profileName, config.nComponents, config.maxRadius)
        self.moments_factor = mixture.moments_factor
        self.amplitudes = (mixture.amplitudes / FLUX_FACTOR).astype(np.float32)
        self.variances = mixture.variances
        self.prior_kind, self.prior = pack_prior(config)
        self.control = config.optimizer.pack()
        self._add_fields(schema, label)

    def _add_fields(self, schema: Schema, label: str) -> None:
        name = self.name
        schema.add_field(f"{name}_instFlux", "D", doc=f"flux from the {label} fit", unit="count")
        schema.add_field(
            f"{name}_instFluxErr", "D", doc=f"flux uncertainty from the {label} fit", unit="count"
        )
        schema.add_flag(f"{name}_flag", doc=f"flag set when the flux for the {label} flux failed")
        schema.add_field(
            f"{name}_instFlux_inner",
            "D",
            doc="flux within the fit region, with no extrapolation",
            unit="count",
        )
        add_ellipse_fields(schema, f"{name}_ellipse", f"half-light ellipse of the {label} fit")
        schema.add_field(
            f"{name}_objective", "D", doc=f"-ln(likelihood*prior) at best-fit point for the {label} fit"
        )
        for k in range(3):
            schema.add_field(f"{name}_nonlinear_{k}", "D", doc=f"nonlinear parameters for the {label} fit")
        for k in range(2):
            schema.add_field(f"{name}_fixed_{k}", "D", doc=f"fixed parameters for the {label} fit")
        schema.add_flag(
            f"{name}_flag_trSmall",
            doc="the optimizer converged because the trust radius became too small; this is a less-secure "
            "result than when the gradient is below the threshold, but usually not a problem",
        )
        schema.add_flag(
            f"{name}_flag_maxIter",
            doc="the optimizer hit the maximum number of iterations and did not converge",
        )
        if self.config.doRecordHistory:
            schema.add_field(f"{name}_nIter", "I", doc="Number of total iterations in stage")
        if self.config.doRecordTime:
            schema.add_field(f"{name}_time", "D", doc="Time spent in stage", unit="second")
        schema.add_flag(
            f"{name}_flag_numericError",
            doc="numerical underflow or overflow in model evaluation; usually this means the prior was "
            "insufficient to regularize the fit, or all pixel values were zero.",
        )
        schema.add_flag(
            f"{name}_flag_noFlux",
            doc="no flux was measured on the image; this means the error will be non-finite.",
        )
        add_ap_corr_name(name)

    def run(
        self, catalog: SourceCatalog, inputs: CModelInputs, pixels: FitPixels, parameters: FloatArray
    ) -> BoolArray:
        """Fit stars and write the results.

        Parameters
        ----------
        catalog : `SourceCatalog`
            Catalogue to write to.
        inputs : `CModelInputs`
            Stars.
        pixels : `FitPixels`
            Their pixels.
        parameters : `numpy.ndarray`
            Parameters to start from, (n, 4); replaced by fitted ones.

        Returns
        -------
        good : `numpy.ndarray`
            Where the fit succeeded, bool (n,).
        """
        from . import _fit_numba

        results = np.full((len(parameters), 4), np.nan)
        codes = np.zeros((len(parameters), 3), dtype=np.int64)
        begin = time.perf_counter()
        _fit_numba.fit_stage(
            *pixels,
            inputs.stars,
            inputs.psf,
            inputs.orders,
            self.amplitudes,
            self.variances,
            (self.config.usePixelWeights, float(self.config.weightsMultiplier)),
            self.prior_kind,
            self.prior,
            self.control,
            parameters,
            results,
            codes,
        )
        elapsed = time.perf_counter() - begin
        if self.config.usePixelWeights:
            parameters[:, 3] = results[:, 3]
        self._write(catalog, inputs, parameters, results)
        if self.config.doRecordTime:
            # One call fits all stars: share out what it took by work done.
            work = codes[:, 2] * pixels.length
            catalog[f"{self.name}_time"][inputs.rows] = elapsed * work / max(int(work.sum()), 1)
        return self._write_state(catalog, inputs.rows, results, codes)

    def ellipses(self, inputs: CModelInputs, parameters: FloatArray) -> FloatArray:
        """Return half-light ellipses in pixels.

        Parameters
        ----------
        inputs : `CModelInputs`
            Stars.
        parameters : `numpy.ndarray`
            eta1, eta2, ln(radius), ..., (n, 4).
        """
        eta = np.hypot(parameters[:, 0], parameters[:, 1])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            factor = np.where(eta < 1e-8, 1 - eta**2 / 3, np.tanh(eta) / eta)
            size = np.exp(2 * parameters[:, 2])
        d1, d2 = parameters[:, 0] * factor, parameters[:, 1] * factor
        return transform_quadrupole(
            np.stack([size * (1 + d1), size * (1 - d1), size * d2], axis=1), inputs.jacobians
        )

    def _write(
        self, catalog: SourceCatalog, inputs: CModelInputs, parameters: FloatArray, results: FloatArray
    ) -> None:
        """Write what was fitted."""
        rows, name = inputs.rows, self.name
        flux = parameters[:, 3] * inputs.flux
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(results[:, 2]) * flux / results[:, 1]
        catalog[f"{name}_instFlux"][rows] = flux
        catalog[f"{name}_instFluxErr"][rows] = error
        catalog[f"{name}_instFlux_inner"][rows] = results[:, 1]
        write_ellipse(catalog, f"{name}_ellipse", rows, self.ellipses(inputs, parameters))
        catalog[f"{name}_objective"][rows] = results[:, 0]
        for k in range(3):
            catalog[f"{name}_nonlinear_{k}"][rows] = parameters[:, k]
        for k in range(2):
            catalog[f"{name}_fixed_{k}"][rows] = inputs.fixed[:, k]

    def _write_state(
        self, catalog: SourceCatalog, rows: IntArray, results: FloatArray, codes: IntArray
    ) -> BoolArray:
        """Write flags and number of steps; return where the fit succeeded."""
        name, state = self.name, codes[:, 0]
        good = (state & _FAILED) == 0
        catalog[f"{name}_flag"][rows] = ~good
        catalog[f"{name}_flag_trSmall"][rows] = (state & _TR_SMALL) != 0
        catalog[f"{name}_flag_maxIter"][rows] = (state & _MAX_ITERATIONS) != 0
        catalog[f"{name}_flag_numericError"][rows] = (state & _NAN) != 0
        catalog[f"{name}_flag_noFlux"][rows] = results[:, 1] == 0
        if self.config.doRecordHistory:
            catalog[f"{name}_nIter"][rows] = codes[:, 1]
        return good
