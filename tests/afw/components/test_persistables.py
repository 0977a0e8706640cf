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
from lsst.meas.finalize.afw import MalformedArchiveError, UnsupportedPersistableError
from lsst.meas.finalize.afw.archive import ArchiveReader, ArchiveWriter
from lsst.meas.finalize.afw.components._camera import DetectorRecord
from lsst.meas.finalize.afw.components._simple import FilterLabel, PhotoCalib
from lsst.meas.finalize.afw.components._transmission import TransmissionCurve
from lsst.meas.finalize.afw.components._visit_info import VisitInfo
from lsst.meas.finalize.afw.wcs._persistables import SkyWcs

from ..conftest import RawObject, golden_component, persist, shift_transform, text_bytes


def test_golden_components(tiny: Path) -> None:
    """Read the components of a calexp of the stack."""
    assert golden_component(tiny, "FILTER") == FilterLabel("r", "r_sim")
    calib = golden_component(tiny, "PHOTOCALIB")
    assert calib.field is None
    assert calib.mean > 0
    polygon = golden_component(tiny, "VALID_POLYGON")
    assert isinstance(polygon, Polygon)
    record = golden_component(tiny, "DETECTOR")
    assert isinstance(record, DetectorRecord)
    assert len(record.amplifiers) == 2


@pytest.mark.parametrize("name", ["SKYWCS", "FILTER", "VALID_POLYGON"])
def test_round_trips_of_golden_components(tiny: Path, name: str) -> None:
    """Write what was read."""
    original = golden_component(tiny, name)
    again = persist(original)
    if isinstance(original, SkyWcs):
        assert again.text == original.text
        np.testing.assert_array_equal(again.pixel_to_sky(3.0, 4.0), original.pixel_to_sky(3.0, 4.0))
    else:
        assert again == original


def test_reference_pixel_of_detector(tiny: Path) -> None:
    """Map the reference pixel to the stored focal-plane position."""
    record = golden_component(tiny, "DETECTOR")
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
    record = golden_component(tiny, "DETECTOR")
    attributes = record.attributes.model_copy(update={"bbox": Box.factory[0:10, 5:6]})
    record = dataclasses.replace(record, attributes=attributes, stored=None)
    with pytest.raises(MalformedArchiveError, match="detector 'S01': Interval must have positive size"):
        record.to_detector("SynthCam")
    with pytest.raises(UnsupportedPersistableError, match="DetectorRecord that wasn't read from a file"):
        ArchiveWriter().put(record)


def test_amplifier_boxes(tiny: Path) -> None:
    """Tile the detector with its amplifiers."""
    record = golden_component(tiny, "DETECTOR")
    covered = np.zeros((520, 560), dtype=int)
    for amplifier in record.amplifiers:
        covered[
            amplifier.bbox.y.start : amplifier.bbox.y.stop, amplifier.bbox.x.start : amplifier.bbox.x.stop
        ] += 1
    assert (covered == 1).all()
    assert record.amplifiers[0].nominal_calibrations.gain > 0


def _calib(**changes: tuple[str, list[Any]]) -> RawObject:
    columns: dict[str, tuple[str, list[Any]]] = {
        "calibrationMean": ("D", [2.5]),
        "calibrationErr": ("D", [0.1]),
        "isConstant": ("Flag", [True]),
        "field": ("I", [0]),
        "version": ("I", [1]),
        **changes,
    }
    return RawObject("PhotoCalib", {name: column for name, column in columns.items() if column[1]})


def test_photo_calib() -> None:
    """Convert constant and varying calibrations."""
    box = Box.factory[0:10, 0:20]
    calib = persist(_calib())
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
        persist(_calib(version=("I", version)))
    with pytest.raises(MalformedArchiveError, match="without a field"):
        persist(_calib(isConstant=("Flag", [False])))


def test_old_calib() -> None:
    """Convert the counts of magnitude 0."""
    calib = persist(RawObject("Calib", {"fluxmag0": ("D", [1e12]), "fluxmag0.err": ("D", [1e9])}))
    assert calib.mean == pytest.approx(3.630780547701, rel=1e-12)
    assert calib.error == pytest.approx(3.630780547701e-3, rel=1e-12)


def test_filter_label() -> None:
    """Tell missing from empty names."""
    assert persist(FilterLabel(None, "HSC-G")) == FilterLabel(None, "HSC-G")
    assert persist(FilterLabel("g", None)) == FilterLabel("g", None)
    with pytest.raises(MalformedArchiveError, match="neither band nor physical"):
        persist(FilterLabel(None, None))


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
    assert persist(polygon).area == 50.0
    for vertices in ([0.0, 1.0], [0.0, 1.0, 0.0], [0.0, math.nan, 1.0, 2.0]):
        raw = RawObject("Polygon", {"vertices_x": ("D", vertices), "vertices_y": ("D", vertices)})
        with pytest.raises(MalformedArchiveError, match="vertices"):
            persist(raw)


def _stats(text: str) -> RawObject:
    return RawObject("ExposureSummaryStats", {"bytes": (f"ArrayB{len(text)}", [text_bytes(text)])})


