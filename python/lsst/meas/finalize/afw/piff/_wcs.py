# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""GalSim WCS classes standing in for those the stack pickles into Piff
PSFs that were fitted in field-angle or sky coordinates.
"""

from __future__ import annotations

__all__ = (
    "AstMapping",
    "AstObjectMaker",
    "CelestialWcsWrapper",
    "StackGlobal",
    "StackTransform",
    "UVWcsWrapper",
    "celestial_wrapper",
    "sky_origin",
    "unpickle_transform",
    "uv_wrapper",
)

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import galsim
import numpy as np

from .._errors import FitsFormatError
from ..wcs import Derivative, dump_ast, parse_ast, sky_reference, transform_points

if TYPE_CHECKING:
    from lsst.images import VisitImage

_ARCSEC = 206264.80624709636
"""Arcseconds in a radian, upstream's constant (spec 02 §7.2)."""

_NEAR_POLE = 1e-3
"""Distance from a celestial pole in radians where GalSim's local WCS, made of
differences of right ascension, isn't good to 1e-6 any more.
"""

_TRANSFORM_CLASSES = ("SkyWcs", "TransformPoint2ToPoint2")


class StackGlobal:
    """A class of the stack that is only named in a pickle.

    Parameters
    ----------
    module, name
        Where the stack finds it.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class _AstText:
    """Base class of what is pickled as AST text."""

    text: str

    @property
    def _ast_text(self) -> str:
        return self.text

    @cached_property
    def mapping(self) -> Any:
        """The parsed mapping, wrapped as by lsst.images."""
        return parse_ast(self._ast_text, f"{type(self).__name__} in a Piff PSF")

    @cached_property
    def derivative(self) -> Derivative:
        """Derivatives of the mapping."""
        return Derivative(self.mapping)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("mapping", "derivative")}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.text == self.text

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.text))


class StackTransform(_AstText):
    """Stand-in for a ``lsst.afw.geom`` SkyWcs or TransformPoint2ToPoint2.

    Parameters
    ----------
    class_name
        ``SkyWcs`` or ``TransformPoint2ToPoint2``.
    text
        Serialised form, spec 02 §5.1 and §5.2.

    Raises
    ------
    FitsFormatError
        If the class or the text is of another kind.
    """

    def __init__(self, class_name: str, text: str) -> None:
        if class_name not in _TRANSFORM_CLASSES or not isinstance(text, str):
            raise FitsFormatError(f"Can't restore {class_name!r} from a pickled transform.")
        n_tokens = 3 if class_name == "SkyWcs" else 2
        tokens = text.split(" ", n_tokens)
        if len(tokens) != n_tokens + 1 or tokens[:2] != ["1", class_name]:
            raise FitsFormatError(f"Text of a pickled {class_name} starts with {text[:40]!r}.")
        self.class_name = class_name
        self.text = text

    @property
    def _ast_text(self) -> str:
        return self.text.split(" ", 3 if self.class_name == "SkyWcs" else 2)[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle_transform, (StackGlobal("lsst.afw.geom", self.class_name), self.text)


def unpickle_transform(cls: StackGlobal, text: str) -> StackTransform:
    """Restore a pickled transform; stands in for the stack's function.

    Parameters
    ----------
    cls
        The stack's class.
    text
        Its serialised form.

    Returns
    -------
    transform : `StackTransform`
        The stand-in.
    """
    if not isinstance(cls, StackGlobal):
        raise FitsFormatError(f"A pickled transform names a {type(cls).__name__} as its class.")
    return StackTransform(cls.name, text)


class AstMapping(_AstText):
    """Stand-in for an astshim mapping.

    Parameters
    ----------
    text
        AST native text.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise FitsFormatError(f"A pickled AST mapping consists of a {type(text).__name__}.")
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return AstObjectMaker(), (self.text,)


