"""Who a node is and what it was told, and how it introduces itself to the others by that."""

from dataclasses import dataclass

from ..api.limits import Limits
from ..gossip.config import GossipConfig
from ..gossip.member import Member, MemberState
from .formation import FormationState, seeds_hash
from .peers.boots import Boot
from .topology_store import TopologyStore


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who a node is and what it was told; see NodeConfig for the meaning."""

    node_id: str
    generation: int
    name: str
    cluster: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int
    seeds: tuple[str, ...]
    expect: int
    partitions: int
    replication_factor: int
    engine: str
    disk_reserve_bytes: int | None
    snapshot_bytes_per_s_max: int
    reads: str
    limits: Limits
    gossip: GossipConfig
    scrub_bytes_per_s: int = 0


def formation_state(settings: NodeSettings, store: TopologyStore) -> FormationState:
    """What a node says of itself to nodes that are about to found or to join a cluster."""
    return FormationState(
        node_id=settings.node_id,
        name=settings.name,
        cluster=settings.cluster,
        cluster_id=store.cluster_id,
        epoch=store.current.epoch if store.current else 0,
        expect=0 if store.reborn else settings.expect,
        partitions=settings.partitions,
        replication_factor=settings.replication_factor,
        seeds=seeds_hash(settings.seeds),
        grpc_address=settings.grpc_address,
        http_address=settings.http_address,
        host=settings.host,
        zone=settings.zone,
        weight=settings.weight,
    )


def own_member(settings: NodeSettings, boot: Boot, store: TopologyStore) -> Member:
    """What gossip is to spread of this start of a node."""
    return Member(
        node_id=settings.node_id,
        generation=boot.generation,
        nonce=boot.nonce,
        incarnation=1,
        state=MemberState.ALIVE,
        name=settings.name,
        grpc_address=settings.grpc_address,
        http_address=settings.http_address,
        host=settings.host,
        zone=settings.zone,
        weight=settings.weight,
        topology_epoch=store.current.epoch if store.current else 0,
    )
