# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Options of the replacement of neighbours by noise (spec 03 §2.1)."""

from __future__ import annotations

__all__ = ("NoiseReplacerConfig",)

from lsst.pex.config import ChoiceField, Config, Field, RangeField


class NoiseReplacerConfig(Config):
    """How the noise that replaces neighbours is made."""

    noiseSource = ChoiceField[str](
        doc="How to choose mean and variance of the noise.",
        allowed={
            "measure": "Clipped mean and variance of the whole image",
            "meta": "Mean 0, variance from the 'BGMEAN' metadata entry",
            "variance": "Mean 0, variance from the image's variance plane, pixel by pixel",
            "variance_median": "Mean 0, variance from the median of the variance plane",
        },
        default="measure",
        optional=False,
    )
    noiseOffset = Field[float](doc="Offset to add to the noise.", default=0.0)
    noiseSeedMultiplier = RangeField(
        dtype=int,
        doc="The seed is this times the exposure ID, or this if there is no ID. "
        "0: the generator's default seed.",
        default=1,
        min=0,
    )
