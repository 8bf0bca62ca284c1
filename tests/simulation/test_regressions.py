"""What the simulator has found in the product, each as the smallest story that shows it."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from simulation.clocks import SimulatedClock
from simulation.loop import simulate, until

from ringhold.api.client.fate import MutationFate
from ringhold.api.errors import InvalidRequest, TimedOut
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import (
    VERDICT_APPLIED,
    VERDICT_EXPIRED,
    Command,
    GroupState,
    HardState,
    Outcome,
    ReplicaRecord,
)
from ringhold.node import keyspace
from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.messages import APPEND, APPENDED, CONFIRM, PRE_VOTED, TIMEOUT_NOW, VOTE, VOTED
from ringhold.node.consensus.recovery import recovered
from ringhold.node.consensus.support import SUPPORT_S, Support
from ringhold.node.consensus.tickets import AnchorOutOfRange, Applied
from ringhold.node.formation import FormationState, Found, decide, seeds_hash
from ringhold.node.founding import node_record
from ringhold.node.machine.queries import QuerySpec
from ringhold.node.machine.topology_machine import TopologyMachine, encode_change
from ringhold.node.moving.admission import Admission
from ringhold.node.moving.amendments import Amendments, at_once
from ringhold.node.replica_record import HEALTHY
from ringhold.node.router import check_in_window
from ringhold.node.shards import Shards
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.changes import TopologyChange
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
    fate = MutationFate(b"id", b"k")
    fate.anchor = 1
    refused = InvalidRequest("REQUEST_EXPIRED", "too old", {"log_time_ms": "400000"})
    assert fate.judge(refused) is None
    assert isinstance(fate.ending(), TimedOut)


def test_a_command_that_expired_on_its_way_into_the_log_was_never_appended() -> None:
    """Refused at its entry or before it: the router treats both alike, so that an earlier doubt stays a doubt."""
    expired = Outcome(verdict=VERDICT_EXPIRED).SerializeToString()
    stored = Outcome(verdict=VERDICT_APPLIED).SerializeToString()
    asked = Command(anchor_ms=1)
    with pytest.raises(AnchorOutOfRange):
        check_in_window(Applied(expired, 1, 400_000), asked)
    check_in_window(Applied(stored, 1, 400_000), asked)
    check_in_window(Applied(stored, 1, 1_000), asked)
    check_in_window(Applied(expired, 1, 400_000), Command(anchor_ms=1, resolve=True))


class NobodyElse:
    """The wire of a node that is alone."""

    def post(self, peer_id: str, message: RaftMessage) -> None:
        raise AssertionError("there is nobody to speak to")

    def send_beat(self, peer_id: str, beat: Beat) -> None:
        raise AssertionError("there is nobody to speak to")

    def connected(self, peer_id: str) -> bool:
        return False


def test_a_committed_admission_is_told_after_a_restart() -> None:
    """A change of the topology that the leader committed, and did not get to tell before it died, is told later."""

    async def story() -> int:
        engine, clock = MemoryEngine(), SimulatedClock(asyncio.get_running_loop().time, random.Random(1))
        topology = found("c", "id", 8, 1, [node_record(empty("a", 1))])
        store = TopologyStore("id-a", engine)
        await store.adopt(topology)
        groups = Groups("id-a", 1, engine, clock, random.Random(1))
        groups.attach(NobodyElse())
        groups.open(SYSTEM_GROUP, lambda group, state: TopologyMachine(state, topology))
        running = asyncio.ensure_future(groups.run())
        await until(lambda: groups.leads(SYSTEM_GROUP))
        newcomer = replace(node_record(empty("b", 0)), state=NodeState.JOINING)
        command = encode_change(TopologyChange.between(store.known, store.known.with_node(newcomer)))
        await groups.propose(SYSTEM_GROUP, command, groups.log_time_ms(SYSTEM_GROUP))
        assert store.known.epoch == 1
        admission = Admission(groups, store, Amendments(groups, store, at_once), tuple, clock, say_nothing)
        admitting = asyncio.ensure_future(admission.run())
        admission.wake()
        await until(lambda: store.known.epoch == 2, 10)
        for task in (running, admitting):
            task.cancel()
        return store.known.epoch

    assert simulate(story()) == 2


PROMISED_S = 0.9
"""Within the time of support."""


def voter(node_id: str, support: Support, engine: MemoryEngine) -> Replica[str]:
    """A replica that was never in any term before the third, of a group of a, b and c."""
    state = GroupState(configuration=founders(["a", "b", "c"]).encode(), applied_index=0)
    batch = WriteBatch()
    batch.put(keyspace.vote_key(1), seal(HardState(term=3).SerializeToString()))
    engine.write(batch)
    found = recovered(engine, 1, ReplicaRecord(status=HEALTHY), state)
    return Replica(1, node_id, found, support, random.Random(1), may_vote_from=0.0)


def test_a_late_answer_does_not_end_a_promise() -> None:
    """Who follows a leader with a lease takes no later term from an answer to what it asked before that election."""
    support = Support(1)
    follower = voter("b", support, MemoryEngine())
    support.hear("a", Beat(generation=1, number=1), 10.0)
    follower.step("a", RaftMessage(kind=APPEND, group=1, term=4), 10.0)
    late = RaftMessage(kind=PRE_VOTED, group=1, term=5, rejected=True)
    follower.step("c", late, 10.0 + PROMISED_S)
    assert (follower.term, follower.leader) == (4, "a")
    vote = RaftMessage(kind=VOTE, group=1, term=5, index=9, log_term=4)
    follower.step("c", vote, 10.0 + PROMISED_S)
    assert (follower.term, follower.leader) == (4, "a")
    follower.step("c", late, 10.0 + SUPPORT_S)
    assert (follower.term, follower.leader) == (5, None)


def test_an_answer_to_an_earlier_term_says_nothing_of_the_present_one() -> None:
    """Whoever led then may lead now: it must not learn from it that it is followed, nor that the logs differ."""
    follower = voter("b", Support(1), MemoryEngine())
    follower.step("a", RaftMessage(kind=APPEND, group=1, term=2, index=7, log_term=2), 10.0)
    follower.step("a", RaftMessage(kind=CONFIRM, group=1, term=2, round=1), 10.0)
    follower.take_writes(10.0, 1, 1)
    answers = [outbound.message for outbound in follower.outbox]
    assert [(answer.kind, answer.term, answer.epoch) for answer in answers] == [(VOTED, 3, 0)] * 2


def test_a_handover_that_comes_to_nothing_ends_the_term() -> None:
    """A leader that has told its successor to stand never has a lease again in that term, so it does not stay."""
    leader = voter("a", Support(1), MemoryEngine())
    leader.campaign(10.0)
    leader.step("b", RaftMessage(kind=PRE_VOTED, group=1, term=4), 10.0)
    persist(leader, 10.0)
    leader.step("b", RaftMessage(kind=VOTED, group=1, term=4), 10.0)
    persist(leader, 10.0)
    leader.transfer("b", 10.1)
    leader.step("b", RaftMessage(kind=APPENDED, group=1, term=4, index=1, epoch=1), 10.2)
    assert [outbound.target for outbound in leader.outbox if outbound.message.kind == TIMEOUT_NOW] == ["b"]
    leader.pulse(10.5)
    assert leader.leads
    leader.pulse(10.6)
    assert not leader.leads


def persist(replica: Replica[str], now: float) -> None:
    writes = replica.take_writes(now, 1, 1)
    assert writes is not None
    replica.persisted(writes.mark, now)


def test_a_node_without_replicas_refuses_a_stale_query() -> None:
    """It names the groups that it does not have, as a query for the newest is answered, and goes on."""

    async def story() -> Sequence[int]:
        clock = SimulatedClock(asyncio.get_running_loop().time, random.Random(1))
        groups = Groups("n4", 1, MemoryEngine(), clock, random.Random(1))
        spec = QuerySpec("city", keyspace.range_bounds(None, None), False, 1, 1_000, False)
        return (await Shards(groups).query_stale([1, 2], spec)).refused

    assert simulate(story()) == [1, 2]
