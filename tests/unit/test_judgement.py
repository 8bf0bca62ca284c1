"""The judge of the tests with real processes: what it lets pass, no test of the cluster finds."""

from simulation.history import Found, History, Page, Query, Read
from support.judgement import complaints, disagreement, lost_writes

ENTRIES = frozenset({("colour", b"red")})
QUERY = Query("colour", None, None, descending=False, limit=10, with_records=True)


def history_of_one_key() -> History:
    """Two acknowledged Sets, one after the other, of which the second has an index entry."""
    history = History()
    for version in (1, 2):
        mutation = history.begin(b"key", b"value-%d" % version, ENTRIES if version == 2 else frozenset(), version)
        mutation.done(version, version + 0.5)
    return history


def read_of(version: int, at: float = 5.0) -> Read:
    entries = ENTRIES if version == 2 else frozenset()
    return Read(b"key", b"value-%d" % version if version else None, version, entries, at, at + 0.5)


def walk_of(*found: Found) -> Page:
    return Page(QUERY, None, found, False, (), 5.0, 5.5, 5.0)


FOUND = Found((b"red", b"key"), b"value-2", 2)


def test_what_is_right_passes() -> None:
    """A history in which every read and every walk sees the last Set has no complaint."""
    history = history_of_one_key()
    history.reads.append(read_of(2))
    history.pages.append(walk_of(FOUND))
    assert complaints(history) == []
    assert lost_writes(history, history.reads) == []
    assert disagreement(history.reads, history.pages[0]) is None


def test_a_stale_read_is_told_with_its_history() -> None:
    """A read of the first Set after the second was acknowledged breaks P2, and the complaint lists the operations."""
    history = history_of_one_key()
    history.reads.append(read_of(1))
    (complaint,) = complaints(history)
    assert "the history of b'key'" in complaint
    assert "Set b'value-2': done, version 2" in complaint


def test_a_lost_write_is_found() -> None:
    """A last state without, or older than, an acknowledged Set breaks P1."""
    history = history_of_one_key()
    assert len(lost_writes(history, [read_of(1)])) == 1
    assert len(lost_writes(history, [read_of(0)])) == 1


def test_a_delete_in_doubt_explains_an_absent_record() -> None:
    """It may have happened after the Set."""
    history = history_of_one_key()
    history.begin(b"key", None, frozenset(), 3.0)
    assert lost_writes(history, [read_of(0)]) == []


def test_an_index_that_differs_from_the_rows_is_found() -> None:
    """An entry without its row, a row without its entry, and one found twice."""
    assert disagreement([read_of(1)], walk_of(FOUND)) is not None
    assert disagreement([read_of(2)], walk_of()) is not None
    assert disagreement([read_of(2)], walk_of(FOUND, FOUND)) is not None


def test_a_walk_that_misses_a_match_is_told() -> None:
    """An entry that was there all the time must be found (P4)."""
    history = history_of_one_key()
    history.pages.append(walk_of())
    (complaint,) = complaints(history)
    assert "is missing" in complaint
    assert "the history of b'key'" in complaint
