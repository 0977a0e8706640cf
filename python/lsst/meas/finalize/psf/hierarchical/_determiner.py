# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The determiner that fits all detectors of a visit at once."""

from __future__ import annotations

__all__ = (
    "DetectorStars",
    "HierarchicalPsfDeterminerConfig",
    "HierarchicalPsfDeterminerTask",
    "VisitPsfFit",
)

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

import lsst.pex.config as pexConfig
from lsst.pipe.base import TaskMetadata

from ...focal_plane import DetectorFrame, frame_of
from .._config import PiffPsfDeterminerConfig
from .._determiner import PiffPsfDeterminerTask, PsfFit, _remove_star_data
from .._piff_setup import make_coordinates, make_piff_config, make_piff_stars, minimum_stars
from .._registry import psfDeterminerRegistry
from .._weights import flat_pixels, good_pixels, sky_variance, star_weights
from ._stars import VisitStars

if TYPE_CHECKING:
    from lsst.images import Box, VisitImage

    from ...catalogs import PsfCandidates, StampSet
    from .._piff_psf import PiffPsf  # noqa: F401  # in the signature that VisitPsfFit inherits
    from ._fit import HierarchicalOptions
    from ._model import VisitPsfModel

_SMOOTH_INTERPOLANTS = re.compile(r"(galsim\.)?Lanczos\(0*[1-9]\d*\)|galsim\.(Cubic|Linear|Quintic)")
"""Those that have a finite kernel and derivatives."""


@dataclass
class VisitPsfFit(PsfFit):
    """A detector's PSF from the fit of a visit.

    Parameters
    ----------
    psf
        The model.
    used
        Which candidates were used, bool, shape (N,); of a fit that was read
        only those are known that were.
    used_ids
        Ids of the stars that were used.
    few_stars
        Whether the detector has too few stars for a fit of its own.
    """

    used_ids: npt.NDArray[np.int64]
    few_stars: bool = False


@dataclass
class DetectorStars:
    """What the fit of a visit needs to know of a detector.

    Parameters
    ----------
    frame
        Where the detector is.
    bbox
        Its pixels.
    band
        Band of the visit.
    total
        Number of candidates, usable or not.
    kept
        Which candidates the following arrays are of, ascending.
    id, x, y, color, color_type
        The stars, as in `PsfCandidates`.
    stamps
        Their pixels.
    good
        Pixels to use.
    weight
        Weights of the pixels for Piff.
    scale
        Pixel scale in arcsec.
    slope
        Growth of a pixel's variance with its signal.
    """

    frame: DetectorFrame
    bbox: Box
    band: str
    total: int
    kept: npt.NDArray[np.int64]
    id: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    color: npt.NDArray[np.float64]
    color_type: npt.NDArray[np.str_]
    stamps: StampSet
    good: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float64]
    scale: float
    slope: float


class HierarchicalPsfDeterminerConfig(PiffPsfDeterminerConfig):
    """Options of `HierarchicalPsfDeterminerTask`.

    Those of Piff hold for stamps, masks and stored models, and for detectors
    that are fitted on their own after all.
    """

    derivativeOrder = pexConfig.RangeField(
        dtype=int,
        doc="Largest order of derivatives of the visit's mean PSF by which PSFs may differ from it.",
        default=4,
        min=2,
        max=6,
        inclusiveMax=True,
    )
    focalPlaneOrder = pexConfig.RangeField(
        dtype=int,
        doc="Degree of the polynomials over the focal plane.",
        default=6,
        min=0,
        max=12,
        inclusiveMax=True,
    )
    detectorOrder = pexConfig.RangeField(
        dtype=int,
        doc="Degree of the polynomials over each detector.",
        default=5,
        min=0,
        max=8,
        inclusiveMax=True,
    )
    priorIterations = pexConfig.RangeField(
        dtype=int,
        doc="Updates of the strength of the priors, which is learnt from the visit.",
        default=8,
        min=2,
    )
    visitMaxSNR = pexConfig.Field[float](
        doc="Stars of a higher signal-to-noise ratio than this get its weight in the fit of the visit; the "
        "scatter of stars about the model, which is learnt, limits their weight, too.",
        default=1000.0,
        check=lambda ratio: ratio > 0,
    )
    heightOrder = pexConfig.RangeField(
        dtype=int,
        doc="Degree of the polynomials of the height of each detector's surface.",
        default=7,
        min=0,
        max=8,
        inclusiveMax=True,
    )
    heightStarts = pexConfig.RangeField(
        dtype=int,
        doc="Random starts of the search for the heights of the detectors' surfaces, which change size and "
        "ellipticity together; with more than 60 detectors fewer are made, but four or more.  0 fits size "
        "and ellipticity without heights.",
        default=8,
        min=0,
    )
    predictWithoutStars = pexConfig.Field[bool](
        doc="Give detectors without usable stars the PSF that the others predict for them?", default=False
    )

    def validate(self) -> None:
        super().validate()
        cls = type(self)
        for field, value in ((cls.useCoordinates, "pixel"), (cls.useColor, False), (cls.samplingSize, 1.0)):
            if getattr(self, field.name) != value:
                raise pexConfig.FieldValidationError(
                    field, self, f"The fit of a visit needs {field.name}={value!r}."
                )
        if _SMOOTH_INTERPOLANTS.fullmatch(self.interpolant) is None:
            raise pexConfig.FieldValidationError(
                cls.interpolant, self, f"The fit of a visit can't interpolate with {self.interpolant!r}."
            )
        if self.piffPsfConfigYaml is not None:
            raise pexConfig.FieldValidationError(
                cls.piffPsfConfigYaml, self, "The fit of a visit has a model of its own."
            )

    def options(self) -> HierarchicalOptions:
        """Return the settings of the fit."""
        from ._fit import HierarchicalOptions

        return HierarchicalOptions(
            derivative_order=self.derivativeOrder,
            focal_order=self.focalPlaneOrder,
            detector_order=self.detectorOrder,
            prior_iterations=self.priorIterations,
            max_snr=self.visitMaxSNR,
            outlier_sigma=self.outlierNSigma,
            min_unmasked=self.minimumUnmaskedFraction,
            interpolant=self.interpolant,
            height_order=self.heightOrder,
            height_starts=self.heightStarts,
        )


