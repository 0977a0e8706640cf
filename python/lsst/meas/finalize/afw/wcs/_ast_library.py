# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What lsst.images' names for AST lack, from the AST library it uses.

These names are ``astshim``'s where that imports, as in the stack, and thin
wrappers of ``starlink-pyast`` elsewhere.
"""

from __future__ import annotations

__all__ = ("Derivative", "sky_reference")

from typing import Any

import numpy as np
import numpy.typing as npt

from lsst.images._transforms import _ast

from ._ast_text import dump_ast


def _reread(mapping: Any) -> Any:
    """Return a copy of a wrapped object as ``starlink-pyast`` has it."""
    import starlink.Ast

    return starlink.Ast.Channel(_ast.StringStream(dump_ast(mapping))).read()


class Derivative:
    """Derivatives of a mapping with two inputs and outputs.

    Parameters
    ----------
    mapping
        AST mapping, as `parse_ast` returns.
    """

    def __init__(self, mapping: Any) -> None:
        self._mapping = _reread(mapping) if _ast.USING_STARLINK_PYAST else mapping

    def __call__(self, x: float, y: float) -> npt.NDArray[np.float64]:
        """Differentiate at a point.

        Parameters
        ----------
        x, y
            The point.

        Returns
        -------
        matrix : `numpy.ndarray`
            (2, 2) float64 array, ``matrix[i, j]`` = d out_i / d in_j, from
            AST's adaptive numerical derivative.
        """
        at = [float(x), float(y)]
        return np.array([[self._mapping.rate(at, i, j) for j in (1, 2)] for i in (1, 2)], dtype=np.float64)


def sky_reference(frame_set: Any) -> tuple[float, float]:
    """Return the reference position of the sky a FrameSet ends in.

    Parameters
    ----------
    frame_set
        AST FrameSet whose current frame is the sky.

    Returns
    -------
    ra, dec : `float`
        Radians.
    """
    frame = frame_set.getFrame(frame_set.current, copy=False)
    if _ast.USING_STARLINK_PYAST:
        sky = _reread(frame)
        return float(sky.SkyRef_1), float(sky.SkyRef_2)
    ra, dec = frame.getSkyRef()
    return float(ra), float(dec)
