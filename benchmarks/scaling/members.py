"""The nodes of an imagined cluster, named as those of docs/operations.md are in Kubernetes, in three zones."""

import random
from collections.abc import Sequence

from ringhold.gossip.member import Member, MemberState
from ringhold.ring.topology import NodeRecord, NodeState

REPLICATION_FACTOR = 3
ZONES = 3
NODE_ID_BYTES = 16
NONCE_BITS = 63


def node_records(count: int, seed: int = 0) -> Sequence[NodeRecord]:
    """So many NORMAL nodes. Those of a smaller number are among those of a greater one."""
    rng = random.Random(seed)
    return [node_record(number, rng.randbytes(NODE_ID_BYTES).hex()) for number in range(count)]


def node_record(number: int, node_id: str) -> NodeRecord:
    domain = f"ringhold-{number}.ringhold-peers.default.svc.cluster.local"
    return NodeRecord(
        id=node_id,
        name=f"ringhold-{number}",
        grpc_address=f"{domain}:50051",
        http_address=f"{domain}:50052",
        host=f"worker-{number}",
        zone=f"zone-{number % ZONES}",
        weight=1,
        state=NodeState.NORMAL,
    )


def members_of(nodes: Sequence[NodeRecord], seed: int) -> Sequence[Member]:
    """The same nodes as gossip sees them while all are alive."""
    rng = random.Random(seed)
    return [
        Member(
            node_id=node.id,
            generation=1,
            nonce=rng.getrandbits(NONCE_BITS),
            incarnation=1,
            state=MemberState.ALIVE,
            name=node.name,
            grpc_address=node.grpc_address,
            http_address=node.http_address,
            host=node.host,
            zone=node.zone,
            weight=node.weight,
            topology_epoch=1,
        )
        for node in nodes
    ]
