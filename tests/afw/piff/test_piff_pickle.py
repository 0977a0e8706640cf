# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import pickletools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import piff
import pytest
import starlink.Ast
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.images import VisitImage
from lsst.images.psfs import PiffWrapper
from lsst.meas.finalize.afw import ArchiveError, UnsupportedPersistableError, read_exposure
from lsst.meas.finalize.afw.piff import _pickle
from lsst.meas.finalize.afw.piff._pickle import PiffPickleError, dumps_piff, loads_piff
from lsst.meas.finalize.afw.piff._wcs import (
    CelestialWcsWrapper,
    StackTransform,
    UVWcsWrapper,
    celestial_wrapper,
    sky_origin,
    uv_wrapper,
)

_VARIANTS = ("default", "color", "field", "lsstcam")


def _pickle_bytes(root: Path, variant: str, detector: int = 0) -> bytes:
    path = root / f"expected/{variant}/detector_{detector}/finalized_psf_ap_corr_detector_catalog.fits"
    with fits.open(path) as hdulist:
        return bytes(hdulist["PIFFPSF"].data["bytes"][0])


@pytest.fixture(scope="module")
def default_bytes(tiny: Path) -> bytes:
    """Pickle of a PSF in pixel coordinates, written by the stack."""
    return _pickle_bytes(tiny, "default")


@pytest.fixture(scope="module")
def field_bytes(tiny: Path) -> bytes:
    """Pickle of a PSF in field-angle coordinates, written by the stack."""
    return _pickle_bytes(tiny, "field")


@pytest.fixture(scope="module")
def exposure(tiny: Path) -> VisitImage:
    """Detector 0 of the small golden set."""
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    return read_exposure(path)


def _draw(psf: piff.SimplePSF, width: int, x: float, y: float, center: bool | None) -> np.ndarray:
    kwargs = {}
    if "colorValue" in psf.interp_property_names:
        used = [s for s in psf.stars if not s.is_flagged and not s.is_reserve]
        kwargs["colorValue"] = np.nanmean([s.data.properties["colorValue"] for s in used])
    array = psf.draw(x, y, stamp_size=width, center=center, **kwargs).array
    return array / array.sum()


def _globals(data: bytes) -> set[tuple[str, str]]:
    """Return the global names of a pickle by simulating its strings."""
    found: set[tuple[str, str]] = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add((module, name))
            return type(name, (), {"__new__": lambda cls, *a: _Anything(), "__call__": lambda self, *a: self})

    Recorder(io.BytesIO(data)).load()
    return found


class _Anything:
    def __call__(self, *args: object) -> _Anything:
        return self

    def __setstate__(self, state: object) -> None:
        pass


