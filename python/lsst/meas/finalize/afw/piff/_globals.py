# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What a pickled Piff PSF may refer to, and how the stack's classes are
named in it.
"""

from __future__ import annotations

__all__ = ("RestrictedUnpickler", "dumps_with_stack_names", "is_stand_in")

import functools
import io
import pickle
import types
from typing import Any

import galsim
import numpy as np

from ..._piff import piff
from .._errors import ArchiveError, UnsupportedPersistableError
from ._wcs import (
    AstObjectMaker,
    CelestialWcsWrapper,
    StackGlobal,
    StackTransform,
    UVWcsWrapper,
    unpickle_transform,
)

_WRAPPERS = "lsst.meas.extensions.piff.wcs_wrapper"
_STACK_NAMES: dict[Any, tuple[str, str]] = {
    UVWcsWrapper: (_WRAPPERS, "UVWcsWrapper"),
    CelestialWcsWrapper: (_WRAPPERS, "CelestialWcsWrapper"),
    unpickle_transform: ("lsst.afw.geom._python._transform", "unpickleTransform"),
    AstObjectMaker: ("astshim", "ObjectMaker"),
}
_STATE_CLASSES: tuple[type, ...] = (
    piff.simplepsf.SimplePSF,
    piff.pixelgrid.PixelGrid,
    piff.basis_interp.BasisPolynomial,
    piff.outliers.ChisqOutliers,
    piff.star.Star,
    piff.star.StarData,
    piff.star.StarFit,
    galsim.interpolant.Lanczos,
    galsim.interpolant.Quintic,
    galsim.interpolant.Cubic,
    galsim.interpolant.Linear,
    galsim.interpolant.Nearest,
    galsim.gsparams.GSParams,
    galsim.position.PositionD,
    galsim.wcs.PixelScale,
    galsim.wcs.JacobianWCS,
    galsim.CelestialCoord,
    galsim.Angle,
    UVWcsWrapper,
    CelestialWcsWrapper,
)
"""Classes restored from their attributes only (spec 02 §7.2).  GalSim can't
draw a grid with its other interpolants, and crashes with one of them.
"""

_CACHE_CLASSES: tuple[type, ...] = (
    galsim.interpolatedimage.InterpolatedImage,
    galsim.image.Image,
    galsim.bounds.BoundsI,
)
"""Classes of caches and of stars' pixels, which are dropped: they allocate
what their state asks for when they are restored.
"""

_DTYPE_CODES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"))


class _Dropped:
    """Restored in place of what is dropped; forgets its state."""

    def __setstate__(self, state: object) -> None:
        pass


class _NdarrayMarker:
    """Names ``numpy.ndarray`` in a pickle; is never made."""

    def __new__(cls, *args: object) -> Any:
        raise ArchiveError("A pickled PSF constructs an array directly.")


def _make_bare(real: type) -> type:
    """Make a class whose instances are empty instances of another one."""

    def new(cls: type, *args: object, **kwargs: object) -> Any:
        if args or kwargs:
            raise ArchiveError(f"A pickled PSF constructs a {real.__name__} with arguments.")
        return object.__new__(real)

    return type(real.__name__, (), {"__new__": new})


def _make_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    """Return NumPy's shared type object, on which restoring of a state has
    no effect.
    """
    if not isinstance(code, str) or code not in _DTYPE_CODES:
        raise ArchiveError(f"A pickled PSF contains an array of type {str(code)[:20]!r}.")
    return np.dtype(code)


def _make_scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise ArchiveError("A pickled PSF contains a malformed number.")
    return np.frombuffer(data, dtype=dtype)[0]


def _reconstruct(marker: object, shape: object, code: object) -> np.ndarray:
    if marker is not _NdarrayMarker or shape != (0,) or code != b"b":
        raise ArchiveError("A pickled PSF contains a malformed array.")
    return np.ndarray((0,), np.int8)


def _frombuffer(data: object, dtype: np.dtype[Any], shape: object, order: str = "C", *rest: object) -> Any:
    if (
        not isinstance(data, bytes | bytearray)
        or not isinstance(dtype, np.dtype)
        or not isinstance(shape, tuple)
        or not all(type(n) is int for n in shape)
        or order not in ("C", "F")
    ):
        raise ArchiveError("A pickled PSF contains a malformed array.")
    return np.frombuffer(bytes(data), dtype=dtype).reshape(shape, order=order).copy(order=order)  # type: ignore[call-overload]


@functools.cache
def _allowed() -> dict[tuple[str, str], Any]:
    result: dict[tuple[str, str], Any] = {
        ("numpy", "dtype"): _make_dtype,
        ("numpy", "ndarray"): _NdarrayMarker,
        ("lsst.afw.geom._python._transform", "unpickleTransform"): unpickle_transform,
        ("astshim", "ObjectMaker"): AstObjectMaker,
    }
    for name in ("float64", "float32", "int64", "int32", "bool_"):
        result["numpy", name] = getattr(np, name)
    for package in ("numpy.core", "numpy._core"):
        result[f"{package}.multiarray", "scalar"] = _make_scalar
        result[f"{package}.multiarray", "_reconstruct"] = _reconstruct
        result[f"{package}.numeric", "_frombuffer"] = _frombuffer
    for cls in _STATE_CLASSES:
        result[_STACK_NAMES.get(cls, (cls.__module__, cls.__name__))] = _make_bare(cls)
    for cls in _CACHE_CLASSES:
        result[cls.__module__, cls.__name__] = _Dropped
    for name in ("SkyWcs", "TransformPoint2ToPoint2"):
        result["lsst.afw.geom", name] = StackGlobal("lsst.afw.geom", name)
    return result


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that knows the classes of a Piff PSF and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a listed class or function.

        Raises
        ------
        UnsupportedPersistableError
            If it isn't listed.
        """
        try:
            return _allowed()[module, name]
        except KeyError:
            raise UnsupportedPersistableError(
                f"Unsupported Piff model: it needs {module[:80]}.{name[:80]}, which isn't on the list of "
                "classes accepted from files."
            ) from None

    def persistent_load(self, pid: object) -> Any:
        raise ArchiveError("A pickled PSF refers to objects outside itself.")


