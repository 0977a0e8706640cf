# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Random tables of stars in every form: the tidy result or a clear error.

Each case takes tidy tables of isolated stars, their sources and FGCM standard
stars, changes the form of some columns and tables (types, masks, nulls,
orders, duplicates, empty tracts, containers), and compares what the package
makes of them with what it makes of the tidy ones.
"""

from __future__ import annotations

import argparse
import collections
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import MaskedColumn, QTable, Table

from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow
from lsst.meas.finalize.stars import (
    ReserveIsolatedStarsConfig,
    ReserveIsolatedStarsTask,
    concat_isolated_star_cats,
    fgcm_magnitudes,
    prepare_isolated_stars,
    psf_colors,
    read_fgcm_standard_stars,
    read_prepared_stars,
)
from lsst.pipe.base import InMemoryDatasetHandle

BANDS = ("g", "r", "i")
VISIT = 2026030400001
DETECTOR = 3
type Tables = dict[str, dict[int, Any]]
type Form = Callable[[np.ndarray], Any]

KEY_FORMS: dict[str, Form] = {
    "int64": lambda v: v.astype(np.int64),
    "int32": lambda v: _fitting(v, np.int32),
    "uint16": lambda v: _fitting(v, np.uint16),
    "uint64": lambda v: v.astype(np.uint64),
    "big-endian": lambda v: v.astype(">i8"),
    "float64": lambda v: v.astype(np.float64),
    "float32": lambda v: v.astype(np.float32),
    "big-endian float": lambda v: v.astype(">f8"),
    "bool": lambda v: v.astype(bool),
    "text": lambda v: v.astype(str),
    "bytes": lambda v: v.astype("S"),
    "hexadecimal": lambda v: np.array([hex(i) for i in v] or np.zeros(0, "U1")),
    "objects": lambda v: v.astype(object),
    "decimals": lambda v: np.array([*map(Decimal, v.tolist())], object),
    "dates": lambda v: v.astype("M8[s]"),
    "complex": lambda v: v.astype(complex),
    "masked": lambda v: MaskedColumn(v, mask=np.zeros(len(v), bool)),
    "integer quantity": lambda v: u.Quantity(v, u.one, dtype=np.int64),
    "float quantity": lambda v: v * u.one,
    "doubled": lambda v: np.stack([v, v], axis=-1),
    "pandas Int64": lambda v: pd.array(v, dtype="Int64"),
    "pandas Arrow": lambda v: pd.Series(v).astype("int64[pyarrow]"),
    "pandas category": lambda v: pd.Series(pd.Categorical(v)),
    "pandas string": lambda v: pd.Series(v.astype(str), dtype="string"),
    "arrow": pa.array,
    "arrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "arrow text dictionary": lambda v: pa.array(v.astype(str).tolist(), pa.string()).dictionary_encode(),
    "arrow large_string": lambda v: pa.array(v.astype(str).tolist(), pa.large_string()),
    "arrow decimal": lambda v: pa.array([*map(Decimal, v.tolist())], pa.decimal128(25, 0)),
    "arrow lists": lambda v: pa.array([[i] for i in v.tolist()], pa.list_(pa.int64())),
    "arrow nulls": lambda v: pa.nulls(len(v)),
}
NUMBER_FORMS: dict[str, Form] = {
    "float64": lambda v: v,
    "float32": lambda v: v.astype(np.float32),
    "float16": lambda v: v.astype(np.float16),
    "big-endian": lambda v: v.astype(">f4"),
    "text": lambda v: v.astype(str),
    "objects": lambda v: v.astype(object),
    "masked": lambda v: MaskedColumn(np.nan_to_num(v), mask=np.isnan(v)),
    "pandas Float64": lambda v: pd.array(v, dtype="Float64"),
    "pandas Arrow": lambda v: pd.Series(v).astype("double[pyarrow]"),
    "arrow": lambda v: pa.array(v, from_pandas=True),
    "arrow float32": lambda v: pa.array(v.astype(np.float32), from_pandas=True),
    "arrow dictionary": lambda v: pa.array(v, from_pandas=True).dictionary_encode(),
    "arrow nulls": lambda v: pa.nulls(len(v)),
}


def _fitting(values: np.ndarray, dtype: type) -> np.ndarray:
    """Return integers in a type if they fit."""
    info = np.iinfo(dtype)
    fits = bool(((values >= info.min) & (values <= info.max)).all())
    return values.astype(dtype if fits else np.int64)


@dataclass
class Case:
    """Tables in odd forms, the tidy ones, and what was done."""

    tidy: Tables
    odd: Tables = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    prepared: bool = False  # whether to go through the table of a visit


def tidy_tables(rng: np.random.Generator) -> Tables:
    """Make tables of some tracts as upstream writes them.

    Magnitudes and positions are such that a half-precision float holds them.
    """
    tables: Tables = {"stars": {}, "sources": {}, "fgcm": {}}
    for tract in sorted(rng.choice(20, rng.integers(1, 4), replace=False).tolist()):
        n = int(rng.choice([0, 1, 7, 40], p=[0.1, 0.1, 0.4, 0.4]))
        counts = rng.integers(0, 4, n)
        star = np.repeat(np.arange(n), counts)
        tables["stars"][tract] = {
            "isolated_star_id": 10**6 * tract + np.arange(n),
            "nsource_r": counts,
            "source_cat_index_r": np.cumsum(counts) - counts,
        }
        tables["sources"][tract] = {
            "sourceId": (VISIT << 19) + (tract << 12) + np.arange(len(star)),
            "obj_index": star,
            "visit": VISIT + rng.integers(0, 2, len(star)),
            "detector": DETECTOR + rng.integers(0, 2, len(star)),
        }
        grid = np.arange(n)
        tables["fgcm"][tract] = {"ra": 32 + grid / 32, "dec": np.full(n, tract / 4)} | {
            f"mag_{band}": 16 + rng.integers(0, 256, n) / 64 for band in BANDS
        }
    return tables


class ParquetHandle:
    """Handle of a table in a Parquet file, read as the butler does."""

    def __init__(self, table: pa.Table, rows: int) -> None:
        self.file = io.BytesIO()
        pq.write_table(table, self.file, row_group_size=rows)

    def get(self, *, component: str | None = None, parameters: dict[str, Any] | None = None) -> Any:
        """Return columns, or their names."""
        self.file.seek(0)
        names = pq.read_schema(self.file).names
        if component == "columns":
            return names
        parameters = dict(parameters or {})
        wanted = parameters.pop("columns", names)
        if parameters:
            raise ValueError(f"Unsupported parameters {parameters}")
        found = [n for w in wanted for n in names if n == w or (w.endswith("*") and n.startswith(w[:-1]))]
        return arrow_to_astropy(pq.read_table(self.file, columns=found))


def contain(columns: dict[str, Any], rng: np.random.Generator) -> tuple[str, Any]:
    """Put columns into a table of some kind, and that into a handle."""
    kind = str(rng.choice(["Table", "QTable", "records", "dict", "pandas", "index", "Arrow", "Parquet"]))
    try:
        table = _container(kind, columns, rng)
    except Exception:  # not every container holds every column; that's not ours to judge
        kind, table = "dict", columns
    if kind in ("dict", "Parquet") or rng.random() < 0.5:
        return kind, table
    return f"handle of {kind}", InMemoryDatasetHandle(table, storageClass="ArrowAstropy")


def _container(kind: str, columns: dict[str, Any], rng: np.random.Generator) -> Any:
    """Make a table of a kind."""
    if kind == "dict":
        return columns
    if kind in ("Table", "QTable", "records"):
        if any(not isinstance(c, np.ndarray) for c in columns.values()):
            raise TypeError("astropy would convert these inexactly")
        table = (QTable if kind == "QTable" else Table)(columns)
        return table.as_array() if kind == "records" else table
    if kind in ("pandas", "index"):
        frame = pd.DataFrame({n: c.to_pandas() if isinstance(c, pa.Array) else c for n, c in columns.items()})
        return frame.set_index(str(rng.choice(list(columns)))) if kind == "index" else frame
    plain = all(isinstance(c, np.ndarray) for c in columns.values())
    table = (
        astropy_to_arrow(Table(columns)) if plain else pa.table({n: pa.array(c) for n, c in columns.items()})
    )
    return ParquetHandle(table, int(rng.choice([3, 1000]))) if kind == "Parquet" else table


def change_rows(case: Case, rng: np.random.Generator) -> None:
    """Reorder or repeat rows, or add tracts, without changing the result."""
    what = str(rng.choice(["nothing", "order", "duplicates", "empty tract", "other visit", "extra column"]))
    case.changes.append(what)
    tract = int(rng.choice(list(case.tidy["stars"])))
    name = str(rng.choice(["sources", "fgcm"]))
    table = case.odd[name][tract]
    n = len(next(iter(table.values())))
    rows = np.arange(n)
    if what == "order":
        rows = rng.permutation(n)
    elif what == "duplicates" and n:
        rows = rng.permutation(np.append(rows, rng.integers(0, n, 3)))
    elif what == "extra column":
        table["mag_e"] = table["note"] = np.full(n, "odd", object)
    elif what in ("empty tract", "other visit"):
        for columns in case.odd.values():
            columns[99] = {
                c: v[: 0 if what == "empty tract" else None].copy() for c, v in columns[tract].items()
            }
        case.odd["sources"][99]["visit"][:] = VISIT + 5
        case.odd["fgcm"].pop(99)
    case.odd[name][tract] = {c: v[rows] for c, v in table.items()}


def add_gaps(case: Case, rng: np.random.Generator) -> None:
    """Take magnitudes or positions away, in the tidy tables as well."""
    tract = int(rng.choice(list(case.tidy["fgcm"])))
    column = str(rng.choice(list(case.tidy["fgcm"][tract])))
    values = case.tidy["fgcm"][tract][column]
    if len(values):
        gap = rng.random(len(values)) < 0.4
        values[gap] = np.nan
        case.changes.append(f"gaps in {column}")


def change_form(case: Case, rng: np.random.Generator) -> None:
    """Give one column another type."""
    name = str(rng.choice(list(case.odd)))
    tract = int(rng.choice(list(case.odd[name])))
    column = str(rng.choice(list(case.odd[name][tract])))
    values = case.odd[name][tract][column]
    # Once only: from floats there's no way back to ids.
    dtype = np.float64 if name == "fgcm" else np.int64
    if type(values) is not np.ndarray or values.dtype != dtype or values.ndim != 1:
        return
    forms = NUMBER_FORMS if name == "fgcm" else KEY_FORMS
    form = str(rng.choice(list(forms)))
    if form == "float32" and np.any(values.astype(np.float32) != values):
        form = "float64"
    case.odd[name][tract][column] = forms[form](values)
    case.changes.append(f"{name} {tract} {column} as {form}")


def add_null(case: Case, rng: np.random.Generator) -> None:
    """Take away one value of a key."""
    name = str(rng.choice(["stars", "sources"]))
    tract = int(rng.choice(list(case.odd[name])))
    column = str(rng.choice(list(case.odd[name][tract])))
    values = case.odd[name][tract][column]
    if type(values) is not np.ndarray or values.dtype != np.int64 or not len(values) or values.ndim != 1:
        return
    mask = np.arange(len(values)) == rng.integers(len(values))
    form = str(rng.choice(["masked", "arrow", "pandas Int64", "None", "NaN"]))
    case.odd[name][tract][column] = {
        "masked": lambda: MaskedColumn(values, mask=mask),
        "arrow": lambda: pa.array(values, mask=mask),
        "pandas Int64": lambda: pd.array(np.where(mask, None, values), dtype="Int64"),
        "None": lambda: np.where(mask, None, values),
        "NaN": lambda: np.where(mask, np.nan, values),
    }[form]()
    case.changes.append(f"{name} {tract} {column} with a null, {form}")


def make_case(rng: np.random.Generator) -> Case:
    """Make tidy tables and an odd version of them."""
    case = Case(tidy_tables(rng), prepared=bool(rng.integers(2)))
    if rng.random() < 0.5:
        add_gaps(case, rng)
    case.odd = {n: {t: dict(c) for t, c in tables.items()} for n, tables in case.tidy.items()}
    change_rows(case, rng)
    for _ in range(rng.integers(0, 4)):
        change_form(case, rng)
    if rng.random() < 0.2:
        add_null(case, rng)
    for name, tables in case.odd.items():
        for tract, columns in tables.items():
            kind, tables[tract] = contain(columns, rng)
            case.changes.append(f"{name} {tract} in {kind}")
    return case


def isolated_sources(tables: Tables, prepared: bool) -> Table | None:
    """Return the isolated sources of a detector, read in either way."""
    reserve = ReserveIsolatedStarsTask(config=ReserveIsolatedStarsConfig(reserve_fraction=0.3))
    options: dict[str, Any] = {"id_column": "sourceId", "reserve": reserve, "visit": VISIT}
    pair = tables["stars"], tables["sources"]
    if not prepared:
        return concat_isolated_star_cats("r", *pair, detector=DETECTOR, star_columns=(), **options)[1]
    table = prepare_isolated_stars("r", *pair, **options)
    stars = None if table is None else read_prepared_stars(table, "r", detector=DETECTOR, **options)
    return None if stars is None else stars.sources


def outcome(tables: Tables, prepared: bool = False) -> dict[str, np.ndarray]:
    """Return what the package takes from tables, sorted by source."""
    sources = isolated_sources(tables, prepared)
    result: dict[str, np.ndarray] = {}
    if sources is not None:
        ids, rows = np.unique(np.asarray(sources["sourceId"]), return_index=True)
        result = {"id": ids, "reserved": np.asarray(sources["reserved"])[rows]}
    fgcm = read_fgcm_standard_stars(tables["fgcm"], BANDS)
    ra, dec = (
        g.ravel() for g in np.meshgrid(np.deg2rad(32 + np.arange(41) / 32), np.deg2rad(np.arange(20) / 4))
    )
    for band, magnitude in fgcm_magnitudes(ra, dec, fgcm, BANDS).items():
        result[f"mag_{band}"] = magnitude
    result["color"], result["color_type"] = psf_colors(ra, dec, fgcm, "g-i")
    return result


def judge(case: Case) -> str:
    """Return "same", "refused" or what is wrong."""
    expected = outcome(case.tidy)
    try:
        got = outcome(case.odd, prepared=case.prepared)
    except (KeyError, ValueError) as error:
        message = str(error)
        changed = [c for c in case.changes if " as " in c or " with a null" in c]
        # The message must name a table and column that was changed.
        named = any(f"of tract {c.split()[1]}" in message and c.split()[2] in message for c in changed)
        unread = any(f"of tract {c.split()[1]} can't be read" in message for c in changed)
        return "refused" if named or unread else f"unclear error: {type(error).__name__}: {message}"
    except Exception as error:  # any other is a finding
        return f"obscure error: {type(error).__name__}: {error}"
    if got.keys() != expected.keys():
        return f"other results: {sorted(got)}"
    different = [
        n for n in got if not np.array_equal(got[n], expected[n], equal_nan=got[n].dtype.kind == "f")
    ]
    return f"other values of {different}" if different else "same"


def main() -> int:
    """Run the cases and tell about those that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; the others follow")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    verdicts: collections.Counter[str] = collections.Counter()
    for seed in range(args.seed, args.seed + args.cases):
        case = make_case(np.random.default_rng(seed))
        verdict = judge(case)
        verdicts[verdict if verdict in ("same", "refused") else "wrong"] += 1
        if verdict not in ("same", "refused"):
            print(f"seed {seed}: {verdict}\n    {'; '.join(case.changes)}")
    print(f"{args.cases} cases: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items())))
    return int(verdicts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
