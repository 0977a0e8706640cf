# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Binary tables of FITS files as ``lsst.afw.table`` writes them."""

from __future__ import annotations

__all__ = ("PRIMARY_HDU", "FitsTarget", "encode_table", "target_name", "write_file")

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..._texts import encode_texts
from ...catalogs import Field, Schema
from ._cards import format_block

type FitsTarget = str | os.PathLike[str] | BinaryIO
"""A path, or a binary stream to write to."""

_LETTERS = {"B": "B", "U": "I", "I": "J", "L": "K", "F": "E", "D": "D", "Angle": "D"}
_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_BLOCK = 2880

PRIMARY_HDU = format_block(
    [
        ("SIMPLE", True, "file does conform to FITS standard"),
        ("BITPIX", 16, "number of bits per data pixel"),
        ("NAXIS", 0, "number of data axes"),
        ("EXTEND", True, "FITS dataset may contain extensions"),
        ("COMMENT", "  FITS (Flexible Image Transport System) format is defined in 'Astronomy", ""),
        ("COMMENT", "  and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H", ""),
    ]
)
"""Header of the empty primary HDU the stack writes."""


def _base_type(field: Field) -> str:
    return field.type.removeprefix("Array")


def _kind(field: Field) -> str:
    if field.is_array:
        return "Array"
    return field.type if field.type in ("Angle", "String") else "Scalar"


def _letter(field: Field) -> str:
    return "A" if field.type == "String" else _LETTERS[_base_type(field)]


def _is_variable(field: Field) -> bool:
    return field.size == 0 and (field.is_array or field.type == "String")


def _encode_fixed(field: Field, values: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    if field.type == "String":
        if not len(values):
            return np.zeros(0, dtype=f"S{field.size}")
        encoded = encode_texts(values.astype(np.str_))
        lengths = np.strings.str_len(encoded)
        if int(lengths.max()) > field.size:
            longest = str(values[int(np.argmax(lengths))])
            raise ValueError(
                f"{where}: {longest!r} is longer than the {field.size} bytes of field {field.name!r}"
            )
        return np.strings.ljust(encoded, field.size).astype(f"S{field.size}")
    letter = _letter(field)
    if _base_type(field) == "U":
        values = values.astype(np.int32) - 32768
    return values.astype(_DTYPES[letter], copy=False)


def _heap_bytes(field: Field, value: Any) -> bytes | memoryview:
    if field.type == "String":
        # The stack stores an empty string as one NUL.
        return str(value).encode("utf-8") or b"\0"
    return np.ascontiguousarray(_encode_fixed(field, np.asarray(value), "")).view(np.uint8).data


def _encode_heap(
    fields: Sequence[Field], columns: Mapping[str, npt.NDArray[Any]], n_rows: int
) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, int], list[bytes | memoryview]]:
    """Return descriptors and largest counts of fields, and what is in the
    heap, piece by piece.
    """
    descriptors = {f.name: np.zeros((n_rows, 2), dtype=np.int64) for f in fields}
    longest = {f.name: 0 for f in fields}
    chunks: list[bytes | memoryview] = []
    position = 0
    # The heap is laid out row by row, in the order the stack writes it.
    for row in range(n_rows if fields else 0):
        for field in fields:
            chunk = _heap_bytes(field, columns[field.name][row])
            size = 1 if field.type == "String" else np.dtype(_DTYPES[_letter(field)]).itemsize
            count = len(chunk) // size
            descriptors[field.name][row] = count, position if count else 0
            longest[field.name] = max(longest[field.name], count)
            chunks.append(chunk)
            position += len(chunk)
    return descriptors, longest, chunks


def _field_cards(field: Field, number: int, longest: int) -> list[tuple[str, Any, str]]:
    if field.type == "Flag":
        cards: list[tuple[str, Any, str]] = [(f"TFLAG{number}", field.name, "")]
        return [*cards, (f"TFDOC{number}", field.doc, "")] if field.doc else cards
    letter = _letter(field)
    tform = f"1Q{letter}({longest})" if _is_variable(field) else f"{field.size or 1}{letter}"
    cards = [(f"TTYPE{number}", field.name, "label for field"), (f"TFORM{number}", tform, "format of field")]
    if _base_type(field) == "U":
        cards.append((f"TSCAL{number}", 1, ""))
        cards.append((f"TZERO{number}", 32768, "offset for unsigned integers"))
    if field.doc:
        cards.append((f"TDOC{number}", field.doc, ""))
    unit = "rad" if field.type == "Angle" else field.unit
    if unit:
        cards.append((f"TUNIT{number}", unit, ""))
    return [*cards, (f"TCCLS{number}", _kind(field), "Field template used by lsst.afw.table")]


def _schema_cards(schema: Schema, longest: Mapping[str, int]) -> list[tuple[str, Any, str]]:
    cards: list[tuple[str, Any, str]] = []
    n_flags = sum(f.type == "Flag" for f in schema.fields)
    if n_flags:
        cards += [
            ("TTYPE1", "flags", "bits for all Flag fields; see also TFLAGn"),
            ("TFORM1", f"{n_flags}X", "format of field"),
            ("FLAGCOL", 1, "Column number for the bitflags."),
        ]
    column, flag = int(n_flags > 0), 0
    for field in schema.fields:
        if field.type == "Flag":
            flag += 1
            cards += _field_cards(field, flag, 0)
        else:
            column += 1
            cards += _field_cards(field, column, longest.get(field.name, 0))
    return cards


