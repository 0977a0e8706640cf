# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tables in Parquet files, read piece by piece."""

from __future__ import annotations

__all__ = ("StreamedTable", "stream")

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lsst.resources import ResourcePath

_LOG = logging.getLogger(__name__)

_SUFFIXES = (".parq", ".parquet", ".pq")
_BATCH_ROWS = 2**17
# Per column; where each read takes long, fewer of them.
_BUFFER_BYTES, _REMOTE_BUFFER_BYTES = 2**17, 2**22

type Filters = Sequence[tuple[str, str, int]]


def stream(handle: Any) -> Any:
    """Make a handle of a table readable piece by piece, if it can be.

    Parameters
    ----------
    handle : `lsst.daf.butler.DeferredDatasetHandle`
        Any handle.

    Returns
    -------
    handle : `StreamedTable` or `object`
        The same handle if its butler doesn't tell of a Parquet file.
    """
    butler, ref = getattr(handle, "butler", None), getattr(handle, "ref", None)
    # With parameters of its own it means something else than the file.
    if butler is None or ref is None or getattr(handle, "parameters", None):
        return handle
    try:
        uri = butler.getURI(ref)
    except Exception as error:  # stores without files raise various things
        _LOG.debug("No file of %s: %s", ref, error)
        return handle
    if uri.scheme == "mem" or uri.fragment or uri.getExtension() not in _SUFFIXES:
        return handle
    return StreamedTable(handle, uri)


class StreamedTable:
    """Handle of a table in a Parquet file.

    Parameters
    ----------
    handle : `lsst.daf.butler.DeferredDatasetHandle`
        Handle of the dataset.
    uri : `lsst.resources.ResourcePath`
        Its file.

    Notes
    -----
    The formatter of daf_butler 30.2026.43 reads all rows of a column at once.
    """

    def __init__(self, handle: Any, uri: ResourcePath) -> None:
        self._handle = handle
        self._uri = uri

    @property
    def ref(self) -> Any:
        """Reference to the dataset."""
        return self._handle.ref

    @property
    def dataId(self) -> Any:
        """Data ID of the dataset."""
        return self._handle.dataId

    def get(self, **kwargs: Any) -> Any:
        """Read the dataset through the butler.

        Parameters
        ----------
        **kwargs
            Passed to the handle.

        Returns
        -------
        dataset : `object`
            What the handle returns.
        """
        return self._handle.get(**kwargs)

    def batches(self, columns: Sequence[str], filters: Filters = ()) -> Iterator[pa.Table] | None:
        """Read a table piece by piece.

        Parameters
        ----------
        columns : `~collections.abc.Sequence` [ `str` ]
            Columns, or patterns of their names.
        filters : `~collections.abc.Sequence`, optional
            Conditions (column, "=", integer).  Row groups in which no row
            can meet them are skipped.

        Returns
        -------
        pieces : `~collections.abc.Iterator` [ `pyarrow.Table` ] or `None`
            At least one piece; it raises what Arrow raises for damaged
            files.  `None` if the file isn't as expected, so that the butler
            must read it, or fail.
        """
        import pyarrow.parquet as pq

        file: Any = None
        try:
            file = self._open()
            size = _BUFFER_BYTES if self._uri.isLocal else _REMOTE_BUFFER_BYTES
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=size)
            names = _expand(columns, parquet.schema_arrow)
        except (OSError, ValueError) as error:
            _LOG.debug("%s can't be streamed: %s", self._uri, error)
            names = None
        if names is None:
            if file is not None:
                file.close()
            return None
        return _pieces(file, parquet, names, filters)

    def _open(self) -> BinaryIO | pa.NativeFile:
        """Open the file for reading with seeks."""
        import pyarrow as pa

        if self._uri.isLocal:
            return pa.OSFile(self._uri.ospath)
        # Object stores are read by ranges, as far as lsst.resources can.
        context: Any = self._uri.open("rb")
        file: BinaryIO = context.__enter__()  # closed with the last piece
        return file


def _expand(columns: Sequence[str], schema: pa.Schema) -> list[str] | None:
    """Return the columns that match patterns, in the order of the patterns;
    `None` if the butler does more than reading columns here.
    """
    metadata = schema.metadata or {}
    # What astropy wrote without the butler has its units in here.
    if b"table_meta_yaml" in metadata and b"lsst::arrow::rowcount" not in metadata:
        return None
    names = [name for name in schema.names if not name.startswith("__")]
    found = [[name for name in names if fnmatchcase(name, column)] for column in columns]
    return list(dict.fromkeys(name for matching in found for name in matching)) if all(found) else None


def _pieces(file: Any, parquet: pq.ParquetFile, names: list[str], filters: Filters) -> Iterator[pa.Table]:
    """Read the row groups that may have wanted rows."""
    import pyarrow as pa

    with file:
        groups = [i for i in range(parquet.num_row_groups) if not _is_outside(parquet, i, names, filters)]
        n_pieces = 0
        for batch in parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=groups, columns=names, use_threads=False
        ):
            n_pieces += 1
            yield pa.Table.from_batches([batch]).select(names)
        if not n_pieces:
            yield parquet.schema_arrow.empty_table().select(names)


def _is_outside(parquet: pq.ParquetFile, group: int, names: list[str], filters: Filters) -> bool:
    """Return whether the statistics of a row group exclude all its rows.

    Those with gaps are never excluded: that is for the reader to refuse.
    """
    metadata = parquet.metadata.row_group(group)
    outside = False
    for i in range(metadata.num_columns):
        column = metadata.column(i)
        name = column.path_in_schema
        if name not in names:
            continue
        statistics = column.statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
        wanted = [value for filtered, _, value in filters if filtered == name]
        if wanted and statistics.has_min_max and isinstance(statistics.min, int):
            outside |= not statistics.min <= wanted[0] <= statistics.max
    return outside
