# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw import (
    FitsFormatError,
    read_exposure,
    read_exposure_catalog,
    read_source_catalog,
    write_exposure_catalog,
    write_source_catalog,
)
from lsst.meas.finalize.afw.fits import UnreadableCard, blank_stray_continues, format_cards, read_cards
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema, SourceCatalog

_STRAY = "CONTINUE=                      /   'urces. Top level blends with no parents have"
_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


def _insert(data: bytes, hdu: int, at: int, cards: list[str]) -> bytes:
    """Insert cards behind the card of a number into a header."""
    with fits.open(io.BytesIO(data)) as hdulist:
        info = hdulist[hdu].fileinfo()
    header = data[info["hdrLoc"] : info["datLoc"]]
    end = next(i for i in range(0, len(header), 80) if header[i : i + 80] == b"END".ljust(80))
    start = min(at * 80, end)
    new = b"".join(card.ljust(80).encode() for card in cards)
    header = header[:start] + new + header[start : end + 80]
    header += b" " * (-len(header) % 2880)
    return data[: info["hdrLoc"]] + header + data[info["datLoc"] :]


def _same(one: SourceCatalog | ExposureCatalog, two: SourceCatalog | ExposureCatalog) -> None:
    assert one.schema == two.schema
    assert one.metadata == two.metadata
    for name in one.schema.names:
        assert one.field_column(name).tobytes() == two.field_column(name).tobytes()


def test_source_catalog_rewritten_by_the_stack(stack_files: Path) -> None:
    """Read a catalogue with several stray cards."""
    catalog = read_source_catalog(stack_files / "src_rewritten_twice_continue.fits")
    assert catalog["id"].tolist() == [1, 2]
    assert catalog.schema.aliases == {"al": "d"}
    assert catalog.metadata == {}
    # The stack cut the texts off when it wrote them again.
    assert [field.doc[:14] for field in catalog.schema][-2:] == ["long ''''quoted"[:14]] * 2


def test_exposure_catalog_rewritten_by_the_stack(stack_files: Path) -> None:
    """Read a catalogue with a stray card and a WCS."""
    catalog = read_exposure_catalog(stack_files / "expcat_rewritten_continue.fits")
    assert catalog["id"].tolist() == [3, 5]
    np.testing.assert_allclose(catalog["x"], [1.5, 2.5])
    assert catalog.schema["x"].doc == "it''s a new field " * 4 + "it"
    ra, dec = catalog[0].get("wcs").pixel_to_sky(50.0, 70.0)
    np.testing.assert_allclose(
        np.degrees([float(ra), float(dec)]), [150.0018511956, 1.9976488596], rtol=0, atol=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_strays_anywhere_change_nothing(tiny_source: bytes, data: st.DataObject) -> None:
    """Insert one or several stray cards behind any card of any table."""
    n = data.draw(st.integers(1, 4))
    stray = data.draw(
        st.sampled_from([_STRAY, "CONTINUE=", "CONTINUE= 'text&'", "CONTINUE= 3", "CONTINUE  'orphan'"])
    )
    hdu = data.draw(st.integers(0, 4))
    # The first cards have fixed places; nothing may stand between them.
    at = data.draw(st.integers(8 if hdu else 4, 60))
    with_strays = _insert(tiny_source, hdu, at, [stray] * n)
    found, expected = read_source_catalog(with_strays), read_source_catalog(tiny_source)
    _same(found, expected)
    assert found.footprints is not None
    assert expected.footprints is not None
    assert found.footprints.span_x0.tobytes() == expected.footprints.span_x0.tobytes()


@pytest.fixture(scope="module")
def tiny_source(tiny: Path) -> bytes:
    """Return a small source catalogue with flags, aliases and footprints."""
    catalog = read_source_catalog(next((tiny / "export").rglob("src*.fits")))
    assert catalog.footprints is not None
    schema = Schema(
        field for field in catalog.schema if field.name in ("id", "coord_ra", "coord_dec", "parent")
    )
    for field in catalog.schema:
        if field.name.startswith(("base_SdssShape", "base_SdssCentroid")):
            schema.add_field(field.name, field.type, doc=field.doc, unit=field.unit, size=field.size)
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    small = SourceCatalog(
        schema,
        {name: catalog.field_column(name) for name in schema.names},
        footprints=catalog.footprints,
        metadata={"TEXT": "it's text & more", "N": 3},
    )
    stream = io.BytesIO()
    write_source_catalog(small, stream)
    return stream.getvalue()


@pytest.mark.parametrize("cls", [SourceCatalog, ExposureCatalog])
def test_empty_catalogues(
    cls: type, tmp_path: Path, edit_card: Callable[[bytes, int, str, str], bytes]
) -> None:
    """Read stray cards in catalogues without rows."""
    minimal = Schema.source_minimal() if cls is SourceCatalog else Schema.exposure_minimal()
    write = write_source_catalog if cls is SourceCatalog else write_exposure_catalog
    read = read_source_catalog if cls is SourceCatalog else read_exposure_catalog
    write(cls(minimal, 0, metadata={"TEXT": "what's & up"}), tmp_path / "a.fits")
    data = (tmp_path / "a.fits").read_bytes()
    found = read(_insert(data, 1, 1000, [_STRAY] * 3))
    assert len(found) == 0
    assert found.metadata == {"TEXT": "what's & up"}


def test_exposures(tiny: Path) -> None:
    """Read an exposure whose headers have stray cards."""
    path = next((tiny / "export").rglob("calexp*.fits"))
    data = path.read_bytes()
    with fits.open(path) as hdulist:
        n_hdus = len(hdulist)
    # Backwards, since astropy stumbles over stray cards.
    for hdu in (n_hdus - 1, 4, 3, 2, 1, 0):
        data = _insert(data, hdu, 1000 if hdu % 2 else 12, [_STRAY, _STRAY])
    found, expected = read_exposure(io.BytesIO(data)), read_exposure(path)
    assert np.array_equal(found.image.array, expected.image.array, equal_nan=True)
    assert np.array_equal(found.mask.array, expected.mask.array)
    assert found.metadata == expected.metadata
    assert found.obs_info == expected.obs_info
    assert found.psf is not None
    assert found.sky_projection is not None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["KEY", "LONGER_THAN_8"]), _TEXT, st.sampled_from(["", "NEXT", "CONTINUE="]))
