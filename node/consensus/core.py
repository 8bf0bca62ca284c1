"""Raft for one replica of one group, as a pure core: events and time come in, what to store and to send goes out.

The rules are those of Ongaro's dissertation ("Consensus: Bridging Theory and Practice", 2014; its sections are named
where a line obeys them), with pre-vote (9.6), check-quorum (6.2), leases (6.4.1), ReadIndex (6.4), leadership transfer
(3.10) and one change of configuration at a time (4.1). What is ours (support between nodes, following, restarts) is in
docs/protocols/consensus.md. Elections are in election.py, what only a leader does in leadership.py.

The shell (groups.py) calls `take_writes` once per tick, stores what it gets for all groups in one write and one sync,
and then calls `persisted`. Messages in `outbox` may leave at once; those in `Writes` only after the sync.
"""

from math import inf
from typing import Any, Generic, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftKind, RaftMessage
from ...api.proto.ringhold.storage.v1.records_pb2 import HardState, LogEntry
from .configuration import Configuration
from .election import Election
from .leadership import Leadership
from .log import Entry, made, received
from .messages import (
    APPEND,
    APPENDED,
    CONFIRM,
    CONFIRMED,
    PRE_VOTE,
    PRE_VOTED,
    STEPPED_DOWN,
    VOTE,
    VOTED,
    Outbound,
)
from .proposals import LogTime, Opened, Proposals
from .states import Committed, Freshness, Recovered, Rng, Role, Writes
from .support import SUPPORT_S, Support

ALL = 1 << 62
ANSWERS = (APPENDED, PRE_VOTED, VOTED, CONFIRMED)

Ticket = TypeVar("Ticket")


