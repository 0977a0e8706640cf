# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lsst.meas.finalize
import lsst.meas.finalize._stored_names as stored_names
from lsst.meas.finalize.measure import catalog_calculation_registry, plugin_registry
from lsst.pex.config import Config, Field
from lsst.pipe.base import Task
from lsst.pipe.tasks import finalizeCharacterization

_ROOT = Path(__file__).parents[2]
_DUMPS = sorted((_ROOT / "tests" / "data" / "config_dumps").glob("*/*.py"))
_EXAMPLES = _ROOT / "doc" / "lsst.meas.finalize" / "examples"
_PRIVATE = re.compile(r"lsst(\.\w+)*\._\w+")


def _config_class(path: Path) -> type[Config]:
    name = path.name.removesuffix("_config.py")
    return getattr(finalizeCharacterization, f"{name[0].upper()}{name[1:]}Config")


def test_caches_of_finders_can_be_invalidated() -> None:
    """Call what programs call that have written a module."""
    importlib.invalidate_caches()


@pytest.mark.parametrize("path", _DUMPS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_stored_configs_load(path: Path) -> None:
    """Dumps load in a new process, whatever modules they name."""
    code = f"""
import importlib, re
from pathlib import Path
path = Path({str(path)!r})
text = path.read_text()
# As the butler's formatter does: the first line tells the class.
module, name = re.search(r"^import ([\\w.]+)\\nassert type\\(config\\) is \\1\\.(\\w+),", text, re.M).groups()
config = getattr(importlib.import_module(module), name)()
config.loadFromString(text, filename=str(path))
config.validate()
print(config.saveToString())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The same options, but for those that were added since.
    config = _config_class(path)()
    config.loadFromString(done.stdout)
    lines = set(config.saveToString().splitlines())
    options = [line for line in path.read_text().splitlines() if re.match(r"config[.\[]", line)]
    assert len(options) >= 5
    assert set(options) <= lines


@pytest.mark.parametrize("path", _DUMPS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_read_without_the_package(path: Path) -> None:
    """The documented way needs neither this package nor pex_config."""
    code = f"""
import sys
sys.path = [p for p in sys.path if "site-packages" not in p] + [{str(_EXAMPLES)!r}]
from pathlib import Path
from read_config import read_config
options = read_config(Path({str(path)!r}).read_text())
assert not any(name.split(".")[0] == "lsst" for name in sys.modules)
print(options["connections.src"] if "connections.src" in options else "none", len(options))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    source, number = done.stdout.split()
    assert source in ("src", "none")
    assert int(number) >= 5


def test_butler_reads_dumps(tmp_path: Path) -> None:
    """The formatter of configurations finds the class by the public path."""
    from lsst.daf.butler import Butler, DatasetType

    butler = Butler.from_config(Butler.makeRepo(tmp_path), writeable=True, run="run")
    butler.registry.registerDatasetType(
        DatasetType("detector_config", {}, "Config", universe=butler.dimensions)
    )
    config = finalizeCharacterization.FinalizeCharacterizationDetectorConfig()
    config.psf_determiner["piff"].spatialOrder = 3
    butler.put(config, "detector_config")
    assert butler.get("detector_config").compare(config)
    # Where the package isn't installed the text is still there.
    site = sysconfig.get_path("purelib")
    code = f"""
import sys
sys.path += [{site!r}, {str(_EXAMPLES)!r}]
from lsst.daf.butler import Butler
from read_config import read_config
butler = Butler.from_config({str(tmp_path)!r}, collections="run")
try:
    butler.get("detector_config")
except Exception:
    text = butler.getURI("detector_config").read().decode()
    print(read_config(text)["psf_determiner['piff'].spatialOrder"])
"""
    # Without the site module there are no editable installations.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "3"


def _stored_classes() -> Iterator[type]:
    """Yield all classes of the package that can get stored."""
    for info in pkgutil.walk_packages(lsst.meas.finalize.__path__, "lsst.meas.finalize."):
        if "._stack_names" in info.name:
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, Config | Task):
                yield value
    for registry in (plugin_registry, catalog_calculation_registry):
        yield from registry.values()


def test_stored_classes_have_public_homes() -> None:
    """Dumps and pickles name modules that stay, and find the class there."""
    ours = {
        cls
        for cls in _stored_classes()
        if cls.__module__.startswith(("lsst.meas.finalize", "lsst.pipe.tasks"))
    }
    assert len(ours) > 100
    for cls in ours:
        assert not re.search(r"\._", cls.__module__), cls
        assert getattr(importlib.import_module(cls.__module__), cls.__qualname__) is cls
        assert pickle.loads(pickle.dumps(cls)) is cls


def test_upstream_homes() -> None:
    """Tasks that upstream has are at home where upstream has them."""
    for name in ("FinalizeCharacterizationTask", "FinalizeCharacterizationDetectorConfig"):
        cls = getattr(finalizeCharacterization, name)
        assert cls.__module__ == "lsst.pipe.tasks.finalizeCharacterization"
    text = finalizeCharacterization.FinalizeCharacterizationDetectorConfig().saveToString()
    assert not _PRIVATE.search(text)
    assert "import lsst.pipe.tasks.reserveIsolatedStars\n" in text


def test_foreign_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the stack's own isn't the home of our classes."""
    assert stored_names._is_ours("lsst.pipe.tasks.finalizeCharacterization")
    # Provided by another package.
    assert not stored_names._is_ours("lsst.pipe.base.config")
    assert not stored_names._is_ours("lsst.pipe.nothing.config")

    class Local(Config):
        option = Field[int](doc="An option.", default=1)

    Local.__module__, Local.__qualname__ = "somewhere._private", "Local"
    namespace: dict[str, Any] = {"Local": Local}
    stored_names.publish("somewhere", namespace, upstream={"lsst.pipe.base.config": ["Local"]})
    assert Local.__module__ == "somewhere"


def test_source_of_published_classes() -> None:
    """Methods have their sources; classes never have those of others."""
    cls = finalizeCharacterization.FinalizeCharacterizationDetectorTask
    assert "def runQuantum" in inspect.getsource(cls.runQuantum)
    assert inspect.getdoc(cls)
    with pytest.raises(OSError, match="source code not available|could not find class definition"):
        inspect.getsource(cls)


def test_old_modules() -> None:
    """Only names that were once stored are found again."""
    for module, home in stored_names.OLD_MODULES.items():
        assert importlib.import_module(module)
        assert importlib.import_module(home)
    aperture = importlib.import_module("lsst.meas.finalize.measure._aperture")
    measure = importlib.import_module("lsst.meas.finalize.measure")
    assert aperture.CircularApertureFluxConfig is measure.CircularApertureFluxConfig
    assert not hasattr(aperture, "nonsense")
    with pytest.raises(ModuleNotFoundError, match="measure._nonsense"):
        importlib.import_module("lsst.meas.finalize.measure._nonsense")
