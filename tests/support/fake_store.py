"""The one dict behind a cluster of fakes: it answers as the contract says, see fake_server.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ringhold.api.errors import RingholdError, error_for
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.api.status import to_operation_error
from ringhold.ring.hashing import partition_of

WINDOW_MS = 300_000
ABORTED: list[Any] = []
"""Stands for the answers to a command that was resolved before it was applied."""


@dataclass
class FakeStore:
    """The rows of all partitions, and what their logs would remember."""

    partitions: int = 8
    log_time_ms: int = 1_000_000
    epoch: int = 1
    knows_log_times: bool = True
    rows: dict[bytes, kv_pb2.Record] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    dedupe: dict[tuple[int, bytes, int], tuple[bytes, list[Any]]] = field(default_factory=dict)
    applied: int = 0
    behind_ms: int | None = 40

    def stale_header(self, key: bytes) -> kv_pb2.Header:
        partition = self.partition_of(key)
        return kv_pb2.Header(partition=partition, topology_epoch=self.epoch, stale=True, behind_ms=self.behind_ms)

    def header(self, key: bytes) -> kv_pb2.Header:
        log_time_ms = self.log_time_ms if self.knows_log_times else 0
        return kv_pb2.Header(partition=self.partition_of(key), topology_epoch=self.epoch, log_time_ms=log_time_ms)

    def get(self, request: kv_pb2.GetRequest) -> kv_pb2.GetResponse:
        check_key(request.key)
        row = self.rows.get(request.key)
        if row is None and is_stale(request):
            age = {} if self.behind_ms is None else {"behind_ms": str(self.behind_ms)}
            raise error_for("KEY_NOT_FOUND", "the replica has no such record", {"stale": "true", **age})
        if row is None:
            details = {"log_time_ms": str(self.log_time_ms)} if self.knows_log_times else {}
            raise error_for("KEY_NOT_FOUND", f"there is no record under {request.key!r}", details)
        return kv_pb2.GetResponse(
            value=row.value,
            version=row.version,
            create_version=row.create_version,
            indexes=row.indexes,
            header=self.stale_header(request.key) if is_stale(request) else self.header(request.key),
        )

    def mutate(self, request: Any) -> Any:
        """One mutation as a command of its own."""
        check_key(request.key)
        return self.command([request], request.request_id)[0]

    def command(self, requests: list[Any], request_id: bytes) -> list[Any]:
        """Apply mutations of one partition at most once for each request_id and anchor; later on the first answers."""
        anchor = requests[0].anchor or self.log_time_ms
        if anchor < self.log_time_ms - WINDOW_MS:
            raise error_for("REQUEST_EXPIRED", "the anchor is too old", {"log_time_ms": str(self.log_time_ms)})
        slot = (partition_of(requests[0].key, self.partitions), request_id, anchor)
        payload = b"".join(request.SerializeToString(deterministic=True) for request in requests)
        known, answers = self.dedupe.get(slot, (payload, None))
        if answers is ABORTED:
            raise error_for("REQUEST_ABORTED", "it was resolved before it was applied")
        if known != payload:
            raise error_for("REQUEST_ID_REUSED", "the request_id was used for another mutation")
        if answers is None:
            answers = [self._apply(request) for request in requests]
            self.dedupe[slot] = (payload, answers)
        return list(answers)

    def resolve(self, request: kv_pb2.ResolveRequest) -> kv_pb2.ResolveResponse:
        """What became of a command; if nothing, it is remembered that it never takes effect."""
        slot = (self.partition_of(request.key), request.request_id, request.anchor)
        known = self.dedupe.get(slot)
        if known is None and request.anchor < self.log_time_ms - WINDOW_MS:
            return kv_pb2.ResolveResponse(fate=kv_pb2.FATE_UNKNOWN, header=self.header(request.key))
        _, answers = self.dedupe.setdefault(slot, (b"", ABORTED))
        if answers is ABORTED:
            return kv_pb2.ResolveResponse(fate=kv_pb2.FATE_ABORTED, header=self.header(request.key))
        outcomes = [kv_pb2.MutationOutcome(version=answer.version) for answer in answers]
        return kv_pb2.ResolveResponse(fate=kv_pb2.FATE_APPLIED, outcomes=outcomes, header=self.header(request.key))

    def _apply(self, request: Any) -> Any:
        self.applied += 1
        return self.set(request) if isinstance(request, kv_pb2.SetRequest) else self.delete(request)

    def set(self, request: kv_pb2.SetRequest) -> kv_pb2.SetResponse:
        version = self._next_revision(request.key)
        old = self.rows.get(request.key)
        self.rows[request.key] = kv_pb2.Record(
            key=request.key,
            value=request.value,
            version=version,
            create_version=old.create_version if old else version,
            indexes=request.indexes,
        )
        return kv_pb2.SetResponse(version=version, header=self.header(request.key))

    def delete(self, request: kv_pb2.DeleteRequest) -> kv_pb2.DeleteResponse:
        if self.rows.pop(request.key, None) is None:
            return kv_pb2.DeleteResponse(header=self.header(request.key))
        version = self._next_revision(request.key)
        return kv_pb2.DeleteResponse(existed=True, version=version, header=self.header(request.key))

    def query(self, request: kv_pb2.GetByIndexRequest) -> kv_pb2.GetByIndexResponse:
        if request.page_token and not request.page_token.isdigit():
            raise error_for("BAD_PAGE_TOKEN", "the page token is damaged")
        found = sorted(self._matches(request), reverse=request.descending)
        start = int(request.page_token or 0)
        page = found[start : start + request.limit]
        more = len(found) > start + len(page)
        return kv_pb2.GetByIndexResponse(
            matches=[
                kv_pb2.Match(key=key, index_value=value, record=self.rows[key] if request.with_records else None)
                for value, key in page
            ],
            next_page_token=str(start + len(page)).encode() if more else b"",
            missing_partitions=[3] if request.allow_partial else [],
            topology_epoch=self.epoch,
            stale=is_stale(request),
            behind_ms=self.behind_ms if is_stale(request) else None,
        )

    def batch(self, request: kv_pb2.BatchRequest) -> kv_pb2.BatchResponse:
        """Mutations without an id of their own are one command for each partition; reads come last."""
        results: list[kv_pb2.OperationResult] = [kv_pb2.OperationResult() for _ in request.operations]
        commands: dict[object, list[int]] = {}
        reads = []
        for position, operation in enumerate(request.operations):
            asked = asked_of(operation)
            if operation.HasField("get"):
                reads.append(position)
            else:
                own = asked.request_id or not asked.key
                commands.setdefault(position if own else f"p{self.partition_of(asked.key)}", []).append(position)
        for positions in commands.values():
            self._answer(request, positions, results)
        for position in reads:
            self._answer(request, [position], results)
        return kv_pb2.BatchResponse(results=results)

    def _answer(
        self, request: kv_pb2.BatchRequest, positions: list[int], results: list[kv_pb2.OperationResult]
    ) -> None:
        asked = [asked_of(request.operations[position]) for position in positions]
        try:
            check_key(asked[0].key)
            if isinstance(asked[0], kv_pb2.GetRequest):
                answers: list[Any] = [self.get(asked[0])]
            else:
                answers = self.command(asked, asked[0].request_id or request.request_id)
        except RingholdError as error:
            answers = [to_operation_error(error)] * len(positions)
        for position, answer in zip(positions, answers, strict=True):
            results[position].CopyFrom(as_result(answer))

    def partition_of(self, key: bytes) -> int:
        return partition_of(key, self.partitions)

    def _matches(self, request: kv_pb2.GetByIndexRequest) -> Iterator[tuple[bytes, bytes]]:
        for key, row in self.rows.items():
            for entry in row.indexes:
                if entry.name == request.index and selects(request, entry.value):
                    yield entry.value, key

    def _next_revision(self, key: bytes) -> int:
        partition = self.partition_of(key)
        self.revisions[partition] = self.revisions.get(partition, 0) + 1
        return self.revisions[partition]


def asked_of(operation: kv_pb2.Operation) -> Any:
    return getattr(operation, str(operation.WhichOneof("kind")))


def as_result(answer: Any) -> kv_pb2.OperationResult:
    match answer:
        case kv_pb2.GetResponse():
            return kv_pb2.OperationResult(get=answer)
        case kv_pb2.SetResponse():
            return kv_pb2.OperationResult(set=answer)
        case kv_pb2.DeleteResponse():
            return kv_pb2.OperationResult(delete=answer)
        case _:
            return kv_pb2.OperationResult(error=answer)


def is_stale(request: kv_pb2.GetRequest | kv_pb2.GetByIndexRequest) -> bool:
    return request.consistency == kv_pb2.CONSISTENCY_STALE


def check_key(key: bytes) -> None:
    if not key:
        raise error_for("KEY_EMPTY", "the key is empty")


def selects(request: kv_pb2.GetByIndexRequest, value: bytes) -> bool:
    match request.WhichOneof("match"):
        case "equals":
            return bool(value == request.equals)
        case "prefix":
            return value.startswith(request.prefix)
        case _:
            bounds = request.range
            return value >= bounds.start and (not bounds.HasField("end") or value < bounds.end)
