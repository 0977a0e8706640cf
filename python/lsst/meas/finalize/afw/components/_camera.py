# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Persistence of Detectors (spec 02 §5.7)."""

from __future__ import annotations

__all__ = ("DetectorRecord",)

import dataclasses
from typing import Any, NoReturn

import astropy.units as u
import numpy as np

from lsst.images import Box
from lsst.images._transforms import _ast
from lsst.images.cameras import (
    Amplifier,
    AmplifierCalibrations,
    AmplifierRawGeometry,
    CameraFrameSet,
    Detector,
    DetectorAttributes,
    DetectorType,
    Orientation,
    ReadoutCorner,
)

from .._errors import ComponentError, MalformedArchiveError, UnsupportedPersistableError
from ..archive import ArchiveReader, StoredTables, reads, write_stored, writes
from ..fits import TableView
from ..wcs import TransformMap

_TYPES = (DetectorType.SCIENCE, DetectorType.FOCUS, DetectorType.GUIDER, DetectorType.WAVEFRONT)
_CORNERS = (ReadoutCorner.LL, ReadoutCorner.LR, ReadoutCorner.UR, ReadoutCorner.UL)
_MAX_VERSION = 2


_UNDEFINED = (
    "Begin PermMap\n Nin = 2\n Nout = 2\n IsA Mapping\n"
    " Out1 = 0\n Out2 = 0\n In1 = 0\n In2 = 0\nEnd PermMap\n"
)
"""A mapping whose results are undefined (NaN)."""


class _FocalPlaneOnly(CameraFrameSet):
    """Coordinate systems of a camera without field angles."""

    def field_angle(self, visit: int | None = None) -> NoReturn:
        """Raise an exception.

        Parameters
        ----------
        visit
            Unused.
        """
        raise ComponentError(f"the camera of {self.instrument!r} has no field angles in this file")


@dataclasses.dataclass(frozen=True)
class DetectorRecord:
    """A detector as persisted by the stack.

    Attributes
    ----------
    attributes : `lsst.images.cameras.DetectorAttributes`
        Name, id, geometry and so on.
    amplifiers : `tuple` [`lsst.images.cameras.Amplifier`]
        Its amplifiers, with the geometry of an assembled raw.
    transform_map : `TransformMap`
        Coordinate systems of the whole camera.
    stored : `StoredTables` | `None`
        Its tables, which have more than the other attributes.
    """

    attributes: DetectorAttributes
    amplifiers: tuple[Amplifier, ...]
    transform_map: TransformMap
    stored: StoredTables | None = dataclasses.field(default=None, repr=False, compare=False)

    def to_frames(self, instrument: str) -> CameraFrameSet:
        """Make the coordinate systems of this detector.

        Parameters
        ----------
        instrument
            Short name of the instrument.

        Returns
        -------
        frames : `lsst.images.cameras.CameraFrameSet`
            Focal plane (mm), field angle (rad) and the detector's pixels.
        """
        name, box = self.attributes.name, self.attributes.bbox
        focal_plane = ("FocalPlane", "")
        frame = _ast.Frame(2, "Ident=FOCAL_PLANE,Domain=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm")
        result = _ast.FrameSet(frame)
        base = result.base
        field_angle = ("FieldAngle", "")
        has_angles = field_angle in self.transform_map
        result.addFrame(
            base,
            self.transform_map.mapping(focal_plane, field_angle)
            if has_angles
            else _ast.Mapping.fromString(_UNDEFINED),
            _ast.Frame(2, "Ident=FIELD_ANGLE,Domain=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad"),
        )
        ident = f"DETECTOR_{self.attributes.id:03d}"
        result.addFrame(
            base,
            self.transform_map.mapping(focal_plane, ("Pixels", name)),
            _ast.Frame(
                2,
                f"Ident={ident},Domain={ident},Unit(1)=pix,Unit(2)=pix,Bottom(1)={box.x.min},"
                f"Top(1)={box.x.max},Bottom(2)={box.y.min},Top(2)={box.y.max}",
            ),
        )
        cls = CameraFrameSet if has_angles else _FocalPlaneOnly
        return cls(instrument, result)

    def to_detector(self, instrument: str, visit: int | None = None) -> Detector:
        """Convert to lsst.images.

        Parameters
        ----------
        instrument
            Short name of the instrument.
        visit
            Visit the detector is from.

        Returns
        -------
        detector : `lsst.images.cameras.Detector`
            The detector.
        """
        try:
            return Detector(self.attributes, self.amplifiers, self.to_frames(instrument), visit=visit)
        except (IndexError, ValueError) as error:
            # A detector of a single column, for example.
            raise MalformedArchiveError(f"detector {self.attributes.name!r}: {error}") from error


def _box(table: TableView, row: int, prefix: str) -> Box | None:
    """Read a box given by corner and size; None if it is empty."""
    x0, y0, width, height = (
        int(table[f"{prefix}_{suffix}"][row]) for suffix in ("min_x", "min_y", "extent_x", "extent_y")
    )
    if width <= 0 or height <= 0:
        return None
    return Box.factory[y0 : y0 + height, x0 : x0 + width]


