# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Drawing Piff models at many positions at once."""

from __future__ import annotations

__all__ = ("Drawer", "GridDrawer", "LoopDrawer", "make_drawer", "stamp_origin")

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ._interpolant import InterpolantTaps, banded, place_bands, taps_of

if TYPE_CHECKING:
    import piff

type FloatArray = npt.NDArray[np.float64]

_POSITION_KEYS = ("x", "y", "u", "v")
_ARCSEC = 180.0 * 3600.0 / math.pi
_CHUNK_SEPARABLE = 64
"""Stars per chunk of a separable draw: fits into the cache, 3 times faster."""

_CHUNK_GENERAL = 8
"""Stars per chunk of a non-separable draw: a few MB of weights."""


class Drawer(Protocol):
    """Anything that draws PSF images in batches."""

    def draw(
        self, x: FloatArray, y: FloatArray, properties: Mapping[str, FloatArray], size: int, centered: bool
    ) -> FloatArray:
        """Draw unnormalised PSF images.

        Parameters
        ----------
        x, y
            Finite positions, shape (N,).
        properties
            Values of the model's other interpolation keys, shape (N,) each.
        size
            Width and height of the images in pixels.
        centered
            Draw at the centre of the stamp instead of at the position.

        Returns
        -------
        `numpy.ndarray`
            Images, shape (N, size, size), indexed [star, y, x].
        """
        ...


def _chunks(number: int, length: int) -> list[slice]:
    return [slice(first, first + length) for first in range(0, number, length)]


def stamp_origin(position: FloatArray, size: int) -> npt.NDArray[np.int64]:
    """Return the first pixel of the stamps Piff draws.

    Parameters
    ----------
    position
        x or y coordinates, shape (N,).
    size
        Stamp size in pixels.

    Returns
    -------
    `numpy.ndarray`
        Integer pixel coordinates, shape (N,).

    Notes
    -----
    Piff rounds half-integers down, `round_half_up` (used for the boxes of
    upstream's ``computeImage``) up; we follow the pixels (spec 01 §5.4).
    """
    center = np.ceil(position - (0.5 if size % 2 == 1 else 0.0)).astype(np.int64)
    return center - size // 2


class LoopDrawer:
    """Draw with Piff itself, one star after another.

    Parameters
    ----------
    psf
        Any Piff model fitted on one chip.
    """

    def __init__(self, psf: piff.PSF) -> None:
        self._psf = psf

    def draw(
        self, x: FloatArray, y: FloatArray, properties: Mapping[str, FloatArray], size: int, centered: bool
    ) -> FloatArray:
        """Draw unnormalised PSF images, see `Drawer.draw`."""
        images = np.empty((len(x), size, size))
        center = True if centered else None
        # Piff offers no batch interface for arbitrary models.
        for i in range(len(x)):
            values = {key: float(column[i]) for key, column in properties.items()}
            images[i] = self._psf.draw(x[i], y[i], stamp_size=size, center=center, **values).array
        return images


