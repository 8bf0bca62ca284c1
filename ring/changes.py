"""What may become of a topology: each order and each thing that happened gives the next epoch, or says why not.

Pure, and as slow as placing is: thousands of partitions on hundreds of nodes take a second or more. A change is carried
by the log as what differs. See docs/protocols/moves.md.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from .placement import ELIGIBLE, place, place_system
from .topology import (
    REPLICATION_FACTOR_MAX,
    SYSTEM_GROUP,
    InvalidTopology,
    Moving,
    NodeRecord,
    NodeState,
    Targets,
    Topology,
    group_of_partition,
)


class ChangeRefused(ValueError):
    """An order that can't be carried out; the message says why, for whoever gave it."""


@dataclass(frozen=True, slots=True)
class TopologyChange:
    """What turns the topology of `epoch` into the next one.

    `nodes` are new ones, or take the places of those with their ids; `targets` are (partition, node ids), those that
    differ; the rest is as it will be.
    """

    epoch: int
    replication_factor: int
    nodes: tuple[NodeRecord, ...]
    targets: tuple[tuple[int, tuple[str, ...]], ...]
    system_voters: tuple[str, ...]
    moving: Moving

    @staticmethod
    def between(before: Topology, after: Topology) -> "TopologyChange":
        """What differs; `after` is the next epoch of the same cluster."""
        assert (after.cluster_id, after.epoch) == (before.cluster_id, before.epoch + 1)
        known = {node.id: node for node in before.nodes}
        return TopologyChange(
            before.epoch,
            after.replication_factor,
            tuple(node for node in after.nodes if known.get(node.id) != node),
            tuple((at, ids) for at, ids in enumerate(after.targets) if before.targets[at] != ids),
            after.system_voters,
            after.moving,
        )

    def applied_to(self, topology: Topology) -> Topology:
        """The next epoch. Raises InvalidTopology if it would break a rule; a removed node stays as it is for ever."""
        assert topology.epoch == self.epoch
        nodes = {node.id: node for node in topology.nodes}
        for node in self.nodes:
            known = nodes.get(node.id)
            if known is not None and known.state is NodeState.REMOVED:
                raise InvalidTopology(f"the node {node.id} has been removed")
            nodes[node.id] = node
        targets = list(topology.targets)
        for partition, ids in self.targets:
            if not 0 <= partition < topology.partitions:
                raise InvalidTopology(f"there is no partition {partition}")
            targets[partition] = ids
        return replace(
            topology,
            epoch=topology.epoch + 1,
            replication_factor=self.replication_factor,
            nodes=tuple(sorted(nodes.values(), key=attrgetter("id"))),
            targets=tuple(targets),
            system_voters=self.system_voters,
            moving=self.moving,
        )


def admit(topology: Topology, newcomers: Sequence[NodeRecord], lost: Collection[str] = ()) -> Topology:
    """Nodes come in, JOINING, and get their share of replicas; those of the ids `lost` are gone for good.

    Raises InvalidTopology if the topology can't hold a newcomer, or has held one of its id.
    """
    for node in newcomers:
        if topology.node(node.id) is not None:
            raise InvalidTopology(f"there is a node {node.id} already")
    gone = [replace(node, state=NodeState.REMOVED) for node in topology.nodes if node.id in lost]
    joining = [replace(node, state=NodeState.JOINING) for node in newcomers]
    return _placed(topology, [*gone, *joining])


def decommission(topology: Topology, node_id: str) -> Topology:
    """A node begins to leave for good: it serves until its last replica has moved. Raises ChangeRefused."""
    node = _present(topology, node_id)
    if node.state is NodeState.LEAVING:
        return topology
    return _placed(topology, [replace(node, state=NodeState.LEAVING)])


def keep(topology: Topology, node_id: str) -> Topology:
    """A node that was to leave stays. Raises ChangeRefused.

    What is on its way goes back where it is not known to have left, but for what is on its way to a JOINING node. So
    the targets hold the same nodes as before if the order to leave was the only change since the topology was settled.
    """
    node = _present(topology, node_id)
    if node.state is not NodeState.LEAVING:
        return topology
    return _placed(topology, [replace(node, state=NodeState.JOINING)], keeps_holders=True)


def remove(topology: Topology, node_id: str) -> Topology:
    """A node is dead for good: nobody speaks to it any more, and its replicas are made anew. Raises ChangeRefused."""
    return _placed(topology, [replace(_present(topology, node_id), state=NodeState.REMOVED)])


def cordon(topology: Topology, node_id: str, *, is_on: bool) -> Topology:
    """A node gets no more replicas than it has or is about to get, or may get some again. Raises ChangeRefused."""
    node = _present(topology, node_id)
    return topology if node.cordoned is is_on else _placed(topology, [replace(node, cordoned=is_on)])


def with_replication_factor(topology: Topology, replication_factor: int) -> Topology:
    """Each partition gets so many replicas, or as many as there are nodes. Raises ChangeRefused."""
    if not 1 <= replication_factor <= REPLICATION_FACTOR_MAX:
        raise ChangeRefused(f"the replication factor is from 1 to {REPLICATION_FACTOR_MAX}, not {replication_factor}")
    if replication_factor == topology.replication_factor:
        return topology
    return _placed(topology, [], replication_factor=replication_factor)


def is_described(topology: Topology, node: NodeRecord) -> bool:
    """Whether the topology says of a node what `node` says; `state` and `cordoned` are not looked at."""
    known = topology.node(node.id)
    return known is not None and (known.state is NodeState.REMOVED or _as_known(node, known) == known)


