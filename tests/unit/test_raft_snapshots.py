"""Rules of the dissertation's chapter 5, and of replicas whose rows are bad: offers, installation, bounds of logs."""

import pytest
from support.raft_replica import FIVE, THREE, Bench, bench, entry, log_of

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from ringhold.node.consensus.configuration import Configuration, ReplicaId, founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.handover import Handovers
from ringhold.node.consensus.heart import Heart
from ringhold.node.consensus.leadership import OFFER_AGAIN_S, SNAPSHOT_SILENT_S
from ringhold.node.consensus.messages import (
    APPEND,
    APPENDED,
    OFFER,
    PRE_VOTE,
    PRE_VOTED,
    STEPPED_DOWN,
    TIMEOUT_NOW,
    VOTE,
    VOTED,
)
from ringhold.node.consensus.states import Installed, LogBounds, Role

SMALL = LogBounds(entries_max=8, bytes_max=1 << 20, stretch=4)


def snapshot(index: int, term: int, configuration: Configuration = THREE, configuration_index: int = 0) -> Installed:
    return Installed(index, term, 1_000, configuration_index, configuration)


def install(under_test: Bench, said: Installed) -> range:
    """Install as a shell does; the indexes whose stored entries it deletes."""
    contradicted = under_test.replica.following.contradicted_by(said.index, said.term)
    under_test.replica.following.installed(said, under_test.now)
    return contradicted


def long_leader(bounds: LogBounds = SMALL, count: int = 20) -> Bench:
    """A leader with so many more entries than its first, which n2 has all and n3 none of."""
    leader = bench(bounds=bounds)
    leader.lead()
    for node in ("n2", "n3"):
        leader.hear(node)
    for _ in range(count):
        leader.replica.propose(b"x", "x")
        leader.settle()
        leader.step("n2", APPENDED, index=leader.replica.log.last_index, epoch=1)
    leader.sent.clear()
    return leader


def kinds(messages: list[RaftMessage]) -> list[int]:
    return [each.kind for each in messages]


def offers(leader: Bench, node: str) -> list[RaftMessage]:
    return [each for each in leader.answers(node) if each.kind == OFFER]


# Offers


def test_who_lacks_what_is_dropped_is_offered_a_snapshot() -> None:
    """Chapter 5: a leader that does not have the next entry any more has to send a snapshot."""
    leader = long_leader()
    leader.replica.log.drop(leader.replica.droppable())
    leader.take("n3", APPENDED, rejected=True, index=0, hint=0, log_term=0, epoch=1)
    leader.take("n3", APPENDED, index=0, epoch=1)
    (offer,) = offers(leader, "n3")
    assert offer.index == leader.replica.log.first_index > 1
    assert offer.log_term == leader.replica.term


def test_an_offer_is_repeated_each_second_and_at_once_in_a_new_session() -> None:
    """Nobody knows whether it has arrived; who acknowledges under a new epoch must be asked at once."""
    leader = long_leader()
    leader.take("n3", APPENDED, index=1, epoch=1, needs_snapshot=True)
    assert len(offers(leader, "n3")) == 1
    for _ in range(8):
        leader.hear("n3")
        leader.hear("n2")
        leader.pass_time(OFFER_AGAIN_S / 10)
        leader.take("n3", APPENDED, index=1, epoch=1, needs_snapshot=True)
    assert offers(leader, "n3") == []
    leader.hear("n2")
    leader.pass_time(OFFER_AGAIN_S / 4)
    assert len(offers(leader, "n3")) == 1
    leader.replica.session_changed("n3", leader.now)
    leader.pass_time(0.01)
    assert len(offers(leader, "n3")) == 1


def test_who_needs_a_snapshot_is_sent_no_entries() -> None:
    """Its log would grow without bound, for it applies nothing."""
    leader = long_leader()
    leader.step("n3", APPENDED, index=21, epoch=1, needs_snapshot=True)
    leader.sent.clear()
    leader.replica.propose(b"x", "x")
    leader.settle()
    assert APPEND in kinds(leader.answers("n2"))
    assert APPEND not in kinds(leader.answers("n3"))
    leader.take("n3", APPENDED, index=21, epoch=1)
    assert APPEND in kinds(leader.answers("n3"))


