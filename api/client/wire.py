"""Requests from what a program says, results from what a node answers: pure translation, no decision."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ..changes import check_added, check_change, check_node_name, check_replication_factor
from ..errors import InDoubt, InvalidRequest, Unsupported
from ..proto.ringhold.v1 import cluster_pb2, kv_pb2
from .operations import Consistency, Delete, Get, Indexes, Operation, Set, Text
from .orders import (
    AddNodes,
    CordonNode,
    DecommissionNode,
    KeepNode,
    Order,
    RemoveNode,
    SetReplicationFactor,
    UncordonNode,
)
from .results import (
    Change,
    ClusterChange,
    ClusterStatus,
    Explanation,
    Fate,
    Match,
    Move,
    Node,
    NodeLoad,
    NodeStatus,
    Partition,
    PlannedMove,
    Record,
    Resolution,
    Topology,
    UnhealthyReplica,
)

MutationRequest: TypeAlias = kv_pb2.SetRequest | kv_pb2.DeleteRequest
OperationRequest: TypeAlias = kv_pb2.GetRequest | MutationRequest

CONSISTENCIES: Mapping[str, kv_pb2.Consistency] = {
    "linearizable": kv_pb2.CONSISTENCY_UNSPECIFIED,
    "stale": kv_pb2.CONSISTENCY_STALE,
}
STATES = {number: name.removeprefix("NODE_STATE_") for name, number in cluster_pb2.NodeState.items()}
HEALTHS = {number: name.removeprefix("REPLICA_HEALTH_") for name, number in cluster_pb2.ReplicaHealth.items()}
STEPS = {number: name.removeprefix("MOVE_STEP_") for name, number in cluster_pb2.MoveStep.items()}
LIVENESSES = {number: name.removeprefix("LIVENESS_") for name, number in cluster_pb2.Liveness.items()}

FATES: Mapping[int, Fate] = {
    kv_pb2.FATE_APPLIED: Fate.APPLIED,
    kv_pb2.FATE_ABORTED: Fate.ABORTED,
    kv_pb2.FATE_UNKNOWN: Fate.UNKNOWN,
}


def to_bytes(text: Text) -> bytes:
    """Bytes as they are, str as UTF-8.

    >>> to_bytes("Köln")
    b'K\\xc3\\xb6ln'
    """
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"keys, values and index values are bytes or str, not {type(text).__name__}")


def index_entries(indexes: Indexes | None) -> list[kv_pb2.IndexEntry]:
    """One entry for each name and value, in the order given."""
    return [
        kv_pb2.IndexEntry(name=name, value=to_bytes(value))
        for name, values in (indexes or {}).items()
        for value in ([values] if isinstance(values, bytes | str) else values)
    ]


def set_request(key: Text, value: Text, indexes: Indexes | None) -> kv_pb2.SetRequest:
    return kv_pb2.SetRequest(key=to_bytes(key), value=to_bytes(value), indexes=index_entries(indexes))


def get_request(key: Text, consistency: Consistency) -> kv_pb2.GetRequest:
    return kv_pb2.GetRequest(key=to_bytes(key), consistency=consistency_of(consistency))


def consistency_of(consistency: Consistency) -> kv_pb2.Consistency:
    """Raises InvalidRequest for any other word."""
    if consistency not in CONSISTENCIES:
        raise InvalidRequest("CONSISTENCY_INVALID", f'consistency is "linearizable" or "stale", not {consistency!r}')
    return CONSISTENCIES[consistency]


def delete_request(key: Text) -> kv_pb2.DeleteRequest:
    return kv_pb2.DeleteRequest(key=to_bytes(key))


def resolve_request(
    doubt: InDoubt | None, request_id: bytes | None, anchor: int | None, key: Text | None
) -> kv_pb2.ResolveRequest:
    """What is given by name counts more than what the doubt says. Raises InvalidRequest if a part is missing."""
    if not isinstance(doubt, InDoubt | None):
        raise TypeError(f"what can be resolved is an InDoubt, not {type(doubt).__name__}")
    request = kv_pb2.ResolveRequest(
        request_id=request_id or (doubt.request_id if doubt else b""),
        anchor=anchor or (doubt.anchor if doubt else 0),
        key=to_bytes(key) if key else (doubt.key if doubt else b""),
    )
    for part, reason in (
        (request.request_id, "REQUEST_ID_EMPTY"),
        (request.anchor, "ANCHOR_INVALID"),
        (request.key, "KEY_EMPTY"),
    ):
        if not part:
            message = (
                "a doubt is resolved by the request_id, the anchor and a key of the mutation: one of them is missing"
            )
            raise InvalidRequest(reason, message)
    return request


def change_request(orders: Iterable[Order], dry_run: bool) -> cluster_pb2.ChangeRequest:
    """Raises InvalidRequest for orders that can't be right, each by itself or together."""
    request = cluster_pb2.ChangeRequest(changes=map(change_of, orders), dry_run=dry_run)
    check_change(request)
    return request


