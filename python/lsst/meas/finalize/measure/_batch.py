# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The stars being measured, and what plugins may ask about them."""

from __future__ import annotations

__all__ = ("BatchPsf", "MeasureBatch", "get_psf")

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lsst.images import VisitImage

from ..catalogs import Footprints, SourceCatalog, StampSet, cut_stamps, mask_planes
from ._plugin import MeasurementFatalError

if TYPE_CHECKING:
    from .noise import NoiseReplacer

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]


@runtime_checkable
class BatchPsf(Protocol):
    """PSF that draws many positions at once (see `lsst.meas.finalize.psf`)."""

    def draw_kernel_images(self, x: FloatArray, y: FloatArray, color: FloatArray | None = None) -> FloatArray:
        """Draw PSFs centred on a pixel, (N, h, w)."""
        ...

    def draw_star_images(
        self, x: FloatArray, y: FloatArray, color: FloatArray | None = None
    ) -> tuple[FloatArray, IntArray, IntArray]:
        """Draw PSFs at their sub-pixel positions; also return origins."""
        ...

    def compute_shapes(self, x: FloatArray, y: FloatArray, color: FloatArray | None = None) -> FloatArray:
        """Compute adaptive moments xx, yy, xy, (N, 3)."""
        ...

    def compute_aperture_fluxes(
        self, radius: float, x: FloatArray, y: FloatArray, color: FloatArray | None = None
    ) -> FloatArray:
        """Compute enclosed fractions of the flux, (N,)."""
        ...


def get_psf(exposure: VisitImage) -> BatchPsf | None:
    """Return an exposure's PSF if it has one.

    Parameters
    ----------
    exposure : `lsst.images.VisitImage`
        The image.

    Returns
    -------
    psf : `BatchPsf` or `None`
        The PSF; `None` if there is none.

    Raises
    ------
    TypeError
        Raised if the PSF cannot draw many positions at once.
    """
    from lsst.images.serialization import ArchiveReadError

    try:
        psf = exposure.psf
    except ArchiveReadError:
        return None
    if psf is None or isinstance(psf, BatchPsf):
        return psf
    raise TypeError(
        f"A {type(psf).__name__} does not draw many stars at once; "
        "pass psf=lsst.meas.finalize.psf.as_batch_psf(exposure.psf)."
    )


