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
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.afw import (
    ArchiveError,
    FitsFormatError,
    MalformedArchiveError,
    read_source_catalog,
    write_source_catalog,
)
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.catalogs._footprints import (
    _SPAN_SCHEMA,
    _merge_spans,
    read_footprints,
    write_footprints,
)
from lsst.meas.finalize.afw.fits import PRIMARY_HDU, open_fits_in_memory
from lsst.meas.finalize.catalogs import Field, Footprints, Schema, SourceCatalog


def _golden(tiny: Path) -> Path:
    return sorted(tiny.glob("export/**/src_*S00*.fits"))[0]


def _blocks(path: Path) -> list[tuple[list[str], bytes]]:
    """Split a file into header cards and data of each HDU."""
    raw = path.read_bytes()
    blocks = []
    with fits.open(path) as hdulist:
        for hdu in hdulist:
            info = hdu.fileinfo()
            header = raw[info["hdrLoc"] : info["datLoc"]].decode()
            cards = [header[i : i + 80].rstrip() for i in range(0, len(header), 80)]
            blocks.append((cards, raw[info["datLoc"] : info["datLoc"] + info["datSpan"]]))
    return blocks


def assert_same_footprints(found: Footprints, expected: Footprints) -> None:
    """Compare all arrays, bit by bit."""
    names = ["span_offsets", "span_y", "span_x0", "span_x1", "peak_offsets", "heavy_offsets", "is_heavy"]
    for name in [*names, "heavy_image", "heavy_mask", "heavy_variance", "present"]:
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.peak_schema.fields == expected.peak_schema.fields
    for name, column in expected.peaks.items():
        assert found.peaks[name].tobytes() == column.tobytes(), name


def test_golden_catalogues_are_reproduced(tiny: Path, tmp_path: Path) -> None:
    """Write what was read from the stack's files, byte by byte."""
    for path in sorted(tiny.glob("export/**/src_*.fits")):
        write_source_catalog(read_source_catalog(path), tmp_path / "a.fits")
        for (cards, data), (expected_cards, expected) in zip(
            _blocks(tmp_path / "a.fits"), _blocks(path), strict=True
        ):
            assert data == expected
            # Comments of free metadata cards aren't kept.
            assert [card for card in cards if "LSST BUTLER" not in card] == [
                card for card in expected_cards if "LSST BUTLER" not in card
            ]


def test_golden_catalogue_agrees_with_astropy(tiny: Path) -> None:
    """Compare columns, flags, aliases and footprints with the raw tables."""
    path = _golden(tiny)
    catalog = read_source_catalog(path)
    with fits.open(path) as hdulist:
        data, header = hdulist[1].data, hdulist[1].header
        assert len(catalog) == len(data) == 109
        for name in data.names:
            if name not in ("flags", "footprint"):
                np.testing.assert_array_equal(catalog[name], data[name])
        n_flags = 0
        for key, name in header["TFLAG*"].items():
            np.testing.assert_array_equal(catalog[name], data["flags"][:, int(key[5:]) - 1])
            n_flags += 1
        assert len(catalog.schema) == n_flags + len(data.names) - 2
        assert catalog.get_slot("Shape") == "ext_shapeHSM_HsmSourceMoments"
        np.testing.assert_array_equal(catalog["slot_Centroid_x"], data["base_SdssCentroid_x"])
        assert catalog.metadata["NOISE_SEED_MULTIPLIER"] == 1
        assert catalog.metadata["LSST BUTLER DATASETTYPE"] == "src"
        assert len(catalog.schema.aliases) == 17

        index, spans = hdulist[2].data, hdulist[4].data
        footprints = catalog.footprints
        assert footprints is not None
        np.testing.assert_array_equal(footprints.is_heavy, catalog["parent"] != 0)
        for row in (0, 50, 108):
            own = index[(index["id"] == data["footprint"][row]) & (index["cat.persistable"] == 0)][0]
            span_id = hdulist[3].data["id"][own["row0"]]
            entry = index[index["id"] == span_id][0]
            part = slice(footprints.span_offsets[row], footprints.span_offsets[row + 1])
            expected = spans[entry["row0"] : entry["row0"] + entry["nrows"]]
            np.testing.assert_array_equal(footprints.span_y[part], expected["y"])
            np.testing.assert_array_equal(footprints.span_x1[part], expected["x1"])
        heavy = int(np.flatnonzero(footprints.is_heavy)[7])
        part = slice(footprints.heavy_offsets[heavy], footprints.heavy_offsets[heavy + 1])
        np.testing.assert_array_equal(footprints.heavy_image[part], hdulist[6].data["image"][7])
        np.testing.assert_array_equal(footprints.heavy_mask[part], hdulist[6].data["mask"][7])


