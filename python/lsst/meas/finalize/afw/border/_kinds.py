# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Which objects are those of ``lsst.afw``, and of what kind."""

from __future__ import annotations

__all__ = ("is_afw", "is_afw_type")

from typing import Any, Literal

type Kind = Literal["exposure", "sources", "exposures"]

_PIXEL_TYPES = "FDIUL"


def _comes_from_afw(cls: type) -> bool:
    # Bound classes may name a private module of their package.
    return any(f"{base.__module__}.".startswith("lsst.afw.") for base in cls.__mro__)


def is_afw(obj: object) -> bool:
    """Tell whether an object is of a class of ``lsst.afw``.

    Parameters
    ----------
    obj
        Any object.

    Returns
    -------
    is_afw : `bool`
        Whether its class, or one that it derives from, is from there.

    Notes
    -----
    Nothing is imported for this.
    """
    return _comes_from_afw(type(obj))


def is_afw_type(cls: type) -> bool:
    """Tell whether a class is, or derives from, one of ``lsst.afw``.

    Parameters
    ----------
    cls
        Any class.
    """
    return _comes_from_afw(cls)


def kind_of(obj: Any) -> Kind:
    """Classify an object of ``lsst.afw``.

    Parameters
    ----------
    obj
        Object for which `is_afw` is true.

    Returns
    -------
    kind : `str`
        ``exposure``, ``sources`` or ``exposures``.

    Raises
    ------
    TypeError
        Raised if there is no conversion for its class.
    """
    import lsst.afw.image
    import lsst.afw.table

    exposures = [getattr(lsst.afw.image, f"Exposure{letter}", None) for letter in _PIXEL_TYPES]
    if isinstance(obj, tuple(cls for cls in exposures if cls is not None)):
        return "exposure"
    if isinstance(obj, lsst.afw.table.SourceCatalog):
        return "sources"
    if isinstance(obj, lsst.afw.table.ExposureCatalog):
        return "exposures"
    found = type(obj)
    raise TypeError(
        f"A {found.__module__}.{found.__qualname__} can't be converted; an Exposure, a SourceCatalog or an "
        "ExposureCatalog of lsst.afw can."
    )
