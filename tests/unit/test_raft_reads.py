"""ReadIndex (6.4), proposals and log time: when a leader may answer, and what becomes of what it was given."""

import pytest
from support.raft_replica import FIVE, Bench, bench, entry

from ringhold.node.consensus.configuration import founders
from ringhold.node.consensus.leadership import TIME_ENTRY_S
from ringhold.node.consensus.messages import APPEND, APPENDED, CONFIRM, CONFIRMED


def reading() -> Bench:
    """A leader of five without a lease that was asked for a read."""
    leader = bench(configuration=FIVE, leases=False)
    leader.lead()
    leader.replica.confirm("first", leader.now)
    leader.drain()
    return leader


def asked(leader: Bench) -> list[int]:
    leader.drain()
    return [message.round for message in leader.answers("n2") if message.kind == CONFIRM]


def test_a_read_waits_for_a_majority_that_confirms_its_round() -> None:
    """6.4, step 3: heartbeats are exchanged with a majority."""
    leader = reading()
    assert asked(leader) == [1]
    leader.take("n2", CONFIRMED, round=1)
    leader.take("n2", CONFIRMED, round=1)
    assert leader.replica.confirmed == []
    leader.take("n3", CONFIRMED, round=1)
    assert leader.replica.confirmed == ["first"]


def test_a_read_joins_only_a_round_that_is_sent_after_it_came() -> None:
    """DESIGN section 4: a round under way may have been answered before the read began."""
    leader = reading()
    leader.replica.confirm("second", leader.now)
    assert asked(leader) == [1]
    for node in ("n2", "n3"):
        leader.take(node, CONFIRMED, round=1)
    assert leader.replica.confirmed == ["first"]
    assert asked(leader) == [2]
    for node in ("n2", "n3"):
        leader.take(node, CONFIRMED, round=1)
    assert leader.replica.confirmed == ["first"]
    for node in ("n2", "n3"):
        leader.take(node, CONFIRMED, round=2)
    assert leader.replica.confirmed == ["first", "second"]


def test_an_answer_of_an_earlier_term_confirms_nothing() -> None:
    """6.4: rounds are of a term; what was confirmed then says nothing of now."""
    leader = bench([1], configuration=FIVE, leases=False)
    leader.lead()
    leader.replica.confirm("read", leader.now)
    for node in ("n2", "n3"):
        leader.take(node, CONFIRMED, term=1, round=1)
    assert leader.replica.confirmed == []


@pytest.mark.parametrize("leases", [True, False])
def test_no_read_before_the_first_entry_of_the_term_is_applied(leases: bool) -> None:
    """6.4, step 1: a new leader does not know yet which of its entries are committed."""
    leader = bench([1, 1], leases=leases)
    leader.elect()
    leader.hear("n2")
    leader.step("n2", APPENDED, index=2, epoch=1)
    leader.replica.confirm("read", leader.now)
    assert not leader.replica.may_read(leader.now)
    assert (leader.replica.confirmed, asked(leader)) == ([], [])
    leader.take("n2", APPENDED, index=3, epoch=1)
    assert (leader.replica.commit_index, leader.replica.may_read(leader.now)) == (3, False)
    assert leader.replica.confirmed == []
    leader.settle()
    assert leader.replica.may_read(leader.now) is leases
    assert leader.replica.confirmed == ["read"] * leases
    assert asked(leader) == [1] * (not leases)


def test_a_round_that_is_not_answered_is_asked_again() -> None:
    """A session may have lost it; the answers to both count for the same round."""
    leader = reading()
    leader.take("n2", CONFIRMED, round=1)
    leader.answers("n2")
    leader.pass_time(0.25)
    assert asked(leader) == [1]
    leader.take("n4", CONFIRMED, round=1)
    assert leader.replica.confirmed == ["first"]


def test_reads_of_a_leader_that_leads_no_more_are_not_confirmed() -> None:
    """Every read comes out once."""
    leader = reading()
    leader.replica.confirm("second", leader.now)
    leader.step("n3", APPEND, term=5)
    leader.replica.confirm("third", leader.now)
    assert (leader.replica.confirmed, leader.replica.unconfirmed) == ([], ["first", "second", "third"])


def test_a_follower_confirms_once_the_term_is_durable() -> None:
    """Figure 2: a confirmation is an answer in a term, which must not be forgotten."""
    follower = bench(term=1)
    follower.take("n2", CONFIRM, term=2, round=4)
    writes = follower.flush()
    assert follower.sent == []
    assert writes is not None
    follower.sync(writes)
    assert [(message.kind, message.round) for message in follower.answers("n2")] == [(CONFIRMED, 4)]