def test_large_golden_catalogues_are_read(golden_visit: Path) -> None:
    """Read the catalogues of the larger set, whose footprints are heavy."""
    for path in golden_visit.glob("export/**/src_*.fits"):
        catalog = read_source_catalog(path)
        assert catalog.footprints is not None
        assert len(catalog) > 800
        assert catalog.footprints.present.all()
        np.testing.assert_array_equal(catalog.footprints.is_heavy, catalog["parent"] != 0)


def test_rows_taken_are_written_with_their_footprints(tiny: Path, tmp_path: Path) -> None:
    """Select and reorder rows, write and read them."""
    catalog = read_source_catalog(_golden(tiny))
    part = catalog[np.array([60, 3, 3, 100])]
    write_source_catalog(part, tmp_path / "a.fits")
    found = read_source_catalog(tmp_path / "a.fits")
    assert found.schema == catalog.schema
    assert found.metadata == catalog.metadata
    for name in catalog.schema.names:
        assert found[name].tobytes() == catalog[name][[60, 3, 3, 100]].tobytes()
    assert_same_footprints(found.footprints, part.footprints)


def test_catalogues_without_footprints(tiny: Path, tmp_path: Path) -> None:
    """Write neither column nor archive without footprints."""
    catalog = read_source_catalog(_golden(tiny), footprints=False)
    assert catalog.footprints is None
    assert "footprint" not in catalog.schema
    write_source_catalog(catalog, tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdulist:
        assert len(hdulist) == 2
        assert "AR_HDU" not in hdulist[1].header
    assert read_source_catalog(tmp_path / "a.fits").footprints is None
    full = read_source_catalog(_golden(tiny))
    write_source_catalog(full, tmp_path / "b.fits", footprints=False)
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()


def test_empty_catalogues_survive(tmp_path: Path) -> None:
    """Write and read catalogues without rows."""
    schema = Schema.source_minimal()
    schema.add_flag("base_X_flag", "a flag")
    for footprints in (None, Footprints.empty(0)):
        write_source_catalog(SourceCatalog(schema, 0, footprints=footprints), tmp_path / "a.fits")
        found = read_source_catalog(tmp_path / "a.fits")
        assert len(found) == 0
        assert found.schema == schema


@st.composite
def _footprints(draw: st.DrawFn) -> Footprints:
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spans, peaks = [], []
    for _ in range(n):
        rows = []
        for y in range(int(rng.integers(0, 5))):
            x = int(rng.integers(-50, 50))
            for _ in range(int(rng.integers(0, 3))):
                width = int(rng.integers(1, 6))
                rows.append((y - 2, x, x + width - 1))
                x += width + int(rng.integers(1, 4))
        spans.append(rows)
        peaks.append([tuple(rng.normal(0, 100, 3)) for _ in range(int(rng.integers(0, 3)))])
    light = Footprints.from_spans(spans, peaks=peaks)
    is_heavy = rng.integers(0, 2, n).astype(bool)
    present = is_heavy | rng.integers(0, 2, n).astype(bool)
    light = Footprints.from_spans(
        [s if p else [] for s, p in zip(spans, present, strict=True)],
        peaks=[q if p else [] for q, p in zip(peaks, present, strict=True)],
    )
    area = np.where(is_heavy, light.area, 0)
    total = int(area.sum())
    return Footprints(
        light.span_offsets,
        light.span_y,
        light.span_x0,
        light.span_x1,
        peak_offsets=light.peak_offsets,
        peaks=light.peaks,
        peak_schema=light.peak_schema,
        heavy_offsets=np.concatenate([[0], np.cumsum(area)]),
        is_heavy=is_heavy,
        heavy_image=rng.normal(size=total),
        heavy_mask=rng.integers(-(2**31), 2**31, total),
        heavy_variance=rng.normal(size=total),
        present=present,
    )


@settings(max_examples=60, deadline=None)
@given(_footprints())
def test_footprints_survive(footprints: Footprints) -> None:
    """Keep spans, peaks, heavy pixels and absence, also of empty ones."""
    writer = ArchiveWriter()
    ids = write_footprints(writer, footprints)
    np.testing.assert_array_equal(ids > 0, footprints.present)
    data = PRIMARY_HDU + b"".join(writer.hdus())
    found = read_footprints(ArchiveReader(fits.open(io.BytesIO(data)), 1), ids)
    assert_same_footprints(found, footprints)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-2, 2), st.integers(-20, 20), st.integers(0, 8)), max_size=15
    )
)
def test_spans_are_sorted_and_merged(raw: list[tuple[int, int, int, int]]) -> None:
    """Cover the same pixels with sorted spans that don't touch."""
    raw.sort(key=lambda span: span[0])
    columns = [np.array([s[i] for s in raw], dtype=np.int64) for i in range(3)]
    stop = columns[2] + np.array([s[3] for s in raw], dtype=np.int64)
    source, y, x0, x1 = (a.tolist() for a in _merge_spans(*columns, stop))
    pixels = {(s, j, x + i) for s, j, x, n in raw for i in range(n + 1)}
    found = [(s, j, x) for s, j, a, b in zip(source, y, x0, x1, strict=True) for x in range(a, b + 1)]
    assert found == sorted(pixels)
    for i in range(1, len(source)):
        if (source[i], y[i]) == (source[i - 1], y[i - 1]):
            assert x0[i] > x1[i - 1] + 1


