# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""From plain arrays to images, sources and measured stars, without files."""

from ._camera import *
from ._detect import *
from ._image import *
from ._sources import *
