"""What a change of the topology would do, before anybody orders it: moves, loads before and after, bytes, time.

Pure, like the changes themselves. See docs/protocols/moves.md.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TypeAlias

from .changes import admit
from .placement import ELIGIBLE, load_bounds
from .topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology

Groups: TypeAlias = Sequence[tuple[str, ...]]
"""Node ids by group."""


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A group that gets replicas on some nodes and loses those on others. `bytes` are copied in all."""

    group: int
    adding: tuple[str, ...]
    removing: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What a node holds of all partitions, and which of them prefer it as their leader. Its bytes are of all groups."""

    node_id: str
    replicas_before: int
    replicas_after: int
    leaders_before: int
    leaders_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves by group and loads by node id, both ascending; the bytes that all moves copy and the least time for it.

    `warnings` are sentences for people, about the topology after the change.
    """

    moves: tuple[PlannedMove, ...]
    loads: tuple[NodeLoad, ...]
    bytes: int
    seconds: float
    warnings: tuple[str, ...]


def plan(before: Topology, after: Topology, bytes_of: Mapping[int, int], bytes_per_s: int) -> Plan:
    """What is to do from where the replicas of `before` are, as far as that is known, to where `after` wants them.

    A group that is on the move counts as held by all nodes that may hold it, and by no others. `bytes_of` are a group's
    bytes of records, none if it is left out. `bytes_per_s` limits what a node sends and what it receives, each; 0 is no
    limit.
    """
    held = _holders(before)
    placed = _targets(after)
    moves = tuple(_moves(held, placed, bytes_of))
    return Plan(
        moves=moves,
        loads=_loads(before, after, (held, placed), bytes_of),
        bytes=sum(move.bytes for move in moves),
        seconds=_bytes_of_the_busiest(moves, held, after) / bytes_per_s if bytes_per_s else 0.0,
        warnings=tuple(_warnings(after)),
    )


def with_added(topology: Topology, number: int) -> Topology:
    """The topology if `number` nodes more were admitted: of weight 1, each on a host of its own, in the smallest zones.

    They are called new-1, new-2 and so on. Raises InvalidTopology if there would be too many.
    """
    if not number:
        return topology
    taken = {name for node in topology.nodes for name in (node.id, node.name)}
    names = (name for name in map("new-{}".format, count(1)) if name not in taken)
    sizes = Counter(node.zone for node in topology.nodes if node.state in ELIGIBLE)
    newcomers: list[NodeRecord] = []
    for name in islice(names, number):
        zone = min(sizes, key=lambda each: (sizes[each], each), default="")
        sizes[zone] += 1
        newcomers.append(NodeRecord(name, name, f"{name}:50051", f"{name}:50052", name, zone, 1, NodeState.JOINING))
    return admit(topology, newcomers)


def _holders(topology: Topology) -> Groups:
    """Who holds each group as far as is known, its likely leader first."""
    moving = dict(topology.moving)
    return [_led(moving.get(group) or targets, targets[0]) for group, targets in enumerate(_targets(topology))]


def _targets(topology: Topology) -> Groups:
    return [topology.targets_of(group) for group in topology.groups]


def _led(holders: Sequence[str], leader: str) -> tuple[str, ...]:
    return tuple(sorted(holders, key=lambda node_id: node_id != leader))


def _moves(held: Groups, placed: Groups, bytes_of: Mapping[int, int]) -> Iterator[PlannedMove]:
    for group, (holders, targets) in enumerate(zip(held, placed, strict=True)):
        adding = tuple(node_id for node_id in targets if node_id not in holders)
        removing = tuple(node_id for node_id in holders if node_id not in targets)
        if adding or removing:
            yield PlannedMove(group, adding, removing, bytes_of.get(group, 0) * len(adding))