def _read_raw_geometry(table: TableView, row: int, corner: ReadoutCorner) -> AmplifierRawGeometry | None:
    """Read the geometry in raw images; None if there is none."""
    boxes = [
        _box(table, row, f"raw_{name}")
        for name in ("bbox", "databbox", "horizontaloverscanbbox", "verticaloverscanbbox")
    ]
    bbox, data, serial, parallel = boxes
    # lsst.images has no empty boxes, and needs these four.
    if bbox is None or data is None or serial is None or parallel is None:
        return None
    return AmplifierRawGeometry(
        bbox=bbox,
        data_bbox=data,
        flip_x=bool(table["raw_flip_x"][row]),
        flip_y=bool(table["raw_flip_y"][row]),
        x_offset=int(table["raw_xyoffset_x"][row]),
        y_offset=int(table["raw_xyoffset_y"][row]),
        serial_overscan_bbox=serial,
        parallel_overscan_bbox=parallel,
        prescan_bbox=_box(table, row, "raw_prescanbbox"),
        readout_corner=corner,
    )


def _read_amplifier(table: TableView, row: int) -> Amplifier:
    bbox = _box(table, row, "bbox")
    if bbox is None:
        raise MalformedArchiveError(f"{table.where}: amplifier {table['name'][row]!r} has an empty box")
    corner_index = int(table["readoutcorner"][row])
    if not 0 <= corner_index < len(_CORNERS):
        raise MalformedArchiveError(f"{table.where}: unknown readout corner {corner_index}")
    corner = _CORNERS[corner_index]
    flip_x, flip_y = bool(table["raw_flip_x"][row]), bool(table["raw_flip_y"][row])
    calibrations = AmplifierCalibrations(
        gain=float(table["gain"][row]),
        read_noise=float(table["readnoise"][row]),
        saturation=float(table["saturation"][row]),
        suspect_level=float(table["suspectlevel"][row]),
        linearity_coefficients=np.array(table["linearity_coeffs"][row], dtype=np.float64),
        linearity_type=str(table["linearity_type"][row]),
    )
    return Amplifier(
        name=str(table["name"][row]),
        bbox=bbox,
        readout_corner=corner.apply_flips(y=flip_y, x=flip_x),
        assembled_raw_geometry=_read_raw_geometry(table, row, corner),
        unassembled_raw_geometry=None,
        nominal_calibrations=calibrations,
    )


def _read_attributes(table: TableView) -> DetectorAttributes:
    def value(name: str) -> Any:
        return table[name][0]

    x0, y0, x1, y1 = (int(value(f"bbox_{suffix}")) for suffix in ("min_x", "min_y", "max_x", "max_y"))
    if x1 < x0 or y1 < y0:
        raise MalformedArchiveError(f"{table.where}: detector {value('name')!r} has an empty box")
    type_index = int(value("type"))
    if not 0 <= type_index < len(_TYPES):
        raise MalformedArchiveError(f"{table.where}: unknown detector type {type_index}")
    return DetectorAttributes(
        name=str(value("name")),
        id=int(value("id")),
        type=_TYPES[type_index],
        serial=str(value("serial")),
        bbox=Box.factory[y0 : y1 + 1, x0 : x1 + 1],
        orientation=Orientation(
            focal_plane_x=float(value("fpPosition_x")),
            focal_plane_y=float(value("fpPosition_y")),
            focal_plane_z=float(value("fpPosition_z")) if "fpPosition_z" in table else 0.0,
            pixel_reference_x=float(value("refPoint_x")),
            pixel_reference_y=float(value("refPoint_y")),
            yaw=float(value("yaw")) * u.rad,
            pitch=float(value("pitch")) * u.rad,
            roll=float(value("roll")) * u.rad,
        ),
        pixel_size=float(value("pixelSize_x")),
        physical_type=str(value("physicalType")) if "physicalType" in table else "",
    )


@reads("Detector")
def _read_detector(archive: ArchiveReader, tables: list[TableView], name: str) -> DetectorRecord:
    table = archive.one_row(tables, name, n_tables=2)
    version = int(table["version"][0]) if "version" in table else 0
    if version > _MAX_VERSION:
        raise UnsupportedPersistableError(
            f"{table.where}: version {version} of {name} is newer than the supported {_MAX_VERSION}"
        )
    transform_map = archive.get(int(table["transformMap"][0]))
    if not isinstance(transform_map, TransformMap):
        raise MalformedArchiveError(f"{table.where}: {name} has no TransformMap")
    # One object per amplifier in lsst.images.
    amplifiers = tuple(_read_amplifier(tables[1], row) for row in range(len(tables[1])))
    stored = StoredTables.keep(archive, tables, name, transformMap=[transform_map])
    return DetectorRecord(_read_attributes(table), amplifiers, transform_map, stored)


writes(DetectorRecord, name="Detector", module="lsst.afw.cameraGeom")(write_stored)
