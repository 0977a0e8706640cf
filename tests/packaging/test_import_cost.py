# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
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


PIFF = """
import sys
from lsst.meas.finalize._piff import piff
print(*sys.modules)
assert "_LazyFinder" not in {type(finder).__name__ for finder in sys.meta_path}
import treegp
assert treegp is piff.gp_interp.treegp
piff.GaussianProcess(kernel="0.1 * VonKarman(length_scale=2)")
assert "sklearn" in sys.modules
assert isinstance(treegp.VonKarman, type)
"""


def test_piff_comes_without_gaussian_processes() -> None:
    """Import treegp when a Gaussian process is made, and no sooner."""
    result = subprocess.run([sys.executable, "-c", PIFF], capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr
    modules = set(result.stdout.split())
    assert {"piff", "treegp"} <= modules
    assert not {"sklearn", "pandas", "treecorr", "treegp.kernels"} & modules


def test_treegp_of_the_user_is_left_alone() -> None:
    """Take treegp as it is if it has been imported before."""
    code = (
        "import treegp, types; kernel = treegp.VonKarman;"
        "from lsst.meas.finalize._piff import piff;"
        "assert piff.gp_interp.treegp is treegp and treegp.VonKarman is kernel;"
        "assert type(treegp) is types.ModuleType"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr
