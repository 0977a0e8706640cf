import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)


def __getattr__(name: str) -> str:
    """Return the version: that of the stack's ``pipe_tasks``, if this package
    is in front of it, and that of this package.
    """
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from lsst.meas.finalize.version import __version__ as ours

    try:
        theirs = import_module(f"{__name__}.version").__version__
    except ImportError:
        return ours
    return f"{theirs}+meas_finalize.{ours}"
