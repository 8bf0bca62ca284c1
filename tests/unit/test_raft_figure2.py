"""The rules of the dissertation's figure 3.1 (figure 2 of the paper), one by one."""

import pytest
from support.raft_replica import FIVE, bench, entry

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftKind
from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.messages import (
    APPEND,
    APPENDED,
    CONFIRM,
    CONFIRMED,
    PRE_VOTE,
    PRE_VOTED,
    TIMEOUT_NOW,
    VOTE,
    VOTED,
)
from ringhold.node.consensus.states import Role

# All servers


def test_what_is_committed_is_applied_once_and_in_order() -> None:
    """All servers: entries up to commitIndex are applied, in the order of the log."""
    follower = bench([1, 1, 1])
    follower.take("n2", APPEND, term=1, index=2, log_term=1, commit=2)
    follower.flush()
    assert [each.entry.index for each in follower.replica.take_committed()] == [1, 2]
    follower.take("n2", APPEND, term=1, index=3, log_term=1, commit=3)
    assert [each.entry.index for each in follower.replica.take_committed()] == [3]
    assert follower.replica.take_committed() == []


@pytest.mark.parametrize("kind", [APPENDED, VOTED, PRE_VOTED, CONFIRMED])
def test_a_leader_that_hears_of_a_later_term_becomes_a_follower(kind: RaftKind) -> None:
    """All servers: a term in an answer that is later than the own one is taken, and the role given up."""
    leader = bench()
    leader.lead()
    leader.step("n2", kind, term=9, rejected=True)
    assert (leader.replica.term, leader.replica.role, leader.replica.leader) == (9, Role.FOLLOWER, None)


def test_a_later_term_is_stored_before_anything_is_said_in_it() -> None:
    """All servers: currentTerm and votedFor are on stable storage before the answer."""
    follower = bench(term=1)
    follower.take("n2", APPEND, term=3)
    assert follower.sent == []
    writes = follower.flush()
    assert follower.sent == []
    assert writes is not None
    assert writes.hard_state is not None
    assert (writes.hard_state.term, writes.hard_state.voted_for) == (3, "")
    follower.sync(writes)
    assert [message.term for message in follower.answers("n2")] == [3]


# RequestVote


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_a_candidate_of_an_earlier_term_is_refused_and_told(kind: RaftKind) -> None:
    """RequestVote 1: refuse if term < currentTerm; the answer says the later term."""
    (answer,) = bench(term=5).step("n2", kind, term=4, index=9, log_term=4)
    assert (answer.rejected, answer.term) == (True, 5)


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
@pytest.mark.parametrize(
    ("index", "log_term", "granted"),
    [(3, 2, True), (4, 2, True), (2, 2, False), (9, 1, False), (1, 3, True), (0, 0, False)],
)
def test_votes_are_for_logs_that_are_up_to_date(kind: RaftKind, index: int, log_term: int, granted: bool) -> None:
    """RequestVote 2 and 3.6.1: a later last term wins, then the longer log."""
    (answer,) = bench([1, 1, 2]).step("n2", kind, term=7, index=index, log_term=log_term)
    assert answer.rejected is not granted


def test_there_is_one_vote_in_a_term() -> None:
    """RequestVote 2: votedFor is null or the candidate; asked again, the same candidate hears the same."""
    voter = bench()
    answers = [voter.step(node, VOTE, term=1)[0].rejected for node in ("n2", "n3", "n2")]
    assert answers == [False, True, False]


def test_a_vote_is_remembered_after_a_restart() -> None:
    """RequestVote 2: votedFor is persistent."""
    voter = bench(term=1, voted_for="n2")
    assert [voter.step(node, VOTE)[0].rejected for node in ("n3", "n2")] == [True, False]


def test_a_vote_leaves_once_it_is_durable() -> None:
    """Figure 2, persistent state: a vote that could be forgotten could be given twice."""
    voter = bench()
    voter.take("n2", VOTE, term=1)
    writes = voter.flush()
    assert voter.sent == []
    assert writes is not None
    assert writes.hard_state is not None
    assert (writes.hard_state.term, writes.hard_state.voted_for) == (1, "n2")
    voter.sync(writes)
    assert len(voter.answers("n2")) == 1


# AppendEntries