@pytest.mark.parametrize(("is_healthy", "begins", "is_needed"), [(True, 3, False), (True, 4, True), (False, 1, True)])
def test_an_offer_is_acknowledged_with_the_commit_index(is_healthy: bool, begins: int, is_needed: bool) -> None:
    """All that is committed here is in the leader's log or snapshot; only who needs a snapshot takes the offer."""
    follower = bench([1, 1, 1, 1], applied=3, is_healthy=is_healthy)
    (answer,) = follower.step("n2", OFFER, term=1, index=begins)
    assert (answer.kind, answer.index, answer.rejected) == (APPENDED, 3, False)
    assert answer.needs_snapshot == is_needed
    assert (follower.replica.offer == "n2") == is_needed


def test_who_has_the_last_entry_that_was_dropped_needs_no_snapshot() -> None:
    """Its acknowledgements were lost: it lacks only the news of the commit, and bad rows send no snapshot."""
    follower = bench([1, 1, 1, 1], applied=1)
    follower.step("n2", APPEND, term=1, index=4, log_term=1)
    (answer,) = follower.step("n2", OFFER, term=1, index=3, log_term=1)
    assert (answer.index, answer.needs_snapshot) == (3, False)
    assert follower.replica.offer is None
    assert follower.replica.commit_index == 3


def test_another_entry_at_the_offered_index_proves_nothing() -> None:
    """Log matching (3.5) is about index and term: an entry of another term may be followed and preceded by others."""
    follower = bench([1, 1, 1, 1], applied=1)
    (answer,) = follower.step("n2", OFFER, term=2, index=3, log_term=2)
    assert (answer.index, answer.needs_snapshot) == (1, True)
    assert follower.replica.commit_index == 1


def test_who_needs_no_snapshot_after_all_says_so() -> None:
    """Another leader may have the entries that the one before had dropped."""
    follower = bench([1, 1], applied=2)
    (answer,) = follower.step("n2", OFFER, term=1, index=9)
    assert answer.needs_snapshot
    assert not follower.append("n3", entry(3, 2), after=(2, 1), term=2).needs_snapshot


# Installation


def test_a_snapshot_keeps_the_entries_that_follow_it() -> None:
    """Figure 5.3, step 6: a log that has the snapshot's last entry keeps what comes after; it may be acknowledged."""
    later = Configuration((*THREE.voters, ReplicaId("n4", 2)))
    follower = bench([1, 1, 1, 2], later={4: later}, is_healthy=False)
    assert install(follower, snapshot(2, 1)) == range(0)
    log = follower.replica.log
    assert (log.first_index, log.last_index, log.last_term) == (2, 4, 2)
    assert (follower.replica.configuration, follower.replica.configuration_index) == (later, 4)
    assert (follower.replica.applied_index, follower.replica.is_healthy) == (2, True)


@pytest.mark.parametrize(
    ("index", "term", "contradicted"), [(2, 2, range(2, 5)), (4, 3, range(4, 5)), (5, 2, range(0)), (9, 3, range(0))]
)
def test_a_snapshot_that_the_log_lacks_replaces_all_of_it(index: int, term: int, contradicted: range) -> None:
    """Figure 5.3, step 7: nothing of the old log counts beside it, nor does a configuration in it."""
    follower = bench([1, 1, 1, 1], later={4: FIVE}, is_healthy=False)
    assert list(install(follower, snapshot(index, term))) == list(contradicted)
    log = follower.replica.log
    assert (log.first_index, log.last_index, log.last_term) == (index, index, term)
    assert (follower.replica.configuration, follower.replica.configuration_index) == (THREE, 0)
    follower.append("n2", entry(index + 1, 4), after=(index, term), term=4)
    assert follower.replica.log.last_index == index + 1


def test_what_was_truncated_and_not_deleted_yet_contradicts_a_snapshot_too() -> None:
    """Else a restart would find entries of an earlier term behind it, and vote by them."""
    follower = bench([1, 1, 1, 1, 1])
    follower.take("n2", APPEND, term=2, index=1, log_term=1, entries=[entry(2, 2).encoded])
    assert follower.replica.following.contradicted_by(3, 2) == range(3, 6)


