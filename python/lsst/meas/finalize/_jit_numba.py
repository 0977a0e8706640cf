# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The decorator of all compiled kernels, and where their code is kept.

Numba looks for compiled code in one folder only, and only in one that it can
write to.  Here code beside the modules is used even if that folder is
read-only (a container, another user's installation), and what isn't there,
for example for another kind of processor, is compiled once and kept where the
user may write.
"""

from __future__ import annotations

__all__ = ("cache_folders", "njit", "writable_cache_folder")

import functools
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ._collection import collection_paused

with collection_paused():
    import numba
    from numba.core.caching import CompileResultCacheImpl, FunctionCache
    from numba.core.runtime import rtsys

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)
_PACKAGE = Path(__file__).parent


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel when it is first called.

    Compiled kernels release the interpreter's lock and are cached.

    Parameters
    ----------
    **options
        Options of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # What the option cache=True does, with our choice of folder.
        dispatcher._cache = _LayeredCache(function)
        return dispatcher

    return decorate


def cache_folders(source: Path) -> list[Path]:
    """Return where compiled code of a module may be, in order of preference.

    Parameters
    ----------
    source
        File of the module.

    Returns
    -------
    folders
        Beside the module, in ``NUMBA_CACHE_DIR`` if that is set, and in a
        folder that is the user's own, if there can be one.
    """
    folders = [source.parent / "__pycache__"]
    # Installations in different places don't share what they write.
    name = f"{source.parent.name}_{hashlib.sha256(bytes(source.parent)).hexdigest()[:32]}"
    if chosen := _chosen_folder():
        folders.append(Path(chosen, name))
    private = _private_folder()
    if private is not None:
        folders.append(private / name)
    return folders


def writable_cache_folder(source: Path) -> Path | None:
    """Return where compiled code of a module is kept.

    Parameters
    ----------
    source
        File of the module.

    Returns
    -------
    folder
        ``NUMBA_CACHE_DIR`` if that is set, else beside the module, else the
        user's own folder: the first that can be written to; `None` if there
        is none.
    """
    return next(_writable_folders(source), None)


def _writable_folders(source: Path) -> Iterator[Path]:
    """Yield folders that can be written to, in order of preference."""
    beside, *others = cache_folders(source)
    candidates = [*others[:1], beside, *others[1:]] if _chosen_folder() else [beside, *others]
    return filter(_is_writable, candidates)


def _chosen_folder() -> str:
    """Return ``NUMBA_CACHE_DIR``, empty if not set."""
    return getattr(numba.config, "CACHE_DIR", "")


@functools.cache
def _is_writable(folder: Path, mode: int = 0o777) -> bool:
    """Make a folder if need be, and tell whether files can be put there."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@functools.cache
def _private_folder() -> Path | None:
    """Return a folder for caches that only this user can write to."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folders = [Path(home, "lsst-meas-finalize", "numba")]
    # Where no temporary file can be put anywhere, that is an error.
    with suppress(OSError):
        folders.append(Path(tempfile.gettempdir(), f"lsst-meas-finalize-{user}"))
    for folder in folders:
        if folder.is_absolute() and _is_writable(folder, 0o700) and _is_own(folder):
            return folder
    return None


def _is_own(folder: Path) -> bool:
    """Tell whether nobody else can put code into a folder."""
    found = folder.lstat()
    return not hasattr(os, "getuid") or (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    )


@functools.cache
def _source_stamp() -> str:
    """Return a digest of all kernels, as they are compiled into each other."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*_numba.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Locator:
    """Puts the compiled code of a function into a given folder."""

    def __init__(self, folder: Path, lineno: int = 0) -> None:
        self._folder = folder
        self._lineno = lineno

    def from_function(self, py_func: Any, py_file: str) -> _Locator:
        return _Locator(self._folder, py_func.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _source_stamp()

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    def ensure_cache_path(self) -> None:
        """Do nothing: folders to write to have been tried."""


class _CacheImpl(CompileResultCacheImpl):
    def __init__(self, py_func: Any, *, folder: Path) -> None:
        # Numba calls nothing of these but from_function.
        self._locator_classes = [_Locator(folder)]  # type: ignore[list-item]
        super().__init__(py_func)


class _FolderCache(FunctionCache):
    """Compiled code of a function in one folder."""

    def __init__(self, py_func: Any, folder: Path) -> None:
        self._impl_class = functools.partial(_CacheImpl, folder=folder)  # type: ignore[assignment]
        super().__init__(py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for a signature, `None` if not there.

        Numba's own method first imports all that is needed for compiling,
        which takes longer than loading all kernels of a detector; compiled
        code needs nothing but the runtime's functions.
        """
        rtsys.initialize(target_context)
        loaded = None
        # Errors that it guards against leave this as it is.
        with self._guard_against_spurious_io_errors():
            loaded = self._load_overload(sig, target_context)
        return loaded


class _LayeredCache:
    """Compiled code of a function in the first folder that has it.

    It has the methods of numba's own caches.
    """

    def __init__(self, py_func: Any) -> None:
        self._py_func = py_func
        self._source = Path(py_func.__code__.co_filename)
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        folder = writable_cache_folder(self._source)
        return None if folder is None else str(folder)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        folder = writable_cache_folder(self._source)
        if folder is not None:
            with _locked(folder):
                _FolderCache(self._py_func, folder).flush()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for a signature, `None` if not there."""
        if not self._enabled:
            return None
        for folder in cache_folders(self._source):
            try:
                found = _FolderCache(self._py_func, folder).load_overload(sig, target_context)
            except Exception:
                # A damaged cache must not keep anybody from measuring.
                _LOG.debug("Compiled code in %s cannot be used.", folder, exc_info=True)
                continue
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code for a signature, if that is possible."""
        if not self._enabled:
            return
        # Files in a folder that can be written to may still be those of
        # another user.
        for folder in _writable_folders(self._source):
            try:
                with _locked(folder):
                    self._save(sig, data, folder)
                return
            except Exception:
                _LOG.debug("Compiled code could not be written to %s.", folder, exc_info=True)
        _warn_once()

    def _save(self, sig: Any, data: Any, folder: Path) -> None:
        """Keep the compiled code in a folder that no other process changes."""
        cache = _FolderCache(self._py_func, folder)
        try:
            cache.save_overload(sig, data)
        except OSError:
            raise
        except Exception:
            # The index is damaged, for which unpickling raises various
            # things; a new one is begun.
            cache.flush()
            cache.save_overload(sig, data)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the index files of a folder."""
    with open(folder / "numba.lock", "ab") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def _warn_once() -> None:
    _LOG.warning(
        "There is no place to keep compiled code in, so every process compiles it anew: "
        "set NUMBA_CACHE_DIR to a folder that can be written to."
    )
