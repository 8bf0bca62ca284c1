"""The rules of a group of one, by the sections of Raft that they obey."""

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import LogEntry
from ringhold.node.consensus.core import Recovered, Replica

BOUNDS = {"weight_max": 100, "bytes_max": 1_000}


def fresh() -> Replica[str]:
    return Replica("n1", Recovered(term=0, applied_index=0, log_time_ms=0, entries=[]))


def elected() -> Replica[str]:
    """A leader whose first entry is committed and applied."""
    replica = fresh()
    replica.campaign(now=10.0)
    settle(replica)
    return replica


def settle(replica: Replica[str]) -> list[str]:
    """Persist and apply all that there is; the tickets in their order."""
    replica.persisted(replica.last_index)
    tickets: list[str] = []
    for committed in replica.take_committed():
        replica.applied(committed.index)
        tickets += committed.tickets
    return tickets


def test_a_campaign_raises_the_term_and_votes_for_itself() -> None:
    """Figure 2: a candidate increments its term, votes for itself, and makes both durable."""
    vote, entries = fresh().campaign(now=0.0)
    assert (vote.term, vote.voted_for) == (1, "n1")
    assert [(index, entry.term, list(entry.commands)) for index, entry in entries] == [(1, 1, [])]


def test_no_reads_before_an_entry_of_the_own_term_is_applied() -> None:
    """Section 6.4: a new leader does not know what its predecessors committed."""
    replica = fresh()
    assert not replica.may_read
    replica.campaign(now=0.0)
    assert not replica.may_read
    replica.persisted(1)
    assert not replica.may_read
    for committed in replica.take_committed():
        replica.applied(committed.index)
    assert replica.may_read


def test_entries_of_an_earlier_life_commit_with_the_first_of_the_new_term() -> None:
    """Section 3.6.2: they are applied before the new term's own, in their order."""
    earlier = [(4, LogEntry(term=2, log_time_ms=700, commands=[b"x"])), (5, LogEntry(term=2, log_time_ms=900))]
    replica: Replica[str] = Replica("n1", Recovered(term=2, applied_index=3, log_time_ms=500, entries=earlier))
    replica.campaign(now=0.0)
    assert replica.take_committed() == []
    replica.persisted(6)
    assert [committed.index for committed in replica.take_committed()] == [4, 5, 6]


def test_nothing_commits_before_it_is_durable() -> None:
    """P1: the own copy counts only once synced."""
    replica = elected()
    replica.propose(b"a", "first")
    replica.ready(11.0, **BOUNDS)
    assert replica.take_committed() == []
    replica.persisted(replica.last_index)
    assert [list(committed.tickets) for committed in replica.take_committed()] == [["first"]]


def test_commands_between_two_ticks_share_one_entry() -> None:
    """One log entry per group and tick, with the tickets in the order of the commands."""
    replica = elected()
    for name in ("a", "b", "c"):
        replica.propose(name.encode(), name)
    ((_, entry),) = replica.ready(11.0, **BOUNDS)
    assert list(entry.commands) == [b"a", b"b", b"c"]
    replica.propose(b"d", "d")
    assert settle(replica) == ["a", "b", "c"]
    replica.ready(12.0, **BOUNDS)
    assert settle(replica) == ["d"]


def test_log_time_is_time_in_office_on_top_of_the_log() -> None:
    """Log time grows with the leader's clock, begins at the newest in the log, and is never 0."""
    replica: Replica[str] = Replica("n1", Recovered(term=1, applied_index=1, log_time_ms=5_000, entries=[]))
    assert replica.log_time_ms(now=99.0) == 5_000
    replica.campaign(now=100.0)
    assert replica.log_time_ms(now=100.5) == 5_500
    assert fresh().log_time_ms(now=0.0) == 1


def test_an_entry_takes_no_more_than_its_bounds() -> None:
    """What does not fit stays open, in its order, for the next entry (P8)."""
    replica = elected()
    for name in ("a", "b", "c"):
        replica.propose(name.encode(), name)
    entries, more = [], []
    for _ in range(2):
        entries += replica.ready(11.0, weight_max=2, bytes_max=100)
        more.append(replica.has_open)
    assert [list(entry.commands) for _, entry in entries] == [[b"a", b"b"], [b"c"]]
    assert more == [True, False]
    assert settle(replica) == ["a", "b", "c"]
