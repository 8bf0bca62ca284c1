"""Nodes that replicate the same groups in one process, each on an engine of its own, with a network between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

from support.gate import Gate
from support.network import Network
from support.virtual_time import LoopClock, reached

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.groups import Groups, GroupsConfig
from ringhold.node.machine.machine import Machine, founded_state
from ringhold.node.machine.records import RecordMachine
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.memory import MemoryEngine

NODES = ("n1", "n2", "n3")


class LosesMost(Random):
    """The chance that a crash loses all that it may."""

    def randint(self, a: int, b: int) -> int:
        return b


class TrioNode:
    """One node: its engine, whose syncs wait at `gate`, its groups, and their loops while it is up."""

    def __init__(self, node_id: str, engine: MemoryEngine, gate: Gate, groups: Groups) -> None:
        self.node_id = node_id
        self.engine = engine
        self.gate = gate
        self.groups = groups
        self.running = asyncio.ensure_future(groups.run())
        self.timers = [asyncio.ensure_future(loop) for loop in (groups.pulse(), groups.beat())]

    def halt(self) -> None:
        for loop in (self.running, *self.timers):
            loop.cancel()


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
            batch.put(keyspace.state_key(group), seal(founded_state(self._node_ids).SerializeToString()))
        engine.write(batch)
        self._bring_up(node_id, engine, gate, is_new=True)

    def crash(self, node_id: str) -> None:
        """The node's power fails, and nothing survives that was not synced; `restart` brings it back."""
        node = self.nodes.pop(node_id)
        self.network.remove(node_id)
        node.halt()
        self._disks[node_id] = node.engine.crash(LosesMost()), node.gate
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
        applied = {node.groups.machine(group).state.applied_index for node in self.nodes.values()}
        leaders = {node.groups.leader(group) for node in self.nodes.values()}
        return len(applied) == 1 and len(leaders) == 1 and self._is_in_office(group, leaders.pop()[0])

    def _is_in_office(self, group: int, leader: str | None) -> bool:
        """Whether the node leads, and has a lease if there are any."""
        if leader is None or leader not in self.nodes:
            return False
        groups = self.nodes[leader].groups
        return groups.leads(group) if self._config.leases else groups.is_leader(group)

    def _bring_up(self, node_id: str, engine: MemoryEngine, gate: Gate, *, is_new: bool) -> None:
        self._lives[node_id] += 1
        groups = Groups(node_id, self._lives[node_id], engine, self.clock, Random(node_id), self._config)
        groups.attach(self.network.add(node_id, groups))
        groups.reach(self.others(node_id))
        groups.prefer(dict.fromkeys(self._group_ids, self._node_ids[0]))
        for group in self._group_ids:
            groups.open(group, self._make_machine, is_new=is_new)
        self.nodes[node_id] = TrioNode(node_id, engine, gate, groups)
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
