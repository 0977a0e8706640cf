# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for ``lsst.geom``."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Extent2I:
    """A size."""

    x: int
    y: int


@dataclasses.dataclass(frozen=True, slots=True)
class Point2I:
    """A pixel."""

    x: int
    y: int

    def getX(self) -> int:
        return self.x

    def getY(self) -> int:
        return self.y


@dataclasses.dataclass(frozen=True, slots=True)
class Point2D:
    """A position."""

    x: float
    y: float


class Box2I:
    """A box of pixels."""

    __slots__ = ("_min", "_size")

    def __init__(self, minimum: Point2I, dimensions: Extent2I) -> None:
        assert isinstance(minimum, Point2I)
        assert isinstance(dimensions, Extent2I)
        self._min = minimum
        self._size = dimensions

    def getMin(self) -> Point2I:
        return self._min

    def getWidth(self) -> int:
        return self._size.x

    def getHeight(self) -> int:
        return self._size.y
