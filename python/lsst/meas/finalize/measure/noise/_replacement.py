# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Replacement of other sources by noise (spec 03 §2).

Upstream changes the exposure for one source after the other.  Here one image
with noise in place of all sources is made, or the exposure itself is until the
end; a star's own pixels are pasted into its private cut-outs of it, after what
measuring the stars before it would have left behind.
"""

from __future__ import annotations

__all__ = (
    "DetectedFootprints",
    "NoiseReplacer",
    "check_footprints",
    "find_rows",
    "get_footprints_from_catalog",
)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...catalogs import Footprints, SourceCatalog, StampSet, informative_variance
from ..pixels import clipped_mean_std, cut_boxes
from ._config import NoiseReplacerConfig
from ._ziggurat import seed_state, ziggurat_tables

if TYPE_CHECKING:
    from lsst.images import VisitImage


type IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DetectedFootprints:
    """Footprints of everything detected on an image.

    Parameters
    ----------
    id, parent : `numpy.ndarray`
        Identifiers of sources and their parents (0: none), int64 (M,).
    footprints : `Footprints`
        Their footprints.
    """

    id: IntArray
    parent: IntArray
    footprints: Footprints


def get_footprints_from_catalog(catalog: SourceCatalog) -> DetectedFootprints:
    """Return the footprints of a catalogue's sources.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Catalogue with footprints.

    Returns
    -------
    detected : `DetectedFootprints`
        Identifiers, parents and footprints in catalogue order.

    Raises
    ------
    ValueError
        Raised if the catalogue has no footprints.
    """
    if catalog.footprints is None:
        raise ValueError("The source catalog has no footprints.")
    return DetectedFootprints(catalog["id"], catalog["parent"], catalog.footprints)


def check_footprints(detected: DetectedFootprints, exposure: VisitImage) -> None:
    """Raise if noise cannot be put in place of sources.

    Parameters
    ----------
    detected : `DetectedFootprints`
        All sources on the image.
    exposure : `lsst.images.VisitImage`
        Image with all sources.

    Raises
    ------
    ValueError
        Raised if identifiers are not unique, if a source has no footprint,
        or one that leaves the image.
    """
    footprints = detected.footprints
    ids, counts = np.unique(detected.id, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"Source ids are not unique: {_some(ids[counts > 1])}.")
    if not footprints.present.all():
        raise ValueError(f"Sources without a footprint: {_some(detected.id[~footprints.present])}.")
    box = exposure.bbox
    x_min, y_min, x_max, y_max = footprints.bboxes.T
    outside = (x_min < box.x.start) | (y_min < box.y.start) | (x_max >= box.x.stop) | (y_max >= box.y.stop)
    # Only these are replaced by noise.
    outside &= (footprints.area > 0) & (footprints.is_heavy | (detected.parent == 0))
    rows = np.flatnonzero(outside)
    if len(rows):
        raise ValueError(
            f"Footprints of sources {_some(detected.id[rows])} reach outside the image "
            f"{box}; the first has the bounding box {footprints.bboxes[rows[0]].tolist()}."
        )


def _some(values: npt.ArrayLike) -> str:
    """Format up to five values for an error message."""
    array = np.asarray(values)
    return ", ".join(str(v) for v in array[:5]) + (", …" if len(array) > 5 else "")


def find_rows(detected: DetectedFootprints, ids: IntArray, what: str) -> IntArray:
    """Return where identifiers are among the detected ones.

    Parameters
    ----------
    detected : `DetectedFootprints`
        Everything detected.
    ids : `numpy.ndarray`
        Identifiers to look up.
    what : `str`
        What they are of, for the error message.

    Returns
    -------
    rows : `numpy.ndarray`
        Row of each identifier, int64.

    Raises
    ------
    ValueError
        Raised if one is not there.
    """
    order = np.argsort(detected.id, kind="stable")
    position = np.searchsorted(detected.id[order], ids)
    rows = order[np.minimum(position, max(len(order) - 1, 0))] if len(order) else np.zeros(0, np.int64)
    missing = np.ones(len(ids), dtype=bool) if not len(order) else detected.id[rows] != ids
    if missing.any():
        raise ValueError(f"{what} have no footprint in the source catalog: {_some(ids[missing])}.")
    return rows.astype(np.int64)


def _can_be_borrowed(array: npt.NDArray[Any]) -> bool:
    """Tell whether pixels can be changed for a while and nobody sees it."""
    # What is mapped to a file, or belongs to another library, is left alone.
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return (
        array.dtype == np.float32
        and bool(array.flags.c_contiguous and array.flags.writeable and owner.flags.owndata)
        and type(owner) is np.ndarray
    )


class NoiseReplacer:
    """Pixels of stars among noise.

    Parameters
    ----------
    config : `NoiseReplacerConfig`
        How to make the noise.
    exposure : `lsst.images.VisitImage`
        Image with all sources.  It is not changed but with ``in_place``.
    detected : `DetectedFootprints`
        All sources on the image.
    measured_ids : `numpy.ndarray`
        Identifiers of the stars to measure, in the order of measurement.
    exposure_id : `int`, optional
        Identifier to seed the generator with.
    noise_image : `numpy.ndarray`, optional
        Noise to use instead of a random one, shaped like the image.
    in_place : `bool`, optional
        Whether the exposure may show the noise until `end` is called, which
        saves a copy of the image.  One is made all the same of pixels that
        can't be changed, or aren't in memory of NumPy's own.

    Raises
    ------
    ValueError
        Raised if identifiers are not unique or not found, if a source has no
        footprint or one that leaves the image, or if parents form a cycle.
    """

    def __init__(
        self,
        config: NoiseReplacerConfig,
        exposure: VisitImage,
        detected: DetectedFootprints,
        measured_ids: IntArray,
        exposure_id: int | None = None,
        noise_image: npt.NDArray[np.float32] | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        self._exposure = exposure
        self._source = np.ascontiguousarray(exposure.image.array, dtype=np.float32).view()
        # One kind of array, for which the kernels are compiled, whether the
        # pixels are ours to change or not.
        self._source.flags.writeable = False
        self._origin = exposure.bbox.x.start, exposure.bbox.y.start
        self._detected = detected
        self._footprints = detected.footprints
        check_footprints(detected, exposure)
        is_heavy = self._footprints.is_heavy
        # Footprints with pixels of their own: heavy ones and whole parents.
        self._replaced = np.flatnonzero(is_heavy | (detected.parent == 0))
        self._top_level = np.flatnonzero(detected.parent == 0)
        self._bboxes = np.asarray(self._footprints.bboxes, dtype=np.int64)
        self._own = self._resolve_own(find_rows(detected, np.asarray(measured_ids), "Measured sources"))
        self._start = np.where(is_heavy, self._footprints.heavy_offsets[:-1], -1).astype(np.int64)
        self._keep, n_keep = self._places(np.unique(self._own))
        self._noise = np.zeros(n_keep, dtype=np.float32)
        self._covered: npt.NDArray[np.bool_] | None = None
        # Writable, which is what kernels are compiled for.
        self._values = np.require(self._footprints.heavy_image, np.float32, ["C", "W"])
        self._saved: tuple[IntArray, npt.NDArray[np.float32]] | None = None
        if in_place and _can_be_borrowed(exposure.image.array):
            self._plane = exposure.image.array
            self._save()
        else:
            self._plane = np.array(self._source, dtype=np.float32, order="C")
        try:
            if noise_image is None:
                self._fill(config, exposure_id)
            else:
                self._fill_from(noise_image)
            self._overwritten = self._find_overwritten()
        except BaseException:
            self.end()
            raise

    def _save(self) -> None:
        """Keep the pixels that noise will replace, and take those of the
        stars from there.
        """
        from .replacement_numba import save_pixels

        start, n_pixels = self._places(self._replaced)
        pixels = np.empty(n_pixels, dtype=np.float32)
        save_pixels(self._source, *self._origin, self._replaced, *self._spans, pixels)
        self._saved = start, pixels
        light = self._replaced[self._start[self._replaced] < 0]
        self._start[light] = len(self._values) + start[light]
        self._values = np.concatenate([self._values, pixels])

    def end(self) -> None:
        """Show all sources on the exposure again, if it shows noise.

        Afterwards no more stars can be cut out.
        """
        if self._saved is not None:
            start, pixels = self._saved
            self._paste_all(self._plane[None], self._origin, self._replaced, start, values=pixels)
            self._saved = None

    def _resolve_own(self, rows: IntArray) -> IntArray:
        """Return whose pixels each star is measured with: its own, or those
        of its nearest ancestor that has pixels.
        """
        has_pixels = np.zeros(len(self._detected.id), dtype=bool)
        has_pixels[self._replaced] = True
        own = rows.copy()
        for _ in range(len(has_pixels) + 1):
            light = np.flatnonzero(~has_pixels[own])
            if not len(light):
                return own
            own[light] = find_rows(self._detected, self._detected.parent[own[light]], "Parents")
        raise ValueError(f"Parents of sources {_some(self._detected.id[rows[light]])} form a cycle.")

    def _places(self, rows: IntArray) -> tuple[IntArray, int]:
        """Return where each footprint's pixels begin if those of some are put
        one behind the other, -1 for all others, and their number.
        """
        places = np.full(len(self._detected.id), -1, dtype=np.int64)
        area = np.asarray(self._footprints.area, dtype=np.int64)[rows]
        places[rows] = np.cumsum(area) - area
        return places, int(area.sum())

    @property
    def _spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        f = self._footprints
        return f.span_offsets, f.span_y, f.span_x0, f.span_x1

    def _noise_parameters(self, config: NoiseReplacerConfig) -> tuple[float, float, np.ndarray]:
        """Return mean, deviation and variance plane (spec 03 §2.4)."""
        offset = float(config.noiseOffset)
        none = np.zeros((0, 0), dtype=np.float32)
        metadata: Mapping[str, Any] = self._exposure.metadata or {}
        background = metadata.get("BGMEAN")
        if config.noiseSource == "variance":
            # Upstream takes the box of these pixels as LOCAL, which is wrong
            # unless XY0 is 0; this uses the right ones.
            # No noise is made where none is known.
            known = informative_variance(np.array(self._exposure.variance.array, dtype=np.float32))
            return offset, 0.0, np.nan_to_num(known, copy=False, nan=0.0, posinf=0.0)
        if config.noiseSource == "variance_median":
            variance = informative_variance(np.array(self._exposure.variance.array))
            variance = variance[np.isfinite(variance)]
            if not len(variance):
                raise ValueError("No pixel has a positive, finite variance; noise cannot be made of it.")
            return offset, float(np.sqrt(np.median(variance))), none
        if config.noiseSource == "meta" and background is not None:
            return offset, float(np.sqrt(_as_variance(background))), none
        try:
            mean, std = clipped_mean_std(self._source)
        except ValueError:
            raise ValueError("No pixel of the image is finite; noise cannot be measured on it.") from None
        return mean + offset, std, none

    def _fill(self, config: NoiseReplacerConfig, exposure_id: int | None) -> None:
        """Write noise over all sources."""
        from .replacement_numba import fill_noise

        mean, std, variance = self._noise_parameters(config)
        multiplier = int(config.noiseSeedMultiplier)
        # 0 asks for the generator's own default seed, which is 1.
        seed = (multiplier or 1) if not (exposure_id and multiplier) else multiplier * exposure_id
        fill_noise(
            self._plane,
            *self._origin,
            self._replaced,
            *self._spans,
            seed_state(seed),
            *ziggurat_tables(),
            mean,
            std,
            variance,
            self._keep,
            self._noise,
        )

    def _fill_from(self, noise_image: npt.NDArray[np.float32]) -> None:
        """Write the pixels of an image over all sources."""
        if noise_image.shape != self._plane.shape:
            raise ValueError(f"The noise image is {noise_image.shape}, the image {self._plane.shape}.")
        plane = np.ascontiguousarray(noise_image, dtype=np.float32)
        every = np.full_like(self._start, -1)
        self._paste_all(self._plane[None], self._origin, self._replaced, every, plane=plane)
        used = np.unique(self._own)
        _, y, x = self._footprints.pixels(used)
        self._noise[:] = noise_image[y - self._origin[1], x - self._origin[0]]

    def _find_overwritten(self) -> bool:
        """Tell whether the noise of a star was overwritten by another's."""
        used = np.unique(self._own)
        _, y, x = self._footprints.pixels(used)
        now = self._plane[y - self._origin[1], x - self._origin[0]]
        return not np.array_equal(now, self._noise, equal_nan=True)

    def _paste_all(
        self,
        images: np.ndarray,
        origin: tuple[Any, Any],
        order: IntArray,
        start: IntArray,
        *,
        values: np.ndarray | None = None,
        plane: np.ndarray | None = None,
        count: IntArray | None = None,
    ) -> None:
        """Write footprints, in order, into stamps."""
        from .replacement_numba import paste_all

        n = len(images)
        paste_all(
            images,
            np.broadcast_to(np.asarray(origin[0], dtype=np.int64), (n,)).copy(),
            np.broadcast_to(np.asarray(origin[1], dtype=np.int64), (n,)).copy(),
            order,
            np.full(n, len(order), dtype=np.int64) if count is None else count,
            self._bboxes,
            *self._spans,
            start,
            self._values if values is None else values,
            self._source if plane is None else plane,
            *self._origin,
        )

    def _cut_noise(self, stamps: StampSet) -> None:
        """Put the noise image into stamps."""
        x0, y0 = self._origin
        plane = self._plane.view()
        plane.flags.writeable = False
        stamps.image = cut_boxes(plane, stamps.x0 - x0, stamps.y0 - y0, *stamps.shape[1:])

    def insert(self, stamps: StampSet, rows: IntArray) -> None:
        """Show stars among noise.

        Parameters
        ----------
        stamps : `StampSet`
            Cut-outs whose image is replaced.
        rows : `numpy.ndarray`
            Which of the measured stars they are of.
        """
        self._cut_noise(stamps)
        if self._overwritten:
            # A star that has been measured leaves its own noise behind, also
            # where another's had been drawn over it.
            self._paste_all(
                stamps.image,
                (stamps.x0, stamps.y0),
                self._own,
                self._keep,
                values=self._noise,
                count=np.asarray(rows, dtype=np.int64),
            )
        self._paste_own(stamps.image, stamps, rows, self._start, self._values)

    def _paste_own(
        self, images: np.ndarray, stamps: StampSet, rows: IntArray, start: IntArray, values: np.ndarray
    ) -> None:
        """Write each star's own footprint into its stamp."""
        from .replacement_numba import paste_own

        paste_own(
            images,
            stamps.x0,
            stamps.y0,
            self._own[rows],
            *self._spans,
            start,
            values,
            self._source,
            *self._origin,
        )

    def restore(self, stamps: StampSet) -> None:
        """Show the image as upstream leaves it after measuring.

        Only footprints of top level are restored, with the pixels stored in
        them if they are heavy (spec 03 §2.3).

        Parameters
        ----------
        stamps : `StampSet`
            Cut-outs whose image is replaced.
        """
        self._cut_noise(stamps)
        where = (stamps.x0, stamps.y0)
        self._paste_all(stamps.image, where, self._own, self._keep, values=self._noise)
        self._paste_all(stamps.image, where, self._top_level, self._start)

    def add_detection_planes(self, stamps: StampSet, rows: IntArray) -> None:
        """Add the mask planes THISDET and OTHERDET to cut-outs.

        Parameters
        ----------
        stamps : `StampSet`
            Cut-outs whose mask is extended.
        rows : `numpy.ndarray`
            Which of the measured stars they are of.

        Raises
        ------
        ValueError
            Raised if the mask has no two bits left.
        """
        planes = dict(stamps.planes)
        for name in ("THISDET", "OTHERDET"):
            if name not in planes:
                planes[name] = min(set(range(64)) - set(planes.values()))
        if max(planes.values()) > 31:
            raise ValueError("The mask has no bits left for THISDET and OTHERDET.")
        # Pixels of every footprint are taken from the beginning of `ones`.
        ones = np.ones(int(np.max(self._footprints.area, initial=0)), dtype=np.float32)
        start = np.zeros_like(self._start)
        this, other = np.zeros_like(stamps.image), np.zeros_like(stamps.image)
        where = (stamps.x0, stamps.y0)
        self._paste_all(other, where, self._replaced, start, values=ones)
        self._paste_own(this, stamps, rows, start, ones)
        bit_this, bit_other = (np.uint32(1 << planes[p]) for p in ("THISDET", "OTHERDET"))
        mask = stamps.mask & ~(bit_this | bit_other)
        mask[this > 0] |= bit_this
        mask[(other > 0) & (this == 0)] |= bit_other
        stamps.mask, stamps.planes = mask, planes


def _as_variance(value: Any) -> float:
    """Return the metadata entry BGMEAN, which is a variance, as a number."""
    try:
        number = float(value[-1] if isinstance(value, list | tuple) else value)
    except (TypeError, ValueError) as err:
        raise ValueError(f"Metadata entry BGMEAN is not a number: {value!r}.") from err
    if not number >= 0:
        raise ValueError(f"Metadata entry BGMEAN is no variance: {value!r}.")
    return number
