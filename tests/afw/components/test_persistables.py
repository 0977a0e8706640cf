# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from lsst.images import Box, ObservationSummaryStats, Polygon
from lsst.images.fields import ChebyshevField
from lsst.meas.finalize.afw import FitsFormatError, MalformedArchiveError, UnsupportedPersistableError
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.archive._registry import writes
from lsst.meas.finalize.afw.components._camera import DetectorRecord
from lsst.meas.finalize.afw.components._simple import FilterLabel, PhotoCalib
from lsst.meas.finalize.afw.components._transmission import TransmissionCurve
from lsst.meas.finalize.afw.components._visit_info import VisitInfo
from lsst.meas.finalize.afw.wcs._ast_text import dump_ast, parse_ast, transform_points
from lsst.meas.finalize.afw.wcs._persistables import AfwTransform, SkyWcs, TransformMap
from lsst.meas.finalize.catalogs import Field, Schema

_SHIFT = " Begin ShiftMap\n Nin = 2\n IsA Mapping\n Sft1 = {}\n Sft2 = {}\n End ShiftMap\n"


class _Raw:
    """An object given by tables of columns with a code and their rows."""

    def __init__(self, name: str, *tables: dict[str, tuple[str, list[Any]]]) -> None:
        self.name = name
        self.tables = tables


def _split_code(code: str) -> tuple[str, str, str, int]:
    """Split a code like ``ArrayD3`` for a `Field`."""
    kind = code.rstrip("0123456789")
    return kind, "", "", int(code.removeprefix(kind) or 0)


@writes(_Raw, name="", module="")
def _write_raw(record: Any, obj: _Raw) -> None:
    record.name = obj.name
    for columns in obj.tables:
        fields = [Field(name, *_split_code(code)) for name, (code, _) in columns.items()]
        values = {
            name: [record.archive.put(v) if isinstance(v, _Raw | AfwTransform) else v for v in rows]
            for name, (_, rows) in columns.items()
        }
        (n_rows,) = {len(rows) for rows in values.values()}
        record.table(Schema(tuple(fields))).fill(n_rows, **values)


def _persist(obj: Any) -> Any:
    """Write an object to a FITS file and read it back."""
    writer = ArchiveWriter()
    archive_id = writer.put(obj)
    data = fits.PrimaryHDU().header.tostring().encode() + b"".join(writer.hdus())
    with fits.open(io.BytesIO(data)) as hdulist:
        return ArchiveReader(hdulist, 1).get(archive_id)


def _component(tiny: Path, name: str) -> Any:
    (path,) = tiny.glob("export/**/calexp_*_S01_*.fits")
    with fits.open(path) as hdulist:
        return ArchiveReader(hdulist, 4).get(hdulist[0].header[f"ARCHIVE_ID_{name}"])


def _text_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def test_golden_components(tiny: Path) -> None:
    """Read the components of a calexp of the stack."""
    assert _component(tiny, "FILTER") == FilterLabel("r", "r_sim")
    calib = _component(tiny, "PHOTOCALIB")
    assert calib.field is None
    assert calib.mean > 0
    polygon = _component(tiny, "VALID_POLYGON")
    assert isinstance(polygon, Polygon)
    record = _component(tiny, "DETECTOR")
    assert isinstance(record, DetectorRecord)
    assert len(record.amplifiers) == 2


@pytest.mark.parametrize("name", ["SKYWCS", "FILTER", "VALID_POLYGON"])
def test_round_trips_of_golden_components(tiny: Path, name: str) -> None:
    """Write what was read."""
    original = _component(tiny, name)
    again = _persist(original)
    if isinstance(original, SkyWcs):
        assert again.text == original.text
        np.testing.assert_array_equal(again.pixel_to_sky(3.0, 4.0), original.pixel_to_sky(3.0, 4.0))
    else:
        assert again == original


def test_reference_pixel_of_detector(tiny: Path) -> None:
    """Map the reference pixel to the stored focal-plane position."""
    record = _component(tiny, "DETECTOR")
    orientation = record.attributes.orientation
    detector = record.to_detector("SynthCam", 3)
    point = detector.to_focal_plane.apply_forward(
        x=orientation.pixel_reference_x, y=orientation.pixel_reference_y
    )
    assert point.x == pytest.approx(orientation.focal_plane_x, abs=1e-12)
    assert point.y == pytest.approx(orientation.focal_plane_y, abs=1e-12)
    # 0.2 arcsec pixels of 0.01 mm: 20 arcsec per mm, no distortion at 0.
    assert detector.pixel_size == 0.01
    assert detector.visit == 3
    field = detector.to_field_angle.apply_forward(x=10.0, y=20.0)
    plane = detector.to_focal_plane.apply_forward(x=10.0, y=20.0)
    assert field.x * 206264.8 / plane.x == pytest.approx(20.0, rel=1e-2)


