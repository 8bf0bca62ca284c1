"""Placement: the function that computes which nodes should hold each partition. The cluster stores what it gives.

It looks at the topology's states and never at liveness, keeps what is legal of the targets before, and gives the same
answer for the same arguments anywhere. See docs/architecture.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from operator import attrgetter

from .balance import Allocation, load_max
from .hashing import check_partition_count
from .leaders import with_even_leaders
from .order import RingOrder, partition_name
from .shares import Division
from .spread import Spread
from .topology import FEATURE_LEVEL, SYSTEM_VOTER_COUNTS, InvalidTopology, NodeRecord, NodeState, Targets, Topology

ELIGIBLE = (NodeState.JOINING, NodeState.NORMAL)


def place(
    nodes: Sequence[NodeRecord], partitions: int, replication_factor: int, previous: Targets | None = None
) -> Targets:
    """The target nodes of each partition, preferred leader first: `replication_factor`, or as many as may hold it.

    JOINING and NORMAL nodes may. Of these a cordoned one keeps what it held and may lead it, and never gets another
    replica, not even where one is missing then: a partition has fewer replicas rather than one on a cordoned node.

    * A partition's replicas lie in different zones, then on different hosts, while these last; after that as evenly as
      the numbers allow (see `Spread`).
    * No node holds more than ceil(1.1 * its fair share). This is partitions * replicas * weight / sum of weights, but
      less or more where zones and hosts, or the rule of one replica per node, allow no more or ask for more. What
      cordoned nodes hold is no matter of balance: the others share the rest.
    * Preferred leaders are divided by weight. A node more or less moves about its fair share.

    `nodes` may come in any order. Raises InvalidTopology if there is a partition that none of them may hold; ValueError
    for a number of partitions that is no power of two.
    """
    check_partition_count(partitions)
    eligible = _eligible(nodes)
    if not eligible:
        raise InvalidTopology("no node is JOINING or NORMAL")
    replicas = _replicas(eligible, partitions, replication_factor, previous or ())
    leading = with_even_leaders(replicas, [node.weight for node in eligible])
    return tuple(tuple(eligible[at].id for at in ordered) for ordered in leading)


def found(
    cluster_name: str, cluster_id: str, partitions: int, replication_factor: int, nodes: Sequence[NodeRecord]
) -> Topology:
    """The first epoch of a cluster: all of `nodes` NORMAL, whatever their state says.

    The system group has 5, 3 or 1 voters, no more than a partition has replicas. Raises InvalidTopology.
    """
    members = tuple(sorted((_normal(node) for node in nodes), key=attrgetter("id")))
    return Topology(
        cluster_name=cluster_name,
        cluster_id=cluster_id,
        epoch=1,
        feature_level=FEATURE_LEVEL,
        partitions=partitions,
        replication_factor=replication_factor,
        nodes=members,
        targets=place(members, partitions, replication_factor),
        system_voters=place_system(members, replication_factor),
    )


def place_system(nodes: Sequence[NodeRecord], replication_factor: int, previous: Sequence[str] = ()) -> tuple[str, ...]:
    """The voters of the system group: 5, 3 or 1, no more than a partition would have replicas; else as `place`."""
    for count in sorted(SYSTEM_VOTER_COUNTS, reverse=True):
        if count <= replication_factor or count == 1:
            voters = place(nodes, 1, count, (tuple(previous),))[0]
            if len(voters) == count:
                return voters
    raise AssertionError("one node can always be a voter")


def load_bounds(topology: Topology) -> dict[str, int]:
    """The most replicas of partitions that each node should hold by its share, as `place` computes it.

    Nodes that may get none are left out: those that leave or have left, and cordoned ones.
    """
    nodes = _eligible(topology.nodes)
    receivers = _receivers(nodes)
    held = _positions(nodes, topology.targets)
    spreads = _spreads(nodes, topology.replication_factor, receivers, held)
    shares = _shares(nodes, spreads, held)
    return {nodes[at].id: load_max(shares[at], topology.partitions) for at in receivers}


def _eligible(nodes: Sequence[NodeRecord]) -> list[NodeRecord]:
    return sorted((node for node in nodes if node.state in ELIGIBLE), key=attrgetter("id"))


def _positions(nodes: Sequence[NodeRecord], targets: Targets) -> list[list[int]]:
    """Of each partition's targets, the positions of those that are among the nodes."""
    position = {node.id: at for at, node in enumerate(nodes)}
    return [[position[node_id] for node_id in ids if node_id in position] for ids in targets]


def _receivers(nodes: Sequence[NodeRecord]) -> list[int]:
    return [at for at, node in enumerate(nodes) if not node.cordoned]


def _replicas(
    nodes: Sequence[NodeRecord], partitions: int, replication_factor: int, previous: Targets
) -> Sequence[Sequence[int]]:
    receivers = _receivers(nodes)
    held = _positions(nodes, previous[:partitions])
    held += [[] for _ in range(partitions - len(held))]
    spreads = _spreads(nodes, replication_factor, receivers, held)
    kept = [spread.legal_part(holders) for spread, holders in zip(spreads, held, strict=True)]
    spreads = _spreads(nodes, replication_factor, receivers, kept)
    order, hashed = RingOrder.over(nodes)
    allocation = Allocation(kept, spreads, _shares(nodes, spreads, kept), receivers)
    allocation.fill(order, [hashed(partition_name(partition)) for partition in range(partitions)])
    allocation.raise_poor()
    allocation.lower_rich()
    return allocation.replicas


def _spreads(
    nodes: Sequence[NodeRecord], replication_factor: int, receivers: Sequence[int], held: Sequence[Sequence[int]]
) -> list[Spread]:
    """Each partition's rules: it may lie on the receivers, and on those cordoned nodes that hold it.

    Where a zone has receivers on more hosts than there are replicas, its rules ask for no host, and are the same
    whichever cordoned nodes are there too: all are, so that many partitions have the same rules.
    """
    hosts_in = Counter(zone for zone, _ in {(nodes[at].zone, nodes[at].host) for at in receivers})
    cordoned = frozenset(range(len(nodes))).difference(receivers)
    crowded = frozenset(at for at in cordoned if hosts_in[nodes[at].zone] <= replication_factor)
    always = sorted(cordoned.difference(crowded))
    spreads: dict[frozenset[int], Spread] = {}
    for partition, holders in enumerate(held):
        beside = crowded.intersection(holders)
        if beside in spreads:
            continue
        candidates = [*receivers, *always, *sorted(beside)]
        if not candidates:
            raise InvalidTopology(f"partition {partition} would be nowhere: every node that could get it is cordoned")
        spreads[beside] = Spread.over(nodes, min(replication_factor, len(candidates)), candidates)
    return [spreads[crowded.intersection(holders)] for holders in held]


def _shares(nodes: Sequence[NodeRecord], spreads: Sequence[Spread], kept: Sequence[Sequence[int]]) -> list[Fraction]:
    """Each node's fair number of replicas; a cordoned one's is what it keeps."""
    partitions = len(kept)
    loads = Counter(chain.from_iterable(kept))
    taken = {at: Fraction(loads[at], partitions) for at, node in enumerate(nodes) if node.cordoned}
    partitions_of = Counter(map(id, spreads))
    distinct = {id(spread): spread for spread in spreads}
    division = Division(
        [node.weight for node in nodes], [(spread, partitions_of[key]) for key, spread in distinct.items()], taken
    )
    return [share * partitions for share in division.shares()]


def _normal(node: NodeRecord) -> NodeRecord:
    return replace(node, state=NodeState.NORMAL)
