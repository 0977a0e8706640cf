# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The selector that finds stars by their size."""

from __future__ import annotations

__all__ = ("ObjectSizeStarSelectorConfig", "ObjectSizeStarSelectorTask", "find_star_locus")

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Field, ListField, registerConfigurable
from lsst.pipe.base import Struct

from .._robust import SIGMA_TO_IQR
from ._columns import get_column, n_rows
from ._selectors import BaseSourceSelectorConfig, BaseSourceSelectorTask, sourceSelectorRegistry

if TYPE_CHECKING:
    from lsst.images import VisitImage

_MAX_ITERATIONS = 20


class ObjectSizeStarSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ObjectSizeStarSelectorTask`."""

    doFluxLimit: Field[bool] = Field(
        "Apply flux limit to Psf Candidate selection?", dtype=bool, default=False
    )
    fluxMin: Field[float] = Field("Minimum flux value for good Psf Candidates.", dtype=float, default=12500.0)
    fluxMax: Field[float] = Field(
        "Maximum flux value for good Psf Candidates (ignored if == 0).", dtype=float, default=0.0
    )
    doSignalToNoiseLimit: Field[bool] = Field(
        "Apply signal-to-noise (i.e. flux/fluxErr) limit to Psf Candidate selection?",
        dtype=bool,
        default=True,
    )
    signalToNoiseMin: Field[float] = Field(
        "Minimum signal-to-noise for good Psf Candidates (value should take into consideration the "
        "detection thresholds set for the catalog of interest).",
        dtype=float,
        default=50.0,
    )
    signalToNoiseMax: Field[float] = Field(
        "Maximum signal-to-noise for good Psf Candidates (ignored if == 0).", dtype=float, default=0.0
    )
    widthMin: Field[float] = Field("Minimum width to include in histogram.", dtype=float, default=0.9)
    widthMax: Field[float] = Field("Maximum width to include in histogram.", dtype=float, default=10.0)
    sourceFluxField: Field[str] = Field(
        "Name of field in Source to use for flux measurement.", dtype=str, default="base_PsfFlux_instFlux"
    )
    widthStdAllowed: Field[float] = Field(
        "Standard deviation of width allowed to be interpreted as good stars.", dtype=float, default=0.15
    )
    nSigmaClip: Field[float] = Field(
        "Keep objects within this many sigma of cluster 0's median.", dtype=float, default=2.0
    )
    badFlags: ListField[str] = ListField(
        "List of flags which cause a source to be rejected as bad.",
        dtype=str,
        default=[
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
            "base_PixelFlags_flag_interpolated",
            "slot_Centroid_flag",
        ],
    )

    def validate(self) -> None:
        """Check that the range of widths isn't empty.

        Raises
        ------
        ValueError
            Raised if ``widthMin`` exceeds ``widthMax``.
        """
        super().validate()
        if self.widthMin > self.widthMax:
            raise ValueError(f"widthMin={self.widthMin} exceeds widthMax={self.widthMax}.")


def find_star_locus(
    width: npt.NDArray[np.floating], width_std_allowed: float, n_sigma_clip: float
) -> tuple[float, float]:
    """Find the narrow pile of stellar widths.

    Parameters
    ----------
    width : `numpy.ndarray`
        Widths of bright objects, (N,), N ≥ 1, finite.
    width_std_allowed : `float`
        Largest standard deviation of the widths of stars.
    n_sigma_clip : `float`
        Number of standard deviations to clip at.

    Returns
    -------
    median, sigma : `float`
        Centre and standard deviation (at most ``width_std_allowed``).
    """
    w = np.sort(width)
    # The fullest window; the one with the smallest widths if there are ties.
    count = np.searchsorted(w, w + 2 * width_std_allowed, side="right") - np.arange(len(w))
    start = int(np.argmax(count))
    cluster = w[start : start + count[start]]
    median, sigma = float(np.median(cluster)), width_std_allowed
    for _ in range(_MAX_ITERATIONS):
        lower, upper = np.percentile(cluster, (25, 75))
        # The interquartile range can vanish for few or quantised widths.
        sigma = min((upper - lower) / SIGMA_TO_IQR, width_std_allowed) or width_std_allowed
        median = float(np.median(cluster))
        new = w[np.abs(w - median) <= n_sigma_clip * sigma]
        if not len(new) or np.array_equal(new, cluster):
            break
        cluster = new
    return median, float(sigma)


@registerConfigurable("objectSize", sourceSelectorRegistry)
class ObjectSizeStarSelectorTask(BaseSourceSelectorTask):
    """Select stars as the pile of small objects in a histogram of widths.

    Notes
    -----
    Bright unflagged objects with a width sqrt((Ixx + Iyy) / 2) (shape slot)
    between ``widthMin`` and ``widthMax`` are considered.  Stars are those
    within ``nSigmaClip`` standard deviations (estimated from the quartiles,
    at most ``widthStdAllowed``) of the median of their pile, which is found
    as the fullest window of width 2 ``widthStdAllowed`` and then refined by
    iterated clipping.  The options and their defaults are upstream's; the
    way of finding the pile is our own, so selections can differ in detail.
    """

    ConfigClass = ObjectSizeStarSelectorConfig
    config: ObjectSizeStarSelectorConfig

    def selectSources(
        self, sourceCat: Any, matches: Any = None, exposure: VisitImage | None = None
    ) -> Struct:
        config = self.config
        good = np.ones(n_rows(sourceCat), dtype=bool)
        for flag in config.badFlags:
            good &= ~get_column(sourceCat, flag, self._option("badFlags")).astype(bool)
        flux = get_column(sourceCat, config.sourceFluxField, self._option("sourceFluxField"))
        xx = get_column(sourceCat, "slot_Shape_xx", self._option("widthMin"))
        yy = get_column(sourceCat, "slot_Shape_yy", self._option("widthMin"))
        with np.errstate(invalid="ignore", divide="ignore"):
            width = np.sqrt(0.5 * (xx + yy))
            good &= np.isfinite(flux) & (width >= config.widthMin) & (width <= config.widthMax)
            if config.doFluxLimit:
                good &= flux > config.fluxMin
                if config.fluxMax > 0:
                    good &= flux < config.fluxMax
            if config.doSignalToNoiseLimit:
                err = get_column(sourceCat, config.sourceFluxField + "Err", self._option("sourceFluxField"))
                good &= flux / err > config.signalToNoiseMin
                if config.signalToNoiseMax > 0:
                    good &= flux / err < config.signalToNoiseMax
        if not good.any():
            self.log.warning("No good object for the histogram of widths among %d sources", len(good))
            return Struct(selected=good)
        median, sigma = find_star_locus(width[good], config.widthStdAllowed, config.nSigmaClip)
        selected = good & (np.abs(width - median) <= config.nSigmaClip * sigma)
        self.log.info("Selected %d/%d sources of width %f +- %f", selected.sum(), good.sum(), median, sigma)
        return Struct(selected=selected)
