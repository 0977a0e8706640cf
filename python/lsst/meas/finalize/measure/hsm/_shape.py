# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Ellipticities corrected for the PSF, by GalSim's HSM module."""

from __future__ import annotations

__all__ = (
    "HsmShapeBjConfig",
    "HsmShapeBjPlugin",
    "HsmShapeConfig",
    "HsmShapeKsbConfig",
    "HsmShapeKsbPlugin",
    "HsmShapeLinearConfig",
    "HsmShapeLinearPlugin",
    "HsmShapeRegaussConfig",
    "HsmShapeRegaussPlugin",
)

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, ListField

from ...catalogs import Schema, StampSet
from .._batch import MeasureBatch
from .._errors import MeasurementFatalError
from .._plugin import SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register
from ..pixels import BoxBatch
from ._moments import HSM_FLAGS, measurable_boxes, trace_radii
from ._regauss import regauss_shapes

if TYPE_CHECKING:
    import galsim

_NO_GUESS = 1000.0


class HsmShapeConfig(SingleFramePluginConfig):
    """Options common to the PSF-corrected shapes."""

    deblendNChild = Field[str](doc="Field name for number of deblend children.", default="")
    badMaskPlanes = ListField[str](
        doc="Mask planes that indicate pixels that should be excluded from the fit.",
        default=["BAD", "SAT"],
    )

    @property
    def shearType(self) -> str:
        """Name of GalSim's shear estimator."""
        raise NotImplementedError()


class HsmShapeBjConfig(HsmShapeConfig):
    """Options of the Bernstein & Jarvis method."""

    @property
    def shearType(self) -> str:
        return "BJ"


class HsmShapeLinearConfig(HsmShapeConfig):
    """Options of the linear method."""

    @property
    def shearType(self) -> str:
        return "LINEAR"


class HsmShapeKsbConfig(HsmShapeConfig):
    """Options of the KSB method."""

    @property
    def shearType(self) -> str:
        return "KSB"


class HsmShapeRegaussConfig(HsmShapeConfig):
    """Options of the re-Gaussianization method."""

    @property
    def shearType(self) -> str:
        return "REGAUSS"


class HsmShapePlugin(SingleFramePlugin):
    """Base of the plugins that correct shapes for the PSF (spec 04 §9)."""

    ConfigClass: ClassVar[type[SingleFramePluginConfig]] = HsmShapeConfig
    execution_order: ClassVar[float] = SHAPE_ORDER
    _doc: ClassVar[str]
    _letter: ClassVar[str] = "e"

    def __init__(
        self,
        config: SingleFramePluginConfig,
        name: str,
        schema: Schema,
        metadata: MutableMapping[str, Any],
    ) -> None:
        super().__init__(config, name, schema, metadata)
        for flag, doc in list(HSM_FLAGS.items())[:5]:
            schema.add_flag(f"{name}_{flag}", doc)
        quantity = "ellipticity" if self._letter == "e" else "shear"
        values = {
            f"{self._letter}1": f"{self._doc} (+ component of {quantity})",
            f"{self._letter}2": f"{self._doc} (x component of {quantity})",
            "sigma": f"{self._doc} (shape measurement uncertainty per component)",
            "resolution": "Resolution factor (0=unresolved, 1=resolved)",
        }
        self.fields = [f"{name}_{suffix}" for suffix in values]
        for field, doc in zip(self.fields, values.values(), strict=True):
            schema.add_field(field, "D", doc=doc)
        self.children = self._find_children(schema)
        alias_centroid_flag(schema, name)

    def _find_children(self, schema: Schema) -> str | None:
        """Return the field with the number of children, if one is named."""
        name = self.config.deblendNChild
        if name and name not in schema:
            raise MeasurementFatalError(f"Plugin {self.name} needs the field {name!r} (deblendNChild).")
        return schema.resolve(name) if name else None

    def measure(self, batch: MeasureBatch) -> None:
        rows = batch.start(self.name)
        if batch.psf is None:
            batch.fail(rows, self.name)
            return
        usable = measurable_boxes(batch, rows)
        if self.children is not None:
            usable &= ~(batch.catalog[self.children][rows] > 0)
        batch.fail(rows[~usable], self.name)
        rows = batch.drop_undrawable(rows[usable], batch.psf_shapes(), batch.x, batch.y, self.name)
        if not len(rows):
            return
        values: dict[int, tuple[float, ...]] = {}
        for part, stamps in batch.footprint_cutouts(rows):
            good = ~stamps.bad(self.config.badMaskPlanes)
            sky_variance = _median_variances(stamps, good, part.sizes)
            values |= self._estimate_all(batch, part, stamps, good, sky_variance)
        measured = np.fromiter(values, dtype=np.int64, count=len(values))
        # Quirk: success clears the flag of a doubtful centroid.
        batch.catalog[f"{self.name}_flag"][rows] = ~np.isin(rows, measured)
        columns = np.array(list(values.values()), dtype=np.float64).reshape(-1, len(self.fields)).T
        for field, column in zip(self.fields, columns, strict=True):
            batch.catalog[field][measured] = column

    def _estimate_all(
        self,
        batch: MeasureBatch,
        part: BoxBatch,
        stamps: StampSet,
        good: npt.NDArray[np.bool_],
        sky_variance: npt.NDArray[np.float32],
    ) -> dict[int, tuple[float, ...]]:
        """Return the results, by row, of stars that can be measured."""
        return self._ask_galsim(batch, part, stamps, good, sky_variance, np.arange(len(part.rows)))

    def _ask_galsim(
        self,
        batch: MeasureBatch,
        part: BoxBatch,
        stamps: StampSet,
        good: npt.NDArray[np.bool_],
        sky_variance: npt.NDArray[np.float32],
        members: npt.NDArray[np.int64],
    ) -> dict[int, tuple[float, ...]]:
        """Return what GalSim measures of some of the stars."""
        import galsim

        values: dict[int, tuple[float, ...]] = {}
        weights = good.astype(np.int32)
        psf_images, _, _ = batch.psf_images("star")
        sigma = trace_radii(batch)
        # GalSim takes one star at a time.
        for k, row in zip(members, part.rows[members], strict=True):
            width, height = (int(v) for v in part.sizes[k])
            x0, y0 = int(stamps.x0[k]), int(stamps.y0[k])
            bounds = galsim.BoundsI(x0, x0 + width - 1, y0, y0 + height - 1)
            estimate = self._estimate(
                galsim._Image(stamps.image[k, :height, :width], bounds, None),
                galsim._Image(weights[k, :height, :width], bounds, None),
                float(sky_variance[k]),
                psf_images[row],
                (float(batch.x[row]), float(batch.y[row])),
                float(sigma[row]),
            )
            if estimate is not None:
                values[int(row)] = estimate
        return values

    def _estimate(
        self,
        image: galsim.Image,
        weight: galsim.Image,
        sky_variance: float,
        psf_image: npt.NDArray[np.float64],
        centroid: tuple[float, float],
        sigma: float,
    ) -> tuple[float, ...] | None:
        """Let GalSim measure one star; `None` if it can't."""
        import galsim

        height, width = psf_image.shape
        try:
            shear = galsim.hsm.EstimateShear(
                image,
                galsim._Image(psf_image, galsim.BoundsI(0, width - 1, 0, height - 1), None),
                weight=weight,
                badpix=None,
                sky_var=sky_variance,
                shear_est=self.config.shearType,
                recompute_flux="FIT",
                guess_sig_gal=2.5 * sigma,
                guess_sig_PSF=sigma,
                precision=1.0e-6,
                guess_centroid=galsim.PositionD(*centroid),
                strict=True,
                check=False,
            )
        except galsim.GalSimError:
            return None
        if self._letter == "g":
            components = shear.corrected_g1, shear.corrected_g2, shear.corrected_shape_err
        else:
            components = shear.corrected_e1, shear.corrected_e2, 2.0 * shear.corrected_shape_err
        return *components, shear.resolution_factor


