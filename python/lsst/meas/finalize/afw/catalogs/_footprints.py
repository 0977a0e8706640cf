# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Footprints in archives: reading and writing all of a catalogue at once
(spec 02 §8).
"""

from __future__ import annotations

__all__ = ("read_footprints", "write_footprints")

import dataclasses
import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._runs import run_offsets, run_rows
from ...catalogs import Field, Footprints, Schema
from .._errors import MalformedArchiveError
from ..archive import ArchiveReader, ArchiveWriter
from ..fits import FitsTable, table_schema

_LOG = logging.getLogger(__name__)

_MODULE = "lsst.afw.detection"
_LIGHT = "Footprint"
_HEAVY = ("HeavyFootprintF", "HeavyFootprintD", "HeavyFootprintI", "HeavyFootprintU")
_SPANS = ("y", "x0", "x1")
_MINIMAL_PEAK = ("id", "f_x", "f_y", "i_x", "i_y", "peakValue")
# Entries sharing rows could otherwise blow up a small file.
_MIN_LIMIT = 2**22
_MAX_SHARING = 16
_MAX_AREA = 2**28

_ID_SCHEMA = Schema((Field("id", "I", "id of the SpanSet catalog"),))
_SPAN_SCHEMA = Schema(
    (
        Field("y", "I", "The row of the span", "pixel"),
        Field("x0", "I", "First column of span (inclusive)", "pixel"),
        Field("x1", "I", "Second column of span (inclusive)", "pixel"),
    )
)
_HEAVY_SCHEMA = Schema(
    (
        Field("image", "ArrayF", "image pixels for HeavyFootprint", "count"),
        Field("mask", "ArrayI", "mask pixels for HeavyFootprint"),
        Field("variance", "ArrayF", "variance pixels for HeavyFootprint", "count^2"),
    )
)

type _Ints = npt.NDArray[np.int64]


def _find_entries(archive: ArchiveReader, ids: _Ints, persistable: int) -> _Ints:
    """Find index entries of objects' own tables; -1 where there is none."""
    if not len(archive.ids):
        return np.full(len(ids), -1, dtype=np.int64)
    factor = int(archive.persistables.max(initial=0)) + persistable + 3
    keys = archive.ids * factor + archive.persistables + 1
    wanted = ids * factor + persistable + 1
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


class _Gatherer:
    """Collects the rows that index entries point to, entry after entry.

    Parameters
    ----------
    archive : `ArchiveReader`
        The archive.
    entries : `numpy.ndarray` of int64
        Positions in its (sorted) index; -1 for no rows.
    """

    def __init__(self, archive: ArchiveReader, entries: _Ints):
        used = (entries >= 0) & (archive.catalogs[entries] > 0) if len(archive.ids) else entries >= 0
        self.counts: _Ints = np.where(used, archive.n_rows[entries], 0) if len(archive.ids) else 0 * entries
        self.offsets = run_offsets(self.counts)
        self.total = int(self.offsets[-1])
        self.tables: list[tuple[FitsTable, _Ints, _Ints]] = []
        numbers = np.unique(archive.catalogs[entries[used]]).tolist() if used.any() else []
        n_stored = sum(len(archive.table(number)) for number in numbers)
        if self.total > max(_MIN_LIMIT, _MAX_SHARING * n_stored):
            raise MalformedArchiveError(
                f"{archive.where}: index entries share too many rows ({self.total} of {n_stored})"
            )
        for number in numbers:
            table = archive.table(number)
            chosen = np.flatnonzero(used & (archive.catalogs[entries] == number))
            row0, counts = archive.row0[entries[chosen]], self.counts[chosen]
            outside = row0 + counts > len(table)
            if outside.any():
                entry = entries[chosen[int(np.flatnonzero(outside)[0])]]
                raise MalformedArchiveError(
                    f"{table.where}: rows {archive.row0[entry]} to "
                    f"{archive.row0[entry] + archive.n_rows[entry] - 1} of archive id {archive.ids[entry]} "
                    f"({archive.names[entry]}) are outside of the {len(table)} rows there are"
                )
            self.tables.append((table, run_rows(self.offsets[chosen], counts), run_rows(row0, counts)))

    def column(self, name: str, dtype: npt.DTypeLike, default: Any = None) -> npt.NDArray[Any]:
        """Return one column of all rows; required if there's no default."""
        result = np.full(self.total, 0 if default is None else default, dtype=dtype)
        for table, target, source in self.tables:
            if default is not None and name not in table:
                continue
            values = table.column(name)
            if (
                values.ndim != 1
                or values.dtype == object
                or not np.can_cast(values.dtype, dtype, "same_kind")
            ):
                raise MalformedArchiveError(f"{table.where}: column {name!r} has the wrong type")
            result[target] = values[source]
        return result


