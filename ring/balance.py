"""Which nodes hold each partition: what was there stays, gaps are filled in ring order, loads come to their fair share.

Every step keeps the spread's rules. Nodes are known by their position here. See docs/architecture.md.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from heapq import heapify, heappop, heappush
from math import ceil, floor
from typing import TypeAlias

from .chains import Step, shortest_chain
from .order import RingOrder
from .spread import Spread

Movable: TypeAlias = Sequence[Mapping[int, None]]
"""Which partitions may be moved away, by the node that holds them."""

LOAD_SLACK = Fraction(11, 10)
"""No node holds more than its fair share times this, rounded up."""

NARROWING = 0.8
"""The ring is narrowed to the nodes that have room once they are no more than this part of it."""


def load_max(share: Fraction, partitions: int) -> int:
    """The most replicas that a node with this fair share of all replicas should hold."""
    return min(partitions, ceil(share * LOAD_SLACK))


class Allocation:
    """The replicas of each partition, in the order in which they came. `place` runs its steps in their order."""

    def __init__(
        self,
        kept: Sequence[Sequence[int]],
        spreads: Sequence[Spread],
        shares: Sequence[Fraction],
        receivers: Sequence[int],
    ) -> None:
        """What each partition keeps and the rules that it follows; each node's fair number of all replicas.

        `receivers` are the nodes that may get replicas. The others keep what they have, whatever their share is.
        """
        self.replicas = [list(nodes) for nodes in kept]
        self._spreads = spreads
        self._receivers = receivers
        self._shares = [float(share) for share in shares]
        self._held: list[dict[int, None]] = [{} for _ in shares]  # a set that iterates in the order of insertion
        self._newly_held: list[dict[int, None]] = [{} for _ in shares]
        for partition, nodes in enumerate(kept):
            for node in nodes:
                self._held[node][partition] = None
        self._kept = [frozenset(held) for held in self._held]
        self._least = [floor(share) for share in shares]
        self._fair = [ceil(share) for share in shares]
        self._most = [load_max(share, len(kept)) for share in shares]
        self._tolerated = [floor(share / LOAD_SLACK) for share in shares]

    def fill(self, order: RingOrder, points: Sequence[int]) -> None:
        """Add what is missing in ring order: first to nodes below their share, then at it, then up to the bound."""
        for limits in (self._least, self._fair, self._most):
            self._fill_up_to(limits, order, points)
        for partition in self._incomplete():
            self._force(partition)

    def raise_poor(self) -> None:
        """Bring every node near its fair share, moving what was there before only for the sake of very poor ones."""
        for node in self._receivers:
            self._receive(node, self._newly_held)
        for node in self._receivers:
            if self._has_room(self._tolerated, node):
                self._raise(node)

    def lower_rich(self) -> None:
        """Bring every node to its bound."""
        for node in self._receivers:
            while len(self._held[node]) > self._most[node] and self._make_room(node):
                pass

    def _raise(self, node: int) -> None:
        self._receive(node, self._held)
        while self._has_room(self._tolerated, node) and self._receive_by_chain(node):
            pass

    def _fits(self, partition: int, node: int) -> bool:
        replicas = self.replicas[partition]
        return node not in replicas and self._lacks(partition) and self._spreads[partition].allows([*replicas, node])

    def _may_replace(self, partition: int, old: int, new: int) -> bool:
        replicas = self.replicas[partition]
        return new not in replicas and self._spreads[partition].allows_exchange(replicas, old, new)

    def _add(self, partition: int, node: int) -> None:
        self.replicas[partition].append(node)
        self._take(partition, node)

    def _replace(self, partition: int, old: int, new: int) -> None:
        replicas = self.replicas[partition]
        replicas[replicas.index(old)] = new
        del self._held[old][partition]
        self._newly_held[old].pop(partition, None)
        self._take(partition, new)

    def _take(self, partition: int, node: int) -> None:
        self._held[node][partition] = None
        if partition not in self._kept[node]:
            self._newly_held[node][partition] = None

    def _incomplete(self) -> list[int]:
        return [partition for partition in range(len(self.replicas)) if self._lacks(partition)]

    def _lacks(self, partition: int) -> bool:
        return len(self.replicas[partition]) < self._spreads[partition].replicas

    def _has_room(self, limits: Sequence[int], node: int) -> bool:
        return len(self._held[node]) < limits[node]

    def _fill_up_to(self, limits: Sequence[int], order: RingOrder, points: Sequence[int]) -> None:
        with_room = {node for node in self._receivers if self._has_room(limits, node)}
        for partition in self._incomplete():
            if len(with_room) <= NARROWING * order.width:
                order = order.narrowed(with_room)
            for node in order.candidates(points[partition]):
                if node in with_room and self._fits(partition, node):
                    self._add(partition, node)
                    if not self._has_room(limits, node):
                        with_room.discard(node)
                    if not self._lacks(partition):
                        break

    def _force(self, partition: int) -> None:
        """Complete a partition whose possible nodes are all full, by shifting others' replicas out of the way."""
        while self._lacks(partition):
            possible = [node for node in self._receivers if self._fits(partition, node)]
            freed = (node for node in possible if self._make_room(node) and self._fits(partition, node))
            node = next(freed, None)
            if node is None:
                node = next(node for node in self._receivers if self._fits(partition, node))
            self._add(partition, node)

    def _make_room(self, node: int) -> bool:
        """Pass one replica on from a node, to where there is room: rather a new one than one that was there."""
        return any(
            self._pass_on(node, movable, partial(self._has_room, limits))
            for movable in (self._newly_held, self._held)
            for limits in (self._fair, self._most)
        )

    def _rich(self) -> list[int]:
        return [node for node in self._receivers if len(self._held[node]) > self._least[node]]

    def _poverty(self, node: int) -> float:
        return self._shares[node] - len(self._held[node])

    def _receive(self, node: int, movable: Movable) -> None:
        """Bring a node to its least, each time by a replica of whoever is the richest then, as far as the rules allow.

        What could not move to the node at first can't later on: each donor's partitions are looked at once.
        """
        if not self._has_room(self._least, node):
            return
        donors = [(self._poverty(rich), rich) for rich in self._rich()]
        heapify(donors)
        offered: dict[int, Iterator[int]] = {}
        while donors and self._has_room(self._least, node):
            _, rich = heappop(donors)
            if rich not in offered:
                offered[rich] = iter(list(movable[rich]))
            partition = next((each for each in offered[rich] if self._may_replace(each, rich, node)), None)
            if partition is None:
                continue
            self._replace(partition, rich, node)
            if len(self._held[rich]) > self._least[rich]:
                heappush(donors, (self._poverty(rich), rich))

    def _receive_by_chain(self, node: int) -> bool:
        return any(
            self._pass_on(rich, movable, node.__eq__)
            for movable in (self._newly_held, self._held)
            for rich in sorted(self._rich(), key=self._poverty)
        )

    def _pass_on(self, source: int, movable: Movable, is_goal: Callable[[int], bool]) -> bool:
        """Pass one replica on along the shortest chain of nodes from `source` to a goal. False if there is none."""
        chain = shortest_chain(source, partial(self._replacements, movable), is_goal)
        for step in reversed(chain):
            self._replace(step.partition, step.start, step.end)
        return bool(chain)

    def _replacements(self, movable: Movable, node: int, arrived: Container[int]) -> Iterator[Step]:
        for partition in movable[node]:
            for other in self._receivers:
                if other not in arrived and self._may_replace(partition, node, other):
                    yield Step(node, partition, other)