def change_of(order: Order) -> cluster_pb2.Change:
    match order:
        case DecommissionNode(name):
            return cluster_pb2.Change(decommission=node_name(name))
        case KeepNode(name):
            return cluster_pb2.Change(keep=node_name(name))
        case RemoveNode(name):
            return cluster_pb2.Change(remove=node_name(name))
        case CordonNode(name):
            return cluster_pb2.Change(cordon=node_name(name))
        case UncordonNode(name):
            return cluster_pb2.Change(uncordon=node_name(name))
        case SetReplicationFactor(number):
            check_replication_factor(whole_number(number))
            return cluster_pb2.Change(replication_factor=number)
        case AddNodes(number):
            check_added(whole_number(number))
            return cluster_pb2.Change(add=number)
        case _:
            raise TypeError(f"a change of the cluster is made of orders, not {type(order).__name__}")


def node_name(name: str) -> str:
    """The name, if a message can hold it."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a node is a str, not {type(name).__name__}")
    check_node_name(name)
    return name


def whole_number(number: int) -> int:
    """The number; nothing is converted silently."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"a number is an int, not {type(number).__name__}")
    return number


def operation_request(operation: Operation) -> OperationRequest:
    """The request of one operation in a batch, still without its anchor."""
    match operation:
        case Get():
            return get_request(operation.key, operation.consistency)
        case Set():
            request: MutationRequest = set_request(operation.key, operation.value, operation.indexes)
        case Delete():
            request = delete_request(operation.key)
        case _:
            raise TypeError(f"a batch holds Get, Set and Delete, not {type(operation).__name__}")
    request.request_id = operation.request_id or b""
    return request


def as_operation(request: OperationRequest) -> kv_pb2.Operation:
    match request:
        case kv_pb2.GetRequest():
            return kv_pb2.Operation(get=request)
        case kv_pb2.SetRequest():
            return kv_pb2.Operation(set=request)
        case _:
            return kv_pb2.Operation(delete=request)


def query_request(
    name: str,
    value: Text | None,
    prefix: Text | None,
    start: Text | None,
    end: Text | None,
) -> kv_pb2.GetByIndexRequest:
    """A query for one value, a prefix, or start <= value < end; without any of them for the whole index."""
    if sum((value is not None, prefix is not None, start is not None or end is not None)) > 1:
        raise InvalidRequest("QUERY_INVALID", "a query takes a value, or prefix=, or start= and end=, not several")
    query = kv_pb2.GetByIndexRequest(index=name)
    if value is not None:
        query.equals = to_bytes(value)
    elif prefix is not None:
        query.prefix = to_bytes(prefix)
    else:
        query.range.SetInParent()
        if start is not None:
            query.range.start = to_bytes(start)
        if end is not None:
            query.range.end = to_bytes(end)
    return query


def indexes_of(
    entries: Iterable[kv_pb2.IndexEntry] | Iterable[cluster_pb2.ExplainedEntry],
) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for entry in entries:
        found.setdefault(entry.name, []).append(entry.value)
    return found


def record_of(key: bytes, answer: kv_pb2.GetResponse) -> Record:
    stale, behind_ms = answer.header.stale, behind_ms_of(answer.header)
    indexes = indexes_of(answer.indexes)
    return Record(key, answer.value, answer.version, answer.create_version, indexes, stale, behind_ms)


def resolution_of(answer: kv_pb2.ResolveResponse) -> Resolution:
    """Raises Unsupported if the node tells of a fate that this version does not know."""
    if answer.fate not in FATES:
        raise Unsupported("UNIMPLEMENTED", f"this client does not know what fate {answer.fate} is")
    changes = tuple(Change(outcome.version, outcome.existed) for outcome in answer.outcomes)
    return Resolution(FATES[answer.fate], changes)


def matches_of(page: kv_pb2.GetByIndexResponse) -> list[Match]:
    behind_ms = behind_ms_of(page)
    return [match_of(match, page.stale, behind_ms) for match in page.matches]


def match_of(match: kv_pb2.Match, stale: bool, behind_ms: int | None) -> Match:
    if not match.HasField("record"):
        return Match(match.key, match.index_value, None, stale, behind_ms)
    found = match.record
    indexes = indexes_of(found.indexes)
    record = Record(found.key, found.value, found.version, found.create_version, indexes, stale, behind_ms)
    return Match(match.key, match.index_value, record, stale, behind_ms)


