# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from typing import Any

import astropy.table
import numpy as np
import pytest

from lsst.meas.finalize.catalogs import ExposureCatalog
from lsst.meas.finalize.quality import (
    MAP_BIN,
    VISIT_PLOTS,
    AnalyzeFinalizedVisitConfig,
    AnalyzeFinalizedVisitTask,
    MissingColumnsError,
    StarColumns,
    measure_residual_maps,
    size_residuals,
    star_table_columns,
)
from lsst.pipe.base import InMemoryDatasetHandle

from .conftest import make_stars


class CountingHandle:
    """A handle of a table that remembers which columns were read."""

    def __init__(self, table: astropy.table.Table) -> None:
        self.table = table
        self.read: list[str] = []

    def get(self, *, component: str | None = None, parameters: dict | None = None) -> Any:
        """Read column names, or columns."""
        if component == "columns":
            return list(self.table.colnames)
        assert parameters is not None
        self.read = list(parameters["columns"])
        return self.table[self.read]


def make_task(**options: Any) -> AnalyzeFinalizedVisitTask:
    """Make the task."""
    config = AnalyzeFinalizedVisitConfig()
    config.update(**options)
    return AnalyzeFinalizedVisitTask(config=config)


def test_only_useful_columns_are_read(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog
) -> None:
    """Leave the other columns of the table where they are."""
    handle = CountingHandle(visit_stars)
    outputs = make_task(doPlots=False).run(handle, visit_catalog, visit=77, instrument="Cam", band="r")
    assert {"id", "visit"} == set(visit_stars.colnames) - set(handle.read)
    assert handle.read == star_table_columns(visit_stars.colnames)
    assert np.all(outputs.finalized_visit_metrics["visit"] == 77)
    assert np.all(outputs.finalized_visit_rho["band"] == "r")
    assert "plotRho" not in outputs.getDict()


def test_options_reach_the_metrics(visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog) -> None:
    """Take limits, sampling and tolerance from the configuration."""
    task = make_task(doPlots=False, psfSampling=400, rhoPatches=0)
    task.config.limits.maxScaledSizeScatter = 1e-6
    outputs = task.run(visit_stars, visit_catalog, visit=77)
    assert set(outputs.finalized_visit_metrics["verdict"]) == {"fail"}
    rho = outputs.finalized_visit_rho
    assert set(rho["error_method"][rho["statistic"] == "rho1"]) == {"shot"}


@pytest.mark.parametrize("stars", ["all", "none", "no positions", "one", "nan", "infinite", "none reserved"])
def test_plots_are_drawn_of_anything(
    visit_stars: astropy.table.Table, visit_catalog: ExposureCatalog, stars: str
) -> None:
    """Draw all plots of whatever there is."""
    if stars == "none":
        visit_stars = visit_stars[:0]
    elif stars == "one":
        visit_stars = visit_stars[1:2]
        visit_catalog.psfs[0] = None
    elif stars in ("nan", "infinite"):
        for name in visit_stars.colnames:
            if visit_stars[name].dtype.kind == "f":
                visit_stars[name] = np.nan if stars == "nan" else np.inf
    elif stars == "none reserved":
        visit_stars["calib_psf_reserved"] = False
    elif stars == "no positions":
        visit_stars.remove_columns(["base_FPPosition_x", "coord_ra", "psf_color_value"])
    outputs = make_task().run(
        InMemoryDatasetHandle(visit_stars, storageClass="ArrowAstropy"),
        visit_catalog,
        visit=77,
        instrument="Cam$",
        band="r",
        collection="u/a_$b^{",
    )
    for name in VISIT_PLOTS[:-1]:
        figure = getattr(outputs, name)
        figure.canvas.draw()
        assert "Cam$ visit 77, r (u/a_$b^{)" in figure.get_suptitle()


def test_a_table_of_something_else_is_refused(visit_catalog: ExposureCatalog) -> None:
    """Name the columns that nothing works without."""
    table = astropy.table.Table({"x": [1.0]})
    handle = InMemoryDatasetHandle(table, storageClass="ArrowAstropy")
    with pytest.raises(MissingColumnsError, match="detector, calib_psf_used, calib_psf_reserved"):
        make_task().run(handle, visit_catalog, visit=1)


def test_connections_without_plots() -> None:
    """Have no outputs for plots that aren't drawn."""
    config = AnalyzeFinalizedVisitConfig()
    numbers = []
    for config.doPlots, config.doResidualStacks in ((True, True), (True, False), (False, True)):
        connections = config.connections.ConnectionsClass(config=config)
        numbers.append(len(connections.outputs))
        assert set(VISIT_PLOTS[:-1]) <= connections.outputs or not config.doPlots
        assert ("plotResidualStacks" in connections.outputs) == (len(numbers) == 1)
        assert ("calexps" in connections.inputs) == config.doResidualStacks
    assert numbers == [11, 10, 3]


def test_residual_maps_are_means_in_bins() -> None:
    """Average what is in a bin, by sample and detector."""
    stars = make_stars(np.random.default_rng(2))
    columns = StarColumns.from_table(stars)
    maps = measure_residual_maps(columns, visit=3, band="r")
    row = maps[(maps["sample"] == "used") & (maps["detector"] == 1) & (maps["i_x"] == 2) & (maps["i_y"] == 0)]
    inside = (columns.detector == 1) & columns.samples["used"]
    inside &= (columns.x // MAP_BIN == 2) & (columns.y // MAP_BIN == 0)
    assert row["n"][0] == inside.sum() > 0
    expected = size_residuals(columns.star, columns.psf)[inside].mean()
    assert row["deltaTOverT"][0] == pytest.approx(expected)
    assert maps["n"].sum() == len(stars)
    empty = measure_residual_maps(StarColumns.from_table(stars[:0]), visit=3)
    assert len(empty) == 0
    assert empty["sample"].dtype.kind == "U"
