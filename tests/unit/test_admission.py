"""What the system leader does with newcomers: each gets in once, and none can harm the loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from support.gossip import member
from support.network import Network
from support.ring_nodes import node_records
from support.virtual_time import LoopClock, pass_time, reached, turns, virtual

from ringhold.api.errors import InDoubt, Overloaded, Unavailable
from ringhold.gossip.member import Member, MemberState
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.tickets import AnchorOutOfRange, NotLeader
from ringhold.node.machine.machine import Machine
from ringhold.node.machine.topology_machine import TopologyMachine, encode_change, load_topology
from ringhold.node.moving.admission import Admission, joining_record
from ringhold.node.moving.amendments import Amendments, at_once
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.supervisor import Supervisor
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.changes import TopologyChange
from ringhold.ring.placement import found
from ringhold.ring.topology import SYSTEM_GROUP, NodeState


@dataclass
class Leader:
    """A node that leads the system group, with the members that its gossip knows."""

    groups: Groups
    store: TopologyStore
    admission: Admission
    amendments: Amendments
    members: list[Member] = field(default_factory=list)
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def appears(self, *members: Member) -> None:
        self.members += members
        self.admission.wake()

    def is_in(self, node_id: str) -> bool:
        return self.store.known.node(node_id) is not None


@asynccontextmanager
async def leader() -> AsyncIterator[Leader]:
    engine = MemoryEngine()
    topology = found("c", "c1", 8, 1, node_records(1))
    node_id = topology.nodes[0].id
    store = TopologyStore(node_id, engine)
    await store.adopt(topology)
    groups = Groups(node_id, 1, engine, LoopClock(), Random(node_id))
    groups.attach(Network().add(node_id, groups))
    members: list[Member] = []
    logged: list[tuple[str, dict[str, Any]]] = []
    failures: list[BaseException] = []

    def machine(group: int, state: Any) -> Machine:
        kept = load_topology(engine)
        assert kept is not None
        return TopologyMachine(state, kept, lambda: admission.wake())  # noqa: PLW0108 - made below

    def log(event: str, /, **figures: object) -> None:
        logged.append((event, figures))

    amendments = Amendments(groups, store, at_once)
    admission = Admission(groups, store, amendments, lambda: tuple(members), LoopClock(), log)
    groups.open(SYSTEM_GROUP, machine)
    supervisor = Supervisor(lambda _, error: failures.append(error))
    supervisor.spawn("groups", groups.run())
    supervisor.spawn("admission", admission.run())
    await reached(lambda: groups.leads(SYSTEM_GROUP))
    yield Leader(groups, store, admission, amendments, members, logged, failures)
    await supervisor.stop()
    assert failures == []


@virtual
async def test_newcomers_come_in_together_and_get_their_share() -> None:
    """One epoch has them all, JOINING, as gossip describes them, and partitions to come; nothing is said twice."""
    async with leader() as node:
        node.appears(member("x", weight=3, zone="z9"), member("y"))
        await reached(lambda: node.is_in("y"))
        x = node.store.known.node("x")
        assert x is not None
        assert (x.state, x.weight, x.zone, x.name) == (NodeState.JOINING, 3, "z9", "node-x")
        assert node.store.known.epoch == 2
        assert {replicas[0] for replicas in node.store.known.targets} >= {"x", "y"}
        assert node.store.known.moving
        node.appears()
        await turns()
        assert node.store.known.epoch == 2


@virtual
async def test_a_node_that_is_described_anew_is_committed_so() -> None:
    """Another address, zone or weight than before: gossip's word, for the node says so itself."""
    async with leader() as node:
        node.appears(member("x"))
        await reached(lambda: node.is_in("x"))
        node.members[0] = replace(member("x"), grpc_address="elsewhere:1", zone="z9", weight=2)
        node.appears()
        await reached(lambda: node.store.known.epoch == 3)
        x = node.store.known.node("x")
        assert x is not None
        assert (x.grpc_address, x.zone, x.weight, x.state) == ("elsewhere:1", "z9", 2, NodeState.JOINING)


@pytest.mark.parametrize("state", [MemberState.DEAD, MemberState.LEFT])
@virtual
async def test_who_bears_the_name_of_a_node_that_has_ended_takes_its_place(state: MemberState) -> None:
    """DESIGN 8.1: same name, other id, and the one before surely does not run: it is out in the same epoch."""
    async with leader() as node:
        node.appears(member("x", name="twice"))
        await reached(lambda: node.is_in("x"))
        node.members[0] = member("x", name="twice", state=state)
        node.appears(member("y", name="twice"))
        await reached(lambda: node.is_in("y"))
        states = {each.id: each.state for each in node.store.known.nodes if each.name == "twice"}
        assert states == {"x": NodeState.REMOVED, "y": NodeState.JOINING}
        assert "x" not in {replica for replicas in node.store.known.targets for replica in replicas}


@pytest.mark.parametrize("state", [MemberState.SUSPECT, MemberState.DEAD, MemberState.LEFT])
@virtual
async def test_only_the_living_get_in(state: MemberState) -> None:
    """A rumour of a node is no node."""
    async with leader() as node:
        node.appears(member("x", state=state))
        await turns()
        assert not node.is_in("x")


