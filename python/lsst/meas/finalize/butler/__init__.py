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

from __future__ import annotations

from typing import Any

from ._delegate import ExposureDelegate
from ._formatters import CatalogFormatter, ExposureFormatter
from ._instrument import SynthCam
from ._parquet_stream import StreamedTable, stream

__all__ = (
    "CatalogFormatter",
    "ExposureDelegate",
    "ExposureFormatter",
    "StreamedTable",
    "SynthCam",
    "stream",
)


def __getattr__(name: str) -> Any:
    # These need pyarrow, which is slow to import and needed by few.
    if name == "PreparedStarsFormatter":
        from ._prepared_formatter import PreparedStarsFormatter

        return PreparedStarsFormatter
    if name in ("ArrowTableFormatter", "table_to_arrow"):
        from . import _arrow

        return getattr(_arrow, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
