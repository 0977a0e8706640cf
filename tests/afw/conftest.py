# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.archive._registry import writes
from lsst.meas.finalize.afw.wcs._persistables import AfwTransform
from lsst.meas.finalize.catalogs import Field, Schema

EditCard = Callable[[bytes, int, str, str], bytes]


@pytest.fixture(scope="session")
def edit_card() -> EditCard:
    """Return a function that replaces a card of a FITS file's bytes."""

    def edit(data: bytes, hdu: int, key: str, value: str) -> bytes:
        with fits.open(io.BytesIO(data)) as hdulist:
            info = hdulist[hdu].fileinfo()
        for start in range(info["hdrLoc"], info["datLoc"], 80):
            card = data[start : start + 80].decode("latin-1")
            if card.removeprefix("HIERARCH ").split("=")[0].strip() == key:
                prefix = f"{key:<8}" if len(key) <= 8 else f"HIERARCH {key} "
                new = f"{prefix}= {value}".ljust(80).encode()
                return data[:start] + new[:80] + data[start + 80 :]
        raise AssertionError(f"no card {key} in HDU {hdu}")

    return edit


SHIFT_TEXT = " Begin ShiftMap\n Nin = 2\n IsA Mapping\n Sft1 = {}\n Sft2 = {}\n End ShiftMap\n"


class RawObject:
    """An object given by tables of columns with a code and their rows."""

    def __init__(self, name: str, *tables: dict[str, tuple[str, list[Any]]]) -> None:
        self.name = name
        self.tables = tables


def _split_code(code: str) -> tuple[str, str, str, int]:
    """Split a code like ``ArrayD3`` for a `Field`."""
    kind = code.rstrip("0123456789")
    return kind, "", "", int(code.removeprefix(kind) or 0)


@writes(RawObject, name="", module="")
def _write_raw(record: Any, obj: RawObject) -> None:
    record.name = obj.name
    for columns in obj.tables:
        fields = [Field(name, *_split_code(code)) for name, (code, _) in columns.items()]
        values = {
            name: [record.archive.put(v) if isinstance(v, RawObject | AfwTransform) else v for v in rows]
            for name, (_, rows) in columns.items()
        }
        (n_rows,) = {len(rows) for rows in values.values()}
        record.table(Schema(tuple(fields))).fill(n_rows, **values)


@dataclasses.dataclass(eq=False)
class RawRow:
    """An object given by its tables: one row, values by typed column.

    A star behind the type marks arrays of variable length.
    """

    name: str
    tables: list[list[tuple[str, str, Any]]]


@writes(RawRow, name="", module="")
def _write_row(record: Any, obj: RawRow) -> None:
    record.name = obj.name
    for columns in obj.tables:
        fields, values = [], {}
        for name, code, value in columns:
            if isinstance(value, RawRow):
                value = record.archive.put(value)
            elif isinstance(value, list) and value and isinstance(value[0], RawRow):
                value = [record.archive.put(item) for item in value]
            size = np.size(value) if code.startswith("Array") and not code.endswith("*") else 0
            fields.append(Field(name, code.rstrip("*"), "", "", size))
            values[name] = value
        record.table(Schema(tuple(fields))).add_row(**values)


def persist(obj: Any) -> Any:
    """Write an object to a FITS file and read it back."""
    writer = ArchiveWriter()
    archive_id = writer.put(obj)
    data = fits.PrimaryHDU().header.tostring().encode() + b"".join(writer.hdus())
    with fits.open(io.BytesIO(data)) as hdulist:
        return ArchiveReader(hdulist, 1).get(archive_id)


def golden_component(tiny: Path, name: str) -> Any:
    """Return a component of the golden exposure."""
    (path,) = tiny.glob("export/**/calexp_*_S01_*.fits")
    with fits.open(path) as hdulist:
        return ArchiveReader(hdulist, 4).get(hdulist[0].header[f"ARCHIVE_ID_{name}"])


def text_bytes(text: str) -> np.ndarray:
    """Return text as the numbers that archives store."""
    return np.frombuffer(text.encode(), dtype=np.uint8)


def shift_transform(dx: float, dy: float) -> AfwTransform:
    """Return a transform that shifts."""
    return AfwTransform("TransformPoint2ToPoint2", SHIFT_TEXT.format(dx, dy))
