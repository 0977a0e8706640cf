# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Footprints of many sources in flat arrays."""

from __future__ import annotations

__all__ = ("Footprints",)

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .._runs import run_offsets, run_rows
from ._display import counted
from ._schema import Field, Schema

_PEAK_FIELDS = (
    Field("id", "L", "unique ID"),
    Field("f_x", "F", "subpixel column position", "pixel"),
    Field("f_y", "F", "subpixel row position", "pixel"),
    Field("i_x", "I", "column position of highest pixel", "pixel"),
    Field("i_y", "I", "row position of highest pixel", "pixel"),
    Field("peakValue", "F", "value of the highest pixel", "count"),
)


class Footprints:
    """Pixel regions and peaks of N sources in flat arrays with offsets.

    Spans of source i are elements ``span_offsets[i]:span_offsets[i + 1]`` of
    the span arrays, sorted by (y, x0); peaks and heavy pixels likewise.
    Pixels are PARENT coordinates.

    Parameters
    ----------
    span_offsets
        int64 array of shape (N + 1,).
    span_y, span_x0, span_x1
        int32 arrays, row and first and last column (inclusive) of spans.
    peak_offsets
        int64 array of shape (N + 1,).
    peaks
        Peak columns by name, as in ``peak_schema``.
    peak_schema
        Fields of the peaks; the minimal ones come first.
    peak_schemas
        Fields that the peaks of single sources have, where these differ;
        ``peak_schema`` has those of all.
    peak_kinds
        int array of shape (N,): which of ``peak_schemas`` is the source's.
    heavy_offsets
        int64 array of shape (N + 1,); sources that are not heavy have no
        pixels.
    is_heavy
        bool array of shape (N,).
    heavy_image, heavy_mask, heavy_variance
        Pixels in span order: float32, int32, float32.
    present
        bool array of shape (N,): whether the source has a footprint.

    Raises
    ------
    ValueError
        Raised if array lengths do not agree.
    """

    def __init__(
        self,
        span_offsets: np.ndarray,
        span_y: np.ndarray,
        span_x0: np.ndarray,
        span_x1: np.ndarray,
        *,
        peak_offsets: np.ndarray | None = None,
        peaks: Mapping[str, np.ndarray] | None = None,
        peak_schema: Schema | None = None,
        peak_schemas: Sequence[Schema] | None = None,
        peak_kinds: np.ndarray | None = None,
        heavy_offsets: np.ndarray | None = None,
        is_heavy: np.ndarray | None = None,
        heavy_image: np.ndarray | None = None,
        heavy_mask: np.ndarray | None = None,
        heavy_variance: np.ndarray | None = None,
        present: np.ndarray | None = None,
    ) -> None:
        n = len(span_offsets) - 1
        self.span_offsets = np.asarray(span_offsets, dtype=np.int64)
        self.span_y = np.asarray(span_y, dtype=np.int32)
        self.span_x0 = np.asarray(span_x0, dtype=np.int32)
        self.span_x1 = np.asarray(span_x1, dtype=np.int32)
        none = np.zeros(n + 1, dtype=np.int64)
        self.peak_offsets = none if peak_offsets is None else np.asarray(peak_offsets, dtype=np.int64)
        self.peak_schema = Schema(_PEAK_FIELDS) if peak_schema is None else peak_schema
        self.peak_schemas = (self.peak_schema,) if peak_schemas is None else tuple(peak_schemas)
        self.peak_kinds = np.zeros(n, dtype=np.int64) if peak_kinds is None else np.asarray(peak_kinds)
        given = {} if peaks is None else peaks
        self.peaks = {
            f.name: np.asarray(given[f.name], dtype=f.dtype)
            if f.name in given
            else f.make_column(int(self.peak_offsets[-1]))
            for f in self.peak_schema
        }
        self.heavy_offsets = none if heavy_offsets is None else np.asarray(heavy_offsets, dtype=np.int64)
        self.is_heavy = np.zeros(n, dtype=bool) if is_heavy is None else np.asarray(is_heavy, dtype=bool)
        self.heavy_image = np.asarray([] if heavy_image is None else heavy_image, dtype=np.float32)
        self.heavy_mask = np.asarray([] if heavy_mask is None else heavy_mask, dtype=np.int32)
        self.heavy_variance = np.asarray([] if heavy_variance is None else heavy_variance, dtype=np.float32)
        self.present = np.ones(n, dtype=bool) if present is None else np.asarray(present, dtype=bool)
        self._check()

    def _check(self) -> None:
        n = len(self)
        parts = {
            "spans": (self.span_offsets, (self.span_y, self.span_x0, self.span_x1)),
            "peaks": (self.peak_offsets, tuple(self.peaks.values())),
            "heavy pixels": (self.heavy_offsets, (self.heavy_image, self.heavy_mask, self.heavy_variance)),
        }
        for what, (offsets, arrays) in parts.items():
            if len(offsets) != n + 1 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
                raise ValueError(f"Offsets of {what} are not {n + 1} ascending numbers from 0.")
            if lengths := {len(a) for a in arrays} - {int(offsets[-1])}:
                raise ValueError(f"Arrays of {what} have lengths {lengths}, offsets end at {offsets[-1]}.")
        if len(self.is_heavy) != n or len(self.present) != n:
            raise ValueError(f"is_heavy and present do not have {n} elements.")
        if len(self.peak_kinds) != n or not np.isin(self.peak_kinds, range(len(self.peak_schemas))).all():
            raise ValueError(f"peak_kinds does not have {n} numbers of peak_schemas.")
        if np.any(self.span_x1 < self.span_x0):
            raise ValueError("A span ends before it begins.")
        heavy_area = np.where(self.is_heavy, self.area, 0)
        if np.any(np.diff(self.heavy_offsets) != heavy_area):
            raise ValueError("A heavy footprint does not have one pixel value per pixel.")

    def __len__(self) -> int:
        return len(self.span_offsets) - 1

    def __repr__(self) -> str:
        parts = [
            counted(len(self), "source"),
            counted(int(self.area.sum()), "pixel"),
            counted(int(self.peak_offsets[-1]), "peak"),
            f"{int(self.is_heavy.sum())} heavy",
        ]
        if missing := int((~self.present).sum()):
            parts.append(f"{missing} absent")
        return f"<{type(self).__name__} of {', '.join(parts)}>"

    @classmethod
    def empty(cls, n: int) -> Footprints:
        """Return ``n`` absent footprints."""
        nothing = np.zeros(0, dtype=np.int32)
        return cls(np.zeros(n + 1), nothing, nothing, nothing, present=np.zeros(n, dtype=bool))

    @classmethod
    def from_spans(
        cls,
        spans: Sequence[Iterable[tuple[int, int, int]]],
        *,
        peaks: Sequence[Sequence[tuple[float, float, float]]] | None = None,
    ) -> Footprints:
        """Make footprints from Python lists; meant for tests and small jobs.

        Parameters
        ----------
        spans
            Per source its (y, x0, x1), x1 inclusive.
        peaks
            Per source its (x, y, peak value).

        Returns
        -------
        `Footprints`
            Footprints without heavy pixels.
        """
        per_source = [sorted(s) for s in spans]
        flat = np.array([span for s in per_source for span in s], dtype=np.int32).reshape(-1, 3)
        columns: dict[str, np.ndarray] = {}
        peak_offsets = None
        if peaks is not None:
            peak_offsets = run_offsets(np.array([len(p) for p in peaks], dtype=np.int64))
            values = np.array([peak for p in peaks for peak in p], dtype=np.float64).reshape(-1, 3)
            columns = {
                "id": np.arange(1, len(values) + 1),
                "f_x": values[:, 0],
                "f_y": values[:, 1],
                "i_x": np.floor(values[:, 0] + 0.5),
                "i_y": np.floor(values[:, 1] + 0.5),
                "peakValue": values[:, 2],
            }
        return cls(
            run_offsets(np.array([len(s) for s in per_source], dtype=np.int64)),
            flat[:, 0],
            flat[:, 1],
            flat[:, 2],
            peak_offsets=peak_offsets,
            peaks=columns,
        )

    @property
    def area(self) -> np.ndarray:
        """Number of pixels, int64 array of shape (N,)."""
        sums = run_offsets(self.span_x1.astype(np.int64) - self.span_x0 + 1)
        return sums[self.span_offsets[1:]] - sums[self.span_offsets[:-1]]

    @property
    def bboxes(self) -> np.ndarray:
        """Bounding boxes: min x, min y, max x, max y (inclusive), int32 array
        of shape (N, 4); (0, 0, -1, -1) where there are no pixels.
        """
        boxes = np.tile(np.array([0, 0, -1, -1], dtype=np.int32), (len(self), 1))
        filled = np.diff(self.span_offsets) > 0
        if filled.any():
            # reduceat works on the non-empty segments, which are contiguous.
            starts = self.span_offsets[:-1][filled]
            boxes[filled, 0] = np.minimum.reduceat(self.span_x0, starts)
            boxes[filled, 1] = np.minimum.reduceat(self.span_y, starts)
            boxes[filled, 2] = np.maximum.reduceat(self.span_x1, starts)
            boxes[filled, 3] = np.maximum.reduceat(self.span_y, starts)
        return boxes

    def take(self, index: np.ndarray | slice | list[int]) -> Footprints:
        """Return the footprints of some rows.

        Parameters
        ----------
        index
            Boolean mask, indices or slice.
        """
        rows = np.arange(len(self))[index]

        def gather(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            lengths = np.diff(offsets)[rows]
            return run_offsets(lengths), run_rows(offsets[:-1][rows], lengths)

        span_offsets, spans = gather(self.span_offsets)
        peak_offsets, peaks = gather(self.peak_offsets)
        heavy_offsets, heavy = gather(self.heavy_offsets)
        return Footprints(
            span_offsets,
            self.span_y[spans],
            self.span_x0[spans],
            self.span_x1[spans],
            peak_offsets=peak_offsets,
            peaks={name: column[peaks] for name, column in self.peaks.items()},
            peak_schema=self.peak_schema,
            peak_schemas=self.peak_schemas,
            peak_kinds=self.peak_kinds[rows],
            heavy_offsets=heavy_offsets,
            is_heavy=self.is_heavy[rows],
            heavy_image=self.heavy_image[heavy],
            heavy_mask=self.heavy_mask[heavy],
            heavy_variance=self.heavy_variance[heavy],
            present=self.present[rows],
        )

    def pixels(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """List all pixels, source by source in span order.

        Parameters
        ----------
        rows
            Rows to list, in this order; all if not given.

        Returns
        -------
        row, y, x : `numpy.ndarray`
            Position in ``rows`` (row number if ``rows`` is not given), row
            and column of every pixel; int64.
        """
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        counts = np.diff(self.span_offsets)[chosen]
        spans = run_rows(self.span_offsets[:-1][chosen], counts)
        widths = self.span_x1[spans].astype(np.int64) - self.span_x0[spans] + 1
        row = np.repeat(np.repeat(np.arange(len(chosen)), counts), widths)
        y = np.repeat(self.span_y[spans].astype(np.int64), widths)
        return row, y, run_rows(self.span_x0[spans].astype(np.int64), widths)

    def first_peaks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the first peak of every source.

        Returns
        -------
        x, y : `numpy.ndarray`
            Sub-pixel position, float64 of shape (N,); NaN without peak.
        has_peak : `numpy.ndarray`
            bool array of shape (N,).
        """
        has_peak = np.diff(self.peak_offsets) > 0
        x = np.full(len(self), np.nan)
        y = np.full(len(self), np.nan)
        first = self.peak_offsets[:-1][has_peak]
        x[has_peak] = self.peaks["f_x"][first]
        y[has_peak] = self.peaks["f_y"][first]
        return x, y, has_peak
