# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposure catalogues in memory, rows with components."""

from __future__ import annotations

__all__ = ("ExposureCatalog", "ExposureRecord")

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ._catalog import ColumnStore
from ._schema import Schema

if TYPE_CHECKING:
    from lsst.images.fields import BaseField
    from lsst.images.psfs import PointSpreadFunction

_COMPONENTS = ("wcs", "photoCalib", "validPolygon", "visitInfo", "transmissionCurve", "detector")


class _RowComponents(Mapping[str, Any]):
    """Components of one row, read from their lists only when asked for.

    The lists of a catalogue from a file read lazily, and a camera is large.
    """

    def __init__(self, components: Mapping[str, Sequence[Any]], row: int) -> None:
        self._components = components
        self._row = row

    def __getitem__(self, name: str) -> Any:
        return self._components[name][self._row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)


@dataclass
class ExposureRecord:
    """One row of an `ExposureCatalog`.

    Parameters
    ----------
    values
        Field values by true name; ``id`` is the detector number in visit
        summaries and finalised PSF catalogues.
    psf
        Point-spread function, if there is one.
    ap_corr_map
        Aperture corrections by name, if there are any.
    components
        Other attached objects by component name.
    """

    values: dict[str, Any]
    psf: PointSpreadFunction | None = None
    ap_corr_map: Mapping[str, BaseField] | None = None
    components: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """Identifier of the row."""
        return int(self.values["id"])

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str) -> Any:
        """Return an attached component, `None` if it is not there."""
        return self.components.get(name)


class ExposureCatalog(ColumnStore):
    """Rows by detector, each with a PSF and an aperture-correction map.

    Parameters
    ----------
    schema, data, metadata
        See `ColumnStore`.
    """

    def __init__(
        self,
        schema: Schema,
        data: int | Mapping[str, np.ndarray] = 0,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(schema, data, metadata=metadata)
        n = len(self)
        self.psfs: list[PointSpreadFunction | None] = [None] * n
        self.ap_corr_maps: list[Mapping[str, BaseField] | None] = [None] * n
        self.components: dict[str, list[Any]] = {name: [None] * n for name in _COMPONENTS}

    def __getitem__(self, key: str | int) -> Any:
        return self.column(key) if isinstance(key, str) else self._record(key)

    def __iter__(self) -> Iterator[ExposureRecord]:
        return (self._record(i) for i in range(len(self)))

    def _record(self, i: int) -> ExposureRecord:
        if not -len(self) <= i < len(self):
            raise IndexError(f"Row {i} is outside a catalogue of {len(self)} rows.")
        return ExposureRecord(
            {f.name: self.field_column(f.name)[i] for f in self.schema},
            self.psfs[i],
            self.ap_corr_maps[i],
            _RowComponents(self.components, i),
        )

    def find(self, id: int) -> ExposureRecord | None:
        """Return the row with an identifier, `None` if there is none.

        Parameters
        ----------
        id
            Identifier, normally a detector number.

        Raises
        ------
        ValueError
            Raised if rows are not sorted by identifier.
        """
        ids = self.field_column("id")
        if np.any(np.diff(ids) <= 0):
            raise ValueError("Rows of the exposure catalogue are not sorted by unique ids.")
        i = int(np.searchsorted(ids, id))
        return self._record(i) if i < len(ids) and ids[i] == id else None

    def append(self, record: ExposureRecord) -> None:
        """Append a row.

        Parameters
        ----------
        record
            The row; fields missing in it get their "never written" value.

        Raises
        ------
        KeyError
            Raised if the record has a field this catalogue lacks.
        """
        if unknown := set(record.values) - set(self.schema.names):
            raise KeyError(f"The catalogue has no fields {sorted(unknown)}.")
        for f in self.schema:
            new = f.make_column(1)
            if f.name in record.values:
                new[0] = record.values[f.name]
            self.columns[f.name] = np.concatenate([self.field_column(f.name), new])
        self._n += 1
        self.psfs.append(record.psf)
        self.ap_corr_maps.append(record.ap_corr_map)
        for name, objects in self.components.items():
            objects.append(record.components.get(name))
