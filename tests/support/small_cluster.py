"""The gateways and groups of some nodes in one process, which replicate; requests go wherever the test lets them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from support.gate import Gate
from support.network import Network
from support.ring_nodes import node_record
from support.virtual_time import LoopClock, reached

from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, LedGroup, Reply, Request
from ringhold.node.attempts import AttemptsConfig
from ringhold.node.consensus.groups import Groups
from ringhold.node.gateway import Gateway
from ringhold.node.machine.founding_replicas import stage_founding_replicas
from ringhold.node.machine.records import RecordMachine
from ringhold.node.peers.exchange import Exchange, RequestLost, RequestNotSent
from ringhold.node.replica_record import hosted_groups
from ringhold.node.router import Router
from ringhold.node.routes import Routes
from ringhold.node.scatter import Scatter
from ringhold.node.service import PeerService
from ringhold.node.shards import Shards
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.supervisor import Supervisor
from ringhold.ring.hashing import partition_of
from ringhold.ring.placement import found
from ringhold.ring.topology import SYSTEM_GROUP, Topology, group_of_partition

PARTITIONS = 8
NOT_SENT, REQUEST_LOST, REPLY_LOST = "not sent", "request lost", "reply lost"

Weather = Callable[[str, str, Request], str | None]
"""(source, target, request) → what goes wrong with it, if anything."""


def fair(source: str, target: str, request: Request) -> str | None:
    """Everything arrives."""
    return None


class WeatherExchange:
    """One node's `Exchange`: asks the service of the other node at once, unless the weather is against it."""

    def __init__(self, node_id: str, cluster: "SmallCluster") -> None:
        self._node_id = node_id
        self._cluster = cluster

    def connected(self, peer_id: str) -> bool:
        return peer_id not in self._cluster.cut_off and self._cluster.network.connected(self._node_id, peer_id)

    def request(self, peer_id: str, request: Request, timeout_s: float) -> asyncio.Future[Reply]:
        asked = Request()
        asked.CopyFrom(request)
        self._cluster.asked.append((self._node_id, peer_id, asked))
        trouble = self._cluster.weather(self._node_id, peer_id, asked) if self.connected(peer_id) else NOT_SENT
        if trouble == NOT_SENT:
            raise RequestNotSent("the weather")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        loop.call_later(timeout_s, self._give_up, answer)
        if trouble != REQUEST_LOST:
            respond = self._ignore if trouble == REPLY_LOST else answer.set_result
            self._cluster.nodes[peer_id].service.serve(asked, respond)
        return answer

    @staticmethod
    def _give_up(answer: asyncio.Future[Reply]) -> None:
        if not answer.done():
            answer.set_exception(RequestLost("no answer in time"))

    @staticmethod
    def _ignore(reply: Reply) -> None:
        """A reply that is lost on its way."""


@dataclass
class SmallNode:
    """What a node has between its faces and its engine, whose syncs wait at `gate`."""

    engine: MemoryEngine
    gate: Gate
    groups: Groups
    routes: Routes
    router: Router
    shards: Shards
    gateway: Gateway
    service: PeerService

    def describe(self) -> DescribeReply:
        led = [
            LedGroup(group=group, term=self.groups.term(group), log_time_ms=self.groups.log_time_ms(group))
            for group in self.groups.led
        ]
        return DescribeReply(led=led, replicas=len(self.groups.hosted), engine="memory")


def founded_engine(topology: Topology, node_id: str, gate: Gate) -> MemoryEngine:
    """A disk with the node's founding replicas on it."""
    engine, batch = MemoryEngine(before_sync=gate.wait), WriteBatch()
    stage_founding_replicas(topology, node_id, batch)
    engine.write(batch)
    return engine


