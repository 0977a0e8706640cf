# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Adaptive and fixed-weight Gaussian moments, SDSS style (spec 03 §3.6)."""

from __future__ import annotations

__all__ = ("AdaptiveMoments", "adaptive_moments", "fixed_moments_flux", "valid_boxes")

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

type FloatArray = npt.NDArray[np.float64]
type BoolArray = npt.NDArray[np.bool_]
type IntArray = npt.NDArray[np.int64]

_EPS64 = float(np.finfo(np.float64).eps)
_FAR = 2.0**30  # no image reaches this far; keeps integer windows finite


@dataclass
class AdaptiveMoments:
    """What `adaptive_moments` found, one element per star.

    Positions are in the coordinates of the input centres.  ``covariance`` is
    that of (amplitude, xx, yy, xy), shape (N, 4, 4), NaN where no variance was
    given or there is no error.  ``flag`` is the general failure flag;
    ``failed`` means that there are no moments at all.  ``outgrown`` marks
    stars whose window left a stamp that isn't the whole image: nothing else
    about them is meaningful.
    """

    x: FloatArray
    y: FloatArray
    xx: FloatArray
    yy: FloatArray
    xy: FloatArray
    amplitude: FloatArray
    covariance: FloatArray
    failed: BoolArray
    unweighted_bad: BoolArray
    unweighted: BoolArray
    shift: BoolArray
    max_iter: BoolArray
    outgrown: BoolArray
    n_passes: IntArray

    @property
    def flag(self) -> BoolArray:
        """General failure flag."""
        return self.failed | self.unweighted_bad | self.unweighted | self.shift

    @property
    def flux_scale(self) -> FloatArray:
        """Flux per amplitude, 2π sqrt(det S)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * np.pi * np.sqrt(self.xx * self.yy - self.xy**2))

    @property
    def flux(self) -> FloatArray:
        """Flux of the Gaussian of these moments."""
        return self.amplitude * self.flux_scale

    @property
    def flux_err(self) -> FloatArray:
        """Error of the flux at fixed moments."""
        with np.errstate(invalid="ignore"):
            return self.flux_scale * np.sqrt(self.covariance[:, 0, 0])

    @property
    def errors(self) -> FloatArray:
        """Errors of xx, yy, xy, shape (N, 3)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)[:, 1:])


def valid_boxes(
    shape: tuple[int, int, int],
    x0: IntArray,
    y0: IntArray,
    valid: BoolArray | None,
    whole: bool,
) -> IntArray:
    """Return the limits of the image around each stamp.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`, `int`]
        Shape (N, h, w) of the stamps.
    x0, y0 : `numpy.ndarray`
        Coordinates of the first pixel of each stamp.
    valid : `numpy.ndarray` or `None`
        True where a stamp is on the image, a rectangle in every stamp.
    whole : `bool`
        Does the image end where the stamp ends?

    Returns
    -------
    boxes : `numpy.ndarray`
        Inclusive limits x_min, x_max, y_min, y_max, int64 of shape (N, 4).
        A side where the image goes on beyond the stamp is unlimited.
    """
    n, height, width = shape
    far = 2**40
    boxes = np.empty((n, 4), dtype=np.int64)
    for k, (origin, size, axis) in enumerate(((x0, width, 1), (y0, height, 2))):
        line = np.ones((n, size), dtype=bool) if valid is None else valid.any(axis=axis)
        first = np.where(line.any(axis=1), line.argmax(axis=1), 1)
        last = np.where(line.any(axis=1), size - 1 - line[:, ::-1].argmax(axis=1), 0)
        low, high = origin + first, origin + last
        if not whole:
            empty = last < first
            low = np.where((first == 0) & ~empty, -far, low)
            high = np.where((last == size - 1) & ~empty, far, high)
        boxes[:, 2 * k], boxes[:, 2 * k + 1] = low, high
    return boxes


def _as_stack(images: npt.ArrayLike) -> np.ndarray:
    """Return images as a C-ordered float32 or float64 stack."""
    stack = np.ascontiguousarray(images)
    if stack.ndim != 3:
        raise ValueError(f"Stamps must have three dimensions, not {stack.shape}.")
    return stack if stack.dtype in (np.float32, np.float64) else stack.astype(np.float64)


def _origins(origin: npt.ArrayLike | None, n: int) -> IntArray:
    if origin is None:
        return np.zeros(n, dtype=np.int64)
    return np.ascontiguousarray(np.broadcast_to(np.asarray(origin, dtype=np.int64), (n,)))


def _centres(centre: npt.ArrayLike, n: int) -> FloatArray:
    values = np.array(np.broadcast_to(np.asarray(centre, dtype=np.float64), (n,)))
    values[~(np.abs(values) < _FAR)] = np.nan
    return values


def _pixel_values(
    planes: np.ndarray, column: np.ndarray, row: np.ndarray, boxes: np.ndarray
) -> tuple[FloatArray, BoolArray]:
    """Look up one pixel per stamp; also return which are on the stamp."""
    n, height, width = planes.shape
    with np.errstate(invalid="ignore"):
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    inside &= (boxes[:, 0] <= boxes[:, 1]) & (boxes[:, 2] <= boxes[:, 3])
    j = np.where(inside, column, 0).astype(np.int64)
    i = np.where(inside, row, 0).astype(np.int64)
    return planes[np.arange(n), i, j].astype(np.float64), inside


