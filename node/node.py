"""One node, put together from its parts, with time, network, storage and chance injected: the simulator runs this too.

Starting: gossip first, then formation until the node is a member, then the groups, then requests are served.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from .. import __version__
from ..api.errors import Unavailable
from ..api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, LedGroup, Request, ScrubState
from ..api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ..gossip.agent import GossipAgent, GossipListener
from ..gossip.member import Member
from ..gossip.ports import Exchange as GossipExchange
from ..ring.topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology
from .clock import Clock
from .consensus.groups import Groups, GroupsConfig
from .founding import FORMATION_ROUTE, TOPOLOGY_ROUTE, EventLog, Founding
from .gateway import Gateway
from .identity_conflict import conflict_between, conflict_with_heard
from .introduction import NodeSettings, formation_state, own_member
from .machine.machine import Machine
from .machine.records import RecordMachine
from .machine.topology_machine import TopologyMachine, load_topology
from .moving.amendments import Aside, at_once
from .moving.moving import Moving
from .office_log import OfficeLog
from .overview import Overview, unhealthy_copies
from .peers.boots import Boot, Boots
from .peers.exchange import Exchange, Respond
from .peers.heard import HEARD_KEPT_S, Heard, HeardEngines
from .peers.peering import Peering
from .peers.raft_exchange import RaftExchange
from .peers.transport import PeerAddress, Transport
from .replica_record import hosted_groups, load_records
from .router import Router
from .routes import Routes
from .scatter import Scatter
from .scrub.scrubber import Scrubber
from .service import PeerService
from .shards import Shards
from .snapshots.installer import INSTALLS_MAX, Installer
from .snapshots.pace import Pace
from .snapshots.source import SnapshotSource
from .snapshots.throttle import Throttle
from .storage.engine import Engine, EngineFailed
from .storage.envelope import Damaged
from .storage.numbered import Progress
from .storage.space import Device, SpaceWatch
from .supervisor import Supervisor
from .topology_follower import TopologyFollower
from .topology_store import Remember, TopologyStore

LEADERS_S_MAX = 5.0
"""A node whose groups have no leader by then serves all the same: requests wait for one, each within its deadline."""

HAND_OVER_S_MAX = 1.5
"""How long a stop may take to hand leaderships over."""


class TransportFactory(Protocol):
    """Makes the transport of this start of the node. It asks for the cluster id, once there is one, and for peers."""

    def __call__(self, cluster_id: Callable[[], str], boots: Boots, supervisor: Supervisor) -> Transport: ...


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What a node is built on; real in a process, simulated in tests.

    `progress` is that of the engine, and `device` is where it lies. `remember_cluster` keeps the id of the adopted
    cluster outside of the engine. `persist_member` and `forget_member` keep what gossip must remember over restarts,
    `known_members` is what was kept. `on_failure(part, error)` must stop the node: something it stands on is broken.
    `aside` runs what may take long.
    """

    engine: Engine
    progress: Progress
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
    aside: Aside = at_once


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
        self._installing: list[asyncio.Task[None]] = []
        self._ready_listeners: list[Callable[[bool], object]] = []
        self._boot = Boot(settings.generation, parts.rng.getrandbits(53), parts.progress.opened)
        self._heard = HeardEngines(parts.engine)
        self.supervisor = Supervisor(parts.on_failure)
        self._offices = OfficeLog(parts.log, parts.clock, self.supervisor)
        self.store = TopologyStore(settings.node_id, parts.engine, parts.remember_cluster)
        self.store.on_change(self._topology_changed)
        self._build_groups(parts)
        self._build_snapshots(parts)
        self._build_gateway(parts)
        self._build_membership(parts)
        self._build_overview()

    def _build_groups(self, parts: NodeParts) -> None:
        """What this node owns, and its sessions with others."""
        settings = self.settings
        config = GroupsConfig(leases=settings.reads == "lease")
        self.groups = Groups(settings.node_id, settings.generation, parts.engine, parts.clock, parts.rng, config)
        self.shards = Shards(self.groups)
        service = PeerService(self.groups, self.shards, self.describe, self.supervisor, self._serve_change)
        boots = Boots(self._boot, parts.progress, self._boot_of, self._heard, self._disk_is_old)
        self.transport = parts.transport(lambda: self.store.cluster_id, boots, self.supervisor)
        raft = RaftExchange(self.transport, self.groups, self.supervisor)
        self.peering = Peering(self.transport, Exchange(service, self.supervisor), raft)
        self.space = SpaceWatch(
            parts.device, parts.engine.reusable_bytes, settings.disk_reserve_bytes, parts.clock, self._space_changed
        )
        self.groups.attach(raft)
        self.groups.hosting.tell = parts.log
        self.groups.on_leader(self._leader_changed)

    def _build_snapshots(self, parts: NodeParts) -> None:
        """What this node sends to replicas that the log can't help any more, and what replicas here are sent."""
        clock, rate = parts.clock, self.settings.snapshot_bytes_per_s_max
        self.pace = Pace(self.groups.foreground, clock.now())
        self.snapshots = SnapshotSource(parts.engine, self.groups, clock, parts.rng, Throttle(clock, rate, self.pace))
        self.installer = Installer(
            parts.engine,
            self.groups,
            self.transport.fetch_snapshot,
            clock,
            Throttle(clock, rate, self.pace),
            parts.log,
            is_full=lambda: self.space.reserve.is_short,
        )
        self.transport.serve_snapshots(self.snapshots)
        self.groups.on_offer(self.installer.offered)

    def _build_gateway(self, parts: NodeParts) -> None:
        """What this node does for clients."""
        node_id, limits, clock, rng = self.settings.node_id, self.settings.limits, parts.clock, parts.rng
        self.routes = Routes()
        self.router = Router(node_id, self.groups, self.peering.requests, self.routes, clock, rng)
        scatter = Scatter(node_id, self.shards, self.router, self.routes, clock, rng, limits)
        self.gateway = Gateway(self.router, scatter, lambda: self.store.known, limits, rng)

    def _build_membership(self, parts: NodeParts) -> None:
        """Who is there: gossip, formation, admission."""
        self.gossip = GossipAgent(
            own_member(self.settings, self._boot, self.store),
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
            lambda: formation_state(self.settings, self.store),
            self.settings.seeds,
            lambda: [member.http_address for member in self.gossip.members() if member.is_reachable],
            parts.gossip_exchange,
            self.store,
            parts.clock,
            parts.rng,
            parts.log,
        )
        self.follower = TopologyFollower(self.store, self.founding, self.gossip.members, parts.clock)
        self.moving = Moving(
            self.settings.node_id,
            self.groups,
            self.store,
            self.router,
            self.founding,
            self.gossip.members,
            self.gossip.member,
            self.installer.counts,
            self.supervisor,
            parts.clock,
            parts.log,
            parts.aside,
            self.settings.snapshot_bytes_per_s_max,
        )

    def _build_overview(self) -> None:
        """What this node tells of the cluster."""
        node_id, limits = self.settings.node_id, self.settings.limits
        member = self.gossip.member
        self.overview = Overview(
            node_id,
            self.store,
            self.routes,
            self.router,
            member,
            self.describe,
            self.moving.surveyor,
            self._clock,
            limits,
        )
        self.scrubber = Scrubber(
            self._engine, self.groups, self.store, self._clock, self._log, self.settings.scrub_bytes_per_s
        )

    async def start(self) -> None:
        """Begin to live; `ready` becomes true when requests are served."""
        self.peering.start()
        await self.gossip.start()
        self.supervisor.spawn("life", self._live())

    def begin_drain(self) -> None:
        """Take no more requests."""
        if not self._draining:
            self._draining = True
            self.scrubber.close()
            self._log("draining", commands=self.groups.commands_waiting)
            self._tell_ready()

    async def stop(self) -> None:
        """Refuse what is new, answer what was accepted, say good-bye, end; cancelled, it ends all the same."""
        self.begin_drain()
        try:
            await self._end_snapshots()
            with suppress(TimeoutError):
                async with asyncio.timeout(HAND_OVER_S_MAX):
                    await self.groups.hand_over()
            await self.groups.drain()
        finally:
            await self.gossip.stop(leave=True)
            await self.peering.stop()
            await self.supervisor.stop()
            with suppress(EngineFailed):  # then the node stops because of that
                self._heard.keep()

    async def _end_snapshots(self) -> None:
        """They begin again elsewhere, or in the next life."""
        self.snapshots.close()
        for task in self._installing:
            task.cancel()
        await asyncio.gather(*self._installing, return_exceptions=True)

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
            return formation_state(self.settings, self.store).encode()
        if route == TOPOLOGY_ROUTE:
            return self.founding.answer_topology(body)
        return await self.gossip.handle_request(route, body)

    def _serve_change(self, request: Request, respond: Respond) -> bool:
        return self.moving.serve(request, respond)

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
            unhealthy=unhealthy_copies(self.groups.hosting.records, self.store.current, self.settings.node_id),
            scrub=ScrubState(
                age_s=self.scrubber.age_s,
                bytes=self.scrubber.bytes,
                damage=self.scrubber.damage,
                is_running=self.scrubber.is_asked_for,
            ),
        )

    async def _live(self) -> None:
        self.supervisor.spawn("topology", self.follower.run())
        self.supervisor.spawn("space", self.space.run())
        if self.store.current is not None:
            self.supervisor.spawn("seeds", self.founding.check_seeds())
            self._topology_changed(self.store.current)
        await self.founding.run()
        self._open_groups()
        self.supervisor.spawn("groups", self.groups.run())
        self.supervisor.spawn("timers", self.groups.pulse())
        self.supervisor.spawn("eraser", self.groups.hosting.erase_buried())
        self.supervisor.spawn("heartbeats", self.groups.beat())
        self.supervisor.spawn("heard engines", self._keep_heard())
        for name, loop in self.moving.loops().items():
            self.supervisor.spawn(name, loop)
        self.supervisor.spawn("snapshots", self.snapshots.run())
        for number in range(INSTALLS_MAX):
            self._installing.append(self.supervisor.spawn(f"installer {number}", self.installer.run()))
        self._reach_members()
        await self._until_led()
        self._ready = True
        if self.settings.scrub_bytes_per_s:
            self.supervisor.spawn("scrubber", self.scrubber.run())
        self._tell_ready()
        self._log("ready", grpc=self.settings.grpc_address, http=self.settings.http_address)

    def _open_groups(self) -> None:
        """Take up the replicas that are on this node's disk."""
        self.groups.hosting.make_machines_by(self._make_machine)
        self.groups.hosting.reborn_since = self.store.reborn.generation if self.store.reborn else 0
        for group in load_records(self._engine):
            self.groups.open(group, self._make_machine, is_new=group in self.store.founded_here)
        self._groups_are_open = True

    def _make_machine(self, group: int, state: GroupState) -> Machine:
        """Raises Damaged."""
        if group != SYSTEM_GROUP:
            return RecordMachine(group, state)
        topology = load_topology(self._engine)
        if topology is None:
            raise Damaged("the system group has no topology")
        return TopologyMachine(state, topology, self.moving.wake)

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
        self._offices.tell(group, leads=leader == self.settings.node_id)
        if group == SYSTEM_GROUP:
            self.moving.wake()

    def _space_changed(self, is_short: bool) -> None:
        reserve = self.space.reserve
        event = "disk full" if is_short else "disk has room again"
        self._log(event, free=reserve.room.free_bytes, reusable=reserve.reusable_bytes, reserve=reserve.bytes)
        self.groups.set_full(is_short)

    def _topology_changed(self, topology: Topology) -> None:
        self.routes.adopt(topology)
        self.groups.prefer(topology.preferred_leaders)
        self.gossip.update_local(topology_epoch=topology.epoch)
        removed = [node.id for node in topology.nodes if node.state is NodeState.REMOVED]
        for node_id in removed:
            self.gossip.remove(node_id)
        self._heard.forget(removed)
        if self.settings.node_id in removed:
            self.begin_drain()  # nobody speaks to it any more, so it could only fail what it took
        self._reach_members()

    def _reach_members(self) -> None:
        """Sessions with all other members, where gossip last heard of them."""
        topology = self.store.current
        if topology is None or topology.node(self.settings.node_id) is None or not self._groups_are_open:
            return
        addresses = {}
        for node in topology.nodes:
            if node.id != self.settings.node_id and node.state is not NodeState.REMOVED:
                addresses[node.id] = self._address_of(node)
        self.groups.reach(addresses)
        self.peering.reach(addresses)

    def _address_of(self, node: NodeRecord) -> PeerAddress:
        """Where a node's servers are now: gossip's word, for an address is an attribute of a running process."""
        known = self.gossip.member(node.id) or node
        return PeerAddress(grpc=known.grpc_address, http=known.http_address)

    def _member_changed(self, before: Member | None, after: Member | None) -> None:
        if after is None or after.node_id == self.settings.node_id:
            return
        if before is None or before.state is not after.state:
            self._log("member", name=after.name, state=after.state.name)
        if before is None or (before.grpc_address, before.http_address) != (after.grpc_address, after.http_address):
            self._reach_members()
        self.moving.wake()
        self.follower.wake()

    def _identity_taken(self, other: Member) -> None:
        """Stop, and say why."""
        self.supervisor.report("identity", conflict_between(self.gossip.local, other, is_blank=self._is_blank))

    def _disk_is_old(self, heard: Heard) -> None:
        """Stop, and say why."""
        self.supervisor.report("identity", conflict_with_heard(self._boot, heard, is_blank=self._is_blank))

    @property
    def _is_blank(self) -> bool:
        """A replica here may have promised something; an engine begun anew without any has not."""
        return self.store.reborn is not None and not hosted_groups(self._engine)

    async def _keep_heard(self) -> None:
        """Remember over restarts how far the others' engines were."""
        while True:
            await self._clock.sleep(HEARD_KEPT_S)
            self._heard.keep()

    def _boot_of(self, node_id: str) -> tuple[int, int] | None:
        """What gossip knows of a node's newest start, also from before this start, for it is kept durably."""
        member = self.gossip.member(node_id)
        return member.boot if member else None