@pexConfig.registerConfigurable("hierarchical", psfDeterminerRegistry)
class HierarchicalPsfDeterminerTask(PiffPsfDeterminerTask):
    """Determine the PSF of all detectors of a visit together.

    `gather` takes from each detector what the fit needs, `fit_visit` fits.
    A detector alone is fitted like `PiffPsfDeterminerTask` does.
    """

    ConfigClass: ClassVar = HierarchicalPsfDeterminerConfig
    config: HierarchicalPsfDeterminerConfig
    _DefaultName: ClassVar[str] = "psfDeterminer.Hierarchical"

    def determine_psf(
        self,
        exposure: VisitImage,
        candidates: PsfCandidates,
        metadata: TaskMetadata | MutableMapping[str, Any] | None = None,
        band: str | None = None,
    ) -> PsfFit:
        self.log.info("Fitting the PSF of this detector on its own.")
        return super().determine_psf(exposure, candidates, metadata, band)

    def gather(
        self, exposure: VisitImage, candidates: PsfCandidates, band: str | None = None
    ) -> DetectorStars:
        """Take from a detector what the fit of the visit needs.

        Parameters
        ----------
        exposure
            Image with a sky projection and a detector.
        candidates
            Stars, without reserved ones.
        band
            Band of the image; default that of the exposure.

        Returns
        -------
        stars
            The usable stars.

        Raises
        ------
        ValueError
            Raised if the exposure has no WCS, or no detector whose place in
            the focal plane is known.
        """
        index = self.downsample_candidates(len(candidates))
        chosen = candidates.take(index)
        size = self._stamp_size(chosen)
        # The model has a middle pixel; candidates of even size need not.
        size -= 1 - size % 2
        stamps = chosen.stamps(size)
        good = good_pixels(stamps, self.config.zeroWeightMaskBits)
        weight = star_weights(stamps, good, self.config.maxSNR)
        usable = flat_pixels(good).mean(axis=1) >= self.config.minimumUnmaskedFraction
        usable &= (flat_pixels(weight) > 0.0).any(axis=1)
        kept = np.flatnonzero(usable)
        stamps = stamps.take(kept)
        stamps.image = np.where(np.isfinite(stamps.image), stamps.image, np.float32(0.0))
        chosen = chosen.take(kept)
        return DetectorStars(
            frame=frame_of(exposure),
            bbox=exposure.bbox,
            band=(exposure.band if band is None else band) or "",
            total=len(candidates),
            kept=index[kept],
            id=chosen.id,
            x=chosen.x,
            y=chosen.y,
            color=np.asarray(chosen.color, dtype=np.float64),
            color_type=chosen.color_type,
            stamps=stamps,
            good=good[kept],
            weight=weight[kept],
            scale=make_coordinates(exposure, "pixel").scale,
            slope=_variance_slope(stamps, good[kept]),
        )

    def fit_visit(self, detectors: Mapping[int, DetectorStars]) -> dict[int, VisitPsfFit]:
        """Fit all detectors of a visit.

        Parameters
        ----------
        detectors
            Stars by detector number.

        Returns
        -------
        fits
            PSFs by detector number; none if the visit can't be fitted, for
            a reason that is logged.  A detector without usable stars is left
            out unless ``predictWithoutStars``.
        """
        from ._fit import TooFewStarsError, fit_visit

        numbers = [d for d in sorted(detectors) if len(detectors[d].id) or self.config.predictWithoutStars]
        with_stars = [d for d in numbers if len(detectors[d].id)]
        if len(with_stars) < 2:
            self.log.info("Stars on %d detectors only: each is fitted on its own.", len(with_stars))
            return {}
        chosen = [detectors[d] for d in numbers]
        sizes = {d.stamps.image.shape[1] for d in chosen if len(d.id)}
        if len(sizes) > 1:
            self.log.warning(
                "Stamps of different sizes %s: each detector is fitted on its own.", sorted(sizes)
            )
            return {}
        options = self.config.options()
        if min(sizes) < options.least_size:
            self.log.warning(
                "Stamps of %d pixels are smaller than the %d that derivativeOrder=%d needs: each detector is "
                "fitted on its own.",
                min(sizes),
                options.least_size,
                options.derivative_order,
            )
            return {}
        stars = _join(chosen)
        try:
            model = fit_visit(stars, options)
        except TooFewStarsError as error:
            self.log.warning("%s  Each detector is fitted on its own.", error)
            return {}
        self.log.info("Fitted %d of %d stars on %d detectors.", model.used.sum(), len(stars), len(with_stars))
        return {d: self._export(model, i, detectors[d], stars) for i, d in enumerate(numbers)}

    def _export(
        self, model: VisitPsfModel, index: int, detector: DetectorStars, stars: VisitStars
    ) -> VisitPsfFit:
        """Write one detector's PSF as a Piff model."""
        import galsim

        from .._piff_psf import PiffPsf
        from .._piff_setup import Coordinates
        from ._export import export_piff

        wcs = galsim.PixelScale(detector.scale)
        coordinates = Coordinates(wcs, None, ("x", "y"), detector.scale)
        size = stars.size
        config = make_piff_config(self.config, coordinates, detector.band or None, size)
        minimum, _ = minimum_stars(config)
        config["model"]["size"] = size
        config["model"]["scale"] = float(np.nextafter(detector.scale, 0.0))
        rows = np.flatnonzero(stars.detector == index)
        piff_stars = make_piff_stars(
            detector.stamps,
            detector.weight,
            detector.x,
            detector.y,
            detector.id,
            detector.color,
            detector.color_type,
            coordinates,
        )
        psf = export_piff(model, index, piff_stars, model.used[rows], rows, config, {0: wcs})
        if not self.config.debugStarData:
            _remove_star_data(psf)
        used = np.zeros(detector.total, dtype=bool)
        used[detector.kept[model.used[rows]]] = True
        few = int(np.count_nonzero(model.used[rows])) < minimum
        return VisitPsfFit(PiffPsf(psf, detector.bbox, size), used, detector.id[model.used[rows]], few)


