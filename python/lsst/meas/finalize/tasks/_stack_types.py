# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Handles and objects of ``lsst.afw`` among inputs and outputs of tasks."""

from __future__ import annotations

__all__: tuple[str, ...] = ()

import dataclasses
from collections.abc import Mapping
from typing import Any

from .. import afw
from ..afw import is_afw, is_afw_type


@dataclasses.dataclass(frozen=True)
class Unconverted:
    """An exposure of ``lsst.afw`` to be converted when it is needed.

    Results of what it is given to are ours, not those of ``lsst.afw``.

    Attributes
    ----------
    exposure
        The exposure.
    data_id
        For what the exposure doesn't tell.
    """

    exposure: Any
    data_id: Mapping[str, Any]


def fetch(source: Any) -> Any:
    """Return what a handle is of; anything else is returned as it is.

    Parameters
    ----------
    source
        Handle, or object.

    Returns
    -------
    obj : `object`
        The object.
    """
    # Catalogues of lsst.afw and mappings have a method of that name, too.
    if is_afw(source) or isinstance(source, Mapping) or not hasattr(source, "get"):
        return source
    return source.get()


def as_ours(obj: Any, expected: type, what: str, data_id: Mapping[str, Any] | None = None) -> Any:
    """Return an object as one of our types.

    Parameters
    ----------
    obj
        Such an object, or one of ``lsst.afw``.
    expected
        Type to return.
    what
        What the object is, for messages.
    data_id
        For what an exposure doesn't tell.

    Returns
    -------
    obj : ``expected``
        The object.

    Raises
    ------
    TypeError
        Raised if it isn't that.
    FitsFormatError, ArchiveError
        Raised if an object of ``lsst.afw`` can't be converted.
    """
    if isinstance(obj, Unconverted):
        obj, data_id = obj.exposure, {**(data_id or {}), **obj.data_id}
    found = type(obj)
    if is_afw(obj):
        obj = afw.from_afw(obj, data_id=data_id)
    if not isinstance(obj, expected):
        raise TypeError(
            f"The {what} is a {found.__module__}.{found.__qualname__}, "
            f"not a {expected.__module__}.{expected.__qualname__}."
        )
    return obj


def results_as_ours(psf: Any, ap_corr_map: Any, measured: Any) -> tuple[Any, Any, Any]:
    """Return results of a detector as our types.

    Parameters
    ----------
    psf, ap_corr_map, measured
        PSF, aperture corrections and measured stars; each may be `None`.
    """
    if is_afw(measured):
        measured = afw.from_afw(measured)
    if is_afw(psf) or is_afw(ap_corr_map):
        # One of the two may be `None`, but they aren't of different worlds.
        psf, ap_corr_map = afw.psf_from_afw(psf, ap_corr_map)
    return psf, ap_corr_map, measured


def results_as_afw(psf: Any, ap_corr_map: Any, measured: Any) -> tuple[Any, Any, Any]:
    """Return results of a detector as types of ``lsst.afw``.

    Parameters
    ----------
    psf, ap_corr_map, measured
        PSF, aperture corrections and measured stars; each may be `None`.
    """
    psf, ap_corr_map = afw.psf_to_afw(psf, ap_corr_map)
    return psf, ap_corr_map, None if measured is None else afw.to_afw(measured)


def as_stored(catalog: Any, ref: Any) -> Any:
    """Return a catalogue as the type that its dataset's storage class wants.

    Parameters
    ----------
    catalog
        Catalogue, ours or of ``lsst.afw``.
    ref : `lsst.daf.butler.DatasetRef`
        Where it will be stored.
    """
    wants_afw = is_afw_type(ref.datasetType.storageClass.pytype)
    if wants_afw == is_afw(catalog):
        return catalog
    return afw.to_afw(catalog) if wants_afw else afw.from_afw(catalog)