def _fisher(
    amplitude: FloatArray, xx: FloatArray, yy: FloatArray, xy: FloatArray, variance: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Return the Fisher matrices of (A, xx, yy, xy) and where det S > 0."""
    single = [v.astype(np.float32) for v in (amplitude, xx, yy, xy)]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        det32 = single[1] * single[2] - single[3] * single[3]
        ok = ~(det32 <= _EPS64)
        a, sxx, syy, sxy, det = (v.astype(np.float64) for v in (*single, det32))
        f = np.pi * np.sqrt(det) / variance
        h = 3 * f * a**2 / (16 * det**2)
        m = np.empty((len(a), 4, 4))
        m[:, 0, 0] = f
        m[:, 0, 1] = m[:, 1, 0] = f * a * syy / (4 * det)
        m[:, 0, 2] = m[:, 2, 0] = f * a * sxx / (4 * det)
        m[:, 0, 3] = m[:, 3, 0] = -f * a * sxy / (2 * det)
        m[:, 1, 1] = h * syy**2
        m[:, 2, 2] = h * sxx**2
        m[:, 3, 3] = 4 * h * (sxy**2 + det / 3)
        m[:, 1, 2] = m[:, 2, 1] = m[:, 3, 3] / 4
        m[:, 1, 3] = m[:, 3, 1] = -2 * h * syy * sxy
        m[:, 2, 3] = m[:, 3, 2] = -2 * h * sxx * sxy
    return m, ok


def _invert_matrices(matrices: FloatArray) -> FloatArray:
    """Invert a stack of matrices; singular ones become NaN."""
    result = np.full_like(matrices, np.nan)
    finite = np.isfinite(matrices).all(axis=(1, 2))
    try:
        result[finite] = np.linalg.inv(matrices[finite])
    except np.linalg.LinAlgError:
        # Which one is singular is not told, so they are tried one by one.
        for n in np.flatnonzero(finite):
            try:
                result[n] = np.linalg.inv(matrices[n])
            except np.linalg.LinAlgError:
                continue
    return result


def adaptive_moments(
    images: npt.ArrayLike,
    xc: npt.ArrayLike,
    yc: npt.ArrayLike,
    *,
    variance: npt.ArrayLike | None = None,
    background: float = 0.0,
    max_iter: int = 100,
    max_shift: float = 0.0,
    tol1: float = float(np.float32(1e-5)),
    tol2: float = float(np.float32(1e-4)),
    valid: npt.ArrayLike | None = None,
    x0: npt.ArrayLike | None = None,
    y0: npt.ArrayLike | None = None,
    negative: npt.ArrayLike = False,
    whole: bool = True,
) -> AdaptiveMoments:
    """Measure adaptive second moments of many stars.

    The moments are those of the Gaussian weight that equals twice the
    weighted moments (Bernstein & Jarvis 2002), found by fixed-point
    iteration from a round weight of 1.5 pixel².

    Parameters
    ----------
    images : `numpy.ndarray`
        Stamps, float32 or float64 of shape (N, h, w).
    xc, yc : `numpy.ndarray`
        Centres of the weights, in the coordinates of ``x0``, ``y0``.
    variance : `numpy.ndarray`, optional
        Variance stamps; without them there are no errors.
    background : `float`, optional
        Value subtracted from all pixels.
    max_iter : `int`, optional
        Largest number of iterations.
    max_shift : `float`, optional
        Largest allowed distance of the weighted centroid from the centre in
        pixels, clamped to [2, 10].
    tol1, tol2 : `float`, optional
        Tolerances of ellipticities and of xx (relative) for convergence.
    valid : `numpy.ndarray`, optional
        True where a stamp is on the image (a rectangle in every stamp).
    x0, y0 : `numpy.ndarray`, optional
        Coordinates of the first pixel of each stamp, default 0.  Give them
        counted from the first pixel of the *image* for results that agree
        bit by bit with upstream's, whose centres are rounded to float32.
    negative : `numpy.ndarray`, optional
        True for stars that are negative.
    whole : `bool`, optional
        True: there is nothing beyond the stamps.  False: there is (except
        where ``valid`` shows the image's edge), and stars whose windows
        would need it are marked as ``outgrown``.

    Returns
    -------
    moments : `AdaptiveMoments`
        Results and flags.
    """
    from .gaussian_numba import adaptive_kernel

    stack = _as_stack(images)
    n = len(stack)
    x, y = _centres(xc, n), _centres(yc, n)
    ox, oy = _origins(x0, n), _origins(y0, n)
    boxes = valid_boxes(stack.shape, ox, oy, None if valid is None else np.asarray(valid), whole)
    out = np.empty((n, 6))
    status = np.zeros(n, dtype=np.int64)
    passes = np.zeros(n, dtype=np.int64)
    adaptive_kernel(
        stack,
        ox,
        oy,
        boxes,
        x,
        y,
        float(background),
        int(max_iter),
        min(max(float(max_shift), 2.0), 10.0),
        float(tol1),
        float(tol2),
        np.array(np.broadcast_to(np.asarray(negative, dtype=bool), (n,))),
        out,
        status,
        passes,
    )
    result = _name_results(out, status, passes)
    if variance is not None:
        _add_errors(result, np.asarray(variance), np.floor(x + 0.5) - ox, np.floor(y + 0.5) - oy, boxes)
    return result


def _name_results(out: FloatArray, status: IntArray, passes: IntArray) -> AdaptiveMoments:
    """Return results of the kernel by name, without errors."""
    from .gaussian_numba import FAILED, MAX_ITER, OUTGROWN, SHIFT, UNWEIGHTED, UNWEIGHTED_BAD

    return AdaptiveMoments(
        x=out[:, 0],
        y=out[:, 1],
        xx=out[:, 2],
        xy=out[:, 3],
        yy=out[:, 4],
        amplitude=out[:, 5],
        covariance=np.full((len(out), 4, 4), np.nan),
        failed=(status & FAILED) != 0,
        unweighted_bad=(status & UNWEIGHTED_BAD) != 0,
        unweighted=(status & UNWEIGHTED) != 0,
        shift=(status & SHIFT) != 0,
        max_iter=(status & MAX_ITER) != 0,
        outgrown=(status & OUTGROWN) != 0,
        n_passes=passes,
    )


def _add_errors(
    result: AdaptiveMoments, variance: np.ndarray, column: FloatArray, row: FloatArray, boxes: np.ndarray
) -> None:
    """Fill in covariances; a degenerate shape fails."""
    value, inside = _pixel_values(variance, column, row, boxes)
    with np.errstate(invalid="ignore"):
        wanted = inside & (value > 0) & ~(result.failed | result.unweighted | result.outgrown)
    rows = np.flatnonzero(wanted)
    fisher, ok = _fisher(
        result.amplitude[rows], result.xx[rows], result.yy[rows], result.xy[rows], value[rows]
    )
    result.failed[rows[~ok]] = True
    result.covariance[rows[ok]] = _invert_matrices(fisher[ok])


def fixed_moments_flux(
    images: npt.ArrayLike,
    moments: npt.ArrayLike,
    xc: npt.ArrayLike,
    yc: npt.ArrayLike,
    *,
    variance: npt.ArrayLike | None = None,
    valid: npt.ArrayLike | None = None,
    x0: npt.ArrayLike | None = None,
    y0: npt.ArrayLike | None = None,
    whole: bool = True,
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
    """Measure fluxes with Gaussian weights of given moments.

    Parameters
    ----------
    images : `numpy.ndarray`
        Stamps, float32 or float64 of shape (N, h, w).
    moments : `numpy.ndarray`
        Moments xx, yy, xy of the weights in pixel², shape (N, 3).
    xc, yc : `numpy.ndarray`
        Centres, in the coordinates of ``x0``, ``y0``.
    variance : `numpy.ndarray`, optional
        Variance stamps; without them errors are NaN.
    valid, x0, y0, whole
        As for `adaptive_moments`.  Without ``x0``, ``y0`` counted from the
        image's first pixel the error pixel may be another one.

    Returns
    -------
    flux : `numpy.ndarray`
        Fluxes ``2 Σ w I`` (spec 03 §3.6.4).
    flux_err : `numpy.ndarray`
        Their errors, from the variance of the central pixel.  That is the
        pixel at the *truncated* centre (upstream quirk).
    failed : `numpy.ndarray`
        True where the weight is not invertible or the centre off the image.
    outgrown : `numpy.ndarray`
        True where a stamp is too small (only if not ``whole``).
    """
    from .gaussian_numba import FAILED, OUTGROWN, fixed_kernel

    stack = _as_stack(images)
    n = len(stack)
    x, y = _centres(xc, n), _centres(yc, n)
    ox, oy = _origins(x0, n), _origins(y0, n)
    boxes = valid_boxes(stack.shape, ox, oy, None if valid is None else np.asarray(valid), whole)
    q = np.ascontiguousarray(np.broadcast_to(np.asarray(moments, dtype=np.float64), (n, 3)))
    total = np.empty(n)
    status = np.zeros(n, dtype=np.int64)
    fixed_kernel(stack, ox, oy, boxes, x, y, q, total, status)
    failed, outgrown = status == FAILED, status == OUTGROWN
    flux_err = np.full(n, np.nan)
    if variance is not None:
        column, row = np.trunc(x) - ox, np.trunc(y) - oy
        value, inside = _pixel_values(np.asarray(variance), column, row, boxes)
        if valid is not None:
            inside &= _pixel_values(np.asarray(valid), column, row, boxes)[0] > 0
        failed |= ~inside & ~outgrown
        with np.errstate(invalid="ignore"):
            det = q[:, 0] * q[:, 1] - q[:, 2] ** 2
            flux_err = np.where(inside, 2 * np.sqrt(value * np.pi * np.sqrt(det)), np.nan)
    return 2 * total, flux_err, failed, outgrown
