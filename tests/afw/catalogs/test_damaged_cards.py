# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of catalogues whose headers have one damaged card."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw import FitsFormatError, read_source_catalog
from lsst.meas.finalize.catalogs import SourceCatalog

_REWRITTEN = Path(__file__).parents[4] / "shared/golden/rewritten/src_S00_rewritten.fits"
_PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)


@pytest.fixture(scope="module")
def source(tiny: Path) -> bytes:
    """Return the contents of a source catalogue."""
    return next((tiny / "export/golden/inputs").glob("src/**/*S00*.fits")).read_bytes()


def compare(a: SourceCatalog, b: SourceCatalog) -> set[str]:
    """Return the fields, aliases and metadata in which catalogues differ."""
    fields = [{field.name: field for field in catalog.schema} for catalog in (a, b)]
    found = {
        name for name in fields[0].keys() | fields[1].keys() if fields[0].get(name) != fields[1].get(name)
    }
    for name in fields[0].keys() & fields[1].keys():
        if not np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f"):
            found.add(name)
    for one, other in ((a.schema.aliases, b.schema.aliases), (a.metadata, b.metadata)):
        found |= {key for key in {*one, *other} if one.get(key) != other.get(key)}
    return found


def test_catalogue_rewritten_by_the_stack(source: bytes) -> None:
    """Read what afw made of its own file: only docs may differ."""
    if not _REWRITTEN.exists():
        pytest.skip(f"{_REWRITTEN} is not there")
    original, rewritten = read_source_catalog(io.BytesIO(source)), read_source_catalog(_REWRITTEN)
    assert rewritten.schema.names == original.schema.names
    assert rewritten.schema.aliases == original.schema.aliases
    assert rewritten.metadata == original.metadata
    for name in original.schema.names:
        np.testing.assert_array_equal(rewritten[name], original[name], err_msg=name)
    np.testing.assert_array_equal(rewritten.footprints.area, original.footprints.area)


def table_cards(data: bytes) -> range:
    """Return where the cards of the first table are."""
    start = next(i for i in range(0, len(data), 2880) if data.startswith(b"XTENSION", i))
    return range(start, next(i for i in range(start, len(data), 80) if data.startswith(b"END     ", i)), 80)


def subjects(data: bytes, position: int) -> set[str]:
    """Return names that a card, or the one it continues, is about."""
    while data.startswith(b"CONTINUE", position):
        position -= 80
    text = data[position : position + 80].decode()
    key = text.removeprefix("HIERARCH ").split("=")[0].strip()
    found = {key}
    if match := re.fullmatch(r"(TF|T)(?:TYPE|FORM|DOC|UNIT|CCLS|FLAG|LAG)(\d+)", key):
        name = "TFLAG" if key.startswith(("TFLAG", "TFDOC")) else "TTYPE"
        card = data.index(f"{name}{match[2]}".ljust(8).encode() + b"=", table_cards(data).start)
        found.add(data[card + 11 : card + 80].decode().split("'")[0].strip())
    elif key == "ALIAS":
        found.add(text.split("'")[1].split(":")[0])
    return found


@pytest.mark.parametrize("n_bytes", [0, 8, 1999, 2000, 10**12])
def test_wrong_size_is_named(source: bytes, n_bytes: int) -> None:
    """Tell the size that led to where no header is."""
    position = source.index(b"NAXIS1  =", table_cards(source).start)
    damaged = source[:position] + f"NAXIS1  = {n_bytes}".encode().ljust(80) + source[position + 80 :]
    with pytest.raises(FitsFormatError, match=rf"NAXIS1( =| is) {n_bytes}\b"):
        read_source_catalog(io.BytesIO(damaged), footprints=False)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_stays_with_its_card(source: bytes, data: st.DataObject) -> None:
    """Damage one card: read all else alike, or tell what is wrong."""
    good = read_source_catalog(io.BytesIO(source), footprints=False)
    position = data.draw(st.sampled_from(table_cards(source)))
    old = source[position : position + 80]
    new = data.draw(
        st.one_of(
            _PRINTABLE.map(str.encode),
            st.binary(max_size=80),
            _PRINTABLE.map(lambda text: old[:8] + b"= " + text.encode()),
            st.sampled_from([b"CONTINUE=" + b" " * 22 + b"/ x", b"", old[:8] + b"= 12345"]),
        )
    )[:80].ljust(80)
    about = subjects(source, position)
    damaged = source[:position] + new + source[position + 80 :]
    message = ""
    try:
        found = read_source_catalog(io.BytesIO(damaged), footprints=False)
    except FitsFormatError as error:
        message = str(error)
    if message:
        # A wrong format may show in the width of the rows only.
        expected = {*about, "NAXIS1", "XTENSION", "card"}
        assert any(name in message for name in expected), (old, new, message)
        return
    differing = compare(good, found) - about
    # What the card says now may be another name, or a card of no meaning.
    others = {field.name for field in found.schema} | set(found.schema.aliases) | set(found.metadata)
    assert differing <= others - set(good.schema.names) - set(good.metadata), (old, new, differing)