class SmallCluster:
    """Nodes by id, over one topology; the first target of each partition leads it as long as it can.

    `weather` and `cut_off` (nodes that no request gets to) are against requests, `network` carries the consensus.
    """

    def __init__(
        self, node_ids: Sequence[str], limits: Limits, attempts: AttemptsConfig, replication_factor: int
    ) -> None:
        nodes = [node_record(node_id) for node_id in node_ids]
        self.topology: Topology = found("c", "c1", PARTITIONS, replication_factor, nodes)
        self.weather: Weather = fair
        self.cut_off: set[str] = set()
        self.asked: list[tuple[str, str, Request]] = []
        self.failures: list[BaseException] = []
        self.supervisor = Supervisor(lambda _, error: self.failures.append(error))
        self.clock = LoopClock()
        self.network = Network()
        self.nodes = {node_id: self._node(node_id, limits, attempts) for node_id in node_ids}
        for node_id in node_ids:
            self.network.connect(node_id)

    def _node(self, node_id: str, limits: Limits, attempts: AttemptsConfig) -> SmallNode:
        gate, rng, routes = Gate(), Random(node_id), Routes()
        engine = founded_engine(self.topology, node_id, gate)
        routes.adopt(self.topology)
        groups = self._groups(node_id, engine, rng)
        groups.on_leader(routes.led)
        exchange = cast("Exchange", WeatherExchange(node_id, self))
        router = Router(node_id, groups, exchange, routes, self.clock, rng, attempts)
        shards = Shards(groups)
        scatter = Scatter(node_id, shards, router, routes, self.clock, rng, limits, attempts)
        gateway = Gateway(router, scatter, lambda: self.topology, limits, rng)
        service = PeerService(groups, shards, lambda: self.nodes[node_id].describe(), self.supervisor)  # noqa: PLW0108 - made below
        for group in hosted_groups(engine):
            if group != SYSTEM_GROUP:
                groups.open(group, RecordMachine, is_new=True)
        for loop in (groups.run(), groups.pulse(), groups.beat()):
            self.supervisor.spawn(f"groups of {node_id}", loop)
        return SmallNode(engine, gate, groups, routes, router, shards, gateway, service)

    def _groups(self, node_id: str, engine: MemoryEngine, rng: Random) -> Groups:
        groups = Groups(node_id, 1, engine, self.clock, rng)
        groups.attach(self.network.add(node_id, groups))
        groups.reach([node.id for node in self.topology.nodes if node.id != node_id])
        groups.prefer(self.topology.preferred_leaders)
        return groups

    def is_led(self, partition: int) -> bool:
        """Whether the preferred leader may read, and all replicas know it."""
        group = group_of_partition(partition)
        leader, *_ = targets = self.topology.targets[partition]
        knowing = all(self.nodes[node_id].groups.leader(group)[0] == leader for node_id in targets)
        return knowing and self.nodes[leader].groups.leads(group)

    def is_level(self) -> bool:
        """Whether all replicas have applied the same."""
        applied: dict[int, set[int]] = {}
        for node in self.nodes.values():
            for group in node.groups.hosted:
                applied.setdefault(group, set()).add(node.groups.machine(group).state.applied_index)
        return all(len(indexes) == 1 for indexes in applied.values())

    @property
    def deadline(self) -> float:
        """Ten seconds from now."""
        return self.clock.now() + 10

    def partitions_of(self, node_id: str) -> list[int]:
        return [number for number, targets in enumerate(self.topology.targets) if targets[0] == node_id]

    def key_at(self, node_id: str, number: int = 0) -> bytes:
        """A key that the node owns, another one for each number."""
        keys = (b"key:%d" % count for count in range(10_000))
        owned = (key for key in keys if partition_of(key, PARTITIONS) in self.partitions_of(node_id))
        return [next(owned) for _ in range(number + 1)][-1]

    def key_in(self, partition: int, number: int = 0) -> bytes:
        """A key of the partition, another one for each number."""
        keys = (b"key:%d" % count for count in range(10_000))
        owned = (key for key in keys if partition_of(key, PARTITIONS) == partition)
        return [next(owned) for _ in range(number + 1)][-1]

    def key_elsewhere(self, node_id: str) -> tuple[bytes, Sequence[str]]:
        """A key that the node has no replica of, and the nodes that have, its leader first."""
        everywhere = enumerate(self.topology.targets)
        partition, targets = next(each for each in everywhere if node_id not in each[1])
        return self.key_in(partition), targets

    def hang(self, node_id: str, trouble: str) -> None:
        """Nobody hears of the node any more; what happens to requests to it is the trouble."""
        self.network.silence(node_id)
        self.weather = lambda source, target, request: trouble if target == node_id else None

    def asked_of(self, node_id: str, kind: str) -> list[Any]:
        """The bodies of the requests of one kind that were meant for a node."""
        return [getattr(r, kind) for _, target, r in self.asked if target == node_id and r.WhichOneof("body") == kind]


@asynccontextmanager
async def small_cluster(
    *node_ids: str,
    limits: Limits | None = None,
    attempts: AttemptsConfig | None = None,
    replication_factor: int = 1,
) -> AsyncIterator[SmallCluster]:
    """Nodes ("a", "b", "c" unless named) whose groups are led as the topology prefers."""
    ids = node_ids or ("a", "b", "c")
    cluster = SmallCluster(ids, limits or Limits(), attempts or AttemptsConfig(), replication_factor)
    await reached(lambda: all(cluster.is_led(partition) for partition in range(PARTITIONS)))
    yield cluster
    await cluster.supervisor.stop()
    assert cluster.failures == []