def test_archives_of_golden_images_are_reproduced(tiny: Path) -> None:
    """Write all components of an image to the bytes that the stack wrote."""
    names = ("VALID_POLYGON", "AP_CORR_MAP", "PHOTOCALIB", "FILTER", "DETECTOR", "PSF", "SKYWCS")
    for path in sorted(tiny.glob("export/**/calexp_*.fits")):
        data, writer = path.read_bytes(), ArchiveWriter()
        with fits.open(path) as hdulist:
            archive = ArchiveReader(hdulist, 4)
            for name in names:
                writer.put(archive.get(hdulist[0].header[f"{name}_ID"]))
            infos = [hdu.fileinfo() for hdu in hdulist[4:]]
        stacks = [data[i["hdrLoc"] : i["datLoc"] + i["datSpan"]] for i in infos]
        ours = writer.hdus()
        assert len(ours) == len(stacks)
        different = [b"PiffPsf" in a[:5760] for a, b in zip(stacks, ours, strict=True) if a != b]
        # The pickle of Piff doesn't come without its cache in the stack.
        assert different == [True]


def test_detectors_that_lsst_images_can_not_hold(tiny: Path) -> None:
    """Name a detector of a single column."""
    record = _component(tiny, "DETECTOR")
    attributes = record.attributes.model_copy(update={"bbox": Box.factory[0:10, 5:6]})
    record = dataclasses.replace(record, attributes=attributes, stored=None)
    with pytest.raises(MalformedArchiveError, match="detector 'S01': Interval must have positive size"):
        record.to_detector("SynthCam")
    with pytest.raises(UnsupportedPersistableError, match="DetectorRecord that wasn't read from a file"):
        ArchiveWriter().put(record)


def test_amplifier_boxes(tiny: Path) -> None:
    """Tile the detector with its amplifiers."""
    record = _component(tiny, "DETECTOR")
    covered = np.zeros((520, 560), dtype=int)
    for amplifier in record.amplifiers:
        covered[
            amplifier.bbox.y.start : amplifier.bbox.y.stop, amplifier.bbox.x.start : amplifier.bbox.x.stop
        ] += 1
    assert (covered == 1).all()
    assert record.amplifiers[0].nominal_calibrations.gain > 0


def test_sky_wcs_with_approximation(tiny: Path) -> None:
    """Keep the FITS approximation."""
    wcs = _component(tiny, "SKYWCS")
    both = _persist(SkyWcs(wcs.text, wcs.text))
    assert both.approximation == wcs.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 SkyWcs 0 Begin FrameSet", "unknown version '2'"),
        ("1 Wcs 0 Begin FrameSet", "announced as 'Wcs'"),
        ("1", "starts with '1'"),
        ("1 SkyWcs 0 " + _SHIFT.format(1, 2), "consist of a FrameSet"),
        (
            "1 SkyWcs 0 Begin FrameSet\n IsA Frame\n Nframe = 900000000\n End FrameSet\n",
            "Nframe of FrameSet is 900000000",
        ),
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
    raw = _Raw("SkyWcs", {"wcs": (f"ArrayB{len(text.encode())}", [_text_bytes(text)])})
    with pytest.raises(FitsFormatError, match=message):
        _ = _persist(raw).frame_set


def test_ast_points_are_nan_where_undefined() -> None:
    """Turn AST's bad value into NaN."""
    text = ' Begin WcsMap\n Nin = 2\n IsA Mapping\n Type = "TAN"\n WcsAx1 = 1\n WcsAx2 = 2\n End WcsMap\n'
    mapping = parse_ast(text, "test")
    # The projection is undefined on the far hemisphere.
    x, y = transform_points(mapping, [0.0, 0.0], [math.pi / 2, -1.0])
    assert np.isfinite(x[0])
    assert np.isnan(x[1])
    assert parse_ast(dump_ast(mapping), "again") == mapping


def _transform(dx: float, dy: float) -> AfwTransform:
    return AfwTransform("TransformPoint2ToPoint2", _SHIFT.format(dx, dy))