def is_stand_in(wcs: object) -> bool:
    """Return whether a WCS must be named as a class of the stack.

    Parameters
    ----------
    wcs
        A GalSim WCS.

    Returns
    -------
    stand_in : `bool`
        Whether it is one of ours.
    """
    return isinstance(wcs, UVWcsWrapper | CelestialWcsWrapper | StackTransform)


# The C pickler insists on importing what it names, so it can't name classes
# of a stack that isn't installed.
_PythonPickler: Any = pickle._Pickler

_SAVED_AS = {
    type(None): "none",
    bool: "bool",
    int: "long",
    float: "float",
    bytes: "bytes",
    bytearray: "bytearray",
    str: "str",
    tuple: "tuple",
    list: "list",
    dict: "dict",
    set: "set",
    frozenset: "frozenset",
    type: "type",
    types.FunctionType: "global",
}


class _StackPickler(_PythonPickler):
    """Pickler that names our stand-ins as the stack's classes."""

    # The table of the standard library isn't used: importing dill, as Parsl
    # does, replaces its entries in place.
    dispatch = {kind: getattr(_PythonPickler, f"save_{name}") for kind, name in _SAVED_AS.items()}

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, StackGlobal):
            module, name = obj.module, obj.name
        elif isinstance(obj, type | types.FunctionType) and obj in _STACK_NAMES:
            module, name = _STACK_NAMES[obj]
        else:
            super().save_global(obj, name)
            return
        self.save(module)
        self.save(name)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    dispatch[StackGlobal] = save_global
    dispatch[types.FunctionType] = save_global


def dumps_with_stack_names(obj: object, protocol: int) -> bytes:
    """Pickle an object, naming our stand-ins as the stack's classes.

    Parameters
    ----------
    obj
        What to pickle.
    protocol
        Pickle protocol, at least 4.

    Returns
    -------
    data : `bytes`
        The pickle.
    """
    buffer = io.BytesIO()
    _StackPickler(buffer, protocol).dump(obj)
    return buffer.getvalue()
