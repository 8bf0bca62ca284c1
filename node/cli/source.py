"""Where a value comes from: the command line itself, stdin (`-`) or a file (`@path`)."""

import sys
from typing import BinaryIO

from ...api.limits import MIB
from .failure import CommandFailed, ExitCode, unreadable
from .options import as_bytes

VALUE_BYTES_MAX = 8 * MIB  # no node takes more in one message, however it is configured by default


def value_of(argument: str) -> bytes:
    """The value that an argument means; raises CommandFailed."""
    if argument == "-":
        return bounded(sys.stdin.buffer, "stdin")
    if argument.startswith("@"):
        return value_of_file(argument[1:])
    return as_bytes(argument)


def value_of_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return bounded(file, path)
    except OSError as error:
        raise unreadable(path, error) from error


def bounded(file: BinaryIO, name: str) -> bytes:
    value = file.read(VALUE_BYTES_MAX + 1)
    if len(value) > VALUE_BYTES_MAX:
        raise CommandFailed(f"the value in {name} is larger than {VALUE_BYTES_MAX // MIB} MiB", ExitCode.USAGE)
    return value
