# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Checks of AST native text.

AST reads objects recursively, allocates what the text announces and doesn't
expect missing parts: damaged text can crash it, so nothing reaches AST that
hasn't been understood here.
"""

from __future__ import annotations

__all__ = ("check_ast_text",)

import dataclasses
import math
import re
from collections.abc import Callable

from .._errors import FitsFormatError

_LINE = re.compile(r"(?:(Begin|End|IsA) +(\w+)|(\w+) *=(?: *(\S.*?))?) *")
_MAX_DEPTH = 100
_MAX_AXES = 8
_MAX_POWER = 50
_MAX_FRAMES = 100


# What each class writes about itself; AST crashes on what it doesn't expect.
_KEYS = {
    "Object": r"id|ident|usedefs",
    "Mapping": r"nin|nout|invert|fwd|inv|issimp|report",
    "Axis": r"label|symbol|unit|digits|format|dirn|top|bottom",
    "CmpMap": r"series|inv[ab]|map[ab]",
    "Frame": r"title|naxes|domain|epoch|system|alsys|obs(lat|lon|alt)|dut1|actunt|prsrv|permut|digits"
    r"|(lbl|sym|uni|dig|fmt|dir|bot|top|ax|axp)[1-9]",
    "FrameSet": r"nframe|base|currnt|(lnk|frm|map|inv)\d{1,3}",
    "MatrixMap": r"form|i?m\d{1,3}",
    "PolyMap": r"(mp|nc)[fi]\d{1,2}|[cp][fi]\d{1,5}|iterinv|niterinv|tolinv",
    "ShiftMap": r"sft[1-9]",
    "SkyAxis": r"astime|islat|cnlon",
    "SkyFrame": r"proj|eqnox|neglon|skytol|srefis|srefp?[12]|aloff|islat[12]|istime[12]",
    "SphMap": r"untrd|plrlg",
    "TranMap": r"[fi]?inv[ab]?|map[ab]",
    "UnitMap": r"(?!)",
    "UnitNormMap": r"ctr[1-9]",
    "WcsMap": r"type|wcsax[12]|pv[1-9]_\d{1,2}",
    "WinMap": r"(sft|scl)[1-9]",
    "ZoomMap": r"zoom",
}
_BASES = {
    "Axis": ("Object",),
    "SkyAxis": ("Object", "Axis"),
    "FrameSet": ("Object", "Mapping", "Frame"),
    "SkyFrame": ("Object", "Mapping", "Frame"),
}


@dataclasses.dataclass
class _Node:
    """One object of the text."""

    cls: str
    section: int = 0
    keys: list[str] = dataclasses.field(default_factory=list)
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    children: dict[str, _Node] = dataclasses.field(default_factory=dict)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        text = self.values.get(key.lower())
        if text is None and default is not None:
            return default
        try:
            value = int(text or "")
        except ValueError:
            raise FitsFormatError(f"{key} of {self.cls} is {(text or 'missing')[:40]!r}") from None
        if not low <= value <= high:
            raise FitsFormatError(f"{key} of {self.cls} is {value}")
        return value

    def close_section(self, cls: str) -> None:
        """Check what was written by one of the classes it derives from."""
        classes = (*_BASES.get(self.cls, ("Object", "Mapping")), self.cls)
        if self.cls not in _KEYS or cls not in classes[self.section :]:
            raise FitsFormatError(f"class {self.cls[:40]!r} isn't supported in a mapping, as {cls[:40]!r}")
        for key in self.keys:
            if not re.fullmatch(_KEYS[cls], key):
                raise FitsFormatError(f"unknown {key[:40]!r} of a {self.cls}")
        self.section, self.keys = classes.index(cls) + 1, []

    def child(self, key: str) -> _Node:
        try:
            return self.children[key.lower()]
        except KeyError:
            raise FitsFormatError(f"{self.cls} without {key}") from None

    def require(self, prefix: str, numbers: range, *, optional: bool = False) -> None:
        for number in numbers:
            text = self.values.get(f"{prefix}{number}".lower())
            if text is None and optional:
                continue
            try:
                finite = text is not None and math.isfinite(float(text))
            except ValueError:
                finite = False
            if not finite:
                raise FitsFormatError(f"{prefix}{number} of {self.cls} is {str(text)[:40]!r}")


# A comment at the end of a line; a hash may also be part of a quoted value.
_COMMENT = re.compile(r'(?<=[ \t])#[^"]*$')


def _parse(text: str) -> _Node:
    """Parse the text to a tree; keys in lower case."""
    stack: list[_Node] = []
    pending: str | None = None
    root: _Node | None = None
    for line in text.splitlines():
        line = _COMMENT.sub("", line).strip(" \t")
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or root is not None:
            raise FitsFormatError(f"unexpected line {line[:60]!r}")
        keyword, cls, key, value = match.groups()
        if (pending is not None) != (keyword == "Begin" and bool(stack)):
            raise FitsFormatError(f"unexpected line {line[:60]!r}")
        if keyword == "Begin":
            node = _Node(cls)
            if pending is not None:
                stack[-1].children[pending] = node
                pending = None
            stack.append(node)
            if len(stack) > _MAX_DEPTH:
                raise FitsFormatError(f"objects are nested deeper than {_MAX_DEPTH}")
        elif not stack or (keyword == "End" and stack[-1].cls != cls):
            raise FitsFormatError(f"objects are nested wrongly at {line[:60]!r}")
        elif keyword == "End":
            node = stack.pop()
            node.close_section(node.cls)
            root = node if not stack else None
        elif keyword == "IsA":
            stack[-1].close_section(cls)
        elif key is not None:
            lower = key.lower()
            if lower in stack[-1].values or lower in stack[-1].children:
                raise FitsFormatError(f"{stack[-1].cls} has {key} twice")
            stack[-1].keys.append(lower)
            if value is None:
                pending = lower
            else:
                stack[-1].values[lower] = value
    if root is None:
        raise FitsFormatError("the text ends early")
    return root


def _sizes(node: _Node) -> tuple[int, int]:
    """Check a mapping; return its numbers of inputs and outputs."""
    check = _MAPPINGS.get(node.cls)
    if check is None:
        raise FitsFormatError(f"class {node.cls[:40]!r} isn't supported in a mapping")
    if node.cls in ("FrameSet", *_FRAMES):
        sizes = check(node, 0, 0)
    else:
        n_in = node.integer("Nin", None, 1, _MAX_AXES)
        sizes = check(node, n_in, node.integer("Nout", n_in, 1, _MAX_AXES))
    # Nin and Nout are those before inversion.
    return sizes[::-1] if node.integer("Invert", 0, 0, 1) else sizes


def _component(node: _Node, suffix: str) -> tuple[int, int]:
    child = node.child(f"Map{suffix}")
    n_in, n_out = _sizes(child)
    # InvA is the direction to use, whatever that of the component itself.
    if child.integer("Invert", 0, 0, 1) != node.integer(f"Inv{suffix}", 0, 0, 1):
        return n_out, n_in
    return n_in, n_out


def _check_compound(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    a, b = _component(node, "A"), _component(node, "B")
    if set(node.children) != {"mapa", "mapb"}:
        raise FitsFormatError(f"{node.cls} with parts {sorted(node.children)}")
    if node.cls == "TranMap":
        fits, sizes = a == b, a
    elif node.integer("Series", 1, 0, 1):
        fits, sizes = a[1] == b[0], (a[0], b[1])
    else:
        fits, sizes = True, (a[0] + b[0], a[1] + b[1])
    if not fits or sizes != (n_in, n_out):
        raise FitsFormatError(f"{node.cls} of {n_in} to {n_out} axes with parts {a} and {b}")
    return n_in, n_out


def _check_square(prefixes: tuple[str, ...]) -> Callable[[_Node, int, int], tuple[int, int]]:
    """Make the check of a mapping with numbers per axis."""

    def check(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
        if n_in != n_out or node.children:
            raise FitsFormatError(f"{node.cls} of {n_in} to {n_out} axes")
        for prefix in prefixes:
            # AST leaves out shifts of 0 and scales of 1.
            node.require(prefix, range(1, n_in + 1), optional=True)
        return n_in, n_out

    return check


def _check_zoom(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    node.require("Zoom", range(0))
    if float(node.values.get("zoom", "nan")) == 0 or n_in != n_out:
        raise FitsFormatError(f"ZoomMap of {n_in} to {n_out} axes")
    return n_in, n_out


def _check_matrix(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    form = node.values.get("form", '"Full"').strip('"')
    n = {"Full": n_in * n_out, "Diagonal": min(n_in, n_out), "Unit": 0}.get(form)
    if n is None or node.children:
        raise FitsFormatError(f"MatrixMap of form {form[:40]!r}")
    # Missing elements are bad values by definition.
    known = [key for key in node.values if re.fullmatch(r"i?m\d+", key)]
    if any(int(key.lstrip("im")) >= n_in * n_out for key in known):
        raise FitsFormatError(f"MatrixMap of {n_in} to {n_out} axes has more elements")
    return n_in, n_out


def _check_unit_norm(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    if n_out != n_in + 1 or node.children:
        raise FitsFormatError(f"UnitNormMap of {n_in} to {n_out} axes")
    return n_in, n_out


def _check_fixed(sizes: tuple[int, int]) -> Callable[[_Node, int, int], tuple[int, int]]:
    """Make the check of a mapping with a given number of axes."""

    def check(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
        if (n_in, n_out) != sizes or node.children:
            raise FitsFormatError(f"{node.cls} of {n_in} to {n_out} axes")
        return n_in, n_out

    return check


def _check_wcs(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    axes = [node.integer(f"WcsAx{n}", n, 1, n_in) for n in (1, 2)] if n_in > 1 else [1, 1]
    if n_in != n_out or axes[0] == axes[1] or node.children:
        raise FitsFormatError(f"WcsMap of {n_in} to {n_out} axes, {axes}")
    if any(re.fullmatch(r"pv\d+_\d\d\d+|.*max.*", key) for key in node.values):
        raise FitsFormatError("WcsMap with too many parameters")
    return n_in, n_out


def _check_poly(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    for direction, n_arguments, n_results in (("F", n_in, n_out), ("I", n_out, n_in)):
        has_any = any(re.fullmatch(rf"nc{direction.lower()}\d+", key) for key in node.values)
        if not has_any:
            if direction == "F" and not node.values.get("nci1"):
                raise FitsFormatError("PolyMap without coefficients")
            continue
        powers = [node.integer(f"MP{direction}{n}", None, 0, _MAX_POWER) for n in range(1, n_arguments + 1)]
        counts = [node.integer(f"NC{direction}{n}", None, 0, 10_000) for n in range(1, n_results + 1)]
        total = sum(counts)
        node.require(f"C{direction}", range(1, total + 1))
        for number in range(1, total * n_arguments + 1):
            power = node.integer(f"P{direction}{number}", 0, 0, _MAX_POWER)
            if power > powers[(number - 1) % n_arguments]:
                raise FitsFormatError(f"P{direction}{number} of PolyMap is {power}, more than announced")
    node.integer("NiterInv", 4, 0, 1000)
    if node.children:
        raise FitsFormatError("PolyMap with parts")
    return n_in, n_out


def _check_frame(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    n_axes = node.integer("Naxes", None, 1, _MAX_AXES)
    if node.cls == "SkyFrame" and n_axes != 2:
        raise FitsFormatError(f"SkyFrame with {n_axes} axes")
    for key, child in node.children.items():
        if not re.fullmatch(r"ax[1-9]", key) or int(key[2:]) > n_axes:
            raise FitsFormatError(f"{node.cls} with the part {key[:40]!r}")
        if child.cls not in ("Axis", "SkyAxis") or child.children:
            raise FitsFormatError(f"{node.cls} with a {child.cls[:40]} as axis")
    for number in range(1, n_axes + 1):
        node.child(f"Ax{number}")
        node.integer(f"Axp{number}", number, 1, n_axes)
    return n_axes, n_axes


def _check_frame_set(node: _Node, n_in: int, n_out: int) -> tuple[int, int]:
    n_frames = node.integer("Nframe", None, 1, _MAX_FRAMES)
    if "nnode" in node.values:
        raise FitsFormatError("FrameSet with more nodes than frames isn't supported")
    axes = []
    for number in range(1, n_frames + 1):
        frame = node.child(f"Frm{number}")
        if frame.cls not in _FRAMES:
            raise FitsFormatError(f"FrameSet with a {frame.cls[:40]} as frame")
        axes.append(_sizes(frame)[0])
    links = {number: node.integer(f"Lnk{number}", None, 1, n_frames) for number in range(2, n_frames + 1)}
    for number, link in links.items():
        mapping = node.child(f"Map{number}")
        sizes = _sizes(mapping)
        if mapping.integer("Invert", 0, 0, 1) != node.integer(f"Inv{number}", 0, 0, 1):
            sizes = sizes[::-1]
        if sizes != (axes[link - 1], axes[number - 1]):
            raise FitsFormatError(f"FrameSet with Map{number} of {sizes} axes from frame {link}")
    _check_links(links)
    expected = {f"frm{n}" for n in range(1, n_frames + 1)} | {f"map{n}" for n in range(2, n_frames + 1)}
    if set(node.children) != expected:
        raise FitsFormatError(f"FrameSet of {n_frames} frames with {len(node.children)} parts")
    base = node.integer("Base", 1, 1, n_frames)
    current = node.integer("Currnt", n_frames, 1, n_frames)
    return axes[base - 1], axes[current - 1]


def _check_links(links: dict[int, int]) -> None:
    """Check that all frames hang together with the first, without loops."""
    for number in links:
        frame = number
        for _ in links:
            if frame == 1:
                break
            frame = links[frame]
        if frame != 1:
            raise FitsFormatError(f"FrameSet whose frame {number} isn't connected with the first")


_FRAMES = ("Frame", "SkyFrame")
_MAPPINGS: dict[str, Callable[[_Node, int, int], tuple[int, int]]] = {
    "CmpMap": _check_compound,
    "Frame": _check_frame,
    "FrameSet": _check_frame_set,
    "MatrixMap": _check_matrix,
    "PolyMap": _check_poly,
    "ShiftMap": _check_square(("Sft",)),
    "SkyFrame": _check_frame,
    "SphMap": _check_fixed((3, 2)),
    "TranMap": _check_compound,
    "UnitMap": _check_square(()),
    "UnitNormMap": _check_unit_norm,
    "WcsMap": _check_wcs,
    "WinMap": _check_square(("Sft", "Scl")),
    "ZoomMap": _check_zoom,
}


def check_ast_text(text: str, n_out: int | None = 2) -> None:
    """Check the text of a mapping or FrameSet.

    Parameters
    ----------
    text
        AST native text.
    n_out
        Number of outputs it must have, with two inputs; None for any.

    Raises
    ------
    FitsFormatError
        If the text isn't the complete dump of an object of supported
        classes with consistent numbers of axes.
    """
    sizes = _sizes(_parse(text))
    if sizes[0] != 2 or n_out not in (None, sizes[1]):
        raise FitsFormatError(f"the mapping is from {sizes[0]} to {sizes[1]} axes")
