"""What a leader knows of another replica's log, and how much it may send before it hears of it (Ongaro, 10.2)."""

from collections import deque
from dataclasses import dataclass, field
from math import inf

ENTRIES_PER_MESSAGE_MAX = 64
BYTES_PER_MESSAGE_MAX = 256 * 1024
BYTES_IN_FLIGHT_MAX = 1024 * 1024
MESSAGES_IN_FLIGHT_MAX = 64
"""Raising these lets a follower lag further behind without waiting, at the cost of memory in both."""


@dataclass(slots=True)
class Progress:
    """`match`: the follower has the log up to here durably; `next`: the entry to send next.

    While `probing` it is not known where the logs agree: one message at a time finds out (section 3.5). Otherwise
    messages follow each other without waiting, for a session brings them all, in order, or ends.
    """

    number: int
    next: int
    match: int = 0
    probing: bool = True
    waiting: bool = False
    """A probe is under way."""
    followed_epoch: int = 0
    """The follower's support epoch when it last acknowledged this term; 0: it has not."""
    commit_told: int = 0
    sent_at: float = 0.0
    needs_snapshot: bool = False
    """It says so itself: its rows can't be used, whatever its log has."""
    is_gone: bool = False
    """It says so itself: it never votes or acknowledges again."""
    gone_since: int = 0
    """The generation of its node that said so."""
    offered_at: float = -inf
    snapshot_index: int | None = None
    """A snapshot of this index is on its way to it: it will need what follows."""
    snapshot_until: float = -inf
    """If nothing more is heard of the snapshot by then, it is given up."""
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    _bytes_in_flight: int = 0

    def may_send(self) -> bool:
        if self.is_gone:
            return False
        if self.probing:
            return not self.waiting
        return len(self._in_flight) < MESSAGES_IN_FLIGHT_MAX and self._bytes_in_flight < BYTES_IN_FLIGHT_MAX

    def sent(self, last_index: int, size: int, commit: int, now: float) -> None:
        """A message with entries up to `last_index` is under way."""
        self.sent_at = now
        self.commit_told = max(self.commit_told, min(commit, last_index))
        if self.probing:
            self.waiting = True
        elif size:
            self.next = last_index + 1
            self._in_flight.append((last_index, size))
            self._bytes_in_flight += size

    def matched(self, index: int) -> bool:
        """The follower has the log up to `index`; whether that is news."""
        is_news = index > self.match
        self.match = max(self.match, index)
        if self.probing:
            self.probing = self.waiting = False
            self.next = self.match + 1
            self._clear()
        self.next = max(self.next, self.match + 1)
        while self._in_flight and self._in_flight[0][0] <= self.match:
            self._bytes_in_flight -= self._in_flight.popleft()[1]
        return is_news

    def end_snapshot(self, now: float) -> None:
        """Note that the snapshot under way has arrived, or was given up."""
        has_arrived = not self.needs_snapshot and self.match >= (self.snapshot_index or 0)
        if has_arrived or now >= self.snapshot_until:
            self.snapshot_index = None

    def rejected(self, next_index: int) -> None:
        """The logs differ before `next`: try earlier."""
        self.probe(max(self.match + 1, min(next_index, self.next - 1)))

    def probe_again(self) -> None:
        """What was under way may be lost: ask from where the logs are known to agree, or go on asking."""
        self.probe(self.next if self.probing else self.match + 1)

    def probe(self, next_index: int) -> None:
        """Find out anew where the logs agree."""
        self.probing = True
        self.waiting = False
        self.commit_told = 0
        self.offered_at = -inf
        self.next = next_index
        self._clear()

    def _clear(self) -> None:
        self._in_flight.clear()
        self._bytes_in_flight = 0
