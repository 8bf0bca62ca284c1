"""Rules of the dissertation's chapter 4: configurations, replica ids, removed leaders and voters."""

import pytest
from support.raft_replica import FIVE, THREE, bench, entry

from ringhold.node.consensus.configuration import Configuration, ReplicaId, founders
from ringhold.node.consensus.messages import APPEND, APPENDED, PRE_VOTE, VOTED

TWO = founders(["n1", "n2"])
REPLACED = Configuration((ReplicaId("n1", 0), ReplicaId("n3", 0)), (ReplicaId("n2", 9),))


@pytest.mark.parametrize(("source", "number"), [("n9", 12), ("n2", 9)])
def test_a_replica_answers_a_leader_that_its_log_does_not_know(source: str, number: int) -> None:
    """4.1: a server accepts a leader outside its configuration, and answers the replica that asked."""
    (answer,) = bench().step(source, APPEND, term=1, source_replica=number)
    assert (answer.kind, answer.target_replica, answer.rejected) == (APPENDED, number, False)


def test_an_answer_of_another_replica_than_was_asked_counts_for_nothing() -> None:
    """DESIGN section 7: messages carry both ids and mismatches are dropped."""
    for fields in ({"source_replica": 9}, {"target_replica": 9}):
        candidate = bench()
        candidate.replica.campaign(candidate.now)
        candidate.step("n2", VOTED, term=5, rejected=True, **fields)
        assert candidate.replica.term == 0


def test_a_message_of_an_earlier_replica_is_dropped() -> None:
    """DESIGN section 7: a replica that was replaced is heard no more."""
    follower = bench(configuration=REPLACED)
    assert follower.step("n2", PRE_VOTE, term=1, source_replica=0) == []


def test_a_voter_that_its_newest_configuration_removes_still_stands() -> None:
    """4.2.2: it may be needed to commit that configuration; its own vote counts for nothing."""
    removed = bench([1, 1], later={2: founders(["n2", "n3"])})
    removed.replica.campaign(removed.now)
    removed.drain()
    assert {each.target for each in removed.sent} == {"n2", "n3"}


def test_a_learner_never_stands() -> None:
    """4.2.1: learners count for nothing."""
    learner = bench(configuration=Configuration(founders(["n2", "n3"]).voters, (ReplicaId("n1", 4),)), number=4)
    learner.replica.campaign(learner.now)
    learner.drain()
    assert learner.sent == []


def test_a_replica_is_a_sole_voter_only_once_that_is_committed() -> None:
    """DESIGN section 7: the leader that removes itself may still hold a lease, so a restarted replica must wait."""
    restarted = bench([1, 1], configuration=TWO, later={2: founders(["n1"])}, may_vote_from=1000.5)
    restarted.replica.campaign(restarted.now)
    assert restarted.replica.term == 1
    sole = bench([1, 1], configuration=founders(["n1"]), may_vote_from=1000.5)
    sole.replica.campaign(sole.now)
    assert sole.replica.term == 2


def test_a_removed_leader_says_nothing_after_its_goodbye() -> None:
    """4.2.2: it steps down once the configuration without it is committed, and nobody follows it again."""
    leader = bench()
    leader.lead()
    for _ in range(5):
        leader.replica.propose(b"x", "x")
    assert leader.replica.propose_configuration(founders(["n2", "n3"]), 0, leader.now)
    leader.settle()
    leader.replica.propose(b"y", "y")
    leader.settle()
    leader.sent.clear()
    leader.take("n2", APPENDED, index=leader.replica.configuration_index, epoch=1)
    leader.take("n3", APPENDED, index=leader.replica.configuration_index, epoch=1)
    assert not leader.replica.leads
    kinds = [each.message.kind for each in leader.sent if each.target == "n3"]
    assert APPEND not in kinds[kinds.index(max(kinds)) :]


def test_a_node_that_is_another_replica_now_begins_anew() -> None:
    """DESIGN section 7: the one before says nothing of its log; it is made once the entry that adds it is committed."""
    leader = bench()
    leader.lead()
    assert leader.replica.office is not None
    assert leader.replica.office.match_of("n2") == 1
    assert leader.replica.propose_configuration(REPLACED, 0, leader.now)
    assert leader.replica.office.match_of("n2") == 0
    leader.settle()
    for _ in range(7):
        leader.replica.propose(b"x", "x")
        leader.settle()
    leader.pass_time(0.1)
    assert leader.answers("n2") == []
    leader.step("n3", APPENDED, index=leader.replica.log.last_index, epoch=1)
    leader.pass_time(0.1)
    assert leader.answers("n2")[-1].target_replica == 9


@pytest.mark.parametrize("is_committed", [False, True])
def test_the_log_is_dropped_for_removed_members_only_once_that_is_committed(is_committed: bool) -> None:
    """4.1: a configuration may be undone, and those whom it removed need the log again."""
    leader = bench()
    leader.lead()
    leader.replica.propose(b"x", "x")
    leader.settle()
    leader.step("n2", APPENDED, index=2, epoch=1)
    assert leader.replica.propose_configuration(TWO, 0, leader.now)
    leader.settle()
    if is_committed:
        leader.step("n2", APPENDED, index=3, epoch=1)
    leader.pass_time(0.1)
    assert leader.replica.everywhere == (3 if is_committed else 0)


def test_a_configuration_applies_when_it_is_appended_and_is_undone_by_truncation() -> None:
    """4.1: a server uses the newest configuration in its log, committed or not."""
    follower = bench([1])
    follower.append("n2", entry(2, 2, configuration=FIVE), after=(1, 1), term=2)
    assert follower.replica.configuration == FIVE
    follower.append("n3", entry(2, 3), after=(1, 1), term=3)
    assert (follower.replica.configuration, follower.replica.configuration_index) == (THREE, 0)