def _small(tmp_path: Path) -> Path:
    footprints = Footprints.from_spans(
        [[(1, 2, 4), (2, 2, 3)], [(7, 7, 9)]], peaks=[[(2, 1, 5)], [(8, 7, 3)]]
    )
    catalog = SourceCatalog(Schema.source_minimal(), 2, footprints=footprints)
    catalog["id"] = [1, 2]
    path = tmp_path / "small.fits"
    write_source_catalog(catalog, path)
    return path


def _patch(path: Path, hdu: int, row: int, offset: int, value: int) -> None:
    """Change one 32-bit integer of a table."""
    with fits.open(path) as hdulist:
        start = hdulist[hdu].fileinfo()["datLoc"] + row * hdulist[hdu].header["NAXIS1"] + offset
    data = bytearray(path.read_bytes())
    data[start : start + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("hdu", "row", "offset", "value", "match"),
    [
        (1, 0, 32, 99, "there is no archive id 99"),
        (1, 0, 32, -5, "row 0 of column 'footprint' has the archive id -5"),
        (2, 0, 12, 3, r"HDU 4\]: rows 3 to 4 of archive id 2 \(SpanSet\) are outside"),
        (2, 1, 16, 2, "footprint 1 doesn't have one row in its first table"),
        (2, 2, 12, 2**31 - 1, r"HDU 5\]: rows .* are outside of the 2 rows"),
        (2, 2, 8, 5, "footprint 1 has no table of peaks"),
        (3, 0, 0, 3, "archive id 3 of footprint 1 is no SpanSet"),
        (3, 0, 0, 77, "archive id 77 of footprint 1 is no SpanSet"),
        (4, 0, 8, -7, "footprint 1 has a span from x0=2 to x1=-7"),
        (4, 0, 8, 2**31 - 1, "footprint 1 has 2147483648 pixels"),
    ],
)
def test_inconsistent_footprints_are_refused(
    tmp_path: Path, hdu: int, row: int, offset: int, value: int, match: str
) -> None:
    """Name file, HDU and archive id of what doesn't fit."""
    path = _small(tmp_path)
    _patch(path, hdu, row, offset, value)
    with pytest.raises(MalformedArchiveError, match=match) as info:
        read_source_catalog(path)
    assert "small.fits" in str(info.value)


def test_sharing_of_spans_is_limited() -> None:
    """Refuse a small file whose footprints share one large set of spans."""
    archive = ArchiveWriter()
    n_spans, n = 3000, 3000
    spans = [[(y, 0, 1) for y in range(n_spans)], *[[]] * (n - 1)]
    ids = write_footprints(archive, Footprints.from_spans(spans))
    data = PRIMARY_HDU + b"".join(archive.hdus())
    reader = ArchiveReader(fits.open(io.BytesIO(data)), 1)
    found = read_footprints(reader, ids)
    assert found.area.tolist() == [2 * n_spans, *[0] * (n - 1)]
    chosen = reader.names == "SpanSet"
    reader.row0[chosen], reader.n_rows[chosen] = 0, n_spans
    with pytest.raises(MalformedArchiveError, match=r"share too many rows \(9000000 of 3000\)"):
        read_footprints(reader, ids)


