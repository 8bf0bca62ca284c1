"""The topology: what the cluster is made of and which nodes should hold each partition, as one numbered value.

It is kept in the system group and changes by committed commands only; readers take the targets from here and never
compute them. An object of these classes is valid: whatever makes one checks it. See docs/architecture.md.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import TypeAlias, TypeVar

from .hashing import check_partition_count

SYSTEM_GROUP = 0
FEATURE_LEVEL = 1
"""The highest feature level that this release knows; a cluster is founded at it."""

SYSTEM_VOTER_COUNTS = (1, 3, 5)
EPOCH_MAX = 2**63 - 1
FEATURE_LEVEL_MAX = 2**31 - 1
NODES_MAX = 4_096
REPLICATION_FACTOR_MAX = 9
TEXT_CHARACTERS_MAX = 256
TOPOLOGY_BYTES_MAX = 8 * 1024 * 1024
WEIGHT_MAX = 256

Targets: TypeAlias = tuple[tuple[str, ...], ...]
"""Node ids by partition, the preferred leader's first."""

Moving: TypeAlias = tuple[tuple[int, tuple[str, ...]], ...]
"""(group, ids of the nodes that may hold it beside its targets), ascending by group."""

Described = TypeVar("Described")


class InvalidTopology(ValueError):
    """A topology, or a part of one, breaks a rule; the message says which."""


class NodeState(StrEnum):
    """What a node may own: JOINING and NORMAL nodes get replicas, LEAVING and REMOVED ones get none."""

    JOINING = "JOINING"
    NORMAL = "NORMAL"
    LEAVING = "LEAVING"
    REMOVED = "REMOVED"


def group_of_partition(partition: int) -> int:
    """The consensus group of a partition; group 0 is the system group."""
    return partition + 1


