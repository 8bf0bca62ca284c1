from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RaftKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RAFT_KIND_UNSPECIFIED: _ClassVar[RaftKind]
    RAFT_KIND_APPEND: _ClassVar[RaftKind]
    RAFT_KIND_APPENDED: _ClassVar[RaftKind]
    RAFT_KIND_PRE_VOTE: _ClassVar[RaftKind]
    RAFT_KIND_PRE_VOTED: _ClassVar[RaftKind]
    RAFT_KIND_VOTE: _ClassVar[RaftKind]
    RAFT_KIND_VOTED: _ClassVar[RaftKind]
    RAFT_KIND_TIMEOUT_NOW: _ClassVar[RaftKind]
    RAFT_KIND_STEPPED_DOWN: _ClassVar[RaftKind]
    RAFT_KIND_CONFIRM: _ClassVar[RaftKind]
    RAFT_KIND_CONFIRMED: _ClassVar[RaftKind]
    RAFT_KIND_OFFER: _ClassVar[RaftKind]
    RAFT_KIND_GONE: _ClassVar[RaftKind]
RAFT_KIND_UNSPECIFIED: RaftKind
RAFT_KIND_APPEND: RaftKind
RAFT_KIND_APPENDED: RaftKind
RAFT_KIND_PRE_VOTE: RaftKind
RAFT_KIND_PRE_VOTED: RaftKind
RAFT_KIND_VOTE: RaftKind
RAFT_KIND_VOTED: RaftKind
RAFT_KIND_TIMEOUT_NOW: RaftKind
RAFT_KIND_STEPPED_DOWN: RaftKind
RAFT_KIND_CONFIRM: RaftKind
RAFT_KIND_CONFIRMED: RaftKind
RAFT_KIND_OFFER: RaftKind
RAFT_KIND_GONE: RaftKind

class Frame(_message.Message):
    __slots__ = ("hello", "requests", "replies")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ..., replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ...) -> None: ...

class RaftFrame(_message.Message):
    __slots__ = ("hello", "messages", "heard_beat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    HEARD_BEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    messages: _containers.RepeatedCompositeFieldContainer[RaftMessage]
    heard_beat: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[RaftMessage, _Mapping]]] = ..., heard_beat: _Optional[int] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("hello", "generation", "number", "heard", "heard_generation", "epoch", "digest", "differs", "reluctant", "engine_id", "synced_batch")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    HEARD_GENERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    RELUCTANT_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    SYNCED_BATCH_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    generation: int
    number: int
    heard: int
    heard_generation: int
    epoch: int
    digest: int
    differs: bool
    reluctant: bool
    engine_id: int
    synced_batch: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., generation: _Optional[int] = ..., number: _Optional[int] = ..., heard: _Optional[int] = ..., heard_generation: _Optional[int] = ..., epoch: _Optional[int] = ..., digest: _Optional[int] = ..., differs: bool = ..., reluctant: bool = ..., engine_id: _Optional[int] = ..., synced_batch: _Optional[int] = ...) -> None: ...

