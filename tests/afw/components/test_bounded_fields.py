# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.images import Box
from lsst.images.fields import BaseField, ChebyshevField, ProductField
from lsst.meas.finalize.afw import ArchiveError, MalformedArchiveError
from lsst.meas.finalize.afw.archive._reader import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.components._bounded_fields import _BOX_FIELDS
from lsst.meas.finalize.afw.fits._writer import PRIMARY_HDU
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