@pytest.mark.parametrize("variant", _VARIANTS)
@pytest.mark.parametrize("detector", [0, 1])
def test_images_agree_with_golden(tiny: Path, variant: str, detector: int) -> None:
    """Draw what the stack drew."""
    width, height, psf = loads_piff(_pickle_bytes(tiny, variant, detector))
    assert (width, height) == (25, 25)
    assert type(psf) is piff.SimplePSF
    with np.load(tiny / f"expected/{variant}/detector_{detector}/grid.npz") as grid:
        points, kernels, stars = (grid[key] for key in ("points", "kernel_images", "star_images"))
    # AST's numerical derivative, which is the local scale in field mode,
    # depends on its build in the last digits.
    tolerance = 1e-10 if variant == "field" else 1e-12
    # Piff draws one position at a time.
    for (x, y), kernel, star in zip(points[::4], kernels[::4], stars[::4], strict=True):
        np.testing.assert_allclose(_draw(psf, width, x, y, True), kernel, rtol=0, atol=tolerance)
        np.testing.assert_allclose(_draw(psf, width, x, y, None), star, rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", _VARIANTS)
def test_round_trip(tiny: Path, variant: str) -> None:
    """Write a PSF such that it is read back, by us and by the stack."""
    original = _pickle_bytes(tiny, variant)
    width, height, psf = loads_piff(original)
    data = dumps_piff(width, height, psf)
    assert data[:2] == b"\x80\x04"
    again_width, _, again = loads_piff(data)
    assert again_width == width
    np.testing.assert_array_equal(again.interp.q, psf.interp.q)
    np.testing.assert_array_equal(_draw(again, 25, 33.3, 44.4, None), _draw(psf, 25, 33.3, 44.4, None))
    assert [s.data.properties for s in again.stars][0]["starId"] == psf.stars[0].data.properties["starId"]
    names = _globals(data)
    # Nothing but what the stack's own pickle refers to, and no name of ours.
    assert names <= _globals(original)
    if variant == "field":
        assert ("lsst.meas.extensions.piff.wcs_wrapper", "UVWcsWrapper") in names
        assert ("lsst.afw.geom._python._transform", "unpickleTransform") in names
        assert ("lsst.afw.geom", "TransformPoint2ToPoint2") in names
        assert ("astshim", "ObjectMaker") in names


def test_pickles_are_the_same_beside_dill(field_bytes: bytes) -> None:
    """Write the stack's names though dill, as Parsl imports it, takes over
    the tables of the standard library's pickler.
    """
    pytest.importorskip("dill", reason="dill isn't installed")
    width = loads_piff(field_bytes)[0]
    code = (
        "import sys\n{imports}\n"
        "from lsst.meas.finalize.afw.piff._pickle import dumps_piff, loads_piff\n"
        "sys.stdout.buffer.write(dumps_piff(*loads_piff(sys.stdin.buffer.read())))"
    )
    for imports in ("import dill", "import lsst.meas.finalize.afw.piff._globals, dill"):
        program = [sys.executable, "-c", code.format(imports=imports)]
        result = subprocess.run(program, input=field_bytes, capture_output=True, check=True)
        assert _globals(result.stdout) <= _globals(field_bytes)
        assert loads_piff(result.stdout)[0] == width


def test_protocol_5(default_bytes: bytes) -> None:
    """Read arrays as Python 3.14 pickles them."""
    width, height, psf = loads_piff(default_bytes)
    data = pickle.dumps((float(width), float(height), psf), protocol=5)
    assert ("numpy._core.numeric", "_frombuffer") in _globals(data)
    np.testing.assert_array_equal(loads_piff(data)[2].interp.q, psf.interp.q)


def test_field_attributes_are_the_stacks(field_bytes: bytes, exposure: VisitImage) -> None:
    """Make a wrapper equal to the stack's, attribute by attribute."""
    _, _, psf = loads_piff(field_bytes)
    stacks, ours = psf.wcs[0], uv_wrapper(exposure)
    assert isinstance(stacks, UVWcsWrapper)
    assert list(ours.__dict__) == list(stacks.__dict__)
    x, y = np.array([0.0, 100.5, 559.0]), np.array([3.0, 519.0, 200.25])
    # Arcsec; the camera's transform is inverted iteratively to 1e-8 of
    # a radian's relative precision in either.
    np.testing.assert_allclose(ours.xyTouv(x, y), stacks.xyTouv(x, y), rtol=0, atol=1e-9)
    position = galsim.PositionD(100.5, 519.0)
    ours_local, stacks_local = ours.local(position), stacks.local(position)
    np.testing.assert_allclose(ours_local.getMatrix(), stacks_local.getMatrix(), rtol=0, atol=1e-10)


def test_uv_wrapper(exposure: VisitImage) -> None:
    """Be a proper GalSim WCS."""
    wcs = uv_wrapper(exposure)
    u, v = wcs.xyTouv(280.0, 260.0)
    assert isinstance(u, float)
    expected = exposure.detector.to_field_angle.apply_forward(x=280.0, y=260.0)
    assert u == pytest.approx(expected.x * 206264.80624709636, abs=1e-9)
    assert v == pytest.approx(expected.y * 206264.80624709636, abs=1e-9)
    x, y = wcs.uvToxy(u, v)
    # The inverse of the camera's polynomial is iterative.
    assert (x, y) == (pytest.approx(280.0, abs=1e-5), pytest.approx(260.0, abs=1e-5))
    local = wcs.local(galsim.PositionD(280.0, 260.0)).getMatrix()
    step = np.array(wcs.xyTouv(281.0, 260.0)) - np.array(wcs.xyTouv(279.0, 260.0))
    # Arcsec per pixel: 1e-10 is the error of numerical differentiation.
    np.testing.assert_allclose(local[:, 0], step / 2, rtol=0, atol=1e-10)
    shifted = wcs.shiftOrigin(galsim.PositionD(10.0, 20.0), galsim.PositionD(1.0, 2.0))
    np.testing.assert_allclose(shifted.xyTouv(10.0, 20.0), (1.0, 2.0), atol=1e-9)
    assert wcs == uv_wrapper(exposure)
    assert wcs != shifted
    assert wcs.copy() == wcs
    exposure = copy.copy(exposure)
    exposure._detector = None
    with pytest.raises(ValueError, match="no detector"):
        uv_wrapper(exposure)


def test_celestial_wrapper(exposure: VisitImage) -> None:
    """Be a proper GalSim WCS."""
    wcs = celestial_wrapper(exposure)
    sky = exposure.sky_projection.pixel_to_sky(x=280.0, y=260.0)
    position = wcs.toWorld(galsim.PositionD(280.0, 260.0))
    assert position.ra / galsim.degrees == pytest.approx(sky.ra.deg, abs=1e-12)
    assert position.dec / galsim.degrees == pytest.approx(sky.dec.deg, abs=1e-12)
    back = wcs.toImage(position)
    assert (back.x, back.y) == (pytest.approx(280.0, abs=1e-7), pytest.approx(260.0, abs=1e-7))
    ra, dec = wcs.xyToradec(np.array([280.0, 0.0]), np.array([260.0, 0.0]), units="degrees")
    assert ra[0] == pytest.approx(sky.ra.deg, abs=1e-12)
    shifted = wcs.shiftOrigin(galsim.PositionD(10.0, 20.0))
    assert shifted.toWorld(galsim.PositionD(290.0, 280.0)).dec.rad == pytest.approx(
        position.dec.rad, abs=1e-14
    )
    origin = sky_origin(exposure)
    x, y = wcs.radecToxy(origin.ra.rad, origin.dec.rad, units="radians")
    # The tangent point of the camera: the boresight.
    assert origin.ra / galsim.degrees == pytest.approx(52.3, abs=1e-10)
    assert origin.dec / galsim.degrees == pytest.approx(-27.9, abs=1e-10)
    assert np.hypot(x - 280, y - 260) > 300


def test_sky_mode_round_trip(default_bytes: bytes, exposure: VisitImage) -> None:
    """Name the stack's classes for a PSF in sky coordinates."""
    width, height, psf = loads_piff(default_bytes)
    psf.wcs = {0: celestial_wrapper(exposure)}
    psf.pointing = sky_origin(exposure)
    names = _globals(data := dumps_piff(width, height, psf))
    assert ("lsst.meas.extensions.piff.wcs_wrapper", "CelestialWcsWrapper") in names
    assert ("lsst.afw.geom", "SkyWcs") in names
    assert not any(module.startswith("lsst.meas.finalize") for module, _ in names)
    again = loads_piff(data)[2]
    assert isinstance(again.wcs[0], CelestialWcsWrapper)
    assert again.wcs[0] == psf.wcs[0]
    assert again.pointing == psf.pointing
    np.testing.assert_array_equal(_draw(again, 25, 33.3, 44.4, None), _draw(psf, 25, 33.3, 44.4, None))


def test_writing_leaves_the_psf_alone(default_bytes: bytes) -> None:
    """Strip stars of pixels and fit results on a copy."""
    width, height, psf = loads_piff(default_bytes)
    image = galsim.Image(np.ones((5, 5)), scale=0.2)
    psf.stars[0].data.image = image
    psf.stars[0].data.weight = image
    psf.stars[0].fit.A = np.ones((3, 3))
    before = set(psf.stars[0].data.__dict__)
    again = loads_piff(dumps_piff(width, height, psf))[2]
    assert psf.stars[0].data.image is image
    assert set(psf.stars[0].data.__dict__) == before
    removed = {"image", "weight", "orig_weight", "params", "params_var", "A", "b"}
    assert not removed & (set(again.stars[0].data.__dict__) | set(again.stars[0].fit.__dict__))
    assert again.stars[0].data.image_pos == psf.stars[0].data.image_pos


def test_old_piff_is_updated(default_bytes: bytes) -> None:
    """Add attributes that versions before 1.6 don't have."""
    width, height, psf = loads_piff(default_bytes)
    reference = _draw(psf, 25, 33.3, 44.4, None)
    for obj, names in (
        (psf, ("_num", "pointing")),
        (psf.model, ("_num", "_fit_flux", "_maxk", "_stepk", "_init")),
        (psf.interp, ("_num", "solver")),
    ):
        for name in names:
            obj.__dict__.pop(name, None)
    psf.outliers = psf.outliers[0]
    old = loads_piff(dumps_piff(width, height, psf))[2]
    assert (old._num, old.model._num, old.interp._num, old.model._fit_flux) == (None,) * 4
    # Unit flux and free _maxk are how 1.3 drew.
    np.testing.assert_allclose(_draw(old, 25, 33.3, 44.4, None), reference, rtol=0, atol=1e-15)


def test_wrong_objects_are_not_written() -> None:
    """Refuse to write anything but a SimplePSF."""
    with pytest.raises(UnsupportedPersistableError, match="Can't persist a dict"):
        dumps_piff(25, 25, {})  # type: ignore[arg-type]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/meas_finalize_was_here",)


def _tampered(data: bytes, change: Callable[[Any], None]) -> bytes:
    width, height, psf = loads_piff(data)
    change(psf)
    return pickle.dumps((float(width), float(height), psf), protocol=4)


def test_code_is_not_run() -> None:
    """Refuse functions that aren't on the list."""
    with pytest.raises(UnsupportedPersistableError, match="posix.system"):
        loads_piff(pickle.dumps(_Evil(), protocol=4))
    for name in (os.getcwd, eval, galsim.wcs.UVFunction, np.load):
        with pytest.raises(UnsupportedPersistableError, match="isn't on the list"):
            loads_piff(pickle.dumps((25.0, 25.0, name), protocol=4))


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(psf: Any) -> None:
        obj = psf
        *parents, last = path.split(".")
        for parent in parents:
            obj = obj[int(parent)] if parent.isdigit() else getattr(obj, parent)
        if isinstance(obj, dict):
            obj[last] = value
        else:
            obj.__dict__[last] = value

    return change


_CODE = "__import__('os').system('touch /tmp/meas_finalize_was_here')"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.kwargs.interp", _CODE, "not evaluated"),
        (
            "model.kwargs.interp",
            "galsim.Lanczos(11, True, gsparams=galsim.GSParams(1)) or " + _CODE,
            "not evaluated",
        ),
        ("model.kwargs.init", _CODE, "not evaluated"),
        ("interp.kwargs.solver", _CODE, "not evaluated"),
        ("kwargs.x", "{" + _CODE, "not evaluated"),
        ("kwargs.x", {"a": [_CODE]}, "not evaluated"),
        ("model.size", 10**9, "is 1000000000"),
        ("model.size", 24, r"coefficients of shape \(576, 3\)"),
        ("model.scale", float("nan"), "scale"),
        ("model.scale", "0.2", "isn't a number"),
        ("model.interp._n", 10**8, "is 100000000"),
        ("model.interp", 3, "interpolated by a int"),
        # GalSim would compute for ever.
        ("model.interp._gsparams", galsim.GSParams(kvalue_accuracy=0.0), "'_kvalue_accuracy' .* is 0.0"),
        ("interp.q", np.zeros((625, 4)), "coefficients of shape"),
        ("interp.q", [1.0], "coefficients of shape"),
        ("interp._keys", ["x", "__class__.y"], "malformed keys"),
        ("interp._orders", [1, 10**9], "malformed orders"),
        ("interp._mask", np.ones((2, 3), dtype=bool), "malformed mask"),
        ("draw", 3, "replaces its method 'draw'"),
        ("model.getProfile", 3, "replaces its method 'getProfile'"),
        ("stars", 3, "malformed stars"),
        ("stars.0.data", 3, "among its stars"),
        ("stars.0.fit", None, "wasn't fitted"),
        ("wcs", {}, "no valid coordinate system"),
        ("wcs", {0: galsim.JacobianWCS(1, 0, 0, 1)}, "Unsupported Piff coordinate system"),
        ("outliers", [galsim.PositionD(0, 0)], "Unsupported Piff outliers"),
        ("interp", galsim.PositionD(0, 0), "Unsupported Piff PSF"),
        ("pointing", galsim.PositionD(0, 0), "points to a PositionD"),
    ],
)
def test_tampered_attributes(default_bytes: bytes, path: str, value: Any, message: str) -> None:
    """Check types, sizes and strings before anything uses them."""
    with pytest.raises(ArchiveError, match=message):
        loads_piff(_tampered(default_bytes, _set(path, value)))


