# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Exposure catalogues in memory, rows with components."""

from __future__ import annotations

__all__ = ("ExposureCatalog", "ExposureRecord")

import copy
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._catalog import ColumnStore, Rows
from ._deferred import ComponentList, Deferred, resolve
from ._display import counted, html_table, short
from ._schema import Schema

if TYPE_CHECKING:
    from lsst.images.fields import BaseField
    from lsst.images.psfs import PointSpreadFunction

_COMPONENTS = ("wcs", "photoCalib", "validPolygon", "visitInfo", "transmissionCurve", "detector")


class _RowComponents(Mapping[str, Any]):
    """Components of one row, made only when asked for: a camera is large.

    Parameters
    ----------
    components
        Objects or `Deferred` by name.
    """

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = components

    def __getitem__(self, name: str) -> Any:
        return resolve(self._components[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)

    def raw(self) -> Mapping[str, Any]:
        """Return the objects, `Deferred` ones not resolved."""
        return self._components


class ExposureRecord:
    """One row of an `ExposureCatalog`.

    Parameters
    ----------
    values
        Field values by true name; ``id`` is the detector number in visit
        summaries and finalised PSF catalogues.
    psf
        Point-spread function, if there is one; may be `Deferred`.
    ap_corr_map
        Aperture corrections by name, if there are any; may be `Deferred`.
    components
        Other attached objects by component name.
    """

    def __init__(
        self,
        values: dict[str, Any],
        psf: PointSpreadFunction | Deferred | None = None,
        ap_corr_map: Mapping[str, BaseField] | Deferred | None = None,
        components: Mapping[str, Any] | None = None,
    ) -> None:
        self.values = values
        self._psf = psf
        self._ap_corr_map = ap_corr_map
        self.components: Mapping[str, Any] = {} if components is None else components

    def __copy__(self) -> ExposureRecord:
        return ExposureRecord(self.values, *self.raw())

    def __deepcopy__(self, memo: dict[int, Any]) -> ExposureRecord:
        return ExposureRecord(copy.deepcopy(self.values, memo), *copy.deepcopy(self.raw(), memo))

    def __getstate__(self) -> dict[str, Any]:
        # A row takes its objects along, not the file of all rows.
        psf, ap_corr_map, components = self.raw()
        return {
            "values": self.values,
            "_psf": _made(psf),
            "_ap_corr_map": _made(ap_corr_map),
            "components": {name: _made(item) for name, item in components.items()},
        }

    @property
    def id(self) -> int:
        """Identifier of the row."""
        return int(self.values["id"])

    @property
    def psf(self) -> PointSpreadFunction | None:
        """Point-spread function, if there is one; made when asked for."""
        return resolve(self._psf)

    @psf.setter
    def psf(self, psf: PointSpreadFunction | None) -> None:
        self._psf = psf

    @property
    def ap_corr_map(self) -> Mapping[str, BaseField] | None:
        """Aperture corrections by name, if there are any; made when asked
        for.
        """
        return resolve(self._ap_corr_map)

    @ap_corr_map.setter
    def ap_corr_map(self, ap_corr_map: Mapping[str, BaseField] | None) -> None:
        self._ap_corr_map = ap_corr_map

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __repr__(self) -> str:
        attached = [
            text for name, item in self._attached().items() if (text := _describe_item(name, item)) != "none"
        ]
        shown = {name: self.values[name] for name in ("id", "visit") if name in self.values}
        parts = [*(f"{name}={value}" for name, value in shown.items()), *attached]
        return f"<ExposureRecord {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        items = {name: _describe_item(name, item, named=False) for name, item in self._attached().items()}
        rows = {name: short(value) for name, value in self.values.items()} | {
            name: text for name, text in items.items() if text != "none"
        }
        return html_table("ExposureRecord", {name: [text] for name, text in rows.items()}, 1)

    def _attached(self) -> dict[str, Any]:
        """Return what is attached, `Deferred` or not."""
        psf, ap_corr_map, components = self.raw()
        return {"psf": psf, "ap_corr_map": ap_corr_map, **components}

    def get(self, name: str) -> Any:
        """Return an attached component, `None` if it is not there."""
        return self.components.get(name)

    def raw(self) -> tuple[Any, Any, Mapping[str, Any]]:
        """Return PSF, aperture corrections and components, `Deferred` ones
        not resolved.
        """
        components = self.components
        if isinstance(components, _RowComponents):
            components = components.raw()
        return self._psf, self._ap_corr_map, components


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
        self.psfs = [None] * n
        self.ap_corr_maps = [None] * n
        self.components: dict[str, MutableSequence[Any]] = {
            name: ComponentList([None] * n) for name in _COMPONENTS
        }

    @property
    def psfs(self) -> MutableSequence[Any]:
        """PSF or `None` of each row; made when asked for."""
        return self._psfs

    @psfs.setter
    def psfs(self, psfs: Iterable[Any]) -> None:
        self._psfs = ComponentList(psfs)

    @property
    def ap_corr_maps(self) -> MutableSequence[Any]:
        """Aperture corrections or `None` of each row; made when asked for."""
        return self._ap_corr_maps

    @ap_corr_maps.setter
    def ap_corr_maps(self, ap_corr_maps: Iterable[Any]) -> None:
        self._ap_corr_maps = ComponentList(ap_corr_maps)

    def raw_objects(self) -> dict[str, list[Any]]:
        """Return all objects by component, ``psf`` and ``apCorrMap``
        included, `Deferred` ones not resolved.
        """
        lists = {"psf": self._psfs, "apCorrMap": self._ap_corr_maps, **self.components}
        return {name: ComponentList(objects).raw() for name, objects in lists.items()}

    def _shown_columns(self) -> dict[str, Any]:
        """Return the columns, and what PSF and corrections are."""
        raw = self.raw_objects()
        shown = super()._shown_columns()
        for name, key in (("psf", "psf"), ("ap_corr_map", "apCorrMap")):
            shown[name] = [_describe_item(name, item, named=False) for item in raw[key]]
        return shown

    def __getitem__(self, key: str | int | np.integer | Rows) -> Any:
        if isinstance(key, str):
            return self.column(key)
        return self._record(int(key)) if isinstance(key, int | np.integer) else self.take(key)

    def take(self, index: Rows) -> ExposureCatalog:
        """Return a copy of some rows with what is attached to them.

        Parameters
        ----------
        index
            Boolean mask, indices or slice.

        Returns
        -------
        `ExposureCatalog`
            New catalogue; schema and metadata are copied.  PSFs, aperture
            corrections and other components are shared, and aren't made.
        """
        result = type(self)(self.schema.copy(), self._taken_columns(index), metadata=self.metadata)
        rows = np.arange(len(self))[index].tolist()
        result.psfs = [_raw_item(self._psfs, row) for row in rows]
        result.ap_corr_maps = [_raw_item(self._ap_corr_maps, row) for row in rows]
        for name, objects in self.components.items():
            result.components[name] = ComponentList(_raw_item(objects, row) for row in rows)
        return result

    def copy(self) -> ExposureCatalog:
        """Return a copy that shares what is attached."""
        return self.take(slice(None))

    def __iter__(self) -> Iterator[ExposureRecord]:
        return (self._record(i) for i in range(len(self)))

    def _record(self, i: int) -> ExposureRecord:
        if not -len(self) <= i < len(self):
            raise IndexError(f"Row {i} is outside a catalog of {len(self)} rows.")
        row = i % len(self)
        return ExposureRecord(
            {f.name: self.field_column(f.name)[i] for f in self.schema},
            _raw_item(self._psfs, row),
            _raw_item(self._ap_corr_maps, row),
            _RowComponents({name: _raw_item(objects, row) for name, objects in self.components.items()}),
        )

    def find(self, id: int) -> ExposureRecord | None:
        """Return the row with an identifier, `None` if there is none.

        Parameters
        ----------
        id
            Identifier, normally a detector number.

        Returns
        -------
        record : `ExposureRecord` or `None`
            The row, in whatever order the rows are; the first of several.
        """
        found = np.flatnonzero(self.field_column("id") == id)
        return self._record(int(found[0])) if len(found) else None

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
            raise KeyError(f"The catalog has no fields {sorted(unknown)}.")
        for f in self.schema:
            new = f.make_column(1)
            if f.name in record.values:
                new[0] = record.values[f.name]
            self.columns[f.name] = np.concatenate([self.field_column(f.name), new])
        self._n += 1
        psf, ap_corr_map, components = record.raw()
        self._psfs.append(psf)
        self._ap_corr_maps.append(ap_corr_map)
        for name, objects in self.components.items():
            objects.append(components.get(name))


def _describe_item(name: str, item: Any, *, named: bool = True) -> str:
    """Tell in a few words what is attached, without making it."""
    if item is None:
        return "none"
    if isinstance(item, Deferred):
        text = "not read yet"
    elif name == "ap_corr_map":
        text = counted(len(item), "correction")
    else:
        text = type(item).__name__
    return f"{name}: {text}" if named else text


def _made(item: Any) -> Any:
    """Return an object, or what tells why it can't be made."""
    try:
        return resolve(item)
    except ValueError:
        return item


def _raw_item(objects: Sequence[Any], row: int) -> Any:
    return objects.raw_item(row) if isinstance(objects, ComponentList) else objects[row]
