"""Which replica of each partition is preferred as its leader, so that the leaders' work is divided by weight.

A change costs nothing but a transfer, still those of before are kept where the balance allows.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from fractions import Fraction
from math import ceil, floor

from .chains import Step, shortest_chain
from .shares import fair_shares


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
        chain = shortest_chain(node, self._to_others, is_poor)
        for step in reversed(chain):
            self._lead(step.partition, step.end)
        return bool(chain)

    def _take(self, node: int) -> bool:
        chain = shortest_chain(node, self._to_leaders, lambda other: self._count(other) > self._fewest[other])
        for step in chain:
            self._lead(step.partition, step.start)
        return bool(chain)

    def _to_others(self, node: int, arrived: Container[int]) -> Iterator[Step]:
        for partition in self._led[node]:
            for other in self._replicas[partition]:
                if other not in arrived:
                    yield Step(node, partition, other)

    def _to_leaders(self, node: int, arrived: Container[int]) -> Iterator[Step]:
        for partition in self._held[node]:
            if self.leaders[partition] not in arrived:
                yield Step(node, partition, self.leaders[partition])

    def _lead(self, partition: int, node: int) -> None:
        del self._led[self.leaders[partition]][partition]
        self._led[node][partition] = None
        self.leaders[partition] = node
