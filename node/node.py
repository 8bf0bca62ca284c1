"""One node, put together from its parts, with time, network, storage and chance injected: the simulator runs this too.

Starting: gossip first, then formation until the node is a member, then the groups, then requests are served.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from .. import __version__
from ..api.errors import Unavailable
from ..api.limits import Limits
from ..api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, LedGroup
from ..api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ..gossip.agent import GossipAgent, GossipListener
from ..gossip.config import GossipConfig
from ..gossip.member import Member, MemberState
from ..gossip.ports import Exchange as GossipExchange
from ..ring.topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology, group_of_partition
from .admission import Admission
from .clock import Clock
from .consensus.groups import Groups, GroupsConfig
from .formation import FormationState, seeds_hash
from .founding import FORMATION_ROUTE, TOPOLOGY_ROUTE, EventLog, Founding
from .gateway import Gateway
from .machine.machine import Machine, hosted_groups
from .machine.records import RecordMachine
from .machine.topology_machine import TopologyMachine, load_topology
from .overview import Overview
from .peers.exchange import Exchange
from .peers.transport import Transport
from .router import Router
from .routes import Routes
from .scatter import Scatter
from .service import PeerService
from .shards import Shards
from .storage.engine import Engine
from .storage.space import Device, SpaceWatch
from .supervisor import Supervisor
from .topology_store import Remember, TopologyStore

CATCH_UP_PAUSE_S = 0.2
LEADERS_S_MAX = 5.0
"""A node whose groups have no leader by then serves all the same: requests wait for one, each within its deadline."""

OFFICES_LOG_S = 0.5
"""Leaderships come and go by the dozen; so long they are counted before they are logged."""

HAND_OVER_S_MAX = 1.5
"""How long a stop may take to hand leaderships over."""


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
    reads: str
    limits: Limits
    gossip: GossipConfig


class TransportFactory(Protocol):
    """Makes the transport, which needs the cluster id as soon as there is one."""

    def __call__(self, cluster_id: Callable[[], str], supervisor: Supervisor) -> Transport: ...


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What a node is built on; real in a process, simulated in tests.

    `device` is where the engine lies. `remember_cluster` keeps the id of the adopted cluster outside of the engine.
    `persist_member` and `forget_member` keep what gossip must remember over restarts, `known_members` is what was kept.
    `on_failure(part, error)` must stop the node: something it stands on is broken.
    """

    engine: Engine
    device: Device
    remember_cluster: Remember
    transport: TransportFactory
    gossip_exchange: GossipExchange
    known_members: tuple[Member, ...]
    persist_member: Callable[[Member], None]
    forget_member: Callable[[str], None]
    clock: Clock
    rng: random.Random
    log: EventLog
    on_failure: Callable[[str, BaseException], None]