class GridDrawer:
    """Draw PixelGrid models with polynomial interpolation as matrix products.

    Parameters
    ----------
    psf
        Model accepted by `supports`.

    Notes
    -----
    A PixelGrid is an image of ``size**2`` values on a square grid in field
    coordinates, interpolated with a separable kernel.  If pixel rows are
    parallel to grid rows, a stamp is ``Wy @ grid @ Wx.T`` with two band
    matrices; otherwise the two kernels are evaluated for each pixel.
    """

    def __init__(self, psf: piff.PSF) -> None:
        if not self.supports(psf):
            raise ValueError(f"Cannot draw {type(psf).__name__} as a pixel grid.")
        self._model = psf.model
        self._interp = psf.interp
        self._wcs = next(iter(psf.wcs.values()))
        self._pointing = psf.pointing
        self._q = np.asarray(psf.interp.q, dtype=float)
        self._size = int(psf.model.size)
        self._origin = self._size // 2
        self._taps = taps_of(psf.model.interp)
        self._terms: tuple[tuple[float, float, int], FloatArray] | None = None

    @staticmethod
    def supports(psf: piff.PSF) -> bool:
        """Tell whether a Piff model can be drawn this way.

        Parameters
        ----------
        psf
            Any Piff model.

        Returns
        -------
        bool
            `True` for a simple model of one chip made of a PixelGrid and a
            BasisPolynomial.
        """
        from .._piff import piff

        if type(psf) is not piff.SimplePSF or len(psf.wcs or {}) != 1:
            return False
        if type(psf.model) is not piff.PixelGrid or type(psf.interp) is not piff.BasisPolynomial:
            return False
        if not InterpolantTaps.supports(psf.model.interp):
            return False
        return np.shape(psf.interp.q) == (psf.model.size**2, np.count_nonzero(psf.interp._mask))

    def draw(
        self, x: FloatArray, y: FloatArray, properties: Mapping[str, FloatArray], size: int, centered: bool
    ) -> FloatArray:
        """Draw unnormalised PSF images, see `Drawer.draw`."""
        if len(x) == 0:
            return np.zeros((0, size, size))
        basis = self.basis(x, y, properties)
        if centered:
            half = 0.5 * (size - 1)
            offset_x = offset_y = np.full(len(x), -half)
            center_x = stamp_origin(x, size).astype(np.float64) + half
            center_y = stamp_origin(y, size).astype(np.float64) + half
            matrices = self._jacobians(center_x, center_y)
        else:
            offset_x = stamp_origin(x, size) - x
            offset_y = stamp_origin(y, size) - y
            matrices = self._jacobians(x, y)
        matrices = matrices / self._model.scale
        if np.any(matrices[:, 0, 1]) or np.any(matrices[:, 1, 0]):
            return self._draw_general(basis, offset_x, offset_y, matrices, size)
        scale_x, scale_y = matrices[:, 0, 0], matrices[:, 1, 1]
        if centered and np.all(scale_x == scale_x[0]) and np.all(scale_y == scale_y[0]):
            # All stamps sample the grid at the same points: draw the
            # coefficients, then combine them.
            images = self._term_images(float(scale_x[0]), float(scale_y[0]), size)
            return (basis @ images).reshape(-1, size, size)
        return self._draw_separable(basis, offset_x, offset_y, scale_x, scale_y, size)

    def _term_images(self, scale_x: float, scale_y: float, size: int) -> FloatArray:
        """Return the centred image of each polynomial term, flattened; only
        the latest ones are kept.
        """
        key = (scale_x, scale_y, size)
        if self._terms is None or self._terms[0] != key:
            basis = np.eye(self._q.shape[1])
            offset = np.full(len(basis), -0.5 * (size - 1))
            scales_x, scales_y = np.full(len(basis), scale_x), np.full(len(basis), scale_y)
            images = self._draw_separable(basis, offset, offset, scales_x, scales_y, size)
            self._terms = key, images.reshape(len(basis), -1)
        return self._terms[1]

    def basis(self, x: FloatArray, y: FloatArray, properties: Mapping[str, FloatArray]) -> FloatArray:
        """Evaluate the interpolation polynomials.

        Parameters
        ----------
        x, y
            Positions, shape (N,).
        properties
            Values of other interpolation keys, shape (N,) each.

        Returns
        -------
        `numpy.ndarray`
            Basis in Piff's order, shape (N, number of terms).
        """
        values: dict[str, FloatArray] = {"x": x, "y": y, **properties}
        if "u" in self._interp.property_names or "v" in self._interp.property_names:
            values["u"], values["v"] = self._field_positions(x, y)
        product = np.ones((len(x),))
        for key, order in zip(self._interp._keys, self._interp._orders, strict=True):
            powers = np.cumprod(
                np.concatenate(
                    [np.ones((len(x), 1)), np.repeat(values[key][:, None], order, axis=1)], axis=1
                ),
                axis=1,
            )
            product = product[..., np.newaxis] * powers.reshape((len(x),) + (1,) * (product.ndim - 1) + (-1,))
        return product[:, self._interp._mask]

    def _draw_separable(
        self,
        basis: FloatArray,
        offset_x: FloatArray,
        offset_y: FloatArray,
        scale_x: FloatArray,
        scale_y: FloatArray,
        size: int,
    ) -> FloatArray:
        n = len(basis)
        images = np.empty((n, size, size))
        bands_x = self._axis_bands(offset_x, scale_x, size)
        bands_y = self._axis_bands(offset_y, scale_y, size)
        # Work space that stays in the cache; new memory would cost more than
        # the arithmetic.
        n_work = min(n, _CHUNK_SEPARABLE)
        grids = np.empty((n_work, self._size**2))
        rows = np.empty((n_work, size, self._size))
        weights = np.empty((2, n_work, size, self._size))
        for part in _chunks(n, _CHUNK_SEPARABLE):
            k = len(basis[part])
            np.matmul(basis[part], self._q.T, out=grids[:k])
            weights[0, :k], weights[1, :k] = bands_x(part), bands_y(part)
            np.matmul(weights[1, :k], grids[:k].reshape(k, self._size, self._size), out=rows[:k])
            np.matmul(rows[:k], weights[0, :k].transpose(0, 2, 1), out=images[part])
        return images

    def _axis_bands(self, offset: FloatArray, scale: FloatArray, size: int) -> Callable[[slice], FloatArray]:
        """Return what makes the interpolation matrices of some stars."""
        step = round(scale[0]) if math.isfinite(scale[0]) else 0
        # GalSim too takes positions this close to an integer as integers.
        if step >= 1 and np.all(np.abs(scale - step) * size < 1e-13):
            start = offset * step + self._origin
            first = np.floor(start).astype(np.int64)
            # A view of little memory, so those of all stars at once.
            return place_bands(self._taps(start - first), first, step, size, self._size).__getitem__
        positions = (offset * scale + self._origin)[:, np.newaxis] + scale[:, np.newaxis] * np.arange(size)
        return lambda part: banded(self._taps, positions[part], self._size)

    def _draw_general(
        self,
        basis: FloatArray,
        offset_x: FloatArray,
        offset_y: FloatArray,
        matrices: FloatArray,
        size: int,
    ) -> FloatArray:
        images = np.empty((len(basis), size * size))
        row, column = (index.ravel() for index in np.indices((size, size)))
        for part in _chunks(len(basis), _CHUNK_GENERAL):
            pixel_x = offset_x[part, np.newaxis] + column
            pixel_y = offset_y[part, np.newaxis] + row
            jac = matrices[part, :, :, np.newaxis]
            grid_x = jac[:, 0, 0] * pixel_x + jac[:, 0, 1] * pixel_y + self._origin
            grid_y = jac[:, 1, 0] * pixel_x + jac[:, 1, 1] * pixel_y + self._origin
            grids = (basis[part] @ self._q.T).reshape(-1, self._size, self._size)
            rows = np.matmul(banded(self._taps, grid_y, self._size), grids)
            images[part] = np.einsum("npg,npg->np", rows, banded(self._taps, grid_x, self._size))
        return images.reshape(-1, size, size)

    def _jacobians(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return d(u, v)/d(x, y) at each position, shape (N, 2, 2)."""
        if self._wcs._isUniform:
            return np.broadcast_to(self._wcs.jacobian().getMatrix(), (len(x), 2, 2))
        import galsim

        result = np.empty((len(x), 2, 2))
        # GalSim evaluates a local WCS at one position only.
        for i in range(len(x)):
            local = self._wcs.local(image_pos=galsim.PositionD(x[i], y[i]))
            result[i] = local.jacobian().getMatrix()
        return result

    def _field_positions(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return field coordinates u, v of the positions."""
        import galsim

        if isinstance(self._wcs, galsim.PixelScale):
            return self._wcs.scale * x, self._wcs.scale * y
        if not self._wcs.isCelestial():
            return self._wcs.xyTouv(x, y)
        ra, dec = self._wcs.xyToradec(x, y, units=galsim.radians)
        u, v = self._pointing.project_rad(ra, dec)
        return u * _ARCSEC, v * _ARCSEC


def make_drawer(psf: piff.PSF) -> Drawer:
    """Choose how to draw a Piff model.

    Parameters
    ----------
    psf
        Any Piff model fitted on one chip.

    Returns
    -------
    Drawer
        The fastest drawer for this model.
    """
    keys: Any = psf.interp_property_names
    known = set(keys) <= {*_POSITION_KEYS, "colorValue"}
    return GridDrawer(psf) if known and GridDrawer.supports(psf) else LoopDrawer(psf)