class RaftMessage(_message.Message):
    __slots__ = ("kind", "group", "term", "source_replica", "target_replica", "index", "log_term", "commit", "entries", "rejected", "hint", "epoch", "round", "transfer", "everywhere", "unleased", "silent", "needs_snapshot", "since")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REPLICA_FIELD_NUMBER: _ClassVar[int]
    TARGET_REPLICA_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    EVERYWHERE_FIELD_NUMBER: _ClassVar[int]
    UNLEASED_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    NEEDS_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    kind: RaftKind
    group: int
    term: int
    source_replica: int
    target_replica: int
    index: int
    log_term: int
    commit: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    rejected: bool
    hint: int
    epoch: int
    round: int
    transfer: bool
    everywhere: int
    unleased: bool
    silent: bool
    needs_snapshot: bool
    since: int
    def __init__(self, kind: _Optional[_Union[RaftKind, str]] = ..., group: _Optional[int] = ..., term: _Optional[int] = ..., source_replica: _Optional[int] = ..., target_replica: _Optional[int] = ..., index: _Optional[int] = ..., log_term: _Optional[int] = ..., commit: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ..., rejected: bool = ..., hint: _Optional[int] = ..., epoch: _Optional[int] = ..., round: _Optional[int] = ..., transfer: bool = ..., everywhere: _Optional[int] = ..., unleased: bool = ..., silent: bool = ..., needs_snapshot: bool = ..., since: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("cluster_id", "node_id", "generation", "target_node_id", "nonce", "engine_id", "opened_batch", "heard")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TARGET_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    OPENED_BATCH_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node_id: str
    generation: int
    target_node_id: str
    nonce: int
    engine_id: int
    opened_batch: int
    heard: HeardEngine
    def __init__(self, cluster_id: _Optional[str] = ..., node_id: _Optional[str] = ..., generation: _Optional[int] = ..., target_node_id: _Optional[str] = ..., nonce: _Optional[int] = ..., engine_id: _Optional[int] = ..., opened_batch: _Optional[int] = ..., heard: _Optional[_Union[HeardEngine, _Mapping]] = ...) -> None: ...

class HeardEngine(_message.Message):
    __slots__ = ("generation", "nonce", "earlier_engine_id", "earlier_batch", "engine_id", "synced_batch")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EARLIER_ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EARLIER_BATCH_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    SYNCED_BATCH_FIELD_NUMBER: _ClassVar[int]
    generation: int
    nonce: int
    earlier_engine_id: int
    earlier_batch: int
    engine_id: int
    synced_batch: int
    def __init__(self, generation: _Optional[int] = ..., nonce: _Optional[int] = ..., earlier_engine_id: _Optional[int] = ..., earlier_batch: _Optional[int] = ..., engine_id: _Optional[int] = ..., synced_batch: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("hello", "group", "replica_id", "view", "after", "checksum")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    group: int
    replica_id: int
    view: int
    after: bytes
    checksum: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., group: _Optional[int] = ..., replica_id: _Optional[int] = ..., view: _Optional[int] = ..., after: _Optional[bytes] = ..., checksum: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("view", "state", "rows", "last", "checksum")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    view: int
    state: bytes
    rows: _containers.RepeatedCompositeFieldContainer[StoredRow]
    last: bool
    checksum: int
    def __init__(self, view: _Optional[int] = ..., state: _Optional[bytes] = ..., rows: _Optional[_Iterable[_Union[StoredRow, _Mapping]]] = ..., last: bool = ..., checksum: _Optional[int] = ...) -> None: ...

class StoredRow(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "timeout_ms", "read", "propose", "query", "describe", "placement", "configure", "membership", "change")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIGURE_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    timeout_ms: int
    read: ReadRequest
    propose: ProposeRequest
    query: QueryRequest
    describe: DescribeRequest
    placement: PlacementRequest
    configure: ConfigureRequest
    membership: MembershipRequest
    change: ChangeTopologyRequest
    def __init__(self, id: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., read: _Optional[_Union[ReadRequest, _Mapping]] = ..., propose: _Optional[_Union[ProposeRequest, _Mapping]] = ..., query: _Optional[_Union[QueryRequest, _Mapping]] = ..., describe: _Optional[_Union[DescribeRequest, _Mapping]] = ..., placement: _Optional[_Union[PlacementRequest, _Mapping]] = ..., configure: _Optional[_Union[ConfigureRequest, _Mapping]] = ..., membership: _Optional[_Union[MembershipRequest, _Mapping]] = ..., change: _Optional[_Union[ChangeTopologyRequest, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "read", "propose", "query", "describe", "failure", "placement", "configure", "membership", "change")
    ID_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIGURE_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    read: ReadReply
    propose: ProposeReply
    query: QueryReply
    describe: DescribeReply
    failure: Failure
    placement: PlacementReply
    configure: ConfigureReply
    membership: MembershipReply
    change: ChangeTopologyReply
    def __init__(self, id: _Optional[int] = ..., read: _Optional[_Union[ReadReply, _Mapping]] = ..., propose: _Optional[_Union[ProposeReply, _Mapping]] = ..., query: _Optional[_Union[QueryReply, _Mapping]] = ..., describe: _Optional[_Union[DescribeReply, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., placement: _Optional[_Union[PlacementReply, _Mapping]] = ..., configure: _Optional[_Union[ConfigureReply, _Mapping]] = ..., membership: _Optional[_Union[MembershipReply, _Mapping]] = ..., change: _Optional[_Union[ChangeTopologyReply, _Mapping]] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("group", "keys", "stale")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    group: int
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    stale: bool
    def __init__(self, group: _Optional[int] = ..., keys: _Optional[_Iterable[bytes]] = ..., stale: bool = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("rows", "term", "log_time_ms", "behind_ms")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    BEHIND_MS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    term: int
    log_time_ms: int
    behind_ms: int
    def __init__(self, rows: _Optional[_Iterable[bytes]] = ..., term: _Optional[int] = ..., log_time_ms: _Optional[int] = ..., behind_ms: _Optional[int] = ...) -> None: ...

class ProposeRequest(_message.Message):
    __slots__ = ("groups", "commands")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    commands: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, groups: _Optional[_Iterable[int]] = ..., commands: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProposeReply(_message.Message):
    __slots__ = ("outcomes", "terms", "log_times_ms", "failures")
    class FailuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Failure
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    LOG_TIMES_MS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[bytes]
    terms: _containers.RepeatedScalarFieldContainer[int]
    log_times_ms: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.MessageMap[int, Failure]
    def __init__(self, outcomes: _Optional[_Iterable[bytes]] = ..., terms: _Optional[_Iterable[int]] = ..., log_times_ms: _Optional[_Iterable[int]] = ..., failures: _Optional[_Mapping[int, Failure]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("groups", "index", "start", "end", "descending", "limit", "with_records", "bytes_max", "stale")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DESCENDING_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WITH_RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    index: str
    start: bytes
    end: bytes
    descending: bool
    limit: int
    with_records: bool
    bytes_max: int
    stale: bool
    def __init__(self, groups: _Optional[_Iterable[int]] = ..., index: _Optional[str] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., descending: bool = ..., limit: _Optional[int] = ..., with_records: bool = ..., bytes_max: _Optional[int] = ..., stale: bool = ...) -> None: ...

class QueryReply(_message.Message):
    __slots__ = ("pairs", "rows", "cut", "refused", "leaders", "behind_ms", "lost")
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LEADERS_FIELD_NUMBER: _ClassVar[int]
    BEHIND_MS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedScalarFieldContainer[bytes]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    cut: bool
    refused: _containers.RepeatedScalarFieldContainer[int]
    leaders: _containers.RepeatedScalarFieldContainer[str]
    behind_ms: int
    lost: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pairs: _Optional[_Iterable[bytes]] = ..., rows: _Optional[_Iterable[bytes]] = ..., cut: bool = ..., refused: _Optional[_Iterable[int]] = ..., leaders: _Optional[_Iterable[str]] = ..., behind_ms: _Optional[int] = ..., lost: _Optional[_Iterable[int]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LedGroup(_message.Message):
    __slots__ = ("group", "term", "log_time_ms")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    group: int
    term: int
    log_time_ms: int
    def __init__(self, group: _Optional[int] = ..., term: _Optional[int] = ..., log_time_ms: _Optional[int] = ...) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("led", "replicas", "keys", "bytes", "engine", "version", "uptime_s", "topology_epoch", "reluctant_for", "unhealthy", "scrub")
    LED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RELUCTANT_FOR_FIELD_NUMBER: _ClassVar[int]
    UNHEALTHY_FIELD_NUMBER: _ClassVar[int]
    SCRUB_FIELD_NUMBER: _ClassVar[int]
    led: _containers.RepeatedCompositeFieldContainer[LedGroup]
    replicas: int
    keys: int
    bytes: int
    engine: str
    version: str
    uptime_s: float
    topology_epoch: int
    reluctant_for: _containers.RepeatedScalarFieldContainer[str]
    unhealthy: _containers.RepeatedCompositeFieldContainer[UnhealthyCopy]
    scrub: ScrubState
    def __init__(self, led: _Optional[_Iterable[_Union[LedGroup, _Mapping]]] = ..., replicas: _Optional[int] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ..., engine: _Optional[str] = ..., version: _Optional[str] = ..., uptime_s: _Optional[float] = ..., topology_epoch: _Optional[int] = ..., reluctant_for: _Optional[_Iterable[str]] = ..., unhealthy: _Optional[_Iterable[_Union[UnhealthyCopy, _Mapping]]] = ..., scrub: _Optional[_Union[ScrubState, _Mapping]] = ...) -> None: ...

class UnhealthyCopy(_message.Message):
    __slots__ = ("group", "status", "reason")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    group: int
    status: int
    reason: str
    def __init__(self, group: _Optional[int] = ..., status: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ScrubState(_message.Message):
    __slots__ = ("age_s", "bytes", "damage", "is_running")
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    IS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    age_s: float
    bytes: int
    damage: int
    is_running: bool
    def __init__(self, age_s: _Optional[float] = ..., bytes: _Optional[int] = ..., damage: _Optional[int] = ..., is_running: bool = ...) -> None: ...

class PlacementRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PlacementReply(_message.Message):
    __slots__ = ("epoch", "settled", "groups", "bytes", "installing")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    INSTALLING_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    settled: _containers.RepeatedScalarFieldContainer[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupPlacement]
    bytes: _containers.RepeatedScalarFieldContainer[int]
    installing: _containers.RepeatedCompositeFieldContainer[InstallState]
    def __init__(self, epoch: _Optional[int] = ..., settled: _Optional[_Iterable[int]] = ..., groups: _Optional[_Iterable[_Union[GroupPlacement, _Mapping]]] = ..., bytes: _Optional[_Iterable[int]] = ..., installing: _Optional[_Iterable[_Union[InstallState, _Mapping]]] = ...) -> None: ...

class InstallState(_message.Message):
    __slots__ = ("group", "bytes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    group: int
    bytes: int
    def __init__(self, group: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class GroupPlacement(_message.Message):
    __slots__ = ("group", "configuration_index", "is_committed", "voters", "learners", "dispensable")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    IS_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    DISPENSABLE_FIELD_NUMBER: _ClassVar[int]
    group: int
    configuration_index: int
    is_committed: bool
    voters: _containers.RepeatedScalarFieldContainer[str]
    learners: _containers.RepeatedScalarFieldContainer[str]
    dispensable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, group: _Optional[int] = ..., configuration_index: _Optional[int] = ..., is_committed: bool = ..., voters: _Optional[_Iterable[str]] = ..., learners: _Optional[_Iterable[str]] = ..., dispensable: _Optional[_Iterable[str]] = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("group", "epoch", "configuration_index", "add", "remove")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    group: int
    epoch: int
    configuration_index: int
    add: str
    remove: str
    def __init__(self, group: _Optional[int] = ..., epoch: _Optional[int] = ..., configuration_index: _Optional[int] = ..., add: _Optional[str] = ..., remove: _Optional[str] = ...) -> None: ...

class ConfigureReply(_message.Message):
    __slots__ = ("is_appended", "message")
    IS_APPENDED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    is_appended: bool
    message: str
    def __init__(self, is_appended: bool = ..., message: _Optional[str] = ...) -> None: ...

class MembershipRequest(_message.Message):
    __slots__ = ("group", "node_id", "replica_id")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    group: int
    node_id: str
    replica_id: int
    def __init__(self, group: _Optional[int] = ..., node_id: _Optional[str] = ..., replica_id: _Optional[int] = ...) -> None: ...

class MembershipReply(_message.Message):
    __slots__ = ("is_removed", "configuration_index")
    IS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    is_removed: bool
    configuration_index: int
    def __init__(self, is_removed: bool = ..., configuration_index: _Optional[int] = ...) -> None: ...

class ChangeTopologyRequest(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: bytes
    def __init__(self, change: _Optional[bytes] = ...) -> None: ...

class ChangeTopologyReply(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    def __init__(self, answer: _Optional[bytes] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
