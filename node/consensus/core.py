"""One replica of one group, as a pure core: what it appends, what is committed, whether it may answer reads.

The shell (`groups.py`) asks it once per tick what is `ready`, stores that for all groups in one write and one sync, and
tells it what has become durable. The rules are Raft's; the numbers name sections of Ongaro's dissertation.
This replica is the sole voter of its group: it is elected by its own vote, and its own durable copy is a majority.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...api.proto.ringhold.storage.v1.records_pb2 import HardState, LogEntry

Ticket = TypeVar("Ticket")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a replica finds on its disk: vote, applied state, and the log entries after it, by index."""

    term: int
    applied_index: int
    log_time_ms: int
    entries: Sequence[tuple[int, LogEntry]]


@dataclass(frozen=True, slots=True)
class Committed(Generic[Ticket]):
    """An entry to apply, with the tickets of its commands (none for an entry of an earlier life)."""

    index: int
    entry: LogEntry
    tickets: Sequence[Ticket]


@dataclass(frozen=True, slots=True)
class Opened(Generic[Ticket]):
    """A command that waits for its entry."""

    command: bytes
    ticket: Ticket
    weight: int


class Replica(Generic[Ticket]):
    """Leader of a group of one. A `Ticket` is whatever the shell wants back with the outcome of a command."""

    def __init__(self, node_id: str, recovered: Recovered) -> None:
        self._node_id = node_id
        self.term = recovered.term
        self.applied_index = recovered.applied_index
        self.commit_index = recovered.applied_index
        self.last_index = recovered.applied_index
        self._log_time_ms = max(1, recovered.log_time_ms)  # 0 stands for an anchor that is not set
        self._office_began = 0.0
        self._term_began_index: int | None = None
        self._open: list[Opened[Ticket]] = []
        self._uncommitted: list[Committed[Ticket]] = []
        for index, entry in recovered.entries:
            self.last_index = index
            self._log_time_ms = max(self._log_time_ms, entry.log_time_ms)
            self._uncommitted.append(Committed(index, entry, ()))

    def campaign(self, now: float) -> tuple[HardState, list[tuple[int, LogEntry]]]:
        """Win the election of a group of one: the vote to make durable, and the first entry of the new term.

        The vote must be durable before the entry counts (section 3.4, figure 2); one sync makes both so. The empty
        entry commits what earlier terms left behind, which no counting of copies may do (section 3.6.2).
        """
        self.term += 1
        self._office_began = now
        self._term_began_index = self.last_index + 1
        return HardState(term=self.term, voted_for=self._node_id), self._append([], [], now)

    @property
    def leads(self) -> bool:
        return self._term_began_index is not None

    @property
    def may_read(self) -> bool:
        """Whether a read of the applied rows sees every acknowledged write.

        What earlier terms acknowledged precedes this term's first entry, so that must be applied (section 6.4, step 1);
        what this term acknowledged was applied here first.
        """
        return self._term_began_index is not None and self.applied_index >= self._term_began_index

    def log_time_ms(self, now: float) -> int:
        """Newest log time in the log plus the time in office: never goes back while this replica leads."""
        if not self.leads:
            return self._log_time_ms
        return self._log_time_ms + int((now - self._office_began) * 1000)

    def propose(self, command: bytes, ticket: Ticket, weight: int = 1) -> None:
        """Put a command into the open entry. `weight` is how many mutations it has: what applying it will take."""
        assert self.leads, "a command was proposed to a replica that does not lead"
        self._open.append(Opened(command, ticket, weight))

    @property
    def has_open(self) -> bool:
        """Whether proposed commands wait for `ready`."""
        return bool(self._open)

    def ready(self, now: float, weight_max: int, bytes_max: int) -> list[tuple[int, LogEntry]]:
        """The entries to store now: one with the first open commands, up to the bounds; or none."""
        if not self._open:
            return []
        count = within_bounds([(opened.weight, len(opened.command)) for opened in self._open], weight_max, bytes_max)
        taken = self._open[:count]
        del self._open[:count]
        return self._append([opened.command for opened in taken], [opened.ticket for opened in taken], now)

    def persisted(self, index: int) -> None:
        """The log is durable up to `index`: the own copy, a majority of one, counts only now (figure 2; P1)."""
        self.commit_index = max(self.commit_index, index)

    def take_committed(self) -> list[Committed[Ticket]]:
        """Committed entries that have not been taken, to be applied in this order."""
        count = sum(1 for committed in self._uncommitted if committed.index <= self.commit_index)
        taken = self._uncommitted[:count]
        del self._uncommitted[:count]
        return taken

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        assert self.applied_index <= index <= self.commit_index, "applied past the commit index"
        self.applied_index = index

    def _append(self, commands: list[bytes], tickets: list[Ticket], now: float) -> list[tuple[int, LogEntry]]:
        self.last_index += 1
        entry = LogEntry(term=self.term, log_time_ms=self.log_time_ms(now), commands=commands)
        self._uncommitted.append(Committed(self.last_index, entry, tickets))
        return [(self.last_index, entry)]


def within_bounds(commands: Sequence[tuple[int, int]], weight_max: int, bytes_max: int) -> int:
    """How many of the first commands, each a (weight, bytes), fit; one at least.

    >>> within_bounds([(1, 3), (1, 1), (1, 1)], 2, 10), within_bounds([(1, 3), (1, 1)], 2, 3)
    (2, 1)
    """
    weight = size = 0
    for count, (command_weight, command_bytes) in enumerate(commands):
        weight += command_weight
        size += command_bytes
        if count and (weight > weight_max or size > bytes_max):
            return count
    return len(commands)
