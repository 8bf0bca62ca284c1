"""The log of one replica: its youngest entries in memory, the others where the engine keeps them.

Entries that are not applied are always in memory; older ones are read again only for a follower that was away. Terms
only grow along a log (section 3.5), so the few places where they change say the term of every entry.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...api.proto.ringhold.storage.v1.records_pb2 import LogEntry

ENTRIES_IN_MEMORY_MAX = 64
"""Applied entries kept in memory for followers that are a little behind."""

BYTES_IN_MEMORY_MAX = 128 * 1024


@dataclass(slots=True)
class Entry:
    """An entry of the log: as it is stored and sent, and as it is read."""

    index: int
    term: int
    encoded: bytes
    content: LogEntry


def made(index: int, content: LogEntry) -> Entry:
    """An entry to be appended."""
    return Entry(index, content.term, content.SerializeToString(), content)


def received(index: int, encoded: bytes) -> Entry:
    """An entry that another replica made. Raises DecodeError."""
    content = LogEntry.FromString(encoded)
    return Entry(index, content.term, encoded, content)


class EntryLost(Exception):
    """An entry that memory does not hold any more can't be read back."""


class Load:
    """What reads entries back: `entries(first, last)`, all of them, from storage. Raises EntryLost."""

    def __init__(self, entries: Callable[[int, int], Sequence[Entry]]) -> None:
        self.entries = entries


