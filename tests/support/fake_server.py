"""A cluster of fakes: real gRPC servers on free ports, one dict behind them, faults on demand.

It answers as the contract says (versions, dedupe by request_id and anchor, log time, pages) and notes every call, so
that tests of the client can say what was sent where. Nothing is replicated or
forwarded: all nodes serve all keys.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from ringhold.api.changes import check_change
from ringhold.api.errors import RingholdError, error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2, cluster_pb2_grpc, kv_pb2, kv_pb2_grpc
from ringhold.api.status import to_grpc_status, to_operation_error
from ringhold.ring.hashing import key_hash, partition_of

WINDOW_MS = 300_000
ABORTED: list[Any] = []
"""Stands for the answers to a command that was resolved before it was applied."""


@dataclass
class Fault:
    """The next `times` calls of `method` (at `address`, or anywhere) fail; the effect takes place first if `applied`.

    Without an error the connection is lost, or, if it `hangs`, there is no answer until the client gives up.
    """

    method: str
    address: str | None = None
    times: int = 1
    error: RingholdError | None = None
    applied: bool = False
    hangs: bool = False


@dataclass(frozen=True)
class Noted:
    """A call that a node received."""

    address: str
    method: str
    request: Any


@dataclass(frozen=True)
class Stage:
    """How far a change has come: the groups that still move, and the states of nodes that are not NORMAL."""

    moves: Sequence[cluster_pb2.Move] = ()
    states: Mapping[str, cluster_pb2.NodeState] = field(default_factory=dict)


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


class FakeNode(kv_pb2_grpc.KVServicer, cluster_pb2_grpc.ClusterServicer):
    """One endpoint of a `FakeCluster`."""

    def __init__(self, cluster: "FakeCluster") -> None:
        self.cluster = cluster
        self.port = 0
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, on the port of before if there was one."""
        self._pool = ThreadPoolExecutor(max_workers=8)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        kv_pb2_grpc.add_KVServicer_to_server(self, self._server)
        cluster_pb2_grpc.add_ClusterServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Close the port and every connection at once."""
        if self._server is not None and self._pool is not None:
            self._server.stop(grace=None).wait()
            self._pool.shutdown()
        self._server = self._pool = None

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Get", request, context, self.cluster.store.get)

    def Set(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Set", request, context, self.cluster.store.mutate)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Delete", request, context, self.cluster.store.mutate)

    def GetByIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("GetByIndex", request, context, self.cluster.store.query)

    def Batch(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Batch", request, context, self.cluster.batch)

    def Resolve(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Resolve", request, context, self.cluster.store.resolve)

    def Topology(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Topology", request, context, lambda _: self.cluster.topology())

    def Status(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Status", request, context, lambda _: self.cluster.status())

    def Change(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Change", request, context, self.cluster.change)

    def Explain(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._serve("Explain", request, context, self.cluster.explain)

    def _serve(self, method: str, request: Any, context: grpc.ServicerContext, answer: Callable[[Any], Any]) -> Any:
        noted = type(request).FromString(request.SerializeToString())
        with self.cluster.lock:
            self.cluster.calls.append(Noted(self.address, method, noted))
            fault = self.cluster.take_fault(method, self.address)
            try:
                response = answer(request) if fault is None or fault.applied else None
            except RingholdError as error:
                fault = Fault(method, error=error)
        if fault is not None:
            fail(fault, context)
        return response


def fail(fault: Fault, context: grpc.ServicerContext) -> NoReturn:
    if fault.hangs:
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait(timeout=30)
        context.abort(grpc.StatusCode.CANCELLED, "the client gave up")
    if fault.error is None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    context.abort_with_status(to_grpc_status(fault.error))
    raise AssertionError("abort raises")


class FakeCluster:
    """`nodes` endpoints over one store; partition p is led by node p modulo `nodes` unless `leaders` says otherwise.

    A change takes effect on `states`, `cordoned` and the replication factor, and answers `planned`; what moves is told
    by `stages` alone: each Status takes the next one, and the last one stays. Nodes in `dead` can be removed.
    """

    def __init__(self, nodes: int = 3) -> None:
        self.lock = threading.Lock()
        self.store = FakeStore()
        self.calls: list[Noted] = []
        self.faults: list[Fault] = []
        self.partition_errors: dict[int, RingholdError] = {}
        self.nodes = [FakeNode(self) for _ in range(nodes)]
        self.leaders: dict[int, int] = {p: p % nodes for p in range(self.store.partitions)}
        self.states: dict[str, cluster_pb2.NodeState] = {}
        self.cordoned: set[str] = set()
        self.dead: set[str] = set()
        self.replication_factor = 1
        self.planned = cluster_pb2.ChangeResponse()
        self.stages = deque([Stage()])

    @property
    def endpoints(self) -> list[str]:
        return [node.address for node in self.nodes]

    def leader_of(self, key: bytes) -> FakeNode:
        return self.nodes[self.leaders[partition_of(key, self.store.partitions)]]

    def calls_of(self, method: str) -> list[Noted]:
        """The calls of a method so far, in their order."""
        with self.lock:
            return [call for call in self.calls if call.method == method]

    def take_fault(self, method: str, address: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.times and fault.address in {None, address}:
                fault.times -= 1
                return fault
        return None

    def batch(self, request: kv_pb2.BatchRequest) -> kv_pb2.BatchResponse:
        """Like the store's, but operations of a partition in `partition_errors` get that error, each time once."""
        ill, self.partition_errors = self.partition_errors, {}
        wrong = [ill.get(self.store.partition_of(asked_of(operation).key)) for operation in request.operations]
        sound = kv_pb2.BatchRequest(request_id=request.request_id)
        sound.operations.extend(op for op, error in zip(request.operations, wrong, strict=True) if error is None)
        results = iter(self.store.batch(sound).results)
        return kv_pb2.BatchResponse(
            results=[next(results) if error is None else as_result(to_operation_error(error)) for error in wrong]
        )

    def topology(self) -> cluster_pb2.TopologyResponse:
        log_time_ms = self.store.log_time_ms if self.store.knows_log_times else 0
        return cluster_pb2.TopologyResponse(
            cluster_name="fake",
            cluster_id="f-1",
            epoch=self.store.epoch,
            replication_factor=self.replication_factor,
            nodes=[self._node(number) for number in range(len(self.nodes))],
            partitions=[
                cluster_pb2.Partition(replicas=[self.leaders[p]], leader=self.leaders[p], log_time_ms=log_time_ms)
                for p in range(self.store.partitions)
            ],
        )

    def change(self, request: cluster_pb2.ChangeRequest) -> cluster_pb2.ChangeResponse:
        """All orders or none; the epoch counts the changes that are no dry runs, if they change anything."""
        check_change(request)
        before = (dict(self.states), set(self.cordoned), self.replication_factor)
        try:
            for change in request.changes:
                self._order(change, request.dry_run)
        except RingholdError:
            self.states, self.cordoned, self.replication_factor = before
            raise
        if request.dry_run:
            self.states, self.cordoned, self.replication_factor = before
        elif before != (self.states, self.cordoned, self.replication_factor):
            self.store.epoch += 1
        answer = cluster_pb2.ChangeResponse()
        answer.CopyFrom(self.planned)
        answer.epoch = self.store.epoch
        return answer

    def _order(self, change: cluster_pb2.Change, dry_run: bool) -> None:
        kind = str(change.WhichOneof("kind"))
        if kind == "replication_factor":
            self.replication_factor = change.replication_factor
        elif kind != "add":
            self._order_node(kind, getattr(change, kind), dry_run)

    def _order_node(self, kind: str, name: str, dry_run: bool) -> None:
        names = {f"node-{number + 1}" for number in range(len(self.nodes))}
        if name not in names or self.states.get(name) == cluster_pb2.NODE_STATE_REMOVED:
            raise error_for("NODE_UNKNOWN", f"no node is named {name}", {"node": name})
        match kind:
            case "decommission":
                self.states[name] = cluster_pb2.NODE_STATE_LEAVING
            case "keep":
                self.states.pop(name, None)
            case "remove" if dry_run or name in self.dead:
                self.states[name] = cluster_pb2.NODE_STATE_REMOVED
            case "remove":
                raise error_for("CHANGE_REFUSED", f"{name} is alive: decommission it", {"node": name})
            case "cordon":
                self.cordoned.add(name)
            case "uncordon":
                self.cordoned.discard(name)
        if {self.states.get(each) for each in names} == {cluster_pb2.NODE_STATE_LEAVING}:
            raise error_for("CHANGE_REFUSED", "no node would be left to hold anything")

    def status(self) -> cluster_pb2.StatusResponse:
        stage = self.stages.popleft() if len(self.stages) > 1 else self.stages[0]
        self.states.update(stage.states)
        nodes = [
            cluster_pb2.NodeStatus(
                node=self._node(number),
                reachable=True,
                partitions_led=sum(leader == number for leader in self.leaders.values()),
                engine="dict",
            )
            for number in range(len(self.nodes))
        ]
        at_rest = {cluster_pb2.NODE_STATE_NORMAL, cluster_pb2.NODE_STATE_REMOVED}
        return cluster_pb2.StatusResponse(
            cluster_name="fake",
            cluster_id="f-1",
            epoch=self.store.epoch,
            nodes=nodes,
            replication_factor=self.replication_factor,
            is_settled=not stage.moves and at_rest.issuperset(self.states.values()),
            moves=stage.moves,
        )

    def explain(self, request: cluster_pb2.ExplainRequest) -> cluster_pb2.ExplainResponse:
        partition = partition_of(request.key, self.store.partitions)
        row = self.store.rows.get(request.key, kv_pb2.Record())
        return cluster_pb2.ExplainResponse(
            hash=key_hash(request.key),
            partition=partition,
            replicas=[f"node-{self.leaders[partition] + 1}"],
            leader=f"node-{self.leaders[partition] + 1}",
            exists=request.key in self.store.rows,
            version=row.version,
            create_version=row.create_version,
            value_bytes=len(row.value),
            indexes=[cluster_pb2.ExplainedEntry(name=entry.name, value=entry.value) for entry in row.indexes],
            topology_epoch=self.store.epoch,
        )

    def _node(self, number: int) -> cluster_pb2.Node:
        return cluster_pb2.Node(
            id=f"n-{number + 1}",
            name=f"node-{number + 1}",
            grpc_address=self.nodes[number].address,
            weight=1,
            state=self.states.get(f"node-{number + 1}", cluster_pb2.NODE_STATE_NORMAL),
            liveness=cluster_pb2.LIVENESS_ALIVE,
            cordoned=f"node-{number + 1}" in self.cordoned,
        )


@contextmanager
def fake_cluster(nodes: int = 3) -> Iterator[FakeCluster]:
    """A running cluster of fakes, stopped at the end."""
    cluster = FakeCluster(nodes)
    try:
        yield cluster
    finally:
        for node in cluster.nodes:
            node.stop()
