from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_APPLIED: _ClassVar[Verdict]
    VERDICT_EXPIRED: _ClassVar[Verdict]
    VERDICT_REUSED: _ClassVar[Verdict]
    VERDICT_DEDUPE_FULL: _ClassVar[Verdict]
    VERDICT_ABORTED: _ClassVar[Verdict]

class ReplicaStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STATUS_UNSPECIFIED: _ClassVar[ReplicaStatus]
    REPLICA_STATUS_HEALTHY: _ClassVar[ReplicaStatus]
    REPLICA_STATUS_DAMAGED: _ClassVar[ReplicaStatus]
    REPLICA_STATUS_INSTALLING: _ClassVar[ReplicaStatus]
    REPLICA_STATUS_GONE: _ClassVar[ReplicaStatus]
VERDICT_UNSPECIFIED: Verdict
VERDICT_APPLIED: Verdict
VERDICT_EXPIRED: Verdict
VERDICT_REUSED: Verdict
VERDICT_DEDUPE_FULL: Verdict
VERDICT_ABORTED: Verdict
REPLICA_STATUS_UNSPECIFIED: ReplicaStatus
REPLICA_STATUS_HEALTHY: ReplicaStatus
REPLICA_STATUS_DAMAGED: ReplicaStatus
REPLICA_STATUS_INSTALLING: ReplicaStatus
REPLICA_STATUS_GONE: ReplicaStatus

class IndexEntry(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("value", "version", "create_version", "indexes", "expires_at_ms")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    version: int
    create_version: int
    indexes: _containers.RepeatedCompositeFieldContainer[IndexEntry]
    expires_at_ms: int
    def __init__(self, value: _Optional[bytes] = ..., version: _Optional[int] = ..., create_version: _Optional[int] = ..., indexes: _Optional[_Iterable[_Union[IndexEntry, _Mapping]]] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class Set(_message.Message):
    __slots__ = ("key", "value", "indexes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    indexes: _containers.RepeatedCompositeFieldContainer[IndexEntry]
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., indexes: _Optional[_Iterable[_Union[IndexEntry, _Mapping]]] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class Mutation(_message.Message):
    __slots__ = ("set", "delete")
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    set: Set
    delete: Delete
    def __init__(self, set: _Optional[_Union[Set, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("request_id", "anchor_ms", "mutations", "resolve")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_MS_FIELD_NUMBER: _ClassVar[int]
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    anchor_ms: int
    mutations: _containers.RepeatedCompositeFieldContainer[Mutation]
    resolve: bool
    def __init__(self, request_id: _Optional[bytes] = ..., anchor_ms: _Optional[int] = ..., mutations: _Optional[_Iterable[_Union[Mutation, _Mapping]]] = ..., resolve: bool = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("term", "log_time_ms", "commands", "configuration")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    term: int
    log_time_ms: int
    commands: _containers.RepeatedScalarFieldContainer[bytes]
    configuration: Configuration
    def __init__(self, term: _Optional[int] = ..., log_time_ms: _Optional[int] = ..., commands: _Optional[_Iterable[bytes]] = ..., configuration: _Optional[_Union[Configuration, _Mapping]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "replica_id", "since")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    replica_id: int
    since: int
    def __init__(self, node_id: _Optional[str] = ..., replica_id: _Optional[int] = ..., since: _Optional[int] = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("voters", "learners")
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    voters: _containers.RepeatedCompositeFieldContainer[Member]
    learners: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, voters: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., learners: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class MutationResult(_message.Message):
    __slots__ = ("version", "existed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    version: int
    existed: bool
    def __init__(self, version: _Optional[int] = ..., existed: bool = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("verdict", "results", "log_time_ms", "fingerprint")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    results: _containers.RepeatedCompositeFieldContainer[MutationResult]
    log_time_ms: int
    fingerprint: int
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., results: _Optional[_Iterable[_Union[MutationResult, _Mapping]]] = ..., log_time_ms: _Optional[int] = ..., fingerprint: _Optional[int] = ...) -> None: ...

class GroupState(_message.Message):
    __slots__ = ("applied_index", "applied_term", "revision", "log_time_ms", "keys", "bytes", "dedupe_records", "configuration", "configuration_index")
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_TERM_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DEDUPE_RECORDS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    applied_index: int
    applied_term: int
    revision: int
    log_time_ms: int
    keys: int
    bytes: int
    dedupe_records: int
    configuration: Configuration
    configuration_index: int
    def __init__(self, applied_index: _Optional[int] = ..., applied_term: _Optional[int] = ..., revision: _Optional[int] = ..., log_time_ms: _Optional[int] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ..., dedupe_records: _Optional[int] = ..., configuration: _Optional[_Union[Configuration, _Mapping]] = ..., configuration_index: _Optional[int] = ...) -> None: ...

class HardState(_message.Message):
    __slots__ = ("term", "voted_for")
    TERM_FIELD_NUMBER: _ClassVar[int]
    VOTED_FOR_FIELD_NUMBER: _ClassVar[int]
    term: int
    voted_for: str
    def __init__(self, term: _Optional[int] = ..., voted_for: _Optional[str] = ...) -> None: ...

class ReplicaRecord(_message.Message):
    __slots__ = ("status", "replica_id", "reason", "before", "since")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    status: ReplicaStatus
    replica_id: int
    reason: str
    before: GroupState
    since: int
    def __init__(self, status: _Optional[_Union[ReplicaStatus, str]] = ..., replica_id: _Optional[int] = ..., reason: _Optional[str] = ..., before: _Optional[_Union[GroupState, _Mapping]] = ..., since: _Optional[int] = ...) -> None: ...
