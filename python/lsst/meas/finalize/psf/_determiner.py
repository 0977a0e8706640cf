# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tasks that determine the PSF of an image from its stars."""

from __future__ import annotations

__all__ = ("BasePsfDeterminerTask", "PiffPsfDeterminerTask", "PsfFit")

import abc
import copy
import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

import lsst.pex.config as pexConfig
from lsst.pipe.base import Task, TaskMetadata
from lsst.utils.logging import getLogger

from ..catalogs import mask_planes, plane_bits
from ._config import BasePsfDeterminerConfig, PiffPsfDeterminerConfig
from ._errors import PiffTooFewGoodStarsError
from ._fit import fit
from ._piff_setup import (
    Coordinates,
    count_distinct,
    make_coordinates,
    make_piff_config,
    make_piff_stars,
    minimum_stars,
)
from ._registry import psfDeterminerRegistry
from ._weights import flat_pixels, good_pixels, star_weights

if TYPE_CHECKING:
    import piff

    from lsst.images import VisitImage

    from ..catalogs import PsfCandidates, StampSet
    from ._piff_psf import PiffPsf

_MIN_COLOR_DIFFERENCE = 1e-6
"""Least difference in magnitudes of colours that count as different."""

_LOG_LEVELS = (logging.CRITICAL, logging.WARNING, logging.INFO, logging.DEBUG)
_FIT_ATTRIBUTES = ("params", "params_var", "A", "b")
_DATA_ATTRIBUTES = ("image", "weight", "orig_weight")


@dataclass
class PsfFit:
    """A PSF and the stars it was made of.

    Parameters
    ----------
    psf
        The model.
    used
        Which candidates were used, bool, shape (N,).
    """

    psf: PiffPsf
    used: npt.NDArray[np.bool_]


class BasePsfDeterminerTask(Task, abc.ABC):
    """Base class of tasks that determine a PSF (spec 01 §5.1)."""

    ConfigClass: ClassVar = BasePsfDeterminerConfig
    config: BasePsfDeterminerConfig
    _DefaultName: ClassVar[str] = "psfDeterminer"

    def downsample_candidates(self, number: int) -> npt.NDArray[np.int64]:
        """Choose the candidates to look at.

        Parameters
        ----------
        number
            Number of candidates.

        Returns
        -------
        `numpy.ndarray`
            Ascending indices, at most ``config.maxCandidates``.
        """
        limit = self.config.maxCandidates
        if number <= limit:
            return np.arange(number)
        self.log.info("Down-sampling from %d to %d psf candidates.", number, limit)
        rng = np.random.RandomState(seed=self.config.downsampleRandomSeed)
        return np.sort(rng.choice(number, size=limit, replace=False))

    def check(self, exposure: VisitImage) -> None:
        """Raise if options don't fit an image.

        This is called before the PSF is determined, whose failure is not one
        of the task.

        Parameters
        ----------
        exposure
            Image the candidates are on.

        Raises
        ------
        ValueError
            Raised if an option names what the image can't have.
        """

    @abc.abstractmethod
    def determine_psf(
        self,
        exposure: VisitImage,
        candidates: PsfCandidates,
        metadata: TaskMetadata | MutableMapping[str, Any] | None = None,
        band: str | None = None,
    ) -> PsfFit:
        """Determine the PSF of an image.

        Parameters
        ----------
        exposure
            Image the candidates are on.
        candidates
            Stars.
        metadata
            Where to put statistics of the fit.
        band
            Band of the image; default that of the exposure.

        Returns
        -------
        PsfFit
            The PSF and who was used.
        """
        raise NotImplementedError


