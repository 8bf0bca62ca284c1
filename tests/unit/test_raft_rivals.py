"""Two replicas that miss their leader at the same moment: one wins at the first attempt, without a split vote."""

import random

import pytest

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState
from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.election import CANDIDACY_S
from ringhold.node.consensus.log import Load, Log
from ringhold.node.consensus.states import Recovered, Role
from ringhold.node.consensus.support import Support

VOTERS = ("dead", "first", "second")
TICK_S = 0.05
LAPSED_S = 10.0


def replica_of(node_id: str, seed: int) -> Replica[str]:
    """A voter with an empty log, whose leader has been silent for long."""
    log = Log([(0, 0)], 0, (), Load(lambda first, last: []))
    found = Recovered(0, HardState(), 0, 0, log, [(0, founders(VOTERS))])
    return Replica(1, node_id, found, Support(1), random.Random(f"{node_id} {seed}"), may_vote_from=0.0)


def spoken(replica: Replica[str], now: float) -> list[tuple[str, RaftMessage]]:
    """All that the replica has to say once its disk is written."""
    writes = replica.take_writes(now, 100, 1_000)
    said, replica.outbox = [*replica.outbox], []
    if writes is not None:
        said += writes.messages
        replica.persisted(writes.mark, now)
        said += replica.outbox
        replica.outbox.clear()
    return [*said]


def deliver(rivals: dict[str, Replica[str]], now: float) -> None:
    """Both speak, then both hear: what they say crosses on its way."""
    said = [(node, target, message) for node, one in rivals.items() for target, message in spoken(one, now)]
    for source, target, message in said:
        if target in rivals:
            rivals[target].step(source, message, now)


@pytest.mark.parametrize("seed", range(20))
def test_of_two_that_ask_at_once_the_preferred_one_wins(seed: int) -> None:
    """Neither a draw of the timers nor crossing messages make a split vote, which would cost a candidacy."""
    rivals = {node: replica_of(node, seed) for node in VOTERS[1:]}
    for one in rivals.values():
        one.campaign(LAPSED_S)
    for round_number in range(4):
        deliver(rivals, LAPSED_S + round_number * TICK_S)
    assert [one.leads for one in rivals.values()] == [True, False]
    assert rivals["first"].term == 1


@pytest.mark.parametrize("seed", range(20))
def test_whoever_approves_of_a_candidate_waits_for_it(seed: int) -> None:
    """A vote that takes a while, for it must be durable, meets nobody who stands beside the candidate."""
    rivals = {node: replica_of(node, seed) for node in VOTERS[1:]}
    rivals["second"].campaign(LAPSED_S)
    deliver(rivals, LAPSED_S)
    now = LAPSED_S
    while now < LAPSED_S + 0.9 * CANDIDACY_S:
        rivals["first"].pulse(now)
        now += TICK_S
    assert rivals["first"].role is Role.FOLLOWER
    for _ in range(4):
        deliver(rivals, now)
    assert [one.leads for one in rivals.values()] == [False, True]


@pytest.mark.parametrize("seed", range(20))
def test_a_candidacy_begins_when_the_others_are_asked(seed: int) -> None:
    """A slow disk holds back the requests for votes; the candidate does not give up before it has an answer."""
    candidate, voter = replica_of("first", seed), replica_of("second", seed)
    candidate.campaign(LAPSED_S)
    deliver({"first": candidate, "second": voter}, LAPSED_S)
    for _, approval in spoken(voter, LAPSED_S):
        candidate.step("second", approval, LAPSED_S)
    writes = candidate.take_writes(LAPSED_S, 100, 1_000)
    assert writes is not None
    synced_at = LAPSED_S + 3 * CANDIDACY_S
    candidate.pulse(synced_at)
    candidate.persisted(writes.mark, synced_at)
    candidate.pulse(synced_at + 0.9 * CANDIDACY_S)
    stood = candidate.role
    candidate.pulse(synced_at + 2.1 * CANDIDACY_S)
    assert (stood, candidate.role) == (Role.CANDIDATE, Role.PRE_CANDIDATE)
