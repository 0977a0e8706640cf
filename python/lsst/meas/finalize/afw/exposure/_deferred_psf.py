# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposures whose PSF is made when it is asked for."""

from __future__ import annotations

__all__ = ("DeferredPiff", "DeferredPsfImage")

import dataclasses
from typing import TYPE_CHECKING, Any

from lsst.images import VisitImage

from ...catalogs import Deferred, resolve
from .._errors import UnsupportedPersistableError
from ..psfs import PIFF_NAME, make_piff, set_psf_bounds
from ._component import attempt, component, unsupported

if TYPE_CHECKING:
    from lsst.images import Bounds
    from lsst.images.psfs import PiffWrapper

    from .._errors import ComponentError


@dataclasses.dataclass(eq=False)
class DeferredPiff(Deferred):
    """A PSF of which there is the pickle.

    Refitting doesn't look at it, and making it takes longer than reading all
    the other components.

    Attributes
    ----------
    where
        The file, for messages.
    data
        The pickle.
    bounds
        Where it is valid; everywhere if `None`.
    """

    where: str
    data: bytes
    bounds: Bounds | None

    @component
    def psf(self) -> PiffWrapper:
        """The PSF."""
        try:
            psf = make_piff(self.data)
        except UnsupportedPersistableError as error:
            raise unsupported(PIFF_NAME, error) from error
        if self.bounds is not None:
            set_psf_bounds(psf, self.bounds)
        return psf

    def get(self) -> PiffWrapper | ComponentError:
        """Make the PSF.

        Returns
        -------
        psf : `lsst.images.psfs.PiffWrapper` or `ComponentError`
            The same one each time; if it can't be made, what to raise.
        """
        result: PiffWrapper | ComponentError = attempt(self, "psf")
        return result


class DeferredPsfImage(VisitImage):
    """A visit image whose ``psf`` may be given as `Deferred`."""

    _given_psf: Any

    @property
    def _psf(self) -> Any:
        # lsst.images looks at its own attribute only, which may be an
        # exception to raise.
        self._given_psf = resolve(self._given_psf)
        return self._given_psf

    @_psf.setter
    def _psf(self, value: Any) -> None:
        self._given_psf = value

    def serialize(self, archive: Any) -> Any:
        """Store the image, if its PSF can be made.

        Parameters
        ----------
        archive
            Archive to write to.

        Raises
        ------
        ComponentError
            If it can't.
        """
        _ = self.psf
        return super().serialize(archive)
