"""Progress on stderr, of `import`, `scrub` and `node decommission --wait`; imported only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .move_views import copied_text
from .output import size_text

if TYPE_CHECKING:
    from ...api.client import ClusterStatus, Move
    from ...api.proto.ringhold.v1.cluster_pb2 import ScrubProgress


@contextmanager
def scrub_progress(node: str) -> "Iterator[Callable[[ScrubProgress], None]]":
    """Shows how many groups of a node are read; the yielded function is told each report."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} groups"),
        TextColumn("{task.fields[read]}, {task.fields[damaged]} damaged"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(node, total=1, read="0 B", damaged=0)
        damaged = 0

        def tell(message: "ScrubProgress") -> None:
            nonlocal damaged
            damaged += len(message.damage)
            read = size_text(message.bytes)
            progress.update(task, completed=message.groups, total=message.groups_in_all, read=read, damaged=damaged)

        yield tell


@contextmanager
def leave_progress(node: str) -> "Iterator[Callable[[ClusterStatus], None]]":
    """Shows how many groups have moved away from a node; the yielded function is told each status."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]} of {task.fields[groups]} groups moved  {task.fields[copied]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{node} leaves", total=None, done=0, groups=0, copied="")
        groups = 0

        def tell(status: "ClusterStatus") -> None:
            nonlocal groups
            moves = [move for move in status.moves if node in move.removing]
            groups = max(groups, len(moves))
            progress.update(
                task,
                total=groups or None,
                completed=groups - sum(map(remainder, moves)),
                done=groups - len(moves),
                groups=groups,
                copied=copied_text(moves),
            )

        yield tell


def remainder(move: "Move") -> float:
    """Which part of a move is still to be done: 1 at its beginning, and as long as nobody knows its size."""
    return 1.0 - min(1.0, move.bytes_done / move.bytes_total) if move.bytes_total else 1.0


@contextmanager
def file_progress(source: BinaryIO, size: int) -> Iterator[Callable[[int], None]]:
    """Shows how far `source` is read; the yielded function is told the current line."""
    columns = (TextColumn("line {task.fields[line]}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("import", total=size, line=0)
        yield lambda line: progress.update(task, completed=source.tell(), line=line)
