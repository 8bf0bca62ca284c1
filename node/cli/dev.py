"""`dev`: a cluster on this machine, for trying and developing, with one process per node as in earnest."""

import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .examples import examples
from .failure import CommandFailed, ExitCode, unreadable

if TYPE_CHECKING:
    from .processes import LocalNode, Report

NODES_MAX = 9
HOST = "127.0.0.1"
COLOURS = (36, 33, 35, 32, 34, 31)  # of the terminal, one per node


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dev", epilog=EXAMPLES)(dev)


EXAMPLES = examples(
    "ringhold dev",
    "ringhold dev --nodes 5 --data-dir ~/ringhold-data",
    "RINGHOLD_LOG_LEVEL=debug ringhold dev --nodes 1 --base-port 6000",
)


def dev(
    nodes: Annotated[int, typer.Option(metavar="N", min=1, max=NODES_MAX, help="Processes to start.")] = 3,
    base_port: Annotated[
        int,
        typer.Option(metavar="PORT", min=1, max=65_535, help="Node i listens on PORT + 2i (gRPC) and PORT + 2i + 1."),
    ] = 50_051,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the data here. Without: it is gone at the end.")
    ] = None,
) -> None:
    """Run a cluster on this machine until Ctrl-C.

    Logs go to stderr, each line behind its node's name; one line `ready`, with the endpoints, goes to stdout.
    """
    if base_port + 2 * nodes - 1 > 65_535:
        raise CommandFailed(f"{nodes} nodes from port {base_port} on need ports above 65535", ExitCode.USAGE)
    import asyncio

    with data_folder(data_dir, nodes) as folder:
        raise typer.Exit(asyncio.run(run_dev(local_nodes(folder, range(base_port, base_port + 2 * nodes)))))


async def run_dev(nodes: "Sequence[LocalNode]") -> int:
    """Run the nodes until a signal or until all have died; the exit code."""
    from .processes import LocalCluster, ends_before, stop_on_signals

    cluster = LocalCluster(nodes, reporter())
    stop = stop_on_signals(cluster)
    async with cluster:
        if await ends_before(cluster.wait_until_ready(), stop):
            typer.echo(f"ready {','.join(cluster.endpoints)}")
            if await ends_before(cluster.wait_until_dead(), stop):
                raise CommandFailed("no node is left")
        refuse_failures(await cluster.stop())
    return ExitCode.OK


def refuse_failures(failures: Sequence[str]) -> None:
    if failures:
        raise CommandFailed(f"not all nodes stopped well: {'; '.join(failures)}")


def local_nodes(folder: Path, ports: Sequence[int]) -> "list[LocalNode]":
    """Nodes named node-1, node-2, …, each with the next two ports and a folder of its own.

    >>> local_nodes(Path("d"), [5001, 5002])
    [LocalNode(name='node-1', grpc='127.0.0.1:5001', http='127.0.0.1:5002', data_dir=PosixPath('d/node-1'))]
    """
    from .processes import LocalNode

    pairs = zip(ports[::2], ports[1::2], strict=True)
    names = (f"node-{number}" for number in itertools.count(1))
    return [
        LocalNode(name, f"{HOST}:{grpc}", f"{HOST}:{http}", folder / name)
        for name, (grpc, http) in zip(names, pairs, strict=False)
    ]


@contextmanager
def data_folder(given: Path | None, nodes: int) -> Iterator[Path]:
    """The folder that holds those of the nodes: the given one, or one that is gone at the end."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="ringhold-dev-") as folder:
            yield Path(folder)
        return
    refuse_other_size(given, nodes)
    yield given


def refuse_other_size(folder: Path, nodes: int) -> None:
    """A folder of another number of nodes would make a cluster that misses some, or has strangers."""
    try:
        existing = [path.name for path in folder.iterdir() if re.fullmatch(r"node-[1-9]", path.name)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(str(folder), error) from error
    if existing and len(existing) != nodes:
        raise CommandFailed(
            f"{folder} is of a cluster of {len(existing)}: give --nodes {len(existing)}", ExitCode.USAGE
        )


def reporter() -> "Report":
    """Writes lines about nodes to stderr, each behind its node's name, coloured on a terminal."""
    is_coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def report(name: str, line: str) -> None:
        prefix = coloured(name) if is_coloured else name
        typer.echo(f"{prefix} | {line}", err=True)

    return report


def coloured(name: str) -> str:
    number = int(name.rpartition("-")[2])
    return f"\x1b[{COLOURS[number % len(COLOURS)]}m{name}\x1b[0m"
