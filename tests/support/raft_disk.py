"""The disk of one replica: over a crash it keeps all that was synced, and a prefix of what was written after that.

What a replica finds there is read by the real recovery (node/consensus/recovery.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from xxhash import xxh3_64_intdigest

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState, ReplicaRecord
from ringhold.node import keyspace
from ringhold.node.consensus.configuration import Configuration
from ringhold.node.consensus.log import Entry
from ringhold.node.consensus.recovery import recovered
from ringhold.node.consensus.states import Installed, Recovered, Writes
from ringhold.node.replica_record import HEALTHY, INSTALLING
from ringhold.node.storage.envelope import seal

if TYPE_CHECKING:
    from ringhold.node.storage.engine import Engine

Batch = Callable[["Stored"], None]


@dataclass
class Stored:
    """What an engine holds of a replica. Without good rows it says where they stood."""

    number: int
    configuration_index: int
    configuration: Configuration
    term: int = 0
    voted_for: str = ""
    applied_index: int = 0
    applied_term: int = 0
    log_time_ms: int = 0
    rows: int = 0
    """A digest of all that was applied, in its order."""
    is_healthy: bool = True
    entries: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Stored":
        return replace(self, entries=dict(self.entries))

    @property
    def snapshot(self) -> "Snapshot":
        """The rows as they are now."""
        said = Installed(
            self.applied_index, self.applied_term, self.log_time_ms, self.configuration_index, self.configuration
        )
        return Snapshot(said, self.rows)


@dataclass(frozen=True)
class Snapshot:
    """The rows of one applied index, and what it says beside them."""

    said: Installed
    rows: int


class Disk:
    """Batches in the order in which they were written; those that are not synced may be lost, the newest first."""

    def __init__(self, stored: Stored) -> None:
        self.view = stored
        self.synced = stored.copy()
        self._batches: list[Batch] = []

    @property
    def written(self) -> int:
        return len(self._batches)

    @property
    def is_healthy(self) -> bool:
        """Whether the rows are good, and stay so whatever a crash may lose."""
        return self.view.is_healthy and self.synced.is_healthy

    def write(self, batch: Batch) -> None:
        batch(self.view)
        self._batches.append(batch)

    def sync(self, count: int) -> None:
        for batch in self._batches[:count]:
            batch(self.synced)
        del self._batches[:count]

    def crash(self, kept: int) -> None:
        """Lose all but the first `kept` batches that were not synced."""
        self.sync(kept)
        self._batches.clear()
        self.view = self.synced.copy()

    def get(self, key: bytes) -> bytes | None:
        """As an engine: of a replica it holds the vote besides the log."""
        return seal(HardState(term=self.view.term, voted_for=self.view.voted_for).SerializeToString())

    def scan(self, start: bytes, end: bytes, *, limit: int) -> list[tuple[bytes, bytes]]:
        """As an engine: rows of the log."""
        first = keyspace.split_log_key(start[:LOG_KEY_LENGTH])[1] if len(start) >= LOG_KEY_LENGTH else 0
        found: list[tuple[bytes, bytes]] = []
        for index in sorted(index for index in self.view.entries if index >= first):
            key = keyspace.log_key(GROUP, index)
            if start <= key < end and len(found) < limit:
                found.append((key, seal(self.view.entries[index])))
        return found

    def recovered(self) -> Recovered:
        stored = self.view
        record = ReplicaRecord(status=HEALTHY if stored.is_healthy else INSTALLING, replica_id=stored.number)
        state = GroupState(
            applied_index=stored.applied_index,
            applied_term=stored.applied_term,
            log_time_ms=stored.log_time_ms,
            configuration=stored.configuration.encode(),
            configuration_index=stored.configuration_index,
        )
        return recovered(cast("Engine", self), GROUP, record, state)


GROUP = 7
LOG_KEY_LENGTH = len(keyspace.log_key(GROUP, 0))


def log_batch(writes: Writes) -> Batch:
    def write(stored: Stored) -> None:
        for index in writes.removed:
            stored.entries.pop(index, None)
        stored.entries.update((entry.index, entry.encoded) for entry in writes.entries)
        if writes.hard_state is not None:
            stored.term, stored.voted_for = writes.hard_state.term, writes.hard_state.voted_for

    return write


def applied_batch(entry: Entry) -> Batch:
    def write(stored: Stored) -> None:
        assert entry.index in stored.entries, "applied before its entry was written"
        assert stored.is_healthy, "applied to rows that are not good"
        assert entry.index == stored.applied_index + 1, "applied out of order"
        stored.applied_index, stored.applied_term = entry.index, entry.term
        stored.log_time_ms = entry.content.log_time_ms
        stored.rows = rows_after(stored.rows, entry.encoded)
        if entry.content.HasField("configuration"):
            stored.configuration_index = entry.index
            stored.configuration = Configuration.decode(entry.content.configuration)

    return write


def rows_after(rows: int, encoded: bytes) -> int:
    """What the rows are once an entry is applied to them."""
    return xxh3_64_intdigest(encoded, rows)


def drop_batch(dropped: Iterable[int]) -> Batch:
    def write(stored: Stored) -> None:
        for index in dropped:
            stored.entries.pop(index, None)

    return write


def give_up_batch(stored: Stored) -> None:
    """The rows are bad, or about to be replaced."""
    stored.is_healthy = False


def install_batch(snapshot: Snapshot, contradicted: Iterable[int]) -> Batch:
    """The last batch of an installation."""

    def write(stored: Stored) -> None:
        for index in contradicted:
            stored.entries.pop(index, None)
        said = snapshot.said
        stored.applied_index, stored.applied_term = said.index, said.term
        stored.log_time_ms, stored.rows = said.log_time_ms, snapshot.rows
        stored.configuration_index, stored.configuration = said.configuration_index, said.configuration
        stored.is_healthy = True

    return write
