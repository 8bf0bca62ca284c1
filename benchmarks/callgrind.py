"""Instructions by valgrind's callgrind: the marks that a program makes, and what it is found to have executed between.

Instructions in user space are counted, of all threads; what the kernel does for them is not. The format of what
callgrind writes: valgrind.org/docs/manual/cl-format.html.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .failure import BenchmarkFailed

MARKING = "getsid"
"""A function of libc that nothing else calls: at each call callgrind writes what it has counted, and begins anew."""

UNKNOWN = "???"
OUTPUT = "callgrind.out"
REST = "rest"

PARTS: Mapping[str, re.Pattern[str]] = {
    "Python": re.compile(r"/(lib)?python3[^/]*$|/lib-dynload/(?!_sqlite3)"),
    "protobuf": re.compile(r"/google/_upb/"),
    "engine": re.compile(r"/rocksdict/|/lib-dynload/_sqlite3|/libsqlite3[^/]*$"),
    "libc": re.compile(r"/(libc|libm|libpthread|ld-linux)[-.][^/]*$"),
    "xxhash": re.compile(r"/_?xxhash[^/]*(/[^/]*)?$"),
}
"""What a shared object belongs to, by its path; anything else is the rest."""

COST = re.compile(r"[-+*\d]")


class ValgrindMissing(BenchmarkFailed):
    """There is no valgrind."""


def require_valgrind() -> None:
    """Raises ValgrindMissing."""
    if shutil.which("valgrind") is None:
        raise ValgrindMissing("counting instructions needs valgrind: run make system-tools")


def mark() -> None:
    """End one part of what is counted, and begin the next; without callgrind nothing happens."""
    os.getsid(0)


def counted_sections(command: Sequence[str], folder: Path, sections: int) -> tuple[list[Counter[str]], str]:
    """Instructions by shared object before the first mark, and between marks; and the standard output.

    `folder` takes callgrind's files. Raises BenchmarkFailed if the program fails or marks another number of sections.
    """
    require_valgrind()
    output = folder / OUTPUT
    options = ["--tool=callgrind", f"--dump-before={MARKING}", f"--callgrind-out-file={output}"]
    ended = subprocess.run(
        ["valgrind", "-q", *options, *command],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise BenchmarkFailed("the counted program failed:\n" + "\n".join(ended.stderr.splitlines()[-20:]))
    files = [output.with_name(f"{OUTPUT}.{number}") for number in range(1, sections + 1)]
    if not files[-1].exists() or output.with_name(f"{OUTPUT}.{sections + 1}").exists():
        raise BenchmarkFailed(f"the counted program has not made {sections} marks")
    return [read(file) for file in files], ended.stdout


def read(file: Path) -> Counter[str]:
    with file.open() as lines:
        return instructions_by_object(lines)


def instructions_by_object(lines: Iterable[str]) -> Counter[str]:
    """Of one file of callgrind's: the instructions of each shared object's own code. Raises BenchmarkFailed.

    >>> profile = ["summary: 7", "ob=(1) /lib/libc.so.6", "fn=(1) f", "12 3", "cob=(2) /bin/python3.11", "cfn=(2) g"]
    >>> instructions_by_object([*profile, "calls=1 40", "12 4", "ob=(2)", "fn=(2)", "+4 4"])
    Counter({'/bin/python3.11': 4, '/lib/libc.so.6': 3})
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    summary, current, is_call = 0, UNKNOWN, False
    for line in lines:
        key, _, value = line.strip().partition("=")
        if key == "ob":
            current = named(value, names)
        elif key == "cob":
            named(value, names)
        elif key == "calls":
            is_call = True  # what the function called took, on the next line, counts for that one
        elif COST.match(key):
            counts[current] += 0 if is_call else cost(key)
            is_call = False
        elif key.startswith("summary:"):
            summary = int(key.split()[1])
    if counts.total() != summary:
        raise BenchmarkFailed(
            f"{counts.total():,} of {summary:,} instructions were read: callgrind's format has changed"
        )
    return counts


def named(value: str, names: dict[str, str]) -> str:
    """A name, which is written out where it comes first and is a number in brackets later: `(3) /lib/x.so`, `(3)`."""
    number, _, name = value.partition(" ")
    return names.setdefault(number, name)


def cost(line: str) -> int:
    """What a line `place instructions` says; a place alone costs nothing."""
    _, _, instructions = line.partition(" ")
    return int(instructions or 0)


def difference(once: Counter[str], twice: Counter[str], operations: int) -> dict[str, float]:
    """Instructions per operation by shared object, from a run of so many operations and one of twice as many.

    What a run takes by itself is in both and falls out.

    >>> difference(Counter({"a": 110, "b": 5}), Counter({"a": 210, "b": 5, "c": 10}), 10)
    {'a': 10.0, 'b': 0.0, 'c': 1.0}
    """
    return {name: (twice[name] - once[name]) / operations for name in sorted(once | twice)}


def by_part(instructions: Mapping[str, float]) -> dict[str, float]:
    """Those of shared objects, added up by what these belong to.

    >>> found = by_part({"/usr/bin/python3.11": 2.0, "/usr/lib/x86_64-linux-gnu/libc.so.6": 1.0, UNKNOWN: 0.5})
    >>> {part: each for part, each in found.items() if each}
    {'Python': 2.0, 'libc': 1.0, 'rest': 0.5}
    """
    found = dict.fromkeys([*PARTS, REST], 0.0)
    for path, each in instructions.items():
        found[part_of(path)] += each
    return found


def part_of(path: str) -> str:
    return next((part for part, pattern in PARTS.items() if pattern.search(path)), REST)