def _map_table(*edges: tuple[str, str, str, str, Any]) -> _Raw:
    names = ("fromSysName", "fromSysDetectorName", "toSysName", "toSysDetectorName", "transform")
    codes = ("String", "String", "String", "String", "I")
    columns = {n: (c, [edge[i] for edge in edges]) for i, (n, c) in enumerate(zip(names, codes, strict=True))}
    return _Raw("TransformMap", columns)


def test_transform_map() -> None:
    """Find the way through the tree, inverting where needed."""
    table = _map_table(
        ("FocalPlane", "", "FieldAngle", "", _transform(1, 0)),
        ("FocalPlane", "", "Pixels", "A", _transform(10, 20)),
        ("Pixels", "A", "ActualPixels", "A", _transform(0, 3)),
        ("FocalPlane", "", "Pixels", "B", _transform(100, 200)),
    )
    tree = _persist(table)
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
        ("FocalPlane", "", "Pixels", "A", _transform(10, 20)),
        (
            "FocalPlane",
            "",
            "Pixels",
            "B",
            AfwTransform("TransformPoint2ToPoint2", " Begin Garbage\n End Garbage\n"),
        ),
    )
    tree = _persist(table)
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
    connections = {"from": ("I", [1]), "to": ("I", [2]), "transform": ("I", [_transform(5, 6)])}
    tree = _persist(_Raw("TransformMap", systems, connections))
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
    shift = _transform(1, 1)
    with pytest.raises(MalformedArchiveError, match=message):
        _persist(_map_table(*((*edge[:4], shift) for edge in edges)))


def _calib(**changes: tuple[str, list[Any]]) -> _Raw:
    columns: dict[str, tuple[str, list[Any]]] = {
        "calibrationMean": ("D", [2.5]),
        "calibrationErr": ("D", [0.1]),
        "isConstant": ("Flag", [True]),
        "field": ("I", [0]),
        "version": ("I", [1]),
        **changes,
    }
    return _Raw("PhotoCalib", {name: column for name, column in columns.items() if column[1]})


def test_photo_calib() -> None:
    """Convert constant and varying calibrations."""
    box = Box.factory[0:10, 0:20]
    calib = _persist(_calib())
    assert (calib.mean, calib.error, calib.field) == (2.5, 0.1, None)
    field = calib.to_field(box, u.electron)
    assert field.unit == u.nJy / u.electron
    assert field(x=np.array([1.0]), y=np.array([2.0]))[0] == 2.5
    assert PhotoCalib(1.0).to_field(box, u.electron) is None
    # The field is the full calibration, not a factor of the mean.
    varying = PhotoCalib(2.5, 0.1, ChebyshevField(box, np.array([[2.5, 0.5]])))
    field = varying.to_field(box, u.adu)
    assert field is not None
    # T_1 at column 19.5, the outer edge, is 1.
    assert field(x=np.array([19.5]), y=np.array([0.0]))[0] == pytest.approx(3.0, abs=1e-14)
    assert field.unit == u.nJy / u.adu


@pytest.mark.parametrize("version", [[0], [2], []])
def test_other_photo_calibs_are_refused(version: list[int]) -> None:
    """Refuse calibrations in maggies, and future ones."""
    with pytest.raises(UnsupportedPersistableError, match="maggies"):
        _persist(_calib(version=("I", version)))
    with pytest.raises(MalformedArchiveError, match="without a field"):
        _persist(_calib(isConstant=("Flag", [False])))


def test_old_calib() -> None:
    """Convert the counts of magnitude 0."""
    calib = _persist(_Raw("Calib", {"fluxmag0": ("D", [1e12]), "fluxmag0.err": ("D", [1e9])}))
    assert calib.mean == pytest.approx(3.630780547701, rel=1e-12)
    assert calib.error == pytest.approx(3.630780547701e-3, rel=1e-12)


def test_filter_label() -> None:
    """Tell missing from empty names."""
    assert _persist(FilterLabel(None, "HSC-G")) == FilterLabel(None, "HSC-G")
    assert _persist(FilterLabel("g", None)) == FilterLabel("g", None)
    with pytest.raises(MalformedArchiveError, match="neither band nor physical"):
        _persist(FilterLabel(None, None))


