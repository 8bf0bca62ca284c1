"""How long placement takes, how even it comes out, and what moves when a node comes or goes: calls of `place`."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import mean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.ring.placement import place
from ringhold.ring.topology import NodeRecord, Targets

from ..plan import Tell
from .members import REPLICATION_FACTOR, node_records

Places = Sequence[tuple[int, int]]
"""Nodes and partitions."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many replicas, or leaders, the nodes have."""

    least: int
    mean: float
    most: int

    @staticmethod
    def of(held: Mapping[str, int], nodes: Sequence[NodeRecord]) -> "Load":
        counts = [held.get(node.id, 0) for node in nodes]
        return Load(min(counts), mean(counts), max(counts))

    def __str__(self) -> str:
        return f"{self.least:,} / {self.mean:,.1f} / {self.most:,}"


@dataclass(frozen=True, slots=True)
class Change:
    """One node more or less: the time to place anew, the replicas that move, and how many the node has or had."""

    seconds: float
    moves: int
    fair_share: float

    @property
    def ratio(self) -> float:
        return self.moves / self.fair_share if self.fair_share else inf


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    nodes: int
    partitions: int
    seconds: float
    replicas: Load
    leaders: Load
    joined: Change
    left: Change | None
    """None where too few nodes are left for three replicas: nothing moves then."""


def placement_figures(places: Places, tell: Tell) -> Iterator[PlacementFigures]:
    """Seconds are of CPU, for `place` does nothing but compute. Each call is made once."""
    for count, partitions in places:
        tell(f"placement: {count:,} nodes, {partitions:,} partitions")
        *nodes, newcomer = node_records(count + 1)
        seconds, targets = timed_place(nodes, partitions)
        replicas = Counter(node for ids in targets for node in ids)
        leaders = Counter(ids[0] for ids in targets)
        yield PlacementFigures(
            nodes=count,
            partitions=partitions,
            seconds=seconds,
            replicas=Load.of(replicas, nodes),
            leaders=Load.of(leaders, nodes),
            joined=change_to([*nodes, newcomer], targets, partitions * REPLICATION_FACTOR / (count + 1)),
            left=change_to(nodes[1:], targets, replicas[nodes[0].id]) if count > REPLICATION_FACTOR else None,
        )


def timed_place(nodes: Sequence[NodeRecord], partitions: int, previous: Targets | None = None) -> tuple[float, Targets]:
    began = time.process_time()
    targets = place(nodes, partitions, REPLICATION_FACTOR, previous)
    return time.process_time() - began, targets


def change_to(nodes: Sequence[NodeRecord], before: Targets, fair_share: float) -> Change:
    seconds, after = timed_place(nodes, len(before), before)
    return Change(seconds, moves_between(before, after), fair_share)


def moves_between(before: Targets, after: Targets) -> int:
    """Replicas that must be copied to where they were not.

    >>> moves_between((("a", "b"), ("b", "c")), (("b", "a"), ("d", "c")))
    1
    """
    return sum(len(set(new).difference(old)) for old, new in zip(before, after, strict=True))


def placement_table(everything: Sequence[PlacementFigures]) -> Table:
    table = Table(title="placement: least / mean / most of a node; three replicas in three zones", box=SIMPLE_HEAD)
    for column in ("nodes", "partitions", "CPU s", "replicas", "leaders"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in everything:
        table.add_row(
            f"{each.nodes:,}", f"{each.partitions:,}", f"{each.seconds:.2f}", str(each.replicas), str(each.leaders)
        )
    return table


def moves_table(everything: Sequence[PlacementFigures]) -> Table:
    table = Table(title="placement: replicas that move when a node joins, and when one leaves", box=SIMPLE_HEAD)
    for column in (
        "nodes",
        "partitions",
        "joins: moves",
        "÷ share",
        "CPU s",
        "leaves: moves",
        "÷ what it held",
        "CPU s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for each in everything:
        leaving = change_cells(each.left) if each.left else ("", "", "")
        table.add_row(f"{each.nodes:,}", f"{each.partitions:,}", *change_cells(each.joined), *leaving)
    return table


def change_cells(change: Change) -> tuple[str, str, str]:
    return f"{change.moves:,}", f"{change.ratio:.2f}", f"{change.seconds:.2f}"
