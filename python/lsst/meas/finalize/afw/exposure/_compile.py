# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compiling ahead what reading takes."""

from __future__ import annotations

__all__ = ("compile_reading",)

import io

import numpy as np
from astropy.io import fits

from lsst.images import Box

from ..piff import compile_walk
from ._mask import make_mask
from ._plane import Plane


def compile_reading() -> None:
    """Read a few compressed pixels and a pickle, for which kernels are
    compiled.

    They are kept as those of measurement plugins are, so that reading
    exposures compiles nothing.
    """
    pixels = np.arange(64, dtype=np.float32).reshape(2, 32)
    stream = io.BytesIO()
    image = fits.CompImageHDU(pixels, compression_type="RICE_1", quantize_level=-1.0, tile_shape=(1, 32))
    image.header["EXTTYPE"] = "IMAGE"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(stream)
    stream.seek(0)
    with fits.open(stream, disable_image_compression=True) as hdulist:
        Plane(hdulist, 1).read(np.float32)
    box = Box.factory[0:2, 0:32]
    make_mask([(slice(0, 2), np.ones(box.shape, dtype=np.int32))], {"BAD": 0}, box)
    compile_walk()