def behind_ms_of(answer: kv_pb2.Header | kv_pb2.GetByIndexResponse) -> int | None:
    """0 for what is not stale; None if it is unknown."""
    if not answer.stale:
        return 0
    return answer.behind_ms if answer.HasField("behind_ms") else None


def node_of(node: cluster_pb2.Node) -> Node:
    return Node(
        id=node.id,
        name=node.name,
        grpc_address=node.grpc_address,
        http_address=node.http_address,
        host=node.host,
        zone=node.zone,
        weight=node.weight,
        state=STATES.get(node.state, "UNSPECIFIED"),
        liveness=LIVENESSES.get(node.liveness, "UNSPECIFIED"),
        cordoned=node.cordoned,
    )


def topology_of(answer: cluster_pb2.TopologyResponse) -> Topology:
    nodes = tuple(node_of(node) for node in answer.nodes)
    partitions = tuple(
        Partition(
            number=number,
            replicas=tuple(nodes[at].name for at in partition.replicas),
            leader=nodes[partition.leader].name if partition.HasField("leader") else None,
            log_time_ms=partition.log_time_ms,
        )
        for number, partition in enumerate(answer.partitions)
    )
    return Topology(answer.cluster_name, answer.cluster_id, answer.epoch, answer.replication_factor, nodes, partitions)


def node_status_of(status: cluster_pb2.NodeStatus) -> NodeStatus:
    return NodeStatus(
        node=node_of(status.node),
        reachable=status.reachable,
        partitions_led=status.partitions_led,
        replicas=status.replicas,
        keys=status.keys,
        bytes=status.bytes,
        engine=status.engine,
        version=status.version,
        uptime_s=status.uptime_s,
        reluctant_for=tuple(status.reluctant_for),
        unhealthy=tuple(unhealthy_of(replica) for replica in status.unhealthy),
        scrub_age_s=status.scrub_age_s if status.HasField("scrub_age_s") else None,
        damage_found=status.damage_found,
    )


def unhealthy_of(replica: cluster_pb2.UnhealthyReplica) -> UnhealthyReplica:
    partition = replica.partition if replica.HasField("partition") else None
    return UnhealthyReplica(partition, HEALTHS.get(replica.health, "UNSPECIFIED"), replica.reason)


def status_of(answer: cluster_pb2.StatusResponse) -> ClusterStatus:
    return ClusterStatus(
        cluster_name=answer.cluster_name,
        cluster_id=answer.cluster_id,
        epoch=answer.epoch,
        nodes=tuple(node_status_of(node) for node in answer.nodes),
        unavailable_partitions=tuple(answer.unavailable_partitions),
        lost_partitions=tuple(answer.lost_partitions),
        replication_factor=answer.replication_factor,
        is_settled=answer.is_settled,
        moves=tuple(move_of(move) for move in answer.moves),
    )


def move_of(move: cluster_pb2.Move) -> Move:
    return Move(
        partition=move.partition if move.HasField("partition") else None,
        adding=tuple(move.adding),
        removing=tuple(move.removing),
        step=STEPS.get(move.step, "UNSPECIFIED"),
        bytes_done=move.bytes_done,
        bytes_total=move.bytes_total,
    )


def cluster_change_of(answer: cluster_pb2.ChangeResponse) -> ClusterChange:
    return ClusterChange(
        epoch=answer.epoch,
        moves=tuple(planned_move_of(move) for move in answer.moves),
        loads=tuple(load_of(load) for load in answer.loads),
        bytes=answer.bytes,
        seconds=answer.seconds,
        warnings=tuple(answer.warnings),
    )


def planned_move_of(move: cluster_pb2.PlannedMove) -> PlannedMove:
    partition = move.partition if move.HasField("partition") else None
    return PlannedMove(partition, tuple(move.adding), tuple(move.removing), move.bytes)


def load_of(load: cluster_pb2.NodeLoad) -> NodeLoad:
    return NodeLoad(
        name=load.name,
        host=load.host,
        zone=load.zone,
        replicas_before=load.replicas_before,
        replicas_after=load.replicas_after,
        leaders_before=load.leaders_before,
        leaders_after=load.leaders_after,
        bytes_before=load.bytes_before,
        bytes_after=load.bytes_after,
    )


def explanation_of(key: bytes, answer: cluster_pb2.ExplainResponse) -> Explanation:
    return Explanation(
        key=key,
        hash=answer.hash,
        partition=answer.partition,
        replicas=tuple(answer.replicas),
        leader=answer.leader or None,
        exists=answer.exists,
        version=answer.version,
        create_version=answer.create_version,
        value_bytes=answer.value_bytes,
        indexes=indexes_of(answer.indexes),
        topology_epoch=answer.topology_epoch,
    )
