# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tell which of the tasks a pipeline would run here, and with what.

Beside the stack, the order of folders on ``PYTHONPATH`` decides whether
``lsst.pipe.tasks.finalizeCharacterization`` is the module of this package or
the stack's.  The exit code is 0 if it is this package's and can run, else 1.

Usage: python -m lsst.meas.finalize.check
"""

from __future__ import annotations

__all__ = ("Findings", "inspect_environment", "main")

import dataclasses
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from .version import __version__

_ROOT = Path(__file__).resolve().parents[3]
_TASKS = ("lsst.pipe.tasks.finalizeCharacterization", "lsst.pipe.tasks.reserveIsolatedStars")
# Modules this package needs, and the distribution they are of.
_NEEDED = {
    "lsst.images": "lsst-images",
    "lsst.daf.butler": "lsst-daf-butler",
    "lsst.pipe.base": "lsst-pipe-base",
    "lsst.pex.config": "lsst-pex-config",
    "lsst.utils": "lsst-utils",
    "astro_metadata_translator": "astro-metadata-translator",
    "astropy": "astropy",
    "galsim": "GalSim",
    "numba": "numba",
    "numpy": "numpy",
    "piff": "Piff",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
}
_STACK = ("lsst.afw", "lsst.meas.base", "lsst.meas.algorithms", "lsst.obs.base", "astshim")


@dataclasses.dataclass
class Findings:
    """What was found.

    Attributes
    ----------
    facts
        What is there, by name, in the order to print.
    problems
        Why a pipeline wouldn't run this package's tasks, or fail.
    """

    facts: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def _origin(name: str) -> Path | None:
    """Return the file of a module, `None` if there is none."""
    try:
        spec = find_spec(name)
    except Exception:
        # A package above it can't be imported, for whatever reason.
        return None
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin)
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]) if folders else None


def _version(module: str, distribution: str) -> str:
    if module.startswith("lsst."):
        # Those of the stack are no distributions, or in front of them.
        try:
            return str(importlib.import_module(f"{module}.version").__version__)
        except Exception:
            pass
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _folders_with_tasks() -> Iterator[Path]:
    """Yield folders on the path that have a ``lsst.pipe.tasks``, in order."""
    for entry in dict.fromkeys(sys.path):
        folder = Path(entry or ".")
        if (folder / "lsst" / "pipe" / "tasks").is_dir():
            yield folder.resolve()


def _inspect_tasks(findings: Findings) -> None:
    others = [folder for folder in _folders_with_tasks() if folder != _ROOT]
    for name in _TASKS:
        expected = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
        found = _origin(name)
        findings.facts.append((name, str(found or "not found")))
        if found is None:
            findings.problems.append(f"{name} can't be found.")
        elif found.resolve() != expected:
            other = next((f for f in others if f in found.resolve().parents), found.parents[3])
            findings.problems.append(
                f"{name} is {found}, not that of this package, and pipelines would run that one. "
                f"Put {_ROOT} before {other} on PYTHONPATH."
            )
    if others:
        findings.facts.append(("other lsst.pipe.tasks", ", ".join(map(str, others))))


def _inspect_packages(findings: Findings) -> None:
    for module, distribution in _NEEDED.items():
        found = _origin(module)
        if found is None:
            findings.facts.append((module, "not found"))
            findings.problems.append(f"{module} can't be found; pip has it as {distribution}.")
        else:
            findings.facts.append((module, f"{_version(module, distribution)}, {found.parent}"))


def _inspect_stack(findings: Findings) -> None:
    found = {module: _origin(module) for module in _STACK}
    for module, origin in found.items():
        findings.facts.append((module, "not here" if origin is None else str(origin.parent)))
    is_on = any(getattr(finder, "__name__", "") == "StackNameFinder" for finder in sys.meta_path)
    findings.facts.append(("butler overlay", "on" if is_on else "off"))
    if found["lsst.afw"] is not None and is_on:
        findings.problems.append(
            "lsst.afw is here, but the butler overlay is on, so that butlers return other types than the "
            "stack's tasks expect. Set MEAS_FINALIZE_NO_OVERLAY=1 before Python starts."
        )
    if (
        found["lsst.afw"] is None
        and not is_on
        and os.environ.get("MEAS_FINALIZE_NO_OVERLAY", "0") in ("", "0")
    ):
        findings.problems.append(
            "lsst.afw isn't here and the butler overlay is off, so that butlers can't read the stack's "
            "datasets. Install with pip, or import lsst_meas_finalize_overlay."
        )
    if found["lsst.afw"] is None and found["astshim"] is None and _origin("starlink.Ast") is None:
        findings.problems.append("Neither astshim nor starlink.Ast can be found; pip has starlink-pyast.")


def _kernel_sources() -> list[Path]:
    """List the modules that have compiled code of their own to be kept."""
    # Kernels that are inlined are kept with those that call them.
    kept = re.compile(r"^@njit\((?!.*inline=)", re.MULTILINE)
    return [path for path in Path(__file__).parent.rglob("*_numba.py") if kept.search(path.read_text())]


def _inspect_use(findings: Findings) -> None:
    """Use what was found: import the tasks, look at libraries and caches."""
    try:
        from lsst.images._transforms import _ast

        library = "starlink-pyast" if _ast.USING_STARLINK_PYAST else "astshim"
        findings.facts.append(("AST library of lsst.images", library))
        from ._jit_numba import cache_folders

        sources = _kernel_sources()
        compiled = sum(
            any(any(folder.glob(f"{path.stem}.*.nbi")) for folder in cache_folders(path)) for path in sources
        )
        note = "" if compiled == len(sources) else "; python -m lsst.meas.finalize.precompile compiles them"
        findings.facts.append(("compiled kernels", f"of {compiled} modules out of {len(sources)}{note}"))
        config = importlib.import_module(_TASKS[0]).FinalizeCharacterizationDetectorConfig()
        config.validate()
    except Exception as error:
        findings.problems.append(f"The tasks can't be used: {type(error).__name__}: {error}")


def inspect_environment() -> Findings:
    """Find out what this Python would run, and with what.

    Returns
    -------
    findings : `Findings`
        Facts and problems.
    """
    findings = Findings()
    findings.facts.append(("lsst.meas.finalize", f"{__version__}, {Path(__file__).parent}"))
    findings.facts.append(("python", f"{sys.version.split()[0]}, {sys.executable}"))
    _inspect_tasks(findings)
    _inspect_packages(findings)
    _inspect_stack(findings)
    _inspect_use(findings)
    return findings


def main() -> int:
    """Print facts and problems.

    Returns
    -------
    `int`
        Exit code.
    """
    findings = inspect_environment()
    width = max(len(name) for name, _ in findings.facts)
    for name, value in findings.facts:
        print(f"{name:{width}}  {value}")
    print()
    for problem in findings.problems:
        print(f"PROBLEM: {problem}")
    if not findings.problems:
        print("Pipelines run the tasks of this package.")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