def test_summary_stats() -> None:
    """Read YAML with old, unknown and missing keys."""
    stats = persist(
        _stats(
            "psfSigma: 1.5\ndecl: -3.0\nra: .nan\nraCorners: [1, 2, 3, 4.5]\n"
            "nPsfStar: 7\nnonsense: 3\nversion: 0\n"
        )
    )
    assert (stats.psfSigma, stats.dec, stats.nPsfStar) == (1.5, -3.0, 7)
    assert stats.raCorners == (1.0, 2.0, 3.0, 4.5)
    assert math.isnan(stats.ra)
    assert math.isnan(stats.zeroPoint)
    again = persist(stats)
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
        persist(_stats(text))


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
    result = persist(VisitInfo(cards)).cards
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
    cards = persist(RawObject("VisitInfo", columns)).cards
    expected = Time(40587 + 1_700_000_000 / 86400, format="mjd", scale="tai")
    assert abs((Time(cards["DATE-AVG"], scale="tai") - expected).sec - 0.123456789) < 1e-6
    assert cards["DATE-AVG"].endswith(".123456789")
    assert cards["AVG-ERA"] == pytest.approx(57.29577951308232, rel=1e-15)
    columns["version"] = ("I", [6])
    with pytest.raises(UnsupportedPersistableError, match="version 6"):
        persist(RawObject("VisitInfo", columns))


def _curve(radii: list[float] | None = None) -> RawObject:
    n = 3 * (1 if radii is None else len(radii))
    columns: dict[str, tuple[str, list[Any]]] = {
        "throughputAtMin": ("D", [0.0]),
        "throughputAtMax": ("D", [0.5]),
        "throughput": (f"ArrayD{n}", [np.arange(n) / 10.0]),
        "wavelengths": ("ArrayD3", [np.array([4000.0, 5000.0, 6000.0])]),
    }
    if radii is None:
        return RawObject("SpatiallyConstantTransmissionCurve", columns)
    columns["radii"] = (f"ArrayD{len(radii)}", [np.array(radii)])
    return RawObject("RadialTransmissionCurve", columns)


def test_transmission_curves() -> None:
    """Evaluate every kind of curve."""
    wavelengths = np.array([3000.0, 4500.0, 6000.0, 7000.0])
    np.testing.assert_allclose(persist(_curve()).evaluate(wavelengths), [0.0, 0.05, 0.2, 0.5])
    radial = persist(_curve([0.0, 10.0]))
    # Half-way between 0, .1, .2 and .3, .4, .5; wavelength runs fastest.
    np.testing.assert_allclose(radial.evaluate(wavelengths, 3.0, 4.0), [0.0, 0.2, 0.35, 0.5])
    np.testing.assert_allclose(radial.evaluate(wavelengths, 300.0, 4.0), [0.0, 0.35, 0.5, 0.5])
    product = RawObject("ProductTransmissionCurve", {"a": ("I", [_curve()]), "b": ("I", [_curve()])})
    np.testing.assert_allclose(persist(product).evaluate(wavelengths)[1], 0.0025)
    moved = RawObject(
        "TransformedTransmissionCurve",
        {"nested": ("I", [_curve([0.0, 10.0])]), "transform": ("I", [shift_transform(100, 0)])},
    )
    np.testing.assert_allclose(persist(moved).evaluate(wavelengths, 103.0, 4.0), [0.0, 0.2, 0.35, 0.5])
    identity = persist(RawObject("IdentityTransmissionCurve"))
    assert isinstance(identity, TransmissionCurve)
    np.testing.assert_array_equal(identity.evaluate(wavelengths), np.ones(4))
    for raw in (_curve(), _curve([0.0, 10.0]), product, moved, RawObject("IdentityTransmissionCurve")):
        curve = persist(raw)
        again = persist(curve)
        assert type(again) is type(curve)
        np.testing.assert_array_equal(
            again.evaluate(wavelengths, 103.0, 4.0), curve.evaluate(wavelengths, 103.0, 4.0)
        )


def _nested_products() -> RawObject:
    curve = RawObject("IdentityTransmissionCurve")
    for _ in range(10):
        curve = RawObject("ProductTransmissionCurve", {"a": ("I", [curve]), "b": ("I", [curve])})
    return curve


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RawObject("ProductTransmissionCurve", {"a": ("I", [0]), "b": ("I", [0])}),
            "isn't a transmission",
        ),
        (lambda: _curve([10.0, 0.0]), "isn't ascending"),
        (_nested_products, "ProductTransmissionCurve of 1024 curves"),
        (
            lambda: RawObject(
                "RadialTransmissionCurve", {**_curve().tables[0], "radii": ("ArrayD2", [np.arange(2.0)])}
            ),
            "3 values instead of 6",
        ),
    ],
)
def test_malformed_curves(make: Callable[[], RawObject], message: str) -> None:
    """Refuse curves that contradict themselves."""
    with pytest.raises(MalformedArchiveError, match=message):
        persist(make())
