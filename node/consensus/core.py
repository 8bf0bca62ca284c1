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
from ...api.proto.ringhold.storage.v1.records_pb2 import LogEntry
from .configuration import Configuration
from .configuration_log import Configurations
from .election import Election
from .follower import Follower
from .leadership import Leadership
from .log import Entry, made
from .messages import (
    APPEND,
    APPENDED,
    CONFIRMED,
    OF_LEADER,
    OFFER,
    PRE_VOTE,
    PRE_VOTED,
    STEPPED_DOWN,
    VOTE,
    VOTED,
    Outbound,
)
from .proposals import LogTime, Opened, Proposals
from .states import Committed, Freshness, LogBounds, Recovered, Rng, Role, Writes
from .support import SUPPORT_S, Support
from .unwritten import ALL, Unwritten

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
        bounds: LogBounds | None = None,
    ) -> None:
        """`may_vote_from`: until then the replica is bound by what it may have promised before a restart."""
        self.group = group
        self.node_id = node_id
        self.number = recovered.number
        # A snapshot may be stored a moment before the term that came with it, in which nothing was promised then.
        self.term = max(recovered.hard_state.term, recovered.log.last_term)
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.office: Leadership[Ticket] | None = None
        self.support = support
        self.uses_leases = leases
        self.is_healthy = recovered.is_healthy
        self.offer: str | None = None
        """Who has offered a snapshot that is needed here."""
        self.log = recovered.log
        self.bounds = bounds or LogBounds()
        self.applied_index = self.commit_index = recovered.applied_index
        self.everywhere = 0
        self.freshness = Freshness()
        self.outbox: list[Outbound] = []
        self.confirmed: list[Ticket] = []
        self.unconfirmed: list[Ticket] = []
        self.proposals: Proposals[Ticket] = Proposals()
        self.voted_for = recovered.hard_state.voted_for if self.term == recovered.hard_state.term else ""
        self.election: Election[Ticket] = Election(self, rng, may_vote_from)
        self.following: Follower[Ticket] = Follower(self)
        self.unwritten = Unwritten(recovered.log)
        self.configurations = Configurations(recovered.configurations)
        self._log_time = LogTime(recovered.log_time_ms)
        self.followed_epoch = 0
        self._leader_heard = -inf
        self._taken_index = recovered.applied_index

    # What it knows

    @property
    def configuration(self) -> Configuration:
        """The newest one in the log: it is valid as soon as it is appended (4.1)."""
        return self.configurations.newest

    @property
    def configuration_index(self) -> int:
        return self.configurations.newest_index

    @property
    def leads(self) -> bool:
        return self.office is not None

    @property
    def is_voter(self) -> bool:
        return self.node_id in self.configuration.voting_nodes

    @property
    def is_sole_voter(self) -> bool:
        """Whether nobody else votes, whichever of the configurations that may still be undone turns out to be valid."""
        return self.configurations.all_vote_by(self.node_id)

    @property
    def may_stand(self) -> bool:
        """A replica that its newest configuration removes may be needed until that is committed (4.2.2).

        One whose rows can't be used would lead for nothing: it could neither answer nor help those that lack log.
        """
        return self.is_healthy and self.configurations.any_votes_by(self.node_id)

    @property
    def has_applied_own_term(self) -> bool:
        """Whether the applied rows hold all that earlier terms have acknowledged (6.4, step 1).

        What this term acknowledged was applied here first, and what is committed and not applied here was acknowledged
        to nobody. So rows that are read once this is true, by a leader who is sure of his office, are not stale.
        """
        return self.office is not None and self.is_healthy and self.applied_index >= self.office.began_index

    @property
    def is_handing_over(self) -> bool:
        return self.office is not None and self.office.handover is not None

    def may_read(self, now: float) -> bool:
        """Whether the applied rows may be read at once as the newest."""
        return self.office is not None and self.has_applied_own_term and self.office.has_lease(now)

    def log_time_ms(self, now: float) -> int:
        """Newest log time in the log plus the time in office: never goes back while this replica leads."""
        return self._log_time.at(now)

    @property
    def has_work(self) -> bool:
        """Whether a tick would find something to store or to send."""
        return bool(self.outbox or self.unwritten or (self.proposals.open and not self.is_handing_over))

    @property
    def durable_index(self) -> int:
        """How much of the log is durable here."""
        return self.unwritten.durable_index

    @property
    def committed_left(self) -> int:
        """How many committed entries `take_committed` would give."""
        if not self.is_healthy:
            return 0
        return max(0, min(self.commit_index, self.unwritten.index) - self._taken_index)

    # What the shell asks of it

    def propose(self, command: bytes, ticket: Ticket, weight: int = 1) -> None:
        """Put a command into the open entry. `weight` is how many mutations it has: what applying it will take."""
        assert self.leads, "a command was proposed to a replica that does not lead"
        self.proposals.open.append(Opened(command, ticket, weight))

    def propose_configuration(self, configuration: Configuration, expected_index: int, now: float) -> bool:
        """Append a new configuration; False, and nothing appended, unless that is allowed now.

        One change at a time, each by one voter (4.1), only after this term has committed an entry (Ongaro's correction
        of 2015 to 4.1), and only if the configuration is still the one that the change was made for (DESIGN 8.2).
        """
        office = self.office
        may_change = (
            office is not None
            and office.handover is None
            and self.commit_index >= max(office.began_index, self.configuration_index)
            and expected_index == self.configuration_index
            and configuration.follows_by_one_step(self.configuration)
        )
        if office is None or not may_change:
            return False
        entry = LogEntry(term=self.term, log_time_ms=self.log_time_ms(now), configuration=configuration.encode())
        self.append(made(self.log.last_index + 1, entry))
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
        self.office.begin_handover(successor, now)

    def take_writes(self, now: float, weight_max: int, bytes_max: int) -> Writes | None:
        """What to store now, with an entry of the first open commands; None if there is nothing to store."""
        if self.office is not None:
            if self.proposals.open and self.office.handover is None:
                self._append_open(now, weight_max, bytes_max)
            self.office.replicate(now)  # before the own sync (10.2.1): the own copy counts when it is durable
        writes_nothing = self.unwritten.is_only_messages
        writes = self.unwritten.take(self.term, self.voted_for)
        if writes_nothing:
            self.outbox += writes.messages  # all that they rest on is durable already
            return None
        return writes

    def _append_open(self, now: float, weight_max: int, bytes_max: int) -> None:
        taken = self.proposals.take_open(weight_max, bytes_max)
        commands = [opened.command for opened in taken]
        entry = LogEntry(term=self.term, log_time_ms=self.log_time_ms(now), commands=commands)
        self.proposals.appended[self.log.last_index + 1] = [opened.ticket for opened in taken]
        self.append(made(self.log.last_index + 1, entry))

    def persisted(self, mark: tuple[int, int, int], now: float) -> None:
        """What `take_writes` gave with this mark is durable."""
        term, index, entry_term = mark
        self.unwritten.persisted(index, entry_term)
        if self.role is Role.CANDIDATE and term == self.term:
            self.election.own_vote_is_durable(now)
        if self.office is not None:
            self.office.advance_commit(now)

    def take_committed(self) -> list[Committed[Ticket]]:
        """Committed entries that were not taken, to be applied in this order.

        Only those that storage has: rows must never be ahead of the own log, or a crash would leave a gap between them.
        """
        last = min(self.commit_index, self.unwritten.index)
        if last <= self._taken_index or not self.is_healthy:
            return []
        entries = self.log.entries(self._taken_index + 1, last, ALL)
        self._taken_index = last
        return [Committed(entry, self.proposals.take(entry.index)) for entry in entries]

    def applied(self, index: int, now: float) -> None:
        """The state machine has applied everything up to `index`."""
        assert self.applied_index <= index <= self.commit_index, "applied past the commit index"
        self.applied_index = index
        self.configurations.apply(index)
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
        """The log is not needed before this index: every member has that entry durably, and it is applied here.

        Or it has passed its bounds: then who needs more gets a snapshot, and what follows one that is under way stays.
        """
        bound = self.log.overflow(self.bounds.entries_max, self.bounds.bytes_max)
        if self.office is not None:
            bound = min(bound, self.office.needed_from())
        return min(self.applied_index, max(self.everywhere, bound))

    def give_up_rows(self) -> None:
        """The rows can't be used any more, log and vote can: nothing is read or applied until a snapshot is there.

        A leader answers nobody from now on, and hands over. What it has appended may still be committed.
        """
        self.is_healthy = False
        self.election.call_off()
        self.role = Role.FOLLOWER if self.office is None else self.role
        self.following.tell_needs()
        self.proposals.leave_office()
        if self.office is not None:
            self.unconfirmed += self.office.reads.take_all()

    def retire(self, now: float) -> None:
        """This replica speaks no more: whoever waits for it is told, and its followers are, if it leads."""
        self._become_follower(self.term, None, now)
        self.proposals.leave_office()

    def begin_from(self, index: int, log_time_ms: int) -> None:
        """The rows are good, and have everything applied up to `index`."""
        self.commit_index = max(self.commit_index, index)
        self.applied_index = self._taken_index = index
        self.is_healthy = True
        self.offer = None
        self._log_time.saw(log_time_ms)

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
        elif kind in OF_LEADER:
            self._leader_spoke(source, message, now, sent_after)
        elif kind in (APPENDED, CONFIRMED):
            if self.office is not None:
                self.office.answered(source, message, now)
        elif kind == STEPPED_DOWN and self.leader == source:
            self._lose_leader(now)
        else:
            self.election.step(source, message, now)

    def _leader_spoke(self, source: str, message: RaftMessage, now: float, sent_after: float | None) -> None:
        self.follow(source, now)
        if message.kind == APPEND:
            self.following.append_received(source, message, sent_after)
        elif message.kind == OFFER:
            self.following.offer_received(source, message)
        else:
            self.reply(source, message, CONFIRMED, round=message.round)

    def member_gone(self, source: str, message: RaftMessage, now: float) -> None:
        """A node says that its replica of that id never speaks again. Of use to a leader; others will be told, too."""
        if self.office is not None:
            self.office.member_gone(source, message, now)

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
        is_of_leader = message.kind in OF_LEADER
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
        if message.kind in (*OF_LEADER, VOTE):
            self.reply(source, message, VOTED, rejected=True)

    # Terms and offices

    def is_bound(self, now: float) -> bool:
        """Whether this replica follows a leader to whom its node has promised support (DESIGN section 7).

        Or has heard the leader itself within that time (4.2.3): one that was just elected may not be supported yet.
        """
        if self.leader is None:
            return False
        promised_until = self.support.promised_until(self.leader, self.followed_epoch)
        return now < max(promised_until, self._leader_heard + SUPPORT_S)

    def take_office(self, now: float) -> None:
        """A majority has elected this replica in its term."""
        self.role = Role.LEADER
        self.leader = self.node_id
        self.election.call_off()
        self._log_time.take_office(now)
        self.office = Leadership(self, now)
        # An entry of the own term commits what earlier terms left, which no counting of copies may do (3.6.2).
        self.append_time(now)
        self.office.replicate(now)

    def append_time(self, now: float) -> None:
        """An entry that says nothing but its term and its log time."""
        self.append(made(self.log.last_index + 1, LogEntry(term=self.term, log_time_ms=self.log_time_ms(now))))

    def begin_candidacy(self) -> None:
        """Be a candidate of the next term, with the own vote (3.4)."""
        self.term += 1
        self.voted_for = self.node_id
        self.unwritten.vote_changed = True
        self.role = Role.CANDIDATE
        self.leader = None

    def vote_for(self, candidate: str) -> None:
        """Give the one vote of this term, durably before it is told."""
        self.unwritten.vote_changed |= self.voted_for != candidate
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
            self.unwritten.vote_changed = True
        self.role = Role.FOLLOWER
        self.leader = leader
        self.followed_epoch = 0
        self.election.call_off()

    def step_down(self, now: float, term: int = 0) -> None:
        """Lead no more, and say so. `term`: one that is known of without knowing who leads it."""
        self._become_follower(max(term, self.term), None, now)

    def _lose_leader(self, now: float) -> None:
        """Nobody leads this group that this replica knows of."""
        self._become_follower(self.term, None, now)
        self.election.put_off(now)

    # What following and leading have in common

    def follow(self, leader: str, now: float) -> None:
        """There is one leader per term (3.2), and this is it; from now on this node's support binds the replica."""
        assert not self.leads, "two leaders in one term"
        if self.role is not Role.FOLLOWER or self.leader != leader:
            self._become_follower(self.term, leader, now)
        self.followed_epoch = self.support.epoch(leader)
        self._leader_heard = now
        self.election.call_off()

    def append(self, entry: Entry) -> None:
        self.log.append(entry)
        self._log_time.saw(entry.content.log_time_ms)
        self.configurations.append(entry)

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
        message.needs_snapshot = kind == APPENDED and self.following.needs_snapshot
        self.unwritten.messages.append(Outbound(target, message))

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
