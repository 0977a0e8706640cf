# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import pickle

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.tasks._output import OutputSchema, to_output_table

SELECTION = ("base_GaussianFlux_instFlux", "base_GaussianFlux_instFluxErr")


@pytest.fixture
def schema() -> Schema:
    """Return the schema of a small source catalogue."""
    schema = Schema.source_minimal()
    for name in ("x", "y"):
        schema.add_field(f"base_SdssCentroid_{name}", "D", unit="pixel")
    schema.add_flag("base_SdssCentroid_flag")
    schema.add_flag("base_SdssCentroid_flag_edge")
    schema.add_field("base_CircularApertureFlux_12_0_instFlux", "D", unit="count")
    schema.add_flag("base_CircularApertureFlux_12_0_flag")
    schema.add_field("base_Other_instFlux", "D", unit="count")
    schema.add_field("base_GaussianFlux_instFlux", "D", doc="flux", unit="count")
    schema.add_field("base_GaussianFlux_instFluxErr", "D", unit="count")
    schema.set_alias("slot_Centroid", "base_SdssCentroid")
    schema.set_alias("slot_ApFlux", "base_CircularApertureFlux_12_0")
    schema.set_alias("slot_CalibFlux", "base_Other")
    schema.set_alias("base_CircularApertureFlux_flag_badCentroid", "base_SdssCentroid_flag")
    return schema


def test_carried_fields_are_in_upstreams_order(schema: Schema) -> None:
    """Carry fields over by name, by alias and by slot (spec 01 §1.7 a)."""
    output = OutputSchema(schema, selection_fields=SELECTION)
    assert list(output.source_of) == [
        "id",
        "coord_ra",
        "coord_dec",
        "parent",
        "base_SdssCentroid_x",
        "base_SdssCentroid_y",
        "base_SdssCentroid_flag",
        "base_SdssCentroid_flag_edge",
        "base_CircularApertureFlux_12_0_instFlux",
        "base_CircularApertureFlux_12_0_flag",
        "base_Other_instFlux",
        "calib_psf_selection_flux",
        "calib_psf_selection_flux_err",
    ]
    assert output.schema["calib_psf_selection_flux"].doc == "flux"


def test_selection_flux_that_is_carried_is_renamed(schema: Schema) -> None:
    """Rename a carried field rather than have it twice, as upstream."""
    output = OutputSchema(
        schema, selection_fields=("base_CircularApertureFlux_12_0_instFlux", "base_GaussianFlux_instFluxErr")
    )
    assert "base_CircularApertureFlux_12_0_instFlux" not in output.schema.names
    assert output.source_of["calib_psf_selection_flux"] == "base_CircularApertureFlux_12_0_instFlux"
    names = list(output.source_of)
    assert names.index("calib_psf_selection_flux") < names.index("base_CircularApertureFlux_12_0_flag")


@pytest.mark.parametrize("slot", ["slot_Centroid", "slot_ApFlux", "slot_CalibFlux"])
def test_missing_slot_is_named(schema: Schema, slot: str) -> None:
    """Name a slot the source catalogue lacks."""
    schema.drop_alias(slot)
    with pytest.raises(KeyError, match=slot):
        OutputSchema(schema, selection_fields=SELECTION)


def test_missing_selection_column_is_named(schema: Schema) -> None:
    """Name a column the selector wants and the catalogue lacks."""
    with pytest.raises(KeyError, match=r"no field 'no_such_instFlux', which signalToNoise\.fluxField"):
        OutputSchema(schema, selection_fields=("no_such_instFlux", "base_GaussianFlux_instFluxErr"))


def test_aliases_become_columns(schema: Schema) -> None:
    """Repeat columns under their aliases, by string prefix (spec 01 §1.8)."""
    output = OutputSchema(schema, selection_fields=SELECTION)
    catalog = SourceCatalog(output.schema, 2)
    catalog["base_SdssCentroid_x"] = [1.0, 2.0]
    table = to_output_table(catalog)
    names = table.colnames
    assert names[names.index("base_SdssCentroid_flag_edge") + 1] == "slot_Centroid_flag_edge"
    assert names[names.index("base_SdssCentroid_x") + 1] == "slot_Centroid_x"
    np.testing.assert_array_equal(table["slot_Centroid_x"], [1.0, 2.0])
    assert table["psf_color_type"].dtype == np.dtype("U10")
    assert table["coord_ra"].unit.to_string() == "rad"


def test_table_knows_its_dtype(schema: Schema) -> None:
    """Follow every change of the columns in the remembered dtype."""
    table = to_output_table(SourceCatalog(OutputSchema(schema, selection_fields=None).schema, 3))
    plain = astropy.table.Table
    assert table.dtype == plain(table).dtype
    table.rename_column("visit", "other")
    assert table.dtype == plain(table).dtype
    assert "other" in table.dtype.names
    table["detector"] = table["detector"].astype("f4")
    assert table.dtype["detector"] == np.float32
    table.remove_column("other")
    table["new"] = np.arange(3)
    assert table.dtype == plain(table).dtype
    assert table[:2].dtype == astropy.table.vstack([table, table]).dtype == table.dtype


def test_table_is_what_astropy_makes_of_the_columns(schema: Schema) -> None:
    """Change, copy, stack and search the table like any other."""
    found = to_output_table(SourceCatalog(OutputSchema(schema, selection_fields=None).schema, 4))
    expected = astropy.table.Table([column.copy() for column in found.columns.values()])
    assert found.colnames == expected.colnames
    assert found.dtype == expected.dtype
    for table in (found, expected):
        table["id"] = [4, 3, 2, 1]
        table.add_column(np.arange(4), name="new")
        table.rename_column("coord_ra", "ra")
        table.sort("id")
        table.add_index("id")
        assert all(column.info.parent_table is table for column in table.columns.values())
        assert table.loc[2]["new"] == 2
    assert str(found.info) == str(expected.info).replace("<Table", "<WideTable")
    for copy in (pickle.loads(pickle.dumps(found)), found[:], astropy.table.vstack([found[:1], found[1:]])):
        assert (copy["ra"].unit, copy["id"].tolist()) == (found["ra"].unit, [1, 2, 3, 4])


def test_detectors_are_stacked_as_their_tables(schema: Schema) -> None:
    """Join catalogues as astropy stacks tables, metadata included."""
    output = OutputSchema(schema, selection_fields=SELECTION).schema
    catalogs = []
    for n in (2, 3, 1):
        catalog = SourceCatalog(output, n, metadata={"n": n, "list": [n], "same": "x"})
        catalog["base_SdssCentroid_x"] = np.arange(n) + n
        catalog["psf_color_type"] = "g-i"[:n]
        catalogs.append(catalog)
    expected = astropy.table.vstack(
        [to_output_table(c) for c in catalogs], join_type="exact", metadata_conflicts="silent"
    )
    table = to_output_table(*catalogs)
    assert type(table) is type(expected)
    assert table.meta == expected.meta == {"n": 1, "list": [2, 3, 1], "same": "x"}
    assert table.colnames == expected.colnames
    for name in table.colnames:
        found, wanted = table[name], expected[name]
        assert (found.dtype, found.unit, found.description) == (wanted.dtype, wanted.unit, wanted.description)
        assert found.tobytes() == wanted.tobytes()


def test_differing_detectors_are_refused(schema: Schema) -> None:
    """Raise for a field that one of the detectors lacks."""
    catalogs = [
        SourceCatalog(OutputSchema(schema, selection_fields=fields).schema, 2) for fields in (SELECTION, None)
    ]
    with pytest.raises(astropy.table.TableMergeError):
        to_output_table(*catalogs)
