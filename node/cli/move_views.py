"""What is on the move in the cluster, for people, and what has happened between two looks at it. See docs/cli.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .output import size_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from ...api.client.results import ClusterStatus, Move

MOVES_SHOWN_MAX = 20  # rows of the table of moves
BAR_WIDTH = 24  # columns
STEP_ORDER = ("COPYING", "REMOVING", "UNKNOWN", "WAITING")
AT_REST = ("NORMAL", "REMOVED")


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened: as words for scripts, as a sentence for people."""

    words: Sequence[object]
    sentence: str


def move_parts(status: "ClusterStatus") -> "list[RenderableType]":
    """A line that says whether the cluster is settled, and a table of what moves; nothing of nodes that don't say."""
    if not tells_moves(status):
        return []
    return [settled_line(status), *([moves_table(status.moves)] if status.moves else [])]


def tells_moves(status: "ClusterStatus") -> bool:
    """Whether the node that answered knows of moves: older releases tell no replication factor either."""
    return status.replication_factor > 0


def settled_line(status: "ClusterStatus") -> "Text":
    from rich.text import Text

    if status.is_settled:
        return Text("settled: every replica is where it should be", style="green")
    return Text(f"not settled: {'; '.join(unsettled(status)) or 'no leader has said so yet'}", style="yellow")


def unsettled(status: "ClusterStatus") -> Iterator[str]:
    """What is still to come."""
    if status.moves:
        groups = "1 group moves" if len(status.moves) == 1 else f"{len(status.moves)} groups move"
        yield ", ".join(filter(None, [groups, copied_text(status.moves)]))
    for state in ("JOINING", "LEAVING"):
        names = [each.node.name for each in status.nodes if each.node.state == state]
        if names:
            yield f"{', '.join(names)} {state}"


def copied_text(moves: "Sequence[Move]") -> str:
    """How much has been copied of what moves now; empty if nobody knows how much that is."""
    done, total = sum(move.bytes_done for move in moves), sum(move.bytes_total for move in moves)
    return f"{size_text(done)} of {size_text(total)} copied" if total else ""


def moves_table(moves: "Sequence[Move]") -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    from .cluster_views import plain_table

    table = plain_table("group", "to", "from", "step", "")
    table.add_column("copied", justify="right")
    for move in running_first(moves)[:MOVES_SHOWN_MAX]:
        names = (", ".join(move.adding) or "-", ", ".join(move.removing) or "-", move.step.lower())
        bar: RenderableType = ""
        copied = "-"
        if move.bytes_total:
            bar = ProgressBar(total=move.bytes_total, completed=move.bytes_done, width=BAR_WIDTH)
            copied = f"{size_text(move.bytes_done)} of {size_text(move.bytes_total)}"
        table.add_row(group_name(move.partition), *map(Text, names), bar, copied)
    rest = len(moves) - MOVES_SHOWN_MAX
    return Group(table, Text(f"and {rest} more", style="dim")) if rest > 0 else table


def running_first(moves: "Sequence[Move]") -> "list[Move]":
    """Those that run before those that wait, then by number, the system group first."""

    def order(move: "Move") -> tuple[int, int]:
        step = STEP_ORDER.index(move.step) if move.step in STEP_ORDER else len(STEP_ORDER)
        return step, -1 if move.partition is None else move.partition

    return sorted(moves, key=order)


def group_name(partition: int | None) -> str:
    return "the system group" if partition is None else f"partition {partition}"


def news_between(before: "ClusterStatus | None", after: "ClusterStatus") -> list[News]:
    """What has happened since `before`; at first, what is not at rest."""
    return [*node_news(before, after), *move_news(before, after), *settled_news(before, after)]


def node_news(before: "ClusterStatus | None", after: "ClusterStatus") -> Iterator[News]:
    states = states_of(after)
    known = states_of(before) if before else {}
    for node_id, (name, state) in states.items():
        is_news = known[node_id] != (name, state) if node_id in known else before is not None or state not in AT_REST
        if is_news:
            yield News(["node", name, state], f"{name} is {state}")
    for node_id, (name, state) in known.items():
        if node_id not in states and state != "REMOVED":
            yield News(["node", name, "REMOVED"], f"{name} is REMOVED")


def states_of(status: "ClusterStatus") -> Mapping[str, tuple[str, str]]:
    return {each.node.id: (each.node.name, each.node.state) for each in status.nodes}


def move_news(before: "ClusterStatus | None", after: "ClusterStatus") -> Iterator[News]:
    known = {move.partition: step_of(move) for move in before.moves} if before else {}
    still = {move.partition for move in after.moves}
    for partition in known:
        if partition not in still:
            yield News(["moved", word(partition)], f"{group_name(partition)} has moved")
    for move in running_first(after.moves):
        if known.get(move.partition) != step_of(move):
            yield News(["move", word(move.partition), *step_of(move)], move_text(move))


def settled_news(before: "ClusterStatus | None", after: "ClusterStatus") -> Iterator[News]:
    if after.is_settled and (before is None or not before.is_settled):
        yield News(["settled", after.epoch], f"settled at epoch {after.epoch}")


def step_of(move: "Move") -> tuple[str, str, str]:
    return move.step.lower(), ",".join(move.adding) or "-", ",".join(move.removing) or "-"


def word(partition: int | None) -> str:
    return "system" if partition is None else str(partition)


def move_text(move: "Move") -> str:
    to = f" to {', '.join(move.adding)}" if move.adding else ""
    away = f" from {', '.join(move.removing)}" if move.removing else ""
    return f"{group_name(move.partition)}{to}{away}: {move.step.lower()}"