class Replica(Generic[Ticket]):
    """One replica. Every method takes `now`, of one clock that counts suspend (P7)."""

    def __init__(
        self,
        group: int,
        node_id: str,
        recovered: Recovered,
        support: Support,
        rng: Rng,
        *,
        may_vote_from: float,
        leases: bool = True,
    ) -> None:
        """`may_vote_from`: until then the replica is bound by what it may have promised before a restart."""
        self.group = group
        self.node_id = node_id
        self.number = recovered.number
        self.term = recovered.hard_state.term
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.office: Leadership[Ticket] | None = None
        self.support = support
        self.uses_leases = leases
        self.log = recovered.log
        self.applied_index = self.commit_index = recovered.applied_index
        self.durable_index = recovered.log.last_index
        self.everywhere = 0
        self.freshness = Freshness()
        self.outbox: list[Outbound] = []
        self.confirmed: list[Ticket] = []
        self.unconfirmed: list[Ticket] = []
        self.proposals: Proposals[Ticket] = Proposals()
        self.voted_for = recovered.hard_state.voted_for
        self.election: Election[Ticket] = Election(self, rng, may_vote_from)
        self._configurations = list(recovered.configurations)
        self._log_time = LogTime(recovered.log_time_ms)
        self._followed_epoch = 0
        self._leader_heard = -inf
        self._taken_index = recovered.applied_index
        self._written_index = recovered.log.last_index
        self._removed = range(0)
        self._hard_state_is_dirty = False
        self.after_sync: list[Outbound] = []

    # What it knows

    @property
    def configuration(self) -> Configuration:
        """The newest one in the log: it is valid as soon as it is appended (4.1)."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    @property
    def leads(self) -> bool:
        return self.office is not None

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.configuration.voting_nodes

    @property
    def is_sole_voter(self) -> bool:
        """Whether nobody else votes, whichever of the configurations that may still be undone turns out to be valid."""
        return all(each.voting_nodes == (self.node_id,) for _, each in self._configurations)

    @property
    def may_stand(self) -> bool:
        """A replica that its newest configuration removes may be needed until that is committed (4.2.2)."""
        return any(self.node_id in each.voting_nodes for _, each in self._configurations)

    @property
    def has_applied_own_term(self) -> bool:
        """Whether the applied rows hold all that earlier terms have acknowledged (6.4, step 1).

        What this term acknowledged was applied here first, and what is committed and not applied here was acknowledged
        to nobody. So rows that are read once this is true, by a leader who is sure of his office, are not stale.
        """
        return self.office is not None and self.applied_index >= self.office.began_index

    @property
    def is_handing_over(self) -> bool:
        return self.office is not None and self.office.handover is not None

    def may_read(self, now: float) -> bool:
        """Whether the applied rows may be read at once as the newest."""
        office = self.office
        return office is not None and self.applied_index >= office.began_index and office.has_lease(now)

    def log_time_ms(self, now: float) -> int:
        """Newest log time in the log plus the time in office: never goes back while this replica leads."""
        return self._log_time.at(now)

    @property
    def has_work(self) -> bool:
        """Whether a tick would find something to store or to send."""
        return bool(
            self.outbox
            or self.after_sync
            or self._hard_state_is_dirty
            or self._written_index < self.log.last_index
            or (self.proposals.open and not self.is_handing_over)
        )

    @property
    def committed_left(self) -> int:
        """How many committed entries `take_committed` would give."""
        return max(0, min(self.commit_index, self._written_index) - self._taken_index)

    # What the shell asks of it

    def propose(self, command: bytes, ticket: Ticket, weight: int = 1) -> None:
        """Put a command into the open entry. `weight` is how many mutations it has: what applying it will take."""
        assert self.leads, "a command was proposed to a replica that does not lead"
        self.proposals.open.append(Opened(command, ticket, weight))

    def propose_configuration(self, configuration: Configuration, expected_index: int, now: float) -> bool:
        """Append a new configuration; False, and nothing appended, unless that is allowed now.

        One change at a time, each by one voter (4.1), only after this term has committed an entry (Ongaro's correction
        of 2015 to 4.1), and only if the configuration is still the one that the change was made for (DESIGN 8.2). New
        members need the log from its beginning, so there can be none once it was dropped.
        """
        office = self.office
        may_change = (
            office is not None
            and office.handover is None
            and self.commit_index >= max(office.began_index, self.configuration_index)
            and expected_index == self.configuration_index
            and configuration.follows_by_one_step(self.configuration)
            and (self.log.first_index == 0 or configuration.numbers.keys() <= self.configuration.numbers.keys())
        )
        if office is None or not may_change:
            return False
        entry = LogEntry(term=self.term, log_time_ms=self.log_time_ms(now), configuration=configuration.encode())
        self._append(made(self.log.last_index + 1, entry))
        office.members_changed(now)
        office.replicate(now)
        return True

    def confirm(self, ticket: Ticket, now: float) -> None:
        """Have it confirmed that this replica still leads (ReadIndex): the ticket comes out in `confirmed` or not."""
        if self.office is None:
            self.unconfirmed.append(ticket)
            return
        self.office.reads.add(ticket)
        self.office.advance_reads(now)

    def campaign(self, now: float) -> None:
        """Begin an election, if that is allowed now."""
        self.election.campaign(now)

    def transfer(self, successor: str, now: float) -> None:
        """Hand the leadership to another voter, once it has the whole log (3.10)."""
        assert self.office is not None, "only a leader hands over"
        assert successor in self.configuration.voting_nodes
        assert successor != self.node_id
        self.office.begin_handover(successor, now)

    def take_writes(self, now: float, weight_max: int, bytes_max: int) -> Writes | None:
        """What to store now, with an entry of the first open commands; None if there is nothing to store."""
        if self.office is not None:
            if self.proposals.open and self.office.handover is None:
                self._append_open(now, weight_max, bytes_max)
            self.office.replicate(now)  # before the own sync (10.2.1): the own copy counts when it is durable
        messages, self.after_sync = self.after_sync, []
        if self._written_index == self.log.last_index and not self._hard_state_is_dirty and not self._removed:
            self.outbox += messages  # all that they rest on is durable already
            return None
        hard_state = HardState(term=self.term, voted_for=self.voted_for) if self._hard_state_is_dirty else None
        entries = self.log.entries(self._written_index + 1, self.log.last_index, ALL)
        removed, self._removed = self._removed, range(0)
        self._hard_state_is_dirty = False
        self._written_index = self.log.last_index
        return Writes(entries, removed, hard_state, messages, (self.term, self.log.last_index, self.log.last_term))

    def _append_open(self, now: float, weight_max: int, bytes_max: int) -> None:
        taken = self.proposals.take_open(weight_max, bytes_max)
        commands = [opened.command for opened in taken]
        entry = LogEntry(term=self.term, log_time_ms=self.log_time_ms(now), commands=commands)
        self.proposals.appended[self.log.last_index + 1] = [opened.ticket for opened in taken]
        self._append(made(self.log.last_index + 1, entry))

    def persisted(self, mark: tuple[int, int, int], now: float) -> None:
        """What `take_writes` gave with this mark is durable.

        If the last entry is still there, with its term, all before it is durable too (log matching, 3.5); if it was
        replaced meanwhile, what replaced it is not durable yet.
        """
        term, index, entry_term = mark
        if self.log.term(index) == entry_term:
            self.durable_index = max(self.durable_index, index)
        if self.role is Role.CANDIDATE and term == self.term:
            self.election.own_vote_is_durable(now)
        if self.office is not None:
            self.office.advance_commit(now)

    def take_committed(self) -> list[Committed[Ticket]]:
        """Committed entries that were not taken, to be applied in this order.

        Only those that storage has: rows must never be ahead of the own log, or a crash would leave a gap between them.
        """
        last = min(self.commit_index, self._written_index)
        if last <= self._taken_index:
            return []
        entries = self.log.entries(self._taken_index + 1, last, ALL)
        self._taken_index = last
        return [Committed(entry, self.proposals.take(entry.index)) for entry in entries]

    def applied(self, index: int, now: float) -> None:
        """The state machine has applied everything up to `index`."""
        assert self.applied_index <= index <= self.commit_index, "applied past the commit index"
        self.applied_index = index
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            del self._configurations[0]
        self.log.forget(index)
        if self.office is not None:
            self.office.advance_reads(now)

    def session_changed(self, node_id: str, now: float) -> None:
        """The session with a node began or ended: what was on its way may be lost, and it must acknowledge anew."""
        if self.office is not None:
            self.office.session_changed(node_id)
        elif self.leader is None and self.role is not Role.CANDIDATE:
            self.election.put_off(now)  # one more to ask

    def peer_reborn(self, node_id: str, now: float) -> None:
        """A node lives a new life: if it led here, it does no more."""
        if self.leader == node_id:
            self._lose_leader(now)

    def pulse(self, now: float) -> bool:
        """Time has passed: elections, check-quorum, what was asked and not answered. A few times per support time.

        False: nothing came of it, which is the rule for a follower.
        """
        if self.office is None and self.is_bound(now):
            self.election.call_off()
            return False
        if self.office is not None:
            self.office.pulse(now)
        else:
            self.election.pulse(now)
        return True

    def droppable(self) -> int:
        """The log is not needed before this index: every member has that entry durably, and it is applied here."""
        return min(self.everywhere, self.applied_index)

    # Messages

    def step(self, source: str, message: RaftMessage, now: float, sent_after: float | None = None) -> None:
        """Take a message of another member in. `sent_after`: it was made after this moment of this node's clock."""
        if not self._is_meant(source, message):
            return
        if message.term > self.term and not self._take_term(source, message, now):
            return
        kind = message.kind
        if message.term < self.term and kind not in (PRE_VOTE, PRE_VOTED):
            self._answer_stale(source, message)
        elif kind == APPEND:
            self._append_received(source, message, now, sent_after)
        elif kind == CONFIRM:
            self._follow(source, now)
            self.reply(source, message, CONFIRMED, round=message.round)
        elif kind in (APPENDED, CONFIRMED):
            if self.office is not None:
                self.office.answered(source, message, now)
        elif kind == STEPPED_DOWN and self.leader == source:
            self._lose_leader(now)
        else:
            self.election.step(source, message, now)

    def _is_meant(self, source: str, message: RaftMessage) -> bool:
        """Whether both ids are right: a replica that was here or there before, or will be, is another one.

        A leader or candidate may have replaced the one that this log knows yet; only the one asked may answer.
        """
        known = self.configuration.numbers.get(source, message.source_replica)
        is_newer = message.source_replica > known and message.kind not in ANSWERS
        return message.target_replica == self.number and (message.source_replica == known or is_newer)

    def _take_term(self, source: str, message: RaftMessage, now: float) -> bool:
        """Move to the message's later term (figure 2, all servers); False: the message is not to be heard."""
        if message.kind == PRE_VOTE or (message.kind == PRE_VOTED and not message.rejected):
            return True  # about a term that nobody has yet (9.6)
        is_of_leader = message.kind in (APPEND, CONFIRM)
        if not is_of_leader and not message.transfer and self._clings_to_term(source, message.kind, now):
            return False
        self._become_follower(message.term, source if is_of_leader else None, now)
        return True

    def _clings_to_term(self, source: str, kind: RaftKind, now: float) -> bool:
        """Whether the leader may hold a lease that rests on this replica's term (4.2.3, DESIGN section 7).

        Neither a vote nor an answer may end that: in the new term nothing would bind the replica to the leader.
        """
        if kind == VOTE:
            return self.election.refuses_votes(source, now)
        return self.office is None and self.leader != source and self.is_bound(now)

    def _answer_stale(self, source: str, message: RaftMessage) -> None:
        """Let a leader or candidate of an earlier term know of this one (figure 2).

        It may lead this very term by the time it hears of it; so this must not look like an answer to what it sent in
        this term: that it is followed, or where the logs differ.
        """
        if message.kind in (APPEND, CONFIRM, VOTE):
            self.reply(source, message, VOTED, rejected=True)

    # Terms and offices

    def is_bound(self, now: float) -> bool:
        """Whether this replica follows a leader to whom its node has promised support (DESIGN section 7).

        Or has heard the leader itself within that time (4.2.3): one that was just elected may not be supported yet.
        """
        if self.leader is None:
            return False
        promised_until = self.support.promised_until(self.leader, self._followed_epoch)
        return now < max(promised_until, self._leader_heard + SUPPORT_S)

    def take_office(self, now: float) -> None:
        """A majority has elected this replica in its term."""
        self.role = Role.LEADER
        self.leader = self.node_id
        self.election.call_off()
        self._log_time.take_office(now)
        self.office = Leadership(self, now)
        # An entry of the own term commits what earlier terms left, which no counting of copies may do (3.6.2).
        self._append(made(self.log.last_index + 1, LogEntry(term=self.term, log_time_ms=self.log_time_ms(now))))
        self.office.replicate(now)

    def begin_candidacy(self) -> None:
        """Be a candidate of the next term, with the own vote (3.4)."""
        self.term += 1
        self.voted_for = self.node_id
        self._hard_state_is_dirty = True
        self.role = Role.CANDIDATE
        self.leader = None

    def vote_for(self, candidate: str) -> None:
        """Give the one vote of this term, durably before it is told."""
        self._hard_state_is_dirty |= self.voted_for != candidate
        self.voted_for = candidate

    def _become_follower(self, term: int, leader: str | None, now: float) -> None:
        if self.office is not None:
            self.office.say_goodbye()
            self._log_time.leave_office(now)
            self.unconfirmed += self.office.reads.take_all()
            self.office = None
            self.proposals.leave_office()
        if term > self.term:
            self.term = term
            self.voted_for = ""
            self._hard_state_is_dirty = True
        self.role = Role.FOLLOWER
        self.leader = leader
        self._followed_epoch = 0
        self.election.call_off()

    def step_down(self, now: float) -> None:
        """Lead no more, and say so."""
        self._become_follower(self.term, None, now)

    def _lose_leader(self, now: float) -> None:
        """Nobody leads this group that this replica knows of."""
        self._become_follower(self.term, None, now)
        self.election.put_off(now)

    # The follower's log

    def _follow(self, leader: str, now: float) -> None:
        """There is one leader per term (3.2), and this is it; from now on this node's support binds the replica."""
        assert not self.leads, "two leaders in one term"
        if self.role is not Role.FOLLOWER or self.leader != leader:
            self._become_follower(self.term, leader, now)
        self._followed_epoch = self.support.epoch(leader)
        self._leader_heard = now
        self.election.call_off()

    def _append_received(self, source: str, message: RaftMessage, now: float, sent_after: float | None) -> None:
        """Figure 2, AppendEntries. Entries up to the commit index are in every leader's log, so they need no check."""
        self._follow(source, now)
        last_new = message.index + len(message.entries)
        if message.index > self.commit_index and self.log.term(message.index) != message.log_term:
            self._refuse(source, message)
            return
        for index, encoded in enumerate(message.entries, message.index + 1):
            if index > self.commit_index:
                self._take_entry(received(index, encoded))
        self.everywhere = max(self.everywhere, message.everywhere)
        # Beyond the last entry of the message the logs may differ (figure 2, AppendEntries, rule 5).
        self.commit_index = max(self.commit_index, min(message.commit, last_new))
        if sent_after is not None and not message.unleased and message.commit <= last_new:
            self.freshness.vouched(message.commit, sent_after)
        if not message.silent:
            self.reply(source, message, APPENDED, index=max(last_new, self.commit_index))

    def _refuse(self, source: str, message: RaftMessage) -> None:
        hint = self.log.last_of_term_at_most(message.index, message.log_term)
        hint_term = self.log.term(hint) or 0
        self.reply(source, message, APPENDED, rejected=True, index=message.index, hint=hint, log_term=hint_term)

    def _take_entry(self, entry: Entry) -> None:
        """Append what is not there; what contradicts the leader goes, with all after it (3.5)."""
        if entry.index <= self.log.last_index:
            if self.log.term(entry.index) == entry.term:
                return
            self._truncate(entry.index)
        self._append(entry)

    def _truncate(self, index: int) -> None:
        assert index > self.commit_index, "a committed entry would be removed"
        stored_end = max(self._written_index + 1, self._removed.stop)
        if index < stored_end:
            start = min(index, self._removed.start) if self._removed else index
            self._removed = range(start, stored_end)
        self._written_index = min(self._written_index, index - 1)
        self.durable_index = min(self.durable_index, index - 1)
        self.log.truncate(index)
        while self._configurations[-1][0] >= index:
            self._configurations.pop()  # the one before is valid again (4.1)

    def _append(self, entry: Entry) -> None:
        self.log.append(entry)
        self._log_time.saw(entry.content.log_time_ms)
        if entry.content.HasField("configuration"):
            self._configurations.append((entry.index, Configuration.decode(entry.content.configuration)))

    # Messages to others

    def send(self, target: str, kind: RaftKind, **fields: int) -> None:
        """A message that may leave at once: what it says is durable, or rests on nothing."""
        self.outbox.append(Outbound(target, self.message(target, kind, **fields)))

    def reply(self, target: str, asked: RaftMessage, kind: RaftKind, **fields: int) -> None:
        """An answer that leaves once all that it rests on is durable, under the epoch that is valid now."""
        message = self.message(target, kind, **fields)
        message.target_replica = asked.source_replica  # which this log may not know yet
        if kind in (APPENDED, CONFIRMED):
            message.epoch = self.support.epoch(target)
        self.after_sync.append(Outbound(target, message))

    def message(self, target: str, kind: RaftKind, *, term: int | None = None, **fields: Any) -> RaftMessage:
        """A message of this replica, of its term unless another is given."""
        return RaftMessage(
            kind=kind,
            group=self.group,
            term=self.term if term is None else term,
            source_replica=self.number,
            target_replica=self.configuration.numbers.get(target, 0),
            **fields,
        )