def test_interpolant_string_is_made_anew(default_bytes: bytes) -> None:
    """Never pass on the stored string, even a harmless one."""
    other = "galsim.Quintic(gsparams=galsim.GSParams(128,8192,0.005,5.0))"
    psf = loads_piff(_tampered(default_bytes, _set("model.kwargs.interp", other)))[2]
    assert psf.model.kwargs["interp"] == repr(psf.model.interp)


@pytest.mark.parametrize("size", [0, -1, 25.5, float("nan"), 10**6, True, "25"])
def test_stamp_sizes(default_bytes: bytes, size: Any) -> None:
    """Accept positive whole numbers of reasonable size only."""
    psf = loads_piff(default_bytes)[2]
    with pytest.raises(PiffPickleError, match="Size of a Piff PSF"):
        loads_piff(pickle.dumps((size, size, psf), protocol=4))


def _opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "protocol 4 or 5"),
        (b"\x80\x03N.", "protocol 4 or 5"),
        (b"\x80\x04", "truncated"),
        (_opcodes(b"N"), "holds a NoneType, not a triple"),
        # LONG_BINPUT with a huge index makes the unpickler allocate 16 GB.
        (_opcodes(b"Nr\xff\xff\xff\x7f"), "0x72"),
        # GLOBAL, EXT1, BINPERSID, INST
        (_opcodes(b"cos\nsystem\n"), "0x63"),
        (_opcodes(b"\x82\x01"), "0x82"),
        (_opcodes(b"NQ"), "0x51"),
        (_opcodes(b"(ios\nsystem\n"), "0x69"),
        # Hashing a deep tuple overflows the stack of the interpreter.
        (_opcodes(b"})", b"\x85" * 1_000_000, b"Ns"), "more than 20 deep"),
        (_opcodes(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"), "truncated"),
        (_opcodes(b"h\x05"), "object 5 of 0"),
        (_opcodes(b"t"), "mark that it hasn't set"),
        (_opcodes(b"N(\x85"), "more from its stack"),
        (_opcodes(b"]" * 100_000), "holds a list"),
    ],
)
def test_hostile_opcodes(data: bytes, message: str) -> None:
    """Refuse pickles that exhaust memory or stack, without trying."""
    with pytest.raises(ArchiveError, match=message):
        loads_piff(data)


