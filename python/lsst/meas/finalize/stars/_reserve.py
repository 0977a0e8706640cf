# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Which isolated stars are reserved."""

from __future__ import annotations

__all__ = ("ReserveIsolatedStarsConfig", "ReserveIsolatedStarsTask")

import hashlib
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field, RangeField
from lsst.pipe.base import Task


class ReserveIsolatedStarsConfig(Config):
    """Configuration of `ReserveIsolatedStarsTask`."""

    reserve_name: Field[str] = Field(
        "Name to use for random seed selection hash.", dtype=str, default="reserved"
    )
    reserve_fraction: Field[float] = RangeField(
        "Fraction of stars to reserve.  None if == 0.",
        dtype=float,
        default=0.1,
        min=0.0,
        max=1.0,
        inclusiveMin=True,
        inclusiveMax=True,
    )


class ReserveIsolatedStarsTask(Task):
    """Reserve a random but reproducible fraction of the isolated stars.

    Reserved stars are measured but not used to fit the PSF.
    """

    ConfigClass: ClassVar[type[Config]] = ReserveIsolatedStarsConfig
    _DefaultName: ClassVar[str] = "reserve_isolated_stars"
    config: ReserveIsolatedStarsConfig

    def run(self, nstar: int, extra: str = "") -> npt.NDArray[np.bool_]:
        """Choose the reserved ones among numbered stars.

        Parameters
        ----------
        nstar : `int`
            Number of stars.
        extra : `str`, optional
            What makes this choice differ from others, normally band and
            tract.

        Returns
        -------
        reserved : `numpy.ndarray`
            (nstar,) bool; ``int(nstar * reserve_fraction)`` are `True`.

        Notes
        -----
        The generator is seeded with the low 32 bits of the SHA-256 of
        ``<reserve_name>_<extra>`` (spec 01 §2), so that every detector and
        visit reserves the same stars.
        """
        reserved = np.zeros(nstar, dtype=bool)
        if self.config.reserve_fraction == 0.0:
            return reserved
        digest = hashlib.sha256(f"{self.config.reserve_name}_{extra}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[-4:], "big"))
        reserved[: int(nstar * self.config.reserve_fraction)] = True
        rng.shuffle(reserved)
        return reserved