def test_other_objects_are_no_footprints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Skip a span set in the place of a footprint, with a warning."""
    path = _small(tmp_path)
    _patch(path, 1, 0, 32, 2)
    footprints = read_source_catalog(path).footprints
    assert footprints is not None
    np.testing.assert_array_equal(footprints.present, [False, True])
    assert "unknown class 'SpanSet'" in caplog.text


def test_footprints_of_unknown_classes_are_skipped_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Warn once about a class, and leave its footprints out."""
    path = _small(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"Footprint   ", b"Fingerprint "))
    with caplog.at_level(logging.WARNING):
        catalog = read_source_catalog(path)
    assert catalog.footprints is not None
    assert not catalog.footprints.present.any()
    assert caplog.text.count("Fingerprint") == 1


def _mixed_peaks(extra: list[list[Field]]) -> Footprints:
    """Return footprints of one peak each, with fields of their own."""
    minimal = Footprints.from_spans(
        [[(1, 2 * i, 2 * i)] for i in range(len(extra))],
        peaks=[[(2 * i, 1, 5 + i)] for i in range(len(extra))],
    )
    schemas = [Schema((*minimal.peak_schema.fields, *fields)) for fields in extra]
    union = dict.fromkeys(f for schema in schemas for f in schema)
    # The widest type comes last where there are several.
    names = {f.name: f for f in union}
    columns = {name: np.arange(len(extra)).astype(f.dtype) for name, f in names.items()} | minimal.peaks
    return Footprints(
        minimal.span_offsets,
        minimal.span_y,
        minimal.span_x0,
        minimal.span_x1,
        peak_offsets=minimal.peak_offsets,
        peaks=columns,
        peak_schema=Schema(tuple(names.values())),
        peak_schemas=schemas,
        peak_kinds=np.arange(len(extra)),
    )


@pytest.mark.parametrize(
    "extra",
    [
        [[], [Field("significance", "F")]],
        [[Field("merge_peak_r", "Flag")], [Field("merge_peak_i", "Flag"), Field("merge_peak_r", "Flag")], []],
        [[Field("noise", "F")], [Field("noise", "D")], [Field("noise", "F"), Field("n", "I")]],
        [[Field("n", "I")], [Field("n", "L")]],
        [[Field("n", "U"), Field("a", "Angle")], [Field("a", "Angle"), Field("n", "U")], [Field("b", "B")]],
    ],
)
def test_peaks_keep_their_own_fields(extra: list[list[Field]]) -> None:
    """Write peaks with the fields that they have, whatever others have."""
    footprints = _mixed_peaks(extra)
    ids: Any = None
    for order in (np.arange(len(extra)), np.arange(len(extra))[::-1], np.repeat(np.arange(len(extra)), 2)):
        taken = footprints.take(order)
        for _ in range(2):
            writer = ArchiveWriter()
            ids = write_footprints(writer, taken)
            data = PRIMARY_HDU + b"".join(writer.hdus())
            archive = ArchiveReader(open_fits_in_memory(data), 1)
            taken = read_footprints(archive, ids)
        for archive_id, kind in zip(ids.tolist(), order.tolist(), strict=True):
            peaks = archive.tables(archive_id)[1]
            names = footprints.peak_schemas[kind].names
            assert peaks.names == names
            for name in names:
                stored = footprints.peak_schemas[kind][name].dtype
                assert peaks[name].dtype == stored
                assert peaks[name][0] == footprints.peaks[name][kind].astype(stored)


def test_peaks_of_types_that_exclude_each_other() -> None:
    """Name a field that is a flag here and a number there."""
    for types in (("Flag", "I"), ("L", "F")):
        footprints = _mixed_peaks([[Field("x", code)] for code in types])
        writer = ArchiveWriter()
        ids = write_footprints(writer, footprints)
        data = PRIMARY_HDU + b"".join(writer.hdus())
        with pytest.raises(MalformedArchiveError, match="peak column 'x' has several types"):
            read_footprints(ArchiveReader(open_fits_in_memory(data), 1), ids)


