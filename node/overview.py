"""What `Cluster` answers: the topology with its leaders, the state of every node, the place of a key."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from ..api.errors import RingholdError
from ..api.limits import Limits
from ..api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, DescribeRequest, Request, UnhealthyCopy
from ..api.proto.ringhold.storage.v1.records_pb2 import ReplicaRecord, Row
from ..api.proto.ringhold.v1 import cluster_pb2
from ..gossip.member import Member, MemberState
from ..ring.hashing import key_hash, partition_of
from ..ring.topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology, group_of_partition, partition_of_group
from .clock import Clock
from .moving.mover import Surveyor
from .moving.moves import moves_of
from .peers.exchange import RequestLost, RequestNotSent
from .replica_record import DAMAGED, GONE, HEALTHY, INSTALLING
from .router import Router
from .routes import Routes
from .topology_store import TopologyStore

DESCRIBE_S_MAX = 1.0
"""A node that has not described itself by then is silent."""

NEWS_S_MAX = 0.3
"""The topology waits so long for news of leaders: what is known of them already will do."""

LIVENESS = {
    MemberState.ALIVE: cluster_pb2.LIVENESS_ALIVE,
    MemberState.SUSPECT: cluster_pb2.LIVENESS_SUSPECT,
    MemberState.DEAD: cluster_pb2.LIVENESS_DEAD,
    MemberState.LEFT: cluster_pb2.LIVENESS_LEFT,
}


STATES = {
    NodeState.JOINING: cluster_pb2.NODE_STATE_JOINING,
    NodeState.NORMAL: cluster_pb2.NODE_STATE_NORMAL,
    NodeState.LEAVING: cluster_pb2.NODE_STATE_LEAVING,
    NodeState.REMOVED: cluster_pb2.NODE_STATE_REMOVED,
}


HEALTH = {
    DAMAGED: cluster_pb2.REPLICA_HEALTH_DAMAGED,
    INSTALLING: cluster_pb2.REPLICA_HEALTH_INSTALLING,
    GONE: cluster_pb2.REPLICA_HEALTH_GONE,
}


class Overview:
    """Answers about the cluster from the topology, from gossip, and from what each node says of itself."""

    def __init__(
        self,
        node_id: str,
        store: TopologyStore,
        routes: Routes,
        router: Router,
        member: Callable[[str], Member | None],
        describe: Callable[[], DescribeReply],
        surveyor: Surveyor,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._surveyor = surveyor
        self._node_id = node_id
        self._store = store
        self._routes = routes
        self._router = router
        self._member = member
        self._describe = describe
        self._clock = clock
        self._limits = limits

    async def topology(self, deadline: float) -> cluster_pb2.TopologyResponse:
        """Nodes and partitions, with the leaders and log times that the nodes report."""
        topology = self._store.known
        described = await self._ask_all(topology, min(NEWS_S_MAX, deadline - self._clock.now()))
        # An older log time may be no anchor any more: a mutation that is lost with it could not be told from none.
        log_times = {led.group: led.log_time_ms for answer in described.values() for led in answer.led}
        position = {node.id: at for at, node in enumerate(topology.nodes)}
        partitions = []
        for number, targets in enumerate(topology.targets):
            route = self._routes.get(group_of_partition(number))
            partitions.append(
                cluster_pb2.Partition(
                    replicas=[position[node_id] for node_id in targets],
                    leader=position.get(route.leader),
                    log_time_ms=log_times.get(group_of_partition(number), 0),
                )
            )
        return cluster_pb2.TopologyResponse(
            cluster_name=topology.cluster_name,
            cluster_id=topology.cluster_id,
            epoch=topology.epoch,
            replication_factor=topology.replication_factor,
            nodes=[self._node(node) for node in topology.nodes],
            partitions=partitions,
        )

    async def status(self, deadline: float) -> cluster_pb2.StatusResponse:
        """Every node, with its own figures if it answers."""
        topology = self._store.known
        descriptions = await self._ask_all(topology, min(DESCRIBE_S_MAX, deadline - self._clock.now()))
        moves = [] if topology.is_settled else moves_of(await self._surveyor.survey(topology))
        led = {group.group for described in descriptions.values() for group in described.led}
        missing = [number for number in range(topology.partitions) if group_of_partition(number) not in led]
        return cluster_pb2.StatusResponse(
            cluster_name=topology.cluster_name,
            cluster_id=topology.cluster_id,
            epoch=topology.epoch,
            nodes=[self._node_status(node, descriptions.get(node.id)) for node in topology.nodes],
            unavailable_partitions=missing,
            lost_partitions=[number for number in missing if is_lost(number, topology, descriptions)],
            replication_factor=topology.replication_factor,
            is_settled=topology.is_settled and all(d.topology_epoch <= topology.epoch for d in descriptions.values()),
            moves=moves,
        )

    async def explain(self, key: bytes, deadline: float) -> cluster_pb2.ExplainResponse:
        """Where a key lives and what is there. Raises InvalidRequest, Unavailable."""
        self._limits.check_key(key)
        topology = self._store.known
        partition = partition_of(key, topology.partitions)
        group = group_of_partition(partition)
        answer = await self._router.read(group, (key,), deadline)
        encoded = answer.rows[0]
        row = Row() if encoded is None else Row.FromString(encoded)
        return cluster_pb2.ExplainResponse(
            hash=key_hash(key),
            partition=partition,
            replicas=[name_of(topology, node_id) for node_id in topology.targets[partition]],
            leader=name_of(topology, self._routes.leader(group)),
            exists=encoded is not None,
            version=row.version,
            create_version=row.create_version,
            value_bytes=len(row.value),
            indexes=[cluster_pb2.ExplainedEntry(name=entry.name, value=entry.value) for entry in row.indexes],
            topology_epoch=topology.epoch,
        )

    async def _ask_all(self, topology: Topology, timeout_s: float) -> dict[str, DescribeReply]:
        """What each node says of itself, by id; the silent ones are left out. Leaders are learnt on the way."""
        described = await asyncio.gather(*(self._ask(node, max(0.001, timeout_s)) for node in topology.nodes))
        answers = {
            node.id: answer for node, answer in zip(topology.nodes, described, strict=True) if answer is not None
        }
        for node_id, answer in answers.items():
            for led in answer.led:
                self._routes.heard(led.group, node_id, led.term, led.log_time_ms, self._clock.now())
        return answers

    async def _ask(self, node: NodeRecord, timeout_s: float) -> DescribeReply | None:
        if node.id == self._node_id:
            return self._describe()
        if not self._router.reaches(node.id):
            return None
        try:
            reply = await self._router.ask(node.id, 0, Request(describe=DescribeRequest()), timeout_s)
        except (RequestLost, RequestNotSent, RingholdError):
            return None
        return reply.describe

    def _node_status(self, node: NodeRecord, described: DescribeReply | None) -> cluster_pb2.NodeStatus:
        if described is None:
            return cluster_pb2.NodeStatus(node=self._node(node), reachable=False)
        return cluster_pb2.NodeStatus(
            node=self._node(node),
            reachable=True,
            partitions_led=sum(1 for led in described.led if led.group),
            replicas=described.replicas,
            keys=described.keys,
            bytes=described.bytes,
            engine=described.engine,
            version=described.version,
            uptime_s=described.uptime_s,
            reluctant_for=described.reluctant_for,
            unhealthy=unhealthy_replicas(described.unhealthy),
            scrub_age_s=described.scrub.age_s if described.scrub.HasField("age_s") else None,
            damage_found=described.scrub.damage,
        )

    def _node(self, node: NodeRecord) -> cluster_pb2.Node:
        """The topology's word on a node, with gossip's on its liveness and present addresses."""
        member = self._member(node.id)
        return cluster_pb2.Node(
            id=node.id,
            name=node.name,
            grpc_address=member.grpc_address if member else node.grpc_address,
            http_address=member.http_address if member else node.http_address,
            host=node.host,
            zone=node.zone,
            weight=node.weight,
            state=STATES[node.state],
            cordoned=node.cordoned,
            liveness=LIVENESS[member.state] if member else cluster_pb2.LIVENESS_UNSPECIFIED,
        )


def unhealthy_copies(
    records: Mapping[int, ReplicaRecord], topology: Topology | None, node_id: str
) -> list[UnhealthyCopy]:
    """What a node should have a good copy of, and has none; a replica that is gone counts until it is replaced."""
    return [
        UnhealthyCopy(group=group, status=record.status, reason=record.reason)
        for group, record in sorted(records.items())
        if record.status != HEALTHY and (record.status != GONE or should_hold(topology, group, node_id))
    ]


def should_hold(topology: Topology | None, group: int, node_id: str) -> bool:
    if topology is None:
        return False
    holders = topology.system_voters if group == SYSTEM_GROUP else topology.targets[partition_of_group(group)]
    return node_id in holders


def unhealthy_replicas(copies: Iterable[UnhealthyCopy]) -> list[cluster_pb2.UnhealthyReplica]:
    return [
        cluster_pb2.UnhealthyReplica(
            partition=None if copy.group == SYSTEM_GROUP else partition_of_group(copy.group),
            health=HEALTH.get(copy.status, cluster_pb2.REPLICA_HEALTH_UNSPECIFIED),  # type: ignore[call-overload]
            reason=copy.reason,
        )
        for copy in copies
    ]


def is_lost(partition: int, topology: Topology, descriptions: Mapping[str, DescribeReply]) -> bool:
    """Whether all nodes that should have a good copy of the partition have said that they have none."""
    group = group_of_partition(partition)
    return all(
        node_id in descriptions and any(copy.group == group for copy in descriptions[node_id].unhealthy)
        for node_id in topology.targets[partition]
    )


def name_of(topology: Topology, node_id: str) -> str:
    node = topology.node(node_id)
    return node.name if node else node_id