def test_a_snapshot_of_entries_that_are_not_stored_yet_leaves_the_later_ones_to_be_stored() -> None:
    """They are dropped before any tick has taken them."""
    follower = bench([1])
    entries = [entry(index, 1).encoded for index in (2, 3, 4)]
    follower.take("n2", APPEND, term=1, index=1, log_term=1, entries=entries)
    install(follower, snapshot(3, 1))
    writes = follower.flush()
    assert writes is not None
    assert [each.index for each in writes.entries] == [4]


def test_an_installation_is_acknowledged_once_it_is_synced() -> None:
    """What is told before it is durable may be forgotten; the leader then goes on with what follows."""
    follower = bench([1], is_healthy=False)
    follower.step("n2", OFFER, term=1, index=5)
    install(follower, snapshot(7, 1))
    follower.drain()
    writes = follower.flush()
    assert follower.answers("n2") == []
    assert writes is not None
    follower.sync(writes)
    (answer,) = follower.answers("n2")
    assert (answer.kind, answer.index, answer.needs_snapshot) == (APPENDED, 7, False)


def test_an_installation_promises_no_more_than_was_promised() -> None:
    """DESIGN section 7: only a message of the leader binds a replica under a new epoch, so no answer may name one."""
    follower = bench([1], is_healthy=False)
    follower.hear("n2")
    (answer,) = follower.step("n2", OFFER, term=1, index=5)
    follower.support.break_off("n2", follower.now)
    install(follower, snapshot(7, 1))
    follower.settle()
    assert [each.epoch for each in follower.answers("n2")] == [answer.epoch]


def test_a_snapshot_of_a_later_term_brings_that_term() -> None:
    """Terms only grow along a log; who leads an earlier one leads no more."""
    leader = bench()
    leader.lead()
    leader.replica.give_up_rows()
    install(leader, snapshot(9, 5))
    assert (leader.replica.term, leader.replica.leads, leader.replica.voted_for) == (5, False, "")
    restarted = bench([1, 5], term=1, voted_for="n2", applied=2)
    assert (restarted.replica.term, restarted.replica.voted_for) == (5, "")


@pytest.mark.parametrize(
    ("index", "log_term", "entries"), [(9, 2, []), (9, 2, [entry(10, 2)]), (8, 1, [entry(9, 2), entry(10, 2)])]
)
def test_a_leader_that_a_snapshot_contradicts_is_not_heard(index: int, log_term: int, entries: list[object]) -> None:
    """What a later leader has committed may come before any message of its term: logs of both must not be mixed."""
    follower = bench([1], term=2, is_healthy=False)
    install(follower, snapshot(9, 1))
    follower.settle()
    follower.sent.clear()
    encoded = [each.encoded for each in entries]  # type: ignore[attr-defined]
    assert follower.step("n2", APPEND, term=2, index=index, log_term=log_term, entries=encoded) == []
    assert follower.replica.log.last_index == 9


def test_rows_are_never_taken_back() -> None:
    """A late snapshot may be older than what is applied."""
    follower = bench([1, 1, 1], applied=3)
    assert not follower.replica.following.wants(3)
    follower.replica.give_up_rows()
    assert follower.replica.following.wants(3)
    assert not follower.replica.following.wants(2)
    with pytest.raises(AssertionError, match="take rows back"):
        install(follower, snapshot(2, 1))


def test_applying_goes_on_after_a_snapshot() -> None:
    """What it holds is not applied again."""
    follower = bench([1, 1, 1, 1], is_healthy=False)
    follower.step("n2", APPEND, term=1, index=4, log_term=1, commit=4)
    assert follower.replica.committed_left == 0
    install(follower, snapshot(2, 1))
    assert [each.entry.index for each in follower.replica.take_committed()] == [3, 4]


# Replicas whose rows can't be used


def test_a_replica_without_rows_votes_by_its_log() -> None:
    """Log and vote are good, so its vote counts as any other (3.6.1)."""
    voter = bench([1, 2], is_healthy=False)
    assert voter.step("n2", VOTE, term=3, index=5, log_term=1)[-1].rejected
    assert not voter.step("n3", VOTE, term=4, index=2, log_term=2)[-1].rejected
    assert not voter.step("n3", PRE_VOTE, term=9, index=2, log_term=2)[-1].rejected


