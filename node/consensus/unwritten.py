"""What of a replica's log and vote was not handed to storage yet, and what may be told once it is durable."""

from ...api.proto.ringhold.storage.v1.records_pb2 import HardState
from .log import Log
from .messages import Outbound
from .states import Writes

ALL = 1 << 62


class Unwritten:
    """Kept by the core; the shell takes it once per tick."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.index = log.last_index
        """Entries up to here were handed to storage, `durable_index` of them are known to be durable there."""
        self.durable_index = log.last_index
        self.vote_changed = False
        self.messages: list[Outbound] = []
        """They rest on what is not durable yet."""
        self._removed = range(0)

    def __bool__(self) -> bool:
        return bool(self.messages or self.vote_changed or self.index < self._log.last_index)

    @property
    def is_only_messages(self) -> bool:
        """Whether there is nothing to store."""
        return self.index == self._log.last_index and not self.vote_changed and not self._removed

    def take(self, term: int, voted_for: str) -> Writes:
        """All of it, to be stored now."""
        messages, self.messages = self.messages, []
        hard_state = HardState(term=term, voted_for=voted_for) if self.vote_changed else None
        entries = self._log.entries(self.index + 1, self._log.last_index, ALL)
        removed, self._removed = self._removed, range(0)
        self.vote_changed = False
        self.index = self._log.last_index
        mark = (term, self._log.last_index, self._log.last_term)
        return Writes(entries, removed, hard_state, messages, mark)

    def persisted(self, index: int, term: int) -> None:
        """What was taken, and ended with this entry, is durable.

        If that entry is still there, all before it is durable too (log matching, 3.5); if it was replaced meanwhile,
        what replaced it is not durable yet.
        """
        if self._log.term(index) == term:
            self.durable_index = max(self.durable_index, index)

    def truncate(self, index: int) -> None:
        """The entries from `index` on are removed; those that were stored must be deleted there, too."""
        stored_end = self.stored_end
        if index < stored_end:
            start = min(index, self._removed.start) if self._removed else index
            self._removed = range(start, stored_end)
        self.index = min(self.index, index - 1)
        self.durable_index = min(self.durable_index, index - 1)

    @property
    def stored_end(self) -> int:
        """Storage holds nothing from this index on, be it of this log or of what was removed from it."""
        return max(self.index + 1, self._removed.stop)

    def skip(self, index: int) -> None:
        """What is up to `index` is never handed to storage: rows that are there already do without it."""
        self.index = max(self.index, index)

    def reset(self, index: int) -> None:
        """The log goes on after `index`; what contradicted that is deleted from storage already."""
        self.index = self.durable_index = index
        self._removed = range(0)