def partition_of_group(group: int) -> int:
    """The partition that a group other than the system group serves."""
    assert group > SYSTEM_GROUP, group
    return group - 1


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as the cluster has agreed on it. `host` and `zone` are the machine and the place it fails with.

    A `cordoned` node keeps the replicas that it has and gets no others.

    Raises InvalidTopology for texts that are empty (`host` and `zone` may be), too long or unprintable, and for a
    weight outside 1 to `WEIGHT_MAX`.
    """

    id: str
    name: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    state: NodeState
    cordoned: bool = False

    def __post_init__(self) -> None:
        for what in ("id", "name", "grpc_address", "http_address"):
            _check_text(f"a node's {what}", getattr(self, what), characters_min=1)
        for what in ("host", "zone"):
            _check_text(f"a node's {what}", getattr(self, what), characters_min=0)
        _check_range("a node's weight", self.weight, 1, WEIGHT_MAX)


@dataclass(frozen=True, slots=True)
class Topology:
    """One epoch of the cluster: `nodes` ascending by id, `targets` with one entry for each partition.

    `moving` are the groups whose replicas are not known to be where they should be: where they were until all are.

    Raises InvalidTopology for whatever contradicts itself: a number out of its range, nodes out of order, a name that
    two nodes bear (removed ones aside), targets that are missing, doubled or of a node that is not there.
    """

    cluster_name: str
    cluster_id: str
    epoch: int
    feature_level: int
    partitions: int
    replication_factor: int
    nodes: tuple[NodeRecord, ...]
    targets: Targets
    system_voters: tuple[str, ...]
    moving: Moving = ()

    def __post_init__(self) -> None:
        _check_text("the cluster's name", self.cluster_name, characters_min=1)
        _check_text("the cluster's id", self.cluster_id, characters_min=1)
        _check_range("the epoch", self.epoch, 1, EPOCH_MAX)
        _check_range("the feature level", self.feature_level, 1, FEATURE_LEVEL_MAX)
        _check_range("the replication factor", self.replication_factor, 1, REPLICATION_FACTOR_MAX)
        _check_partitions(self.partitions)
        _check_nodes(self.nodes)
        _check_targets(self)
        _check_size(self)

    def node(self, node_id: str) -> NodeRecord | None:
        """The node of that id, None if there is none."""
        at = bisect_left(self.nodes, node_id, key=attrgetter("id"))
        return self.nodes[at] if at < len(self.nodes) and self.nodes[at].id == node_id else None

    def node_named(self, name: str) -> NodeRecord | None:
        """The node that bears the name now (a removed one does no longer), None if there is none."""
        return next((n for n in self.nodes if n.name == name and n.state is not NodeState.REMOVED), None)

    @property
    def is_settled(self) -> bool:
        """Whether every replica is known to be where it should be, and nobody is on the way in or out."""
        return not self.moving and all(node.state in _AT_REST for node in self.nodes)

    def targets_of(self, group: int) -> tuple[str, ...]:
        """The nodes that should hold the group, the preferred leader first."""
        return self.system_voters if group == SYSTEM_GROUP else self.targets[partition_of_group(group)]

    @property
    def preferred_leaders(self) -> dict[int, str]:
        """By group the node that should lead it: the first of its targets."""
        return {group: self.targets_of(group)[0] for group in self.groups}

    @property
    def groups(self) -> range:
        """The system group, and one group for each partition."""
        return range(self.partitions + 1)

    def with_node(self, node: NodeRecord) -> "Topology":
        """The next epoch, with the node added, or in the place of the one with its id."""
        others = [other for other in self.nodes if other.id != node.id]
        return replace(self, epoch=self.epoch + 1, nodes=tuple(sorted([*others, node], key=attrgetter("id"))))

    def with_targets(self, targets: Targets) -> "Topology":
        """The next epoch, with other targets."""
        return replace(self, epoch=self.epoch + 1, targets=targets)

    def in_one_epoch(self, after: "Topology") -> "Topology":
        """What several changes have made of this topology, as the next epoch; this one if they have changed nothing."""
        is_changed = replace(after, epoch=self.epoch) != self
        return replace(after, epoch=self.epoch + 1) if is_changed else self

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII; targets and voters are positions in `nodes`.

        Equal topologies give equal bytes.
        """
        position = {node.id: at for at, node in enumerate(self.nodes)}
        document = {
            **{name: getattr(self, name) for name in _TOPOLOGY_FIELDS},
            "nodes": [asdict(node) for node in self.nodes],
            "targets": [[position[node_id] for node_id in replicas] for replicas in self.targets],
            "system_voters": [position[node_id] for node_id in self.system_voters],
            "moving": [[group, [position[node_id] for node_id in holders]] for group, holders in self.moving],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_json(document: bytes) -> "Topology":
        """Read what `to_json` wrote. Raises InvalidTopology, and nothing else, for any other bytes."""
        topology = _parsed(document)
        nodes = tuple(_node(node) for node in _array(topology["nodes"], "nodes"))
        return Topology(
            cluster_name=_text(topology["cluster_name"], "cluster_name"),
            cluster_id=_text(topology["cluster_id"], "cluster_id"),
            epoch=_integer(topology["epoch"], "epoch"),
            feature_level=_integer(topology["feature_level"], "feature_level"),
            partitions=_integer(topology["partitions"], "partitions"),
            replication_factor=_integer(topology["replication_factor"], "replication_factor"),
            nodes=nodes,
            targets=tuple(_ids(replicas, nodes) for replicas in _array(topology["targets"], "targets")),
            system_voters=_ids(topology["system_voters"], nodes),
            moving=tuple(_moving(pair, nodes) for pair in _array(topology["moving"], "moving")),
        )


_AT_REST = (NodeState.NORMAL, NodeState.REMOVED)
_NODE_FIELDS = tuple(field.name for field in fields(NodeRecord))
_TOPOLOGY_FIELDS = tuple(field.name for field in fields(Topology))


def _check_text(what: str, text: str, characters_min: int) -> None:
    if not characters_min <= len(text) <= TEXT_CHARACTERS_MAX:
        raise InvalidTopology(f"{what} has {characters_min} to {TEXT_CHARACTERS_MAX} characters, not {len(text)}")
    if not text.isprintable():
        raise InvalidTopology(f"{what} has unprintable characters: {text!a}")


def _check_range(what: str, number: int, lowest: int, highest: int) -> None:
    if not lowest <= number <= highest:
        raise InvalidTopology(f"{what} is from {lowest} to {highest}")


def _check_partitions(partitions: int) -> None:
    try:
        check_partition_count(partitions)
    except ValueError as error:
        raise InvalidTopology(str(error)) from error


def _check_nodes(nodes: Sequence[NodeRecord]) -> None:
    _check_range("the number of nodes", len(nodes), 1, NODES_MAX)
    ids = [node.id for node in nodes]
    if ids != sorted(set(ids)):
        raise InvalidTopology("the nodes are not in ascending order of their ids, each once")
    _check_distinct("a node's name", [node.name for node in nodes if node.state is not NodeState.REMOVED])


def _check_targets(topology: Topology) -> None:
    if len(topology.targets) != topology.partitions:
        raise InvalidTopology(f"{topology.partitions} partitions have {len(topology.targets)} targets")
    if len(topology.system_voters) not in SYSTEM_VOTER_COUNTS:
        raise InvalidTopology(f"the system group has 1, 3 or 5 voters, not {len(topology.system_voters)}")
    known = {node.id for node in topology.nodes}
    for replicas in topology.targets:
        _check_range("the number of a partition's replicas", len(replicas), 1, topology.replication_factor)
        _check_replicas(replicas, known)
    _check_replicas(topology.system_voters, known)
    _check_moving(topology, known)


def _check_moving(topology: Topology, known: set[str]) -> None:
    groups = [group for group, _ in topology.moving]
    if groups != sorted(set(groups)):
        raise InvalidTopology("the groups that move are not in ascending order, each once")
    for group, holders in topology.moving:
        _check_range("a group that moves", group, SYSTEM_GROUP, topology.partitions)
        _check_replicas(holders, known)


def _check_replicas(replicas: Sequence[str], known: set[str]) -> None:
    _check_distinct("a replica's node", replicas)
    if not known.issuperset(replicas):
        raise InvalidTopology("a replica's node is not among the nodes")


def _check_size(topology: Topology) -> None:
    """What can be made can be read back: a bound on the bytes of JSON, where a character takes 12 at most."""
    characters = sum(len(text) for node in topology.nodes for text in astuple(node) if isinstance(text, str))
    replicas = sum(map(len, topology.targets)) + sum(len(holders) + 3 for _, holders in topology.moving)
    bound = 10_000 + 12 * characters + 200 * len(topology.nodes) + 5 * replicas + 3 * topology.partitions
    if bound > TOPOLOGY_BYTES_MAX:
        raise InvalidTopology(f"the topology may take {bound} bytes, at most {TOPOLOGY_BYTES_MAX} are allowed")


def _check_distinct(what: str, texts: Sequence[str]) -> None:
    if len(set(texts)) != len(texts):
        raise InvalidTopology(f"{what} is there twice")


def _parsed(document: bytes) -> dict[str, object]:
    if len(document) > TOPOLOGY_BYTES_MAX:
        raise InvalidTopology(f"a topology has at most {TOPOLOGY_BYTES_MAX} bytes, not {len(document)}")
    try:
        value: object = json.loads(document.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidTopology(f"not JSON: {type(error).__name__}") from error
    return _object(value, "the topology", _TOPOLOGY_FIELDS)


def _node(value: object) -> NodeRecord:
    node = _object(value, "a node", _NODE_FIELDS)
    return NodeRecord(
        id=_text(node["id"], "id"),
        name=_text(node["name"], "name"),
        grpc_address=_text(node["grpc_address"], "grpc_address"),
        http_address=_text(node["http_address"], "http_address"),
        host=_text(node["host"], "host"),
        zone=_text(node["zone"], "zone"),
        weight=_integer(node["weight"], "weight"),
        state=_state(_text(node["state"], "state")),
        cordoned=_typed(node["cordoned"], bool, "cordoned"),
    )


def _moving(value: object, nodes: Sequence[NodeRecord]) -> tuple[int, tuple[str, ...]]:
    pair = _array(value, "a group that moves")
    if len(pair) != 2:
        raise InvalidTopology("a group that moves is not a pair")
    return _integer(pair[0], "a group"), _ids(pair[1], nodes)


def _state(text: str) -> NodeState:
    try:
        return NodeState(text)
    except ValueError as error:
        raise InvalidTopology(f"unknown node state {text[:TEXT_CHARACTERS_MAX]!a}") from error


def _ids(positions: object, nodes: Sequence[NodeRecord]) -> tuple[str, ...]:
    return tuple(_id_at(_integer(position, "a position"), nodes) for position in _array(positions, "positions"))


def _id_at(position: int, nodes: Sequence[NodeRecord]) -> str:
    if not 0 <= position < len(nodes):
        raise InvalidTopology(f"a position is outside the {len(nodes)} nodes")
    return nodes[position].id


def _object(value: object, what: str, names: Iterable[str]) -> dict[str, object]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise InvalidTopology(f"{what} is not an object of {', '.join(names)}")
    return value


def _array(value: object, what: str) -> list[object]:
    return _typed(value, list, what)


def _text(value: object, what: str) -> str:
    return _typed(value, str, what)


def _integer(value: object, what: str) -> int:
    return _typed(value, int, what)


def _typed(value: object, kind: type[Described], what: str) -> Described:
    if type(value) is not kind:  # a bool is no number
        raise InvalidTopology(f"{what} is a {type(value).__name__}, not a {kind.__name__}")
    return value
