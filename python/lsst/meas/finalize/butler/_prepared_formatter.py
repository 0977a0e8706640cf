# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Writer of prepared isolated stars, a row group per few detectors."""

from __future__ import annotations

__all__ = ("PreparedStarsFormatter",)

from typing import Any

import numpy as np

from lsst.daf.butler.formatters.parquet import ParquetFormatter, astropy_to_arrow
from lsst.resources import ResourcePath
from lsst.utils.introspection import get_full_type_name

from ._row_groups import group_bounds, write_row_groups


class PreparedStarsFormatter(ParquetFormatter):
    """Write ``finalize_isolated_stars`` so that a detector's rows can be read.

    Notes
    -----
    Reading is the base class's, and datastores record its name: such files
    are read by any client.  Tables without a column ``detector`` are written
    as the base class does.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name of the formatter that reads the files.

        Returns
        -------
        name : `str`
            Name of the base class.
        """
        return get_full_type_name(ParquetFormatter)

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write a table.

        Parameters
        ----------
        in_memory_dataset : `astropy.table.Table`
            Table sorted by the column ``detector``.
        uri : `lsst.resources.ResourcePath`
            Where it goes.
        """
        if "detector" not in getattr(in_memory_dataset, "colnames", ()):
            super().write_local_file(in_memory_dataset, uri)
            return
        table = astropy_to_arrow(in_memory_dataset)
        bounds = group_bounds(np.asarray(in_memory_dataset["detector"]))
        write_row_groups(table, bounds, uri.ospath, write_page_checksum=True)