def _check_columns(
    schema: Schema, columns: Mapping[str, npt.NDArray[Any]], n_rows: int, where: str
) -> dict[str, npt.NDArray[Any]]:
    checked = {}
    for field in schema.fields:
        if field.name not in columns:
            raise ValueError(f"{where}: no values for field {field.name!r}")
        values = np.asarray(columns[field.name])
        shape = (n_rows, field.size) if field.is_array and field.size else (n_rows,)
        if values.shape != shape:
            raise ValueError(
                f"{where}: field {field.name!r} has values of shape {values.shape} instead of {shape}"
            )
        checked[field.name] = values
    return checked


def _fill_rows(
    rows: npt.NDArray[np.uint8],
    flags: Sequence[Field],
    others: Sequence[Field],
    values: Mapping[str, npt.NDArray[Any]],
    where: str,
) -> None:
    """Set the bytes of all rows; values of variable length are encoded."""
    start = -(-len(flags) // 8)
    if flags:
        bits = np.stack([values[f.name].astype(bool) for f in flags], axis=1)
        rows[:, :start] = np.packbits(bits, axis=1)
    for field in others:
        found = values[field.name]
        encoded = found if _is_variable(field) else _encode_fixed(field, found, where)
        stop = start + _row_bytes(field)
        rows[:, start:stop] = np.ascontiguousarray(encoded).view(np.uint8).reshape(len(rows), stop - start)
        start = stop


def encode_table(
    schema: Schema,
    columns: Mapping[str, npt.NDArray[Any]],
    n_rows: int,
    cards: Iterable[tuple[str, Any, str]] = (),
    *,
    where: str = "table",
) -> bytearray:
    """Encode a binary table HDU with the cards in field order.

    Flags are packed into the first column; each flag's cards stand where the
    field is in the schema, which gives the record layout of the stack (spec
    02 §4.6).

    Parameters
    ----------
    schema : `~lsst.meas.finalize.catalogs.Schema`
        Fields in order.
    columns : `~collections.abc.Mapping`
        One array per field, with one entry per row.
    n_rows : `int`
        Number of rows.
    cards : `~collections.abc.Iterable` of (`str`, value, `str`), optional
        Further header cards.
    where : `str`, optional
        What is written, for messages.

    Returns
    -------
    hdu : `bytearray`
        Header and data, both padded to 2880 bytes.

    Raises
    ------
    ValueError
        Raised if columns are missing, have the wrong shape or can't be
        stored.
    """
    values = _check_columns(schema, columns, n_rows, where)
    flags = [f for f in schema.fields if f.type == "Flag"]
    others = [f for f in schema.fields if f.type != "Flag"]
    descriptors, longest, heap = _encode_heap([f for f in others if _is_variable(f)], values, n_rows)
    heap_bytes = sum(map(len, heap))
    row_bytes = -(-len(flags) // 8) + sum(map(_row_bytes, others))
    header = format_block(
        [
            ("XTENSION", "BINTABLE", "binary table extension"),
            ("BITPIX", 8, "8-bit bytes"),
            ("NAXIS", 2, "2-dimensional binary table"),
            ("NAXIS1", row_bytes, "width of table in bytes"),
            ("NAXIS2", n_rows, "number of rows in table"),
            ("PCOUNT", heap_bytes, "size of special data area"),
            ("GCOUNT", 1, "one data group (required keyword)"),
            ("TFIELDS", len(others) + bool(flags), "number of fields in each row"),
            *_schema_cards(schema, longest),
            *cards,
        ]
    )
    heap_start = len(header) + n_rows * row_bytes
    stop = heap_start + heap_bytes
    # Everything goes to its place at once: a file is tens of megabytes.
    hdu = bytearray(stop + -(stop - len(header)) % _BLOCK)
    with memoryview(hdu) as target:
        target[: len(header)] = header
        for piece in heap:
            target[heap_start : heap_start + len(piece)] = piece
            heap_start += len(piece)
    rows = np.frombuffer(hdu, np.uint8, n_rows * row_bytes, len(header)).reshape(n_rows, row_bytes)
    _fill_rows(
        rows, flags, others, values | {name: d.astype(">i8") for name, d in descriptors.items()}, where
    )
    return hdu


def _row_bytes(field: Field) -> int:
    if _is_variable(field):
        return 16
    if field.type == "String":
        return field.size
    return np.dtype(_DTYPES[_letter(field)]).itemsize * (field.size if field.is_array else 1)


def write_file(path: FitsTarget, hdus: Iterable[bytes | bytearray]) -> None:
    """Write a file completely or not at all.

    Parameters
    ----------
    path : `str`, `os.PathLike` or `typing.BinaryIO`
        File to write or replace, or a stream to write to.
    hdus : `~collections.abc.Iterable` [`bytes` or `bytearray`]
        Contents; an exception while iterating leaves the old file alone.

    Raises
    ------
    OSError
        Raised if the file can't be written.
    """
    if not isinstance(path, str | os.PathLike):
        path.write(b"".join(hdus))
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            for hdu in hdus:
                stream.write(hdu)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (temporary, str(temporary)):
            # A name that nobody has given tells nobody anything.
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def target_name(path: FitsTarget) -> str:
    """Name what is written to, for messages.

    Parameters
    ----------
    path : `str`, `os.PathLike` or `typing.BinaryIO`
        As given to `write_file`.

    Returns
    -------
    name : `str`
        The path, or that it is in memory.
    """
    return os.fspath(path) if isinstance(path, str | os.PathLike) else str(getattr(path, "name", "<memory>"))
