"""Engines by name: the one place that knows which exist, so that nothing is imported before it is chosen."""

from collections.abc import Callable
from pathlib import Path

from .engine import Engine


class EngineUnavailable(ValueError):
    """The engine that was asked for does not exist, or its library is not installed."""


def open_engine(kind: str, path: Path) -> Engine:
    """Open, or create, the engine of a kind in the folder `path`.

    Raises EngineUnavailable, FolderError (locked, read-only), or EngineFailed (damaged, device full).
    """
    if kind not in _OPENERS:
        raise EngineUnavailable(f"unknown engine {kind!r}: choose one of {', '.join(sorted(_OPENERS))}")
    return _OPENERS[kind](path)


def _open_sqlite(path: Path) -> Engine:
    from .sqlite import SqliteEngine

    return SqliteEngine(path)


def _open_rocksdb(path: Path) -> Engine:
    try:
        from .rocksdb import RocksdbEngine
    except ModuleNotFoundError as error:
        if error.name != "rocksdict":
            raise
        raise EngineUnavailable(
            "the engine 'rocksdb' needs the package rocksdict: run pip install 'ringhold[rocksdb]'"
        ) from error
    return RocksdbEngine(path)


_OPENERS: dict[str, Callable[[Path], Engine]] = {"rocksdb": _open_rocksdb, "sqlite": _open_sqlite}
ENGINES = tuple(sorted(_OPENERS))
"""The names that `open_engine` knows."""
