"""Reports of nodes that survived, for tests of recovery."""

from collections.abc import Sequence

from support.ring_nodes import node_record

from ringhold.node.consensus.configuration import Configuration, ReplicaId
from ringhold.node.recovery.reports import Copy, Health, NodeReport
from ringhold.ring.topology import SYSTEM_GROUP, NodeState, Topology, group_of_partition

OLD, NEW = "old-id", "new-id"
PARTITION = group_of_partition(0)
OTHER_PARTITION = group_of_partition(1)


def topology(nodes: str, *, replication_factor: int = 3, epoch: int = 7, removed: str = "") -> Topology:
    """Nodes by letter; partition 0 and the system group on the first of them, partition 1 on the last."""
    ids = sorted(nodes + removed)
    states = {node_id: NodeState.REMOVED if node_id in removed else NodeState.NORMAL for node_id in ids}
    system = max(count for count in (1, 3, 5) if count <= min(len(nodes), replication_factor))
    return Topology(
        cluster_name="c",
        cluster_id=OLD,
        epoch=epoch,
        feature_level=1,
        partitions=2,
        replication_factor=replication_factor,
        nodes=tuple(node_record(node_id, state=states[node_id]) for node_id in ids),
        targets=(tuple(nodes[:replication_factor]), tuple(nodes[-replication_factor:])),
        system_voters=tuple(nodes[:system]),
    )


def members(voters: str, learners: str = "", number: int = 0) -> Configuration:
    """Replicas by the letters of their nodes."""
    return Configuration(
        tuple(ReplicaId(node_id, number) for node_id in voters), tuple(ReplicaId(n, number) for n in learners)
    )


def copy(
    voters: str,
    *,
    last: int = 10,
    term: int = 2,
    group: int = PARTITION,
    health: Health = Health.HEALTHY,
    number: int = 0,
    learners: str = "",
    revision: int = 0,
) -> Copy:
    """A copy whose log ends at `last`, all of it applied but one entry."""
    return Copy(
        group=group,
        health=health,
        number=number,
        applied_index=max(0, last - 1),
        last_index=last,
        last_term=term,
        term=term,
        revision=revision,
        configuration=members(voters, learners, number),
    )


def report(node_id: str, known: Topology, *copies: Copy, cluster_id: str = OLD) -> NodeReport:
    """What the node of a letter says; of groups that are not given it has a copy that is like those of all others."""
    given = {each.group: each for each in copies}
    hosted = {SYSTEM_GROUP: known.system_voters, **dict(enumerate(known.targets, group_of_partition(0)))}
    for group, nodes in hosted.items():
        if node_id in nodes and group not in given:
            given[group] = copy("".join(nodes), group=group)
    return NodeReport(
        node_id=node_id,
        name=f"name-{node_id}",
        cluster_id=cluster_id,
        engine="sqlite",
        generation=3,
        topology=known,
        copies=tuple(given[group] for group in sorted(given)),
    )


def without(known: NodeReport, groups: Sequence[int]) -> NodeReport:
    """The report of a node that has nothing of some groups."""
    kept = tuple(each for each in known.copies if each.group not in groups)
    return NodeReport(known.node_id, known.name, known.cluster_id, known.engine, known.generation, known.topology, kept)
