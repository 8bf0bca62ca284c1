"""Node records for tests of the ring."""

from collections.abc import Sequence
from dataclasses import replace

from ringhold.ring.topology import NodeRecord, NodeState


def node_record(
    node_id: str,
    *,
    zone: str = "",
    host: str = "",
    weight: int = 1,
    state: NodeState = NodeState.NORMAL,
    cordoned: bool = False,
) -> NodeRecord:
    """A node on a host of its own unless `host` says otherwise."""
    return NodeRecord(
        id=node_id,
        name=f"name-{node_id}",
        grpc_address=f"{node_id}:50051",
        http_address=f"{node_id}:50052",
        host=host or node_id,
        zone=zone,
        weight=weight,
        state=state,
        cordoned=cordoned,
    )


def node_records(count: int, *, zones: int = 1, first: int = 0) -> list[NodeRecord]:
    """`count` nodes of equal weight, dealt to zones in turn."""
    return [node_record(f"n{at:04}", zone=f"z{at % zones}") for at in range(first, first + count)]


def with_cordoned(nodes: Sequence[NodeRecord], *node_ids: str) -> list[NodeRecord]:
    """The same nodes, those of these ids cordoned."""
    return [replace(node, cordoned=node.id in node_ids) for node in nodes]
