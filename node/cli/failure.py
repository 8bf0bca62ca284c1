"""How a command ends: one sentence for people, one exit code for scripts. See docs/cli.md."""

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
    """What is said of an operation's error; a doubt names the request_id that would settle it.

    >>> sentence(InDoubt("IN_DOUBT", "no answer in 10 s", {"request_id": "00ff"}))
    'no answer in 10 s (request_id 00ff)'
    """
    request_id = error.details.get("request_id")
    return f"{error.message} (request_id {request_id})" if request_id else error.message


def unreadable(path: str, error: OSError) -> CommandFailed:
    """The failure of a file that can't be read."""
    return CommandFailed(f"{path} can't be read: {error.strerror or error}")