class Log:
    """Entries `first_index` … `last_index`; what came before has been dropped."""

    def __init__(
        self,
        terms: Sequence[tuple[int, int]],
        last_index: int,
        tail: Iterable[Entry],
        load: Load,
        *,
        sizes: Sequence[int] = (),
        stored_from: int | None = None,
    ) -> None:
        """`terms`: where each term begins, (index, term), the first being that of the oldest entry known of.

        The tail is what must be in memory: entries up to `last_index`, without gaps. `sizes`: the bytes of the entries
        that end with the last one. `stored_from`: storage may hold entries from there on, though the log begins later.
        """
        self._term_starts = [index for index, _ in terms]
        self._terms = [term for _, term in terms]
        self.last_index = last_index
        self._tail = list(tail)
        self._tail_bytes = sum(len(entry.encoded) for entry in self._tail)
        self._load = load
        assert not self._tail or self._tail[-1].index == last_index
        known = sizes or [len(entry.encoded) for entry in self._tail]
        self._sizes = array("I", [0] * (last_index - self.first_index - len(known)))
        self._sizes.extend(known[-(last_index - self.first_index) :] if last_index > self.first_index else ())
        self.bytes = sum(self._sizes)
        self._stored_from = self.first_index if stored_from is None else stored_from

    @property
    def first_index(self) -> int:
        """Of the oldest entry that is there, or would be there; the terms are known from here on."""
        return self._term_starts[0]

    @property
    def last_term(self) -> int:
        return self._terms[-1]

    @property
    def _tail_start(self) -> int:
        return self.last_index + 1 - len(self._tail)

    def term(self, index: int) -> int | None:
        """The term of the entry; None if it is dropped or not there yet. Before the very first entry the term is 0."""
        if not self._term_starts[0] <= index <= self.last_index:
            return None
        return self._terms[bisect_right(self._term_starts, index) - 1]

    def last_of_term_at_most(self, index: int, term: int) -> int:
        """The newest entry, not after `index`, whose term is at most `term`; the oldest known if none is."""
        at = min(index, self.last_index)
        while at > self.first_index and (self.term(at) or 0) > term:
            at = self._term_starts[bisect_right(self._term_starts, at) - 1] - 1
        return max(at, self.first_index)

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last_index + 1, f"entry {entry.index} after {self.last_index}"
        assert entry.term >= self.last_term, "terms never go back along a log"
        if entry.term > self.last_term:
            self._term_starts.append(entry.index)
            self._terms.append(entry.term)
        self._tail.append(entry)
        self._tail_bytes += len(entry.encoded)
        self._sizes.append(len(entry.encoded))
        self.bytes += len(entry.encoded)
        self.last_index = entry.index

    def truncate(self, index: int) -> None:
        """Remove the entries from `index` on: a leader of a later term has others there (section 3.5)."""
        assert index >= self._tail_start, "an entry that may be committed would be removed"
        removed = self._tail[index - self._tail_start :]
        del self._tail[index - self._tail_start :]
        size = sum(len(entry.encoded) for entry in removed)
        self._tail_bytes -= size
        self.bytes -= size
        del self._sizes[len(self._sizes) - len(removed) :]
        self.last_index = index - 1
        while self._term_starts[-1] > self.last_index:
            self._term_starts.pop()
            self._terms.pop()

    def entries(self, first: int, last: int, bytes_max: int) -> Sequence[Entry]:
        """The entries first … last, or the first of them that fit into `bytes_max`; one at least, if there is one.

        Raises EntryLost; then what is applied should be dropped.
        """
        wanted: list[Entry] = []
        size = 0
        for entry in self._between(first, min(last, self.last_index)):
            size += len(entry.encoded)
            if wanted and size > bytes_max:
                break
            wanted.append(entry)
        return wanted

    def remembered(self, index: int) -> Entry | None:
        """The entry, if it is in memory."""
        return self._tail[index - self._tail_start] if self._tail_start <= index <= self.last_index else None

    def _between(self, first: int, last: int) -> Sequence[Entry]:
        start = self._tail_start
        if first >= start:
            return self._tail[first - start : last + 1 - start]
        return self._load.entries(first, min(last, start - 1, first + ENTRIES_IN_MEMORY_MAX - 1))

    def forget(self, applied_index: int) -> None:
        """Let go of applied entries that are more than memory should hold; storage keeps them."""
        if len(self._tail) <= ENTRIES_IN_MEMORY_MAX and self._tail_bytes <= BYTES_IN_MEMORY_MAX:
            return
        start = self._tail_start
        count = min(len(self._tail) - ENTRIES_IN_MEMORY_MAX // 2, applied_index + 1 - start)
        if count <= 0 and self._tail_bytes > BYTES_IN_MEMORY_MAX:
            count = min(len(self._tail) // 2, applied_index + 1 - start)
        if count > 0:
            self._tail_bytes -= sum(len(entry.encoded) for entry in self._tail[:count])
            del self._tail[:count]

    def overflow(self, entries_max: int, bytes_max: int) -> int:
        """Where the newest half of what may be kept begins, if more is kept than may be; else where the log begins."""
        first = self.first_index
        if self.last_index - first <= entries_max and self.bytes <= bytes_max:
            return first
        index = max(first, self.last_index - entries_max // 2)
        size = sum(self._sizes[index - first :])
        while size > bytes_max // 2 and index < self.last_index:
            size -= self._sizes[index - first]
            index += 1
        return index

    def take_dropped(self, count_max: int) -> range:
        """Indexes of dropped entries to delete from storage, oldest first; each is given once."""
        start = self._stored_from
        self._stored_from = min(max(start, self.first_index), start + count_max)
        return range(start, self._stored_from)

    @property
    def has_dropped(self) -> bool:
        """Whether storage may still hold dropped entries."""
        return self._stored_from < self.first_index

    def reset(self, index: int, term: int) -> None:
        """Nothing of this log counts any more: it goes on after `index`, whose term is `term`."""
        self._term_starts, self._terms = [index], [term]
        self.last_index = index
        self._tail.clear()
        self._sizes = array("I")
        self._tail_bytes = self.bytes = 0

    def drop(self, index: int) -> None:
        """The entries before `index` are not needed any more; its own term stays known."""
        term = self.term(index)
        assert term is not None, "the entry that stays is not there"
        count = index - self.first_index
        self.bytes -= sum(self._sizes[:count])
        del self._sizes[:count]
        position = bisect_right(self._term_starts, index) - 1
        self._term_starts[: position + 1] = [index]
        self._terms[: position + 1] = [term]
        if index > self._tail_start:
            gone = self._tail[: index - self._tail_start]
            self._tail_bytes -= sum(len(entry.encoded) for entry in gone)
            del self._tail[: len(gone)]
