"""What the simulator has found in the product, each as the smallest story that shows it."""

import asyncio
import random
from dataclasses import replace

import pytest
from simulation.clocks import SimulatedClock
from simulation.loop import simulate, until

from ringhold.api.client.fate import MutationFate
from ringhold.api.errors import InvalidRequest, TimedOut
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import VERDICT_APPLIED, VERDICT_EXPIRED, Outcome
from ringhold.node.admission import Admission
from ringhold.node.consensus.groups import AnchorOutOfRange, Applied, Groups
from ringhold.node.formation import FormationState, Found, decide, seeds_hash
from ringhold.node.founding import node_record
from ringhold.node.machine.topology_machine import ChangeKind, ChangeNode, TopologyMachine
from ringhold.node.router import check_in_window
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.placement import found
from ringhold.ring.topology import SYSTEM_GROUP, NodeState

SEEDS = ("a:2", "b:2")


def empty(name: str, expect: int) -> FormationState:
    return FormationState(
        node_id=f"id-{name}",
        name=name,
        cluster="simulation",
        cluster_id="",
        epoch=0,
        expect=expect,
        partitions=8,
        replication_factor=3,
        seeds=seeds_hash(SEEDS),
        grpc_address=f"{name}:1",
        http_address=f"{name}:2",
        host=name,
        zone="",
        weight=1,
    )


def say_nothing(event: str, /, **figures: object) -> None:
    """A log that nobody reads."""


def test_a_node_that_comes_to_join_does_not_hinder_founding() -> None:
    """An empty node without --expect, known by gossip before the cluster is founded, is no founder and no obstacle."""
    founders = {"a:2": empty("a", 2), "b:2": empty("b", 2)}
    decision = decide(founders["a:2"], "a:2", {**founders, "c:2": empty("c", 0)})
    assert isinstance(decision, Found)
    assert [state.name for state in decision.nodes] == ["a", "b"]
    stranger = empty("c", 3)
    assert not isinstance(decide(founders["a:2"], "a:2", {**founders, "c:2": stranger}), Found)


def test_a_deadline_before_the_second_anchor_is_no_invalid_request() -> None:
    """A program that chose no anchor is never told that its anchor was wrong: its deadline has passed."""
    fate = MutationFate(b"id")
    fate.anchor = 1
    refused = InvalidRequest("REQUEST_EXPIRED", "too old", {"log_time_ms": "400000"})
    assert fate.judge(refused) is None
    assert isinstance(fate.ending(), TimedOut)


def test_a_command_that_expired_on_its_way_into_the_log_was_never_appended() -> None:
    """Refused at its entry or before it: the router treats both alike, so that an earlier doubt stays a doubt."""
    expired = Outcome(verdict=VERDICT_EXPIRED).SerializeToString()
    stored = Outcome(verdict=VERDICT_APPLIED).SerializeToString()
    with pytest.raises(AnchorOutOfRange):
        check_in_window(Applied(expired, 1, 400_000), anchor_ms=1)
    check_in_window(Applied(stored, 1, 400_000), anchor_ms=1)
    check_in_window(Applied(stored, 1, 1_000), anchor_ms=1)


def test_a_committed_admission_is_told_after_a_restart() -> None:
    """A change of the topology that the leader committed, and did not get to tell before it died, is told later."""

    async def story() -> int:
        engine, clock = MemoryEngine(), SimulatedClock(asyncio.get_running_loop().time, random.Random(1))
        topology = found("c", "id", 8, 1, [node_record(empty("a", 1))])
        store = TopologyStore("id-a", engine)
        await store.adopt(topology)
        groups = Groups("id-a", engine, clock)
        groups.open(SYSTEM_GROUP, lambda group, state: TopologyMachine(state, topology))
        groups.campaign([SYSTEM_GROUP])
        running = asyncio.ensure_future(groups.run())
        await until(lambda: groups.leads(SYSTEM_GROUP))
        newcomer = replace(node_record(empty("b", 0)), state=NodeState.JOINING)
        command = ChangeNode(ChangeKind.ADD_NODE, 1, newcomer).encode()
        await groups.propose(SYSTEM_GROUP, command, groups.log_time_ms(SYSTEM_GROUP))
        assert store.known.epoch == 1
        admission = Admission(groups, store, tuple, clock, say_nothing)
        admitting = asyncio.ensure_future(admission.run())
        admission.wake()
        await until(lambda: store.known.epoch == 2, 10)
        for task in (running, admitting):
            task.cancel()
        return store.known.epoch

    assert simulate(story()) == 2
