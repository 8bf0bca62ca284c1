"""What support and following are for: no other leader can be elected while a lease stands (DESIGN section 7)."""

import pytest
from support.raft_replica import Bench, bench

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftKind
from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.messages import (
    APPEND,
    APPENDED,
    CONFIRM,
    CONFIRMED,
    PRE_VOTE,
    PRE_VOTED,
    STEPPED_DOWN,
    TIMEOUT_NOW,
    VOTE,
    VOTED,
)


def bound() -> Bench:
    """A follower that has acknowledged leader n2 of term 1 and supports it."""
    follower = bench()
    follower.hear("n2")
    follower.step("n2", APPEND, term=1)
    return follower


@pytest.mark.parametrize("kind", [VOTED, PRE_VOTED, APPENDED, CONFIRMED, TIMEOUT_NOW, STEPPED_DOWN])
def test_no_answer_makes_a_follower_leave_the_term_of_a_leader_that_it_supports(kind: RaftKind) -> None:
    """DESIGN section 7: a former rival's late refusal says a later term, in which nothing would bind it."""
    follower = bound()
    follower.step("n3", kind, term=4, rejected=True)
    assert (follower.replica.term, follower.replica.leader) == (1, "n2")
    (refusal,) = follower.step("n3", PRE_VOTE, term=5)
    assert refusal.rejected
    assert follower.step("n3", VOTE, term=5) == []


@pytest.mark.parametrize("kind", [APPEND, CONFIRM])
def test_the_leader_of_a_later_term_is_followed_at_once(kind: RaftKind) -> None:
    """Figure 2: it was elected by a majority that was not bound, so the earlier leader has no lease."""
    follower = bound()
    follower.step("n3", kind, term=4)
    assert (follower.replica.term, follower.replica.leader) == (4, "n3")


def test_a_leader_vouches_for_nothing_before_the_first_commit_of_its_term() -> None:
    """6.4: until then its commit index may lack what an earlier leader has acknowledged."""
    leader = bench([1, 1, 1], applied=1)
    leader.elect()
    leader.hear("n2")
    sent = leader.step("n2", APPENDED, index=3, rejected=True, epoch=1)
    assert leader.replica.office is not None
    assert leader.replica.office.has_lease(leader.now)
    assert not leader.replica.may_read(leader.now)
    assert [message.unleased for message in sent] == [True]
    leader.step("n2", APPENDED, index=4, epoch=1)
    leader.replica.propose(b"x", "x")
    leader.settle()
    assert not leader.answers("n2")[-1].unleased


def leased() -> Bench:
    """A leader with a lease that rests on n2, given for a beat that was sent now."""
    leader = bench()
    leader.lead()
    leader.hear("n2")
    assert leader.replica.may_read(leader.now)
    return leader


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_a_follower_of_a_supported_leader_helps_no_other(kind: RaftKind) -> None:
    """4.2.3: a disruptive server gets no vote, and its term is not taken; the leader itself may stand again."""
    follower = bound()
    answers = follower.step("n3", kind, term=2, index=9, log_term=1)
    assert [message.rejected for message in answers] == [True] * (kind == PRE_VOTE)
    assert follower.replica.term == 1
    (answer,) = follower.step("n2", kind, term=2, index=9, log_term=1)
    assert not answer.rejected


def test_a_follower_is_free_once_support_has_lapsed() -> None:
    """DESIGN section 7: the promise is for D from the newest beat, or from the leader's own newest message."""
    follower = bound()
    follower.now += 0.5
    follower.hear("n2")
    follower.now += 0.999
    assert follower.step("n3", VOTE, term=2) == []
    follower.now += 0.002
    assert not follower.step("n3", VOTE, term=2)[0].rejected


def test_a_vote_on_behalf_of_the_leader_is_given_at_once() -> None:
    """3.10: the leader has given up its lease before it asked the successor to stand."""
    follower = bound()
    (answer,) = follower.step("n3", VOTE, term=2, index=9, log_term=1, transfer=True)
    assert (answer.rejected, follower.replica.term) == (False, 2)


def test_a_leader_in_office_helps_no_other() -> None:
    """6.2: while a majority may still follow, a leader neither votes nor takes a candidate's term."""
    leader = leased()
    assert leader.step("n3", VOTE, term=2, index=9, log_term=1) == []
    assert leader.step("n3", PRE_VOTE, term=2, index=9, log_term=1)[0].rejected
    assert (leader.replica.term, leader.replica.leads) == (1, True)


def test_a_restarted_replica_neither_votes_nor_campaigns_until_what_it_may_have_promised_has_lapsed() -> None:
    """DESIGN section 7: it has forgotten whom it follows."""
    restarted = bench([1], may_vote_from=1001.1)
    for moment, is_free in ((1001.0, False), (1001.2, True)):
        restarted.now = moment
        restarted.replica.campaign(restarted.now)
        restarted.drain()
        assert bool(restarted.sent) is is_free
        assert restarted.step("n3", PRE_VOTE, term=2, index=1, log_term=1)[-1].rejected is not is_free
        assert bool(restarted.step("n3", VOTE, term=2, index=1, log_term=1)) is is_free


