# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exceptions of the PSF determiners."""

from __future__ import annotations

__all__ = ("PiffTooFewGoodStarsError", "PsfUnsolvableError")

from lsst.pipe.base import AlgorithmError


class PiffTooFewGoodStarsError(AlgorithmError):
    """Raised if too few good stars are left for the model's polynomials.

    Parameters
    ----------
    num_good_stars
        Number of stars that could be used.
    minimum_dof
        Number of stars needed.
    poly_ndim
        Number of coordinates the model is a polynomial of.
    """

    def __init__(self, num_good_stars: int, minimum_dof: int, poly_ndim: int) -> None:
        self._num_good_stars = num_good_stars
        self._minimum_dof = minimum_dof
        self._poly_ndim = poly_ndim
        super().__init__(
            f"Failed to determine Piff PSF: {num_good_stars} good stars, but at least {minimum_dof} are "
            f"needed for a polynomial in {poly_ndim} variables."
        )

    @property
    def metadata(self) -> dict[str, int]:
        return {
            "num_good_stars": self._num_good_stars,
            "minimum_dof": self._minimum_dof,
            "poly_ndim": self._poly_ndim,
        }


class PsfUnsolvableError(AlgorithmError):
    """Raised if the equations of a PSF can't be solved in reasonable time.

    Parameters
    ----------
    reason
        Why the structured fit doesn't solve them.
    unknowns
        Number of unknowns.
    limit
        Number of unknowns up to which Piff does it instead.
    """

    def __init__(self, reason: str, unknowns: int, limit: int) -> None:
        self._reason = reason
        self._unknowns = unknowns
        self._limit = limit
        super().__init__(
            f"Failed to determine the PSF: {reason}. Piff, which could try, is left systems of up to {limit} "
            f"unknowns, not of {unknowns}; the option fitter='piff' makes it try however long it takes."
        )

    @property
    def metadata(self) -> dict[str, int | str]:
        return {"reason": self._reason, "unknowns": self._unknowns, "limit": self._limit}
