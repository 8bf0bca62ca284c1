from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_JOINING: _ClassVar[NodeState]
    NODE_STATE_NORMAL: _ClassVar[NodeState]
    NODE_STATE_LEAVING: _ClassVar[NodeState]
    NODE_STATE_REMOVED: _ClassVar[NodeState]

class Liveness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIVENESS_UNSPECIFIED: _ClassVar[Liveness]
    LIVENESS_ALIVE: _ClassVar[Liveness]
    LIVENESS_SUSPECT: _ClassVar[Liveness]
    LIVENESS_DEAD: _ClassVar[Liveness]
    LIVENESS_LEFT: _ClassVar[Liveness]

class ReplicaHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_HEALTH_UNSPECIFIED: _ClassVar[ReplicaHealth]
    REPLICA_HEALTH_DAMAGED: _ClassVar[ReplicaHealth]
    REPLICA_HEALTH_INSTALLING: _ClassVar[ReplicaHealth]
    REPLICA_HEALTH_GONE: _ClassVar[ReplicaHealth]

class MoveStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOVE_STEP_UNSPECIFIED: _ClassVar[MoveStep]
    MOVE_STEP_WAITING: _ClassVar[MoveStep]
    MOVE_STEP_COPYING: _ClassVar[MoveStep]
    MOVE_STEP_REMOVING: _ClassVar[MoveStep]
    MOVE_STEP_UNKNOWN: _ClassVar[MoveStep]
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_JOINING: NodeState
NODE_STATE_NORMAL: NodeState
NODE_STATE_LEAVING: NodeState
NODE_STATE_REMOVED: NodeState
LIVENESS_UNSPECIFIED: Liveness
LIVENESS_ALIVE: Liveness
LIVENESS_SUSPECT: Liveness
LIVENESS_DEAD: Liveness
LIVENESS_LEFT: Liveness
REPLICA_HEALTH_UNSPECIFIED: ReplicaHealth
REPLICA_HEALTH_DAMAGED: ReplicaHealth
REPLICA_HEALTH_INSTALLING: ReplicaHealth
REPLICA_HEALTH_GONE: ReplicaHealth
MOVE_STEP_UNSPECIFIED: MoveStep
MOVE_STEP_WAITING: MoveStep
MOVE_STEP_COPYING: MoveStep
MOVE_STEP_REMOVING: MoveStep
MOVE_STEP_UNKNOWN: MoveStep

class Node(_message.Message):
    __slots__ = ("id", "name", "grpc_address", "http_address", "host", "zone", "weight", "state", "liveness", "cordoned")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIVENESS_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    state: NodeState
    liveness: Liveness
    cordoned: bool
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., grpc_address: _Optional[str] = ..., http_address: _Optional[str] = ..., host: _Optional[str] = ..., zone: _Optional[str] = ..., weight: _Optional[int] = ..., state: _Optional[_Union[NodeState, str]] = ..., liveness: _Optional[_Union[Liveness, str]] = ..., cordoned: bool = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("replicas", "leader", "log_time_ms")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    replicas: _containers.RepeatedScalarFieldContainer[int]
    leader: int
    log_time_ms: int
    def __init__(self, replicas: _Optional[_Iterable[int]] = ..., leader: _Optional[int] = ..., log_time_ms: _Optional[int] = ...) -> None: ...

class TopologyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TopologyResponse(_message.Message):
    __slots__ = ("cluster_name", "cluster_id", "epoch", "replication_factor", "nodes", "partitions")
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    cluster_name: str
    cluster_id: str
    epoch: int
    replication_factor: int
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    def __init__(self, cluster_name: _Optional[str] = ..., cluster_id: _Optional[str] = ..., epoch: _Optional[int] = ..., replication_factor: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "reachable", "partitions_led", "replicas", "keys", "bytes", "engine", "version", "uptime_s", "reluctant_for", "unhealthy", "scrub_age_s", "damage_found")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_LED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    RELUCTANT_FOR_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_FIELD_NUMBER: _ClassVar[int]
    SCRUB_AGE_S_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FOUND_FIELD_NUMBER: _ClassVar[int]
    node: Node
    reachable: bool
    partitions_led: int
    replicas: int
    keys: int
    bytes: int
    engine: str
    version: str
    uptime_s: float
    reluctant_for: _containers.RepeatedScalarFieldContainer[str]
    unhealthy: _containers.RepeatedCompositeFieldContainer[UnhealthyReplica]
    scrub_age_s: float
    damage_found: int
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., reachable: bool = ..., partitions_led: _Optional[int] = ..., replicas: _Optional[int] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ..., engine: _Optional[str] = ..., version: _Optional[str] = ..., uptime_s: _Optional[float] = ..., reluctant_for: _Optional[_Iterable[str]] = ..., unhealthy: _Optional[_Iterable[_Union[UnhealthyReplica, _Mapping]]] = ..., scrub_age_s: _Optional[float] = ..., damage_found: _Optional[int] = ...) -> None: ...

