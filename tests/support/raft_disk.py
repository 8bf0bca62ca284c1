"""The disk of one replica: over a crash it keeps all that was synced, and a prefix of what was written after that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState
from ringhold.node.consensus.configuration import Configuration
from ringhold.node.consensus.log import Entry, Load, Log, received
from ringhold.node.consensus.states import Recovered, Writes

Batch = Callable[["Stored"], None]


@dataclass
class Stored:
    """What an engine holds of a replica."""

    number: int
    configuration_index: int
    configuration: Configuration
    term: int = 0
    voted_for: str = ""
    applied_index: int = 0
    log_time_ms: int = 0
    first: tuple[int, int] = (0, 0)
    entries: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Stored":
        return Stored(**{**self.__dict__, "entries": dict(self.entries)})


class Disk:
    """Batches in the order in which they were written; those that are not synced may be lost, the newest first."""

    def __init__(self, stored: Stored) -> None:
        self.view = stored
        self._synced = stored.copy()
        self._batches: list[Batch] = []

    @property
    def written(self) -> int:
        return len(self._batches)

    def write(self, batch: Batch) -> None:
        batch(self.view)
        self._batches.append(batch)

    def sync(self, count: int) -> None:
        for batch in self._batches[:count]:
            batch(self._synced)
        del self._batches[:count]

    def crash(self, kept: int) -> None:
        """Lose all but the first `kept` batches that were not synced."""
        self.sync(kept)
        self._batches.clear()
        self.view = self._synced.copy()

    def load(self, first: int, last: int) -> Sequence[Entry]:
        return [received(index, self.view.entries[index]) for index in range(first, last + 1)]

    def recovered(self) -> Recovered:
        stored = self.view
        last = max(stored.entries, default=stored.first[0])
        entries = self.load(stored.first[0] + 1, last)
        terms = [stored.first]
        terms += [(each.index, each.term) for each in entries]
        starts = [terms[0], *(new for old, new in pairwise(terms) if old[1] != new[1])]
        tail = [each for each in entries if each.index > stored.applied_index]
        later = [
            (each.index, Configuration.decode(each.content.configuration))
            for each in tail
            if each.content.HasField("configuration")
        ]
        return Recovered(
            number=stored.number,
            hard_state=HardState(term=stored.term, voted_for=stored.voted_for),
            applied_index=stored.applied_index,
            log_time_ms=max([stored.log_time_ms, *(each.content.log_time_ms for each in tail)]),
            log=Log(starts, last, tail, Load(self.load)),
            configurations=[(stored.configuration_index, stored.configuration), *later],
        )


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
        stored.applied_index = entry.index
        stored.log_time_ms = entry.content.log_time_ms
        if entry.content.HasField("configuration"):
            stored.configuration_index = entry.index
            stored.configuration = Configuration.decode(entry.content.configuration)

    return write


def drop_batch(index: int, term: int) -> Batch:
    def write(stored: Stored) -> None:
        stored.first = (index, term)
        for gone in [each for each in stored.entries if each < index]:
            del stored.entries[gone]

    return write
