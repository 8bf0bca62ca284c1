"""All subcommands together, as one Typer application.

Everything heavy (grpc, pydantic, aiohttp, Rich) is imported by the command that needs it. See docs/cli.md.
"""

from collections.abc import Sequence
from typing import Annotated, cast

import typer

from . import changes, cluster, dev, importing, records, recover, scrub, serve
from .failure import CommandFailed, ExitCode

CommandLineError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])
"""What is wrong with a command line: the ClickException of the Click that Typer uses, its own or the package."""

app = typer.Typer(
    name="ringhold",
    epilog="Example: `ringhold dev` starts three nodes here; `ringhold set hello world` writes to them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
records.register(app)
importing.register(app)
cluster.register(app)
changes.register(app)
scrub.register(app)
serve.register(app)
dev.register(app)
recover.register(app)


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


def run_command(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. Raises what the command does, CommandFailed for a wrong one."""
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="ringhold", standalone_mode=False)
    except CommandLineError as error:
        return refuse(error, arguments)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else ExitCode.OK


def refuse(error: typer.BadParameter, arguments: Sequence[str]) -> int:
    message = error.format_message()
    if not arguments or not message:  # a bare `ringhold` has just shown its help
        return ExitCode.USAGE
    raise CommandFailed(f"{message.rstrip('.')} (see `ringhold --help`)", ExitCode.USAGE) from error
