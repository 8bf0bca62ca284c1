from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    CONSISTENCY_LINEARIZABLE: _ClassVar[Consistency]
    CONSISTENCY_STALE: _ClassVar[Consistency]

class Fate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FATE_UNSPECIFIED: _ClassVar[Fate]
    FATE_APPLIED: _ClassVar[Fate]
    FATE_ABORTED: _ClassVar[Fate]
    FATE_UNKNOWN: _ClassVar[Fate]
CONSISTENCY_UNSPECIFIED: Consistency
CONSISTENCY_LINEARIZABLE: Consistency
CONSISTENCY_STALE: Consistency
FATE_UNSPECIFIED: Fate
FATE_APPLIED: Fate
FATE_ABORTED: Fate
FATE_UNKNOWN: Fate

class Header(_message.Message):
    __slots__ = ("partition", "topology_epoch", "log_time_ms", "stale", "behind_ms")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    BEHIND_MS_FIELD_NUMBER: _ClassVar[int]
    partition: int
    topology_epoch: int
    log_time_ms: int
    stale: bool
    behind_ms: int
    def __init__(self, partition: _Optional[int] = ..., topology_epoch: _Optional[int] = ..., log_time_ms: _Optional[int] = ..., stale: bool = ..., behind_ms: _Optional[int] = ...) -> None: ...

class IndexEntry(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("key", "value", "version", "create_version", "indexes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    version: int
    create_version: int
    indexes: _containers.RepeatedCompositeFieldContainer[IndexEntry]
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., version: _Optional[int] = ..., create_version: _Optional[int] = ..., indexes: _Optional[_Iterable[_Union[IndexEntry, _Mapping]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key", "consistency")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    consistency: Consistency
    def __init__(self, key: _Optional[bytes] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("value", "version", "create_version", "indexes", "header")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    version: int
    create_version: int
    indexes: _containers.RepeatedCompositeFieldContainer[IndexEntry]
    header: Header
    def __init__(self, value: _Optional[bytes] = ..., version: _Optional[int] = ..., create_version: _Optional[int] = ..., indexes: _Optional[_Iterable[_Union[IndexEntry, _Mapping]]] = ..., header: _Optional[_Union[Header, _Mapping]] = ...) -> None: ...

class SetRequest(_message.Message):
    __slots__ = ("key", "value", "indexes", "request_id", "anchor")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    indexes: _containers.RepeatedCompositeFieldContainer[IndexEntry]
    request_id: bytes
    anchor: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., indexes: _Optional[_Iterable[_Union[IndexEntry, _Mapping]]] = ..., request_id: _Optional[bytes] = ..., anchor: _Optional[int] = ...) -> None: ...

class SetResponse(_message.Message):
    __slots__ = ("version", "header")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    version: int
    header: Header
    def __init__(self, version: _Optional[int] = ..., header: _Optional[_Union[Header, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("key", "request_id", "anchor")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    request_id: bytes
    anchor: int
    def __init__(self, key: _Optional[bytes] = ..., request_id: _Optional[bytes] = ..., anchor: _Optional[int] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("existed", "version", "header")
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    version: int
    header: Header
    def __init__(self, existed: bool = ..., version: _Optional[int] = ..., header: _Optional[_Union[Header, _Mapping]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: bytes
    end: bytes
    def __init__(self, start: _Optional[bytes] = ..., end: _Optional[bytes] = ...) -> None: ...

class GetByIndexRequest(_message.Message):
    __slots__ = ("index", "equals", "prefix", "range", "descending", "limit", "page_token", "with_records", "allow_partial", "consistency")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EQUALS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    DESCENDING_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITH_RECORDS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    index: str
    equals: bytes
    prefix: bytes
    range: Range
    descending: bool
    limit: int
    page_token: bytes
    with_records: bool
    allow_partial: bool
    consistency: Consistency
    def __init__(self, index: _Optional[str] = ..., equals: _Optional[bytes] = ..., prefix: _Optional[bytes] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., descending: bool = ..., limit: _Optional[int] = ..., page_token: _Optional[bytes] = ..., with_records: bool = ..., allow_partial: bool = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("key", "index_value", "record")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INDEX_VALUE_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    index_value: bytes
    record: Record
    def __init__(self, key: _Optional[bytes] = ..., index_value: _Optional[bytes] = ..., record: _Optional[_Union[Record, _Mapping]] = ...) -> None: ...

class GetByIndexResponse(_message.Message):
    __slots__ = ("matches", "next_page_token", "missing_partitions", "topology_epoch", "stale", "behind_ms")
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MISSING_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    BEHIND_MS_FIELD_NUMBER: _ClassVar[int]
    matches: _containers.RepeatedCompositeFieldContainer[Match]
    next_page_token: bytes
    missing_partitions: _containers.RepeatedScalarFieldContainer[int]
    topology_epoch: int
    stale: bool
    behind_ms: int
    def __init__(self, matches: _Optional[_Iterable[_Union[Match, _Mapping]]] = ..., next_page_token: _Optional[bytes] = ..., missing_partitions: _Optional[_Iterable[int]] = ..., topology_epoch: _Optional[int] = ..., stale: bool = ..., behind_ms: _Optional[int] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("get", "set", "delete")
    GET_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    get: GetRequest
    set: SetRequest
    delete: DeleteRequest
    def __init__(self, get: _Optional[_Union[GetRequest, _Mapping]] = ..., set: _Optional[_Union[SetRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ...) -> None: ...

class OperationError(_message.Message):
    __slots__ = ("code", "message", "reason", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("get", "set", "delete", "error")
    GET_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    get: GetResponse
    set: SetResponse
    delete: DeleteResponse
    error: OperationError
    def __init__(self, get: _Optional[_Union[GetResponse, _Mapping]] = ..., set: _Optional[_Union[SetResponse, _Mapping]] = ..., delete: _Optional[_Union[DeleteResponse, _Mapping]] = ..., error: _Optional[_Union[OperationError, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("operations", "request_id")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    request_id: bytes
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., request_id: _Optional[bytes] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("request_id", "anchor", "key")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    anchor: int
    key: bytes
    def __init__(self, request_id: _Optional[bytes] = ..., anchor: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class MutationOutcome(_message.Message):
    __slots__ = ("version", "existed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    version: int
    existed: bool
    def __init__(self, version: _Optional[int] = ..., existed: bool = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("fate", "outcomes", "header")
    FATE_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    fate: Fate
    outcomes: _containers.RepeatedCompositeFieldContainer[MutationOutcome]
    header: Header
    def __init__(self, fate: _Optional[_Union[Fate, str]] = ..., outcomes: _Optional[_Iterable[_Union[MutationOutcome, _Mapping]]] = ..., header: _Optional[_Union[Header, _Mapping]] = ...) -> None: ...
