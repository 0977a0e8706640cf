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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box
from lsst.images.fields import BaseField, ChebyshevField, ProductField
from lsst.meas.finalize.afw import ArchiveError, MalformedArchiveError, read_exposure
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.components import PhotoCalib, PixelAreaField, TransformField, UnreadableField
from lsst.meas.finalize.afw.components._bounded_fields import _BOX_FIELDS
from lsst.meas.finalize.afw.fits._writer import PRIMARY_HDU
from lsst.meas.finalize.afw.wcs import AfwTransform, SkyWcs
from lsst.meas.finalize.catalogs import Field, Schema


def _round_trip(obj: object) -> object:
    writer = ArchiveWriter()
    archive_id = writer.put(obj)
    data = PRIMARY_HDU + b"".join(writer.hdus())
    return ArchiveReader(fits.open(io.BytesIO(data)), 1).get(archive_id)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(*[st.integers(-(2**20), 2**20)] * 2),
    st.tuples(*[st.integers(1, 5000)] * 2),
    st.integers(0, 2**32),
)
def test_chebyshev_fields_survive(
    shape: tuple[int, int], start: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    """Keep box, orders and all bits of the coefficients."""
    box = Box.factory[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
    field = ChebyshevField(box, np.random.default_rng(seed).normal(size=shape))
    assert _round_trip(field) == field


def test_golden_fields_follow_the_formula(tiny: Path) -> None:
    """Evaluate the stack's coefficients as spec 02 §5.3 says."""
    with fits.open(
        tiny / "expected/default/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
    ) as hdulist:
        archive = ArchiveReader(hdulist, 2)
        maps = archive.get(hdulist[1].data["apCorrMap"][0])
        raw = {int(row["id"]): row for row in hdulist[2].data}
        fields = {row["name"].strip(): int(row["field"]) for row in hdulist[4].data}
        x, y = np.array([0.0, 13.25, 559.5, -0.5]), np.array([0.0, 419.75, 519.5, 250.0])
        for name, archive_id in fields.items():
            row = hdulist[2 + raw[archive_id]["cat.archive"]].data[raw[archive_id]["row0"]]
            coefficients = np.atleast_1d(row["coefficients"])
            n_x = row["order_x"] + 1
            u, v = 2 * (x - 279.5) / 560, 2 * (y - 259.5) / 520
            expected = sum(
                c * np.cos(i % n_x * np.arccos(u)) * np.cos(i // n_x * np.arccos(v))
                for i, c in enumerate(coefficients)
            )
            # Cosines and recurrences differ by rounding only.
            np.testing.assert_allclose(maps[name](x=x, y=y), expected, rtol=1e-12)


def test_maps_and_products_survive() -> None:
    """Keep names, factors and their sharing."""
    box = Box.factory[0:10, 0:20]
    one, two = (ChebyshevField(box, np.full((1, 1), float(i))) for i in (1, 2))
    product = ProductField([one, two])
    fields: dict[str, BaseField] = {"b": product, "a": one, "c": one}
    found = _round_trip(fields)
    assert isinstance(found, dict)
    assert list(found) == ["a", "b", "c"]
    assert found["a"] is found["c"]
    assert found["a"] == one
    assert list(found["b"].operands) == [one, two]
    assert list(found["b"].operands)[0] is found["a"]
    assert _round_trip({}) == {}


def test_products_of_themselves_are_refused() -> None:
    """Refuse small files whose evaluation would take for ever."""
    field: BaseField = ChebyshevField(Box.factory[0:10, 0:20], np.ones((1, 1)))
    for _ in range(9):
        field = ProductField([field, field])
    assert _round_trip(field) == field
    with pytest.raises(MalformedArchiveError, match="ProductBoundedField of 1024 fields"):
        _round_trip(ProductField([field, field]))


def test_unsuitable_maps_are_refused() -> None:
    """Refuse names that are too long and values that are no fields."""
    field = ChebyshevField(Box.factory[0:10, 0:20], np.ones((1, 1)))
    with pytest.raises(ArchiveError, match="ApCorrMap: column 'name': 'x+' is longer than 64 bytes"):
        ArchiveWriter().put({"x" * 65: field})
    with pytest.raises(ArchiveError, match="has no name"):
        ArchiveWriter().put({"": field})
    with pytest.raises(ArchiveError, match="'a' is a float, no field"):
        ArchiveWriter().put({"a": 1.0})


@pytest.mark.parametrize(
    ("order", "box", "n", "match"),
    [
        (1, (0, 0, 9, 9), 3, "order 1 in x can't have 3 coefficients"),
        (-1, (0, 0, 9, 9), 1, "order -1 in x"),
        (0, (0, 0, -1, -1), 1, r"empty box \(0, 0\) to \(-1, -1\)"),
    ],
)
def test_impossible_fields_are_refused(order: int, box: tuple[int, ...], n: int, match: str) -> None:
    """Refuse coefficients that don't form a matrix, and empty boxes."""
    writer = ArchiveWriter()
    writer.reserve_ids(1)
    schema = Schema((Field("order_x", "I"), *_BOX_FIELDS, Field("coefficients", "ArrayD", size=n)))
    table = writer.claim_table(schema, "ChebyshevBoundedField")
    names = [f.name for f in schema]
    values = [np.array([v], dtype=np.int32) for v in (order, *box)] + [np.ones((1, n))]
    table.append(dict(zip(names, values, strict=True)), 1)
    writer.add_index([1], [1], [0], [0], [1], "ChebyshevBoundedField", "")
    data = PRIMARY_HDU + b"".join(writer.hdus())
    with pytest.raises(MalformedArchiveError, match=match):
        ArchiveReader(fits.open(io.BytesIO(data)), 1).get(1)


_POLY_MAP = (
    "Begin PolyMap\n Nin = 2\n Nout = 1\n IsA Mapping\n MPF1 = 1\n MPF2 = 1\n NCF1 = 3\n CF1 = 2\n"
    " CF2 = 0.001\n CF3 = 1e-06\n PF3 = 1\n PF5 = 1\n PF6 = 1\n IterInv = 0\nEnd PolyMap\n"
)
_BOX = Box.factory[0:300, 0:400]


@pytest.fixture(scope="module")
def wcs(tiny: Path) -> SkyWcs:
    """Coordinates of detector 0 of the small golden set."""
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    with fits.open(path) as hdulist:
        found = ArchiveReader(hdulist, 4).get(hdulist[0].header["ARCHIVE_ID_SKYWCS"])
    assert isinstance(found, SkyWcs)
    return found


def test_transform_fields_follow_the_polynomial() -> None:
    """Evaluate the first output, at points and on a grid."""
    field = TransformField(_BOX, AfwTransform("TransformPoint2ToGeneric", _POLY_MAP))
    x, y = np.array([50.0, 0.0, 399.25]), np.array([[70.0], [-0.5]])
    np.testing.assert_allclose(field(x=x, y=y), 2 + 0.001 * x + 1e-6 * x * y, rtol=1e-14)
    assert isinstance(field(x=50.0, y=70.0), float)
    image = field.render(Box.factory[70:72, 49:52])
    assert image.array[0, 1] == pytest.approx(2.0535, rel=1e-14)
    scaled = 3 * field
    assert scaled(x=50.0, y=70.0) == pytest.approx(3 * 2.0535, rel=1e-14)
    assert scaled != field


def test_pixel_areas(wcs: SkyWcs) -> None:
    """Give the area of pixels by the tangent plane's scale."""
    field = PixelAreaField(_BOX, wcs, 2.0)
    assert field.bounds == _BOX
    x, y = np.array([100.0, 300.0]), np.array([50.0, 250.0])
    step = 1e-3
    found = []
    for dx, dy in ((0, 0), (step, 0), (0, step)):
        ra, dec = wcs.pixel_to_sky(x + dx, y + dy)
        found.append(np.array([ra * np.cos(wcs.pixel_to_sky(x, y)[1]), dec]))
    along_x, along_y = (found[1] - found[0]) / step, (found[2] - found[0]) / step
    area = np.abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    # A finite difference, and curvature over a pixel.
    np.testing.assert_allclose(field(x=x, y=y), 2 * area, rtol=1e-6)


def test_stack_fields_survive(wcs: SkyWcs) -> None:
    """Write and read all kinds of fields, alone and as factors."""
    transform = TransformField(_BOX, AfwTransform("TransformPoint2ToGeneric", _POLY_MAP))
    area = PixelAreaField(_BOX, wcs, 1e10)
    chebyshev = ChebyshevField(_BOX, np.array([[1.0, 0.25]]))
    fields: dict[str, BaseField] = {
        "area": area,
        "transform": transform,
        "scaled": transform * 2.5,
        "product": ProductField([transform, chebyshev, area]),
    }
    found = _round_trip(fields)
    assert isinstance(found, dict)
    assert found["area"] == area
    assert found["transform"] == transform
    for name, field in fields.items():
        assert found[name](x=50.0, y=70.0) == pytest.approx(field(x=50.0, y=70.0), rel=1e-14)
    calib = _round_trip(PhotoCalib(2.0, 0.1, transform))
    assert isinstance(calib, PhotoCalib)
    assert calib.field == transform


def test_aperture_corrections_are_independent(stack_files: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Read what can be read of a map; the rest fails when it is used."""
    found = read_exposure(stack_files / "exposure_apcorr_mixed.fits", component="aperture_corrections")
    # Values that afw reads.
    assert found["good"](x=50.0, y=70.0) == pytest.approx(1.42525, rel=1e-14)
    assert found["transform"](x=50.0, y=70.0) == pytest.approx(2.0535, rel=1e-14)
    coadd = found["coadd"]
    assert isinstance(coadd, UnreadableField)
    for use in (
        lambda: coadd(x=50.0, y=70.0),
        lambda: coadd * 2,
        lambda: coadd.bounds,
        coadd.render,
    ):
        with pytest.raises(ArchiveError, match="'coadd' can't be read: .*CoaddBoundedField"):
            use()
    assert "aperture correction 'coadd'" in caplog.text
    # It is written as it is stored, though the file is closed.
    writer = ArchiveWriter()
    writer.put({"coadd": coadd})
    assert b"CoaddBoundedField" in writer.hdus()[0]


def test_varying_calibration_by_a_transform(stack_files: Path) -> None:
    """Convert a PhotoCalib with a TransformBoundedField."""
    path = stack_files / "exposure_photocalib_transform.fits"
    field = read_exposure(path, component="photometric_scaling")
    assert field(x=50.0, y=70.0) == pytest.approx(2.0535, rel=1e-14)
    assert str(field.unit) == "nJy / electron"


def _read_rows(name: str, fields: list[Field], values: dict[str, Any]) -> Any:
    writer = ArchiveWriter()
    writer.reserve_ids(1)
    table = writer.claim_table(Schema(tuple(fields)), name)
    table.append({key: np.array([value]) for key, value in values.items()}, 1)
    writer.add_index([1], [1], [0], [0], [1], name, "")
    data = PRIMARY_HDU + b"".join(writer.hdus())
    return ArchiveReader(fits.open(io.BytesIO(data)), 1).get(1)


def test_old_chebyshev_fields() -> None:
    """Read boxes that are stored as points."""
    fields = [
        Field("order_x", "I"),
        Field("bbox_min", "ArrayI", size=2),
        Field("bbox_max", "ArrayI", size=2),
        Field("coefficients", "ArrayD", size=2),
    ]
    values = {
        "order_x": np.int32(1),
        "bbox_min": np.array([-3, 4], dtype=np.int32),
        "bbox_max": np.array([16, 13], dtype=np.int32),
        "coefficients": np.array([1.0, 0.5]),
    }
    found = _read_rows("ChebyshevBoundedField", fields, values)
    assert found == ChebyshevField(Box.factory[4:14, -3:17], np.array([[1.0, 0.5]]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (_POLY_MAP, "unknown version 'Begin'"),
        (f"2 TransformPoint2ToGeneric {_POLY_MAP}", "unknown version '2'"),
        (f"1 TransformPoint2ToPoint2 {_POLY_MAP}", "announced as 'TransformPoint2ToPoint2'"),
    ],
)
def test_damaged_transform_fields(text: str, match: str) -> None:
    """Refuse text that is no mapping to numbers."""
    fields = [*_BOX_FIELDS, Field("frameSet", "ArrayB")]
    values: dict[str, Any] = dict(
        zip([f.name for f in _BOX_FIELDS], np.array([0, 0, 9, 9], "i4"), strict=True)
    )
    writer = ArchiveWriter()
    writer.reserve_ids(1)
    table = writer.claim_table(Schema(tuple(fields)), "TransformBoundedField")
    column = np.empty(1, dtype=object)
    column[0] = np.frombuffer(text.encode(), dtype=np.uint8)
    table.append({**{k: np.array([v]) for k, v in values.items()}, "frameSet": column}, 1)
    writer.add_index([1], [1], [0], [0], [1], "TransformBoundedField", "")
    data = PRIMARY_HDU + b"".join(writer.hdus())
    with pytest.raises(MalformedArchiveError, match=match):
        ArchiveReader(fits.open(io.BytesIO(data)), 1).get(1)
