"""Staged reads: the engine as it will be once the batch is written."""

from support.rows import Rows

from ringhold.node.machine.staged import CACHED_KEYS_MAX, Staged
from ringhold.node.storage.engine import WriteBatch


def staged(content: dict[bytes, bytes]) -> tuple[Staged, Rows]:
    rows = Rows()
    rows.content = content
    return Staged(rows, WriteBatch()), rows


def test_get_sees_pending_writes() -> None:
    """A pending put hides the stored value, a pending delete hides it too, an empty value is a value."""
    view, _ = staged({b"a": b"1", b"b": b"2", b"c": b"3"})
    view.put(b"a", b"")
    view.delete(b"b")
    assert [view.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"", None, b"3", None]


def test_prefetch_reads_once() -> None:
    """What was prefetched costs no further read, absent keys included; pending keys are not read at all."""
    view, rows = staged({b"a": b"1", b"b": b"2"})
    view.put(b"b", b"3")
    view.prefetch([b"a", b"b", b"absent"])
    assert rows.reads == 1
    assert [view.get(key) for key in (b"a", b"b", b"absent")] == [b"1", b"3", None]
    view.delete(b"a")
    assert view.get(b"a") is None
    assert rows.reads == 1


def test_prefetch_is_bounded() -> None:
    """The cache forgets what it holds before it grows over its limit; answers stay right."""
    view, rows = staged({b"a": b"1"})
    view.prefetch([b"a"])
    view.prefetch([b"%d" % number for number in range(CACHED_KEYS_MAX)])
    reads = rows.reads
    assert view.get(b"a") == b"1"
    assert rows.reads == reads + 1


def test_scan_merges_pending_writes() -> None:
    """A scan has pending puts in their places, no pending deletes, and is still filled up to its limit."""
    view, _ = staged({b"%d" % number: b"" for number in range(1, 9)})
    view.put(b"25", b"new")
    view.put(b"9", b"outside")
    view.delete(b"2")
    view.delete(b"4")
    assert [key for key, _ in view.scan(b"1", b"9", limit=4)] == [b"1", b"25", b"3", b"5"]
    assert [key for key, _ in view.scan(b"1", b"9", limit=99)] == [b"1", b"25", b"3", b"5", b"6", b"7", b"8"]
