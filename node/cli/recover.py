"""`recover`: makes the survivors of a lost quorum a working cluster, offline. See docs/operations.md."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .examples import examples
from .failure import CommandFailed, ExitCode, unreadable

if TYPE_CHECKING:
    from ..recovery.inspection import StoppedNode
    from ..recovery.plans import Plan
    from ..recovery.reports import NodeReport

EXAMPLES = examples(
    "ringhold recover --data-dir /mnt/a --data-dir /mnt/b",
    "ringhold recover --unsafe --data-dir /mnt/a --data-dir /mnt/b",
    "ringhold recover inspect --data-dir /var/lib/ringhold > a.json",
    "ringhold recover plan --unsafe a.json b.json > plan.json",
    "ringhold recover apply plan.json --data-dir /var/lib/ringhold",
)

Unsafe = Annotated[bool, typer.Option("--unsafe", help="Do it, and not only say what would be done and lost.")]
RestartEmpty = Annotated[
    bool, typer.Option("--restart-empty", help="Partitions without any copy begin anew, empty; without: DATA_LOSS.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
OneFolder = Annotated[
    Path, typer.Option("--data-dir", metavar="DIR", help="The folder of the node, which does not run.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
    group.callback(epilog=EXAMPLES)(recover)
    group.command("inspect")(inspect_folder)
    group.command("plan")(make_plan)
    group.command("apply")(apply_plan)
    app.add_typer(group, name="recover")


def recover(
    context: typer.Context,
    data_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="The folder of a survivor; give all of them.", show_default=False
        ),
    ] = None,
    unsafe: Unsafe = False,
    restart_empty: RestartEmpty = False,
    yes: Yes = False,
) -> None:
    """Make a cluster of the nodes that are left when a majority is lost for good.

    Stop all survivors first. Without `--unsafe` nothing is changed: it says what would be done, and what may be lost.
    Where the survivors are on several machines, use `inspect` on each, `plan` on one of them, and `apply` on each.
    """
    if context.invoked_subcommand is not None:
        if data_dir or unsafe or restart_empty or yes:
            raise CommandFailed("options belong behind the subcommand", ExitCode.USAGE)
        return
    if not data_dir:
        raise CommandFailed(
            "give --data-dir for each node that is left (see `ringhold recover --help`)", ExitCode.USAGE
        )
    from ..recovery.inspection import inspect
    from ..recovery.unfinished import drop_plan, keep_plan, unfinished_plan

    with stopped(data_dir) as nodes:
        plan = unfinished_plan(nodes)
        if plan is None:
            plan = planned([inspect(node) for node in nodes], restart_empty)
        else:
            typer.echo("A recovery was cut short here; this is its plan.", err=True)
        tell(plan, to_stderr=False)
        refuse_safe(unsafe)
        ask(plan, yes)
        keep_plan(nodes, plan)
        carry_out(plan, nodes)
        drop_plan(nodes)
    typer.echo("Done. Start these nodes again; they serve when they are ready.")


def inspect_folder(data_dir: OneFolder) -> None:
    """Print what a stopped node has, as JSON for `plan`. Changes nothing."""
    from ..recovery.inspection import inspect
    from ..recovery.plans import encode_report

    with stopped([data_dir]) as [node]:
        document = encode_report(inspect(node))
    sys.stdout.buffer.write(document)


def make_plan(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT…", help="What `inspect` printed, of all survivors.")],
    unsafe: Unsafe = False,
    restart_empty: RestartEmpty = False,
) -> None:
    """Print the plan of a recovery, as JSON for `apply`; what may be lost by it goes to stderr. Changes nothing."""
    plan = planned([read_report(path) for path in reports], restart_empty)
    tell(plan, to_stderr=True)
    refuse_safe(unsafe)
    sys.stdout.buffer.write(plan.encode())


def apply_plan(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="What `plan` printed.")],
    data_dir: OneFolder,
    yes: Yes = False,
) -> None:
    """Carry a plan out on the folder of one stopped node. Applying it again is safe."""
    from ..recovery.application import check
    from ..recovery.documents import MalformedDocument
    from ..recovery.plans import Plan

    try:
        plan = Plan.decode(read(plan_file))
    except MalformedDocument as error:
        raise CommandFailed(f"{plan_file} can't be used: {error}", ExitCode.USAGE) from error
    with stopped([data_dir]) as nodes:
        if check(nodes[0], plan):
            tell(plan, to_stderr=False)
            ask(plan, yes)
        carry_out(plan, nodes)
    typer.echo("Done. Apply the plan on the other survivors, too, before any of them is started.")


@contextmanager
def stopped(folders: Sequence[Path]) -> "Iterator[list[StoppedNode]]":
    """The nodes of the folders, locked for the block; what is wrong with one becomes the command's failure."""
    from ..recovery.inspection import FolderUnfit, stopped_node
    from ..recovery.planning import RecoveryRefused
    from ..storage.engine import EngineFailed
    from ..storage.folder import FolderError

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise CommandFailed("a data folder is given twice", ExitCode.USAGE)
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(stopped_node(folder)) for folder in folders]
    except (FolderUnfit, FolderError, EngineFailed, RecoveryRefused) as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        raise CommandFailed(f"{error.filename or 'a data folder'} can't be used: {error.strerror}") from error


def planned(reports: "Sequence[NodeReport]", restart_empty: bool) -> "Plan":
    """A plan for a cluster with a new, random id."""
    import secrets

    from ..recovery.planning import RecoveryRefused, plan_recovery

    try:
        return plan_recovery(reports, secrets.token_hex(8), restart_empty=restart_empty)
    except RecoveryRefused as error:
        raise CommandFailed(str(error)) from error


def tell(plan: "Plan", *, to_stderr: bool) -> None:
    from .output import PIPE_WIDTH, console
    from .recovery_views import plan_table

    if not to_stderr:
        console().print(plan_table(plan))
        return
    from rich.console import Console

    errors = Console(stderr=True)
    (errors if errors.is_terminal else Console(stderr=True, width=PIPE_WIDTH)).print(plan_table(plan))


def refuse_safe(unsafe: bool) -> None:
    if not unsafe:
        from ..recovery.verdicts import WHY_UNSAFE

        raise CommandFailed(f"nothing was changed. To do it, add --unsafe; {WHY_UNSAFE}", ExitCode.USAGE)


def ask(plan: "Plan", yes: bool) -> None:
    """Have the operator type the cluster's name, knowing whose engines have lost data."""
    name = plan.topology.cluster_name
    losses = ", ".join(sorted(plan.losses))
    onward = f"To go on with what the engine of {losses} has left" if losses else "To go on"
    if not yes and typer.prompt(f"{onward}, type the cluster's name, {name}", err=True) != name:
        raise CommandFailed("nothing was changed: that is not the cluster's name")


def carry_out(plan: "Plan", nodes: "Sequence[StoppedNode]") -> None:
    """Check all nodes, then change all."""
    import asyncio

    from ..recovery.application import apply, check

    for node in nodes:
        check(node, plan)
    for node in nodes:
        asyncio.run(apply(node, plan))
        typer.echo(f"{node.identity.name} is part of the cluster with id {plan.cluster_id}")


def read_report(path: Path) -> "NodeReport":
    from ..recovery.documents import MalformedDocument
    from ..recovery.plans import decode_report

    try:
        return decode_report(read(path))
    except MalformedDocument as error:
        raise CommandFailed(f"{path} can't be used: {error}", ExitCode.USAGE) from error


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error
