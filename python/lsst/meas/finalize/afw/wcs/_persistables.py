# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of SkyWcs, Transforms and TransformMaps (spec 02 §5.1, §5.2,
§5.7).
"""

from __future__ import annotations

__all__ = ("AfwTransform", "SkyWcs", "TransformMap")

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lsst.images import DetectorFrame, SkyFrame, SkyProjection, Transform

from ...catalogs import Field, Schema
from .._errors import MalformedArchiveError
from ..archive import ArchiveReader, ObjectRecord, reads, writes
from ..fits import TableView
from ._ast_text import apply_mapping, parse_ast, transform_points

_SKY_WCS_SCHEMA = Schema((Field("wcs", "ArrayB", "wcs string representation"),))
_SKY_WCS_APPROX_SCHEMA = Schema(
    (
        Field("wcs", "ArrayB", "wcs string representation"),
        Field("approx", "ArrayB", "wcs string representation of FITS approximation"),
    )
)
_BYTES_SCHEMA = Schema(
    (Field("bytes", "ArrayB", "a bytestring containing the output of Transform.writeString"),)
)

_TRANSFORM_MAP_SCHEMA = Schema(
    (
        Field("fromSysName", "String", "Camera coordinate system name."),
        Field("fromSysDetectorName", "String", "Camera coordinate system detector name."),
        Field("toSysName", "String", "Camera coordinate system name."),
        Field("toSysDetectorName", "String", "Camera coordinate system detector name."),
        Field("transform", "I", "Archive ID of the transform."),
    )
)

_TRANSFORM_NAMES = tuple(
    f"Transform{a}To{b}"
    for a in ("Generic", "Point2", "SpherePoint")
    for b in ("Generic", "Point2", "SpherePoint")
)


def _to_text(values: npt.NDArray[np.uint8], where: str) -> str:
    try:
        return np.asarray(values, dtype=np.uint8).tobytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedArchiveError(f"{where}: text of a transform isn't ASCII: {error}") from None


def _to_bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)


def _split_text(text: str, n_tokens: int, where: str) -> list[str]:
    tokens = text.split(" ", n_tokens)
    if len(tokens) != n_tokens + 1:
        raise MalformedArchiveError(f"{where}: text of a transform starts with {text[:40]!r}")
    if tokens[0] != "1":
        raise MalformedArchiveError(
            f"{where}: text of a transform has the unknown version {tokens[0][:20]!r}"
        )
    return tokens


class _ParsedWhenNeeded:
    """A dataclass whose parsed form isn't copied: AST's objects can't be
    pickled.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self))}


