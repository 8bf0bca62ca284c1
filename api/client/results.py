"""What the client answers with: plain frozen values, so that a program never holds a message of the wire.

The fields are those of api/proto/ringhold/v1; positions in lists of nodes are replaced by the nodes' names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Record:
    """A key with what is stored under it.

    `version` is the revision of the key's partition at its last change, `create_version` at its creation.
    `indexes` has the values of each index under which the record is found, in the order in which they were set.
    `stale` says that a stale read gave it: then it is what was stored `behind_ms` milliseconds before the call, or
    newer (None: nobody knows how far behind the replica is). Any other record was the newest; its `behind_ms` is 0.
    """

    key: bytes
    value: bytes
    version: int
    create_version: int
    indexes: Mapping[str, list[bytes]] = field(default_factory=dict)
    stale: bool = False
    behind_ms: int | None = 0


@dataclass(frozen=True, slots=True)
class Match:
    """A key found under `index_value`; `record` is None if the query was made without records.

    `stale` and `behind_ms` are as in `Record`, for the page that the match came with.
    """

    key: bytes
    index_value: bytes
    record: Record | None = None
    stale: bool = False
    behind_ms: int | None = 0


class Fate(Enum):
    """What became of a mutation that was in doubt."""

    APPLIED = "applied"
    """It was applied, once."""

    ABORTED = "aborted"
    """It was not applied, and never will be."""

    UNKNOWN = "unknown"
    """It was asked about too late: nobody knows whether it was applied. From now on it won't be."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one Set or Delete did: `version` is that of the change, 0 of a Delete that found nothing.

    `existed` says whether there was a record before.
    """

    version: int
    existed: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a doubt ended. `changes` are there if the mutation was APPLIED: its own; of a batch, its command's.

    A command of a batch holds the mutations of one partition that have no request_id of their own, in their order, 96
    of them at most.
    """

    fate: Fate
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the answering node knows it.

    `state` is what the topology says (JOINING, NORMAL, LEAVING, REMOVED), `liveness` what gossip believes (ALIVE,
    SUSPECT, DEAD, LEFT); UNSPECIFIED if the answering node did not say. A `cordoned` node keeps the replicas that it
    has and gets no others.
    """

    id: str
    name: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    state: str
    liveness: str
    cordoned: bool = False


@dataclass(frozen=True, slots=True)
class Partition:
    """A slice of the keys: the names of its replicas' nodes, preferred leader first, and of its leader's if known.

    `log_time_ms` is the newest log time known of its group; 0 if unknown.
    """

    number: int
    replicas: tuple[str, ...]
    leader: str | None
    log_time_ms: int


@dataclass(frozen=True, slots=True)
class Topology:
    """What the cluster is made of, and who leads what; `partitions` is in the order of their numbers."""

    cluster_name: str
    cluster_id: str
    epoch: int
    replication_factor: int
    nodes: tuple[Node, ...]
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class UnhealthyReplica:
    """A replica that serves nothing until it is rebuilt. `partition` None: that of the system group.

    `health` is DAMAGED, INSTALLING (it is being rebuilt, or new) or GONE (it is to be replaced).
    """

    partition: int | None
    health: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Health and load of a node; all figures are 0 if it was not `reachable`.

    `bytes` counts keys, values and index entries of the partitions led. `reluctant_for` says why the node wants to lead
    none, such as "disk full"; empty: it leads what it should. `unhealthy` is what it should have a good copy of and has
    none. `scrub_age_s` seconds ago it had read all that it stores (None: not since its start); it has found
    `damage_found` things damaged since then.
    """

    node: Node
    reachable: bool
    partitions_led: int
    replicas: int
    keys: int
    bytes: int
    engine: str
    version: str
    uptime_s: float
    reluctant_for: tuple[str, ...] = ()
    unhealthy: tuple[UnhealthyReplica, ...] = ()
    scrub_age_s: float | None = None
    damage_found: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """A group whose replicas are not where they should be: `partition`, or None for the system group.

    `adding` and `removing` are names of nodes. `step` is WAITING (for its turn), COPYING (newcomers get a snapshot, or
    catch up), REMOVING (all newcomers vote; who is to leave still does, too) or UNKNOWN (the group's leader has not
    been heard). The bytes are rough, for a progress bar.
    """

    partition: int | None
    adding: tuple[str, ...]
    removing: tuple[str, ...]
    step: str
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Health and load of all nodes, and the partitions that have no reachable leader.

    `lost_partitions` are those of them that no node has a good copy of. The cluster `is_settled` if every replica is
    where it should be, and no node is on the way in or out; `moves` are the groups that are not there yet.
    """

    cluster_name: str
    cluster_id: str
    epoch: int
    nodes: tuple[NodeStatus, ...]
    unavailable_partitions: tuple[int, ...]
    lost_partitions: tuple[int, ...] = ()
    replication_factor: int = 0
    is_settled: bool = False
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """What a change has in mind for a group: `partition`, or None for the system group. Nodes are named.

    `bytes` is what is copied to all of `adding` together.
    """

    partition: int | None
    adding: tuple[str, ...]
    removing: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What a node holds before a change and after it: replicas, those that it leads by plan, and bytes of records."""

    name: str
    host: str
    zone: str
    replicas_before: int
    replicas_after: int
    leaders_before: int
    leaders_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class ClusterChange:
    """What a change of the cluster does, or, of a dry run, would do.

    `epoch` is that of the topology which holds the change; of a dry run, the present one. In all, `bytes` are copied,
    in `seconds` at the throttle of snapshots (0: there is no throttle). `loads` has every node that holds or will hold
    something. `warnings` say, for people, what the change does not achieve.
    """

    epoch: int
    moves: tuple[PlannedMove, ...]
    loads: tuple[NodeLoad, ...]
    bytes: int
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a key lives, and what is stored under it (`exists` says whether anything is).

    `hash` is xxh3_64 of the key; `replicas` are names of nodes, preferred leader first; `leader` is None if unknown.
    """

    key: bytes
    hash: int
    partition: int
    replicas: tuple[str, ...]
    leader: str | None
    exists: bool
    version: int
    create_version: int
    value_bytes: int
    indexes: Mapping[str, list[bytes]]
    topology_epoch: int
