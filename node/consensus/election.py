"""Elections of one group: when this replica stands, whom it votes for, and what keeps it from both.

Part of the core (core.py), whose replica it belongs to. The rules are those of the dissertation's sections 3.4, 3.6.1,
4.2.3 and 9.6; who is bound by what its node has promised is in DESIGN section 7.
"""

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftKind, RaftMessage
from .messages import PRE_VOTE, PRE_VOTED, TIMEOUT_NOW, VOTE, VOTED, Outbound
from .states import Rng, Role

if TYPE_CHECKING:
    from .core import Replica

RANK_DELAY_S = 0.1
"""A replica campaigns so much later for each voter that should lead rather (DESIGN section 7)."""

ELECTION_JITTER_S = 0.1
CANDIDACY_S = 0.4
"""A candidate that has not won by then, or by up to twice that, tries again (3.4)."""

Ticket = TypeVar("Ticket")


class Election(Generic[Ticket]):
    """When to stand, and the votes of the election under way."""

    def __init__(self, replica: "Replica[Ticket]", rng: Rng, may_vote_from: float) -> None:
        self._replica = replica
        self._rng = rng
        self._may_vote_from = may_vote_from
        self._stands_at: float | None = None
        self._votes: dict[str, bool] = {}

    def pulse(self, now: float) -> None:
        """Time has passed, and this replica neither leads nor is bound to a leader."""
        if self._stands_at is None:
            self.put_off(now)
        elif now >= self._stands_at:
            self.campaign(now)

    def put_off(self, now: float) -> None:
        """Stand after a delay that is shorter for those who should lead rather."""
        rank = self._replica.configuration.rank(self._replica.node_id)
        self._stands_at = now + rank * RANK_DELAY_S + self._rng.uniform(0, ELECTION_JITTER_S)

    def call_off(self) -> None:
        """There is no reason to stand."""
        self._stands_at = None

    def own_vote_is_durable(self, now: float) -> None:
        """The own vote counts once it can't be forgotten (figure 2), and only now the others are asked."""
        self._votes[self._replica.node_id] = True
        self._stands_at = now + self._candidacy_s()
        self._take_office_if_won(now)

    def campaign(self, now: float) -> None:
        """Begin an election if that is allowed now, at first without disturbing anybody (pre-vote, 9.6)."""
        if self._replica.leads or not self._replica.may_stand or self._replica.is_bound(now):
            return
        if now < self._may_vote_from and not self._replica.is_sole_voter:
            return
        self._replica.leader = None
        self._replica.role = Role.PRE_CANDIDATE
        self._votes = {self._replica.node_id: True}
        self._stands_at = now + self._candidacy_s()
        if self._has_won():
            self._stand(now, transfer=False)
        else:
            self._ask_for_votes(PRE_VOTE, self._replica.term + 1, self._replica.outbox, transfer=False)

    def step(self, source: str, message: RaftMessage, now: float) -> None:
        """Take a message about elections in."""
        if message.kind == PRE_VOTE:
            self._pre_vote_received(source, message, now)
        elif message.kind == VOTE:
            self._vote_received(source, message, now)
        elif message.kind in (PRE_VOTED, VOTED):
            self._voted_received(source, message, now)
        elif message.kind == TIMEOUT_NOW:
            self._timeout_now_received(source, message, now)

    def refuses_votes(self, candidate: str, now: float) -> bool:
        """Whether this replica must not help to elect anybody else now."""
        if self._replica.office is not None:
            return self._replica.office.holds_office(now)
        if now < self._may_vote_from:
            return True
        return self._replica.leader != candidate and self._replica.is_bound(now)

    def _pre_vote_received(self, source: str, message: RaftMessage, now: float) -> None:
        is_later = message.term > self._replica.term
        granted = is_later and self._is_up_to_date(message) and not self.refuses_votes(source, now)
        term = message.term if granted else self._replica.term
        self._replica.reply(source, message, PRE_VOTED, term=term, rejected=not granted)
        if granted:
            self._let_stand(source, message, now)

    def _let_stand(self, source: str, message: RaftMessage, now: float) -> None:
        """Do not stand beside a candidate that this replica approves: each would vote for itself, and none win (3.4).

        Of two that ask at once, the one with more in its log goes on, or else the one that should lead rather.
        """
        if self._replica.role is Role.PRE_CANDIDATE:
            own = (
                self._replica.log.last_term,
                self._replica.log.last_index,
                -self._replica.configuration.rank(self._replica.node_id),
            )
            if own < (message.log_term, message.index, -self._replica.configuration.rank(source)):
                self._replica.role = Role.FOLLOWER
        if self._replica.role is Role.FOLLOWER:
            self._stands_at = now + self._candidacy_s()

    def _candidacy_s(self) -> float:
        return CANDIDACY_S * self._rng.uniform(1, 2)

    def _vote_received(self, source: str, message: RaftMessage, now: float) -> None:
        """One vote a term, for a candidate whose log has all that is committed (3.4, 3.6.1)."""
        granted = (
            self._replica.voted_for in ("", source)
            and not self._replica.leads
            and self._is_up_to_date(message)
            and (message.transfer or not self.refuses_votes(source, now))
        )
        if granted:
            self._replica.vote_for(source)
            self._stands_at = now + self._candidacy_s()
        self._replica.reply(source, message, VOTED, rejected=not granted)

    def _is_up_to_date(self, message: RaftMessage) -> bool:
        """Raft's election restriction (3.6.1): a later last term wins, then the longer log."""
        return (message.log_term, message.index) >= (self._replica.log.last_term, self._replica.log.last_index)

    def _voted_received(self, source: str, message: RaftMessage, now: float) -> None:
        is_pre_vote = message.kind == PRE_VOTED
        if self._replica.role is not (Role.PRE_CANDIDATE if is_pre_vote else Role.CANDIDATE):
            return
        if is_pre_vote and not message.rejected and message.term != self._replica.term + 1:
            return
        if not message.rejected:
            self._votes[source] = True  # and it stays given, whatever else of that voter is under way
        if not is_pre_vote:
            self._take_office_if_won(now)
        elif self._has_won():
            self._stand(now, transfer=False)

    def _timeout_now_received(self, source: str, message: RaftMessage, now: float) -> None:
        """The leader hands over: stand at once, without pre-vote (3.10). A late one finds another log or leader."""
        replica = self._replica
        is_able = replica.is_voter and replica.is_healthy
        if is_able and replica.leader == source and message.index == replica.log.last_index:
            self._stand(now, transfer=True)

    def _stand(self, now: float, *, transfer: bool) -> None:
        """Become a candidate of the next term (3.4). The requests leave once the own vote is durable."""
        self._replica.begin_candidacy()
        self._votes = {}
        self._stands_at = inf  # the candidacy begins when the own vote is durable and the others are asked
        self._ask_for_votes(VOTE, self._replica.term, self._replica.unwritten.messages, transfer=transfer)

    def _ask_for_votes(self, kind: RaftKind, term: int, out: list[Outbound], *, transfer: bool) -> None:
        last_index, last_term = self._replica.log.last_index, self._replica.log.last_term
        for voter in self._replica.configuration.voting_nodes:
            if voter != self._replica.node_id:
                request = self._replica.message(
                    voter, kind, term=term, index=last_index, log_term=last_term, transfer=transfer
                )
                out.append(Outbound(voter, request))

    def _has_won(self) -> bool:
        granted = sum(self._votes.get(voter, False) for voter in self._replica.configuration.voting_nodes)
        return granted >= self._replica.configuration.quorum

    def _take_office_if_won(self, now: float) -> None:
        if self._has_won():
            self._replica.take_office(now)