class AstObjectMaker:
    """Stand-in for ``astshim.ObjectMaker``, which unpickles AST objects."""

    def __call__(self, text: str) -> AstMapping:
        return AstMapping(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return AstObjectMaker, ()


class UVWcsWrapper(galsim.wcs.EuclideanWCS):
    """Pixel to field angle as a GalSim WCS, u and v in arcsec.

    u, v = mapping(x - x₀, y - y₀) · 206264.80624709636 + (u₀, v₀)
    (spec 02 §7.2).

    Parameters
    ----------
    pix_to_field
        Pixel to field angle in radians.
    origin, world_origin : `galsim.PositionD`, optional
        Image and world origin, default (0, 0).
    """

    def __init__(self, pix_to_field: StackTransform, origin: Any = None, world_origin: Any = None) -> None:
        # The attributes, and their order, are those of the stack's class:
        # the stack unpickles straight into its own.
        self._pix_to_field = pix_to_field
        self._origin = galsim.PositionD(0.0, 0.0) if origin is None else origin
        self._world_origin = galsim.PositionD(0.0, 0.0) if world_origin is None else world_origin
        self._mapping = AstMapping(pix_to_field._ast_text)
        self._color = None

    @property
    def origin(self) -> Any:
        """Image position that maps like (0, 0) of the transform."""
        return self._origin

    @property
    def world_origin(self) -> Any:
        """Added to all world positions."""
        return self._world_origin

    def _uv(self, x: Any, y: Any) -> tuple[Any, Any]:
        u, v = transform_points(self._pix_to_field.mapping, x, y)
        u, v = u * _ARCSEC, v * _ARCSEC
        return (float(u), float(v)) if np.ndim(u) == 0 else (u, v)

    def _u(self, x: Any, y: Any, color: Any = None) -> Any:
        return self._uv(x, y)[0]

    def _v(self, x: Any, y: Any, color: Any = None) -> Any:
        return self._uv(x, y)[1]

    def _xyTouv(self, x: Any, y: Any, color: Any = None) -> tuple[Any, Any]:
        # One evaluation for both coordinates instead of GalSim's two.
        u, v = self._uv(x - self.x0, y - self.y0)
        return u + self.u0, v + self.v0

    def _posToWorld(self, image_pos: Any, color: Any = None) -> Any:
        return galsim.PositionD(*self._xyTouv(image_pos.x, image_pos.y))

    def _x(self, u: Any, v: Any, color: Any = None) -> Any:
        return self._xy(u, v)[0]

    def _y(self, u: Any, v: Any, color: Any = None) -> Any:
        return self._xy(u, v)[1]

    def _xy(self, u: Any, v: Any) -> tuple[Any, Any]:
        x, y = transform_points(
            self._pix_to_field.mapping, np.asarray(u) / _ARCSEC, np.asarray(v) / _ARCSEC, forward=False
        )
        return (float(x), float(y)) if np.ndim(x) == 0 else (x, y)

    def _local(self, image_pos: Any, color: Any = None) -> Any:
        if image_pos is None:
            raise TypeError("A position is needed for the local WCS of a field-angle WCS.")
        matrix = self._pix_to_field.derivative(image_pos.x - self.x0, image_pos.y - self.y0) * _ARCSEC
        return galsim.JacobianWCS(*(float(value) for value in matrix.ravel()))

    def _newOrigin(self, origin: Any, world_origin: Any) -> UVWcsWrapper:
        result = self.copy()
        result._origin = origin
        result._world_origin = world_origin
        return result

    def copy(self) -> UVWcsWrapper:
        """Copy the WCS, sharing the (immutable) transform."""
        return copy.copy(self)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UVWcsWrapper)
            and self._pix_to_field == other._pix_to_field
            and self._origin == other._origin
            and self._world_origin == other._world_origin
        )

    def __repr__(self) -> str:
        return f"UVWcsWrapper({self._origin!r}, {self._world_origin!r})"

    def __hash__(self) -> int:
        return hash((self._pix_to_field, repr(self)))


