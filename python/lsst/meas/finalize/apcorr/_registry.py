# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Names of the fluxes that aperture corrections are for."""

from __future__ import annotations

__all__ = ("add_ap_corr_name", "correctable_names", "get_ap_corr_names")

from collections.abc import Container, Iterable

_NAMES: set[str] = set()


def add_ap_corr_name(name: str) -> None:
    """Declare a flux that takes part in aperture correction.

    Parameters
    ----------
    name : `str`
        Prefix of the flux fields; it stands for ``<name>_instFlux``,
        ``<name>_instFluxErr`` and ``<name>_flag``.

    Raises
    ------
    ValueError
        Raised if ``name`` is empty or not a string.

    Notes
    -----
    The registry is global to the process (spec 01 §6.1).  Plugins whose
    field names are fixed register on import, plugins whose names depend on
    their configuration register when they are constructed.  Declaring a
    name twice is harmless.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"An aperture-corrected flux needs a non-empty name, not {name!r}.")
    _NAMES.add(name)


def get_ap_corr_names() -> frozenset[str]:
    """Return all declared names.

    Returns
    -------
    names : `frozenset` [ `str` ]
        A snapshot; later registrations don't change it.
    """
    return frozenset(_NAMES)


def correctable_names(field_names: Container[str], names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Select the names whose three fields exist.

    Parameters
    ----------
    field_names : container of `str`
        Where the fields are looked up, normally a
        `~lsst.meas.finalize.catalogs.Schema`.
    names : iterable of `str`, optional
        Candidates; by default everything declared.

    Returns
    -------
    names : `tuple` [ `str` ]
        Sorted names ``P`` having ``P_instFlux``, ``P_instFluxErr`` and
        ``P_flag``.
    """
    candidates = get_ap_corr_names() if names is None else set(names)
    suffixes = ("_instFlux", "_instFluxErr", "_flag")
    return tuple(n for n in sorted(candidates) if all(n + s in field_names for s in suffixes))