def _variance_slope(stamps: StampSet, good: npt.NDArray[np.bool_]) -> float:
    """Fit the slope of variance against signal, common to all stars."""
    x = flat_pixels(np.where(good, stamps.image, 0.0).astype(np.float64))
    y = flat_pixels(np.where(good, stamps.variance, 0.0).astype(np.float64))
    use = flat_pixels(good)
    number = np.maximum(use.sum(axis=1, keepdims=True), 1)
    dx = np.where(use, x - x.sum(axis=1, keepdims=True) / number, 0.0)
    dy = np.where(use, y - y.sum(axis=1, keepdims=True) / number, 0.0)
    power = (dx**2).sum()
    return max(float((dx * dy).sum() / power), 0.0) if power > 0.0 else 0.0


def _join(detectors: list[DetectorStars]) -> VisitStars:
    """Join the stars of all detectors."""
    with_stars = [d for d in detectors if len(d.id)]
    image = np.concatenate([d.stamps.image for d in with_stars])
    variance = np.concatenate([d.stamps.variance for d in with_stars])
    good = np.concatenate([d.good for d in with_stars])
    return VisitStars(
        frames=[d.frame for d in detectors],
        detector=np.repeat(np.arange(len(detectors)), [len(d.id) for d in detectors]),
        x=np.concatenate([d.x for d in with_stars]),
        y=np.concatenate([d.y for d in with_stars]),
        x0=np.concatenate([d.stamps.x0 for d in with_stars]),
        y0=np.concatenate([d.stamps.y0 for d in with_stars]),
        image=image,
        good=good,
        sky_variance=sky_variance(image, variance, good),
        slope=float(np.median([d.slope for d in with_stars])),
    )
