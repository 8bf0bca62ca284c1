"""How engines fail: the first failure stays, because nothing can be known after it (a failed sync is never retried).

After a failed fsync Linux may report the same pages as clean, so a second, successful one proves nothing
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
"""

import errno
import os
import sqlite3
from pathlib import Path

from .engine import EngineDamaged, EngineFailed, EngineFull

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_PRIMARY_CODE = 0xFF  # SQLite's extended result codes carry the primary one in the low byte
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGE_WORDS = ("Corruption:", "IO error: No such file or directory")
"""How RocksDB begins to say that a file is not what it wrote, or is gone; its bindings have no codes."""


class Latch:
    """Holds the first failure of an engine; from then on `check` raises it."""

    def __init__(self) -> None:
        self.failure: EngineFailed | None = None

    def check(self) -> None:
        """Raise EngineFailed, of the kind and text of the first failure, if there was one."""
        if self.failure is not None:
            raise type(self.failure)(str(self.failure)) from self.failure

    def fail(self, failure: EngineFailed) -> EngineFailed:
        """Keep `failure` unless there was one before; the one that is kept."""
        if self.failure is None:
            self.failure = failure
        return self.failure


def failure_of(error: Exception, folder: Path) -> EngineFailed:
    """What the error of a library or of the system means for the engine in `folder`."""
    if _is_damage(error):
        return EngineDamaged(f"the storage engine in {folder} is damaged: {error}")
    if _is_full(error, folder):
        return EngineFull(f"no space is left on the device of {folder} ({error})")
    return EngineFailed(f"the storage engine in {folder} failed: {error}")


def _is_damage(error: Exception) -> bool:
    """An error in reading (EIO) is none: the device may give the same bytes again once it is well."""
    if isinstance(error, sqlite3.Error):
        return _code_of(error) in _DAMAGE_CODES
    return not isinstance(error, OSError) and str(error).startswith(_DAMAGE_WORDS)


def _code_of(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY_CODE


def _is_full(error: Exception, folder: Path) -> bool:
    """The libraries report a full device in several ways, some of them as a plain I/O error: so ask the device too."""
    if isinstance(error, OSError):
        return error.errno in _FULL_ERRNOS
    if isinstance(error, sqlite3.Error) and _code_of(error) == sqlite3.SQLITE_FULL:
        return True
    return os.strerror(errno.ENOSPC) in str(error) or os.statvfs(folder).f_bavail == 0