@virtual
async def test_a_second_node_of_a_name_stays_outside() -> None:
    """Names are unique; whose it is stays with the node that has it."""
    async with leader() as node:
        node.appears(member("x", name=node.store.known.nodes[0].name), member("y"))
        await reached(lambda: node.is_in("y"))
        assert not node.is_in("x")


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"weight": 1_000}, {"name": ""}, {"zone": "\x00"}])
@virtual
async def test_a_member_that_the_topology_cannot_hold_harms_nobody(wrong: dict[str, Any]) -> None:
    """P9: it is told of once, others get in after it, and once restarted with better settings it does too."""
    async with leader() as node:
        node.appears(member("bad", **wrong), member("good"))
        await reached(lambda: node.is_in("good"))
        for _ in range(3):
            node.appears()
            await turns()
        assert [event for event, _ in node.logged] == ["not admitted"]
        assert not node.is_in("bad")
        node.members[0] = member("bad", generation=2)
        node.appears()
        await reached(lambda: node.is_in("bad"))


@pytest.mark.parametrize(
    "refusal",
    [
        Overloaded("OVERLOADED", "full"),
        NotLeader(SYSTEM_GROUP, None, 1),
        AnchorOutOfRange(7),
        Unavailable("NO_QUORUM", "alone"),
        InDoubt("IN_DOUBT", "stepped down"),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual
async def test_a_refused_proposal_is_made_again(refusal: Exception) -> None:
    """Nothing was appended, or nobody knows: the loop looks again after a while, and does not fail."""
    async with leader() as node:
        propose = node.groups.propose
        refused = 0

        def refuse(*arguments: Any) -> Any:
            nonlocal refused
            refused += 1
            if refused < 4:
                raise refusal
            return propose(*arguments)

        node.groups.propose = refuse  # type: ignore[method-assign, assignment]
        node.appears(member("x"))
        await reached(lambda: node.is_in("x"))
        assert refused == 4


@virtual
async def test_a_lease_that_comes_after_the_wake_is_noticed() -> None:
    """A new leader gets its lease a little later, and may lose it and get it back: nobody wakes the loop for that."""
    async with leader() as node:
        leads = node.groups.leads
        may_lead_at = asyncio.get_running_loop().time() + 1.5
        node.groups.leads = lambda group: asyncio.get_running_loop().time() >= may_lead_at and leads(group)  # type: ignore[method-assign]
        node.appears(member("x"))
        await reached(lambda: node.is_in("x"), 3)


@virtual
async def test_who_does_not_lead_lets_nobody_in_and_rests() -> None:
    """It proposes nothing; it takes over at the wake that leadership brings, however much later that is."""
    async with leader() as node:
        leads, asked, is_leader = node.groups.leads, 0, False

        def counted(group: int) -> bool:
            nonlocal asked
            asked += 1
            return is_leader and leads(group)

        node.groups.leads = counted  # type: ignore[method-assign]
        node.appears(member("x"))
        await pass_time(60)
        assert not node.is_in("x")
        assert asked < 50
        is_leader = True
        node.admission.wake()
        await reached(lambda: node.is_in("x"), 1)


@virtual
async def test_a_voter_adopts_what_others_committed() -> None:
    """Without leading, and without asking anybody: the machine says that something was written, and that is enough."""
    async with leader() as node:
        machine = node.groups.machine(SYSTEM_GROUP)
        assert isinstance(machine, TopologyMachine)
        node.groups.leads = lambda group: False  # type: ignore[method-assign]
        machine.topology = machine.topology.with_node(joining_record(member("x")))
        machine.written()
        await reached(lambda: node.is_in("x"), 1)


@virtual
async def test_a_command_that_finds_another_epoch_is_made_anew() -> None:
    """Another proposer was there first: its change stays, and the newcomer gets in at the next epoch."""
    async with leader() as node:
        propose = node.groups.propose
        proposed = 0

        def overtaken(group: int, command: bytes, anchor_ms: int) -> Any:
            nonlocal proposed
            proposed += 1
            if proposed == 1:
                assert node.amendments.topology is not None
                present = node.amendments.topology
                other = TopologyChange.between(present, present.with_node(joining_record(member("other"))))
                propose(group, encode_change(other), anchor_ms)
            return propose(group, command, anchor_ms)

        node.groups.propose = overtaken  # type: ignore[method-assign, assignment]
        node.appears(member("x"))
        await reached(lambda: node.is_in("x"))
        assert [each.id for each in node.store.known.nodes if each.state is NodeState.JOINING] == ["other", "x"]
        assert (proposed, node.store.known.epoch) == (2, 3)


@pytest.mark.parametrize("is_committed", [False, True])
@virtual
async def test_a_proposal_in_doubt_is_settled_by_looking_again(is_committed: bool) -> None:
    """A leader that is cut off hears nothing of its command: it waits no longer than it must, and adds nobody twice."""
    async with leader() as node:
        propose = node.groups.propose
        proposed = 0

        def cut_off(group: int, command: bytes, anchor_ms: int) -> Any:
            nonlocal proposed
            proposed += 1
            if proposed > 1 or is_committed:
                outcome = propose(group, command, anchor_ms)
            return outcome if proposed > 1 else asyncio.get_running_loop().create_future()

        node.groups.propose = cut_off  # type: ignore[method-assign, assignment]
        node.appears(member("x"))
        await reached(lambda: node.is_in("x"), 10)
        assert (proposed, node.store.known.epoch) == (1 if is_committed else 2, 2)


@virtual
async def test_a_newcomer_while_the_leader_stops_is_no_failure() -> None:
    """A draining leader takes nobody in, and ends without an error."""
    async with leader() as node:
        await node.groups.drain()
        node.appears(member("x"))
        await pass_time(1)
        assert not node.is_in("x")
        assert node.failures == []


@virtual
async def test_what_was_admitted_survives_a_restart() -> None:
    """The topology in the system group and the node's own copy agree after every admission."""
    async with leader() as node:
        for number in range(5):
            node.appears(member(f"x{number}"))
            await reached(lambda: node.is_in(f"x{number}"))  # noqa: B023 - it is awaited before the next turn
        assert node.amendments.topology == node.store.known
