"""Which replica of each partition is preferred as its leader, so that the leaders' work is divided by weight.

A change costs nothing but a transfer, still those of before are kept where the balance allows.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import TypeAlias

from .spread import fair_shares

Edge: TypeAlias = tuple[int, int]
"""A partition, and the node at its other end."""


def with_even_leaders(replicas: Sequence[Sequence[int]], weights: Sequence[int]) -> list[list[int]]:
    """The same replicas, the preferred leader first, each node leading its share rounded up or down where possible.

    At first everyone's first replica leads; then leaderships pass along the shortest chains of shared partitions from
    nodes that have too many to nodes that have too few.
    """
    leadership = Leadership(replicas, weights)
    leadership.even_out()
    return [
        [leader, *(node for node in nodes if node != leader)]
        for leader, nodes in zip(leadership.leaders, replicas, strict=True)
    ]


class Leadership:
    """The leader of each partition. Nodes are known by their position."""

    def __init__(self, replicas: Sequence[Sequence[int]], weights: Sequence[int]) -> None:
        self.leaders = [nodes[0] for nodes in replicas]
        self._replicas = replicas
        self._held: list[list[int]] = [[] for _ in weights]
        self._led: list[dict[int, None]] = [{} for _ in weights]
        for partition, nodes in enumerate(replicas):
            self._led[nodes[0]][partition] = None
            for node in nodes:
                self._held[node].append(partition)
        shares = fair_shares(weights, [(0, len(held)) for held in self._held], Fraction(len(replicas)))
        self._fewest = [floor(share) for share in shares]
        self._most = [ceil(share) for share in shares]

    def even_out(self) -> None:
        """Pass leaderships on until each node has its share, rounded, or no chain of partitions leads to it."""
        for node in range(len(self._led)):
            while self._count(node) > self._most[node] and (
                self._give(node, lambda other: self._count(other) < self._fewest[other])
                or self._give(node, lambda other: self._count(other) < self._most[other])
            ):
                pass
        for node in range(len(self._led)):
            while self._count(node) < self._fewest[node] and self._take(node):
                pass

    def _count(self, node: int) -> int:
        return len(self._led[node])

    def _give(self, node: int, is_poor: Callable[[int], bool]) -> bool:
        steps = _shortest_chain(node, self._others_of_led, is_poor)
        for _, partition, other in reversed(steps):
            self._lead(partition, other)
        return bool(steps)

    def _take(self, node: int) -> bool:
        steps = _shortest_chain(node, self._leaders_of_held, lambda other: self._count(other) > self._fewest[other])
        for own, partition, _ in steps:
            self._lead(partition, own)
        return bool(steps)

    def _others_of_led(self, node: int) -> Iterator[Edge]:
        for partition in self._led[node]:
            for other in self._replicas[partition]:
                yield partition, other

    def _leaders_of_held(self, node: int) -> Iterator[Edge]:
        for partition in self._held[node]:
            yield partition, self.leaders[partition]

    def _lead(self, partition: int, node: int) -> None:
        del self._led[self.leaders[partition]][partition]
        self._led[node][partition] = None
        self.leaders[partition] = node


def _shortest_chain(
    start: int, edges: Callable[[int], Iterator[Edge]], is_goal: Callable[[int], bool]
) -> list[tuple[int, int, int]]:
    """The steps (node, partition, next node) from `start` to the nearest goal; none if there is no way."""
    arrived: dict[int, tuple[int, int, int] | None] = {start: None}
    queue = [start]
    for node in queue:
        for partition, other in edges(node):
            if other in arrived:
                continue
            arrived[other] = (node, partition, other)
            if is_goal(other):
                return _steps_to(arrived, other)
            queue.append(other)
    return []


def _steps_to(arrived: dict[int, tuple[int, int, int] | None], end: int) -> list[tuple[int, int, int]]:
    steps = []
    step = arrived[end]
    while step is not None:
        steps.append(step)
        step = arrived[step[0]]
    return steps[::-1]