def test_texts_of_any_length(key: str, text: str, follower: str) -> None:
    """Parse what the stack's FITS library writes for a text."""
    cards = [*format_cards(key, text, "comment"), follower, "N       = 1"]
    found = read_cards("".join(card.ljust(80) for card in cards).encode())
    assert found[0][:2] == (key, text.rstrip(" "))
    assert found[-1] == ("N", 1, "")


@pytest.mark.parametrize(
    "follower", ["CONTINUE= 'b'", "CONTINUE=", "CONTINUE", "CONTINUEX 'b'", "N       = 1"]
)
def test_ampersand_without_continuation(follower: str) -> None:
    """Keep an ampersand that nothing continues."""
    raw = b"".join(card.ljust(80).encode() for card in ("KEY     = 'a&'", follower, "N       = 1"))
    assert read_cards(raw)[0] == ("KEY", "a&", "")
    assert fits.Header.fromstring(blank_stray_continues(raw))["N"] == 1


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("KEY     = 'a' b", None),
        ("KEY     = 3 4", None),
        ("KEY     = 'a", None),
        ("KEY     = 1.5D3 / x", 1500.0),
        ("KEY     =                   -7", -7),
        ("KEY     = F", False),
        ("KEY     = .5", 0.5),
        ("KEY     = (1, 2)", 1 + 2j),
    ],
)
def test_values(card: str, value: object) -> None:
    """Parse numbers; what can't be parsed is no exception yet."""
    found = read_cards(card.ljust(80).encode())[0]
    assert found[0] == "KEY"
    assert found[1] == (UnreadableCard(card) if value is None else value)
    assert type(found[1]) is (UnreadableCard if value is None else type(value))


def test_needed_card_is_named(tiny_source: bytes, edit_card: Callable[[bytes, int, str, str], bytes]) -> None:
    """Name a damaged card where its value is needed."""
    with pytest.raises(FitsFormatError, match=r"HDU 1.*unreadable header card 'TFORM3'"):
        read_source_catalog(edit_card(tiny_source, 1, "TFORM3", "'1J"))
