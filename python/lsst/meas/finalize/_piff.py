# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Piff, imported without the Gaussian processes and statistics that few models
need.

Piff imports treegp for its ``GaussianProcess``, and treegp scikit-learn,
pandas and TreeCorr, which takes longer than all the rest of Piff.  With the
`importlib.util.LazyLoader` of the standard library treegp runs when something
of it is first used: it is the same module then, for everybody who imports it.
``scipy.stats`` waits until one of Piff's outlier handlers uses it.
"""

from __future__ import annotations

__all__ = ("piff",)

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from ._deferred_names import names_when_used


class _LazyFinder(MetaPathFinder):
    """Finds one module, which runs when it is first used.

    Parameters
    ----------
    name
        Name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        # What isn't there, or is found otherwise, is left to other finders.
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = importlib.util.LazyLoader(spec.loader)  # type: ignore[arg-type]
        return spec


@contextmanager
def _run_when_used(name: str) -> Iterator[None]:
    """Let a module run when it is used, if it is imported in this context."""
    finder = _LazyFinder(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


names_when_used("piff.outliers", "scipy.stats")
with _run_when_used("treegp"):
    import piff
