"""Survivors with different logs become one group again: what any of them has committed stays, and their rows agree."""

import asyncio
from random import Random

import pytest
from support.replicas import propose, rows_of
from support.ring_nodes import node_record
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.configuration import Configuration
from ringhold.node.machine.machine import load_state
from ringhold.node.recovery.application import staged
from ringhold.node.recovery.inspection import inspect_copy
from ringhold.node.recovery.planning import plan_recovery
from ringhold.node.recovery.plans import Fate, GroupPlan, Plan
from ringhold.node.recovery.reports import NodeReport
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.memory import MemoryEngine
from ringhold.ring.placement import found
from ringhold.ring.topology import Topology

NODES = ("n1", "n2", "n3", "n4", "n5")
GROUP = 1
CLUSTER = "old-id"
ROW_KINDS = (keyspace.Kind.ROW, keyspace.Kind.INDEX, keyspace.Kind.DEDUPE, keyspace.Kind.STATE)


def known_topology() -> Topology:
    return found("c", CLUSTER, 1, 5, [node_record(node_id) for node_id in NODES])


def plan_for(nodes: Trio, survivors: list[str]) -> Plan:
    reports = [
        NodeReport(n, n, CLUSTER, "memory", 1, known_topology(), (inspect_copy(nodes.disk(n), n, GROUP),))
        for n in survivors
    ]
    return plan_recovery(reports, "new-id", restart_empty=False)


def recover(nodes: Trio, survivors: list[str]) -> GroupPlan:
    """Plan, and carry it out on the survivors' disks, in the groups that are here."""
    plan = plan_for(nodes, survivors)
    for node_id in survivors:
        engine = nodes.disk(node_id)
        engine.write(staged(engine, node_id, plan))
    return plan.groups[GROUP]


def content(engine: MemoryEngine) -> dict[bytes, bytes]:
    """All that replicas of a group must have alike."""
    ranges = [keyspace.kind_range(kind, GROUP) for kind in ROW_KINDS]
    return {key: value for start, end in ranges for key, value in engine.scan(start, end, limit=100_000)}


class Writer:
    """Proposes sets of keys of their own to whoever leads, and knows which were acknowledged."""

    def __init__(self, nodes: Trio) -> None:
        self.tickets: dict[bytes, asyncio.Future[object]] = {}
        self._nodes = nodes

    def write(self) -> None:
        leader = self._nodes.leader_of(GROUP)
        if leader is None:
            return
        key = b"key:%d" % len(self.tickets)
        ticket = propose(self._nodes[leader].groups, GROUP, set_of(key, key, [("key", key)]), request_id=key)
        self.tickets[key] = asyncio.ensure_future(ticket)

    @property
    def acknowledged(self) -> set[bytes]:
        done = (key for key, each in self.tickets.items() if each.done() and not each.cancelled())
        return {key for key in done if self.tickets[key].exception() is None}


async def write_while_links_fail(nodes: Trio, writer: Writer, rng: Random) -> None:
    """So that the logs differ when everything crashes."""
    for _ in range(rng.randint(5, 30)):
        writer.write()
        source, target = rng.sample(NODES, 2)
        rng.choice((nodes.network.hold, nodes.network.release))(source, target)
        await turns(rng.randint(0, 4))
        await pass_time(rng.choice((0.0, 0.001, 0.004)))


@pytest.mark.parametrize("seed", range(40))
@virtual
async def test_survivors_agree_and_keep_what_was_committed(seed: int) -> None:
    """Any 1 to 4 of 5: with a quorum all that was acknowledged is there, else all that a survivor had applied."""
    rng = Random(seed)
    async with trio(GROUP, node_ids=NODES) as nodes:
        writer = Writer(nodes)
        await write_while_links_fail(nodes, writer, rng)
        acknowledged = writer.acknowledged
        for node_id in rng.sample(NODES, len(NODES)):
            nodes.crash(node_id)
        nodes.network.heal()
        survivors = sorted(rng.sample(NODES, rng.randint(1, 4)))
        applied = {key for n in survivors for key in rows_of(nodes.disk(n), GROUP)}
        group = recover(nodes, survivors)
        kept = acknowledged if group.fate is Fate.INTACT else applied
        assert (group.fate is Fate.INTACT) == (len(survivors) >= 3)
        for node_id in survivors:
            nodes.restart(node_id)
        await reached(nodes.settled)
        await reached(lambda: all_applied(nodes))
        for node_id in survivors:
            assert kept <= rows_of(nodes[node_id].engine, GROUP).keys()
            assert content(nodes[node_id].engine) == content(nodes[survivors[0]].engine)
        await nodes_take_writes(nodes)


@virtual
async def test_two_of_three_can_not_go_on_without_the_third_that_knows_more() -> None:
    """A quorum of five is left, but only one of it has what was acknowledged: the other two wait for it."""
    async with trio(GROUP, node_ids=NODES) as nodes:
        for node_id in ("n4", "n5"):
            nodes.network.cut(node_id, ["n1", "n2", "n3"])
        await propose(nodes["n1"].groups, GROUP, set_of(b"k", b"v", []), request_id=b"k")
        for node_id in NODES:
            nodes.crash(node_id)
        nodes.network.heal()
        group = recover(nodes, ["n3", "n4", "n5"])
        assert group.fate is Fate.INTACT
        nodes.restart("n4")
        nodes.restart("n5")
        await pass_time(5.0)
        assert nodes.leader_of(GROUP) is None
        nodes.restart("n3")
        await reached(nodes.settled)
        await nodes_take_writes(nodes)
        assert all(b"k" in rows_of(nodes[n].engine, GROUP) for n in ("n3", "n4", "n5"))


def all_applied(nodes: Trio) -> bool:
    return len({load_state(node.engine, GROUP).applied_index for node in nodes.nodes.values()}) == 1


async def nodes_take_writes(nodes: Trio) -> None:
    leader = nodes.leader_of(GROUP)
    assert leader is not None
    await propose(nodes[leader].groups, GROUP, set_of(b"new", b"new", []), request_id=b"new")
    await reached(lambda: all(b"new" in rows_of(node.engine, GROUP) for node in nodes.nodes.values()))


@virtual
async def test_configurations_in_the_tails_name_the_survivors() -> None:
    """A change of members that only the best copy has in its log, undone or not, can't bring the dead back."""
    async with trio(GROUP, node_ids=NODES) as nodes:
        for node_id in NODES:
            nodes.crash(node_id)
        append_configuration(nodes.disk("n2"), ["n1", "n2", "n3", "n4"])
        group = recover(nodes, ["n2", "n3"])
        assert group.best == "n2"
        for node_id in ("n2", "n3"):
            nodes.restart(node_id)
        await reached(nodes.settled)
        await nodes_take_writes(nodes)
        for node_id in ("n2", "n3"):
            state = load_state(nodes[node_id].engine, GROUP)
            assert Configuration.decode(state.configuration) == group.configuration
            assert state.configuration_index == group.position[1]
            assert content(nodes[node_id].engine) == content(nodes["n2"].engine)


def append_configuration(engine: MemoryEngine, voters: list[str]) -> None:
    found = inspect_copy(engine, "n2", GROUP)
    members = [stored.Member(node_id=node_id) for node_id in voters]
    entry = stored.LogEntry(term=found.last_term, configuration=stored.Configuration(voters=members))
    batch = WriteBatch()
    batch.put(keyspace.log_key(GROUP, found.last_index + 1), seal(entry.SerializeToString()))
    engine.write(batch)
