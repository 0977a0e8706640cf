# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Work on several detectors at once, with results in order."""

from __future__ import annotations

__all__: tuple[str, ...] = ()

import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from lsst.pipe.base import TaskMetadata

_METADATA: contextvars.ContextVar[TaskMetadata | None] = contextvars.ContextVar("metadata", default=None)


def metadata_or(shared: TaskMetadata) -> TaskMetadata:
    """Return the metadata to write to: those of `own_metadata`, if within.

    Parameters
    ----------
    shared
        The task's, to be used otherwise.
    """
    own = _METADATA.get()
    return shared if own is None else own


@contextlib.contextmanager
def own_metadata() -> Iterator[TaskMetadata]:
    """Keep the metadata of a detector apart from those of others."""
    own = TaskMetadata()
    token = _METADATA.set(own)
    try:
        yield own
    finally:
        _METADATA.reset(token)


def map_in_order[S, T](function: Callable[[S], T], items: Iterable[S], n_threads: int) -> Generator[T]:
    """Call a function with items, several at once; yield results in order.

    Parameters
    ----------
    function
        What to call; with several threads it must not change what calls
        share.  It has the context variables of the caller, which NumPy's
        error state is one of.
    items
        Its arguments; iterated over in the thread of the caller, so that
        what makes them needs no protection.  While one is made, not more
        than ``n_threads`` others are in use.
    n_threads
        How many calls there may be at once; 1 makes them in the thread of
        the caller, each when its result is asked for.

    Yields
    ------
    result
        Result of each call, in the order of the items.

    Raises
    ------
    Exception
        Raised if a call or an item does, after the results of the items
        before it; calls that haven't begun are left out then.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads, thread_name_prefix="detector") as pool:
        ordered: deque[Future[T]] = deque()
        try:
            for item in items:
                ordered.append(pool.submit(contextvars.copy_context().run, function, item))
                # The next one is made while this one is still in use.
                del item
                _wait_for_room(ordered, n_threads)
                while ordered and ordered[0].done():
                    yield ordered.popleft().result()
            while ordered:
                yield ordered.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _wait_for_room(futures: Iterable[Future[Any]], limit: int) -> None:
    """Wait until not more than a number of calls are left to be done."""
    while len(left := [future for future in futures if not future.done()]) > limit:
        wait(left, return_when=FIRST_COMPLETED)
