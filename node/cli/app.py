"""The `ringhold` command: its subcommands, and the one place where errors become sentences and exit codes.

Everything heavy (grpc, pydantic, aiohttp, Rich) is imported by the command that needs it. See docs/cli.md.
"""

import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated, NoReturn, cast

import typer

from ...api.errors import RingholdError
from ..config import ConfigError
from . import cluster, dev, importing, records, serve
from .failure import CommandFailed, ExitCode, exit_code_of, sentence

CommandLineError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""What is wrong with a command line: the ClickException of the Click that Typer uses, its own or the package."""

app = typer.Typer(
    name="ringhold",
    help="A sharded, replicated key-value store with secondary indexes.",
    epilog="Example: `ringhold dev` starts three nodes here; `ringhold set hello world` writes to them.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
records.register(app)
importing.register(app)
cluster.register(app)
serve.register(app)
dev.register(app)


def show_version(wanted: bool) -> None:
    if wanted:
        from ... import __version__

        typer.echo(f"ringhold {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A sharded, replicated key-value store with secondary indexes."""


def run() -> NoReturn:
    """The entry point: run the command line of this process and exit."""
    sys.excepthook = report_bug
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. Errors go to stderr as one sentence each."""
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="ringhold", standalone_mode=False)
        sys.stdout.flush()
    except RingholdError as error:
        return complain(sentence(error), exit_code_of(error))
    except CommandFailed as error:
        return complain(str(error), error.exit_code)
    except ConfigError as error:
        return complain(str(error), ExitCode.USAGE)
    except CommandLineError as error:
        return complain_of_usage(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return leave_pipe()
    return code if isinstance(code, int) else ExitCode.OK


def complain(message: str, code: ExitCode) -> int:
    typer.echo(f"ringhold: {' '.join(message.split())}", err=True)
    return code


def complain_of_usage(error: typer.BadParameter, arguments: Sequence[str]) -> int:
    message = error.format_message()
    if not arguments or not message:  # a bare `ringhold` has just shown its help
        return ExitCode.USAGE
    return complain(f"{message.rstrip('.')} (see `ringhold --help`)", ExitCode.USAGE)


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
    typer.echo(f"ringhold: a defect was met, {kind.__name__}: {' '.join(str(error).split())}", err=True)
