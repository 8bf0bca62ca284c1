"""What a change of the cluster does, or would do, in three forms; imported only once there is an answer."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from .cluster_views import lines, name_order, plain_table
from .move_views import group_name, word
from .output import View, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from ...api.client.results import ClusterChange, NodeLoad, PlannedMove

MOVES_SHOWN_MAX = 50  # rows of the table of planned moves


def change_view(what: str, change: "ClusterChange") -> View:
    """What an order, `what`, has set going."""
    return View(
        table=lambda: change_lines(what, change),
        json=lambda: asdict(change),
        plain=lambda: lines([[change.epoch]]),
    )


def left_view(name: str) -> View:
    from rich.text import Text

    return View(table=lambda: Text(f"{name} has left"), json=lambda: {"left": name}, plain=lambda: lines([[name]]))


def change_lines(what: str, change: "ClusterChange") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    follow = [Text("to follow it: ringhold status --watch", style="dim")] if change.moves else []
    return Group(Text(f"{what}: {moves_text(change)}"), *warning_lines(change), *follow)


def plan_view(plan: "ClusterChange") -> View:
    return View(
        table=lambda: plan_table(plan),
        json=lambda: asdict(plan),
        plain=lambda: lines(
            [word(move.partition), ",".join(move.adding) or "-", ",".join(move.removing) or "-", move.bytes]
            for move in plan.moves
        ),
    )


def plan_table(plan: "ClusterChange") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    title = Text(f"planned: {moves_text(plan)}", style="bold")
    moves = [moves_table(plan.moves)] if plan.moves else []
    note = Text("Nothing was changed.", style="dim")
    return Group(title, loads_table(plan.loads), *moves, *warning_lines(plan), note)


def moves_table(moves: "Sequence[PlannedMove]") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    table = plain_table("group", "copied to", "leaves")
    table.add_column("bytes", justify="right")
    for move in moves[:MOVES_SHOWN_MAX]:
        names = (", ".join(move.adding) or "-", ", ".join(move.removing) or "-")
        table.add_row(group_name(move.partition), *map(Text, names), size_text(move.bytes))
    rest = len(moves) - MOVES_SHOWN_MAX
    return Group(table, Text(f"and {rest} more, all of them with -o json", style="dim")) if rest > 0 else table


def loads_table(loads: "Sequence[NodeLoad]") -> "Table":
    """Who holds what before and after."""
    from rich.text import Text

    table = plain_table("node", "host", "zone")
    for column in ("replicas", "leads", "bytes"):
        table.add_column(column, justify="right")
    for load in sorted(loads, key=lambda each: name_order(each.name)):
        place = [load.name, load.host or "-", load.zone or "-"]
        figures = [
            step_text(str(load.replicas_before), str(load.replicas_after)),
            step_text(str(load.leaders_before), str(load.leaders_after)),
            step_text(size_text(load.bytes_before), size_text(load.bytes_after)),
        ]
        table.add_row(*map(Text, place), *(Text(each, style="bold" if "→" in each else "dim") for each in figures))
    return table


def warning_lines(change: "ClusterChange") -> list["Text"]:
    from rich.text import Text

    return [Text(f"note: {warning}", style="yellow") for warning in change.warnings]


def moves_text(change: "ClusterChange") -> str:
    """How much moves, in a few words."""
    if not change.moves:
        return "nothing moves"
    groups = "1 group moves" if len(change.moves) == 1 else f"{len(change.moves)} groups move"
    time = f", about {duration_text(change.seconds)} at the throttle" if change.seconds > 0 else ""
    return f"{groups}, {size_text(change.bytes)} to copy{time}"


def step_text(before: str, after: str) -> str:
    """What it was and what it will be.

    >>> step_text("3", "4"), step_text("3", "3")
    ('3 → 4', '3')
    """
    return before if before == after else f"{before} → {after}"


def duration_text(seconds: float) -> str:
    """A time for people.

    >>> duration_text(0.2), duration_text(89), duration_text(900), duration_text(9_000)
    ('1 s', '89 s', '15 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
