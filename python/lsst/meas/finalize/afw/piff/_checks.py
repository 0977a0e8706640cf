# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Checks of an unpickled Piff PSF, and its update to the installed Piff."""

from __future__ import annotations

__all__ = ("check_psf",)

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

import galsim
import numpy as np

from ..._piff import piff
from .._errors import ArchiveError, UnsupportedPersistableError
from ._globals import _STATE_CLASSES
from ._versions import update_psf
from ._wcs import AstMapping, CelestialWcsWrapper, StackTransform, UVWcsWrapper

_INTERPOLANT = re.compile(
    r"galsim\.(Lanczos\(\d+, (True|False), |(Quintic|Cubic|Linear|Nearest)\()"
    r"gsparams=galsim\.GSParams\([0-9eE.,+\- ]*\)\)"
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_GRID = 1000
_MAX_LANCZOS = 100
_KVALUE_ACCURACY = (1e-8, 1e-2)
_KEYS = frozenset((str, int, tuple))
_PLAIN = frozenset((bool, int, float, str, type(None), bytes, np.float64, np.float32, np.int64, np.bool_))
_SCALARS = bool | int | float | str | None | np.generic | bytes
_TEXT = frozenset((str,))
_KINDS = (np.float64, np.float32, np.int64, np.int32, np.bool_)
_CLASSES = frozenset(_STATE_CLASSES) - {galsim.GSParams} | {StackTransform, AstMapping}


def check_psf(psf: Any, is_new: bool = True) -> None:
    """Check a PSF restored from a pickle and bring it up to date.

    Parameters
    ----------
    psf
        Any object an acceptable pickle can hold; modified in place.
    is_new
        Whether what the same pickle holds has not been checked before.

    Raises
    ------
    UnsupportedPersistableError
        If it isn't a polynomial of pixel grids.
    ArchiveError
        If attributes are missing, or of wrong type or size.
    """
    if type(psf) is not piff.SimplePSF:
        raise UnsupportedPersistableError(f"Unsupported Piff PSF of class {type(psf).__name__}.")
    model, interp = psf.__dict__.get("model"), psf.__dict__.get("interp")
    if type(model) is not piff.pixelgrid.PixelGrid or type(interp) is not piff.basis_interp.BasisPolynomial:
        raise UnsupportedPersistableError(
            f"Unsupported Piff PSF of a {type(model).__name__} and a {type(interp).__name__}."
        )
    _drop_caches(psf, model)
    psf.__dict__.setdefault("stars", [])
    if is_new:
        _check_graph(psf)
    _check_model(model)
    _check_interp(interp, model.size)
    _check_outliers(psf)
    _check_frames(psf)
    _check_kwargs("SimplePSF", psf.kwargs)
    if is_new:
        _check_stars(psf)
    update_psf(psf)
    if is_new:
        _check_drawing(psf)


def _drop_caches(psf: Any, model: Any) -> None:
    """Drop what the fit left, which can be large and is made anew when
    needed, and stars' pixels, which only debugging keeps.
    """
    for name in ("_basis_profile", "_basis_shifts"):
        model.__dict__.pop(name, None)
    stars = psf.__dict__.get("stars")
    for star in stars if isinstance(stars, list) else ():
        data = getattr(star, "__dict__", {}).get("data")
        for name in ("image", "weight", "orig_weight"):
            getattr(data, "__dict__", {}).pop(name, None)


def _check_drawing(psf: Any) -> None:
    """Draw once: what lacks an attribute fails here rather than anywhere."""
    position = psf.stars[0].image_pos if psf.stars else galsim.PositionD(0.0, 0.0)
    properties = {"colorValue": 0.0} if "colorValue" in psf.interp_property_names else {}
    with np.errstate(all="ignore"):
        psf.draw(x=position.x, y=position.y, stamp_size=1, center=True, **properties)


def _check_graph(root: Any) -> None:
    """Accept plain data and listed classes only, without attributes that
    hide methods.

    Stars have tens of thousands of attributes: all objects that are equally
    far from the root are looked at together, class by class.
    """
    seen: set[int] = set()
    fresh: dict[int, Any] = {id(root): root}
    while fresh:
        seen.update(fresh)
        by_class: dict[type, list[Any]] = defaultdict(list)
        for obj in fresh.values():
            by_class[type(obj)].append(obj)
        values = chain.from_iterable(_contents(cls, objs) for cls, objs in by_class.items())
        fresh = {id(value): value for value in values if type(value) not in _PLAIN}
        for known in seen.intersection(fresh):
            del fresh[known]


def _contents(cls: type, objs: list[Any]) -> Iterable[Any]:
    """Check objects of one class, and return what they hold."""
    if cls is dict:
        if not _KEYS.issuperset(map(type, chain.from_iterable(objs))):
            raise ArchiveError("A pickled PSF has a dictionary with unusual keys.")
        return chain.from_iterable(map(dict.values, objs))
    if cls in (list, tuple):
        return chain.from_iterable(objs)
    if cls in _CLASSES:
        attributes = [obj.__dict__ for obj in objs]
        for names in set(map(tuple, attributes)):
            hidden = [name for name in names if callable(getattr(cls, name, None))]
            if hidden:
                raise ArchiveError(f"A pickled {cls.__name__} replaces its method {hidden[0]!r}.")
        return chain.from_iterable(map(dict.values, attributes))
    for obj in objs:
        if cls is np.ndarray:
            if obj.dtype.kind not in "biuf":
                raise ArchiveError(f"A pickled PSF has an array of type {obj.dtype}.")
        # Parameters are restored by their own constructor, which checks types.
        elif not isinstance(obj, _SCALARS | galsim.GSParams) and not any(obj is kind for kind in _KINDS):
            raise ArchiveError(f"A pickled PSF contains a {cls.__name__}.")
    return ()


def _number(obj: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    value = obj.__dict__.get(name)
    if type(value) is float and low <= value <= high:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ArchiveError(f"Attribute {name!r} of a pickled {type(obj).__name__} isn't a number.")
    if not low <= value <= high:
        raise ArchiveError(f"Attribute {name!r} of a pickled {type(obj).__name__} is {value}.")
    return float(value)


def _check_model(model: Any) -> None:
    """Check the pixel grid; its interpolant string is made anew, because
    Piff evaluates it.
    """
    size = _number(model, "size", 1, _MAX_GRID)
    if size != int(size):
        raise ArchiveError(f"Pickled PixelGrid has a size of {size}.")
    _number(model, "scale", 1e-10, 1e10)
    interpolant = model.__dict__.get("interp")
    if not isinstance(interpolant, galsim.interpolant.Interpolant):
        raise ArchiveError(f"Pickled PixelGrid is interpolated by a {type(interpolant).__name__}.")
    if isinstance(interpolant, galsim.interpolant.Lanczos):
        _number(interpolant, "_n", 1, _MAX_LANCZOS)
    if not isinstance(interpolant.__dict__.get("_gsparams"), galsim.GSParams):
        raise ArchiveError("Pickled interpolant has no valid parameters.")
    # GalSim tabulates a kernel as finely as this asks for.
    _number(interpolant._gsparams, "_kvalue_accuracy", *_KVALUE_ACCURACY)
    text = repr(interpolant)
    if not _INTERPOLANT.fullmatch(text):
        raise ArchiveError(f"Pickled interpolant is {text[:100]!r}.")
    kwargs = model.__dict__.get("kwargs")
    if not isinstance(kwargs, dict) or not isinstance(kwargs.get("interp", text), str):
        raise ArchiveError("Pickled PixelGrid has malformed options.")
    stored = kwargs.get("interp", text)
    if not _INTERPOLANT.fullmatch(stored):
        raise ArchiveError(f"Interpolant of a pickled PSF is given as {stored[:100]!r}; not evaluated.")
    kwargs["interp"] = text
    _check_kwargs("PixelGrid", {key: value for key, value in kwargs.items() if key != "interp"})


def _check_interp(interp: Any, size: int) -> None:
    """Check the polynomial: number of terms, shape of the coefficients."""
    values = interp.__dict__
    keys, orders, mask, q = (values.get(name) for name in ("_keys", "_orders", "_mask", "q"))
    if not (isinstance(keys, list | tuple) and all(_is_identifier(key) for key in keys)):
        raise ArchiveError("Pickled polynomial has malformed keys.")
    if not (
        isinstance(orders, list | tuple)
        and len(orders) == len(keys)
        and all(isinstance(n, int | np.integer) and 0 <= n <= 100 for n in orders)
    ):
        raise ArchiveError("Pickled polynomial has malformed orders.")
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != tuple(n + 1 for n in orders):
        raise ArchiveError("Pickled polynomial has a malformed mask of terms.")
    shape = (int(size) ** 2, int(np.count_nonzero(mask)))
    if not isinstance(q, np.ndarray) or q.dtype.kind != "f" or q.shape != shape:
        raise ArchiveError(f"Pickled polynomial needs coefficients of shape {shape}.")
    _check_kwargs("BasisPolynomial", values.get("kwargs"))


def _check_outliers(psf: Any) -> None:
    outliers = psf.__dict__.get("outliers")
    for outlier in outliers if isinstance(outliers, list | tuple) else [outliers]:
        if outlier is None:
            continue
        if type(outlier) is not piff.outliers.ChisqOutliers:
            raise UnsupportedPersistableError(f"Unsupported Piff outliers: {type(outlier).__name__}.")
        _check_kwargs("ChisqOutliers", outlier.__dict__.get("kwargs", {}))


def _check_frames(psf: Any) -> None:
    """Check coordinate systems and pointing."""
    frames = psf.__dict__.get("wcs")
    if not isinstance(frames, dict) or not frames or not all(type(key) is int for key in frames):
        raise ArchiveError("Pickled PSF has no valid coordinate system.")
    for wcs in frames.values():
        if isinstance(wcs, galsim.PixelScale):
            _number(wcs, "_scale", 1e-10, 1e10)
        elif isinstance(wcs, UVWcsWrapper):
            if not isinstance(wcs.__dict__.get("_pix_to_field"), StackTransform):
                raise ArchiveError("Pickled UVWcsWrapper has no transform.")
            _check_transform(wcs._pix_to_field)
        elif isinstance(wcs, CelestialWcsWrapper):
            _find_sky_wcs(wcs)
        else:
            raise UnsupportedPersistableError(f"Unsupported Piff coordinate system: {type(wcs).__name__}.")
        if not isinstance(wcs, galsim.PixelScale):
            for name in ("_origin", "_world_origin"):
                position = wcs.__dict__.get(name)
                if name in wcs.__dict__ and not isinstance(position, galsim.PositionD):
                    raise ArchiveError(f"Pickled {type(wcs).__name__} has a malformed {name}.")
    pointing = psf.__dict__.setdefault("pointing", None)
    if pointing is not None and not isinstance(pointing, galsim.CelestialCoord):
        raise ArchiveError(f"Pickled PSF points to a {type(pointing).__name__}.")


def _find_sky_wcs(wcs: Any) -> None:
    """Check the transform of a restored wrapper, which this package called
    ``_wcs``, and wrote under both names.
    """
    old = wcs.__dict__.pop("_wcs", None)
    found = wcs.__dict__.get("_pix_to_sky", old)
    if not isinstance(found, StackTransform) or found.class_name != "SkyWcs":
        raise ArchiveError("Pickled CelestialWcsWrapper has no transform.")
    if old is not None and old != found:
        raise ArchiveError("Pickled CelestialWcsWrapper has two transforms.")
    rest = {name: value for name, value in wcs.__dict__.items() if name != "_pix_to_sky"}
    wcs.__dict__.clear()
    wcs.__dict__.update(_pix_to_sky=found, **rest)
    _check_transform(found)


def _check_transform(transform: StackTransform) -> None:
    """Parse the text of a transform, which checks it."""
    if transform.mapping is None:
        raise ArchiveError(f"Pickled {transform.class_name} is empty.")


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _check_kwargs(name: str, kwargs: Any) -> None:
    """Accept numbers, names and small collections of them as options: Piff
    writes and evaluates them.
    """
    pending = [kwargs]
    if not isinstance(kwargs, dict) or len(kwargs) > 100:
        raise ArchiveError(f"Pickled {name} has malformed options.")
    n_seen = 0
    while pending:
        value = pending.pop()
        n_seen += 1
        if isinstance(value, dict) and n_seen < 1000:
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list | tuple) and n_seen < 1000:
            pending.extend(value)
        elif isinstance(value, str):
            if not _is_identifier(value):
                raise ArchiveError(f"Option of a pickled {name} is {value[:100]!r}; not evaluated.")
        elif value is not None and not isinstance(value, bool | int | float | np.number | np.bool_):
            raise ArchiveError(f"Option of a pickled {name} is a {type(value).__name__}.")


def _check_stars(psf: Any) -> None:
    """Check what average position and colour are computed from."""
    stars = psf.stars
    if not isinstance(stars, list):
        raise ArchiveError("Pickled PSF has malformed stars.")
    # Stars are objects in Piff.
    for star in stars:
        if type(star) is not piff.Star or type(data := star.__dict__.get("data")) is not piff.star.StarData:
            raise ArchiveError(f"Pickled PSF has a {type(star).__name__} among its stars.")
        if type(star.__dict__.get("fit")) is not piff.star.StarFit:
            raise ArchiveError("Pickled PSF has a star that wasn't fitted.")
        attributes = data.__dict__
        position, properties = attributes.get("image_pos"), attributes.get("properties")
        if not isinstance(position, galsim.PositionD) or not isinstance(properties, dict):
            raise ArchiveError("Pickled PSF has a star without position or properties.")
        _number(position, "x")
        _number(position, "y")
        if _TEXT.issuperset(map(type, properties)) and _PLAIN.issuperset(map(type, properties.values())):
            continue
        for key, value in properties.items():
            if type(key) is not str or not isinstance(value, _SCALARS):
                raise ArchiveError(f"Property {str(key)[:40]!r} of a pickled star is no number or text.")
