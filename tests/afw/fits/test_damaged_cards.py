# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.afw import (
    ArchiveError,
    FitsFormatError,
    read_exposure_catalog,
    read_source_catalog,
    write_exposure_catalog,
    write_source_catalog,
)
from lsst.meas.finalize.catalogs import ExposureCatalog, Footprints, Schema, SourceCatalog

_INDEX = re.compile(r"(TTYPE|TFORM|TDOC|TUNIT|TCCLS|TZERO|TSCAL|TFLAG|TFDOC)(\d+)")


def _schema(minimal: Schema) -> Schema:
    schema = minimal.copy()
    schema.add_field("flux", "D", doc="It's a flux.", unit="count")
    schema.add_field("bad", "Flag", doc="Is it bad?")
    schema.add_field("angle", "Angle", doc="x" * 150)
    schema.add_field("one", "ArrayD", doc="Array of one.", size=1)
    schema.add_field("text", "String", doc="Text.", size=6)
    schema.add_field("worse", "Flag", doc="Is it worse?")
    schema.set_alias("slot_PsfFlux", "flux")
    return schema


def _fill(catalog: SourceCatalog | ExposureCatalog) -> None:
    catalog.metadata.update(NUMBER=3, TEXT="what's & up", LONG_KEYWORD_OF_METADATA=1.5)
    catalog["id"] = [1, 2, 3]
    catalog["flux"] = [1.5, 2.5, 3.5]
    catalog["bad"] = [True, False, True]
    catalog["text"] = ["a", "bc", "def"]


def _write_source() -> bytes:
    footprints = Footprints(np.arange(4), np.array([1, 2, 3]), np.array([0, 0, 0]), np.array([5, 6, 7]))
    catalog = SourceCatalog(_schema(Schema.source_minimal()), 3, footprints=footprints)
    _fill(catalog)
    write_source_catalog(catalog, stream := io.BytesIO())
    return stream.getvalue()


def _write_exposure() -> bytes:
    catalog = ExposureCatalog(_schema(Schema.exposure_minimal()), 3)
    _fill(catalog)
    box = Box.factory[0:10, 0:20]
    catalog.ap_corr_maps = [{"a": ChebyshevField(box, np.full((2, 2), float(i)))} for i in range(3)]
    write_exposure_catalog(catalog, stream := io.BytesIO())
    return stream.getvalue()


def _describe(read: Callable[[bytes], Any], data: bytes) -> dict[Any, Any]:
    """Return all that a catalogue has."""
    catalog = read(data)
    found: dict[Any, Any] = {("metadata", key): value for key, value in catalog.metadata.items()}
    found |= {("alias", key): value for key, value in catalog.schema.aliases.items()}
    for field in catalog.schema:
        values = catalog.field_column(field.name)
        found["field", field.name] = (
            field,
            values.tolist() if values.dtype != np.float64 else values.tobytes(),
        )
    if isinstance(catalog, SourceCatalog):
        found["footprints"] = catalog.footprints is not None and catalog.footprints.span_x1.tolist()
    else:
        for row, record in enumerate(catalog):
            field_map = record.ap_corr_map
            found["map", row] = None if field_map is None else field_map["a"](x=3.0, y=4.0)
    return found


def _headers(data: bytes) -> list[int]:
    """Return the places of all cards."""
    return [
        i
        for i in range(0, len(data), 80)
        if re.match(rb"(HIERARCH |CONTINUE  |[A-Z][A-Z0-9_-]* *(?<=^.{8})= )", data[i : i + 80])
    ]


def _columns(data: bytes, keywords: list[str]) -> set[str]:
    """Return the names of columns and flags that cards belong to."""
    found = set()
    text = re.sub("[^ -~]", "?", data.decode("latin-1"))
    cards = [text[i : i + 80] for i in range(0, len(text), 80)]
    for keyword in keywords:
        if match := _INDEX.fullmatch(keyword):
            key = "TFLAG" if match[1] in ("TFLAG", "TFDOC") else "TTYPE"
            start = f"{key}{match[2]}".ljust(8) + "="
            # The first card counts, if it is there twice.
            card = next((c for c in cards if c.startswith(start)), "")
            with contextlib.suppress(Exception):  # whatever Astropy raises for the value
                found.add(str(fits.Card.fromstring(card).value))
    return found


_MUTATIONS = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, 79), st.integers(0, 255)),
    st.tuples(st.just("text"), st.integers(10, 79), st.text("\"'&/= 0Tx-.\\", max_size=60)),
    st.tuples(st.just("blank"), st.just(0), st.just("")),
    st.tuples(st.just("cut"), st.integers(1, 79), st.just("")),
)


