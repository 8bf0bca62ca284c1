"""Which nodes hold each partition: what was there stays, gaps are filled in ring order, loads come to their fair share.

Every step keeps the spread's rules. Nodes are known by their position here. See docs/architecture.md.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import TypeAlias

from .chains import Step, shortest_chain
from .order import RingOrder
from .spread import Spread

Movable: TypeAlias = Callable[[int], Iterable[int]]
"""Which of a node's partitions may be moved away."""

LOAD_SLACK = Fraction(11, 10)
"""No node holds more than its fair share times this, rounded up."""

NARROWING = 0.8
"""The ring is narrowed to the nodes that have room once they are no more than this part of it."""


class Allocation:
    """The replicas of each partition, in the order in which they came. `place` runs its steps once, in their order."""

    def __init__(self, spread: Spread, shares: Sequence[Fraction], partitions: int) -> None:
        """`shares`: for each node, its fair number of all replicas."""
        self.replicas: list[list[int]] = [[] for _ in range(partitions)]
        self._spread = spread
        self._shares = [float(share) for share in shares]
        self._held: list[dict[int, None]] = [{} for _ in shares]  # a set that iterates in the order of insertion
        self._kept: list[frozenset[int]] = [frozenset() for _ in shares]
        self._least = [floor(share) for share in shares]
        self._fair = [ceil(share) for share in shares]
        self._most = [min(partitions, ceil(share * LOAD_SLACK)) for share in shares]
        self._tolerated = [floor(share / LOAD_SLACK) for share in shares]

    def keep(self, previous: Iterable[Iterable[int]]) -> None:
        """Take over what the spread allows of earlier replicas."""
        for partition, nodes in enumerate(previous):
            for node in nodes:
                if self._fits(partition, node):
                    self._add(partition, node)
        self._kept = [frozenset(held) for held in self._held]

    def fill(self, order: RingOrder, points: Sequence[int]) -> None:
        """Add what is missing in ring order: first to nodes below their share, then at it, then up to the bound."""
        for limits in (self._least, self._fair, self._most):
            self._fill_up_to(limits, order, points)
        for partition in self._incomplete():
            self._force(partition)

    def raise_poor(self) -> None:
        """Bring every node near its fair share, moving what was there before only for the sake of very poor ones."""
        for node, least in enumerate(self._least):
            while len(self._held[node]) < least and self._receive(node, self._newly_held):
                pass
        for node, tolerated in enumerate(self._tolerated):
            if len(self._held[node]) < tolerated:
                self._raise(node)

    def lower_rich(self) -> None:
        """Bring every node to its bound."""
        for node, most in enumerate(self._most):
            while len(self._held[node]) > most and self._make_room(node):
                pass

    def _raise(self, node: int) -> None:
        while len(self._held[node]) < self._least[node] and self._receive(node, self._all_held):
            pass
        while len(self._held[node]) < self._tolerated[node] and self._receive_by_chain(node):
            pass

    def _all_held(self, node: int) -> Iterable[int]:
        return self._held[node]

    def _newly_held(self, node: int) -> Iterable[int]:
        return (partition for partition in self._held[node] if partition not in self._kept[node])

    def _fits(self, partition: int, node: int) -> bool:
        replicas = self.replicas[partition]
        if node in replicas or len(replicas) == self._spread.replicas:
            return False
        return self._spread.allows([*replicas, node])

    def _may_replace(self, partition: int, old: int, new: int) -> bool:
        replicas = self.replicas[partition]
        return new not in replicas and self._spread.allows([new if node == old else node for node in replicas])

    def _add(self, partition: int, node: int) -> None:
        self.replicas[partition].append(node)
        self._held[node][partition] = None

    def _replace(self, partition: int, old: int, new: int) -> None:
        replicas = self.replicas[partition]
        replicas[replicas.index(old)] = new
        del self._held[old][partition]
        self._held[new][partition] = None

    def _incomplete(self) -> list[int]:
        return [at for at, replicas in enumerate(self.replicas) if len(replicas) < self._spread.replicas]

    def _has_room(self, limits: Sequence[int], node: int) -> bool:
        return len(self._held[node]) < limits[node]

    def _fill_up_to(self, limits: Sequence[int], order: RingOrder, points: Sequence[int]) -> None:
        with_room = {node for node in range(len(limits)) if self._has_room(limits, node)}
        for partition in self._incomplete():
            if len(with_room) <= NARROWING * order.width:
                order = order.narrowed(with_room)
            for node in order.candidates(points[partition]):
                if node in with_room and self._fits(partition, node):
                    self._add(partition, node)
                    if not self._has_room(limits, node):
                        with_room.discard(node)
                    if len(self.replicas[partition]) == self._spread.replicas:
                        break

    def _force(self, partition: int) -> None:
        """Complete a partition whose possible nodes are all full, by shifting others' replicas out of the way."""
        nodes = range(len(self._held))
        while len(self.replicas[partition]) < self._spread.replicas:
            possible = [node for node in nodes if self._fits(partition, node)]
            freed = (node for node in possible if self._make_room(node) and self._fits(partition, node))
            node = next(freed, None)
            self._add(partition, next(node for node in nodes if self._fits(partition, node)) if node is None else node)

    def _make_room(self, node: int) -> bool:
        """Pass one replica on from a node, to where there is room: rather a new one than one that was there."""
        return any(
            self._pass_on(node, movable, partial(self._has_room, limits))
            for movable in (self._newly_held, self._all_held)
            for limits in (self._fair, self._most)
        )

    def _richest(self) -> list[int]:
        rich = [node for node, held in enumerate(self._held) if len(held) > self._least[node]]
        return sorted(rich, key=lambda node: self._shares[node] - len(self._held[node]))

    def _receive(self, node: int, movable: Movable) -> bool:
        for rich in self._richest():
            for partition in movable(rich):
                if self._may_replace(partition, rich, node):
                    self._replace(partition, rich, node)
                    return True
        return False

    def _receive_by_chain(self, node: int) -> bool:
        return any(
            self._pass_on(rich, movable, node.__eq__)
            for movable in (self._newly_held, self._all_held)
            for rich in self._richest()
        )

    def _pass_on(self, source: int, movable: Movable, is_goal: Callable[[int], bool]) -> bool:
        """Pass one replica on along the shortest chain of nodes from `source` to a goal. False if there is none."""
        chain = shortest_chain(source, partial(self._replacements, movable), is_goal)
        for step in reversed(chain):
            self._replace(step.partition, step.start, step.end)
        return bool(chain)

    def _replacements(self, movable: Movable, node: int, arrived: Container[int]) -> Iterator[Step]:
        for partition in movable(node):
            for other in range(len(self._held)):
                if other not in arrived and self._may_replace(partition, node, other):
                    yield Step(node, partition, other)