def describe_anew(topology: Topology, described: Iterable[NodeRecord]) -> Topology:
    """Nodes have other addresses, hosts, zones, weights or names than the topology says: those that it has.

    `state` and `cordoned` of `described` are not looked at. Raises InvalidTopology.
    """
    changed: list[NodeRecord] = []
    must_place = False
    for node in described:
        known = topology.node(node.id)
        if known is not None and not is_described(topology, node):
            changed.append(_as_known(node, known))
            must_place |= (node.host, node.zone, node.weight) != (known.host, known.zone, known.weight)
    if not changed:
        return topology
    return _placed(topology, changed) if must_place else _with_nodes(topology, changed)


def _as_known(node: NodeRecord, known: NodeRecord) -> NodeRecord:
    return replace(node, state=known.state, cordoned=known.cordoned)


def settle(topology: Topology, members: Mapping[int, frozenset[str]]) -> Topology:
    """What has been reached is noted: who has arrived is NORMAL, who has left REMOVED, and what has moved is done.

    `members`: the nodes of each group's members, of groups whose newest configuration is committed and has no learners;
    the others are left out.
    """
    reached = {group for group in topology.groups if members.get(group) == frozenset(topology.targets_of(group))}
    awaited = {node_id for group in topology.groups if group not in reached for node_id in topology.targets_of(group)}
    is_complete = all(group in members for group in topology.groups)
    held = frozenset[str]().union(*members.values()) if is_complete else frozenset[str]()
    changed = [
        replace(node, state=NodeState.NORMAL if node.state is NodeState.JOINING else NodeState.REMOVED)
        for node in topology.nodes
        if (node.state is NodeState.JOINING and node.id not in awaited)
        or (node.state is NodeState.LEAVING and is_complete and node.id not in held and node.id not in awaited)
    ]
    moving = tuple((group, holders) for group, holders in topology.moving if group not in reached)
    if not changed and moving == topology.moving:
        return topology
    return replace(_with_nodes(topology, changed), moving=_without(_removed(changed), moving))


def _present(topology: Topology, node_id: str) -> NodeRecord:
    node = topology.node(node_id)
    if node is None or node.state is NodeState.REMOVED:
        raise ChangeRefused(f"there is no node {node_id}" if node is None else f"the node {node.name} has been removed")
    return node


def _with_nodes(topology: Topology, changed: Iterable[NodeRecord]) -> Topology:
    return replace(topology, epoch=topology.epoch + 1, nodes=_nodes(topology, changed))


def _nodes(topology: Topology, changed: Iterable[NodeRecord]) -> tuple[NodeRecord, ...]:
    nodes = {node.id: node for node in (*topology.nodes, *changed)}
    return tuple(sorted(nodes.values(), key=attrgetter("id")))


def _placed(
    topology: Topology,
    changed: Iterable[NodeRecord],
    *,
    replication_factor: int | None = None,
    keeps_holders: bool = False,
) -> Topology:
    """The next epoch, with its replicas where these nodes want them. Raises ChangeRefused if some could be nowhere.

    What is on its way goes on; if `keeps_holders`, what has not left rather stays.
    """
    nodes = _nodes(topology, changed)
    factor = replication_factor or topology.replication_factor
    if not any(node.state in ELIGIBLE for node in nodes):
        raise ChangeRefused("no node would be left to hold anything")
    holders = dict(topology.moving)
    previous = [_previous(topology, group, holders.get(group, ()), keeps_holders) for group in topology.groups]
    try:
        voters = place_system(nodes, factor, previous[SYSTEM_GROUP])
        targets = place(nodes, topology.partitions, factor, tuple(previous[SYSTEM_GROUP + 1 :]))
    except InvalidTopology as error:
        raise ChangeRefused(str(error)) from error
    return replace(
        topology,
        epoch=topology.epoch + 1,
        replication_factor=factor,
        nodes=nodes,
        targets=targets,
        system_voters=voters,
        moving=_moving(topology, nodes, targets, voters),
    )


def _previous(topology: Topology, group: int, holders: Sequence[str], keeps_holders: bool) -> tuple[str, ...]:
    """The nodes that are to hold a group or still may, those first that rather should."""
    targets = topology.targets_of(group)
    if not keeps_holders:
        return tuple(dict.fromkeys((*targets, *(each for each in holders if not _is_cordoned(topology, each)))))
    if any(_is_joining(topology, each) for each in targets if each not in holders):
        return tuple(dict.fromkeys((*targets, *holders)))
    return tuple(dict.fromkeys((*(each for each in targets if each in holders), *holders, *targets)))


def _is_cordoned(topology: Topology, node_id: str) -> bool:
    node = topology.node(node_id)
    return node is not None and node.cordoned


def _is_joining(topology: Topology, node_id: str) -> bool:
    node = topology.node(node_id)
    return node is not None and node.state is NodeState.JOINING


def _moving(before: Topology, nodes: Sequence[NodeRecord], targets: Targets, voters: tuple[str, ...]) -> Moving:
    """Where each group was that is not known to be where it should be. Removed nodes don't count: nobody asks them."""
    formerly = dict(before.moving)
    moving: list[tuple[int, tuple[str, ...]]] = []
    for group, ids in [(SYSTEM_GROUP, voters), *((group_of_partition(at), ids) for at, ids in enumerate(targets))]:
        earlier = before.targets_of(group)
        if group in formerly or set(ids) != set(earlier):
            holders = dict.fromkeys((*formerly.get(group, ()), *earlier))
            moving.append((group, tuple(holders)))
    return _without(_removed(nodes), moving)


def _removed(nodes: Iterable[NodeRecord]) -> set[str]:
    return {node.id for node in nodes if node.state is NodeState.REMOVED}


def _without(gone: Collection[str], moving: Iterable[tuple[int, tuple[str, ...]]]) -> Moving:
    return tuple((group, tuple(each for each in holders if each not in gone)) for group, holders in moving)
