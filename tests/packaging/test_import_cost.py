# This file is part of meas_finalize.
#
# Developed for the LSST Data Management System.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of what is imported by processes that don't measure anything."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("galsim", "matplotlib", "numba", "pandas", "piff", "scipy.ndimage", "scipy.stats", "sklearn")
BUILD = """
import sys
from lsst.meas.finalize.catalogs import Schema
from lsst.pipe.base import Pipeline
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

pipeline = Pipeline.from_uri("resource://lsst.meas.finalize/pipelines/FinalizeCharacterization.yaml")
graph = pipeline.to_graph()
assert {"finalizeCharacterizationDetector", "analyzeFinalizedVisit"} <= set(graph.tasks)
config = FinalizeCharacterizationDetectorConfig()
config.validate()
schema = Schema.source_minimal()
schema.set_alias("slot_Centroid", "centroid")
config.measurement.apply(schema=schema)
print(*sys.modules)
"""


def test_building_a_pipeline_imports_nothing_heavy() -> None:
    """Load configs, build a graph, make plugins without compilers and fits."""
    result = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(result.stdout.split())
