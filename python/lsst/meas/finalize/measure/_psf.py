# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What measurement asks of a PSF."""

from __future__ import annotations

__all__ = ("BatchPsf", "get_psf")

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lsst.images import VisitImage


type FloatArray = npt.NDArray[np.float64]
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
