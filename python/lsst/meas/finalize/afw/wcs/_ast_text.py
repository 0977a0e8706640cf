# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Coordinate mappings from AST native text that may be hostile."""

from __future__ import annotations

__all__ = ("apply_mapping", "dump_ast", "parse_ast", "transform_points")

from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.images._transforms import _ast

from .._errors import FitsFormatError
from ._ast_check import check_ast_text

_BAD = 1e300
"""AST's bad value is minus the largest double."""


def parse_ast(text: str, source: str, n_out: int | None = 2) -> Any:
    """Read an AST object from its native text encoding.

    Parameters
    ----------
    text
        Text starting with ``Begin``, as written by an AST ``Channel``.
    source
        Name of the origin of the text, for error messages.
    n_out
        Number of outputs that the mapping must have; None for any.

    Returns
    -------
    mapping : `lsst.images._transforms._ast.Mapping`
        Wrapped mapping (a ``FrameSet`` where the text has one).

    Raises
    ------
    FitsFormatError
        If the text isn't valid AST, isn't from two axes to that many, or
        contains classes that have no place in a coordinate mapping.
    """
    try:
        check_ast_text(text, n_out)
    except FitsFormatError as err:
        raise FitsFormatError(f"{source}: not a valid AST mapping: {err}.") from None
    try:
        return _ast.Mapping.fromString(text)
    except Exception as err:
        # AST has an exception class per error code without common base.
        raise FitsFormatError(f"{source}: not a valid AST mapping: {str(err)[:200]}.") from err


def dump_ast(mapping: Any) -> str:
    """Write an AST object as native text.

    Parameters
    ----------
    mapping
        Wrapped AST object, as `parse_ast` returns.

    Returns
    -------
    text : `str`
        Text that starts with a blank and ``Begin``.
    """
    text = mapping.show(False)
    return text if text.startswith(" ") else f" {text}"


def transform_points(
    mapping: Any, x: npt.ArrayLike, y: npt.ArrayLike, *, forward: bool = True
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Apply a mapping with two inputs and outputs to points.

    Parameters
    ----------
    mapping
        Wrapped AST mapping.
    x, y
        Coordinates of the points, broadcast against each other.
    forward
        Whether to apply the mapping or its inverse.

    Returns
    -------
    x, y : `numpy.ndarray`
        Float64 arrays of the broadcast shape; NaN where the mapping isn't
        defined.

    Raises
    ------
    FitsFormatError
        If the mapping isn't defined in this direction at all.
    """
    xb, yb = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    result = apply_mapping(mapping, xb, yb, forward=forward)
    return result[0], result[1]


def apply_mapping(
    mapping: Any, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], *, forward: bool = True
) -> npt.NDArray[np.float64]:
    """Apply a mapping with two inputs to points.

    Parameters
    ----------
    mapping
        Wrapped AST mapping.
    x, y
        Coordinates of the points, arrays of one shape.
    forward
        Whether to apply the mapping or its inverse.

    Returns
    -------
    values : `numpy.ndarray`
        Float64 array with the outputs on its first axis; NaN where the
        mapping isn't defined.

    Raises
    ------
    FitsFormatError
        If the mapping isn't defined in this direction at all.
    """
    points = np.stack([x.ravel(), y.ravel()])
    try:
        result = np.array(mapping.applyForward(points) if forward else mapping.applyInverse(points))
    except Exception as err:
        # AST has an exception class per error code without common base.
        raise FitsFormatError(f"the mapping isn't defined in this direction: {str(err)[:200]}") from err
    result = np.atleast_2d(result)
    result[np.abs(result) > _BAD] = np.nan
    return result.reshape(-1, *x.shape)
