# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Progress bars on terminals, and nothing in logs."""

from __future__ import annotations

__all__ = ("progress_bar",)

import multiprocessing
import sys
from contextlib import AbstractContextManager
from typing import Any

from lsst.daf.butler.progress import Progress

_NAME = __name__.rpartition(".")[0]


def progress_bar(description: str, total: int) -> AbstractContextManager[Any]:
    """Show how much is done, if somebody is looking.

    Parameters
    ----------
    description
        What is going on.
    total
        Number of steps.

    Returns
    -------
    `contextlib.AbstractContextManager`
        Gives an object whose ``update(n)`` tells that n more steps are done.
        It is a bar on standard error if that is a terminal, and what the
        application wants if it has set a handler of
        `lsst.daf.butler.progress.Progress`; else nothing is shown.
    """
    progress = Progress(_NAME)
    # Of processes that share a terminal only the first may draw.
    alone = multiprocessing.parent_process() is None
    if not progress.is_enabled() and total > 1 and alone and sys.stderr.isatty():
        import click

        return click.progressbar(length=total, label=description, file=sys.stderr)
    return progress.bar(total=total, desc=description)
