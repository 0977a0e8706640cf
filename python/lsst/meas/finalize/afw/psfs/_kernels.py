# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Kernels and their functions, as persisted by the stack (spec 02 §6.1)."""

from __future__ import annotations

__all__ = (
    "AnalyticKernel",
    "Chebyshev1Function2",
    "DeltaFunctionKernel",
    "DoubleGaussianFunction2",
    "FixedKernel",
    "Function2",
    "GaussianFunction2",
    "Kernel",
    "LinearCombinationKernel",
    "PolynomialFunction2",
)

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .._errors import ArchiveError, MalformedArchiveError, UnsupportedPersistableError
from ..archive import ArchiveReader, reads
from ..fits import TableView

_FloatArray = npt.NDArray[np.float64]
_MAX_ORDER = 50
_MAX_SIDE = 4095


def check_dimensions(width: int, height: int, what: str) -> None:
    """Check the size of a PSF or kernel image.

    Parameters
    ----------
    width, height
        Size in pixels.
    what
        What it is the size of, for messages.

    Raises
    ------
    ArchiveError
        If it isn't reasonable.
    """
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise ArchiveError(f"the size of a {what} is {width} x {height}, expected 1 to {_MAX_SIDE} pixels")


class Function2(ABC):
    """A function of two variables."""

    @abstractmethod
    def __call__(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        """Evaluate at points.

        Parameters
        ----------
        x, y
            Coordinates, of equal shape.

        Returns
        -------
        values : `numpy.ndarray`
            Values, of the same shape.
        """
        raise NotImplementedError()


def _find_order(n: int, what: str) -> int:
    """Return the order of a polynomial with n terms in total degree."""
    order = int((np.sqrt(8 * n + 1) - 3) / 2 + 0.5)
    if n < 1 or (order + 1) * (order + 2) // 2 != n or order > _MAX_ORDER:
        raise ArchiveError(f"a {what} can't have {n} coefficients")
    return order


def _chebyshev(values: _FloatArray, order: int) -> _FloatArray:
    """Return T_0 ... T_order of the values, the order being the first axis."""
    return np.moveaxis(np.asarray(np.polynomial.chebyshev.chebvander(values, order), np.float64), -1, 0)


def _sum_terms(coefficients: _FloatArray, x_powers: _FloatArray, y_powers: _FloatArray) -> _FloatArray:
    """Sum the terms by total degree, the exponent of y rising."""
    result = np.zeros(x_powers.shape[1:])
    k = 0
    for degree in range(len(x_powers)):
        for q in range(degree + 1):
            result += coefficients[k] * x_powers[degree - q] * y_powers[q]
            k += 1
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class PolynomialFunction2(Function2):
    """Polynomial in x and y.

    Attributes
    ----------
    coefficients : `numpy.ndarray`
        In the order (0,0), (1,0), (0,1), (2,0), (1,1), (0,2), ... of the
        exponents of x and y.
    single : `bool`
        Whether values are rounded to float32.
    """

    coefficients: _FloatArray
    single: bool = False

    def __post_init__(self) -> None:
        _find_order(len(self.coefficients), "PolynomialFunction2")

    def __call__(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        order = _find_order(len(self.coefficients), "PolynomialFunction2")
        exponents = np.arange(order + 1).reshape(-1, *([1] * np.ndim(x)))
        result = _sum_terms(self.coefficients, np.asarray(x) ** exponents, np.asarray(y) ** exponents)
        return result.astype(np.float32).astype(np.float64) if self.single else result


@dataclasses.dataclass(frozen=True, eq=False)
class Chebyshev1Function2(Function2):
    """Polynomial in Chebyshev polynomials of the first kind.

    Attributes
    ----------
    coefficients : `numpy.ndarray`
        In the order of `PolynomialFunction2`.
    limits : `tuple` [`float`]
        Minimum x, minimum y, maximum x, maximum y, mapped to -1 and 1.
    single : `bool`
        Whether values are rounded to float32.
    """

    coefficients: _FloatArray
    limits: tuple[float, float, float, float]
    single: bool = False

    def __post_init__(self) -> None:
        _find_order(len(self.coefficients), "Chebyshev1Function2")
        if not (self.limits[2] > self.limits[0] and self.limits[3] > self.limits[1]):
            raise ArchiveError(f"a Chebyshev1Function2 has the limits {self.limits}")

    def __call__(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        order = _find_order(len(self.coefficients), "Chebyshev1Function2")
        x0, y0, x1, y1 = self.limits
        scaled_x = (np.asarray(x) - (x0 + x1) / 2) * 2 / (x1 - x0)
        scaled_y = (np.asarray(y) - (y0 + y1) / 2) * 2 / (y1 - y0)
        result = _sum_terms(self.coefficients, _chebyshev(scaled_x, order), _chebyshev(scaled_y, order))
        return result.astype(np.float32).astype(np.float64) if self.single else result


@dataclasses.dataclass(frozen=True)
class GaussianFunction2(Function2):
    """Elliptical Gaussian of unit integral.

    Attributes
    ----------
    sigma1, sigma2 : `float`
        Standard deviations along the axes.
    angle : `float`
        Angle of the first axis from x, in radians.
    """

    sigma1: float
    sigma2: float
    angle: float = 0.0

    def __call__(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        u, v = cos * x + sin * y, -sin * x + cos * y
        norm = 2 * np.pi * self.sigma1 * self.sigma2
        return np.asarray(np.exp(-0.5 * ((u / self.sigma1) ** 2 + (v / self.sigma2) ** 2)) / norm)


@dataclasses.dataclass(frozen=True)
class DoubleGaussianFunction2(Function2):
    """Sum of two circular Gaussians, of unit integral.

    Attributes
    ----------
    sigma1, sigma2 : `float`
        Standard deviations.
    amplitude2 : `float`
        Ratio of the second peak to the first.
    """

    sigma1: float
    sigma2: float
    amplitude2: float

    def __call__(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        square = np.asarray(x) ** 2 + np.asarray(y) ** 2
        norm = 2 * np.pi * (self.sigma1**2 + self.amplitude2 * self.sigma2**2)
        first = np.exp(-square / (2 * self.sigma1**2))
        return np.asarray((first + self.amplitude2 * np.exp(-square / (2 * self.sigma2**2))) / norm)


class Kernel(ABC):
    """A small image that may vary with position.

    Parameters
    ----------
    width, height
        Size in pixels.
    centre
        Column and row that are the origin.
    """

    def __init__(self, width: int, height: int, centre: tuple[int, int]) -> None:
        check_dimensions(width, height, type(self).__name__)
        if not (0 <= centre[0] < width and 0 <= centre[1] < height):
            raise ArchiveError(f"the center {centre} of a kernel is outside of its {width} x {height} pixels")
        self.width, self.height, self.centre = width, height, centre

    @abstractmethod
    def images(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        """Evaluate at positions.

        Parameters
        ----------
        x, y
            (N,) positions.

        Returns
        -------
        images : `numpy.ndarray`
            (N, height, width) images, not normalised.
        """
        raise NotImplementedError()


class FixedKernel(Kernel):
    """A kernel given by its pixels.

    Parameters
    ----------
    image
        (height, width) image.
    centre
        Column and row that are the origin.
    """

    def __init__(self, image: _FloatArray, centre: tuple[int, int]) -> None:
        super().__init__(image.shape[1], image.shape[0], centre)
        self.image = image

    def images(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        return np.repeat(self.image[np.newaxis], len(x), axis=0)


class DeltaFunctionKernel(FixedKernel):
    """A kernel with a single pixel set.

    Parameters
    ----------
    width, height
        Size in pixels.
    centre
        Column and row that are the origin.
    pixel
        Column and row of the pixel that is 1.
    """

    def __init__(self, width: int, height: int, centre: tuple[int, int], pixel: tuple[int, int]) -> None:
        check_dimensions(width, height, type(self).__name__)
        if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
            raise ArchiveError(f"the pixel {pixel} of a DeltaFunctionKernel is outside of {width} x {height}")
        image = np.zeros((height, width))
        image[pixel[1], pixel[0]] = 1.0
        super().__init__(image, centre)


class AnalyticKernel(FixedKernel):
    """A kernel that samples a function at pixel centres.

    Parameters
    ----------
    width, height
        Size in pixels.
    centre
        Column and row that are the origin.
    function
        Function of the offset from the origin.
    """

    def __init__(self, width: int, height: int, centre: tuple[int, int], function: Function2) -> None:
        check_dimensions(width, height, type(self).__name__)
        y, x = np.mgrid[:height, :width].astype(np.float64)
        # Not normalised: in a combination only the sum is.
        super().__init__(function(x - centre[0], y - centre[1]), centre)


class LinearCombinationKernel(Kernel):
    """A weighted sum of kernels.

    Parameters
    ----------
    kernels
        The kernels, of equal size and centre; evaluated once, they don't
        vary themselves.
    amplitudes
        Weights: one number or one function of position for each kernel.
    """

    def __init__(
        self, kernels: Sequence[FixedKernel], amplitudes: Sequence[float] | Sequence[Function2]
    ) -> None:
        if not kernels or len(kernels) != len(amplitudes):
            raise ArchiveError(f"{len(amplitudes)} weights for {len(kernels)} kernels")
        first = kernels[0]
        super().__init__(first.width, first.height, first.centre)
        if any(kernel.image.shape != first.image.shape for kernel in kernels):
            raise ArchiveError("the kernels of a LinearCombinationKernel differ in size")
        self.components = np.stack([kernel.image for kernel in kernels])
        self.amplitudes = amplitudes

    def images(self, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        weights = np.stack(
            [a(x, y) if isinstance(a, Function2) else np.full(len(x), a) for a in self.amplitudes], axis=1
        )
        return np.tensordot(weights, self.components, axes=1)


def read_point(table: TableView, name: str) -> tuple[float, float]:
    """Read a point from two columns, or from one of table version 0.

    Parameters
    ----------
    table
        Table with one row.
    name
        Prefix of the columns.

    Returns
    -------
    x, y : `float`
        The point.
    """
    if f"{name}_x" in table:
        return float(table[f"{name}_x"][0]), float(table[f"{name}_y"][0])
    values = np.atleast_1d(table[name][0])
    if len(values) != 2:
        raise MalformedArchiveError(f"{table.where}: {name!r} has {len(values)} coordinates")
    return float(values[0]), float(values[1])


def _read_geometry(table: TableView) -> tuple[int, int, tuple[int, int]]:
    width, height = (int(v) for v in read_point(table, "dimensions"))
    check_dimensions(width, height, "kernel")
    x, y = read_point(table, "center")
    return width, height, (int(x), int(y))


def _read_functions(archive: ArchiveReader, table: TableView) -> list[Function2]:
    if "spatialfunctions" not in table:
        return []
    functions = [archive.get(int(i)) for i in np.atleast_1d(table["spatialfunctions"][0])]
    if not all(isinstance(function, Function2) for function in functions):
        raise MalformedArchiveError(f"{table.where}: a spatial function of a kernel is something else")
    return functions


@reads("FixedKernel")
def _read_fixed(archive: ArchiveReader, tables: list[TableView], name: str) -> FixedKernel:
    table = archive.one_row(tables, name)
    width, height, centre = _read_geometry(table)
    values = np.atleast_1d(np.asarray(table["image"][0], dtype=np.float64))
    if values.size != width * height:
        raise MalformedArchiveError(f"{table.where}: {values.size} pixels for a {width} x {height} kernel")
    return FixedKernel(values.reshape(height, width), centre)


@reads("DeltaFunctionKernel")
def _read_delta(archive: ArchiveReader, tables: list[TableView], name: str) -> DeltaFunctionKernel:
    table = archive.one_row(tables, name)
    x, y = read_point(table, "pixel")
    return DeltaFunctionKernel(*_read_geometry(table), (int(x), int(y)))


@reads("AnalyticKernel")
def _read_analytic(archive: ArchiveReader, tables: list[TableView], name: str) -> AnalyticKernel:
    table = archive.one_row(tables, name)
    if _read_functions(archive, table):
        raise UnsupportedPersistableError(f"{table.where}: a varying {name} isn't supported")
    function = archive.get(int(table["kernelfunction"][0]))
    if not isinstance(function, Function2):
        raise MalformedArchiveError(f"{table.where}: {name} without a function")
    return AnalyticKernel(*_read_geometry(table), function)


@reads("LinearCombinationKernel")
def _read_combination(archive: ArchiveReader, tables: list[TableView], name: str) -> LinearCombinationKernel:
    table = archive.one_row(tables, name)
    width, height, centre = _read_geometry(table)
    kernels = [archive.get(int(i)) for i in np.atleast_1d(table["components"][0])]
    if not all(isinstance(kernel, FixedKernel) for kernel in kernels):
        raise MalformedArchiveError(f"{table.where}: {name} of something other than fixed kernels")
    if any((kernel.width, kernel.height, kernel.centre) != (width, height, centre) for kernel in kernels):
        raise MalformedArchiveError(f"{table.where}: the kernels of a {name} differ in size or center")
    functions = _read_functions(archive, table)
    if functions:
        return LinearCombinationKernel(kernels, functions)
    return LinearCombinationKernel(kernels, [float(a) for a in np.atleast_1d(table["amplitudes"][0])])


@reads("PolynomialFunction2D", "PolynomialFunction2F")
def _read_polynomial(archive: ArchiveReader, tables: list[TableView], name: str) -> PolynomialFunction2:
    table = archive.one_row(tables, name)
    coefficients = np.atleast_1d(np.asarray(table["coefficients"][0], dtype=np.float64))
    return PolynomialFunction2(coefficients, name.endswith("F"))


@reads("Chebyshev1Function2D", "Chebyshev1Function2F")
def _read_chebyshev(archive: ArchiveReader, tables: list[TableView], name: str) -> Chebyshev1Function2:
    table = archive.one_row(tables, name)
    coefficients = np.atleast_1d(np.asarray(table["coefficients"][0], dtype=np.float64))
    limits = (*read_point(table, "min"), *read_point(table, "max"))
    return Chebyshev1Function2(coefficients, limits, name.endswith("F"))


@reads("GaussianFunction2D", "GaussianFunction2F")
def _read_gaussian(archive: ArchiveReader, tables: list[TableView], name: str) -> GaussianFunction2:
    table = archive.one_row(tables, name)
    return GaussianFunction2(*(float(table[key][0]) for key in ("sigma1", "sigma2", "angle")))


@reads("DoubleGaussianFunction2D", "DoubleGaussianFunction2F")
def _read_double_gaussian(
    archive: ArchiveReader, tables: list[TableView], name: str
) -> DoubleGaussianFunction2:
    table = archive.one_row(tables, name)
    return DoubleGaussianFunction2(*(float(table[key][0]) for key in ("sigma1", "sigma2", "ampl2")))