def _median_variances(
    stamps: StampSet, good: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the median variance of the good pixels in each footprint's box,
    (N,); NaN without any.
    """
    height, width = stamps.shape[1:]
    usable = good & np.isfinite(stamps.variance)
    usable &= (np.arange(width) < sizes[:, :1, None]) & (np.arange(height)[:, None] < sizes[:, 1:, None])
    ordered = np.where(usable, stamps.variance, np.float32(np.inf)).reshape(len(good), -1)
    ordered.sort(axis=1)
    count = np.count_nonzero(usable, axis=(1, 2))
    low, high = (
        np.take_along_axis(ordered, np.maximum(middle, 0)[:, None], axis=1)[:, 0]
        for middle in ((count - 1) // 2, count // 2)
    )
    return np.where(count > 0, (low + high) / np.float32(2.0), np.float32(np.nan))


@register("ext_shapeHSM_HsmShapeBj")
class HsmShapeBjPlugin(HsmShapePlugin):
    """Shapes corrected as in Bernstein & Jarvis (2002)."""

    ConfigClass = HsmShapeBjConfig
    _doc = "PSF-corrected shear using Bernstein & Jarvis (2002) method"


@register("ext_shapeHSM_HsmShapeLinear")
class HsmShapeLinearPlugin(HsmShapePlugin):
    """Shapes corrected with the linear method of Hirata & Seljak (2003)."""

    ConfigClass = HsmShapeLinearConfig
    _doc = "PSF-corrected shear using Hirata & Seljak (2003) 'linear' method"


@register("ext_shapeHSM_HsmShapeKsb")
class HsmShapeKsbPlugin(HsmShapePlugin):
    """Shears measured as in Kaiser, Squires & Broadhurst (1995)."""

    ConfigClass = HsmShapeKsbConfig
    _doc = "PSF-corrected shear using KSB method"
    _letter = "g"


@register("ext_shapeHSM_HsmShapeRegauss")
class HsmShapeRegaussPlugin(HsmShapePlugin):
    """Shapes corrected by re-Gaussianization, Hirata & Seljak (2003)."""

    ConfigClass = HsmShapeRegaussConfig
    _doc = "PSF-corrected shear using Hirata & Seljak (2003) 'regaussianization' method"

    def _estimate_all(
        self,
        batch: MeasureBatch,
        part: BoxBatch,
        stamps: StampSet,
        good: npt.NDArray[np.bool_],
        sky_variance: npt.NDArray[np.float32],
    ) -> dict[int, tuple[float, ...]]:
        x, y = batch.x[part.rows], batch.y[part.rows]
        sigma = trace_radii(batch)[part.rows]
        psf_images = batch.psf_images("star")[0][part.rows]
        guess = np.stack([x - part.x0, y - part.y0, 2.5 * sigma, sigma], axis=1)
        shapes = regauss_shapes(stamps.image, good, part.sizes, guess, psf_images, sky_variance)
        # Quirk: for GalSim a guess of exactly this number is none.
        no_guess = (x == _NO_GUESS) | (y == _NO_GUESS)
        undecided = np.flatnonzero(shapes.undecided | no_guess)
        values = self._ask_galsim(batch, part, stamps, good, sky_variance, undecided)
        decided = np.flatnonzero(shapes.measured & ~no_guess)
        results = shapes.values[decided].astype(np.float64)
        results[:, 2] *= 2.0
        rows = part.rows[decided].tolist()
        return values | dict(zip(rows, map(tuple, results.tolist()), strict=True))