class CelestialWcsWrapper(galsim.wcs.CelestialWCS):
    """Pixel to sky as a GalSim WCS.

    Parameters
    ----------
    wcs
        Pixel to ICRS right ascension and declination in radians.
    origin : `galsim.PositionD`, optional
        Image origin, default (0, 0).
    """

    def __init__(self, wcs: StackTransform, origin: Any = None) -> None:
        # The attributes, and their order, are those of the stack's class.
        self._pix_to_sky = wcs
        self._origin = galsim.PositionD(0.0, 0.0) if origin is None else origin
        self._color = None

    @property
    def origin(self) -> Any:
        """Image position that maps like (0, 0) of the transform."""
        return self._origin

    def _radec(self, x: Any, y: Any, color: Any = None) -> tuple[Any, Any]:
        ra, dec = transform_points(self._pix_to_sky.mapping, x, y)
        ra = ra % (2 * np.pi)
        return (float(ra), float(dec)) if np.ndim(ra) == 0 else (ra, dec)

    def _xy(self, ra: Any, dec: Any, color: Any = None) -> tuple[Any, Any]:
        x, y = transform_points(self._pix_to_sky.mapping, ra, dec, forward=False)
        return (float(x), float(y)) if np.ndim(x) == 0 else (x, y)

    def _local(self, image_pos: Any, color: Any = None) -> Any:
        if image_pos is None:
            raise TypeError("A position is needed for the local WCS of a sky WCS.")
        x, y = image_pos.x - self.x0, image_pos.y - self.y0
        offsets = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        ra, dec = self._radec(x + offsets[:, 0], y + offsets[:, 1])
        if np.cos(dec[0]) > _NEAR_POLE:
            return super()._local(image_pos, color)
        # Differences of coordinates are none of position here: project on
        # the tangent plane, u to the west and v to the north.
        cos, sin, turn = np.cos(dec), np.sin(dec), ra - ra[0]
        u = -cos * np.sin(turn)
        v = sin * cos[0] - cos * sin[0] * np.cos(turn)
        dudx, dudy, dvdx, dvdy = ((w[i] - w[i + 1]) / 2 * _ARCSEC for w in (u, v) for i in (1, 3))
        return galsim.JacobianWCS(float(dudx), float(dudy), float(dvdx), float(dvdy))

    def _newOrigin(self, origin: Any) -> CelestialWcsWrapper:
        result = self.copy()
        result._origin = origin
        return result

    def copy(self) -> CelestialWcsWrapper:
        """Copy the WCS, sharing the (immutable) transform."""
        return copy.copy(self)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CelestialWcsWrapper)
            and self._pix_to_sky == other._pix_to_sky
            and self._origin == other._origin
        )

    def __repr__(self) -> str:
        return f"CelestialWcsWrapper({self._origin!r})"

    def __hash__(self) -> int:
        return hash((self._pix_to_sky, repr(self)))


def uv_wrapper(exposure: VisitImage) -> UVWcsWrapper:
    """Make the WCS of a fit in field-angle coordinates.

    Parameters
    ----------
    exposure
        Image with a detector.

    Returns
    -------
    wcs : `UVWcsWrapper`
        Pixels (parent coordinates) to field angle in arcsec.

    Raises
    ------
    ValueError
        If the image has no detector.
    """
    if exposure.detector is None:
        raise ValueError("The image has no detector, which field-angle coordinates are computed from.")
    mapping = exposure.detector.to_field_angle._ast_mapping.simplified()
    return UVWcsWrapper(
        StackTransform("TransformPoint2ToPoint2", f"1 TransformPoint2ToPoint2{dump_ast(mapping)}")
    )


def _sky_frame_set(exposure: VisitImage) -> Any:
    mapping = exposure.sky_projection.pixel_to_sky_transform._ast_mapping
    if not hasattr(mapping, "nFrame"):
        raise ValueError(
            "The sky projection of the image isn't an AST frame set, which sky coordinates need."
        )
    return mapping


def celestial_wrapper(exposure: VisitImage) -> CelestialWcsWrapper:
    """Make the WCS of a fit in sky coordinates.

    Parameters
    ----------
    exposure
        Image whose sky projection is a frame set.

    Returns
    -------
    wcs : `CelestialWcsWrapper`
        Pixels (parent coordinates) to ICRS.

    Raises
    ------
    ValueError
        If the sky projection isn't a frame set.
    """
    text = dump_ast(_sky_frame_set(exposure))
    return CelestialWcsWrapper(StackTransform("SkyWcs", f"1 SkyWcs 0 {text}"))


def sky_origin(exposure: VisitImage) -> galsim.CelestialCoord:
    """Return the sky position the projection of an image is centred on.

    Parameters
    ----------
    exposure
        Image whose sky projection is a frame set.

    Returns
    -------
    pointing : `galsim.CelestialCoord`
        The WCS's CRVAL, Piff's pointing in sky mode (spec 01 §5.3).
    """
    ra, dec = sky_reference(_sky_frame_set(exposure))
    return galsim.CelestialCoord(ra * galsim.radians, dec * galsim.radians)
