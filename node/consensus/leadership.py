"""One term in office: what a leader knows of the others, what it sends them, and what it may answer meanwhile.

Part of the core (core.py), whose replica it belongs to. Replication is that of the dissertation's figure 2 and section
3.5, with the pipelining of 10.2; leases, support and following are those of DESIGN section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from .configuration import Configuration, ReplicaId, quorum_value
from .log import Entry, EntryLost
from .messages import APPEND, APPENDED, CONFIRM, OFFER, STEPPED_DOWN, TIMEOUT_NOW, Outbound
from .progress import BYTES_PER_MESSAGE_MAX, ENTRIES_PER_MESSAGE_MAX, Progress
from .reads import ReadRounds
from .support import SUPPORT_S

if TYPE_CHECKING:
    from .core import Replica

TRANSFER_S = 0.5
"""A successor that has not taken over by then will not. Unless it was told to, the leader takes commands again."""

ASK_AGAIN_S = 0.2
"""A round, and a member that has not acknowledged under its present epoch, are asked again so often."""

PROBE_AGAIN_S = 1.0
"""A probe that was not answered by then was lost."""

OFFER_AGAIN_S = 1.0
"""A member that needs a snapshot is offered one so often, until it has one."""

TIME_ENTRY_S = 6 * 3600.0
"""The leader of an idle group appends an entry so often, so that its successor's log time is not further behind: an
anchor that was just learnt must never look as if it lay more than a day ahead."""

SNAPSHOT_SILENT_S = 30.0
"""A snapshot of which nothing is heard for so long is given up: the log is not kept for it any more."""

Ticket = TypeVar("Ticket")


@dataclass(slots=True)
class Handover:
    """A transfer under way: to whom, until when, and whether it was told to stand."""

    successor: str
    deadline: float
    is_told: bool = False


class Leadership(Generic[Ticket]):
    """The leader's state of figure 2, made anew after each election."""

    def __init__(self, replica: "Replica[Ticket]", now: float) -> None:
        self._replica = replica
        self.began_index = replica.log.last_index + 1
        self.reads: ReadRounds[Ticket] = ReadRounds()
        self.handover: Handover | None = None
        self._quorum_seen = now
        self._last_entry = (self.began_index, now)
        self._lease_given_up = False
        self._lease_known_until = -inf
        self._progress: dict[str, Progress] = {}
        self.track_members(now)

    # Office and leases

    def lease_until(self) -> float:
        """Until when no other leader can be elected (6.4.1, DESIGN section 7): -inf if that is not known.

        A majority of the newest appended configuration has acknowledged this term under an epoch of support that has
        not ended since. None of them helps to elect another before its support lapses, and every other majority needs
        one of them. After TimeoutNow the successor may be elected at any moment (3.10).
        """
        if self._lease_given_up or not self._replica.uses_leases:
            return inf if self._replica.is_sole_voter else -inf
        self._lease_known_until = self._majority_counted_until()
        return self._lease_known_until

    def has_lease(self, now: float) -> bool:
        """Whether there is a lease now. One that was found stands until its end, whatever is heard of its givers."""
        return now < self._lease_known_until or now < self.lease_until()

    def vouches(self, now: float) -> bool:
        """Whether the commit index covers all that any leader has acknowledged up to now (6.4)."""
        return self._replica.commit_index >= self.began_index and self.has_lease(now)

    def holds_office(self, now: float) -> bool:
        """Whether a majority may still follow, so that no one else should be helped to this office."""
        return self.has_lease(now) or now < self._quorum_seen + SUPPORT_S

    def members_changed(self, now: float) -> None:
        """A configuration was appended: it is the one that counts now (4.1), for leases too."""
        self._lease_known_until = -inf
        self.track_members(now)

    def _majority_counted_until(self) -> float:
        configuration = self._replica.configuration
        times = [self._counted_until(node) for node in configuration.voting_nodes]
        return quorum_value(times, configuration.quorum)

    def _counted_until(self, node: str) -> float:
        if node == self._replica.node_id:
            return inf
        progress = self._progress.get(node)
        if progress is None or not progress.followed_epoch:
            return -inf
        return self._replica.support.counted_until(node, progress.followed_epoch)

    def pulse(self, now: float) -> None:
        """Time has passed."""
        if now < self._lease_known_until or self._majority_counted_until() > now:
            self._quorum_seen = now
        elif now - self._quorum_seen >= SUPPORT_S:
            self._replica.step_down(now)  # check-quorum (6.2)
            return
        if self.handover is not None and now >= self.handover.deadline:
            if self.handover.is_told:
                self._replica.step_down(now)  # nobody took over, and this term can't have a lease again
                return
            self.handover = None
        self.advance_reads(now)
        if self.reads.is_under_way and now - self.reads.sent_at >= ASK_AGAIN_S:
            self.reads.sent_at = now
            self._ask_to_confirm()
        self._note_everywhere()
        self._keep_time(now)
        for node, progress in self._progress.items():
            progress.end_snapshot(now)
            self._keep_in_touch(node, progress, now)
        self.advance_membership(now)

    def _keep_time(self, now: float) -> None:
        """The log says the time now and then, though nobody has a command (DESIGN section 7, log time)."""
        last_index, since = self._replica.log.last_index, self._last_entry[1]
        if last_index != self._last_entry[0]:
            self._last_entry = (last_index, now)
        elif now - since >= TIME_ENTRY_S and self.handover is None:
            self._replica.append_time(now)
            self.replicate(now)

    def say_goodbye(self) -> None:
        """This leader leads no more; nobody needs to wait until support lapses."""
        for node in self._progress:
            self._replica.send(node, STEPPED_DOWN)

    # Replication

    def match_of(self, node: str) -> int:
        """How much of the log a member has durably, as far as is known."""
        if node == self._replica.node_id:
            return self._replica.durable_index
        progress = self._progress.get(node)
        return progress.match if progress is not None else 0

    def track_members(self, now: float) -> None:
        """Progress for the members of the newest configuration, and for no others.

        A new member hears of this leader once the entry that adds it is committed: one that is undone must not have
        made a replica, whose id another entry at that index, or an earlier one, may give again. One that is removed
        hears of this leader until that is committed, so that it knows.
        """
        commit_index, configuration = self._replica.commit_index, self._replica.configuration
        numbers = {node: each for node, each in configuration.numbers.items() if each <= commit_index}
        is_settled = commit_index >= self._replica.configuration_index
        self._progress = {
            node: each
            for node, each in self._progress.items()
            if numbers.get(node) == each.number or not (is_settled or node in configuration.numbers)
        }
        for node, number in numbers.items():
            if node != self._replica.node_id and node not in self._progress:
                progress = self._progress[node] = Progress(number, self._replica.log.last_index + 1, sent_at=now)
                # A learner may have to be made yet, by an offer; whether it needs one it will say.
                progress.needs_snapshot = configuration.members[node] in configuration.learners

    def replicate(self, now: float) -> None:
        """Send what the members lack, as far as they may be sent anything; equal messages are one object."""
        last = self._replica.log.last_index
        shared: dict[tuple[int, int], tuple[RaftMessage, int, int]] = {}
        for node, progress in self._progress.items():
            while progress.next <= last and progress.may_send() and not self._must_offer(progress):
                key = (progress.next, progress.number)
                made = shared.get(key)
                if made is None:
                    made = self._append_message(progress, now)
                    if made is None:
                        break
                    shared[key] = made
                self._send(node, progress, made, now)

    def answered(self, node: str, message: RaftMessage, now: float) -> None:
        """A member has answered an APPEND or a CONFIRM of this term."""
        if message.kind == APPENDED:
            self._append_answered(node, message, now)
        else:
            self._round_answered(node, message, now)

    def _append_answered(self, node: str, message: RaftMessage, now: float) -> None:
        """A member has taken an APPEND, or refused it (figure 2)."""
        progress = self._progress.get(node)
        if progress is None:
            return
        progress.followed_epoch = message.epoch
        progress.needs_snapshot = message.needs_snapshot
        if message.rejected:
            self._rejected(node, progress, message, now)
        elif progress.matched(message.index):
            self.advance_commit(now)
        if self._replica.office is self and self.handover is not None:
            self.advance_handover(now)
        if self._replica.office is not self:
            return  # what was committed has removed this leader
        if progress.next <= self._replica.log.last_index:
            self._ask(node, progress, now)

    def _rejected(self, node: str, progress: Progress, message: RaftMessage, now: float) -> None:
        """The logs differ: go back to where they may agree, by terms and not one by one (3.5, "if desired")."""
        is_answer = message.index == progress.next - 1 if progress.probing else message.index > progress.match
        if is_answer:
            progress.rejected(self._replica.log.last_of_term_at_most(message.hint, message.log_term) + 1)
            self._ask(node, progress, now)

    def session_changed(self, node: str) -> None:
        """What was under way to a member may be lost, and it must acknowledge anew."""
        progress = self._progress.get(node)
        if progress is not None:
            progress.followed_epoch = 0
            progress.probe_again()

    def wake(self, node: str, now: float) -> bool:
        """A member may lack something: ask it where it stands, unless it was sent something just now."""
        progress = self._progress.get(node)
        if progress is None or now - progress.sent_at < ASK_AGAIN_S or self._must_offer(progress):
            return False
        progress.probe_again()
        self._ask(node, progress, now)
        return True

    def advance_commit(self, now: float) -> None:
        """Commit what a majority has durably, if it is of this term (3.6.2, figure 3.7)."""
        replica = self._replica
        configuration = replica.configuration
        index = int(quorum_value([self.match_of(node) for node in configuration.voting_nodes], configuration.quorum))
        if index <= replica.commit_index or replica.log.term(index) != replica.term:
            return
        is_settled = replica.commit_index < replica.configuration_index <= index
        replica.commit_index = index
        if is_settled:
            self._tell_removed(now)
            self.track_members(now)
        was_removed = replica.node_id not in configuration.voting_nodes
        if was_removed and index >= replica.configuration_index:
            replica.step_down(now)  # a leader that is removed leads until that is committed (4.2.2)

    def _tell_removed(self, now: float) -> None:
        """Members that this committed configuration does without may drop what they have: tell those who have it.

        Only once, and only those whose log reaches it: whoever does not hear it will ask (node/moving/leftovers.py).
        """
        configuration_index = self._replica.configuration_index
        for node, progress in self._progress.items():
            is_removed = self._replica.configuration.numbers.get(node) != progress.number
            if is_removed and not progress.probing and progress.next > configuration_index:
                self._replica.outbox.append(Outbound(node, self._append(progress, now)))

    def _ask(self, node: str, progress: Progress, now: float) -> None:
        """Send a member the entries that it lacks; without any, what tells where it stands."""
        if self._must_offer(progress):
            self._offer(node, progress, now)
        elif progress.may_send():
            made = self._append_message(progress, now)
            if made is None:
                self._offer(node, progress, now)
            else:
                self._send(node, progress, made, now)

    def _must_offer(self, progress: Progress) -> bool:
        """Whether a member can't be helped with entries (chapter 5)."""
        return progress.needs_snapshot or progress.next <= self._replica.log.first_index

    def _offer(self, node: str, progress: Progress, now: float) -> None:
        """Offer a snapshot again and again; each answer acknowledges the leader, whatever else it says."""
        member = self._replica.configuration.members.get(node)
        if progress.is_gone or member is None:
            return
        pause_s = ASK_AGAIN_S if self._counted_until(node) <= now else OFFER_AGAIN_S
        if now - progress.offered_at >= pause_s:
            progress.offered_at = progress.sent_at = now
            log = self._replica.log
            log_term = log.term(log.first_index) or 0
            self._replica.send(node, OFFER, index=log.first_index, log_term=log_term, since=member.since)

    def _send(self, node: str, progress: Progress, made: tuple[RaftMessage, int, int], now: float) -> None:
        message, last_sent, size = made
        progress.sent(last_sent, size, message.commit, now)
        self._replica.outbox.append(Outbound(node, message))

    def _append_message(self, progress: Progress, now: float) -> tuple[RaftMessage, int, int] | None:
        """The message, the index that it reaches, and the bytes of its entries.

        None if the entries can't be read back: they are applied, so the log does without them, and a snapshot helps.
        """
        before = progress.next - 1
        log = self._replica.log
        last = min(log.last_index, before + ENTRIES_PER_MESSAGE_MAX)
        try:
            entries: Sequence[Entry] = log.entries(progress.next, last, BYTES_PER_MESSAGE_MAX)
        except EntryLost:
            log.drop(self._replica.applied_index)
            return None
        message = self._append(progress, now)
        message.entries.extend([entry.encoded for entry in entries])
        return message, before + len(entries), sum(len(entry.encoded) for entry in entries)

    def _append(self, progress: Progress, now: float) -> RaftMessage:
        replica = self._replica
        before = progress.next - 1
        term = replica.log.term(before)
        assert term is not None, "a member is sent entries although it needs a snapshot"
        return RaftMessage(
            kind=APPEND,
            group=replica.group,
            term=replica.term,
            source_replica=replica.number,
            target_replica=progress.number,
            index=before,
            log_term=term,
            commit=replica.commit_index,
            everywhere=replica.everywhere,
            unleased=not self.vouches(now),
        )

    def _note_everywhere(self) -> None:
        """How much of the log every member has durably: nobody will ask for it again.

        While a configuration is not committed, the one before may come back, with members that this one lacks.
        """
        replica = self._replica
        if replica.commit_index < replica.configuration_index:
            return
        matches = [progress.match for progress in self._progress.values()]
        replica.everywhere = max(replica.everywhere, min([*matches, replica.durable_index, replica.commit_index]))

    def _keep_in_touch(self, node: str, progress: Progress, now: float) -> None:
        """Ask those that must acknowledge anew, repeat lost probes, and tell the commit index that no entry told."""
        idle_s = now - progress.sent_at
        if self._must_offer(progress):
            self._offer(node, progress, now)
        elif progress.probing:
            if not progress.waiting or idle_s >= PROBE_AGAIN_S:
                progress.waiting = False
                self._ask(node, progress, now)
        elif self._counted_until(node) <= now and self._replica.support.is_alive(node, now):
            if idle_s >= ASK_AGAIN_S:
                self._ask(node, progress, now)
        elif progress.commit_told < min(self._replica.commit_index, progress.next - 1):
            news = self._append(progress, now)
            news.silent = True
            self._send(node, progress, (news, progress.next - 1, 0), now)

    # Members

    def snapshot_under_way(self, node: str, index: int, now: float) -> None:
        """A snapshot of `index` is being sent to a member, who will need the log from there on."""
        progress = self._progress.get(node)
        if progress is not None:
            progress.snapshot_index = index
            progress.snapshot_until = now + SNAPSHOT_SILENT_S

    def needed_from(self) -> int:
        """Entries after this index are needed once a snapshot has arrived: kept, up to a multiple of the bounds."""
        replica, bounds = self._replica, self._replica.bounds
        log = replica.log
        is_long = log.last_index - log.first_index > bounds.stretch * bounds.entries_max
        if is_long or log.bytes > bounds.stretch * bounds.bytes_max:
            return log.last_index
        under_way = [each.snapshot_index for each in self._progress.values() if each.snapshot_index is not None]
        return min(under_way, default=log.last_index)

    def can_lead(self, node: str) -> bool:
        """Whether a member could serve in this leader's place: its rows are good, as far as is known."""
        progress = self._progress.get(node)
        return progress is not None and not progress.needs_snapshot and not progress.is_gone

    def can_do_without(self, node: str, now: float) -> bool:
        """Whether a majority of the voters would be live and have caught up without this member (DESIGN 8.2)."""
        others = [voter for voter in self._replica.configuration.voting_nodes if voter != node]
        sound = sum(voter == self._replica.node_id or self._is_sound(voter, now) for voter in others)
        return sound > len(others) // 2

    def _is_sound(self, node: str, now: float) -> bool:
        """Whether a member is live, and what it lacks is no more than what is on its way."""
        progress = self._progress.get(node)
        if progress is None or progress.needs_snapshot or progress.is_gone or self._counted_until(node) <= now:
            return False
        return progress.match > 0 and progress.match + ENTRIES_PER_MESSAGE_MAX >= self._replica.commit_index

    def member_gone(self, node: str, message: RaftMessage, now: float) -> None:
        """A member says that it never speaks again: its log or its vote is lost (DESIGN section 7)."""
        progress = self._progress.get(node)
        if progress is not None and progress.number == message.source_replica:
            progress.is_gone = True
            progress.gone_since = message.since
            self.advance_membership(now)

    def advance_membership(self, now: float) -> None:
        """Replace a member that is gone, or let a learner vote that has caught up: one change at a time (4.1).

        Who is gone goes first: a voter more beside one that never votes again would need more of the others.
        """
        replica = self._replica
        if replica.commit_index < replica.configuration_index:
            return
        for node, progress in sorted(self._progress.items(), key=lambda each: not each[1].is_gone):
            change = self._change_for(replica.configuration.members[node], progress, now)
            if change is not None:
                replica.propose_configuration(change, replica.configuration_index, now)
                return

    def _change_for(self, member: ReplicaId, progress: Progress, now: float) -> Configuration | None:
        replica = self._replica
        if progress.is_gone:
            return replica.configuration.replacing(member, replica.log.last_index + 1, progress.gone_since)
        if member in replica.configuration.learners and self._is_sound(member.node_id, now):
            return replica.configuration.promoting(member)
        return None

    # Reads

    def advance_reads(self, now: float) -> None:
        """Release the reads that may go, and ask for those that may not (6.4)."""
        replica, reads = self._replica, self.reads
        if not reads or not replica.has_applied_own_term:
            return
        if self.has_lease(now):
            replica.confirmed += reads.take_all()
            return
        while True:
            if reads.is_won(replica.configuration.voting_nodes, replica.configuration.quorum):
                replica.confirmed += reads.take_asked()
            if not reads.begin(replica.node_id, now):
                return
            self._ask_to_confirm()

    def _round_answered(self, node: str, message: RaftMessage, now: float) -> None:
        """A member has confirmed that this term's leader is still its leader."""
        progress = self._progress.get(node)
        if progress is not None:
            progress.followed_epoch = message.epoch
        self.reads.confirmed(node, message.round)
        self.advance_reads(now)

    def _ask_to_confirm(self) -> None:
        for voter in self._replica.configuration.voting_nodes:
            if voter != self._replica.node_id:
                self._replica.send(voter, CONFIRM, round=self.reads.round)

    # Transfer

    def begin_handover(self, successor: str, now: float) -> None:
        """Hand the office to a voter, once it has the whole log (3.10). Commands wait meanwhile."""
        assert successor != self._replica.node_id, "a leader hands over to itself"
        self.handover = Handover(successor, now + TRANSFER_S)
        self.replicate(now)
        self.advance_handover(now)

    def advance_handover(self, now: float) -> None:
        """Tell the successor to stand once it has the whole log, if that is in time."""
        handover = self.handover
        assert handover is not None
        log = self._replica.log
        if now >= handover.deadline:
            return  # the next pulse ends it
        if self.match_of(handover.successor) == log.last_index and not handover.is_told:
            handover.is_told = True
            self._lease_given_up = True  # from the moment of sending, for the whole term (DESIGN section 7)
            self._lease_known_until = -inf
            self._replica.send(handover.successor, TIMEOUT_NOW, index=log.last_index)
