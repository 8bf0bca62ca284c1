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

from .fake_store import FakeStore, as_result, asked_of


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
