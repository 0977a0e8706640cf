# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What a table of prepared stars tells about what it was made of."""

from __future__ import annotations

__all__ = ("PREPARED_FORMAT", "InputNames")

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._columns import OutsideTable

PREPARED_FORMAT = 2
"""Version of the table that `prepare_isolated_stars` makes."""

# Columns, since the butler drops the metadata of tables.
INPUTS_HASH, STANDARD_STARS_HASH = "inputs_hash", "standard_stars_hash"


def reserve_hash(reserve: Any) -> int:
    """Return a number that tells whether two tasks reserve alike.

    Notes
    -----
    A function, or a task whose configuration is unknown, is like no other.
    """
    config = getattr(reserve, "config", None)
    if config is None:
        return 0
    return _hash(f"{type(reserve).__module__}.{type(reserve).__qualname__} {sorted(config.toDict().items())}")


def _hash(text: str) -> int:
    """Return an integer of 64 bits that stands for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class InputNames:
    """Names of the dataset types from which stars are prepared."""

    isolated_star_cats: str
    isolated_star_sources: str
    fgcm_standard_star: str

    def hashes(self) -> dict[str, int]:
        """Return what a table tells about them, by column."""
        return {
            INPUTS_HASH: _hash(f"{self.isolated_star_cats} {self.isolated_star_sources}"),
            STANDARD_STARS_HASH: _hash(self.fgcm_standard_star),
        }

    def options(self) -> dict[str, str]:
        """Return the options that these hashes stand for, by column."""
        return {
            INPUTS_HASH: f"isolated_star_cats = {self.isolated_star_cats!r} and "
            f"isolated_star_sources = {self.isolated_star_sources!r}",
            STANDARD_STARS_HASH: f"fgcm_standard_star = {self.fgcm_standard_star!r}",
        }


def check_origin(table: OutsideTable, visit: int) -> None:
    """Refuse tables of other formats and visits."""
    for name, value in {"format_version": PREPARED_FORMAT, "visit": visit}.items():
        others = table.keys(name)
        others = others[others != value]
        if len(others):
            raise ValueError(f"{table.what} is of {name} {others[0]}, not {value}.")


def check_names(keys: Mapping[str, npt.NDArray[Any]], names: InputNames, what: str) -> None:
    """Refuse tables that were made of datasets of other names."""
    for column, value in names.hashes().items():
        hashes = keys.get(column, np.zeros(0, np.int64))
        if ((hashes != value) & (hashes != 0)).any():
            raise ValueError(
                f"{what} was made with other connections than {names.options()[column]}: "
                "set them alike for the task that made it and for the one that reads it."
            )
