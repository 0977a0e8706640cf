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
from .._plugin import SHAPE_ORDER, SingleFramePlugin, SingleFramePluginConfig, alias_centroid_flag, register
from ..pixels import box_batches
from ._moments import HSM_FLAGS, measurable_boxes, trace_radii

if TYPE_CHECKING:
    import galsim


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
        self.children = schema.resolve(self.config.deblendNChild) if self.config.deblendNChild else None
        alias_centroid_flag(schema, name)

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
        psf_images, _, _ = batch.psf_images("star")
        sigma = trace_radii(batch)
        for part in box_batches(batch.bboxes, rows):
            stamps = batch.cutout(part.x0, part.y0, part.width, part.height, part.rows)
            good = ~stamps.bad(self.config.badMaskPlanes)
            # GalSim takes one star at a time.
            for k, row in enumerate(part.rows):
                values = self._estimate(
                    _window(stamps, good, k, part.sizes[k]),
                    psf_images[row],
                    (float(batch.x[row]), float(batch.y[row])),
                    float(sigma[row]),
                )
                self._store(batch, row, values)

    def _store(self, batch: MeasureBatch, row: int, values: tuple[float, ...] | None) -> None:
        """Write one star's result, `None` if it failed."""
        # Quirk: success clears the flag of a doubtful centroid.
        batch.catalog[f"{self.name}_flag"][row] = values is None
        if values is not None:
            for field, value in zip(self.fields, values, strict=True):
                batch.catalog[field][row] = value

    def _estimate(
        self,
        window: tuple[galsim.Image, galsim.Image, np.floating],
        psf_image: npt.NDArray[np.float64],
        centroid: tuple[float, float],
        sigma: float,
    ) -> tuple[float, ...] | None:
        """Let GalSim measure one star; `None` if it can't."""
        import galsim

        image, weight, sky_variance = window
        try:
            shear = galsim.hsm.EstimateShear(
                image,
                galsim.Image(psf_image, xmin=0, ymin=0),
                weight=weight,
                badpix=None,
                sky_var=float(sky_variance),
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


def _window(
    stamps: StampSet, good: npt.NDArray[np.bool_], k: int, size: npt.NDArray[np.int64]
) -> tuple[galsim.Image, galsim.Image, np.floating]:
    """Return image, weight and median variance in one footprint's box."""
    import galsim

    view = (k, slice(int(size[1])), slice(int(size[0])))
    origin = {"xmin": int(stamps.x0[k]), "ymin": int(stamps.y0[k])}
    image = galsim.Image(np.ascontiguousarray(stamps.image[view]), **origin)
    weight = galsim.Image(good[view].astype(np.int32), **origin)
    variance = stamps.variance[view]
    variance = variance[good[view] & np.isfinite(variance)]
    return image, weight, np.median(variance) if len(variance) else np.float32(np.nan)


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