def test_a_leader_that_steps_down_frees_its_followers_at_once() -> None:
    """DESIGN section 7: STEPPED_DOWN is the leader's own word that it has no lease."""
    follower = bound()
    for source, is_free in (("n3", False), ("n2", True)):
        follower.step(source, STEPPED_DOWN)
        assert (follower.replica.leader is None) is is_free
    assert not follower.step("n3", VOTE, term=2)[0].rejected


def test_a_new_generation_of_the_leader_frees_its_followers_at_once() -> None:
    """DESIGN section 7: who has restarted leads nothing."""
    follower = bound()
    follower.hear("n2", generation=2, heard=0)
    assert not follower.step("n3", VOTE, term=2)[0].rejected


def test_the_promise_stands_over_the_end_of_a_session() -> None:
    """DESIGN section 7: the break ends following for the leader, but it may still count on what it has heard."""
    follower = bound()
    follower.support.break_off("n2", follower.now)
    follower.replica.session_changed("n2", follower.now)
    follower.now += 0.9
    follower.hear("n2")
    assert follower.step("n3", VOTE, term=2) == []
    follower.now += 0.101  # the beat was heard in a new epoch, in which the follower has promised nothing in this group
    assert not follower.step("n3", VOTE, term=2)[0].rejected


def test_a_lease_counts_from_the_sending_of_the_beat_that_was_heard() -> None:
    """DESIGN section 7: support for L lasts 0.9 D from sending, however late the answer comes."""
    leader = bench()
    leader.lead()
    number = leader.support.beat("n2", leader.now).number
    sent = leader.now
    leader.now += 0.7
    leader.hear("n2", heard=number)
    assert leader.replica.may_read(sent + 0.899)
    assert not leader.replica.may_read(sent + 0.901)


def test_what_was_acknowledged_under_an_earlier_epoch_gives_no_lease() -> None:
    """DESIGN section 7: between the epochs the follower may have voted for another."""
    leader = bench()
    leader.lead()
    leader.hear("n2", epoch=2)
    assert not leader.replica.may_read(leader.now)
    leader.step("n2", APPENDED, index=1, epoch=2)
    assert leader.replica.may_read(leader.now)


def test_a_lease_needs_a_majority_of_the_newest_configuration() -> None:
    """4.1: a configuration counts from when it is appended, for leases too."""
    leader = leased()
    four = founders(["n1", "n2", "n3", "n4"])
    assert leader.replica.propose_configuration(four, 0, leader.now)
    assert not leader.replica.may_read(leader.now)
    leader.hear("n3")
    leader.step("n3", APPENDED, index=1, epoch=1)
    assert leader.replica.may_read(leader.now)


def test_a_broken_session_ends_following_but_not_the_lease_that_was_found() -> None:
    """DESIGN section 7: the follower's promise stands; no beat renews it until the follower acknowledges anew."""
    leader = leased()
    found = leader.now
    leader.replica.session_changed("n2", leader.now)
    leader.now += 0.5
    leader.hear("n2")
    assert leader.replica.may_read(found + 0.89)
    assert not leader.replica.may_read(found + 0.91)


def test_a_leader_that_has_sent_timeout_now_has_no_lease_in_that_term_again() -> None:
    """6.4.1 and 3.10: the successor may be elected at any later moment."""
    leader = leased()
    leader.replica.transfer("n2", leader.now)
    leader.drain()
    assert leader.answers("n2")[-1].kind == TIMEOUT_NOW
    assert not leader.replica.may_read(leader.now)
    leader.pass_time(0.6)
    assert not leader.replica.is_handing_over
    leader.hear("n2")
    leader.step("n2", APPENDED, index=1, epoch=1)
    assert not leader.replica.may_read(leader.now)


def test_a_transfer_waits_for_the_whole_log_and_lets_no_command_in() -> None:
    """3.10: the successor must have all entries; commands wait. If it does not take over, the term is given up."""
    leader = leased()
    leader.replica.propose(b"x", "x")
    leader.settle()
    leader.answers("n2")
    leader.replica.transfer("n2", leader.now)
    leader.replica.propose(b"y", "y")
    leader.settle()
    assert leader.replica.may_read(leader.now)
    assert TIMEOUT_NOW not in [message.kind for message in leader.answers("n2")]
    answers = leader.step("n2", APPENDED, index=2, epoch=1)
    assert [(message.kind, message.index) for message in answers] == [(TIMEOUT_NOW, 2)]
    assert leader.replica.log.last_index == 2
    leader.pass_time(0.6)
    leader.settle()
    assert not leader.replica.leads
    assert leader.replica.proposals.refused == ["y"]


def test_a_leader_without_a_majority_steps_down_and_says_so() -> None:
    """6.2: after D without a lease it leads no more, so that clients turn to another."""
    leader = leased()
    for _ in range(9):
        leader.pass_time(0.1)
    assert leader.replica.leads
    leader.replica.propose(b"x", "x")
    while leader.replica.leads and leader.now < 1005.0:
        leader.pass_time(0.1)
    assert 1001.8 < leader.now < 1002.1
    assert leader.answers("n3")[-1].kind == STEPPED_DOWN
    assert leader.replica.proposals.refused == ["x"]
