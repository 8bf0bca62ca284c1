"""Placement: the function that computes which nodes should hold each partition. The cluster stores what it gives.

It looks at the topology's states and never at liveness, keeps what is legal of the targets before, and gives the same
answer for the same arguments anywhere. See docs/architecture.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from .balance import Allocation
from .hashing import check_partition_count
from .leaders import with_even_leaders
from .order import RingOrder, partition_name
from .spread import Spread
from .topology import FEATURE_LEVEL, SYSTEM_VOTER_COUNTS, InvalidTopology, NodeRecord, NodeState, Targets, Topology

ELIGIBLE = (NodeState.JOINING, NodeState.NORMAL)


def place(
    nodes: Sequence[NodeRecord], partitions: int, replication_factor: int, previous: Targets | None = None
) -> Targets:
    """The target nodes of each partition, preferred leader first: min(`replication_factor`, eligible nodes) of them.

    * A partition's replicas lie in different zones, then on different hosts, while these last; after that as evenly as
      the numbers allow (see `Spread`).
    * No node holds more than ceil(1.1 * its fair share). This is partitions * replicas * weight / sum of weights, but
      less or more where zones and hosts, or the rule of one replica per node, allow no more or ask for more.
    * Preferred leaders are divided by weight. A node more or less moves about its fair share.

    `nodes` may come in any order. Raises InvalidTopology if none of them may hold anything; ValueError for a number of
    partitions that is no power of two.
    """
    check_partition_count(partitions)
    eligible = sorted((node for node in nodes if node.state in ELIGIBLE), key=attrgetter("id"))
    if not eligible:
        raise InvalidTopology("no node is JOINING or NORMAL")
    replicas = _replicas(eligible, partitions, min(replication_factor, len(eligible)), previous or ())
    leading = with_even_leaders(replicas, [node.weight for node in eligible])
    return tuple(tuple(eligible[at].id for at in ordered) for ordered in leading)


def found(
    cluster_name: str, cluster_id: str, partitions: int, replication_factor: int, nodes: Sequence[NodeRecord]
) -> Topology:
    """The first epoch of a cluster: all of `nodes` NORMAL, whatever their state says.

    The system group has 5, 3 or 1 voters, no more than a partition has replicas. Raises InvalidTopology.
    """
    members = tuple(sorted((_normal(node) for node in nodes), key=attrgetter("id")))
    voters = system_voter_count(replication_factor, members)
    return Topology(
        cluster_name=cluster_name,
        cluster_id=cluster_id,
        epoch=1,
        feature_level=FEATURE_LEVEL,
        partitions=partitions,
        replication_factor=replication_factor,
        nodes=members,
        targets=place(members, partitions, replication_factor),
        system_voters=place(members, 1, voters)[0],
    )


def system_voter_count(replication_factor: int, nodes: Sequence[NodeRecord]) -> int:
    """How many voters the system group has: 5, 3 or 1, no more than a partition has replicas."""
    replicas = min(replication_factor, sum(node.state in ELIGIBLE for node in nodes))
    return max(count for count in SYSTEM_VOTER_COUNTS if count <= max(1, replicas))


def _replicas(
    nodes: Sequence[NodeRecord], partitions: int, replicas: int, previous: Targets
) -> Sequence[Sequence[int]]:
    spread = Spread.over(nodes, replicas)
    shares = [share * partitions for share in spread.shares([node.weight for node in nodes])]
    order, hashed = RingOrder.over(nodes)
    position = {node.id: at for at, node in enumerate(nodes)}
    allocation = Allocation(spread, shares, partitions)
    allocation.keep([position[node_id] for node_id in ids if node_id in position] for ids in previous[:partitions])
    allocation.fill(order, [hashed(partition_name(partition)) for partition in range(partitions)])
    allocation.raise_poor()
    allocation.lower_rich()
    return allocation.replicas


def _normal(node: NodeRecord) -> NodeRecord:
    return replace(node, state=NodeState.NORMAL)
