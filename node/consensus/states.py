"""What a replica's core and its shell hand to each other, and the small states that have rules of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Generic, Protocol, TypeVar

from ...api.proto.ringhold.storage.v1.records_pb2 import HardState
from .configuration import Configuration
from .log import Entry, Log
from .messages import Outbound

VOUCHED_MAX = 8

Ticket = TypeVar("Ticket")


class Rng(Protocol):
    """The part of `random.Random` in use; the owner injects a seeded or a real one."""

    def uniform(self, a: float, b: float) -> float:
        """A number between the two."""


class Role(Enum):
    """What a replica is in its term (figure 2; the pre-candidate is of section 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a replica finds on its disk.

    `log` holds what follows `applied_index` in memory; `log_time_ms` is the newest in it. `configurations` are those in
    the log that may still be undone, oldest first, with the index of their entries; the first is the applied one.
    """

    number: int
    hard_state: HardState
    applied_index: int
    log_time_ms: int
    log: Log
    configurations: Sequence[tuple[int, Configuration]]
    is_healthy: bool = True
    """Whether the rows can be used: otherwise they wait for a snapshot."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What a snapshot says beside its rows: it has applied everything up to `index`, an entry of `term`."""

    index: int
    term: int
    log_time_ms: int
    configuration_index: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class LogBounds:
    """How much of the log is kept for members that are behind; who is further behind gets a snapshot.

    When a bound is passed, the older half goes. Raising them lets a member be away for longer before it costs a
    snapshot; lowering them saves disk. For a snapshot that is under way up to `stretch` times as much is kept.
    """

    entries_max: int = 10_000
    bytes_max: int = 4 * 1024 * 1024
    stretch: int = 4


@dataclass(slots=True)
class Writes:
    """What a tick stores for a replica: log entries from `entries[0].index` on, the vote (None: unchanged).

    `removed` are log indexes to delete, before the entries are put. `messages` may leave once all is durable; then
    `persisted(mark)` is due.
    """

    entries: Sequence[Entry] = ()
    removed: range = range(0)
    hard_state: HardState | None = None
    messages: Sequence[Outbound] = ()
    mark: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Committed(Generic[Ticket]):
    """An entry to apply, with the tickets of its commands (none if another replica or an earlier life took them)."""

    entry: Entry
    tickets: Sequence[Ticket]


@dataclass(slots=True)
class Freshness:
    """How old the applied rows may be: moments of this clock after which a leader vouched for a commit index."""

    settled: float | None = None
    pending: list[tuple[int, float]] = field(default_factory=list)

    def vouched(self, commit: int, moment: float) -> None:
        if len(self.pending) == VOUCHED_MAX:
            self.pending.pop()
        self.pending.append((commit, moment))

    def as_of(self, applied_index: int) -> float | None:
        """The newest moment whose state, or a later one, is applied."""
        settled = [moment for commit, moment in self.pending if commit <= applied_index]
        if settled:
            self.settled = max([*settled, self.settled or -inf])
            self.pending = [(commit, moment) for commit, moment in self.pending if commit > applied_index]
        return self.settled
