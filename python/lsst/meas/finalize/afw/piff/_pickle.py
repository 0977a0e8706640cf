# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Reading and writing the pickles that hold Piff PSFs, without trusting
them.
"""

from __future__ import annotations

__all__ = ("PiffPickleError", "dumps_piff", "loads_piff")

import copy
import hashlib
import io
import math
import pickle
from typing import TYPE_CHECKING, Any

from .._errors import ArchiveError, UnsupportedPersistableError
from ._opcodes import check_opcodes

if TYPE_CHECKING:
    import piff

_PROTOCOL = 4
"""Readable by every Python the stack has used with Piff."""

_MAX_STAMP = 4095
"""Upper limit of the side of a PSF stamp in pixels."""

_FIT_ATTRIBUTES = ("params", "params_var", "A", "b")
_DATA_ATTRIBUTES = ("image", "weight", "orig_weight")
"""What the stack removes from the stars it stores (spec 02 §7)."""


class PiffPickleError(ArchiveError):
    """The pickle of a Piff PSF is malformed or not acceptable."""


def loads_piff(data: bytes, accepted: set[bytes] | None = None) -> tuple[int, int, piff.SimplePSF]:
    """Restore a persisted Piff PSF (spec 02 §7).

    Parameters
    ----------
    data
        Pickle of ``(width, height, psf)``.
    accepted
        Digests of pickles that have been restored and checked, to which this
        one's is added; the same bytes aren't checked again.

    Returns
    -------
    width, height : `int`
        Size of the images to draw.
    psf : `piff.SimplePSF`
        Genuine Piff object, usable with the installed version of Piff.

    Raises
    ------
    UnsupportedPersistableError
        If the PSF needs classes that aren't on the list of known ones.
    PiffPickleError
        If the pickle is malformed, tries something no Piff PSF needs, or
        contains values of unexpected type or size.

    Notes
    -----
    No code is run and no class is constructed except by plain restoring of
    attributes of listed classes; all attributes are checked afterwards,
    because Piff evaluates some strings (``interp``) when it rebuilds a PSF.
    """
    from . import _checks, _globals

    digest = hashlib.sha256(data).digest()
    is_new = accepted is None or digest not in accepted
    try:
        if is_new:
            check_opcodes(data)
        loaded = _globals.RestrictedUnpickler(io.BytesIO(data)).load()
    except (ArchiveError, MemoryError):
        raise
    except Exception as err:
        # Unpickling garbage can raise anything.
        raise PiffPickleError(f"Can't unpickle a Piff PSF: {type(err).__name__}: {str(err)[:200]}.") from err
    if type(loaded) is not tuple or len(loaded) != 3:
        raise PiffPickleError(f"Pickle of a Piff PSF holds a {type(loaded).__name__}, not a triple.")
    width, height = (_to_size(value) for value in loaded[:2])
    psf = loaded[2]
    try:
        _checks.check_psf(psf, is_new)
    except (ArchiveError, MemoryError):
        raise
    except Exception as err:
        # Attributes of wrong kinds make the checks themselves fail.
        raise PiffPickleError(f"Malformed Piff PSF: {type(err).__name__}: {str(err)[:200]}.") from err
    if accepted is not None:
        accepted.add(digest)
    return width, height, psf


def _to_size(value: object) -> int:
    import numpy as np

    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise PiffPickleError(f"Size of a Piff PSF is a {type(value).__name__}.")
    size = float(value)
    if not (1 <= size <= _MAX_STAMP and size == int(size)):
        raise PiffPickleError(f"Size of a Piff PSF is {size}, expected a whole number up to {_MAX_STAMP}.")
    return int(size)


def dumps_piff(width: int, height: int, psf: piff.SimplePSF, color: float = math.nan) -> bytes:
    """Persist a Piff PSF as the stack does (spec 02 §7.3).

    Parameters
    ----------
    width, height
        Size of the images to draw.
    psf
        The PSF. It isn't modified: stars lose their pixels and fit results
        on a copy.
    color
        Average colour, given to stars that lsst.images has read, which have
        none; NaN if there is none.

    Returns
    -------
    data : `bytes`
        Pickle of ``(float(width), float(height), psf)``. Coordinate systems
        made here are named as the classes of the stack.

    Raises
    ------
    UnsupportedPersistableError
        If the PSF isn't a `piff.SimplePSF`.
    """
    from ..._piff import piff

    if type(psf) is not piff.SimplePSF:
        raise UnsupportedPersistableError(f"Can't persist a {type(psf).__name__} as Piff PSF.")
    stripped = copy.copy(psf)
    stripped.stars = [_strip_star(star, color) for star in getattr(psf, "stars", ())]
    content = (float(width), float(height), stripped)
    from . import _globals

    if any(_globals.is_stand_in(wcs) for wcs in (psf.wcs or {}).values()):
        return _globals.dumps_with_stack_names(content, _PROTOCOL)
    return pickle.dumps(content, protocol=_PROTOCOL)


def _strip_star(star: Any, color: float) -> Any:
    """Copy a star without pixels and fit results."""
    from ..._piff import piff

    if not isinstance(star, piff.Star):
        return _restore_star(star, color)
    result = copy.copy(star)
    result.data = _without(star.data, _DATA_ATTRIBUTES)
    result.fit = _without(star.fit, _FIT_ATTRIBUTES)
    return result


def _without(obj: Any, names: tuple[str, ...]) -> Any:
    result = copy.copy(obj)
    for name in names:
        result.__dict__.pop(name, None)
    return result


def _restore_star(star: Any, color: float) -> Any:
    """Make a Piff star of what lsst.images keeps of one.

    lsst.images stores position and flags only; the stack needs genuine Piff
    stars for the average position, and their colours for the average one.
    """
    import galsim

    from ..._piff import piff

    position = galsim.PositionD(float(star.image_pos.x), float(star.image_pos.y))
    data = object.__new__(piff.star.StarData)
    data.__dict__.update(
        image_pos=position,
        properties={
            "x": position.x,
            "y": position.y,
            "is_flagged": bool(star.is_flagged),
            "is_reserve": bool(star.is_reserve),
            **({"colorValue": float(color)} if math.isfinite(color) else {}),
        },
        property_types={},
        pointing=None,
    )
    fit = object.__new__(piff.star.StarFit)
    fit.__dict__.update(flux=1.0, center=(0.0, 0.0), chisq=None, dof=None)
    return piff.Star(data, fit)