def test_a_leader_of_an_earlier_term_is_refused_and_told() -> None:
    """AppendEntries 1: refuse if term < currentTerm."""
    follower = bench([1, 1], term=5)
    answer = follower.append("n2", entry(3, 4), after=(2, 1), term=4)
    assert (answer.kind, answer.rejected, answer.term) == (VOTED, True, 5)
    assert (follower.replica.log.last_index, follower.replica.leader) == (2, None)


@pytest.mark.parametrize(
    ("terms", "before", "hint", "hint_term"),
    [
        ([], (4, 4), 0, 0),
        ([1, 1, 1], (5, 2), 3, 1),
        ([1, 1, 3, 3, 3], (5, 2), 2, 1),
        ([1, 1, 3, 3], (3, 2), 2, 1),
        ([2, 2, 2], (2, 1), 0, 0),
    ],
)
def test_a_gap_or_a_conflict_before_the_entries_is_refused(
    terms: list[int], before: tuple[int, int], hint: int, hint_term: int
) -> None:
    """AppendEntries 2; the answer says how far the logs may agree, so that whole terms are skipped (3.5)."""
    follower = bench(terms)
    answer = follower.append("n2", entry(before[0] + 1, 9), after=before, term=9)
    assert (answer.rejected, answer.index, answer.hint, answer.log_term) == (True, before[0], hint, hint_term)
    assert follower.replica.log.last_index == len(terms)


@pytest.mark.parametrize(
    ("terms", "after", "sent", "result"),
    [
        ([1, 1], (2, 1), [2, 2], [1, 1, 2, 2]),
        ([1, 1, 1, 1], (2, 1), [2], [1, 1, 2]),
        ([1, 1, 2, 2], (1, 1), [1, 2], [1, 1, 2, 2]),
        ([1, 1, 2, 2], (1, 1), [1], [1, 1, 2, 2]),
        ([1, 2, 2], (0, 0), [1, 1, 3], [1, 1, 3]),
    ],
)
def test_what_contradicts_the_leader_goes_and_what_agrees_stays(
    terms: list[int], after: tuple[int, int], sent: list[int], result: list[int]
) -> None:
    """AppendEntries 3 and 4: a conflicting entry is deleted with all after it, and what is new is appended."""
    follower = bench(terms)
    entries = [entry(index, term) for index, term in enumerate(sent, after[0] + 1)]
    answer = follower.append("n2", *entries, after=after, term=5)
    assert (answer.rejected, answer.index) == (False, after[0] + len(sent))
    log = follower.replica.log
    assert [log.term(index) for index in range(1, log.last_index + 1)] == result


def test_what_was_stored_of_a_conflict_is_removed_from_storage() -> None:
    """AppendEntries 3: the stored entries go before the new ones are put."""
    follower = bench([1, 1, 1, 1])
    follower.take("n2", APPEND, term=2, index=1, log_term=1, entries=[entry(2, 2).encoded])
    writes = follower.flush()
    assert writes is not None
    assert list(writes.removed) == [2, 3, 4]
    assert [(each.index, each.term) for each in writes.entries] == [(2, 2)]


@pytest.mark.parametrize(
    ("after", "count", "commit", "result"), [(2, 2, 3, 3), (2, 2, 9, 4), (1, 0, 9, 1), (4, 0, 3, 3), (3, 0, 0, 0)]
)
def test_the_commit_index_stays_within_what_the_message_proves(
    after: int, count: int, commit: int, result: int
) -> None:
    """AppendEntries 5: min(leaderCommit, index of the last new entry)."""
    follower = bench([1, 1, 1, 1, 1])
    entries = [entry(index, 1) for index in range(after + 1, after + 1 + count)]
    follower.append("n2", *entries, after=(after, 1), term=1, commit=commit)
    assert follower.replica.commit_index == result


def test_the_commit_index_never_goes_back() -> None:
    """AppendEntries 5: a late message says an earlier commit index."""
    follower = bench([1, 1, 1])
    follower.append("n2", after=(3, 1), term=1, commit=3)
    answer = follower.append("n2", entry(2, 1), after=(1, 1), term=1, commit=1)
    assert (follower.replica.commit_index, answer.index) == (3, 3)


