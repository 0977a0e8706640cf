# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Coordinate systems in archives, and the text that AST reads."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.afw import FitsFormatError, MalformedArchiveError
from lsst.meas.finalize.afw.wcs._ast_text import dump_ast, parse_ast, transform_points
from lsst.meas.finalize.afw.wcs._persistables import AfwTransform, SkyWcs, TransformMap

from ..conftest import SHIFT_TEXT, RawObject, golden_component, persist, shift_transform, text_bytes


def test_sky_wcs_with_approximation(tiny: Path) -> None:
    """Keep the FITS approximation."""
    wcs = golden_component(tiny, "SKYWCS")
    both = persist(SkyWcs(wcs.text, wcs.text))
    assert both.approximation == wcs.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 SkyWcs 0 Begin FrameSet", "unknown version '2'"),
        ("1 Wcs 0 Begin FrameSet", "announced as 'Wcs'"),
        ("1", "starts with '1'"),
        ("1 SkyWcs 0 " + SHIFT_TEXT.format(1, 2), "consist of a FrameSet"),
        ("1 SkyWcs 0 " + "Begin CmpMap\n MapA =\n" * 200, "deeper than 100"),
        ("1 SkyWcs 0 End CmpMap\n", "nested wrongly"),
        ("1 SkyWcs 0 Begin IntraMap\n End IntraMap\n", "'IntraMap' isn't supported"),
        ("1 SkyWcs 0 Begin Frame\n", "not a valid AST mapping"),
        ("1 SkyWcs 0 hello", "not a valid AST mapping"),
        ("1 SkyWcs 0 ", "not a valid AST mapping"),
        ("1 SkyWcs 0 \u00e9", "isn't ASCII"),
    ],
)
def test_malformed_sky_wcs(text: str, message: str) -> None:
    """Check the text before AST sees it."""
    raw = RawObject("SkyWcs", {"wcs": (f"ArrayB{len(text.encode())}", [text_bytes(text)])})
    with pytest.raises(FitsFormatError, match=message):
        _ = persist(raw).frame_set


def test_ast_points_are_nan_where_undefined() -> None:
    """Turn AST's bad value into NaN."""
    text = ' Begin WcsMap\n Nin = 2\n IsA Mapping\n Type = "TAN"\n WcsAx1 = 1\n WcsAx2 = 2\n End WcsMap\n'
    mapping = parse_ast(text, "test")
    # The projection is undefined on the far hemisphere.
    x, y = transform_points(mapping, [0.0, 0.0], [math.pi / 2, -1.0])
    assert np.isfinite(x[0])
    assert np.isnan(x[1])
    assert parse_ast(dump_ast(mapping), "again") == mapping


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))])
def test_what_was_used_is_copied(tiny: Path, copied: Callable[[Any], Any]) -> None:
    """Send to other processes what AST has parsed."""
    wcs = golden_component(tiny, "SKYWCS")
    x, y = np.array([3.0, 500.0]), np.array([5.0, 100.0])
    expected = wcs.pixel_to_sky(x, y)
    again = copied(wcs)
    assert again == wcs
    np.testing.assert_array_equal(again.pixel_to_sky(x, y), expected)
    transform = shift_transform(1.5, 2.5)
    shifted = transform.apply(x, y)
    np.testing.assert_array_equal(copied(transform).apply(x, y), shifted)


def _map_table(*edges: tuple[str, str, str, str, Any]) -> RawObject:
    names = ("fromSysName", "fromSysDetectorName", "toSysName", "toSysDetectorName", "transform")
    codes = ("String", "String", "String", "String", "I")
    columns = {n: (c, [edge[i] for edge in edges]) for i, (n, c) in enumerate(zip(names, codes, strict=True))}
    return RawObject("TransformMap", columns)


def test_transform_map() -> None:
    """Find the way through the tree, inverting where needed."""
    table = _map_table(
        ("FocalPlane", "", "FieldAngle", "", shift_transform(1, 0)),
        ("FocalPlane", "", "Pixels", "A", shift_transform(10, 20)),
        ("Pixels", "A", "ActualPixels", "A", shift_transform(0, 3)),
        ("FocalPlane", "", "Pixels", "B", shift_transform(100, 200)),
    )
    tree = persist(table)
    assert isinstance(tree, TransformMap)
    mapping = tree.mapping(("ActualPixels", "A"), ("Pixels", "B"))
    np.testing.assert_array_equal(transform_points(mapping, 0.0, 0.0), (90.0, 177.0))
    mapping = tree.mapping(("Pixels", "B"), ("FieldAngle", ""))
    np.testing.assert_array_equal(transform_points(mapping, 0.0, 0.0), (-99.0, -200.0))
    assert ("ActualPixels", "B") not in tree
    with pytest.raises(MalformedArchiveError, match="no transform from"):
        tree.mapping(("ActualPixels", "B"), ("FocalPlane", ""))