def _bytes_of_the_busiest(moves: Iterable[PlannedMove], held: Groups, after: Topology) -> int:
    """The most bytes that any node sends or receives. The leader before sends, or the next if that one is removed."""
    sent: Counter[str] = Counter()
    received: Counter[str] = Counter()
    for move in moves:
        for node_id in move.adding:
            received[node_id] += move.bytes // len(move.adding)
        source = next((node_id for node_id in held[move.group] if not _is_removed(after, node_id)), None)
        if source is not None:
            sent[source] += move.bytes
    return max([*sent.values(), *received.values()], default=0)


def _loads(
    before: Topology, after: Topology, sides: tuple[Groups, Groups], bytes_of: Mapping[int, int]
) -> tuple[NodeLoad, ...]:
    replicas = [Counter(chain.from_iterable(groups[SYSTEM_GROUP + 1 :])) for groups in sides]
    leaders = [Counter(ids[0] for ids in groups[SYSTEM_GROUP + 1 :]) for groups in sides]
    sizes = [_bytes_held(groups, bytes_of) for groups in sides]
    return tuple(
        NodeLoad(node.id, *(counts[node.id] for counts in (*replicas, *leaders, *sizes)))
        for node in after.nodes
        if not _is_removed(before, node.id)
    )


def _bytes_held(groups: Groups, bytes_of: Mapping[int, int]) -> Counter[str]:
    held: Counter[str] = Counter()
    for group, ids in enumerate(groups):
        for node_id in ids:
            held[node_id] += bytes_of.get(group, 0)
    return held


def _is_removed(topology: Topology, node_id: str) -> bool:
    node = topology.node(node_id)
    return node is not None and node.state is NodeState.REMOVED


def _warnings(topology: Topology) -> Iterator[str]:
    yield from _missing_replicas(topology)
    yield from _fragile_partitions(topology)
    yield from _shared_places(topology, "in", "zone", {node.id: node.zone for node in topology.nodes})
    yield from _shared_places(topology, "on", "host", {node.id: node.host for node in topology.nodes})
    yield from _overloaded_nodes(topology)


def _missing_replicas(topology: Topology) -> Iterator[str]:
    factor = topology.replication_factor
    sizes = Counter(len(ids) for ids in topology.targets if len(ids) < factor)
    for size, partitions in sorted(sizes.items()):
        yield f"{_partitions(partitions)} {size} of {factor} replicas: there are too few nodes that may get one."


def _fragile_partitions(topology: Topology) -> Iterator[str]:
    """Of an even number of replicas, a majority is as many as of one more."""
    partitions = sum(len(ids) == 2 for ids in topology.targets)
    if partitions:
        yield f"{_partitions(partitions)} 2 replicas: the failure of either one stops the writes. One more would help."


def _shared_places(topology: Topology, at: str, place: str, place_of: Mapping[str, str]) -> Iterator[str]:
    """Nothing is said where no node tells its place."""
    there = {place_of[node.id] for node in topology.nodes if node.state in ELIGIBLE and not node.cordoned}
    if not any(place_of[node.id] for node in topology.nodes if node.state in ELIGIBLE):
        return
    shared = [len(ids) for ids in topology.targets if len({place_of[node_id] for node_id in ids}) < len(ids)]
    needless = sum(size <= len(there) for size in shared)
    if needless:
        yield f"{_partitions(needless)} replicas {at} the same {place} although they need not."
    if len(shared) > needless:
        have = _partitions(len(shared) - needless)
        where = f"{len(there)} {place}" if len(there) == 1 else f"{len(there)} {place}s"
        yield f"{have} replicas {at} the same {place}: the nodes that may get replicas are {at} {where}."


def _overloaded_nodes(topology: Topology) -> Iterator[str]:
    loads = Counter(chain.from_iterable(topology.targets))
    for node_id, most in load_bounds(topology).items():
        if loads[node_id] > most:
            node = topology.node(node_id)
            assert node is not None
            yield f"The node {node.name} has {loads[node_id]} replicas, more than its bound of {most}."


def _partitions(count: int) -> str:
    return "1 partition has" if count == 1 else f"{count} partitions have"