class UnhealthyReplica(_message.Message):
    __slots__ = ("partition", "health", "reason")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    partition: int
    health: ReplicaHealth
    reason: str
    def __init__(self, partition: _Optional[int] = ..., health: _Optional[_Union[ReplicaHealth, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("cluster_name", "cluster_id", "epoch", "nodes", "unavailable_partitions", "lost_partitions", "replication_factor", "is_settled", "moves")
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LOST_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    IS_SETTLED_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    cluster_name: str
    cluster_id: str
    epoch: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    unavailable_partitions: _containers.RepeatedScalarFieldContainer[int]
    lost_partitions: _containers.RepeatedScalarFieldContainer[int]
    replication_factor: int
    is_settled: bool
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    def __init__(self, cluster_name: _Optional[str] = ..., cluster_id: _Optional[str] = ..., epoch: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., unavailable_partitions: _Optional[_Iterable[int]] = ..., lost_partitions: _Optional[_Iterable[int]] = ..., replication_factor: _Optional[int] = ..., is_settled: bool = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("partition", "adding", "removing", "step", "bytes_done", "bytes_total")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    ADDING_FIELD_NUMBER: _ClassVar[int]
    REMOVING_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    partition: int
    adding: _containers.RepeatedScalarFieldContainer[str]
    removing: _containers.RepeatedScalarFieldContainer[str]
    step: MoveStep
    bytes_done: int
    bytes_total: int
    def __init__(self, partition: _Optional[int] = ..., adding: _Optional[_Iterable[str]] = ..., removing: _Optional[_Iterable[str]] = ..., step: _Optional[_Union[MoveStep, str]] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class ChangeRequest(_message.Message):
    __slots__ = ("changes", "dry_run")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    dry_run: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., dry_run: bool = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("decommission", "keep", "remove", "cordon", "uncordon", "replication_factor", "add")
    DECOMMISSION_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    CORDON_FIELD_NUMBER: _ClassVar[int]
    UNCORDON_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_FACTOR_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    decommission: str
    keep: str
    remove: str
    cordon: str
    uncordon: str
    replication_factor: int
    add: int
    def __init__(self, decommission: _Optional[str] = ..., keep: _Optional[str] = ..., remove: _Optional[str] = ..., cordon: _Optional[str] = ..., uncordon: _Optional[str] = ..., replication_factor: _Optional[int] = ..., add: _Optional[int] = ...) -> None: ...

class ChangeResponse(_message.Message):
    __slots__ = ("epoch", "moves", "loads", "bytes", "seconds", "warnings")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    moves: _containers.RepeatedCompositeFieldContainer[PlannedMove]
    loads: _containers.RepeatedCompositeFieldContainer[NodeLoad]
    bytes: int
    seconds: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[int] = ..., moves: _Optional[_Iterable[_Union[PlannedMove, _Mapping]]] = ..., loads: _Optional[_Iterable[_Union[NodeLoad, _Mapping]]] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedMove(_message.Message):
    __slots__ = ("partition", "adding", "removing", "bytes")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    ADDING_FIELD_NUMBER: _ClassVar[int]
    REMOVING_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    partition: int
    adding: _containers.RepeatedScalarFieldContainer[str]
    removing: _containers.RepeatedScalarFieldContainer[str]
    bytes: int
    def __init__(self, partition: _Optional[int] = ..., adding: _Optional[_Iterable[str]] = ..., removing: _Optional[_Iterable[str]] = ..., bytes: _Optional[int] = ...) -> None: ...

class NodeLoad(_message.Message):
    __slots__ = ("name", "host", "zone", "replicas_before", "replicas_after", "leaders_before", "leaders_after", "bytes_before", "bytes_after")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_AFTER_FIELD_NUMBER: _ClassVar[int]
    LEADERS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LEADERS_AFTER_FIELD_NUMBER: _ClassVar[int]
    BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    host: str
    zone: str
    replicas_before: int
    replicas_after: int
    leaders_before: int
    leaders_after: int
    bytes_before: int
    bytes_after: int
    def __init__(self, name: _Optional[str] = ..., host: _Optional[str] = ..., zone: _Optional[str] = ..., replicas_before: _Optional[int] = ..., replicas_after: _Optional[int] = ..., leaders_before: _Optional[int] = ..., leaders_after: _Optional[int] = ..., bytes_before: _Optional[int] = ..., bytes_after: _Optional[int] = ...) -> None: ...

class ScrubRequest(_message.Message):
    __slots__ = ("node", "bytes_per_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    bytes_per_s: int
    def __init__(self, node: _Optional[str] = ..., bytes_per_s: _Optional[int] = ...) -> None: ...

class ScrubProgress(_message.Message):
    __slots__ = ("node", "groups", "groups_in_all", "records", "bytes", "seconds", "damage", "is_done", "unhealthy", "uncounted")
    NODE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_IN_ALL_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    IS_DONE_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_FIELD_NUMBER: _ClassVar[int]
    UNCOUNTED_FIELD_NUMBER: _ClassVar[int]
    node: str
    groups: int
    groups_in_all: int
    records: int
    bytes: int
    seconds: float
    damage: _containers.RepeatedCompositeFieldContainer[Damage]
    is_done: bool
    unhealthy: _containers.RepeatedCompositeFieldContainer[UnhealthyReplica]
    uncounted: int
    def __init__(self, node: _Optional[str] = ..., groups: _Optional[int] = ..., groups_in_all: _Optional[int] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., damage: _Optional[_Iterable[_Union[Damage, _Mapping]]] = ..., is_done: bool = ..., unhealthy: _Optional[_Iterable[_Union[UnhealthyReplica, _Mapping]]] = ..., uncounted: _Optional[int] = ...) -> None: ...

class Damage(_message.Message):
    __slots__ = ("partition", "is_of_node", "what", "done")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    IS_OF_NODE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    partition: int
    is_of_node: bool
    what: str
    done: str
    def __init__(self, partition: _Optional[int] = ..., is_of_node: bool = ..., what: _Optional[str] = ..., done: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class ExplainedEntry(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("hash", "partition", "replicas", "leader", "exists", "version", "create_version", "value_bytes", "indexes", "topology_epoch")
    HASH_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    hash: int
    partition: int
    replicas: _containers.RepeatedScalarFieldContainer[str]
    leader: str
    exists: bool
    version: int
    create_version: int
    value_bytes: int
    indexes: _containers.RepeatedCompositeFieldContainer[ExplainedEntry]
    topology_epoch: int
    def __init__(self, hash: _Optional[int] = ..., partition: _Optional[int] = ..., replicas: _Optional[_Iterable[str]] = ..., leader: _Optional[str] = ..., exists: bool = ..., version: _Optional[int] = ..., create_version: _Optional[int] = ..., value_bytes: _Optional[int] = ..., indexes: _Optional[_Iterable[_Union[ExplainedEntry, _Mapping]]] = ..., topology_epoch: _Optional[int] = ...) -> None: ...