class MeasureBatch:
    """Stars to be measured together.

    Parameters
    ----------
    catalog : `SourceCatalog`
        Measured rows; plugins write its columns in place.
    exposure : `lsst.images.VisitImage`
        Image the stars are on.  It is never changed.
    psf : `BatchPsf`, optional
        PSF to use.
    footprints : `Footprints`, optional
        Footprint of every row; those of the catalogue by default.
    replacer : `NoiseReplacer`, optional
        Where noise-replaced pixels come from; without it stars are cut out of
        the image as it is.
    color : `numpy.ndarray`, optional
        Colours for the PSF, shape (N,); average colour by default.
    restored : `bool`, optional
        Cut out of the image as it is after all noise has been removed?

    Raises
    ------
    ValueError
        Raised if footprints and rows differ in number.
    """

    def __init__(
        self,
        catalog: SourceCatalog,
        exposure: VisitImage,
        *,
        psf: BatchPsf | None = None,
        footprints: Footprints | None = None,
        replacer: NoiseReplacer | None = None,
        color: FloatArray | None = None,
        restored: bool = False,
    ) -> None:
        if footprints is None:
            footprints = catalog.footprints
        if footprints is None:
            footprints = Footprints.empty(len(catalog))
        if len(footprints) != len(catalog):
            raise ValueError(f"{len(footprints)} footprints do not fit {len(catalog)} rows.")
        self.catalog = catalog
        self.exposure = exposure
        self.psf = psf
        self.footprints = footprints
        self.color = color
        self.planes = mask_planes(exposure.mask.schema)
        self._replacer = replacer
        self._restored = restored
        self._bboxes: npt.NDArray[np.int32] | None = None
        self._centroids: tuple[FloatArray, FloatArray, BoolArray, BoolArray] | None = None
        self._psf_images: dict[str, tuple[FloatArray, IntArray, IntArray]] = {}
        self._psf_shapes: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.catalog)

    @property
    def image_origin(self) -> tuple[int, int]:
        """PARENT column and row of the image's first pixel (XY0)."""
        box = self.exposure.bbox
        return box.x.start, box.y.start

    @property
    def image_box(self) -> tuple[int, int, int, int]:
        """Inclusive PARENT limits x_min, y_min, x_max, y_max of the image."""
        box = self.exposure.bbox
        return box.x.start, box.y.start, box.x.stop - 1, box.y.stop - 1

    @property
    def bboxes(self) -> npt.NDArray[np.int32]:
        """Inclusive bounding boxes of the footprints, int32 of shape (N, 4):
        x_min, y_min, x_max, y_max.
        """
        if self._bboxes is None:
            self._bboxes = self.footprints.bboxes
        return self._bboxes

    def restored(self) -> MeasureBatch:
        """Return these stars on the image after noise has been removed.

        Returns
        -------
        batch : `MeasureBatch`
            Batch that writes to the same catalogue.
        """
        return MeasureBatch(
            self.catalog,
            self.exposure,
            psf=self.psf,
            footprints=self.footprints,
            replacer=self._replacer,
            color=self.color,
            restored=True,
        )

    # Centroids.

    def invalidate(self) -> None:
        """Forget centroids (and the PSF there) after a centroider has run."""
        self._centroids = None
        self._psf_images = {}
        self._psf_shapes = None

    @property
    def x(self) -> FloatArray:
        """Columns of the centroids, PARENT, shape (N,); NaN if failed."""
        return self._get_centroids()[0]

    @property
    def y(self) -> FloatArray:
        """Rows of the centroids, PARENT, shape (N,); NaN if failed."""
        return self._get_centroids()[1]

    @property
    def centroid_ok(self) -> BoolArray:
        """False where there is no centroid: set the plugin's flag, skip."""
        return self._get_centroids()[2]

    @property
    def centroid_flagged(self) -> BoolArray:
        """True where the plugin's flag must be set, but it goes on."""
        return self._get_centroids()[3]

    def first_peaks(self) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return columns and rows of first peaks, and who has one."""
        x, y, has_peak = self.footprints.first_peaks()
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), np.asarray(has_peak)

    def slot_columns(self, slot: str, suffixes: tuple[str, ...]) -> list[np.ndarray] | None:
        """Return columns of a slot.

        Parameters
        ----------
        slot : `str`
            Name of the slot without ``slot_``.
        suffixes : `tuple` [`str`, ...]
            Ends of the names, for example ``x`` and ``y``.

        Returns
        -------
        columns : `list` [`numpy.ndarray`] or `None`
            The columns; `None` if one of them does not exist.
        """
        names = [f"slot_{slot}_{s}" for s in suffixes]
        if f"slot_{slot}" not in self.catalog.schema.aliases or any(
            n not in self.catalog.schema for n in names
        ):
            return None
        return [self.catalog[n] for n in names]

    def slot_centroids(self) -> tuple[FloatArray, FloatArray]:
        """Return columns and rows of the centroid slot as they are.

        For plugins that don't extract centroids (spec 03 §1.5); others use
        `x` and `y`.

        Returns
        -------
        x, y : `numpy.ndarray`
            PARENT positions, float64 of shape (N,); copies.

        Raises
        ------
        MeasurementFatalError
            Raised if the slot has no such columns.
        """
        columns = self.slot_columns("Centroid", ("x", "y"))
        if columns is None:
            raise MeasurementFatalError("The catalogue has no columns slot_Centroid_x, slot_Centroid_y.")
        x, y = (np.array(c, dtype=np.float64) for c in columns)
        return x, y

    def slot_flag(self, slot: str) -> BoolArray | None:
        """Return the flag column of a slot, `None` if there is none."""
        columns = self.slot_columns(slot, ("flag",))
        return None if columns is None else columns[0]

    def _get_centroids(self) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
        """Extract centroids (spec 03 §1.5)."""
        if self._centroids is None:
            x, y = self.slot_centroids()
            bad = np.isnan(x) | np.isnan(y)
            flag = self.slot_flag("Centroid")
            if flag is None:
                flagged, ok = np.zeros(len(x), dtype=bool), ~bad
            else:
                # A flagged centroid that isn't there is replaced by the peak.
                peak_x, peak_y, has_peak = self.first_peaks()
                use_peak = bad & flag & has_peak
                x[use_peak], y[use_peak] = peak_x[use_peak], peak_y[use_peak]
                flagged, ok = flag.copy(), ~bad | use_peak
            x[~ok], y[~ok] = np.nan, np.nan
            self._centroids = x, y, ok, flagged
        return self._centroids

    def start(self, name: str) -> IntArray:
        """Begin a plugin that needs centroids.

        Sets its flag for stars without a centroid or with a flagged one.

        Parameters
        ----------
        name : `str`
            Name of the plugin.

        Returns
        -------
        rows : `numpy.ndarray`
            Indices of the stars that have a centroid, int64.
        """
        self.fail(~self.centroid_ok | self.centroid_flagged, name)
        return np.flatnonzero(self.centroid_ok)

    def shapes(self, name: str, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """Extract moments from the shape slot (spec 03 §1.5).

        Parameters
        ----------
        name : `str`
            Name of the plugin, whose flag is set where the shape is bad or
            flagged.
        rows : `numpy.ndarray`
            Indices of the stars in question.

        Returns
        -------
        moments : `numpy.ndarray`
            xx, yy, xy in pixel², float64 of shape (n, 3).
        rows : `numpy.ndarray`
            The n of the given rows that have a usable shape.

        Raises
        ------
        MeasurementFatalError
            Raised if the slot has no columns.
        """
        columns = self.slot_columns("Shape", ("xx", "yy", "xy"))
        if columns is None:
            raise MeasurementFatalError(f"Plugin {name} needs columns slot_Shape_xx, _yy, _xy.")
        moments = np.stack([c[rows] for c in columns], axis=1).astype(np.float64)
        xx, yy, xy = moments.T
        with np.errstate(invalid="ignore"):
            bad = np.isnan(moments).any(axis=1) | (xx * yy < (1.0 + 1e-6) * xy**2)
        flag = self.slot_flag("Shape")
        self.fail(rows[bad if flag is None else bad | flag[rows]], name)
        return moments[~bad], rows[~bad]

    # Flags.

    def fail(self, rows: npt.ArrayLike, name: str) -> None:
        """Set a plugin's general flag, ``<name>_flag``, if it has one.

        Parameters
        ----------
        rows : array-like
            Indices or mask of the failed stars.
        name : `str`
            Name of the plugin.
        """
        self.set_flag(rows, f"{name}_flag", missing_ok=True)

    def fail_psf(self, rows: npt.ArrayLike, name: str) -> None:
        """Mark stars whose PSF is invalid: ``base_InvalidPsf_flag`` and the
        plugin's general flag.
        """
        self.set_flag(rows, "base_InvalidPsf_flag", missing_ok=True)
        self.fail(rows, name)

    def set_flag(self, rows: npt.ArrayLike, field: str, *, missing_ok: bool = False) -> None:
        """Set a flag of some stars.

        Parameters
        ----------
        rows : array-like
            Indices or mask of the stars.
        field : `str`
            Name of the flag.
        missing_ok : `bool`, optional
            Do nothing if there is no such field?
        """
        if missing_ok and field not in self.catalog.schema:
            return
        self.catalog[field][np.asarray(rows)] = True

    # Pixels.

    def cutout(
        self,
        x0: npt.ArrayLike,
        y0: npt.ArrayLike,
        width: int,
        height: int,
        rows: IntArray | None = None,
        *,
        detection_planes: bool = False,
    ) -> StampSet:
        """Cut out stars as they are measured.

        Each star is seen with its own pixels, all others replaced by noise;
        variance and mask are those of the image.

        Parameters
        ----------
        x0, y0 : `numpy.ndarray`
            PARENT column and row of the first pixel of each window.
        width, height : `int`
            Size of the windows.
        rows : `numpy.ndarray`, optional
            Indices of the stars, in the order of ``x0``; default all.
        detection_planes : `bool`, optional
            Add the planes THISDET and OTHERDET, which are there while noise
            replaces sources?  For plugins that report mask bits.

        Returns
        -------
        stamps : `StampSet`
            The cut-outs; ``valid`` tells where they leave the image.
        """
        if rows is None:
            rows = np.arange(len(self))
        stamps = cut_stamps(self.exposure, np.asarray(x0), np.asarray(y0), int(width), int(height))
        if self._replacer is None:
            return stamps
        if self._restored:
            self._replacer.restore(stamps)
        else:
            self._replacer.insert(stamps, rows)
            if detection_planes:
                self._replacer.add_detection_planes(stamps, rows)
        return stamps

    def bits(self, names: Iterable[str], name: str) -> int:
        """Return the OR of the bits of some mask planes.

        Parameters
        ----------
        names : iterable of `str`
            Mask planes; a known one that the image lacks has no bit.
        name : `str`
            Name of the plugin, for the error message.

        Raises
        ------
        MeasurementFatalError
            Raised if there is no such mask plane.
        """
        nowhere = np.zeros(0, dtype=np.int64)
        try:
            return cut_stamps(self.exposure, nowhere, nowhere, 1, 1).bits(names)
        except ValueError as err:
            raise MeasurementFatalError(f"Plugin {name}: {err}") from err

    def mask_at(self, x: IntArray, y: IntArray) -> npt.NDArray[np.uint32]:
        """Return the mask of pixels that are on the image.

        Parameters
        ----------
        x, y : `numpy.ndarray`
            PARENT columns and rows.
        """
        origin_x, origin_y = self.image_origin
        planes = self.exposure.mask.array[y - origin_y, x - origin_x]
        shifts = 8 * np.arange(planes.shape[1], dtype=np.uint32)
        return np.bitwise_or.reduce(planes.astype(np.uint32) << shifts, axis=1)

    # PSF.

    def require_psf(self, name: str) -> BatchPsf:
        """Return the PSF.

        Parameters
        ----------
        name : `str`
            Name of the plugin that needs it.

        Raises
        ------
        MeasurementFatalError
            Raised if there is none.
        """
        if self.psf is None:
            raise MeasurementFatalError(f"Plugin {name} needs a PSF, but the exposure has none.")
        return self.psf

    def psf_images(self, kind: Literal["kernel", "star"]) -> tuple[FloatArray, IntArray, IntArray]:
        """Draw the PSF of all stars at their centroids.

        Parameters
        ----------
        kind : `str`
            "kernel": centred on a pixel, at (0, 0).  "star": at the centroid.

        Returns
        -------
        images : `numpy.ndarray`
            float64 of shape (N, h, w), each with sum 1 (nearly, if shifted
            by interpolation).  Shared between plugins: don't change.
        x0, y0 : `numpy.ndarray`
            Column and row of the first pixel of each.

        Notes
        -----
        Stars without a centroid get the PSF at its average position.
        """
        if kind not in self._psf_images:
            psf = self.require_psf("(PSF images)")
            if kind == "star":
                images, x0, y0 = psf.draw_star_images(self.x, self.y, color=self.color)
            else:
                images = psf.draw_kernel_images(self.x, self.y, color=self.color)
                height, width = images.shape[1:]
                x0 = np.full(len(self), -(width // 2), dtype=np.int64)
                y0 = np.full(len(self), -(height // 2), dtype=np.int64)
            self._psf_images[kind] = images, x0, y0
        return self._psf_images[kind]

    def psf_shapes(self) -> FloatArray:
        """Return moments xx, yy, xy of the PSF at the centroids, (N, 3); NaN
        where they could not be measured.
        """
        if self._psf_shapes is None:
            psf = self.require_psf("(PSF shapes)")
            self._psf_shapes = psf.compute_shapes(self.x, self.y, color=self.color)
        return self._psf_shapes

    def drop_undrawable(
        self, rows: IntArray, shapes: FloatArray, x: FloatArray, y: FloatArray, name: str
    ) -> IntArray:
        """Mark stars whose PSF cannot be drawn; not if only its moments
        cannot be measured.

        Parameters
        ----------
        rows : `numpy.ndarray`
            Indices of the stars in question, int64.
        shapes : `numpy.ndarray`
            Moments of the PSF at the positions of all stars, (N, 3).
        x, y : `numpy.ndarray`
            These positions, (N,).
        name : `str`
            Name of the plugin.

        Returns
        -------
        rows : `numpy.ndarray`
            Indices of the other stars.
        """
        invalid = rows[self.undrawable(rows, shapes[rows], x[rows], y[rows])]
        self.fail_psf(invalid, name)
        return np.setdiff1d(rows, invalid)

    def undrawable(self, rows: IntArray, shapes: FloatArray, x: FloatArray, y: FloatArray) -> BoolArray:
        """Tell at which stars the PSF cannot be drawn.

        Parameters
        ----------
        rows : `numpy.ndarray`
            Indices of the stars in question, int64 (n,).
        shapes : `numpy.ndarray`
            Moments of the PSF at their positions, (n, 3): where these are
            finite, it can be drawn.
        x, y : `numpy.ndarray`
            These positions, (n,).

        Returns
        -------
        undrawable : `numpy.ndarray`
            bool (n,).
        """
        undrawable = ~np.isfinite(shapes).all(axis=1)
        failed = np.flatnonzero(undrawable)
        if len(failed):
            color = None if self.color is None else self.color[rows[failed]]
            images = self.require_psf("(PSF images)").draw_kernel_images(x[failed], y[failed], color=color)
            undrawable[failed] = ~np.isfinite(images).all(axis=(1, 2))
        return undrawable

    def get(self, name: str) -> Any:
        """Return a column of the catalogue, `None` if there is none."""
        return self.catalog[name] if name in self.catalog.schema else None
