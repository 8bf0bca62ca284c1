"""How a command ends: one sentence for people, one exit code for scripts. See docs/cli.md."""

import shlex
from enum import IntEnum

from ...api.errors import (
    Incomplete,
    InDoubt,
    InvalidRequest,
    KeyNotFound,
    Overloaded,
    RingholdError,
    TimedOut,
    Unavailable,
)


class ExitCode(IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    IN_DOUBT = 5
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command can't do what was asked; the message is the sentence to show."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: RingholdError) -> ExitCode:
    """The exit code of an operation's error.

    >>> exit_code_of(KeyNotFound("KEY_NOT_FOUND", "there is no such key"))
    <ExitCode.NOT_FOUND: 3>
    """
    match error:
        case KeyNotFound():
            return ExitCode.NOT_FOUND
        case TimedOut() | InDoubt():
            return ExitCode.IN_DOUBT
        case Unavailable() | Incomplete() | Overloaded():
            return ExitCode.UNAVAILABLE
        case InvalidRequest():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILURE


def sentence(error: RingholdError) -> str:
    """What is said of an operation's error; a doubt names the command line that settles it.

    >>> sentence(InDoubt("IN_DOUBT", "no answer in 10 s", {"request_id": "00ff", "anchor": "7", "key": "6b"}))
    'no answer in 10 s; to settle it: ringhold resolve --request-id 00ff --anchor 7 -- k'
    """
    if not isinstance(error, InDoubt) or not error.request_id or not error.anchor or not error.key:
        return error.message
    options = f"--request-id {error.request_id.hex()} --anchor {error.anchor}"
    return f"{error.message}; to settle it: ringhold resolve {options} -- {shell_word(error.key)}"


def shell_word(argument: bytes) -> str:
    """An argument as it may be pasted into a shell. White space is spelt out, for sentences lose theirs.

    >>> print(shell_word("Köln".encode()), shell_word(b"a'b "), shell_word(bytes([255])))
    'Köln' $'a\\x27b\\x20' $'\\xff'
    """
    text = argument.decode(errors="surrogateescape")
    if text.isprintable() and not any(sign.isspace() for sign in text) and "'" not in text:
        return shlex.quote(text)
    return (
        "$'" + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in argument) + "'"
    )


def unreadable(path: str, error: OSError) -> CommandFailed:
    """The failure of a file that can't be read."""
    return CommandFailed(f"{path} can't be read: {error.strerror or error}")
