# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Detection of sources on an image."""

from __future__ import annotations

__all__ = ("Detections", "detect")

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from ..catalogs import Footprints

_THRESHOLD = 5.0  # in units of the noise of the smoothed image
_GROW = 2.4  # in units of the PSF's sigma
_BLOCK = 1 << 20  # distances between pixels and peaks computed at once
_PEAK_REACH = 3  # pixels around a peak that are fainter
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass
class Detections:
    """Detected sources; children of blends follow all the parents.

    Parameters
    ----------
    footprints
        Footprints with peaks; those of the children are heavy.
    parent
        Row of the parent, -1 for a source that has none.
    n_children
        Number of children.
    detected
        Pixels that belong to a source, as the image.
    """

    footprints: Footprints
    parent: np.ndarray
    n_children: np.ndarray
    detected: np.ndarray


def detect(image: np.ndarray, variance: np.ndarray, sigma: float, usable: np.ndarray) -> Detections:
    """Find sources, and split those with several peaks.

    The pixels of a blend go to the nearest peak.  This is far simpler than a
    deblender, and enough to exercise what follows.

    Parameters
    ----------
    image, variance
        Pixels and their variance.
    sigma
        Width of the PSF in pixels.
    usable
        Pixels that may be detected.
    """
    smooth = scipy.ndimage.gaussian_filter(image, sigma)
    noise = np.sqrt(np.median(variance[usable]) / (4 * np.pi * sigma**2))
    above = (smooth > _THRESHOLD * noise) & usable
    labels, n = scipy.ndimage.label(_grow(above, _GROW * sigma), _EIGHT_CONNECTED)
    peak_y, peak_x = _peaks(smooth, above)
    peak_label = labels[peak_y, peak_x]
    # Brightest peak first within each source.
    order = np.lexsort((-smooth[peak_y, peak_x], peak_label))
    peak_y, peak_x, peak_label = peak_y[order], peak_x[order], peak_label[order]
    n_peaks = np.bincount(peak_label, minlength=n + 1)[1:]

    is_child = n_peaks[peak_label - 1] > 1
    child_labels = _split(labels, peak_x, peak_y, peak_label, is_child)
    values = smooth[peak_y, peak_x]
    top = _footprints(labels, n, image, variance, heavy=False)
    children = _footprints(child_labels, int(is_child.sum()), image, variance, heavy=True)
    peaks = [
        list(zip(peak_x[peak_label == k], peak_y[peak_label == k], values[peak_label == k], strict=True))
        for k in range(1, n + 1)
    ] + [[p] for p in zip(peak_x[is_child], peak_y[is_child], values[is_child], strict=True)]
    parent = np.concatenate([np.full(n, -1), peak_label[is_child] - 1])
    n_children = np.concatenate([np.where(n_peaks > 1, n_peaks, 0), np.zeros(is_child.sum(), dtype=int)])
    return Detections(_concatenate(top, children, peaks), parent, n_children, labels > 0)


def _grow(above: np.ndarray, radius: float) -> np.ndarray:
    """Set all pixels within a radius of those that are set."""
    reach = int(np.ceil(radius))
    grown = np.pad(np.zeros_like(above), reach)
    y, x = np.nonzero(above)
    # Few pixels are set, so that shifts of them beat filters of all pixels.
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx**2 + dy**2 <= radius**2:
                grown[y + (dy + reach), x + (dx + reach)] = True
    height, width = above.shape
    return grown[reach : reach + height, reach : reach + width]


def _peaks(smooth: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find pixels, of those that are set, that no neighbour exceeds."""
    y, x = np.nonzero(above)
    highest = np.ones(len(y), dtype=bool)
    value = smooth[y, x]
    for dy in range(-_PEAK_REACH, _PEAK_REACH + 1):
        row = np.clip(y + dy, 0, smooth.shape[0] - 1)
        for dx in range(-_PEAK_REACH, _PEAK_REACH + 1):
            highest &= value >= smooth[row, np.clip(x + dx, 0, smooth.shape[1] - 1)]
    return y[highest], x[highest]


def _split(
    labels: np.ndarray, x: np.ndarray, y: np.ndarray, label: np.ndarray, is_child: np.ndarray
) -> np.ndarray:
    """Label the pixels of blends by their nearest peak, from 1."""
    result = np.zeros_like(labels)
    number = np.cumsum(is_child)
    for blend in np.unique(label[is_child]):
        pixel_y, pixel_x = np.nonzero(labels == blend)
        members = np.flatnonzero(label == blend)
        # In blocks, since a crowded image can be one blend of thousands.
        for start in range(0, len(pixel_x), max(1, _BLOCK // len(members))):
            part = slice(start, start + max(1, _BLOCK // len(members)))
            rows, columns = pixel_y[part], pixel_x[part]
            distance = (columns[:, None] - x[members]) ** 2 + (rows[:, None] - y[members]) ** 2
            result[rows, columns] = number[members[distance.argmin(axis=1)]]
    return result


def _footprints(
    labels: np.ndarray, n: int, image: np.ndarray, variance: np.ndarray, *, heavy: bool
) -> Footprints:
    """Make the footprints of labelled regions, in order of the labels."""
    padded = np.pad(labels, ((0, 0), (1, 1)))
    changes = padded[:, 1:] != padded[:, :-1]
    y, x = np.nonzero(changes)
    value = padded[y, x + 1]
    starts = value > 0
    # Each run ends where the next change in its row is.
    end = np.append(x[1:], 0) - 1
    y, x0, x1, value = y[starts], x[starts], end[starts], value[starts]
    order = np.lexsort((x0, y, value))
    offsets = np.searchsorted(value[order], np.arange(1, n + 2))
    spans = Footprints(offsets, y[order], x0[order], x1[order])
    if not heavy:
        return spans
    _, pixel_y, pixel_x = spans.pixels()
    return Footprints(
        spans.span_offsets,
        spans.span_y,
        spans.span_x0,
        spans.span_x1,
        heavy_offsets=np.concatenate([[0], np.cumsum(spans.area)]),
        is_heavy=np.ones(n, dtype=bool),
        heavy_image=image[pixel_y, pixel_x],
        heavy_mask=np.zeros(len(pixel_y)),
        heavy_variance=variance[pixel_y, pixel_x],
    )


def _concatenate(top: Footprints, children: Footprints, peaks: list) -> Footprints:
    """Join parents and children and give them their peaks."""
    flat = np.array([peak for source in peaks for peak in source], dtype=float).reshape(-1, 3)
    return Footprints(
        np.concatenate([top.span_offsets, top.span_offsets[-1] + children.span_offsets[1:]]),
        np.concatenate([top.span_y, children.span_y]),
        np.concatenate([top.span_x0, children.span_x0]),
        np.concatenate([top.span_x1, children.span_x1]),
        peak_offsets=np.concatenate([[0], np.cumsum([len(p) for p in peaks])]),
        peaks={
            "id": np.arange(1, len(flat) + 1),
            "f_x": flat[:, 0],
            "f_y": flat[:, 1],
            "i_x": flat[:, 0],
            "i_y": flat[:, 1],
            "peakValue": flat[:, 2],
        },
        heavy_offsets=np.concatenate([np.zeros(len(top)), children.heavy_offsets]),
        is_heavy=np.concatenate([top.is_heavy, children.is_heavy]),
        heavy_image=children.heavy_image,
        heavy_mask=children.heavy_mask,
        heavy_variance=children.heavy_variance,
    )
