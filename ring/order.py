"""The order in which a partition asks the nodes to hold it: clockwise around a consistent-hashing ring.

The ring is uhashring's, built fresh and never changed. Its points are copied once, because its own `range` copies
them at each call.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from uhashring import HashRing

from .topology import NodeRecord

POINTS_PER_WEIGHT_MAX = 160
POINTS_MAX = 2**17


@dataclass(frozen=True, slots=True)
class RingOrder:
    """The points of a ring in ascending order, each with the position of its node."""

    points: Sequence[int]
    owners: Sequence[int]
    width: int
    """The number of nodes that have points."""

    @staticmethod
    def over(nodes: Sequence[NodeRecord]) -> tuple["RingOrder", Callable[[str], int]]:
        """The ring of `nodes` (ascending by id) and the function that hashes names onto it."""
        ring = hash_ring({node.id: node.weight for node in nodes})
        position = {node.id: at for at, node in enumerate(nodes)}
        points = ring.get_points()
        owners = [position[name] for _, name in points]
        return RingOrder([point for point, _ in points], owners, len(nodes)), ring.get_key

    def candidates(self, point: int) -> Iterator[int]:
        """Every node once, in the order of the ring behind a point."""
        start = bisect_right(self.points, point)
        seen = set()
        for at in range(start - len(self.owners), start):
            owner = self.owners[at]
            if owner not in seen:
                seen.add(owner)
                yield owner
                if len(seen) == self.width:
                    return

    def narrowed(self, nodes: set[int]) -> "RingOrder":
        """The same ring with the points of some nodes only."""
        kept = [at for at, owner in enumerate(self.owners) if owner in nodes]
        return RingOrder([self.points[at] for at in kept], [self.owners[at] for at in kept], len(nodes))


def hash_ring(weights: dict[str, int]) -> HashRing:
    """uhashring's md5 ring of nodes by id, with fewer points per weight the greater the weights' sum."""
    vnodes = max(1, min(POINTS_PER_WEIGHT_MAX, POINTS_MAX // sum(weights.values())))
    return HashRing(nodes={node_id: weights[node_id] for node_id in sorted(weights)}, vnodes=vnodes)


def partition_name(partition: int) -> str:
    """What is looked up on the ring for a partition."""
    return f"partition-{partition}"