def test_polygon() -> None:
    """Close and orient polygons when writing."""
    polygon = Polygon(x_vertices=[0, 10, 10, 0], y_vertices=[0, 0, 5, 5])
    writer = ArchiveWriter()
    writer.put(polygon)
    data = fits.PrimaryHDU().header.tostring().encode() + b"".join(writer.hdus())
    with fits.open(io.BytesIO(data)) as hdulist:
        x, y = hdulist[2].data["vertices_x"], hdulist[2].data["vertices_y"]
    assert (x[0], y[0]) == (x[-1], y[-1])
    # Clockwise: negative area.
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2 == -50.0
    assert _persist(polygon).area == 50.0
    for vertices in ([0.0, 1.0], [0.0, 1.0, 0.0], [0.0, math.nan, 1.0, 2.0]):
        raw = _Raw("Polygon", {"vertices_x": ("D", vertices), "vertices_y": ("D", vertices)})
        with pytest.raises(MalformedArchiveError, match="vertices"):
            _persist(raw)


def _stats(text: str) -> _Raw:
    return _Raw("ExposureSummaryStats", {"bytes": (f"ArrayB{len(text)}", [_text_bytes(text)])})


def test_summary_stats() -> None:
    """Read YAML with old, unknown and missing keys."""
    stats = _persist(
        _stats(
            "psfSigma: 1.5\ndecl: -3.0\nra: .nan\nraCorners: [1, 2, 3, 4.5]\n"
            "nPsfStar: 7\nnonsense: 3\nversion: 0\n"
        )
    )
    assert (stats.psfSigma, stats.dec, stats.nPsfStar) == (1.5, -3.0, 7)
    assert stats.raCorners == (1.0, 2.0, 3.0, 4.5)
    assert math.isnan(stats.ra)
    assert math.isnan(stats.zeroPoint)
    again = _persist(stats)
    assert isinstance(again, ObservationSummaryStats)
    assert (again.psfSigma, again.raCorners, again.nPsfStar) == (1.5, stats.raCorners, 7)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [x]\nb: [*a, *a]",
        "- 1",
        "a: [",
        "psfSigma: hello",
        "[" * 5000,
    ],
)
def test_hostile_summary_stats(text: str) -> None:
    """Refuse YAML that isn't a plain mapping of numbers."""
    with pytest.raises(MalformedArchiveError, match="plain YAML|parsed|no mapping|bad summary"):
        _persist(_stats(text))


def test_visit_info_round_trip() -> None:
    """Keep angles in degrees and time to the nanosecond."""
    cards = {
        "EXPTIME": 30.0,
        "DATE-AVG": "2026-03-04T05:06:07.123456789",
        "TIMESYS": "TAI",
        "BORE-RA": 52.3,
        "OBS-LAT": -30.2444,
        "OBS-LONG": -70.7366,
        "ROTTYPE": "SKY",
        "INSTRUMENT": "SynthCam",
        "IDNUM": 20260304011,
        "HAS-SIMULATED-CONTENT": True,
    }
    result = _persist(VisitInfo(cards)).cards
    assert result["DATE-AVG"] == cards["DATE-AVG"]
    for key, value in cards.items():
        assert result[key] == (pytest.approx(value, rel=1e-15) if isinstance(value, float) else value)
    # What isn't defined isn't there.
    assert "AIRTEMP" not in result
    assert "OBJECT" not in result


def test_visit_info_time_scale() -> None:
    """Count nanoseconds from 1970 in TAI (spec 02 §5.6)."""
    columns: dict[str, tuple[str, list[Any]]] = {
        "tai": ("L", [1_700_000_000_123_456_789]),
        "era": ("D", [1.0]),
        "version": ("I", [5]),
    }
    cards = _persist(_Raw("VisitInfo", columns)).cards
    expected = Time(40587 + 1_700_000_000 / 86400, format="mjd", scale="tai")
    assert abs((Time(cards["DATE-AVG"], scale="tai") - expected).sec - 0.123456789) < 1e-6
    assert cards["DATE-AVG"].endswith(".123456789")
    assert cards["AVG-ERA"] == pytest.approx(57.29577951308232, rel=1e-15)
    columns["version"] = ("I", [6])
    with pytest.raises(UnsupportedPersistableError, match="version 6"):
        _persist(_Raw("VisitInfo", columns))


