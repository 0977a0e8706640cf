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

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

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


TASKS = """
import sys
import astropy.table, lsst.pipe.base, numpy
before = set(sys.modules)
from lsst.pipe.tasks.finalizeCharacterization import *
FinalizeCharacterizationDetectorConfig().validate()
print(*set(sys.modules) - before)
"""
MERGING = """
import astropy.units
from lsst.meas.finalize.butler import table_to_arrow
from lsst.meas.finalize.tasks._merged_table import _concatenate

columns = {"detector": numpy.arange(3), "t": ["a", "", "c"], "x": numpy.ones(3), "f": numpy.ones(3, bool)}
table = astropy.table.Table(columns)
table["x"].unit = astropy.units.nJy
table = table_to_arrow(table)
metadata = {key: value for key, value in table.schema.metadata.items() if key != b"table_meta_yaml"}
table = table.replace_schema_metadata(metadata)
merged = _concatenate([(0, table), (1, table)], 2)
assert merged["t"].tolist() == ["a", "", "c"] * 2
assert merged["x"].unit == astropy.units.nJy
table_to_arrow(merged)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def imported_by_tasks() -> list[set[str]]:
    """Return what importing the tasks imports, and all that is imported when
    tables have been merged then; a process takes seconds.
    """
    result = subprocess.run(
        [sys.executable, "-c", TASKS + MERGING], capture_output=True, text=True, check=True
    )
    return [set(line.split()) for line in result.stdout.splitlines()]


def test_tables_are_merged_without_pandas(imported_by_tasks: list[set[str]]) -> None:
    """Merge in a process that doesn't need pandas."""
    _, modules = imported_by_tasks
    assert "pyarrow" in modules
    assert "pandas" not in modules


def test_tasks_import_nothing_but_this_package(imported_by_tasks: list[set[str]]) -> None:
    """Import the tasks with nothing that pipe_base hasn't imported, and
    without the codecs and fits that run with data.
    """
    imported, _ = imported_by_tasks
    assert {"lsst.meas.finalize.tasks", "lsst.meas.finalize.measure.cmodel"} <= imported
    assert {name for name in imported if not name.startswith(("lsst.meas", "lsst.pipe.tasks"))} == set()
    rooms = {".".join(name.split(".")[:5]) for name in imported}
    assert (
        not {f"lsst.meas.finalize.{room}" for room in ("afw.exposure", "afw.fits", "psf.structured")} & rooms
    )


LAZY_ROOMS = ("afw", "catalogs", "afw.border", "butler", "psf", "psf.hierarchical", "psf.structured")


@pytest.mark.parametrize("room", LAZY_ROOMS)
def test_lazy_rooms_have_what_they_say(room: str) -> None:
    """Find what type checkers are told to find, and nothing else."""
    module = importlib.import_module(f"lsst.meas.finalize.{room}")
    assert module.__file__ is not None
    told = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for source in node.body:
                assert isinstance(source, ast.ImportFrom)
                inner = importlib.import_module(f"{module.__name__}.{source.module}")
                names = [alias.name for alias in source.names]
                told |= set(inner.__all__ if names == ["*"] else names)
    assert told
    for name in told:
        assert getattr(module, name) is not None
        assert name in dir(module)
    lazy = set(inspect.getclosurevars(module.__getattr__).nonlocals["module_of"])
    assert lazy == told
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


WATCH = """
import sys
from lsst.meas.finalize._lazy import when_imported
seen = []
when_imported("colorsys", lambda: seen.append(hasattr(sys.modules["colorsys"], "rgb_to_hsv")))
assert not seen
import colorsys
assert seen == [True] and colorsys.__loader__ is colorsys.__spec__.loader
assert type(colorsys.__loader__).__name__ == "SourceFileLoader"
when_imported("colorsys", lambda: seen.append("at once"))
assert seen == [True, "at once"]
assert "colorsys" not in {getattr(finder, "_module", None) for finder in sys.meta_path}
when_imported("lsst.images.psfs._piff", lambda: seen.append(2))
when_imported("lsst.images.psfs._piff", lambda: seen.append(3))
import lsst.images
assert sorted(seen[2:]) == [2, 3]
"""


def test_watched_modules() -> None:
    """Act when a module has run, or at once, and leave no trace."""
    result = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr


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
    assert not {"sklearn", "pandas", "scipy.stats", "treecorr", "treegp.kernels"} & modules


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


