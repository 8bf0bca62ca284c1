"""Nodes that replicate the same groups in one process, each on an engine of its own, with a network between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random

from support.gate import Gate
from support.network import Network
from support.ring_nodes import node_record
from support.virtual_time import LoopClock, reached

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node.consensus.groups import Groups, GroupsConfig
from ringhold.node.machine.machine import Machine, founded_state
from ringhold.node.machine.records import RecordMachine
from ringhold.node.machine.topology_machine import TopologyMachine, found_system_group, load_topology
from ringhold.node.replica_record import put_founding_replica
from ringhold.node.snapshots.installer import Installer
from ringhold.node.snapshots.pace import Pace
from ringhold.node.snapshots.source import SnapshotSource
from ringhold.node.snapshots.throttle import Throttle
from ringhold.node.storage.engine import Engine, WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.ring.placement import found
from ringhold.ring.topology import SYSTEM_GROUP

NODES = ("n1", "n2", "n3")


class Loses(Random):
    """The chance that a crash loses this share of what it may."""

    def __init__(self, share: int) -> None:
        super().__init__(0)
        self._share = share

    def randint(self, a: int, b: int) -> int:
        return b * self._share


class TrioNode:
    """One node: its engine, whose syncs wait at `gate`, its groups, and their loops while it is up."""

    def __init__(
        self,
        node_id: str,
        engine: MemoryEngine,
        gate: Gate,
        groups: Groups,
        source: SnapshotSource,
        installer: Installer,
    ) -> None:
        self.node_id = node_id
        self.engine = engine
        self.gate = gate
        self.groups = groups
        self.source = source
        self.installer = installer
        self.running = asyncio.ensure_future(groups.run())
        loops = (groups.pulse(), groups.beat(), groups.hosting.erase_buried(), source.run(), installer.run())
        self.timers = [asyncio.ensure_future(loop) for loop in loops]

    @property
    def has_failed(self) -> bool:
        """Whether one of its loops has ended, which would end its process."""
        return any(loop.done() for loop in (self.running, *self.timers))

    def halt(self) -> None:
        for loop in (self.running, *self.timers):
            if not loop.cancel() and not loop.cancelled():
                loop.exception()


class Trio:
    """Three nodes unless others are named; all replicate all groups and prefer the first node as leader of each."""

    def __init__(
        self,
        groups: Sequence[int],
        config: GroupsConfig,
        node_ids: Sequence[str],
        make_machine: Callable[[int, stored.GroupState], Machine],
    ) -> None:
        self.network = Network()
        self.clock = LoopClock()
        self.nodes: dict[str, TrioNode] = {}
        self.events: list[tuple[str, str, dict[str, object]]] = []
        """What the nodes have told of their replicas: node, event, figures."""
        self._group_ids = groups
        self._config = config
        self._node_ids = node_ids
        self._make_machine = make_machine
        self._lives = dict.fromkeys(node_ids, 0)
        self._disks: dict[str, tuple[MemoryEngine, Gate]] = {}

    def __getitem__(self, node_id: str) -> TrioNode:
        return self.nodes[node_id]

    def found(self, node_id: str) -> None:
        """Bring a node up for the first time."""
        gate, batch = Gate(), WriteBatch()
        engine = MemoryEngine(before_sync=gate.wait)
        for group in self._group_ids:
            if group == SYSTEM_GROUP:
                found_system_group(found("c", "c1", 8, 3, [node_record(each) for each in self._node_ids]), batch)
            else:
                put_founding_replica(batch, group, founded_state(self._node_ids))
        engine.write(batch)
        self._bring_up(node_id, engine, gate, is_new=True)

    def crash(self, node_id: str, losing: Random | None = None) -> None:
        """The node's power fails, and nothing survives that was not synced; `restart` brings it back."""
        node = self.nodes.pop(node_id)
        self.network.remove(node_id)
        node.halt()
        self._disks[node_id] = node.engine.crash(losing or Loses(1)), node.gate
        node.gate.open()

    def restart(self, node_id: str) -> None:
        engine, gate = self._disks.pop(node_id)
        self._bring_up(node_id, engine, gate, is_new=False)

    def disk(self, node_id: str) -> MemoryEngine:
        """What a node that has crashed will find when it is restarted."""
        return self._disks[node_id][0]

    def others(self, node_id: str) -> list[str]:
        """The other nodes, those that are down too."""
        return [other for other in self._node_ids if other != node_id]

    def leader_of(self, group: int) -> str | None:
        """The node that may answer reads of the group now."""
        return next((node_id for node_id, node in self.nodes.items() if node.groups.leads(group)), None)

    def settled(self) -> bool:
        """Whether all nodes have applied all that there is, under one leader each group."""
        return all(self._is_settled(group) for group in self._group_ids)

    def _is_settled(self, group: int) -> bool:
        if not all(node.groups.hosting.is_healthy(group) for node in self.nodes.values()):
            return False
        applied = {node.groups.machine(group).state.applied_index for node in self.nodes.values()}
        leaders = {node.groups.leader(group) for node in self.nodes.values()}
        return len(applied) == 1 and len(leaders) == 1 and self._is_in_office(group, leaders.pop()[0])

    def _is_in_office(self, group: int, leader: str | None) -> bool:
        """Whether the node leads, and has a lease if there are any."""
        if leader is None or leader not in self.nodes:
            return False
        groups = self.nodes[leader].groups
        return groups.leads(group) if self._config.leases else groups.is_leader(group)

    def _machine_on(self, engine: Engine, group: int, state: stored.GroupState) -> Machine:
        """As a node makes them."""
        if group != SYSTEM_GROUP:
            return self._make_machine(group, state)
        topology = load_topology(engine)
        assert topology is not None
        return TopologyMachine(state, topology)

    def _bring_up(self, node_id: str, engine: MemoryEngine, gate: Gate, *, is_new: bool) -> None:
        self._lives[node_id] += 1
        groups = Groups(node_id, self._lives[node_id], engine, self.clock, Random(node_id), self._config)
        wire = self.network.add(node_id, groups)
        groups.attach(wire)
        groups.reach(self.others(node_id))
        make_machine = partial(self._machine_on, engine)
        groups.hosting.make_machines_by(make_machine)
        groups.prefer(dict.fromkeys(self._group_ids, self._node_ids[0]))
        groups.hosting.tell = lambda event, /, **figures: self.events.append((node_id, event, figures))
        pace = Pace(groups.foreground, self.clock.now())
        source = SnapshotSource(engine, groups, self.clock, Random(node_id), Throttle(self.clock, 0, pace))
        installer = Installer(
            engine, groups, wire.fetch_snapshot, self.clock, Throttle(self.clock, 0, pace), groups.hosting.tell
        )
        groups.on_offer(installer.offered)
        wire.serve_snapshots(source)
        for group in self._group_ids:
            groups.open(group, make_machine, is_new=is_new)
        self.nodes[node_id] = TrioNode(node_id, engine, gate, groups, source, installer)
        self.network.connect(node_id)


@asynccontextmanager
async def trio(
    *groups: int,
    config: GroupsConfig | None = None,
    node_ids: Sequence[str] = NODES,
    make_machine: Callable[[int, stored.GroupState], Machine] = RecordMachine,
) -> AsyncIterator[Trio]:
    """Nodes that have just been founded, and where the first leads all groups; at the end none may have failed."""
    nodes = Trio(groups or (1,), config or GroupsConfig(), node_ids, make_machine)
    for node_id in node_ids:
        nodes.found(node_id)
    await reached(nodes.settled)
    await reached(lambda: all(map(nodes["n1"].groups.is_leader, groups)) and nodes.settled())
    yield nodes
    failures = [node.running.exception() for node in nodes.nodes.values() if node.running.done()]
    assert failures == []
    for node in nodes.nodes.values():
        node.halt()
