"""What a process does to the files below a folder, recorded call by call by a library preloaded into it.

The library (recorder.c) is compiled where it is needed; see docs/durability.md for what it sees and what it does not.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = struct.Struct("<iiQQ")
PROCESS_TIMEOUT_S = 120.0


class CompilerMissing(Exception):
    """There is no C compiler; `make power-tools` installs one."""


class Kind(IntEnum):
    """The kinds of entries, as in recorder.c."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    CLOSE = 4
    SYNC = 5
    SYNCED = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    LINK = 11
    MAPPED = 12
    MARK = 13
    ALARM = 14


@dataclass(frozen=True, slots=True)
class Entry:
    """One call: `file` is a descriptor, `number` and `payload` are what the kind says (struct entry in recorder.c)."""

    kind: Kind
    file: int
    number: int
    payload: bytes

    @property
    def path(self) -> Path:
        return Path(os.path.normpath(os.fsdecode(self.payload)))


def build_recorder(folder: Path) -> Path:
    """Compile the library into `folder`. Raises CompilerMissing."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CompilerMissing("no C compiler (cc, gcc, clang) is on the PATH: run make power-tools")
    library = folder / "recorder.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    subprocess.run(
        [compiler, *flags, "-o", str(library), str(HERE / "recorder.c"), "-ldl", "-lpthread"],
        check=True,
        timeout=PROCESS_TIMEOUT_S,
    )
    return library


def record(library: Path, folder: Path, module: str, arguments: Sequence[str]) -> list[Entry]:
    """Run a module of the tests to its end and return what it did below `folder`, which must exist."""
    log = folder.with_name(folder.name + ".recording")
    log.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWER_FOLDER": str(folder.resolve()),
        "POWER_LOG": str(log.resolve()),
    }
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env=environment, cwd=HERE.parent, check=True, timeout=PROCESS_TIMEOUT_S)
    return list(entries_of(log.read_bytes()))


def entries_of(log: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(log):
        kind, file, number, length = HEADER.unpack_from(log, at)
        at += HEADER.size
        yield Entry(Kind(kind), file, number, log[at : at + length])
        at += length