class Node:
    """A node's whole life between `start` and `stop`."""

    def __init__(self, settings: NodeSettings, parts: NodeParts) -> None:
        self.settings = settings
        self._engine = parts.engine
        self._clock = parts.clock
        self._log = parts.log
        self._began = parts.clock.now()
        self._ready = False
        self._draining = False
        self._groups_are_open = False
        self._offices: dict[int, None] = {}
        self._won = self._lost = 0
        self._ready_listeners: list[Callable[[bool], object]] = []
        self._behind = asyncio.Event()
        self.supervisor = Supervisor(parts.on_failure)
        self.store = TopologyStore(settings.node_id, parts.engine, parts.remember_cluster)
        self.store.on_change(self._topology_changed)
        self._build_groups(parts)
        self._build_gateway(parts)
        self._build_membership(parts)
        self._build_overview()

    def _build_groups(self, parts: NodeParts) -> None:
        """What this node owns, and its sessions with others."""
        settings = self.settings
        config = GroupsConfig(leases=settings.reads == "lease")
        self.groups = Groups(settings.node_id, settings.generation, parts.engine, parts.clock, parts.rng, config)
        self.shards = Shards(self.groups)
        service = PeerService(self.groups, self.shards, self.describe, self.supervisor)
        self.transport = parts.transport(lambda: self.store.cluster_id, self.supervisor)
        self.exchange = Exchange(self.transport, service, self.groups, self.supervisor)
        self.space = SpaceWatch(
            parts.device, parts.engine.reusable_bytes, settings.disk_reserve_bytes, parts.clock, self._space_changed
        )
        self.groups.attach(self.exchange)
        self.groups.on_leader(self._leader_changed)

    def _build_gateway(self, parts: NodeParts) -> None:
        """What this node does for clients."""
        node_id, limits, clock, rng = self.settings.node_id, self.settings.limits, parts.clock, parts.rng
        self.routes = Routes()
        self.router = Router(node_id, self.groups, self.exchange, self.routes, clock, rng)
        scatter = Scatter(node_id, self.shards, self.router, self.routes, clock, rng, limits)
        self.gateway = Gateway(self.router, scatter, lambda: self.store.known, limits, rng)

    def _build_membership(self, parts: NodeParts) -> None:
        """Who is there: gossip, formation, admission."""
        self.gossip = GossipAgent(
            self._own_member(parts.rng),
            seeds=self.settings.seeds,
            known=parts.known_members,
            config=self.settings.gossip,
            exchange=parts.gossip_exchange,
            clock=parts.clock,
            rng=parts.rng,
            listener=GossipListener(
                on_change=self._member_changed,
                on_conflict=self._identity_taken,
                on_persist=parts.persist_member,
                on_forget=parts.forget_member,
                on_failure=lambda error: self.supervisor.report("gossip", error),
            ),
        )
        self.founding = Founding(
            self._formation_state,
            self.settings.seeds,
            lambda: [member.http_address for member in self.gossip.members() if member.is_reachable],
            parts.gossip_exchange,
            self.store,
            parts.clock,
            parts.rng,
            parts.log,
        )
        self.admission = Admission(self.groups, self.store, self.gossip.members, parts.clock, parts.log)

    def _build_overview(self) -> None:
        """What this node tells of the cluster."""
        node_id, limits = self.settings.node_id, self.settings.limits
        member = self.gossip.member
        self.overview = Overview(
            node_id, self.store, self.routes, self.router, member, self.describe, self._clock, limits
        )

    async def start(self) -> None:
        """Begin to live; `ready` becomes true when requests are served."""
        self.exchange.start()
        await self.gossip.start()
        self.supervisor.spawn("life", self._live())

    def begin_drain(self) -> None:
        """Take no more requests."""
        if not self._draining:
            self._draining = True
            self._log("draining", commands=self.groups.commands_waiting)
            self._tell_ready()

    async def stop(self) -> None:
        """Refuse what is new, answer what was accepted, say good-bye, end; cancelled, it ends all the same."""
        self.begin_drain()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(HAND_OVER_S_MAX):
                    await self.groups.hand_over()
            await self.groups.drain()
        finally:
            await self.gossip.stop(leave=True)
            await self.exchange.stop()
            await self.supervisor.stop()

    @property
    def ready(self) -> bool:
        """Whether this node takes requests."""
        return self._ready and not self._draining

    @property
    def draining(self) -> bool:
        """Whether this node is on its way out."""
        return self._draining

    def on_ready_change(self, listener: Callable[[bool], object]) -> None:
        """Call `listener` when `ready` changes."""
        self._ready_listeners.append(listener)

    def _tell_ready(self) -> None:
        for listener in self._ready_listeners:
            listener(self.ready)

    def check_ready(self) -> None:
        """Raises Unavailable unless this node takes requests."""
        if self._draining:
            raise Unavailable("DRAINING", "this node is stopping")
        if not self._ready:
            reason = self.founding.waiting_for or "it is starting"
            raise Unavailable("NOT_READY", f"this node does not serve yet: {reason}")

    async def handle_exchange(self, route: str, body: bytes) -> bytes:
        """The answer to another node's HTTP request. Raises WireError for a malformed one."""
        if route == FORMATION_ROUTE:
            return self._formation_state().encode()
        if route == TOPOLOGY_ROUTE:
            return self.founding.answer_topology(body)
        return await self.gossip.handle_request(route, body)

    def describe(self) -> DescribeReply:
        """This node's groups and load."""
        led = self.groups.led
        partitions = [group for group in led if group != SYSTEM_GROUP]
        states = [self.groups.machine(group).state for group in partitions]
        return DescribeReply(
            led=[
                LedGroup(group=group, term=self.groups.term(group), log_time_ms=self.groups.log_time_ms(group))
                for group in led
            ],
            replicas=len(self.groups.hosted),
            keys=sum(state.keys for state in states),
            bytes=sum(state.bytes for state in states),
            engine=self.settings.engine,
            version=__version__,
            uptime_s=self._clock.now() - self._began,
            topology_epoch=self.store.current.epoch if self.store.current else 0,
            reluctant_for=self.groups.reluctant_for,
        )

    async def _live(self) -> None:
        self.supervisor.spawn("topology", self._follow_topology())
        self.supervisor.spawn("space", self.space.run())
        if self.store.current is not None:
            self.supervisor.spawn("seeds", self.founding.check_seeds())
            self._topology_changed(self.store.current)
        await self.founding.run()
        self._open_groups()
        self.supervisor.spawn("groups", self.groups.run())
        self.supervisor.spawn("timers", self.groups.pulse())
        self.supervisor.spawn("heartbeats", self.groups.beat())
        if self.groups.hosts(SYSTEM_GROUP):
            self.supervisor.spawn("admission", self.admission.run())
        self._reach_members()
        await self._until_led()
        self._ready = True
        self._tell_ready()
        self._log("ready", grpc=self.settings.grpc_address, http=self.settings.http_address)

    def _open_groups(self) -> None:
        """Take up the replicas that are on this node's disk."""
        for group in hosted_groups(self._engine):
            make_machine = self._system_machine if group == SYSTEM_GROUP else RecordMachine
            self.groups.open(group, make_machine, is_new=group in self.store.founded_here)
        self._groups_are_open = True

    def _system_machine(self, group: int, state: GroupState) -> Machine:
        assert group == SYSTEM_GROUP
        topology = load_topology(self._engine)
        assert topology is not None, "the system group's founding replica has no topology"
        return TopologyMachine(state, topology, self.admission.wake)

    async def _until_led(self) -> None:
        """Return when every group here has a leader; or after a while, for others may have one."""
        patience_end = self._clock.now() + LEADERS_S_MAX
        while leaderless := [group for group in self.groups.hosted if not self._is_led(group)]:
            if self._clock.now() >= patience_end:
                self._log("without leader", groups=len(leaderless))
                return
            await self._clock.sleep(0.005)

    def _is_led(self, group: int) -> bool:
        return self.groups.leads(group) if self.groups.is_leader(group) else self.groups.leader(group)[0] is not None

    def _leader_changed(self, group: int, leader: str | None, term: int) -> None:
        self.routes.led(group, leader, term)
        self._tell_offices(group, leader == self.settings.node_id)
        if group == SYSTEM_GROUP:
            self.admission.wake()

    def _space_changed(self, is_short: bool) -> None:
        reserve = self.space.reserve
        event = "disk full" if is_short else "disk has room again"
        self._log(event, free=reserve.room.free_bytes, reusable=reserve.reusable_bytes, reserve=reserve.bytes)
        self.groups.set_full(is_short)

    def _tell_offices(self, group: int, leads: bool) -> None:
        """Log leaderships that were won and lost, many in one line."""
        if leads == (group in self._offices):
            return
        if leads:
            self._offices[group] = None
            self._won += 1
        else:
            del self._offices[group]
            self._lost += 1
        if self._won + self._lost == 1:
            self.supervisor.spawn("log of leaderships", self._log_offices())

    async def _log_offices(self) -> None:
        await self._clock.sleep(OFFICES_LOG_S)
        won, lost, self._won, self._lost = self._won, self._lost, 0, 0
        self._log("leaderships", won=won, lost=lost, led=len(self._offices))

    def _topology_changed(self, topology: Topology) -> None:
        self.routes.adopt(topology)
        self.groups.prefer(preferred_leaders(topology))
        self.gossip.update_local(topology_epoch=topology.epoch)
        for node in topology.nodes:
            if node.state is NodeState.REMOVED:
                self.gossip.remove(node.id)
        self._reach_members()

    def _reach_members(self) -> None:
        """Sessions with all other members, where gossip last heard of them."""
        topology = self.store.current
        if topology is None or topology.node(self.settings.node_id) is None or not self._groups_are_open:
            return
        addresses = {}
        for node in topology.nodes:
            if node.id != self.settings.node_id and node.state is not NodeState.REMOVED:
                addresses[node.id] = self.grpc_address_of(node)
        self.groups.reach(addresses)
        self.exchange.reach(addresses)

    def grpc_address_of(self, node: NodeRecord) -> str:
        """Where a node's gRPC server is now: gossip's word, for an address is an attribute of a running process."""
        member = self.gossip.member(node.id)
        return member.grpc_address if member else node.grpc_address

    def _member_changed(self, before: Member | None, after: Member | None) -> None:
        if after is None or after.node_id == self.settings.node_id:
            return
        if before is None or before.state is not after.state:
            self._log("member", name=after.name, state=after.state.name)
        if before is None or before.grpc_address != after.grpc_address:
            self._reach_members()
        self.admission.wake()
        self._behind.set()

    def _identity_taken(self, other: Member) -> None:
        message = (
            f"another process, at {other.http_address}, runs with this node's id: "
            "its data directory is a copy of this one, and only one of them may run"
        )
        self.supervisor.report("identity", IdentityTaken(message))

    async def _follow_topology(self) -> None:
        """Fetch the topology from whoever gossips a higher epoch."""
        while True:
            await self._behind.wait()
            self._behind.clear()
            current = self.store.current
            if current is None:
                continue
            members = self.gossip.members()
            ahead = [m for m in members if m.is_reachable and m.topology_epoch > current.epoch]
            if ahead:
                await self._catch_up(current, ahead)
                self._behind.set()

    async def _catch_up(self, current: Topology, ahead: Sequence[Member]) -> None:
        """Adopt a newer topology from the first of these members that gives one; pause if none does."""
        for member in ahead:
            topology = await self.founding.fetch(member.http_address)
            if topology is not None and topology.cluster_id == current.cluster_id and topology.epoch > current.epoch:
                await self.store.adopt(topology)
                return
        await self._clock.sleep(CATCH_UP_PAUSE_S)

    def _formation_state(self) -> FormationState:
        settings = self.settings
        return FormationState(
            node_id=settings.node_id,
            name=settings.name,
            cluster=settings.cluster,
            cluster_id=self.store.cluster_id,
            epoch=self.store.current.epoch if self.store.current else 0,
            expect=settings.expect,
            partitions=settings.partitions,
            replication_factor=settings.replication_factor,
            seeds=seeds_hash(settings.seeds),
            grpc_address=settings.grpc_address,
            http_address=settings.http_address,
            host=settings.host,
            zone=settings.zone,
            weight=settings.weight,
        )

    def _own_member(self, rng: random.Random) -> Member:
        settings = self.settings
        return Member(
            node_id=settings.node_id,
            generation=settings.generation,
            nonce=rng.getrandbits(53),
            incarnation=1,
            state=MemberState.ALIVE,
            name=settings.name,
            grpc_address=settings.grpc_address,
            http_address=settings.http_address,
            host=settings.host,
            zone=settings.zone,
            weight=settings.weight,
            topology_epoch=self.store.current.epoch if self.store.current else 0,
        )


def preferred_leaders(topology: Topology) -> dict[int, str]:
    """By group the node that should lead it: the first of the targets."""
    preferred = {group_of_partition(number): targets[0] for number, targets in enumerate(topology.targets)}
    return {SYSTEM_GROUP: topology.system_voters[0], **preferred}


class IdentityTaken(Exception):
    """Two processes run with one node id; this one must stop."""
