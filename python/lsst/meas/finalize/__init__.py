# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Final image characterisation of LSST single-visit images: PSF,
measurement and aperture corrections of isolated stars.
"""

from . import _stored_names
