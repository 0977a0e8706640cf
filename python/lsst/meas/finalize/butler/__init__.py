# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Formatters, the storage-class overlay for a client without the stack, and
the synthetic instrument.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_room as _lazy_room

if TYPE_CHECKING:
    from ._arrow import *
    from ._delegate import *
    from ._formatters import *
    from ._instrument import *
    from ._parquet_stream import *
    from ._prepared_formatter import *
else:
    __getattr__, __dir__, __all__ = _lazy_room(
        __name__,
        {
            "_arrow": (
                "ArrowTableFormatter",
                "table_to_arrow",
                "write_parquet",
            ),
            "_delegate": ("ExposureDelegate",),
            "_formatters": (
                "CatalogFormatter",
                "ExposureFormatter",
            ),
            "_instrument": ("SynthCam",),
            "_parquet_stream": (
                "StreamedTable",
                "stream",
                "stream_all",
            ),
            "_prepared_formatter": ("PreparedStarsFormatter",),
        },
    )