@pexConfig.registerConfigurable("piff", psfDeterminerRegistry)
class PiffPsfDeterminerTask(BasePsfDeterminerTask):
    """Determine the PSF with Piff (spec 01 §5.3).

    The model is a grid of pixels whose values are polynomials of position
    (and colour), unless ``piffPsfConfigYaml`` says otherwise.
    """

    ConfigClass: ClassVar = PiffPsfDeterminerConfig
    config: PiffPsfDeterminerConfig
    _DefaultName: ClassVar[str] = "psfDeterminer.Piff"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Piff needs the level "verbose" of this kind of logger.
        self.piffLogger = getLogger(f"{self.log.name}.piff")
        self.piffLogger.setLevel(_LOG_LEVELS[self.config.piffLoggingLevel])

    def check(self, exposure: VisitImage) -> None:
        planes = mask_planes(exposure.mask.schema)
        try:
            plane_bits(planes, self.config.zeroWeightMaskBits)
        except ValueError as error:
            raise ValueError(f"zeroWeightMaskBits of the PSF determiner: {error}") from error

    def determine_psf(
        self,
        exposure: VisitImage,
        candidates: PsfCandidates,
        metadata: TaskMetadata | MutableMapping[str, Any] | None = None,
        band: str | None = None,
    ) -> PsfFit:
        """Determine the PSF of an image.

        Parameters
        ----------
        exposure
            Image the candidates are on, with a sky projection.
        candidates
            Stars.
        metadata
            Where to put statistics of the fit.
        band
            Band of the image; default that of the exposure.

        Returns
        -------
        PsfFit
            The PSF (a `PiffPsf`) and who was used.

        Raises
        ------
        PiffTooFewGoodStarsError
            Raised if there are fewer good stars than the model needs.
        PsfUnsolvableError
            Raised if the structured fitter doesn't solve for the model, and
            it has too many unknowns to leave it to Piff.
        ValueError
            Raised if the exposure lacks a WCS (or, for field angles, a
            detector), if candidates have colours of different types, or if
            ``piffPsfConfigYaml`` is no YAML mapping.
        RuntimeError
            Raised by Piff if it can't fit the stars.
        """
        total = len(candidates.id)
        index = self.downsample_candidates(total)
        chosen = candidates.take(index)
        stamp_size = self._stamp_size(chosen)
        coordinates = make_coordinates(exposure, self.config.useCoordinates)
        piff_config = make_piff_config(
            self.config, coordinates, exposure.band if band is None else band, stamp_size
        )
        minimum, dimensions = minimum_stars(piff_config)
        if total == 0:
            raise PiffTooFewGoodStarsError(0, minimum, dimensions)
        kept, stars = self._make_stars(chosen, stamp_size, coordinates)
        piff_config = self._limit_color_order(piff_config, stars)
        psf = self._fit(stars, piff_config, coordinates)
        self._warn_unless_converged(psf)
        used = np.zeros(total, dtype=bool)
        fitted = np.array([not (star.is_flagged or star.is_reserve) for star in psf.stars], dtype=bool)
        used[index[kept[fitted]]] = True
        if metadata is not None:
            self._add_metadata(metadata, psf, used, candidates)
        if not self.config.debugStarData:
            _remove_star_data(psf)
        draw_size = 2 * int(np.floor(0.5 * stamp_size / self.config.samplingSize)) + 1
        from ._piff_psf import PiffPsf

        return PsfFit(PiffPsf(psf, exposure.bbox, draw_size), used)

    def _stamp_size(self, candidates: PsfCandidates) -> int:
        size: int | None = self.config.stampSize
        if size is None:
            return candidates.width
        if size > candidates.width:
            self.log.warning(
                "stampSize is larger than the PSF candidate size. Using candidate size %d instead of %d.",
                candidates.width,
                size,
            )
            return candidates.width
        return size

    def _make_stars(
        self, candidates: PsfCandidates, stamp_size: int, coordinates: Coordinates
    ) -> tuple[npt.NDArray[np.int64], list[piff.Star]]:
        """Make stars of the usable candidates; also return which those are."""
        stamps = candidates.stamps(stamp_size)
        good = good_pixels(stamps, self.config.zeroWeightMaskBits)
        usable = good.mean(axis=(1, 2)) >= self.config.minimumUnmaskedFraction
        weights = star_weights(stamps, good, self.config.maxSNR)
        no_weight = usable & ~(flat_pixels(weights) > 0.0).any(axis=1)
        if no_weight.any():
            self.log.warning(
                "Not using %d PSF candidates whose variance without signal isn't positive.", no_weight.sum()
            )
        kept = np.flatnonzero(usable & ~no_weight)
        colors, color_types = self._colors(candidates, kept)
        stars = make_piff_stars(
            _finite_pixels(stamps.take(kept)),
            weights[kept],
            candidates.x[kept],
            candidates.y[kept],
            candidates.id[kept],
            colors,
            color_types,
            coordinates,
        )
        return kept, stars

    def _colors(
        self, candidates: PsfCandidates, kept: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
        """Return colours of stars; those unknown become the mean colour."""
        colors = np.array(candidates.color[kept], dtype=float)
        types = np.array(candidates.color_type[kept], dtype=str)
        if not self.config.useColor:
            return colors, types
        finite = np.isfinite(colors)
        known = sorted(set(types[finite].tolist()) | set(types[types != ""].tolist()))
        if len(known) > 1:
            raise ValueError(f"PSF candidates have colors of different types: {known}.")
        if not finite.any():
            self.log.warning("No PSF candidate has a color; using 0 for all of them.")
        colors[~finite] = colors[finite].mean() if finite.any() else 0.0
        return colors, np.full(len(types), known[0] if known else "")

    def _limit_color_order(self, piff_config: dict[str, Any], stars: list[piff.Star]) -> dict[str, Any]:
        """Return the configuration with no more orders of colour than the
        stars' colours can tell apart.
        """
        text: str | None = self.config.piffPsfConfigYaml
        if text is not None or not self.config.useColor:
            return piff_config
        wanted: int = self.config.colorOrder
        number = count_distinct(np.array([star["colorValue"] for star in stars]), _MIN_COLOR_DIFFERENCE)
        order = min(wanted, max(number - 1, 0))
        if order == wanted:
            return piff_config
        self.log.warning(
            "PSF candidates have %d different colors; fitting with order %d instead of %d in color.",
            number,
            order,
            wanted,
        )
        result = copy.deepcopy(piff_config)
        result["interp"]["order"][-1] = order
        return result

    def _fit(self, stars: list[piff.Star], piff_config: dict[str, Any], coordinates: Coordinates) -> piff.PSF:
        """Fit, with a constant model if allowed and needed."""
        minimum, dimensions = minimum_stars(piff_config)
        if len(stars) < minimum:
            piff_config, minimum = self._constant_model(piff_config, len(stars)), 1
        psf = self._run_fitter(stars, piff_config, coordinates)
        used = _count_used(psf)
        if used < minimum and minimum > 1:
            # Upstream only changes the order of the model that was built
            # already, without effect; we build another one.
            piff_config, minimum = self._constant_model(piff_config, used), 1
            psf = self._run_fitter(stars, piff_config, coordinates)
            used = _count_used(psf)
        # A model without a minimum can lose all its stars, too.
        if used < max(minimum, 1):
            raise PiffTooFewGoodStarsError(used, max(minimum, 1), dimensions)
        return psf

    def _run_fitter(
        self, stars: list[piff.Star], piff_config: dict[str, Any], coordinates: Coordinates
    ) -> piff.PSF:
        if not stars:
            raise PiffTooFewGoodStarsError(0, *minimum_stars(piff_config))
        return fit(
            self.config.fitter, stars, piff_config, coordinates.wcs, coordinates.pointing, self.piffLogger
        )

    def _constant_model(self, piff_config: dict[str, Any], number: int) -> dict[str, Any]:
        """Return the configuration of order 0 or, if not allowed, raise."""
        minimum, dimensions = minimum_stars(piff_config)
        if not self.config.zerothOrderInterpNotEnoughStars:
            raise PiffTooFewGoodStarsError(number, minimum, dimensions)
        self.log.warning(
            "Only %d stars found, %d needed for the polynomial; fitting a constant PSF.", number, minimum
        )
        result = copy.deepcopy(piff_config)
        order = result["interp"]["order"]
        result["interp"]["order"] = [0] * len(order) if isinstance(order, list | tuple) else 0
        if self.config.zerothOrderInterpSingleStep:
            result["max_iter"] = 1
        return result

    def _warn_unless_converged(self, psf: piff.PSF) -> None:
        """Tell if chi-square still changed in the last iteration."""
        # The first iteration has nothing to compare with.
        if psf.niter > 1 and abs(psf.last_delta_chisq) > psf.chisq_thresh * psf.dof:
            self.log.warning(
                "The PSF fit did not converge: chi-square per degree of freedom changed by %.3g to %.3g "
                "in the last of %d iterations.",
                -psf.last_delta_chisq / psf.dof,
                psf.chisq / psf.dof,
                psf.niter,
            )

    def _add_metadata(
        self,
        metadata: TaskMetadata | MutableMapping[str, Any],
        psf: piff.PSF,
        used: npt.NDArray[np.bool_],
        candidates: PsfCandidates,
    ) -> None:
        metadata["spatialFitChi2"] = float(psf.chisq)
        metadata["numAvailStars"] = len(psf.stars)
        metadata["numGoodStars"] = int(used.sum())
        metadata["avgX"] = float(np.mean(candidates.x[used]))
        metadata["avgY"] = float(np.mean(candidates.y[used]))


def _count_used(psf: piff.PSF) -> int:
    return sum(not (star.is_flagged or star.is_reserve) for star in psf.stars)


def _finite_pixels(stamps: StampSet) -> StampSet:
    """Return stamps with non-finite pixels (which have weight 0) set to 0."""
    result = copy.copy(stamps)
    result.image = np.where(np.isfinite(stamps.image), stamps.image, np.float32(0.0))
    return result


def _remove_star_data(psf: piff.PSF) -> None:
    """Delete from a model's stars what drawing doesn't need."""
    # Piff's stars are separate objects.
    for star in psf.stars:
        for owner, names in ((star.fit, _FIT_ATTRIBUTES), (star.data, _DATA_ATTRIBUTES)):
            for name in names:
                owner.__dict__.pop(name, None)
