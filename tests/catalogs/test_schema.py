# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsst.meas.finalize.catalogs import Field, Schema, SourceCatalog


def _schema(*names: str, aliases: dict[str, str] | None = None) -> Schema:
    return Schema(tuple(Field(name, "D") for name in names), aliases)


def test_slots_resolve_to_fields() -> None:
    """Replace a prefix, wherever the name goes on."""
    schema = _schema(
        "base_SdssCentroid_x",
        "base_SdssCentroid_flag",
        aliases={"slot_Centroid": "base_SdssCentroid", "X_flag_badCentroid": "slot_Centroid_flag"},
    )
    assert schema.resolve("slot_Centroid_x") == "base_SdssCentroid_x"
    assert schema.resolve("X_flag_badCentroid") == "base_SdssCentroid_flag"
    assert "slot_Centroid_x" in schema
    assert "slot_Centroid_y" not in schema
    assert schema["slot_Centroid_x"].name == "base_SdssCentroid_x"
    with pytest.raises(KeyError, match=r"no field 'slot_Centroid_y' \(alias of 'base_SdssCentroid_y'\)"):
        schema.resolve("slot_Centroid_y")


def test_only_the_preceding_alias_is_tried() -> None:
    """Try only the alias before the name in byte order (spec 02 §4.4)."""
    # "ab" is a prefix of "abz", but "aby" stands between them.
    schema = _schema("t_z", "q", aliases={"ab": "t_", "aby": "q"})
    assert schema.resolve("aby") == "q"
    assert schema.apply_aliases("abz") == "abz"
    assert schema.apply_aliases("abA") == "t_A"


def test_aliases_need_no_delimiter() -> None:
    """Replace a prefix in the middle of a word."""
    assert _schema("fluxErr", aliases={"fx": "flux"}).apply_aliases("fxErr") == "fluxErr"


def test_cycles_of_aliases_are_refused() -> None:
    """Name what forms a cycle."""
    schema = _schema("a", aliases={"b": "c", "c": "b"})
    with pytest.raises(ValueError, match="aliases of 'b' form a cycle"):
        schema.apply_aliases("b")
    growing = _schema("a", aliases={"x": "xx"})
    with pytest.raises(ValueError, match="'x' form a cycle"):
        growing.apply_aliases("x")


def _reference(aliases: dict[str, str], name: str) -> str | None:
    """Follow spec 02 §4.4 literally."""
    for _ in range(len(aliases) + 2):
        before = [a for a in aliases if a.encode() <= name.encode()]
        if not before or not name.startswith(best := max(before, key=str.encode)):
            return name
        name = aliases[best] + name[len(best) :]
    return None


_WORDS = st.text(alphabet="ab_", min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_WORDS, _WORDS, max_size=5), _WORDS)
def test_resolution_follows_the_specification(aliases: dict[str, str], name: str) -> None:
    """Compare with a literal transcription, cycles included."""
    schema = Schema((), aliases)
    expected = _reference(aliases, name)
    if expected is None:
        with pytest.raises(ValueError, match="cycle"):
            schema.apply_aliases(name)
    else:
        assert schema.apply_aliases(name) == expected


def test_fields_are_unique_and_typed() -> None:
    """Refuse duplicates and unknown types."""
    schema = Schema.source_minimal()
    with pytest.raises(ValueError, match="'id' is in the schema already"):
        schema.add_field("id", "L")
    with pytest.raises(ValueError, match="unknown type code 'Q'"):
        schema.add_field("x", "Q")
    assert schema.add_flag("f", "doc").dtype == np.dtype(bool)
    assert schema.copy() == schema
    assert schema.copy() is not schema


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("L", 0, [0, 0]),
        ("Flag", 0, [False, False]),
        ("F", 0, [np.nan, np.nan]),
        ("Angle", 0, [np.nan, np.nan]),
        ("String", 4, ["", ""]),
        ("String", 0, ["", ""]),
        ("ArrayD", 2, [[np.nan] * 2] * 2),
        ("ArrayI", 3, [[0] * 3] * 2),
    ],
)
def test_unwritten_columns_have_the_stacks_defaults(kind: str, size: int, expected: list[object]) -> None:
    """Fill new columns as the stack does (spec 02 §4.2)."""
    catalog = SourceCatalog(Schema((Field("x", kind, size=size),)), 2)
    np.testing.assert_array_equal(catalog["x"], np.array(expected, dtype=catalog["x"].dtype))


def test_columns_are_views_and_rows_are_copies() -> None:
    """Write through columns; taken rows are independent."""
    schema = Schema.source_minimal()
    schema.set_alias("key", "id")
    catalog = SourceCatalog(schema, 3, metadata={"A": 1})
    catalog["key"] = [3, 1, 2]
    catalog["id"][0] = 7
    part = catalog[catalog["id"] > 1]
    np.testing.assert_array_equal(part["key"], [7, 2])
    part["id"] = 0
    part.metadata["A"] = 2
    part.schema.add_flag("new")
    np.testing.assert_array_equal(catalog["id"], [7, 1, 2])
    assert catalog.metadata == {"A": 1}
    assert "new" not in catalog.schema
    np.testing.assert_array_equal(part["new"], [False, False])


def test_columns_of_variable_length() -> None:
    """Keep an array per row, of the type of the field."""
    schema = Schema((Field("v", "ArrayF"),))
    catalog = SourceCatalog(schema, {"v": [[1, 2], []]})
    assert [v.dtype for v in catalog["v"]] == [np.float32] * 2
    assert [v.tolist() for v in catalog[[1, 0, 0]]["v"]] == [[], [1.0, 2.0], [1.0, 2.0]]
    catalog = SourceCatalog(schema, {"v": [[1, 2], [3, 4]]})
    assert catalog["v"].shape == (2,)
    same = SourceCatalog(schema, {"v": catalog["v"]})
    assert same["v"] is catalog["v"]


def test_impossible_columns_are_refused() -> None:
    """Refuse columns of unequal length, of wrong shape or without field."""
    for kind, size in (("ArrayD", 2), ("ArrayD", 1), ("D", 0)):
        with pytest.raises(ValueError, match="'a' have shape"):
            SourceCatalog(Schema((Field("a", kind, size=size),)), {"a": np.zeros((2, 3))})
    schema = _schema("a", "b")
    with pytest.raises(ValueError, match="differ in length"):
        SourceCatalog(schema, {"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(KeyError, match="not in the schema"):
        SourceCatalog(schema, {"c": np.zeros(2)})