SPLINE = """
import sys
import lsst.meas.finalize.afw.exposure
from lsst.images.fields import _spline
assert "scipy.interpolate" not in sys.modules
stand_in = _spline.Akima1DInterpolator
result = stand_in([0, 1, 2, 4], [0, 1, 4, 2])
from scipy.interpolate import Akima1DInterpolator
assert _spline.Akima1DInterpolator is Akima1DInterpolator is type(result)
assert isinstance(result, stand_in) and not isinstance(3, stand_in)
class Derived(stand_in): pass
assert Derived.__mro__[1] is Akima1DInterpolator
"""
OUTLIERS = """
import sys
from lsst.meas.finalize._piff import piff
assert "scipy.stats" not in sys.modules
stand_in = piff.outliers.chi2
assert not hasattr(stand_in, "nonsense")
threshold = piff.ChisqOutliers(prob=0.01)._get_thresh(3)
import scipy.stats
assert piff.outliers.chi2 is scipy.stats.chi2 is not stand_in
assert threshold == scipy.stats.chi2.isf(0.01, 3) == stand_in.isf(0.01, 3)
"""
STATISTICS_OF_THE_USER = """
import scipy.stats, types
chi2 = scipy.stats.chi2
from lsst.meas.finalize._piff import piff
assert piff.outliers.chi2 is chi2 and type(scipy.stats) is types.ModuleType
"""
PIFF_OF_THE_USER = """
import piff, scipy.stats
import lsst.meas.finalize._piff
assert piff.outliers.chi2 is scipy.stats.chi2
"""


@pytest.mark.parametrize("code", [SPLINE, OUTLIERS, STATISTICS_OF_THE_USER, PIFF_OF_THE_USER])
def test_names_that_few_need_are_imported_when_used(code: str) -> None:
    """Import SciPy's statistics and interpolation when they are used, and
    leave alone what has been imported.
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr


def test_other_modules_get_no_stand_ins(tmp_path: Path) -> None:
    """Take the real names in all modules but the one that was named."""
    (tmp_path / "one.py").write_text("from colorsys import rgb_to_hsv")
    (tmp_path / "two.py").write_text("from colorsys import rgb_to_hsv")
    code = (
        "import sys; from lsst.meas.finalize._deferred_names import names_when_used as defer;"
        "defer('one', 'colorsys'); import one; assert 'colorsys' not in sys.modules;"
        "import two, colorsys; assert two.rgb_to_hsv is colorsys.rgb_to_hsv is not one.rgb_to_hsv;"
        "assert one.rgb_to_hsv(0, 0, 1) == two.rgb_to_hsv(0, 0, 1);"
        "assert one.rgb_to_hsv is two.rgb_to_hsv"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert not result.returncode, result.stderr


def test_imports_of_other_threads(tmp_path: Path) -> None:
    """Import a module, and what is in it, while a stand-in is in its place."""
    (tmp_path / "one.py").write_text(
        "import state\nfrom xml.dom import Node\nstate.begun.set()\nassert state.go_on.wait(20)"
    )
    (tmp_path / "state.py").write_text("import threading as t\nbegun, go_on = t.Event(), t.Event()")
    code = """
import sys, threading
import state
from lsst.meas.finalize._deferred_names import names_when_used
assert "xml.dom" not in sys.modules
names_when_used("one", "xml.dom")
thread = threading.Thread(target=__import__, args=("one",))
thread.start()
assert state.begun.wait(20)
import xml.dom.minicompat
from xml import dom
from xml.dom import Node
state.go_on.set()
thread.join()
import xml.dom.minidom
assert xml.dom.minidom.parseString("<a/>").documentElement.nodeType == Node.ELEMENT_NODE
assert dom.Node is sys.modules["xml.dom"].Node is xml.dom.Node
assert dom.__file__ == sys.modules["xml.dom"].__file__
assert issubclass(xml.dom.minidom.Node, dom.Node)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert not result.returncode, result.stderr


def test_imports_that_fail_at_first(tmp_path: Path) -> None:
    """Raise what the module raises, and act when it is imported later."""
    (tmp_path / "one.py").write_text("import sys\nif len(sys.argv) < 2: raise ImportError('not yet')\nx = 1")
    code = """
import sys
from lsst.meas.finalize._lazy import when_imported
seen = []
when_imported("one", lambda: seen.append(sys.modules["one"].x))
for _ in range(2):
    try:
        import one
    except ImportError as error:
        assert str(error) == "not yet" and not error.__context__
assert not seen
sys.argv.append("now")
import one
assert seen == [1]
assert "one" not in {getattr(finder, "_module", None) for finder in sys.meta_path}
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert not result.returncode, result.stderr