def _damage(data: bytes, at: int, mutation: tuple[str, int, Any]) -> bytes:
    kind, place, value = mutation
    card = bytearray(data[at : at + 80])
    if kind == "byte":
        card[place] = value
    elif kind == "text":
        new = value.encode()[: 80 - place]
        card[place : place + len(new)] = new
    else:
        card[place:] = b" " * (80 - place)
    return data[:at] + bytes(card) + data[at + 80 :]


@pytest.mark.parametrize("kind", ["source", "exposure"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_single_damaged_cards(kind: str, data: st.DataObject, caplog: pytest.LogCaptureFixture) -> None:
    """Read the same in everything but that card, or name it."""
    read = read_source_catalog if kind == "source" else read_exposure_catalog
    original = _write_source() if kind == "source" else _write_exposure()
    at = data.draw(st.sampled_from(_headers(original)))
    damaged = _damage(original, at, data.draw(_MUTATIONS))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        message = ""
        try:
            found = _describe(read, damaged)
        except (FitsFormatError, ArchiveError) as error:
            message = str(error)
    if message:
        # HDU and what is wrong; the text depends on the card.
        assert re.search(r"HDU \d|not a FITS file", message), message
        return
    expected = _describe(read, original)
    differing = {key for key in {*found, *expected} if found.get(key) != expected.get(key)}
    if not differing or caplog.text:
        return
    cards = [original[at : at + 80].decode(), damaged[at : at + 80].decode("latin-1")]
    while cards[0].startswith("CONTINUE"):
        at -= 80
        cards[0] = original[at : at + 80].decode()
    keywords = [card.removeprefix("HIERARCH ").split("=")[0].strip().upper() for card in cards]
    columns = _columns(original, keywords) | _columns(damaged, keywords)
    allowed = {("field", name) for name in columns} | {("metadata", keyword) for keyword in keywords}
    if "ALIAS" in keywords:
        allowed |= {key for key in {*found, *expected} if key[0] == "alias"}
    # A column of another name is an ordinary field.
    if "apCorrMap" in columns:
        allowed |= {key for key in expected if key[0] == "map"}
    if "footprint" in columns:
        allowed.add("footprints")
    if keywords[0] in ("NAXIS2", "PCOUNT"):
        # What the file holds can't tell the number of rows.
        return
    assert {key for key in differing if key[0] != "metadata"} <= allowed, cards


def test_wrong_kinds_of_files(tiny: Path, stack_files: Path) -> None:
    """Tell what a file is, and what reads it."""
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    for read in (read_source_catalog, read_exposure_catalog):
        for image in (path, stack_files / "exposure_psf_even.fits"):
            with pytest.raises(FitsFormatError, match="this is an image, use read_exposure"):
                read(image)
    with pytest.raises(FitsFormatError, match="is an exposure catalog, use read_exposure_catalog"):
        read_source_catalog(_write_exposure())
    with pytest.raises(FitsFormatError, match="is a source catalog, use read_source_catalog"):
        read_exposure_catalog(_write_source())


def test_footprints_in_columns() -> None:
    """Read a catalogue of version 0 without its footprints."""
    schema = Schema.source_minimal()
    for name in ("spans", "peaks"):
        schema.add_field(name, "ArrayI")
    catalog = SourceCatalog(schema, 2)
    for name in ("spans", "peaks"):
        for row in range(2):
            catalog[name][row] = np.arange(3, dtype=np.int32)
    catalog.metadata = {"XPANCOL": 5, "XEAKCOL": 6}
    write_source_catalog(catalog, stream := io.BytesIO())
    data = stream.getvalue().replace(b"XPANCOL ", b"SPANCOL ").replace(b"XEAKCOL ", b"PEAKCOL ")
    with pytest.raises(FitsFormatError, match="can be read with footprints=False"):
        read_source_catalog(data)
    found = read_source_catalog(data, footprints=False)
    assert found.schema.names == Schema.source_minimal().names
    assert found.footprints is None


def test_bytes_streams_and_gzip(tmp_path: Path) -> None:
    """Read catalogues from whatever holds them."""
    import gzip

    data = _write_exposure()
    expected = _describe(read_exposure_catalog, data)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(data))
    for source in (io.BytesIO(data), memoryview(data), tmp_path / "a.fits.gz", gzip.compress(data)):
        assert _describe(read_exposure_catalog, source) == expected  # type: ignore[arg-type]
    with pytest.raises(FitsFormatError, match="not a readable FITS file"):
        read_exposure_catalog(gzip.compress(data)[:-20])