def test_a_replica_without_rows_never_stands() -> None:
    """It would lead for nothing; not even at its leader's word."""
    follower = bench([1], is_healthy=False)
    follower.pass_time(10)
    follower.replica.campaign(follower.now)
    follower.step("n2", APPEND, term=1, index=1, log_term=1)
    follower.step("n2", TIMEOUT_NOW, term=1, index=1)
    assert (follower.replica.role, follower.replica.term) == (Role.FOLLOWER, 1)


def test_a_leader_hears_at_once_that_rows_are_given_up() -> None:
    """An idle group says nothing else for hours."""
    follower = bench([1])
    follower.step("n2", APPEND, term=1, index=1, log_term=1, commit=1)
    follower.replica.give_up_rows()
    follower.settle()
    (answer,) = follower.answers("n2")
    assert (answer.kind, answer.index, answer.needs_snapshot) == (APPENDED, 1, True)


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_a_candidate_whose_rows_are_given_up_stands_no_more(role: Role) -> None:
    """Votes that come later elect nobody."""
    candidate = bench([1])
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    if role is Role.CANDIDATE:
        candidate.step("n2", PRE_VOTED, term=2)
    assert candidate.replica.role is role
    candidate.replica.give_up_rows()
    candidate.step("n2", PRE_VOTED, term=2)
    candidate.step("n2", VOTED, term=2)
    assert not candidate.replica.leads


def test_a_leader_without_rows_answers_nobody() -> None:
    """What was not appended never happens, the rest is in doubt; reads are refused."""
    leader = bench()
    leader.lead()
    leader.hear("n2")
    leader.replica.propose(b"a", "appended")
    leader.flush()
    leader.replica.propose(b"o", "open")
    leader.replica.confirm("read", leader.now)
    leader.replica.confirmed.clear()
    leader.replica.give_up_rows()
    assert leader.replica.proposals.refused == ["open"]
    assert leader.replica.proposals.lost == ["appended"]
    assert (leader.replica.leads, leader.replica.may_read(leader.now), leader.replica.take_committed()) == (
        True,
        False,
        [],
    )


def test_a_leader_without_rows_hands_over_to_who_can_serve() -> None:
    """A voter that needs a snapshot itself is no help."""
    leader = bench()
    leader.lead()
    for node in ("n2", "n3"):
        leader.hear(node)
    leader.step("n2", APPENDED, index=1, epoch=1, needs_snapshot=True)
    leader.step("n3", APPENDED, index=1, epoch=1)
    leader.replica.give_up_rows()
    assert Handovers("n1", leader.support).begin([leader.replica], leader.now) == [leader.replica]
    leader.drain()
    assert TIMEOUT_NOW in kinds(leader.answers("n3"))


def test_a_leader_that_retires_tells_its_followers() -> None:
    """They need not wait until support lapses."""
    leader = bench()
    leader.lead()
    leader.replica.retire(leader.now)
    leader.drain()
    assert kinds(leader.answers("n2")) == [STEPPED_DOWN]


# Bounds of the log


def test_the_log_goes_as_far_as_all_have_it() -> None:
    """Nobody will ask for it again, bounds or not."""
    leader = long_leader(LogBounds())
    assert leader.replica.droppable() == 0
    leader.step("n3", APPENDED, index=15, epoch=1)
    leader.pass_time(0.01)
    assert leader.replica.droppable() == 15


@pytest.mark.parametrize(("entries_max", "bytes_max", "kept"), [(8, 1 << 20, 4), (100, 60, 4), (21, 1 << 20, 21)])
def test_the_newest_half_stays_when_a_bound_is_passed(entries_max: int, bytes_max: int, kept: int) -> None:
    """By count and by bytes; who needs more gets a snapshot."""
    leader = long_leader(LogBounds(entries_max, bytes_max))
    log = leader.replica.log
    log.drop(leader.replica.droppable())
    assert log.last_index - log.first_index == kept
    assert log.bytes <= bytes_max


