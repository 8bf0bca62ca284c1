"""Members that are gone, and those that take their place: one change at a time, under new ids (DESIGN section 7)."""

import pytest
from support.raft_replica import FIVE, THREE, Bench, bench, entry

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from ringhold.node.consensus.configuration import Configuration, ReplicaId, founders
from ringhold.node.consensus.messages import APPEND, APPENDED, CONFIRM, GONE, OFFER
from ringhold.node.consensus.progress import ENTRIES_PER_MESSAGE_MAX

SINCE = 4
"""The generation of the node that says so."""

WITH_LEARNER = Configuration(founders(["n1", "n2"]).voters, (ReplicaId("n3", 1),))


def leader_of(configuration: Configuration, terms: list[int] | None = None) -> Bench:
    """A leader in office, heard and followed by all the others."""
    leader = bench(terms or [], configuration=configuration, applied=len(terms or []))
    leader.lead()
    for node in configuration.numbers:
        if node != "n1":
            leader.hear(node)
    return leader


def gone(leader: Bench, node: str, number: int = 0) -> Configuration:
    """The configuration after a node has said that its replica is gone."""
    leader.replica.member_gone(node, RaftMessage(kind=GONE, source_replica=number, since=SINCE), leader.now)
    leader.settle()
    return leader.replica.configuration


def test_a_voter_that_is_gone_is_replaced_by_a_learner_on_its_node() -> None:
    """One entry, in which one voter differs (4.1); its index is the new replica's id."""
    leader = leader_of(THREE)
    index = leader.replica.log.last_index + 1
    after = gone(leader, "n3")
    assert after == Configuration(THREE.voters[:2], (ReplicaId("n3", index, SINCE),))
    assert leader.replica.configuration_index == index
    assert after.follows_by_one_step(THREE)


def test_a_learner_that_is_gone_is_replaced_too() -> None:
    """It has acknowledged entries that it does not have any more."""
    leader = leader_of(WITH_LEARNER, [1])
    assert gone(leader, "n3", 1).learners == (ReplicaId("n3", 3, SINCE),)


@pytest.mark.parametrize(("node", "number"), [("n3", 7), ("n9", 0), ("n1", 0)])
def test_only_the_replica_that_is_a_member_counts_as_gone(node: str, number: int) -> None:
    """A late message about an earlier one says nothing of the one that took its place."""
    assert gone(leader_of(THREE), node, number) == THREE


def test_nobody_but_a_leader_replaces_anybody() -> None:
    """Only an entry can do it."""
    follower = bench()
    assert gone(follower, "n3") == THREE
    assert follower.replica.log.last_index == 0


def test_a_member_is_replaced_only_once_this_term_has_committed() -> None:
    """Ongaro's correction of 2015 to 4.1: until then an undone change of another leader may still count."""
    leader = bench()
    leader.elect()
    assert gone(leader, "n3") == THREE
    leader.step("n2", APPENDED, index=1, epoch=1)
    leader.hear("n2")
    leader.pass_time(0.05)
    assert leader.replica.configuration.voting_nodes == ("n1", "n2")


def test_one_change_at_a_time() -> None:
    """4.1: the next one waits until the one before is committed."""
    leader = leader_of(FIVE)
    first = gone(leader, "n5")
    assert gone(leader, "n4") == first
    for node in ("n2", "n3"):
        leader.step(node, APPENDED, index=leader.replica.log.last_index, epoch=1)
    leader.pass_time(0.01)
    assert leader.replica.configuration.voting_nodes == ("n1", "n2", "n3")
    assert [learner.node_id for learner in leader.replica.configuration.learners] == ["n5", "n4"]


def test_nothing_more_is_said_to_who_is_gone() -> None:
    """Each answer of its node costs a sync."""
    leader = bench()
    leader.elect()
    gone(leader, "n3")
    leader.sent.clear()
    leader.replica.propose(b"x", "x")
    leader.settle()
    leader.pass_time(0.3)
    kinds = [each.kind for each in leader.answers("n3")]
    assert APPEND not in kinds
    assert OFFER not in kinds
    assert CONFIRM not in kinds