def _merge_spans(
    source: _Ints, y: npt.NDArray[Any], x0: npt.NDArray[Any], x1: npt.NDArray[Any]
) -> tuple[_Ints, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Sort spans of each source by (y, x0) and merge those that touch."""
    same = (source[1:] == source[:-1]) & (y[1:] == y[:-1])
    descending = (source[1:] == source[:-1]) & (y[1:] < y[:-1])
    if not (descending | (same & (x0[1:] <= x1[:-1].astype(np.int64) + 1))).any():
        return source, y, x0, x1
    order = np.lexsort((x0, y, source))
    source, y, x0, x1 = source[order], y[order], x0[order], x1[order]
    row_starts = np.ones(len(y), dtype=bool)
    row_starts[1:] = (source[1:] != source[:-1]) | (y[1:] != y[:-1])
    # Offsets larger than any coordinate restart the running maximum.
    base = np.cumsum(row_starts) * 2**33
    reach = np.maximum.accumulate(x1 + base)
    starts = row_starts.copy()
    starts[1:] |= x0[1:] + base[1:] > reach[:-1] + 1
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(y)) - 1
    return source[first], y[first], x0[first], (reach[last] - base[last]).astype(x1.dtype)


def _read_spans(
    archive: ArchiveReader, ids: _Ints, entries: _Ints
) -> tuple[_Ints, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Read the spans of footprints whose first tables are given."""
    inline = np.zeros(len(entries), dtype=bool)
    for number in np.unique(archive.catalogs[entries]):
        if number > 0 and len(archive.table(int(number)).layout.columns) == 3:
            # Before there were span sets.
            inline |= archive.catalogs[entries] == number
    span_entries = entries.copy()
    if (~inline).any():
        rows = _Gatherer(archive, entries[~inline])
        if (rows.counts != 1).any():
            bad = ids[~inline][int(np.flatnonzero(rows.counts != 1)[0])]
            raise MalformedArchiveError(
                f"{archive.where}: footprint {bad} doesn't have one row in its first table"
            )
        span_ids = rows.column("id", np.int64)
        span_entries[~inline] = _find_entries(archive, span_ids, 0)
        missing = span_entries < 0
        missing[~inline] |= archive.names[span_entries[~inline]] != "SpanSet"
        if missing.any():
            bad = int(np.flatnonzero(missing[~inline])[0])
            raise MalformedArchiveError(
                f"{archive.where}: archive id {span_ids[bad]} of footprint {ids[~inline][bad]} is no SpanSet"
            )
    rows = _Gatherer(archive, span_entries)
    y, x0, x1 = (rows.column(name, np.int32) for name in _SPANS)
    source = np.repeat(np.arange(len(ids)), rows.counts)
    if (x1 < x0).any():
        bad = int(np.flatnonzero(x1 < x0)[0])
        raise MalformedArchiveError(
            f"{archive.where}: footprint {ids[source[bad]]} has a span from x0={x0[bad]} to x1={x1[bad]}"
        )
    source, y, x0, x1 = _merge_spans(source, y, x0, x1)
    area = np.bincount(source, weights=x1.astype(np.float64) - x0 + 1, minlength=len(ids))
    if (area > _MAX_AREA).any():
        bad = int(np.argmax(area))
        raise MalformedArchiveError(f"{archive.where}: footprint {ids[bad]} has {area[bad]:.0f} pixels")
    return source, y, x0, x1


class _Peaks(NamedTuple):
    """Peaks of footprints, whose tables may differ in their fields.

    Attributes
    ----------
    counts
        (N,) number of peaks of each footprint.
    schema
        Fields of all; `None` if there is no table.
    schemas
        Fields of each table.
    kinds
        (N,) which of the tables a footprint's peaks are from.
    columns
        Values by field; never written where a table lacks the field.
    """

    counts: _Ints
    schema: Schema | None
    schemas: list[Schema] | None
    kinds: _Ints
    columns: dict[str, npt.NDArray[Any]]


def _read_peaks(archive: ArchiveReader, ids: _Ints) -> _Peaks:
    entries = _find_entries(archive, ids, 1)
    if (entries < 0).any():
        bad = ids[int(np.flatnonzero(entries < 0)[0])]
        raise MalformedArchiveError(f"{archive.where}: footprint {bad} has no table of peaks")
    rows = _Gatherer(archive, entries)
    numbers, kinds = np.unique(archive.catalogs[entries], return_inverse=True)
    schemas = [_peak_schema(archive.table(int(number))) if number > 0 else Schema() for number in numbers]
    if not any(len(schema.fields) for schema in schemas):
        return _Peaks(rows.counts, None, None, kinds, {})
    for kind in np.flatnonzero(numbers < 1):
        # Objects without rows have no fields of their own.
        schemas[kind] = next(schema for schema in schemas if len(schema.fields))
    schema = _join_peak_schemas(schemas, archive.where)
    columns = {field.name: rows.column(field.name, field.dtype, field.make_column(1)[0]) for field in schema}
    return _Peaks(rows.counts, schema, schemas, kinds, columns)


def _peak_schema(table: FitsTable) -> Schema:
    """Return the fields of a table of peaks."""
    if missing := [name for name in _MINIMAL_PEAK if name not in table]:
        raise MalformedArchiveError(f"{table.where}: peaks lack the columns {missing}")
    schema = table_schema(table)[0]
    for field in schema:
        if field.type == "String" or field.is_array:
            raise MalformedArchiveError(f"{table.where}: peak column {field.name!r} is no number or flag")
    return schema


def _join_peak_schemas(schemas: list[Schema], where: str) -> Schema:
    """Return the fields of all, each of a type that holds those of all."""
    fields: dict[str, Field] = {}
    for field in (field for schema in schemas for field in schema):
        known = fields.setdefault(field.name, field)
        if known.type == field.type:
            continue
        types = {known.type, field.type}
        # Large integers aren't exact in any float.
        inexact = "Flag" in types or types in ({"L", "D"}, {"L", "F"})
        wider = [
            one
            for one in (known, field, dataclasses.replace(field, type="D"))
            if all(np.can_cast(other.dtype, one.dtype) for other in (known, field))
        ]
        if inexact or not wider:
            raise MalformedArchiveError(f"{where}: peak column {field.name!r} has several types")
        fields[field.name] = wider[0]
    return Schema(tuple(fields.values()))


def _read_heavy(
    archive: ArchiveReader, ids: _Ints
) -> tuple[_Ints, npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Read the pixels of heavy footprints, one after another."""
    entries = _find_entries(archive, ids, 2)
    rows = _Gatherer(archive, entries)
    if (rows.counts != 1).any():
        bad = ids[int(np.flatnonzero(rows.counts != 1)[0])]
        raise MalformedArchiveError(f"{archive.where}: heavy footprint {bad} doesn't have one row of pixels")
    counts = np.zeros(len(ids), dtype=np.int64)
    parts = []
    for table, target, source in rows.tables:
        columns = {name: table.ragged(name) for name in ("image", "mask", "variance")}
        lengths = columns["image"][1]
        if any(not np.array_equal(lengths, found) for _, found in columns.values()):
            raise MalformedArchiveError(f"{table.where}: image, mask and variance differ in length")
        counts[target] = lengths[source]
        parts.append((columns, lengths, target, source))
    offsets = run_offsets(counts)
    n_stored = sum(int(lengths.sum()) for _, lengths, _, _ in parts)
    if offsets[-1] > max(_MIN_LIMIT, _MAX_SHARING * n_stored):
        raise MalformedArchiveError(
            f"{archive.where}: heavy footprints share too many pixels ({offsets[-1]} of {n_stored})"
        )
    image = np.zeros(offsets[-1], dtype=np.float32)
    mask = np.zeros(offsets[-1], dtype=np.int32)
    variance = np.zeros(offsets[-1], dtype=np.float32)
    for columns, lengths, target, source in parts:
        to = run_rows(offsets[target], counts[target])
        of = run_rows(run_offsets(lengths)[source], lengths[source])
        for array, name in ((image, "image"), (mask, "mask"), (variance, "variance")):
            array[to] = columns[name][0][of]
    return counts, image, mask, variance


def read_footprints(archive: ArchiveReader, ids: npt.ArrayLike) -> Footprints:
    """Read the footprints of a catalogue.

    Parameters
    ----------
    archive : `ArchiveReader`
        The archive.
    ids : array-like of int
        Archive id of each source's footprint; 0 for none.

    Returns
    -------
    footprints : `~lsst.meas.finalize.catalogs.Footprints`
        Footprints in the same order.  Spans are sorted and merged; pixels of
        heavy footprints are converted to 32-bit floats and integers.
        Footprints of unknown classes are absent, with one warning per class.

    Raises
    ------
    MalformedArchiveError
        Raised if ids are unknown or tables are inconsistent.
    """
    all_ids = np.asarray(ids, dtype=np.int64)
    entries = np.full(len(all_ids), -1, dtype=np.int64)
    wanted = all_ids != 0
    entries[wanted] = _find_entries(archive, all_ids[wanted], 0)
    if (wanted & (entries < 0)).any():
        row = int(np.flatnonzero(wanted & (entries < 0))[0])
        archive.name(int(all_ids[row]))
        raise MalformedArchiveError(f"{archive.where}: archive id {all_ids[row]} is no footprint")
    names = np.where(wanted, archive.names[entries] if len(archive.names) else "", "")
    present = np.isin(names, (_LIGHT, *_HEAVY))
    for name in np.unique(names[wanted & ~present]):
        _LOG.warning("%s: skipping footprints of the unknown class %r", archive.where, str(name))
    chosen = np.flatnonzero(present)
    if not len(chosen):
        return Footprints.empty(len(all_ids))
    some = all_ids[chosen]
    source, y, x0, x1 = _read_spans(archive, some, entries[chosen])
    peaks = _read_peaks(archive, some)
    is_heavy = np.isin(names, _HEAVY)
    heavy_counts = np.zeros(len(all_ids), dtype=np.int64)
    heavy_counts[is_heavy], image, mask, variance = _read_heavy(archive, all_ids[is_heavy])
    area = np.bincount(chosen[source], weights=x1.astype(np.float64) - x0 + 1, minlength=len(all_ids))
    if (bad := np.flatnonzero(is_heavy & (heavy_counts != area))).size:
        raise MalformedArchiveError(
            f"{archive.where}: heavy footprint {all_ids[bad[0]]} of {area[bad[0]]:.0f} pixels "
            f"has {heavy_counts[bad[0]]} values"
        )
    all_peaks, kinds = np.zeros((2, len(all_ids)), dtype=np.int64)
    all_peaks[chosen], kinds[chosen] = peaks.counts, peaks.kinds if peaks.schemas else 0
    return Footprints(
        run_offsets(np.bincount(chosen[source], minlength=len(all_ids))),
        y,
        x0,
        x1,
        peak_offsets=run_offsets(all_peaks),
        peaks=peaks.columns,
        peak_schema=peaks.schema,
        peak_schemas=peaks.schemas,
        peak_kinds=kinds,
        heavy_offsets=run_offsets(heavy_counts),
        is_heavy=is_heavy,
        heavy_image=image,
        heavy_mask=mask,
        heavy_variance=variance,
        present=present,
    )


def _split(values: npt.NDArray[Any], offsets: _Ints, chosen: _Ints) -> npt.NDArray[Any]:
    result = np.empty(len(chosen), dtype=object)
    # Rows of different length can't be one array.
    for i, row in enumerate(chosen):
        result[i] = values[offsets[row] : offsets[row + 1]]
    return result


def _append_peaks(
    archive: ArchiveWriter, footprints: Footprints, names: npt.NDArray[np.str_]
) -> tuple[_Ints, _Ints]:
    """Append peaks to tables of their own fields; return table and first row
    of each footprint.
    """
    numbers, row0 = np.zeros((2, len(footprints)), dtype=np.int64)
    offsets, counts = footprints.peak_offsets[:-1], np.diff(footprints.peak_offsets)
    for kind, schema in enumerate(footprints.peak_schemas):
        rows = np.flatnonzero(footprints.peak_kinds == kind)
        if not len(rows):
            continue
        for name in [*dict.fromkeys(names[rows].tolist()), str(names[rows[-1]])]:
            table = archive.claim_table(schema, name)
        peaks = run_rows(offsets[rows], counts[rows])
        columns = {field.name: footprints.peaks[field.name][peaks].astype(field.dtype) for field in schema}
        numbers[rows] = table.number
        row0[rows] = table.append(columns, len(peaks)) + run_offsets(counts[rows])[:-1]
    return numbers, row0


def write_footprints(archive: ArchiveWriter, footprints: Footprints) -> _Ints:
    """Write the footprints of a catalogue, as the stack orders them.

    Parameters
    ----------
    archive : `ArchiveWriter`
        The archive.
    footprints : `~lsst.meas.finalize.catalogs.Footprints`
        Footprints; heavy ones are written with 32-bit floats.

    Returns
    -------
    ids : `numpy.ndarray` of int64
        Archive ids; 0 for absent footprints.
    """
    chosen = np.flatnonzero(footprints.present)
    ids = np.zeros(len(footprints), dtype=np.int64)
    if not len(chosen):
        return ids
    if len(chosen) != len(footprints):
        footprints = footprints.take(chosen)
    n, heavy = len(chosen), footprints.is_heavy
    first = archive.reserve_ids(2 * n)
    own = first + 2 * np.arange(n)
    ids[chosen] = own
    names = np.where(heavy, _HEAVY[0], _LIGHT)
    classes = [*dict.fromkeys(names.tolist()), str(names[-1])]
    for name in classes:
        id_table = archive.claim_table(_ID_SCHEMA, name)
    span_table = archive.claim_table(_SPAN_SCHEMA, "SpanSet")
    peak_tables, peak_row0 = _append_peaks(archive, footprints, names)
    id_row = id_table.append({"id": (own + 1).astype(np.int32)}, n)
    spans = {"y": footprints.span_y, "x0": footprints.span_x0, "x1": footprints.span_x1}
    span_row = span_table.append(spans, len(footprints.span_y))
    one, zero = np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    blocks = [
        (
            own + 1,
            one * span_table.number,
            zero,
            span_row + footprints.span_offsets[:-1],
            footprints.span_offsets,
        ),
        (own, one * id_table.number, zero, id_row + np.arange(n), None),
        (own, peak_tables, one, peak_row0, footprints.peak_offsets),
    ]
    columns = [np.stack([i, c, p, r, one if o is None else np.diff(o)], axis=1) for i, c, p, r, o in blocks]
    keep = [one.astype(bool)] * 3
    if heavy.any():
        rows = np.flatnonzero(heavy)
        heavy_table = archive.claim_table(_HEAVY_SCHEMA, _HEAVY[0])
        pixels = {
            name: _split(values, footprints.heavy_offsets, rows)
            for name, values in (
                ("image", footprints.heavy_image),
                ("mask", footprints.heavy_mask),
                ("variance", footprints.heavy_variance),
            )
        }
        heavy_row = heavy_table.append(pixels, len(rows)) + np.cumsum(heavy) - 1
        columns.append(np.stack([own, one * heavy_table.number, 2 * one, heavy_row, one], axis=1))
        keep.append(heavy)
    # One source after another, the span set before the footprint.
    table = np.stack(columns, axis=1)
    mask = np.stack(keep, axis=1)
    entry_names = np.repeat(names[:, np.newaxis], len(columns), axis=1).astype("U64")
    modules = np.full(entry_names.shape, _MODULE, dtype="U64")
    entry_names[:, 0], modules[:, 0] = "SpanSet", "lsst.afw.geom"
    entry_ids, catalogs, persistables, row0, n_rows = table[mask].T
    archive.add_index(entry_ids, catalogs, persistables, row0, n_rows, entry_names[mask], modules[mask])
    return ids
