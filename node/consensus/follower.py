"""The log of one replica as others write it: entries and snapshots of the leader, and what they contradict.

Part of the core (core.py), whose replica it belongs to. The rules are those of the dissertation's figure 2 and section
3.5 for entries, and of chapter 5 for snapshots, which here arrive on a way of their own (docs/protocols/consensus.md).
"""

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from .log import Entry, received
from .messages import APPENDED, Outbound
from .states import Installed

if TYPE_CHECKING:
    from .core import Replica

Ticket = TypeVar("Ticket")


class Follower(Generic[Ticket]):
    """What a replica does to its log at another's word."""

    def __init__(self, replica: "Replica[Ticket]") -> None:
        self._replica = replica
        self._offered_from = 0

    @property
    def needs_snapshot(self) -> bool:
        """Whether entries are of no use here: the rows are bad, or the leader's log begins too late."""
        return not self._replica.is_healthy or self._replica.commit_index < self._offered_from

    def append_received(self, source: str, message: RaftMessage, sent_after: float | None) -> None:
        """Figure 2, AppendEntries. Entries up to the commit index are in the log of every leader that can commit."""
        replica = self._replica
        last_new = message.index + len(message.entries)
        if self._contradicts_committed(message):
            return
        if message.index > replica.commit_index and replica.log.term(message.index) != message.log_term:
            self._refuse(source, message)
            return
        self._offered_from = 0
        for index, encoded in enumerate(message.entries, message.index + 1):
            if index > replica.commit_index:
                self._take_entry(received(index, encoded))
        replica.everywhere = max(replica.everywhere, message.everywhere)
        # Beyond the last entry of the message the logs may differ (figure 2, AppendEntries, rule 5).
        replica.commit_index = max(replica.commit_index, min(message.commit, last_new))
        if sent_after is not None and not message.unleased and message.commit <= last_new:
            replica.freshness.vouched(message.commit, sent_after)
        if not message.silent:
            replica.reply(source, message, APPENDED, index=max(last_new, replica.commit_index))

    def _contradicts_committed(self, message: RaftMessage) -> bool:
        """Whether the sender has been deposed, and this replica knows so by a snapshot only.

        What a later leader has committed may come with a snapshot before any message of its term does.
        """
        log, commit_index = self._replica.log, self._replica.commit_index
        if message.index <= commit_index and log.term(message.index) not in (None, message.log_term):
            return True
        below = message.entries[: max(0, commit_index - message.index)]
        return any(
            log.term(index) not in (None, received(index, encoded).term)
            for index, encoded in enumerate(below, message.index + 1)
        )

    def _refuse(self, source: str, message: RaftMessage) -> None:
        log = self._replica.log
        hint = log.last_of_term_at_most(message.index, message.log_term)
        self._replica.reply(
            source, message, APPENDED, rejected=True, index=message.index, hint=hint, log_term=log.term(hint) or 0
        )

    def _take_entry(self, entry: Entry) -> None:
        """Append what is not there; what contradicts the leader goes, with all after it (3.5)."""
        log = self._replica.log
        if entry.index <= log.last_index:
            if log.term(entry.index) == entry.term:
                return
            self._truncate(entry.index)
        self._replica.append(entry)

    def _truncate(self, index: int) -> None:
        replica = self._replica
        assert index > replica.commit_index, "a committed entry would be removed"
        replica.unwritten.truncate(index)
        replica.log.truncate(index)
        replica.configurations.truncate(index)

    # Snapshots

    def offer_received(self, source: str, message: RaftMessage) -> None:
        """The leader's log begins after `message.index` (chapter 5); whether that is too late is known here only.

        All that is committed here is in the leader's log or in its snapshot, so it may count as acknowledged. A leader
        drops only what it has applied: who has that last dropped entry has all before it (log matching, 3.5), and now
        knows that it is committed.
        """
        replica = self._replica
        self._offered_from = message.index
        if replica.log.term(message.index) == message.log_term:
            replica.commit_index = max(replica.commit_index, message.index)
        if self.needs_snapshot:
            replica.offer = source
        replica.reply(source, message, APPENDED, index=replica.commit_index)

    def wants(self, index: int) -> bool:
        """Whether a snapshot of that index is of use here: it helps, and does not take rows back."""
        replica = self._replica
        return index >= replica.applied_index if not replica.is_healthy else index > replica.commit_index

    def contradicted_by(self, index: int, term: int) -> range:
        """The indexes of stored entries that can't stay beside a snapshot (figure 5.3, step 7).

        None if the log has the snapshot's last entry: then what follows it may be needed. What is before it is deleted
        later, as any dropped entry.
        """
        if self._replica.log.term(index) == term:
            return range(0)
        return range(index, self._replica.unwritten.stored_end)

    def installed(self, snapshot: Installed, now: float) -> None:
        """The rows are those of a snapshot: they are written, and what `contradicted_by` names is deleted; not synced.

        The log keeps what follows the snapshot if it has its last entry, and is as long as the snapshot otherwise.
        """
        replica = self._replica
        assert snapshot.index >= replica.applied_index, "a snapshot would take rows back"
        if snapshot.term > replica.term:
            replica.step_down(now, snapshot.term)
        kept_after: float = snapshot.index
        if replica.log.term(snapshot.index) == snapshot.term:
            replica.log.drop(snapshot.index)
            replica.unwritten.skip(snapshot.index)
        else:
            kept_after = inf
            replica.log.reset(snapshot.index, snapshot.term)
            replica.unwritten.reset(snapshot.index)
        replica.configurations.install(snapshot.configuration_index, snapshot.configuration, kept_after)
        replica.begin_from(snapshot.index, snapshot.log_time_ms)
        self._offered_from = 0
        replica.unwritten.vote_changed = True  # so that the next tick syncs, and the answer waits for that
        self.tell_needs()

    def tell_needs(self) -> None:
        """Tell the leader, unasked, whether a snapshot is needed here."""
        replica = self._replica
        if replica.leader is not None and not replica.leads:
            message = replica.message(
                replica.leader, APPENDED, index=replica.commit_index, needs_snapshot=self.needs_snapshot
            )
            message.epoch = replica.followed_epoch  # not a newer one, by which nothing binds this replica yet
            replica.unwritten.messages.append(Outbound(replica.leader, message))