def test_a_new_replica_hears_of_its_leader_once_the_entry_that_adds_it_is_committed() -> None:
    """An undone entry's index will be given again; nobody may be it before."""
    leader = leader_of(THREE)
    index = leader.replica.log.last_index + 1
    gone(leader, "n3")
    leader.pass_time(0.1)
    assert [each for each in leader.answers("n3") if each.target_replica == index] == []
    leader.step("n2", APPENDED, index=index, epoch=1)
    leader.pass_time(0.1)
    assert {each.target_replica for each in leader.answers("n3")} == {index}


@pytest.mark.parametrize(
    ("behind", "needs_snapshot", "is_followed", "is_promoted"),
    [
        (0, False, True, True),
        (ENTRIES_PER_MESSAGE_MAX, False, True, True),
        (ENTRIES_PER_MESSAGE_MAX + 1, False, True, False),
        (0, True, True, False),
        (0, False, False, False),
    ],
)
def test_a_learner_votes_once_it_has_caught_up(
    behind: int, needs_snapshot: bool, is_followed: bool, is_promoted: bool
) -> None:
    """4.2.1: within a message of the commit index, with good rows, and there: else a majority would wait for it."""
    leader = leader_of(WITH_LEARNER, [1])
    leader.support.break_off("n3", leader.now)
    for _ in range(ENTRIES_PER_MESSAGE_MAX + 5):
        leader.replica.propose(b"x", "x")
        leader.settle()
    leader.step("n2", APPENDED, index=leader.replica.log.last_index, epoch=1)
    epoch = 1 if is_followed else 2
    index = leader.replica.commit_index - behind
    leader.take("n3", APPENDED, index=index, epoch=epoch, needs_snapshot=needs_snapshot)
    leader.pass_time(0.01)
    voters = (*WITH_LEARNER.voters, ReplicaId("n3", 1))
    assert (leader.replica.configuration == Configuration(voters)) == is_promoted


def test_who_is_gone_is_replaced_before_others_are_promoted() -> None:
    """One more voter beside one that never votes again would need more of the others."""
    leader = leader_of(Configuration(THREE.voters, (ReplicaId("n4", 1),)), [1])
    leader.replica.propose_configuration(leader.replica.configuration, 0, leader.now)
    leader.settle()
    leader.take("n4", APPENDED, index=leader.replica.log.last_index, epoch=1)
    gone(leader, "n3")
    leader.step("n2", APPENDED, index=leader.replica.log.last_index, epoch=1)
    leader.pass_time(0.01)
    assert leader.replica.configuration.voting_nodes == ("n1", "n2")


def test_of_two_voters_the_leader_in_office_goes_on_alone() -> None:
    """The change counts at once (4.1), and every majority of two had this leader in it."""
    leader = leader_of(founders(["n1", "n2"]))
    leader.step("n2", APPENDED, index=1, epoch=1)
    leader.hear("n2")
    leader.pass_time(0.01)
    gone(leader, "n2")
    assert leader.replica.configuration.voting_nodes == ("n1",)
    assert leader.replica.commit_index == leader.replica.log.last_index


def test_of_two_voters_the_other_can_never_be_elected_alone() -> None:
    """It can't know what the one that is gone has acknowledged: that takes an operator."""
    alone = bench([1, 1], configuration=founders(["n1", "n2"]))
    alone.pass_time(30)
    alone.replica.campaign(alone.now)
    alone.settle()
    gone(alone, "n2")
    assert (alone.replica.leads, alone.replica.term) == (False, 1)


def test_a_follower_undoes_a_replacement_that_was_not_committed() -> None:
    """4.1: with its entry goes the learner, and the one that was replaced is a voter again."""
    follower = bench([1])
    replaced = THREE.replacing(ReplicaId("n3", 0), 2, SINCE)
    follower.append("n2", entry(2, 1, configuration=replaced), after=(1, 1), term=1)
    assert follower.replica.configuration == replaced
    follower.append("n2", entry(2, 2), after=(1, 1), term=2)
    assert follower.replica.configuration == THREE
