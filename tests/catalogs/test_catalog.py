# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of columns by their names, and of catalogues as tables."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.finalize.catalogs import Schema, SourceCatalog


def test_a_table_has_true_names_units_and_descriptions() -> None:
    """Copy the columns of all fields, none of the aliases."""
    schema = Schema.source_minimal()
    schema.add_field("flux_instFlux", "D", doc="A flux.", unit="count")
    schema.add_field("odd", "F", doc="Of a unit that astropy doesn't know.", unit="furlong^x")
    schema.add_flag("flux_flag", doc="Bad?")
    schema.set_alias("slot_PsfFlux", "flux")
    catalog = SourceCatalog(schema, 3)
    catalog["slot_PsfFlux_instFlux"] = [1.0, 2.0, np.nan]
    catalog["flux_flag"] = [False, False, True]
    table = catalog.to_astropy()
    assert table.colnames == list(schema.names)
    np.testing.assert_array_equal(table["flux_instFlux"], [1.0, 2.0, np.nan])
    assert table["flux_instFlux"].unit == "ct"
    assert table["flux_instFlux"].description == "A flux."
    assert str(table["odd"].unit) == "furlong^x"
    assert table["flux_flag"].dtype == bool
    table["flux_instFlux"][0] = 5.0
    assert catalog["flux_instFlux"][0] == 1.0


def test_rows_are_no_objects() -> None:
    """Say what to do instead of asking for one, or for each of them."""
    catalog = SourceCatalog(Schema.source_minimal(), 3)
    for ask in (lambda: catalog[2], lambda: catalog.take(np.int64(2)), lambda: list(catalog)):
        with pytest.raises(
            TypeError, match=r"A row of a SourceCatalog is no object: .*catalog\[[02]:[02] \+ 1\]"
        ):
            ask()
    assert len(catalog[2:3]) == len(catalog[[2]]) == 1


def test_slots_come_and_go() -> None:
    """Find the prefix behind a slot while there is one."""
    schema = Schema.source_minimal()
    schema.set_alias("slot_Shape", "some_Shape")
    catalog = SourceCatalog(schema, 1)
    assert catalog.get_slot("Shape") == "some_Shape"
    schema.drop_alias("slot_Shape")
    schema.drop_alias("slot_Shape")
    assert catalog.get_slot("Shape") is None