def _string(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _class(module: str, name: str) -> bytes:
    return _string(module) + _string(name) + b"\x93"


@pytest.mark.parametrize(
    "data",
    [
        _opcodes(
            _class("lsst.afw.geom", "TransformPoint2ToPoint2"), b"}", _string("name"), _string("x"), b"sb"
        ),
        _opcodes(
            _class("piff.simplepsf", "SimplePSF"),
            b"N}",
            _string("__new__"),
            _class("numpy", "float64"),
            b"s\x86b",
        ),
        # The same through the memo.
        _opcodes(
            _class("astshim", "ObjectMaker"), b"\x94N}", _string("__call__"), b"Ns\x86bh\x00", b"N\x86b"
        ),
    ],
)
def test_classes_can_not_be_changed(data: bytes, default_bytes: bytes, field_bytes: bytes) -> None:
    """Refuse to set attributes of what all unpicklers share."""
    with pytest.raises(ArchiveError, match="changes a class or function"):
        loads_piff(data)
    for real in (default_bytes, field_bytes):
        loads_piff(real)


def test_many_stars(default_bytes: bytes) -> None:
    """Read a PSF of thousands of stars."""
    width, height, psf = loads_piff(default_bytes)
    psf.stars = [copy.deepcopy(star) for star in psf.stars for _ in range(100)]
    assert len(loads_piff(dumps_piff(width, height, psf))[2].stars) == len(psf.stars) > 4000


def test_other_byte_order(default_bytes: bytes) -> None:
    """Refuse arrays that would be misread."""

    def change(psf: Any) -> None:
        psf.interp.q = psf.interp.q.astype(">f8")

    with pytest.raises(ArchiveError, match="big-endian"):
        loads_piff(_tampered(default_bytes, change))


@pytest.mark.parametrize("name", ["SincInterpolant", "Delta"])
def test_interpolants_that_galsim_can_not_draw(default_bytes: bytes, name: str) -> None:
    """Refuse them: one of them crashes the interpreter."""

    def change(psf: Any) -> None:
        psf.model.interp = getattr(galsim, name)()

    with pytest.raises(UnsupportedPersistableError, match=name):
        loads_piff(_tampered(default_bytes, change))


def test_same_bytes_are_checked_once(default_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check bytes again only if they differ, or for another file, and make
    a PSF of its own each time.
    """
    checked: list[bytes] = []
    original = _pickle.check_opcodes
    monkeypatch.setattr(_pickle, "check_opcodes", lambda data: (checked.append(data), original(data)))
    accepted: set[bytes] = set()
    first, again = (loads_piff(default_bytes, accepted)[2] for _ in range(2))
    assert checked == [default_bytes]
    assert again is not first
    assert again.interp.q is not first.interp.q
    assert again.__dict__.keys() == first.__dict__.keys()
    images = [psf.draw(x=20.0, y=30.0, stamp_size=9).array for psf in (first, again)]
    np.testing.assert_array_equal(*images)
    for other in (_tampered(default_bytes, _set("chisq", b"")), default_bytes[:-1] + b"0"):
        with contextlib.suppress(ArchiveError):
            loads_piff(other, accepted)
        assert checked[-1] == other
    # What was refused once isn't accepted.
    bad = _tampered(default_bytes, _set("stars", 3))
    for _ in range(2):
        with pytest.raises(ArchiveError, match="malformed stars"):
            loads_piff(bad, accepted)
    n_checked = len(checked)
    loads_piff(default_bytes, set())
    assert len(checked) == n_checked + 1


def test_caches_are_not_restored(default_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop images that the fit or debugging left, whatever their size."""
    cache = galsim.InterpolatedImage(galsim.Image(np.ones((1, 1)), scale=1.0))
    box = galsim.BoundsI(0, 400_000, 0, 400_000)
    state = {**cache.__getstate__(), "_xim_bounds": box, "_image_bounds": box}
    monkeypatch.setattr(galsim.InterpolatedImage, "__getstate__", lambda self: state)

    def change(psf: Any) -> None:
        psf.model.__dict__["_basis_profile"] = cache
        psf.stars[0].data.__dict__["image"] = galsim.Image(5, 5)

    _, _, psf = loads_piff(_tampered(default_bytes, change))
    assert not hasattr(psf.model, "_basis_profile")
    assert not hasattr(psf.stars[0].data, "image")

    with pytest.raises(ArchiveError, match="contains a _Dropped"):
        loads_piff(_tampered(default_bytes, _set("chisq", cache)))


def test_missing_attributes(default_bytes: bytes) -> None:
    """Find what drawing needs when the PSF is read."""

    def change(psf: Any) -> None:
        del psf.wcs[0].__dict__["_color"]

    with pytest.raises(PiffPickleError, match="_color"):
        loads_piff(_tampered(default_bytes, change))


def test_self_containing_psf(default_bytes: bytes) -> None:
    """Cope with objects that contain themselves."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ArchiveError, match="malformed stars|among its stars"):
        loads_piff(_tampered(default_bytes, _set("stars", loop)))
    # A harmless attribute isn't a reason to refuse, nor to hang.
    loads_piff(_tampered(default_bytes, _set("niter", loop)))


def test_hostile_transform(field_bytes: bytes) -> None:
    """Check the text of a coordinate transform before AST reads it."""
    for old, new in (
        (b"Begin WinMap", b"Begin IntMap"),
        (b"1 TransformPoint2ToPoint2", b"2 TransformPoint2ToPoint2"),
    ):
        data = field_bytes.replace(old, new)
        assert data != field_bytes
        with pytest.raises(ArchiveError, match="class 'IntMap' isn't supported|starts with '2 Transform"):
            loads_piff(data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_damage(default_bytes: bytes, data: st.DataObject) -> None:
    """Raise nothing but the documented exceptions for damaged pickles."""
    position = data.draw(st.integers(0, len(default_bytes) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=4))
    damaged = default_bytes[:position] + patch + default_bytes[position + len(patch) :]
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    with contextlib.suppress(ArchiveError):
        loads_piff(damaged)


def test_no_dangerous_opcodes_in_real_pickles(default_bytes: bytes) -> None:
    """Confirm that real pickles use opcodes of the allowed set only."""
    names = {opcode.name for opcode, _, _ in pickletools.genops(default_bytes)}
    assert not names & {"GLOBAL", "INST", "OBJ", "PERSID", "BINPERSID", "EXT1", "BINPUT", "LONG_BINPUT"}


@pytest.mark.parametrize("version", ["1.1.0", "1.2.5", "1.3.3", "1.4.1", "1.6.0", "1.7.0"])
def test_piff_versions(
    version: str, tiny: Path, exposure: VisitImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draw as the version of Piff that made the pickle, and write it again."""
    with np.load(tiny.with_name("piff_versions") / f"piff_{version}.npz") as file:
        data, image, kernel = file["data"].tobytes(), file["image"], file["kernel"]
    # Three generations, and what lsst.images stores.
    for _ in range(3):
        width, height, psf = loads_piff(data)
        assert (width, height) == (15, 15)
        np.testing.assert_allclose(_draw(psf, 15, 100.3, 150.6, None), image, rtol=0, atol=1e-15)
        np.testing.assert_allclose(_draw(psf, 15, 100.3, 150.6, True), kernel, rtol=0, atol=1e-15)
        data = dumps_piff(width, height, psf)
    native = copy.copy(exposure)
    native._psf = PiffWrapper(psf, bounds=exposure.bbox, stamp_size=15)
    native.write(tmp_path / "native.fits")
    found = VisitImage.read(tmp_path / "native.fits").psf
    drawn = found.compute_stellar_image(x=100.3, y=150.6).array
    np.testing.assert_allclose(drawn / drawn.sum(), image, rtol=0, atol=1e-14)


def _pole_frame_set() -> str:
    """Return the text of a tangential projection centred on the pole."""
    header = {
        "NAXIS": 2,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": 101.0,
        "CRPIX2": 201.0,
        "CRVAL1": 30.0,
        "CRVAL2": 90.0,
        "CD1_1": -5e-5,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 5e-5,
        "RADESYS": "ICRS",
    }
    chan = starlink.Ast.FitsChan()
    for card in fits.Header(list(header.items())).cards:
        chan.putfits(str(card), 1)
    chan.clear("Card")
    frame_set = chan.read()
    # Parent pixels are counted from 0.
    shift = starlink.Ast.ShiftMap([1.0, 1.0])
    shifted = starlink.Ast.FrameSet(starlink.Ast.Frame(2, "Domain=PIXELS"))
    base = frame_set.Base
    shifted.addframe(1, shift, frame_set.getframe(base))
    shifted.addframe(2, frame_set.getmapping(base, frame_set.Current), frame_set.getframe(frame_set.Current))
    lines: list[str] = []

    class Sink:
        def astsink(self, line: str) -> None:
            lines.append(line)

    starlink.Ast.Channel(None, Sink()).write(shifted)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("dx", "dy"), [(0.0, 0.0), (0.4, -0.3), (1e-7, 0.0), (-1.0, 0.0), (3.0, 2.0), (50, 0)]
)
def test_celestial_wrapper_at_the_pole(dx: float, dy: float, default_bytes: bytes) -> None:
    """Find scale and handedness at and about a celestial pole."""
    wcs = CelestialWcsWrapper(StackTransform("SkyWcs", f"1 SkyWcs 0 {_pole_frame_set()}"))
    local = wcs.local(galsim.PositionD(100 + dx, 200 + dy))
    matrix = local.getMatrix()
    np.testing.assert_allclose(matrix @ matrix.T, 0.18**2 * np.eye(2), rtol=0, atol=1e-7)
    # u points to the west: as seen on the sky a plain image has no parity.
    assert np.linalg.det(matrix) > 0
    psf = loads_piff(default_bytes)[2]
    psf.wcs, psf.pointing = {0: wcs}, galsim.CelestialCoord(30 * galsim.degrees, 90 * galsim.degrees)
    psf.model.scale = 0.18
    image = psf.draw(100 + dx, 200 + dy, stamp_size=25).array
    assert np.isfinite(image).all()
    assert image.max() > 0.5 * _draw(loads_piff(default_bytes)[2], 25, 100.0, 200.0, None).max()


@pytest.mark.parametrize("both", [False, True])
def test_earlier_sky_mode_pickles(default_bytes: bytes, exposure: VisitImage, both: bool) -> None:
    """Read PSFs whose wrapper has the attribute that this package made."""
    width, height, psf = loads_piff(default_bytes)
    wcs = celestial_wrapper(exposure)
    wcs.__dict__["_wcs"] = wcs._pix_to_sky
    if not both:
        del wcs._pix_to_sky
    psf.wcs = {0: wcs}
    psf.pointing = sky_origin(exposure)
    again = loads_piff(dumps_piff(width, height, psf))[2]
    assert again.wcs[0] == celestial_wrapper(exposure)
    assert "_wcs" not in again.wcs[0].__dict__
    wcs.__dict__["_pix_to_sky"] = 3
    with pytest.raises(ArchiveError, match="no transform"):
        loads_piff(dumps_piff(width, height, psf))