def test_commands_between_two_ticks_share_an_entry_within_its_bounds() -> None:
    """One log entry per group and tick; what does not fit waits, in its order (P8)."""
    alone = bench(configuration=founders(["n1"]))
    alone.replica.campaign(alone.now)
    alone.settle()
    for name in ("a", "b", "c", "d"):
        alone.replica.propose(name.encode(), name, 2 if name == "c" else 1)
    entries = []
    for _ in range(3):
        writes = alone.replica.take_writes(alone.now, 2, 1_000)
        assert writes is not None
        entries += [list(each.content.commands) for each in writes.entries]
        alone.sync(writes)
    assert entries == [[b"a", b"b"], [b"c"], [b"d"]]
    assert alone.settle() == ["a", "b", "c", "d"]


def test_nothing_is_taken_to_be_applied_before_it_is_committed_and_written() -> None:
    """P1, and rows are never ahead of the own log."""
    leader = bench(configuration=FIVE)
    leader.lead()
    leader.replica.propose(b"x", "x")
    writes = leader.flush()
    assert leader.replica.take_committed() == []
    assert writes is not None
    follower = bench()
    follower.take("n2", APPEND, term=1, commit=1, entries=[entry(1, 1).encoded])
    assert (follower.replica.commit_index, follower.replica.take_committed()) == (1, [])
    follower.flush()
    assert len(follower.replica.take_committed()) == 1


def test_commands_that_were_never_appended_are_refused_and_the_others_are_in_doubt() -> None:
    """P3: a leader says 'not applied' only for what it never appended."""
    leader = bench()
    leader.lead()
    leader.replica.propose(b"x", "appended")
    leader.settle()
    leader.replica.propose(b"y", "open")
    leader.step("n3", APPEND, term=5, index=1, log_term=1, entries=[entry(2, 5).encoded])
    assert (leader.replica.proposals.refused, leader.replica.proposals.lost) == (["open"], ["appended"])
    leader.step("n3", APPEND, term=5, index=2, log_term=5, commit=2)
    assert leader.settle() == []


def test_log_time_is_time_in_office_on_top_of_the_log_and_never_goes_back() -> None:
    """DESIGN section 7: it begins at the newest in the log, stands still without a leader, and is never 0."""
    alone = bench([1, 1], configuration=founders(["n1"]))
    replica = alone.replica
    assert replica.log_time_ms(alone.now) == replica.log_time_ms(alone.now + 50) == 2
    replica.campaign(alone.now)
    alone.settle()
    assert replica.log_time_ms(alone.now + 0.5) == 502
    alone.now += 0.5
    replica.step_down(alone.now)
    assert replica.log_time_ms(alone.now + 50) == 502
    assert bench().replica.log_time_ms(0.0) == 1


def test_a_configuration_changes_one_voter_at_a_time_and_only_after_a_commit_of_the_term() -> None:
    """4.1, Ongaro's correction of 2015 to it, and DESIGN section 8: the change was made for this configuration."""
    leader = bench()
    four, without = founders(["n1", "n2", "n3", "n4"]), founders(["n1", "n2"])
    leader.elect()
    assert not leader.replica.propose_configuration(four, 0, leader.now)
    leader.step("n2", APPENDED, index=1, epoch=1)
    assert not leader.replica.propose_configuration(FIVE, 0, leader.now)
    assert not leader.replica.propose_configuration(four, 1, leader.now)
    assert leader.replica.propose_configuration(four, 0, leader.now)
    assert not leader.replica.propose_configuration(without, 2, leader.now)
    leader.settle()
    for node in ("n2", "n3"):
        leader.step(node, APPENDED, index=2, epoch=1)
    assert leader.replica.propose_configuration(founders(["n1", "n2", "n4"]), 2, leader.now)


def test_a_leader_of_an_idle_group_says_the_time_now_and_then() -> None:
    """DESIGN section 7: its successor's log time must not lie days behind the anchors that were learnt of it."""
    alone = bench([], configuration=founders(["n1"]))
    alone.lead()
    last = alone.replica.log.last_index
    for _ in range(3):
        alone.now += TIME_ENTRY_S / 2
        alone.replica.pulse(alone.now)
        alone.settle()
    assert alone.replica.log.last_index == last + 1
    assert alone.replica.log.entries(last + 1, last + 1, 1)[0].content.log_time_ms >= TIME_ENTRY_S * 1000
