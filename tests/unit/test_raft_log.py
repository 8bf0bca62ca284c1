"""The log of a replica, and what a leader knows of another's."""

from collections.abc import Sequence

import pytest
from support.raft_replica import entry, log_of

from ringhold.node.consensus.log import BYTES_IN_MEMORY_MAX, ENTRIES_IN_MEMORY_MAX, Entry, Load, Log
from ringhold.node.consensus.progress import BYTES_IN_FLIGHT_MAX, MESSAGES_IN_FLIGHT_MAX, Progress


def stored(count: int) -> Log:
    """A log that can read back what it forgets."""
    kept: dict[int, Entry] = {}

    def load(first: int, last: int) -> Sequence[Entry]:
        return [kept[index] for index in range(first, last + 1)]

    log = Log([(0, 0)], 0, [], Load(load))
    for index in range(1, count + 1):
        kept[index] = entry(index, 1 + index // 10)
        log.append(kept[index])
    return log


def terms(log: Log) -> list[int | None]:
    return [log.term(index) for index in range(log.last_index + 2)]


def test_a_log_knows_the_term_of_each_entry() -> None:
    """Before the first entry the term is 0 (figure 2); after the last there is none."""
    assert terms(log_of([1, 1, 3])) == [0, 1, 1, 3, None]
    assert terms(log_of([])) == [0, None]


@pytest.mark.parametrize(
    ("index", "term", "found"), [(5, 9, 5), (9, 9, 6), (6, 4, 5), (6, 3, 3), (3, 1, 2), (6, 0, 0), (1, 1, 1)]
)
def test_the_newest_entry_of_a_term_at_most(index: int, term: int, found: int) -> None:
    """3.5: so far two logs may agree, if one has this term at the index."""
    assert log_of([1, 1, 2, 4, 4, 5]).last_of_term_at_most(index, term) == found


@pytest.mark.parametrize(
    ("first", "left"), [(4, [0, 1, 1, 2, None]), (3, [0, 1, 1, None]), (2, [0, 1, None]), (1, [0, None])]
)
def test_truncation_removes_the_end(first: int, left: list[int | None]) -> None:
    """3.5: a conflicting entry goes with all after it, and other terms may follow."""
    log = log_of([1, 1, 2, 2])
    log.truncate(first)
    assert terms(log) == left
    log.append(entry(first, 7))
    assert (log.last_index, log.last_term) == (first, 7)


def test_terms_never_go_back_along_a_log() -> None:
    """3.5: an entry of an earlier term after a later one is a bug."""
    with pytest.raises(AssertionError, match="terms never go back"):
        log_of([2]).append(entry(2, 1))
    with pytest.raises(AssertionError, match="after 1"):
        log_of([2]).append(entry(3, 2))


def test_what_was_forgotten_is_read_back() -> None:
    """Applied entries leave memory; the terms of all stay known."""
    log = stored(200)
    log.forget(190)
    assert [each.index for each in log.entries(150, 155, 1 << 20)] == list(range(150, 156))
    assert [each.index for each in log.entries(1, 500, 1 << 20)] == list(range(1, ENTRIES_IN_MEMORY_MAX + 1))
    assert terms(log) == terms(stored(200))


def test_what_is_not_applied_is_never_forgotten() -> None:
    """It may be truncated, and must be applied without a read."""
    log = log_of([1] * 200)
    log.forget(20)
    assert [each.index for each in log.entries(21, 200, 1 << 20)] == list(range(21, 201))


def test_large_entries_are_forgotten_sooner() -> None:
    """P8: memory is bounded by bytes, too."""
    log = Log([(0, 0)], 0, [], Load(lambda first, last: []))
    for index in range(1, 5):
        log.append(entry(index, 1, bytes(BYTES_IN_MEMORY_MAX)))
    log.forget(4)
    assert log.entries(1, 4, 1 << 30) == []
    assert len(log.entries(3, 4, 1 << 30)) == 2


def test_entries_stay_within_bytes_but_one_comes_always() -> None:
    """An entry larger than a message's bound must get through."""
    log = log_of([1] * 5)
    size = len(entry(1, 1).encoded)
    assert [len(log.entries(1, 5, bytes_max)) for bytes_max in (0, size, 2 * size, 100 * size)] == [1, 1, 2, 5]
    assert log.entries(6, 9, 100) == []


def test_the_beginning_of_a_log_can_be_dropped() -> None:
    """What every member has durably is needed no more; the term of the entry that stays first is known."""
    log = log_of([1, 1, 2, 2, 3])
    log.drop(4)
    assert (log.first_index, terms(log)) == (4, [None, None, None, None, 2, 3, None])
    assert log.last_of_term_at_most(5, 1) == 4
    log.append(entry(6, 3))
    assert [each.index for each in log.entries(5, 6, 100)] == [5, 6]


def test_one_probe_at_a_time_finds_where_the_logs_agree() -> None:
    """3.5 and 10.2.1: no entries follow each other before that is known."""
    progress = Progress(0, next=10)
    progress.sent(12, 50, 0, 0.0)
    assert (progress.may_send(), progress.next) == (False, 10)
    progress.rejected(5)
    assert (progress.may_send(), progress.next) == (True, 5)
    assert progress.matched(12)
    assert (progress.may_send(), progress.next, progress.match) == (True, 13, 12)


def test_messages_follow_each_other_within_bounds() -> None:
    """10.2.1: what is under way to a follower is bounded in number and in bytes (P8)."""
    for size, count in ((1, MESSAGES_IN_FLIGHT_MAX), (BYTES_IN_FLIGHT_MAX // 4, 4)):
        progress = Progress(0, next=1)
        progress.matched(0)
        sent = 0
        while progress.may_send():
            sent += 1
            progress.sent(progress.next, size, 0, 0.0)
        assert sent == count
        progress.matched(1)
        assert progress.may_send()


def test_a_follower_never_goes_back_behind_what_it_has_acknowledged() -> None:
    """Figure 2: matchIndex increases monotonically; late refusals and answers change nothing of that."""
    progress = Progress(0, next=10)
    progress.matched(9)
    progress.rejected(3)
    assert progress.next == 10
    assert not progress.matched(5)
    assert (progress.match, progress.next) == (9, 10)


@pytest.mark.parametrize(
    ("entries_max", "bytes_max", "index"),
    [(10, 1 << 20, 0), (9, 1 << 20, 6), (8, 1 << 20, 6), (10, 20, 8), (10, 0, 10)],
)
def test_the_newest_half_of_what_may_be_kept(entries_max: int, bytes_max: int, index: int) -> None:
    """Chapter 5: a log that has passed a bound goes back to half of it, so that this happens seldom."""
    log = log_of([1] * 10)
    size = len(entry(1, 1).encoded)
    assert log.overflow(entries_max, bytes_max * size // 4) == index


def test_bytes_are_those_of_the_entries_that_are_there() -> None:
    """Whatever is appended, dropped, truncated or replaced."""
    log = log_of([1, 1, 2, 2, 3])
    size = len(entry(1, 1).encoded)
    assert log.bytes == 5 * size
    log.drop(2)
    log.truncate(5)
    assert log.bytes == 2 * size
    log.reset(9, 4)
    assert (log.bytes, log.overflow(0, 0)) == (0, 9)


def test_dropped_entries_are_deleted_once_and_a_few_at_a_time() -> None:
    """P8: a long log that goes at once must not hold everything up."""
    log = log_of([1] * 9)
    log.drop(7)
    assert [list(log.take_dropped(4)) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6], []]


def test_a_log_that_is_replaced_goes_on_after_the_snapshot() -> None:
    """Figure 5.3, step 7: nothing of it counts any more, what storage has of it is deleted."""
    log = log_of([1, 1, 1])
    log.reset(7, 3)
    assert (log.first_index, log.last_index, log.last_term, log.term(3), log.term(7)) == (7, 7, 3, None, 3)
    log.append(entry(8, 3))
    assert [each.index for each in log.entries(8, 9, 100)] == [8]
    assert list(log.take_dropped(100)) == list(range(7))