def _curve(radii: list[float] | None = None) -> _Raw:
    n = 3 * (1 if radii is None else len(radii))
    columns: dict[str, tuple[str, list[Any]]] = {
        "throughputAtMin": ("D", [0.0]),
        "throughputAtMax": ("D", [0.5]),
        "throughput": (f"ArrayD{n}", [np.arange(n) / 10.0]),
        "wavelengths": ("ArrayD3", [np.array([4000.0, 5000.0, 6000.0])]),
    }
    if radii is None:
        return _Raw("SpatiallyConstantTransmissionCurve", columns)
    columns["radii"] = (f"ArrayD{len(radii)}", [np.array(radii)])
    return _Raw("RadialTransmissionCurve", columns)


def test_transmission_curves() -> None:
    """Evaluate every kind of curve."""
    wavelengths = np.array([3000.0, 4500.0, 6000.0, 7000.0])
    np.testing.assert_allclose(_persist(_curve()).evaluate(wavelengths), [0.0, 0.05, 0.2, 0.5])
    radial = _persist(_curve([0.0, 10.0]))
    # Half-way between 0, .1, .2 and .3, .4, .5; wavelength runs fastest.
    np.testing.assert_allclose(radial.evaluate(wavelengths, 3.0, 4.0), [0.0, 0.2, 0.35, 0.5])
    np.testing.assert_allclose(radial.evaluate(wavelengths, 300.0, 4.0), [0.0, 0.35, 0.5, 0.5])
    product = _Raw("ProductTransmissionCurve", {"a": ("I", [_curve()]), "b": ("I", [_curve()])})
    np.testing.assert_allclose(_persist(product).evaluate(wavelengths)[1], 0.0025)
    moved = _Raw(
        "TransformedTransmissionCurve",
        {"nested": ("I", [_curve([0.0, 10.0])]), "transform": ("I", [_transform(100, 0)])},
    )
    np.testing.assert_allclose(_persist(moved).evaluate(wavelengths, 103.0, 4.0), [0.0, 0.2, 0.35, 0.5])
    identity = _persist(_Raw("IdentityTransmissionCurve"))
    assert isinstance(identity, TransmissionCurve)
    np.testing.assert_array_equal(identity.evaluate(wavelengths), np.ones(4))
    for raw in (_curve(), _curve([0.0, 10.0]), product, moved, _Raw("IdentityTransmissionCurve")):
        curve = _persist(raw)
        again = _persist(curve)
        assert type(again) is type(curve)
        np.testing.assert_array_equal(
            again.evaluate(wavelengths, 103.0, 4.0), curve.evaluate(wavelengths, 103.0, 4.0)
        )


def _nested_products() -> _Raw:
    curve = _Raw("IdentityTransmissionCurve")
    for _ in range(10):
        curve = _Raw("ProductTransmissionCurve", {"a": ("I", [curve]), "b": ("I", [curve])})
    return curve


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _Raw("ProductTransmissionCurve", {"a": ("I", [0]), "b": ("I", [0])}),
            "isn't a transmission",
        ),
        (lambda: _curve([10.0, 0.0]), "isn't ascending"),
        (_nested_products, "ProductTransmissionCurve of 1024 curves"),
        (
            lambda: _Raw(
                "RadialTransmissionCurve", {**_curve().tables[0], "radii": ("ArrayD2", [np.arange(2.0)])}
            ),
            "3 values instead of 6",
        ),
    ],
)
def test_malformed_curves(make: Callable[[], _Raw], message: str) -> None:
    """Refuse curves that contradict themselves."""
    with pytest.raises(MalformedArchiveError, match=message):
        _persist(make())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Each of these makes AST itself crash or read beyond its arrays.
        ("MapA =", "Ma2A =", "unknown 'ma2a'"),
        ("Nin = 2", "Nin = -1", "Nin of .* is -1"),
        ("\n          Naxes = 2", "\n          Naxeg = 2", "unknown 'naxeg'"),
        ("          Naxes = 2\n", "", "Naxes of .*Frame is 'missing'"),
        ("PF3 = 3", "PF3 = 40", "more than announced"),
        ("NCF1 = 3", "NCF1 = 9", "CF4 of PolyMap"),
        ("Lnk3 = 2", "Lnk3 = 3", "isn't connected"),
        ("Currnt = 3", "Currnt = 9", "Currnt of FrameSet is 9"),
        ("Nframe = 3", "Nframe = 4", "without Frm4"),
        ('Type = "TAN"', 'Type = "TAN"\n Type = "SIN"', "has Type twice"),
    ],
)
def test_damaged_ast_text(tiny: Path, old: str, new: str, message: str) -> None:
    """Understand the text of a real WCS completely before AST reads it."""
    text = _component(tiny, "SKYWCS").text
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