def test_an_entry_is_acknowledged_once_it_is_durable() -> None:
    """P1: an acknowledgement that leaves before its sync would let a commit be lost."""
    follower = bench()
    follower.take("n2", APPEND, term=1, entries=[entry(1, 1).encoded])
    writes = follower.flush()
    follower.take("n2", APPEND, term=1, index=1, log_term=1)
    assert follower.sent == []
    assert writes is not None
    follower.sync(writes)
    assert [message.index for message in follower.answers("n2")] == [1]


# Followers and candidates


def test_a_follower_that_hears_nothing_campaigns() -> None:
    """Followers: the election timeout begins a campaign; those earlier in the order have the shorter one."""
    took = {}
    for order in (("n1", "n2", "n3"), ("n2", "n3", "n1")):
        follower = bench(configuration=founders(order))
        began = follower.now
        while follower.replica.role is Role.FOLLOWER:
            follower.pass_time(0.01)
        took[order[0]] = follower.now - began
    assert took["n1"] < 0.12
    assert 0.2 < took["n2"] < 0.32


def test_a_pre_vote_changes_no_term() -> None:
    """9.6: neither who asks nor who is asked takes the term of a campaign that may never be."""
    asking = bench([1])
    asking.replica.campaign(asking.now)
    asking.settle()
    assert [message.term for message in asking.answers("n2")] == [2]
    assert asking.replica.term == 1
    asked = bench([1])
    (answer,) = asked.step("n2", PRE_VOTE, term=2, index=1, log_term=1)
    assert (answer.term, answer.rejected, asked.replica.term) == (2, False, 1)


def test_a_candidate_raises_its_term_and_votes_for_itself_durably() -> None:
    """Candidates: increment currentTerm, vote for self; the requests leave once that is stored."""
    candidate = bench([1])
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    candidate.sent.clear()
    candidate.take("n2", PRE_VOTED, term=2)
    writes = candidate.flush()
    assert candidate.sent == []
    assert writes is not None
    assert writes.hard_state is not None
    assert (writes.hard_state.term, writes.hard_state.voted_for) == (2, "n1")
    candidate.sync(writes)
    assert [(each.target, each.message.kind) for each in candidate.sent] == [("n2", VOTE), ("n3", VOTE)]


def test_the_own_vote_counts_once_it_is_durable() -> None:
    """Candidates: a majority that holds a vote which may be forgotten is none."""
    candidate = bench()
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    candidate.take("n2", PRE_VOTED, term=1)
    writes = candidate.flush()
    candidate.take("n2", VOTED)
    assert not candidate.replica.leads
    assert writes is not None
    candidate.sync(writes)
    assert candidate.replica.leads


def test_a_sole_voter_is_elected_by_its_own_vote() -> None:
    """Candidates: votes of a majority, which is one of one, once that is durable."""
    alone = bench(configuration=founders(["n1"]))
    alone.replica.campaign(alone.now)
    assert (alone.replica.role, alone.replica.term) == (Role.CANDIDATE, 1)
    alone.settle()
    assert alone.replica.may_read(alone.now)


@pytest.mark.parametrize("votes", [["n2", "n2", "n2"], ["n2", "n9"], ["n2"]])
def test_a_majority_is_of_different_voters(votes: list[str]) -> None:
    """Candidates: three of five; a vote that comes twice, or from a stranger, is none."""
    candidate = bench(configuration=FIVE)
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    for node in ("n2", "n3"):
        candidate.step(node, PRE_VOTED, term=1)
    for node in votes:
        candidate.step(node, VOTED)
    assert candidate.replica.role is Role.CANDIDATE
    candidate.step("n5", VOTED)
    assert candidate.replica.leads


@pytest.mark.parametrize("kind", [APPEND, CONFIRM])
def test_a_candidate_follows_the_leader_of_its_term(kind: RaftKind) -> None:
    """Candidates: a message of the new leader of the term ends the candidacy."""
    candidate = bench()
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    candidate.step("n2", PRE_VOTED, term=1)
    assert candidate.replica.role is Role.CANDIDATE
    candidate.step("n3", kind, term=1)
    assert (candidate.replica.role, candidate.replica.leader) == (Role.FOLLOWER, "n3")


def test_a_candidate_that_does_not_win_tries_again() -> None:
    """Candidates: when the election timeout passes, a new election begins (by pre-vote)."""
    candidate = bench()
    candidate.replica.campaign(candidate.now)
    candidate.settle()
    candidate.step("n2", PRE_VOTED, term=1)
    candidate.pass_time(0.8)
    assert (candidate.replica.role, candidate.replica.term) == (Role.PRE_CANDIDATE, 1)