def test_transform_map_is_parsed_lazily() -> None:
    """Leave transforms alone that nobody asks for."""
    table = _map_table(
        ("FocalPlane", "", "Pixels", "A", shift_transform(10, 20)),
        (
            "FocalPlane",
            "",
            "Pixels",
            "B",
            AfwTransform("TransformPoint2ToPoint2", " Begin Garbage\n End Garbage\n"),
        ),
    )
    tree = persist(table)
    mapping = tree.mapping(("Pixels", "A"), ("FocalPlane", ""))
    np.testing.assert_array_equal(transform_points(mapping, 10.0, 20.0), (0.0, 0.0))
    with pytest.raises(FitsFormatError, match="'Garbage' isn't supported"):
        tree.mapping(("Pixels", "B"), ("FocalPlane", ""))


def test_old_transform_map() -> None:
    """Read the form with numbered systems."""
    systems = {
        "sysName": ("String", ["FocalPlane", "Pixels"]),
        "detectorName": ("String", ["", "A"]),
        "id": ("I", [1, 2]),
    }
    connections = {"from": ("I", [1]), "to": ("I", [2]), "transform": ("I", [shift_transform(5, 6)])}
    tree = persist(RawObject("TransformMap", systems, connections))
    mapping = tree.mapping(("FocalPlane", ""), ("Pixels", "A"))
    np.testing.assert_array_equal(transform_points(mapping, 0.0, 0.0), (5.0, 6.0))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("A", "", "B", "", 1), ("B", "", "A", "", 1)], "connected twice"),
        ([("A", "", "A", "", 1)], "connected twice"),
        ([("A", "", "B", "", 1), ("B", "", "C", "", 1), ("C", "", "A", "", 1)], "a tree"),
        ([("A", "", "B", "", 1), ("C", "", "D", "", 1)], "a tree"),
    ],
)
def test_transform_map_must_be_a_tree(edges: list[Any], message: str) -> None:
    """Refuse loops and islands."""
    shift = shift_transform(1, 1)
    with pytest.raises(MalformedArchiveError, match=message):
        persist(_map_table(*((*edge[:4], shift) for edge in edges)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Nin = 2", "Nin = -1", "Nin of .* is -1"),
        ("\n          Naxes = 2", "\n          Naxeg = 2", "unknown 'naxeg'"),
        ("          Naxes = 2\n", "", "Naxes of .*Frame is 'missing'"),
        ("PF3 = 3", "PF3 = 40", "more than announced"),
        ("NCF1 = 3", "NCF1 = 9", "CF4 of PolyMap"),
        ("Lnk3 = 2", "Lnk3 = 3", "isn't connected"),
        ("Nframe = 3", "Nframe = 4", "without Frm4"),
        ('Type = "TAN"', 'Type = "TAN"\n Type = "SIN"', "has Type twice"),
    ],
)
def test_damaged_ast_text(tiny: Path, old: str, new: str, message: str) -> None:
    """Understand the text of a real WCS completely before AST reads it."""
    text = golden_component(tiny, "SKYWCS").text
    assert parse_ast(text, "original") is not None
    assert old in text
    with pytest.raises(FitsFormatError, match=message):
        parse_ast(text.replace(old, new, 1), "damaged")


def _frame_set(rebased: bool) -> Any:
    """Make a FrameSet; removing its first frame turns the links around."""
    import starlink.Ast as Ast

    frames = Ast.FrameSet(Ast.Frame(2, "Domain=A"))
    frames.addframe(1, Ast.ShiftMap([1.0, 0.0]), Ast.Frame(2, "Domain=B"))
    frames.addframe(2, Ast.ZoomMap(2, 2.0), Ast.SkyFrame('Title="a # b"'))
    if rebased:
        frames.Base = 2
        frames.removeframe(1)
    return frames


@pytest.mark.parametrize(
    "make", ["shift", "window", "zoom", "matrix", "diagonal", "poly", "tran", "set", "rebased"]
)
@pytest.mark.parametrize("inverted", [False, True])
def test_text_written_by_ast_is_understood(make: str, inverted: bool) -> None:
    """Read what AST writes, with comments and left-out defaults."""
    import starlink.Ast as Ast

    mapping = {
        "shift": lambda: Ast.ShiftMap([0.0, 1.0]),
        "window": lambda: Ast.WinMap([0, 0], [1, 1], [0, 1], [1, 3]),
        "zoom": lambda: Ast.ZoomMap(2, 1.5),
        "matrix": lambda: Ast.MatrixMap([[0.0, 1.0], [2.0, 0.0]]),
        "diagonal": lambda: Ast.MatrixMap([2.0, 3.0]),
        "poly": lambda: Ast.PolyMap([[1.0, 1, 1, 0], [1.0, 2, 0, 1]], [[1.0, 1, 1, 0], [1.0, 2, 0, 1]]),
        "tran": lambda: Ast.TranMap(Ast.ShiftMap([1.0, 2.0]), Ast.ShiftMap([1.0, 2.0])),
        "set": lambda: _frame_set(False),
        "rebased": lambda: _frame_set(True),
    }[make]()
    if inverted:
        mapping.invert()
    parsed = parse_ast(str(mapping), "test")
    points = np.array([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(parsed.applyForward(points), mapping.tran(points), rtol=1e-14)
