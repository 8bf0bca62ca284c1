"""The entry of the `ringhold` command: the one place where errors become sentences and exit codes.

It imports next to nothing, so that Ctrl-C is met properly from the first moment on. See docs/cli.md.
"""

import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

from ...api.errors import RingholdError
from ..config import ConfigError
from .failure import CommandFailed, ExitCode, exit_code_of, sentence


def run() -> NoReturn:
    """The entry point: run the command line of this process and exit."""
    sys.excepthook = report_bug
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. Errors go to stderr as one sentence each."""
    try:
        from .commands import run_command

        code = run_command(arguments)
        sys.stdout.flush()
    except RingholdError as error:
        return complain(sentence(error), exit_code_of(error))
    except CommandFailed as error:
        return complain(str(error), error.exit_code)
    except ConfigError as error:
        return complain(str(error), ExitCode.USAGE)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return leave_pipe()
    return code


def complain(message: str, code: ExitCode) -> int:
    say(message)
    return code


def say(message: str) -> None:
    print(f"ringhold: {' '.join(message.split())}", file=sys.stderr)


def leave_pipe() -> int:
    """The reader of stdout went away: nothing more to say, and nothing to flush at exit."""
    sys.stdout = None
    return ExitCode.FAILURE


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception that nobody expected: one line for people; `python -X dev -m ringhold` shows where."""
    if issubclass(kind, KeyboardInterrupt):
        return
    if sys.flags.dev_mode:
        traceback.print_exception(kind, error, trace)
    say(f"a defect was met, {kind.__name__}: {error}")