@dataclasses.dataclass(frozen=True)
class SkyWcs(_ParsedWhenNeeded):
    """World coordinates of a detector's pixels, parsed when needed.

    Attributes
    ----------
    text : `str`
        AST dump of a FrameSet from pixels (parent coordinates) to ICRS.
    approximation : `str` | `None`
        The same for an approximation that can be written as FITS header.
    where : `str`
        Origin, for messages.
    """

    text: str
    approximation: str | None = None
    where: str = "SkyWcs"

    @cached_property
    def frame_set(self) -> Any:
        """The FrameSet, wrapped as by lsst.images."""
        result = parse_ast(self.text, self.where)
        # That it is from two to two axes has been checked with the text.
        if not hasattr(result, "nFrame"):
            raise MalformedArchiveError(f"{self.where}: a SkyWcs must consist of a FrameSet")
        if result.getFrame(result.current, copy=False).domain != "SKY":
            raise MalformedArchiveError(f"{self.where}: the FrameSet of a SkyWcs doesn't end in the sky")
        return result

    def pixel_to_sky(
        self, x: npt.ArrayLike, y: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Transform pixel positions to the sky.

        Parameters
        ----------
        x, y
            Pixel positions, parent coordinates.

        Returns
        -------
        ra, dec : `numpy.ndarray`
            ICRS coordinates in radians, right ascension from 0 to 2π.
        """
        ra, dec = transform_points(self.frame_set, x, y)
        return ra % (2 * np.pi), dec

    def to_sky_projection(self, frame: DetectorFrame) -> SkyProjection[DetectorFrame]:
        """Convert to lsst.images.

        Parameters
        ----------
        frame
            Pixel frame of the projection.

        Returns
        -------
        projection : `lsst.images.SkyProjection`
            The same transform, with its approximation.
        """
        approximation = None
        if self.approximation is not None:
            parsed = parse_ast(self.approximation, f"{self.where} (approximation)")
            approximation = Transform(frame, SkyFrame.ICRS, parsed)
        return SkyProjection(
            Transform(frame, SkyFrame.ICRS, self.frame_set), fits_approximation=approximation
        )


def _sky_wcs_text(values: Any, where: str) -> str:
    tokens = _split_text(_to_text(values, where), 3, where)
    if tokens[1] != "SkyWcs":
        raise MalformedArchiveError(f"{where}: a SkyWcs is announced as {tokens[1][:40]!r}")
    return tokens[3]


@reads("SkyWcs")
def _read_sky_wcs(archive: ArchiveReader, tables: list[TableView], name: str) -> SkyWcs:
    table = archive.one_row(tables, name)
    approximation = None
    if "approx" in table and len(table["approx"][0]):
        approximation = _sky_wcs_text(table["approx"][0], table.where)
    return SkyWcs(_sky_wcs_text(table["wcs"][0], table.where), approximation, f"{table.where}: SkyWcs")


@writes(SkyWcs, name="SkyWcs", module="lsst.afw.geom")
def _write_sky_wcs(record: ObjectRecord, obj: SkyWcs) -> None:
    if obj.approximation is None:
        record.table(_SKY_WCS_SCHEMA).add_row(wcs=_to_bytes(f"1 SkyWcs 0 {obj.text}"))
    else:
        record.table(_SKY_WCS_APPROX_SCHEMA).add_row(
            wcs=_to_bytes(f"1 SkyWcs 1 {obj.text}"), approx=_to_bytes(f"1 SkyWcs 0 {obj.approximation}")
        )


@dataclasses.dataclass(frozen=True)
class AfwTransform(_ParsedWhenNeeded):
    """A transform between two kinds of points, parsed when needed.

    Attributes
    ----------
    name : `str`
        Class in the stack, like ``TransformPoint2ToPoint2``.
    text : `str`
        AST dump of a mapping.
    where : `str`
        Origin, for messages.
    """

    name: str
    text: str
    where: str = "Transform"

    @classmethod
    def from_bytes(cls, values: Any, name: str, where: str) -> AfwTransform:
        """Interpret what the stack stores.

        Parameters
        ----------
        values
            Bytes, as an array of uint8.
        name
            Class that it must be.
        where
            Origin, for messages.

        Returns
        -------
        transform : `AfwTransform`
            The transform.

        Raises
        ------
        MalformedArchiveError
            If the bytes are no such transform.
        """
        tokens = _split_text(_to_text(values, where), 2, where)
        if tokens[1] != name:
            raise MalformedArchiveError(f"{where}: a {name} is announced as {tokens[1][:40]!r}")
        return cls(name, tokens[2], f"{where}: {name}")

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """Return what the stack stores, as an array of uint8."""
        text = self.text if self.text.startswith(" ") else f" {self.text}"
        return _to_bytes(f"1 {self.name}{text}")

    @cached_property
    def mapping(self) -> Any:
        """The mapping, wrapped as by lsst.images."""
        return parse_ast(self.text, self.where, None if self.name.endswith("Generic") else 2)

    def apply(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Transform points.

        Parameters
        ----------
        x, y
            Coordinates of the points, arrays of one shape.

        Returns
        -------
        values : `numpy.ndarray`
            Float64 array with the outputs of the mapping on its first axis;
            NaN where it isn't defined.
        """
        return apply_mapping(self.mapping, x, y)


@reads(*_TRANSFORM_NAMES)
def _read_transform(archive: ArchiveReader, tables: list[TableView], name: str) -> AfwTransform:
    table = archive.one_row(tables, name)
    return AfwTransform.from_bytes(table["bytes"][0], name, table.where)


def _write_transform(record: ObjectRecord, obj: AfwTransform) -> None:
    record.name = obj.name
    record.table(_BYTES_SCHEMA).add_row(bytes=obj.to_bytes())


writes(AfwTransform, name="TransformPoint2ToPoint2", module="lsst.afw.geom")(_write_transform)

type _System = tuple[str, str]
"""Name of a coordinate system, and of a detector or ``''``."""


class TransformMap:
    """Coordinate systems of a camera: a tree of transforms.

    Only transforms that are asked for are parsed; the map of a real camera
    has hundreds of them.

    Parameters
    ----------
    edges
        From-system, to-system and the (not yet called) loader of the
        transform between them.
    where
        Origin, for messages.

    Raises
    ------
    MalformedArchiveError
        If the edges don't form a tree.
    """

    def __init__(
        self,
        edges: Sequence[tuple[_System, _System, Callable[[], AfwTransform]]],
        where: str = "TransformMap",
    ) -> None:
        self.where = where
        self._edges = edges
        self._neighbours: dict[Hashable, dict[_System, tuple[Callable[[], AfwTransform], bool]]] = {}
        for start, end, loader in edges:
            if start == end or end in self._neighbours.get(start, ()):
                raise MalformedArchiveError(f"{where}: {start} and {end} are connected twice")
            self._neighbours.setdefault(start, {})[end] = (loader, True)
            self._neighbours.setdefault(end, {})[start] = (loader, False)
        if len(edges) + 1 != len(self._neighbours):
            raise MalformedArchiveError(
                f"{where}: {len(edges)} transforms don't connect the systems as a tree"
            )

    def __contains__(self, system: object) -> bool:
        return system in self._neighbours

    @property
    def edges(self) -> list[tuple[_System, _System, AfwTransform]]:
        """From-system, to-system and transform of all connections."""
        return [(start, end, loader()) for start, end, loader in self._edges]

    def mapping(self, start: _System, end: _System) -> Any:
        """Compose the mapping between two systems.

        Parameters
        ----------
        start, end
            Coordinate systems: names like ``("Pixels", "S00")`` or
            ``("FocalPlane", "")``.

        Returns
        -------
        mapping : `lsst.images._transforms._ast.Mapping`
            Mapping from ``start`` to ``end``.

        Raises
        ------
        MalformedArchiveError
            If the systems aren't connected.
        """
        steps: dict[Hashable, _System | None] = {start: None}
        pending: list[_System] = [start]
        while pending and end not in steps:
            here = pending.pop()
            for system in self._neighbours.get(here, {}):
                if system not in steps:
                    steps[system] = here
                    pending.append(system)
        if end not in steps or end not in self._neighbours or start == end:
            raise MalformedArchiveError(f"{self.where}: there is no transform from {start} to {end}")
        result = None
        here = end
        while (previous := steps[here]) is not None:
            loader, forward = self._neighbours[previous][here]
            step = loader().mapping if forward else loader().mapping.inverted()
            result = step if result is None else step.then(result)
            here = previous
        return result


@writes(TransformMap, name="TransformMap", module="lsst.afw.cameraGeom")
def _write_transform_map(record: ObjectRecord, obj: TransformMap) -> None:
    table = record.table(_TRANSFORM_MAP_SCHEMA)
    edges = obj.edges
    table.fill(
        len(edges),
        fromSysName=[start[0] for start, _, _ in edges],
        fromSysDetectorName=[start[1] for start, _, _ in edges],
        toSysName=[end[0] for _, end, _ in edges],
        toSysDetectorName=[end[1] for _, end, _ in edges],
        transform=[record.archive.put(transform) for _, _, transform in edges],
    )


class _StoredTransform:
    """Makes a transform when it is called; the same one each time.

    Parameters
    ----------
    archive, archive_id
        Where it is.
    where
        What refers to it, for messages.
    """

    def __init__(self, archive: ArchiveReader, archive_id: int, where: str) -> None:
        # Fetched now, because the file may be closed when they are needed.
        self._archive = archive
        self._name, self._tables = archive.name(archive_id), archive.tables(archive_id)
        if self._name not in _TRANSFORM_NAMES:
            raise MalformedArchiveError(
                f"{where}: archive id {archive_id} is a {self._name}, not a transform"
            )
        self._made: AfwTransform | None = None

    def __call__(self) -> AfwTransform:
        if self._made is None:
            self._made = _read_transform(self._archive, self._tables, self._name)
        return self._made


@reads("TransformMap")
def _read_transform_map(archive: ArchiveReader, tables: list[TableView], name: str) -> TransformMap:
    if len(tables) == 2:
        return _read_old_transform_map(archive, tables)
    if len(tables) != 1 or not len(tables[0]):
        raise MalformedArchiveError(f"{archive.where}: {name} must have one table with one row or more")
    table = tables[0]
    columns = [
        table[column].tolist()
        for column in ("fromSysName", "fromSysDetectorName", "toSysName", "toSysDetectorName", "transform")
    ]
    edges = [
        ((str(a), str(b)), (str(c), str(d)), _StoredTransform(archive, int(i), table.where))
        for a, b, c, d, i in zip(*columns, strict=True)
    ]
    return TransformMap(edges, f"{table.where}: {name}")


def _read_old_transform_map(archive: ArchiveReader, tables: list[TableView]) -> TransformMap:
    """Read the form with numbered systems (spec 02 §5.7)."""
    systems, connections = tables
    names = zip(systems["sysName"].tolist(), systems["detectorName"].tolist(), strict=True)
    by_id = {int(i): (str(a), str(b)) for i, (a, b) in zip(systems["id"], names, strict=True)}
    try:
        edges = [
            (by_id[int(a)], by_id[int(b)], _StoredTransform(archive, int(i), connections.where))
            for a, b, i in zip(connections["from"], connections["to"], connections["transform"], strict=True)
        ]
    except KeyError as error:
        raise MalformedArchiveError(f"{connections.where}: there is no coordinate system {error}") from None
    return TransformMap(edges, f"{connections.where}: TransformMap")
