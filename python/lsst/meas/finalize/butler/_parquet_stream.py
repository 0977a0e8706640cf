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

__all__ = ("StreamedTable", "stream", "stream_all")

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lsst.resources import ResourcePath

_LOG = logging.getLogger(__name__)

_SUFFIXES = (".parq", ".parquet", ".pq")
_BATCH_ROWS = 2**17
# Per column; where each read takes long, fewer of them.
_BUFFER_BYTES, _REMOTE_BUFFER_BYTES = 2**17, 2**22
# So little is read from there at once, in few requests.
_AT_ONCE_BYTES = 2**21

_ASTROPY_YAML = b"table_meta_yaml"

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
    if not _means_file(handle):
        return handle
    try:
        uri = handle.butler.getURI(handle.ref)
    except Exception as error:  # stores without files raise various things
        _LOG.debug("No file of %s: %s", handle.ref, error)
        return handle
    return _stream_file(handle, uri)


def stream_all(handles: Sequence[Any]) -> list[Any]:
    """Make handles of tables readable piece by piece, if they can be.

    Parameters
    ----------
    handles
        Any handles; those of one butler are looked up together.

    Returns
    -------
    handles : `list`
        See `stream`.
    """
    files = [handle for handle in handles if _means_file(handle)]
    butlers = {id(handle.butler): handle.butler for handle in files}
    uris: dict[tuple[int, Any], ResourcePath] = {}
    for key, butler in butlers.items():
        refs = [handle.ref for handle in files if handle.butler is butler]
        try:
            found = butler.get_many_uris(refs)
        except Exception as error:  # so do some if a single one is missing
            _LOG.debug("Files are looked up one by one: %s", error)
            continue
        uris |= {(key, ref): uri for ref, (uri, _) in found.items() if uri is not None}
    result = []
    for handle in handles:
        uri = uris.get((id(handle.butler), handle.ref)) if _means_file(handle) else None
        result.append(stream(handle) if uri is None else _stream_file(handle, uri))
    return result


def _means_file(handle: Any) -> bool:
    """Return whether a handle is of all that is stored in a butler."""
    # With parameters of its own it means something else than the file.
    butler, ref = getattr(handle, "butler", None), getattr(handle, "ref", None)
    return butler is not None and ref is not None and not getattr(handle, "parameters", None)


def _stream_file(handle: Any, uri: ResourcePath) -> Any:
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
        open_files = ExitStack()
        try:
            file = self._open(open_files)
            parquet = _parquet_file(file, _BUFFER_BYTES if self._uri.isLocal else _REMOTE_BUFFER_BYTES)
            names = _expand(columns, parquet.schema_arrow)
            groups = [] if names is None else _wanted_groups(parquet.metadata, names, filters)
            if names and not self._uri.isLocal and _n_bytes(parquet.metadata, groups, names) < _AT_ONCE_BYTES:
                parquet = _parquet_file(file, 0, pre_buffer=True, metadata=parquet.metadata)
        except Exception as error:  # stores and Arrow raise various things
            _LOG.debug("%s can't be streamed: %s", self._uri, error)
            names = None
        if names is None:
            open_files.close()
            return None
        return _pieces(open_files, parquet, names, groups)

    def read(self) -> pa.Table:
        """Read all of a table.

        Returns
        -------
        table : `pyarrow.Table`
            What the butler returns as an ``ArrowTable``; its formatter
            makes the schema of the file twice, which for hundreds of columns
            takes longer than the rows.

        Raises
        ------
        OSError
            Raised if the file is damaged.
        """
        import pyarrow as pa

        try:
            # At once: all of it is needed, and each column would be a read.
            parquet = _parquet_file(pa.BufferReader(self._uri.read()), 0)
            written = parquet.metadata.metadata or {}
        except Exception as error:  # stores and Arrow raise various things
            _LOG.debug("%s can't be opened: %s", self._uri, error)
            written = {}
        # The butler does more than reading where pandas or astropy wrote.
        if b"lsst::arrow::rowcount" not in written or b"pandas" in written:
            return self.get(storageClass="ArrowTable")
        try:
            table = parquet.read(use_threads=False)
        except Exception as error:
            raise OSError(f"{self.ref} can't be read from {self._uri}: {error}") from error
        metadata = dict(table.schema.metadata)
        metadata.pop(_ASTROPY_YAML, None)
        return table.replace_schema_metadata(metadata)

    def _open(self, open_files: ExitStack) -> Any:
        """Open the file for reading with seeks, as long as the stack is."""
        import pyarrow as pa

        if self._uri.isLocal:
            return open_files.enter_context(pa.OSFile(self._uri.ospath))
        # Object stores are read by ranges, as far as lsst.resources can.
        return open_files.enter_context(self._uri.open("rb"))


def _parquet_file(file: Any, buffer_size: int, **options: Any) -> pq.ParquetFile:
    """Return a reader that detects damage where the writer made that
    possible.
    """
    import pyarrow.parquet as pq

    options = {"pre_buffer": False, "page_checksum_verification": True} | options
    return pq.ParquetFile(file, buffer_size=buffer_size, **options)


def _expand(columns: Sequence[str], schema: pa.Schema) -> list[str] | None:
    """Return the columns that match patterns, in the order of the patterns;
    `None` if the butler does more than reading columns here.
    """
    metadata = schema.metadata or {}
    # What astropy wrote without the butler has its units in here.
    if _ASTROPY_YAML in metadata and b"lsst::arrow::rowcount" not in metadata:
        return None
    names = [name for name in schema.names if not name.startswith("__")]
    found = [[name for name in names if fnmatchcase(name, column)] for column in columns]
    return list(dict.fromkeys(name for matching in found for name in matching)) if all(found) else None


def _pieces(
    open_files: ExitStack, parquet: pq.ParquetFile, names: list[str], groups: list[int]
) -> Iterator[pa.Table]:
    """Read row groups; close the file in the end."""
    import pyarrow as pa

    with open_files:
        n_pieces = 0
        for batch in parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=groups, columns=names, use_threads=False
        ):
            n_pieces += 1
            yield pa.Table.from_batches([batch]).select(names)
        if not n_pieces:
            yield parquet.schema_arrow.empty_table().select(names)


def _wanted_groups(metadata: pq.FileMetaData, names: list[str], filters: Filters) -> list[int]:
    """Return the row groups that may have wanted rows."""
    return [
        i for i in range(metadata.num_row_groups) if not _is_outside(metadata.row_group(i), names, filters)
    ]


def _n_bytes(metadata: pq.FileMetaData, groups: list[int], names: list[str]) -> int:
    """Return how much is to be read for columns of row groups."""
    chunks = (metadata.row_group(i).column(j) for i in groups for j in range(metadata.num_columns))
    return sum(c.total_compressed_size for c in chunks if c.path_in_schema.partition(".")[0] in names)


def _is_outside(metadata: pq.RowGroupMetaData, names: list[str], filters: Filters) -> bool:
    """Return whether the statistics of a row group exclude all its rows.

    Those with gaps are never excluded: that is for the reader to refuse.
    """
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
