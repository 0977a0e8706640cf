# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Run one measurement plugin on files that the stack wrote."""

from __future__ import annotations

__all__ = ("measure_stars",)

from lsst.meas.finalize.afw import read_exposure, read_source_catalog
from lsst.meas.finalize.catalogs import SourceCatalog
from lsst.meas.finalize.measure import SingleFrameMeasurementConfig, SingleFrameMeasurementTask
from lsst.meas.finalize.psf import as_batch_psf


def measure_stars(calexp_path: str, src_path: str, plugin: str) -> SourceCatalog:
    """Return the sources of an image with a plugin's columns added."""
    exposure = read_exposure(calexp_path)
    src = read_source_catalog(src_path)
    config = SingleFrameMeasurementConfig()
    config.plugins.names = [plugin]
    # The slots stay what they are in the input.
    for slot in config.slots:
        setattr(config.slots, slot, None)
    schema = src.schema.copy()
    task = SingleFrameMeasurementTask(schema=schema, config=config)
    # Fields that are new start as NaN, 0 and False.
    catalog = SourceCatalog(schema, dict(src.columns), footprints=src.footprints)
    task.run(catalog, exposure, psf=as_batch_psf(exposure.psf))
    return catalog