def test_spans_stored_in_footprints_are_converted(tmp_path: Path) -> None:
    """Read footprints from before there were span sets."""
    writer = ArchiveWriter()
    template = Footprints.from_spans([[(1, 2, 4), (2, 2, 3)]], peaks=[[(2, 1, 5)]])
    spans = writer.claim_table(_SPAN_SCHEMA, "Footprint")
    spans.append({"y": template.span_y, "x0": template.span_x0, "x1": template.span_x1}, 2)
    peaks = writer.claim_table(template.peak_schema, "Footprint")
    peaks.append(template.peaks, 1)
    writer.add_index([1, 1], [1, 2], [0, 1], [0, 0], [2, 1], "Footprint", "")
    data = PRIMARY_HDU + b"".join(writer.hdus())
    found = read_footprints(ArchiveReader(fits.open(io.BytesIO(data)), 1), [1])
    assert_same_footprints(found, template)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("AFW_TYPE", "'EXPOSURE'", "AFW_TYPE is 'EXPOSURE' instead of 'SOURCE'"),
        ("TTYPE4", "'mother'", "no column 'parent'"),
        ("TFORM1", "'1D'", "column 'id' has type 'D' instead of 'L'"),
        ("AR_HDU", "1", "AR_HDU = 1 is no number"),
        ("AR_HDU", "'x'", "AR_HDU = 'x' is no number"),
        ("TFORM5", "'4A'", "column 'footprint' is no column of archive ids"),
        ("AR_HDU", "99", "the file has only 6 HDUs"),
        ("AR_HDU", "4", "EXTTYPE is 'ARCHIVE_DATA'"),
        ("NAXIS2", "888888888888", "announces"),
        ("PCOUNT", "-1", "impossible sizes"),
        ("NAXIS2", "-2", "impossible sizes"),
        ("NAXIS2", "2 2", "invalid or repeated card"),
    ],
)
def test_damaged_catalogues_are_refused(
    tmp_path: Path, edit_card: Callable[..., bytes], key: str, value: str, match: str
) -> None:
    """Name file, HDU and column of what is wrong."""
    path = _small(tmp_path)
    path.write_bytes(edit_card(path.read_bytes(), 1, key, value))
    with pytest.raises(FitsFormatError, match=match) as info:
        read_source_catalog(path)
    assert "small.fits" in str(info.value)


def test_no_damage_gets_through(tmp_path: Path) -> None:
    """Change random bytes; reading works or fails with our exceptions."""
    original = _small(tmp_path).read_bytes()
    path = tmp_path / "damaged.fits"
    rng = random.Random(7)
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            position = rng.randrange(len(data))
            digits = 48 <= data[position] < 58
            data[position] = rng.choice(b"0123456789-") if digits else rng.randrange(256)
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        path.write_bytes(data)
        try:
            read_source_catalog(path)
        except (FitsFormatError, ArchiveError):
            refused += 1
    assert 30 < refused < 150


def test_files_that_are_no_fits_are_refused(tmp_path: Path) -> None:
    """Tell missing files from bad ones."""
    with pytest.raises(FileNotFoundError):
        read_source_catalog(tmp_path / "none.fits")
    for data in (b"", b"SIMPLE", b"PK" * 5000, PRIMARY_HDU[:1000]):
        (tmp_path / "bad.fits").write_bytes(data)
        with pytest.raises(FitsFormatError, match=r"bad\.fits"):
            read_source_catalog(tmp_path / "bad.fits")
    (tmp_path / "bad.fits").write_bytes(PRIMARY_HDU)
    with pytest.raises(FitsFormatError, match="the file has only 1 HDUs"):
        read_source_catalog(tmp_path / "bad.fits")


def test_unsuitable_catalogues_leave_no_file(tmp_path: Path) -> None:
    """Refuse to write what the stack can't read, leaving nothing behind."""
    cases: list[tuple[Any, str]] = []
    cases.append((SourceCatalog(Schema(), 0), "the first fields must be"))
    schema = Schema.source_minimal()
    schema.add_field("footprint", "I")
    cases.append((SourceCatalog(schema, 1, footprints=Footprints.empty(1)), "'footprint' is in the schema"))
    bad = SourceCatalog(Schema.source_minimal(), 1, metadata={"KEY": object()})
    cases.append((bad, "card 'KEY': can't store a object"))
    for catalog, match in cases:
        with pytest.raises(ValueError, match=match):
            write_source_catalog(catalog, tmp_path / "a.fits")
    assert not list(tmp_path.iterdir())