# Leaders


def test_a_leader_begins_with_an_entry_of_its_term_and_tells_all() -> None:
    """Leaders: upon election AppendEntries go to each server; the entry is that of 6.4, step 1."""
    leader = bench([1, 1])
    leader.replica.campaign(leader.now)
    leader.settle()
    leader.step("n2", PRE_VOTED, term=2)
    leader.sent.clear()
    leader.take("n2", VOTED)
    sent = [(each.target, each.message.index, len(each.message.entries)) for each in leader.sent]
    assert sent == [("n2", 2, 1), ("n3", 2, 1)]
    assert (leader.replica.log.last_index, leader.replica.log.last_term) == (3, 2)


def test_a_refused_append_is_tried_earlier_until_the_logs_agree() -> None:
    """Leaders: after an inconsistency nextIndex goes back and it is tried again."""
    leader = bench([1, 1, 2, 2])
    leader.elect()
    (again,) = leader.step("n2", APPENDED, rejected=True, index=4, hint=3, log_term=1, epoch=1)
    assert (again.index, again.log_term, len(again.entries)) == (2, 1, 3)
    leader.step("n2", APPENDED, index=5, epoch=1)
    assert leader.replica.commit_index == 5


def test_entries_commit_once_a_majority_has_them_and_the_own_copy_counts_when_synced() -> None:
    """Leaders: the largest N that a majority of matchIndex reaches; the leader may be behind its followers (10.2.1)."""
    leader = bench(configuration=FIVE)
    leader.lead()
    leader.replica.propose(b"x", "x")
    writes = leader.flush()
    for node, expected in (("n2", 1), ("n3", 1), ("n4", 2)):
        leader.take(node, APPENDED, index=2, epoch=1)
        assert leader.replica.commit_index == expected
    assert writes is not None
    other = bench(configuration=FIVE)
    other.lead()
    other.replica.propose(b"x", "x")
    writes = other.flush()
    for node in ("n2", "n3"):
        other.take(node, APPENDED, index=2, epoch=1)
    assert writes is not None
    other.sync(writes)
    assert other.replica.commit_index == 2


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting_copies() -> None:
    """Figure 3.7: it could still be overwritten; it commits with the first entry of the leader's own term."""
    leader = bench([1, 2], term=3, configuration=FIVE)
    leader.elect()
    for node in ("n2", "n3", "n4"):
        leader.step(node, APPENDED, index=2, epoch=1)
    assert leader.replica.commit_index == 0
    for node in ("n2", "n3"):
        leader.step(node, APPENDED, index=3, epoch=1)
    assert leader.replica.commit_index == 3


def test_an_acknowledgement_of_an_earlier_term_counts_for_nothing() -> None:
    """Leaders: matchIndex is of this term; an answer may come from the time before."""
    leader = bench([1, 1])
    leader.elect()
    leader.step("n2", APPENDED, term=1, index=3, epoch=1)
    assert leader.replica.commit_index == 0


def test_a_write_of_an_entry_that_was_replaced_does_not_make_the_new_one_durable() -> None:
    """3.5: while a sync is under way another leader may have replaced what it stores."""
    follower = bench()
    follower.take("n2", APPEND, term=1, entries=[entry(1, 1).encoded, entry(2, 1).encoded])
    writes = follower.flush()
    follower.take("n3", APPEND, term=2, index=0, entries=[entry(1, 2).encoded, entry(2, 2).encoded])
    assert writes is not None
    follower.sync(writes)
    assert follower.replica.durable_index == 0
    follower.settle()
    assert follower.replica.durable_index == 2


def test_a_message_that_is_not_of_this_term_begins_no_transfer() -> None:
    """3.10: a TimeoutNow of an earlier term, of another leader or about another log is dropped."""
    for source, term, index in (("n2", 1, 1), ("n3", 2, 1), ("n2", 2, 0)):
        follower = bench([1])
        follower.step("n2", APPEND, term=2, index=1, log_term=1)
        follower.step(source, TIMEOUT_NOW, term=term, index=index)
        assert follower.replica.role is Role.FOLLOWER
    follower.step("n2", TIMEOUT_NOW, index=1)
    assert (follower.replica.role, follower.replica.term) == (Role.CANDIDATE, 3)