def test_what_follows_a_snapshot_under_way_stays() -> None:
    """Or its target would need another one as soon as it is installed; up to a multiple of the bounds."""
    leader = long_leader()
    assert leader.replica.office is not None
    leader.step("n3", APPENDED, index=1, epoch=1, needs_snapshot=True)
    leader.replica.office.snapshot_under_way("n3", 5, leader.now)
    assert leader.replica.droppable() == 5
    for _ in range(20):
        leader.replica.propose(b"x", "x")
        leader.settle()
        leader.step("n2", APPENDED, index=leader.replica.log.last_index, epoch=1)
    last = leader.replica.log.last_index
    assert last > SMALL.stretch * SMALL.entries_max
    assert leader.replica.droppable() == last - SMALL.entries_max // 2


@pytest.mark.parametrize("has_arrived", [False, True])
def test_a_snapshot_that_has_arrived_or_is_silent_holds_nothing_back(has_arrived: bool) -> None:
    """Then what follows it is needed no more than any other entry."""
    leader = long_leader()
    assert leader.replica.office is not None
    leader.step("n3", APPENDED, index=1, epoch=1, needs_snapshot=True)
    leader.replica.office.snapshot_under_way("n3", 5, leader.now)
    if has_arrived:
        leader.step("n3", APPENDED, index=5, epoch=1)
    else:
        leader.now += SNAPSHOT_SILENT_S
        leader.hear("n2")
        leader.hear("n3")
    leader.pass_time(0.01)
    assert leader.replica.droppable() == leader.replica.log.last_index - SMALL.entries_max // 2


def test_nothing_is_dropped_that_is_not_applied() -> None:
    """A replica without rows needs all that follows them, in case no snapshot is newer than that."""
    follower = bench([1] * 30, applied=3, is_healthy=False, bounds=SMALL)
    follower.step("n2", APPEND, term=1, index=30, log_term=1, commit=30, everywhere=30)
    assert follower.replica.droppable() == 3


# Heartbeats


def test_a_member_without_rows_does_not_wake_its_group() -> None:
    """Idle groups are silent: who waits for a snapshot lacks entries, and both leave that group out of the digest."""
    leader, follower = bench(), bench([1], is_healthy=False)
    leader.lead()
    for node in ("n2", "n3"):
        leader.hear(node)
        leader.step(node, APPENDED, index=1, epoch=1, needs_snapshot=node == "n2")
    follower.step("n2", OFFER, term=1, index=1)
    beats = [heart_of(leader.replica).beat(node, leader.now, reluctant=False).digest for node in ("n2", "n3")]
    assert beats[0] == 0 != beats[1]
    heart = heart_of(follower.replica)
    for _ in range(3):
        beat = Heart(leader.support, list).beat("n2", leader.now, reluctant=False)
        heart.hear("n2", beat, follower.now)
    assert not heart.beat("n2", follower.now, reluctant=False).differs


def heart_of(replica: Replica[str]) -> Heart:
    return Heart(replica.support, lambda: [replica])


def test_who_is_offered_a_snapshot_is_not_woken_besides() -> None:
    """Offers are repeated anyway."""
    leader = long_leader()
    assert leader.replica.office is not None
    leader.step("n3", APPENDED, index=1, epoch=1, needs_snapshot=True)
    leader.now += 0.5
    assert not leader.replica.office.wake("n3", leader.now)
    assert leader.replica.office.wake("n2", leader.now)


def test_a_configuration_that_lacks_its_own_replica_is_no_obstacle() -> None:
    """A snapshot may be older than the entry that adds its target, which then comes with the log."""
    with_learner = Configuration(founders(["n2", "n3"]).voters, (ReplicaId("n1", 5),))
    learner = bench(configuration=Configuration(()), number=5, is_healthy=False)
    learner.step("n2", OFFER, term=1, index=4, source_replica=0)
    install(learner, snapshot(4, 1, founders(["n2", "n3"])))
    learner.append("n2", entry(5, 1, configuration=with_learner), after=(4, 1), term=1)
    assert learner.replica.configuration == with_learner
    assert log_of([]).last_index == 0
