# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Handles of input datasets, by tract or detector."""

from __future__ import annotations

__all__: tuple[str, ...] = ()

from collections.abc import Iterable, Mapping
from typing import Any

from ..butler import stream
from ..stars import InputNames

_PER_TRACT = ("isolated_star_cats", "isolated_star_sources", "fgcm_standard_star")
_NAMES = {"skymap": "sky maps", "instrument": "instruments", "tract": "tracts", "detector": "detectors"}


def _data_id(handle: Any) -> dict[str, Any]:
    """Return the data ID of a handle as a plain mapping."""
    data_id = handle.dataId
    return dict(getattr(data_id, "mapping", data_id))


def _differing(handles: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the dimensions in which data IDs differ, with their values."""
    values: dict[str, set[Any]] = {}
    for handle in handles:
        for dimension, value in _data_id(handle).items():
            values.setdefault(dimension, set()).add(value)
    return {dimension: sorted(found, key=str) for dimension, found in values.items() if len(found) > 1}


def _choose_one(dimension: str, values: list[Any]) -> str:
    """Return which values there are and a query that leaves one."""
    listed = ", ".join(map(repr, values))
    return (
        f"of the {_NAMES.get(dimension, f'{dimension}s')} {listed}; "
        f'choose one in the data query, such as "{dimension} = {values[0]!r}"'
    )


def sorted_by(handles: Iterable[Any], dimension: str, what: str) -> dict[int, Any]:
    """Return handles by the value of a dimension, in ascending order.

    Parameters
    ----------
    handles
        Handles with a ``dataId``.
    dimension
        Dimension whose value no two handles may share.
    what
        Name of the connection, for messages.

    Returns
    -------
    `dict`
        Handles by value.

    Raises
    ------
    ValueError
        Raised if a handle has no such dimension, or two share a value; it
        names in what else they differ, and a data query that cures it.
    """
    by_value: dict[int, list[Any]] = {}
    for handle in handles:
        data_id = _data_id(handle)
        if dimension not in data_id:
            raise ValueError(f"A dataset of {what} has no {dimension} in its data ID {data_id}.")
        by_value.setdefault(data_id[dimension], []).append(handle)
    for value, same in sorted(by_value.items()):
        if len(same) == 1:
            continue
        message = f"{what} has {len(same)} datasets of {dimension} {value}"
        differing = _differing(same)
        if not differing:
            raise ValueError(f"{message} with equal data IDs: they must be given once each.")
        raise ValueError(f"{message}, " + ", and ".join(_choose_one(*d) for d in differing.items()) + ".")
    return {value: same[0] for value, same in sorted(by_value.items())}


def sorted_by_tract(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the handles of the inputs that have a dataset per tract.

    Parameters
    ----------
    inputs
        Handles by name of the connection.

    Returns
    -------
    `dict`
        By connection, handles by tract in ascending order, which read
        piece by piece if they can; `None` for those that aren't among the
        inputs.

    Raises
    ------
    ValueError
        Raised if tracts repeat, or if the handles are of several sky maps
        or instruments, whose tracts of one number have nothing in common.
    """
    sorted_handles = {
        name: None if inputs.get(name) is None else sorted_by(inputs[name], "tract", name)
        for name in _PER_TRACT
    }
    differing = _differing(h for handles in sorted_handles.values() if handles for h in handles.values())
    for dimension in ("skymap", "instrument"):
        if dimension in differing:
            raise ValueError(
                f"The tables of isolated stars are {_choose_one(dimension, differing[dimension])}."
            )
    return {
        name: handles and {tract: stream(handle) for tract, handle in handles.items()}
        for name, handles in sorted_handles.items()
    }


def input_names(config: Any) -> InputNames:
    """Return what the inputs that have a dataset per tract are called.

    Parameters
    ----------
    config
        Configuration of a task with these connections.

    Returns
    -------
    `~lsst.meas.finalize.stars.InputNames`
        Names of the dataset types.
    """
    return InputNames(*(getattr(config.connections, name) for name in _PER_TRACT))
