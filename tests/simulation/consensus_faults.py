"""Bugs to plant in consensus: each leaves out one rule of Raft, or one of ours (DESIGN section 7)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState
from ringhold.node.consensus import ticks as shell
from ringhold.node.consensus.configuration import Configuration, quorum_value
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.election import Election
from ringhold.node.consensus.follower import Follower
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.consensus.log import Entry
from ringhold.node.consensus.messages import APPENDED
from ringhold.node.consensus.reads import ReadRounds
from ringhold.node.consensus.states import Writes
from ringhold.node.consensus.support import COUNTED_S, Support
from ringhold.node.consensus.ticks import Ticks

from .patches import patched

MOMENT_S = 1e-6


@contextmanager
def vote_not_persisted() -> Iterator[None]:
    """Term and vote are sent before they are stored, and never stored."""

    def make(original: Any) -> Any:
        def put_writes(batch: Any, group: int, writes: Writes) -> int:
            writes.hard_state = None
            size: int = original(batch, group, writes)
            return size

        return put_writes

    with patched(shell, "put_writes", make):
        yield


@contextmanager
def term_not_persisted() -> Iterator[None]:
    """A vote is stored without its term: a voter that restarts is back in the term before."""

    def make(original: Any) -> Any:
        def put_writes(batch: Any, group: int, writes: Writes) -> int:
            vote = writes.hard_state
            if vote is not None and vote.voted_for:
                writes.hard_state = HardState(term=vote.term - 1, voted_for=vote.voted_for)
            size: int = original(batch, group, writes)
            return size

        return put_writes

    with patched(shell, "put_writes", make):
        yield


@contextmanager
def old_term_committed() -> Iterator[None]:
    """A leader appends no entry of its own term, and commits earlier ones by counting copies (figure 3.7)."""

    def make(original: Any) -> Any:
        def take_office(self: Replica[Any], now: float) -> None:
            appended = self.append
            self.append = lambda entry: None  # type: ignore[method-assign]
            original(self, now)
            self.append = appended  # type: ignore[method-assign]
            assert self.office is not None
            self.office.began_index -= 1

        return take_office

    def commit(_: Any) -> Any:
        def advance_commit(self: Leadership[Any], now: float) -> None:
            replica = self._replica
            matches = [self.match_of(node) for node in replica.configuration.voting_nodes]
            index = int(quorum_value(matches, replica.configuration.quorum))
            replica.commit_index = max(replica.commit_index, index)

        return advance_commit

    with patched(Replica, "take_office", make), patched(Leadership, "advance_commit", commit):
        yield


@contextmanager
def lease_not_checked() -> Iterator[None]:
    """Who was elected answers reads until it hears of another leader."""

    def make(_: Any) -> Any:
        return lambda self, now: True

    with patched(Leadership, "has_lease", make):
        yield


@contextmanager
def lease_counted_from_receipt() -> Iterator[None]:
    """Support counts from when the beat came back, not from when the one that it answers was sent."""

    def make(original: Any) -> Any:
        def hear(self: Support, peer: str, beat: Beat, now: float) -> bool:
            is_reborn: bool = original(self, peer, beat, now)
            got = self._got[peer]
            if beat.heard_generation == self._generation and beat.epoch == got.epoch:
                got.until = max(got.until, now + COUNTED_S)
            return is_reborn

        return hear

    with patched(Support, "hear", make):
        yield


@contextmanager
def lease_counted_whole() -> Iterator[None]:
    """The leader counts more than a tenth beyond what was promised."""

    def make(original: Any) -> Any:
        def counted_until(self: Support, peer: str, epoch: int) -> float:
            until: float = original(self, peer, epoch)
            return until + 1.0

        return counted_until

    with patched(Support, "counted_until", make):
        yield


@contextmanager
def vote_granted_while_supporting() -> Iterator[None]:
    """A follower helps to depose a leader to whom it has promised support."""

    def make(original: Any) -> Any:
        def refuses(self: Election[Any], candidate: str, now: float) -> bool:
            leads = self._replica.office is not None
            return bool(original(self, candidate, now)) and (leads or now < self._may_vote_from)

        return refuses

    with patched(Election, "refuses_votes", make):
        yield


@contextmanager
def own_unsynced_copy_counted() -> Iterator[None]:
    """The leader's own copy counts for the commit before it is durable."""

    def make(original: Any) -> Any:
        def match_of(self: Leadership[Any], node: str) -> int:
            if node == self._replica.node_id:
                return self._replica.log.last_index
            match: int = original(self, node)
            return match

        return match_of

    with patched(Leadership, "match_of", make):
        yield


@contextmanager
def acknowledged_before_sync() -> Iterator[None]:
    """A follower acknowledges entries before they are durable."""

    def make(original: Any) -> Any:
        def reply(self: Replica[Any], target: str, asked: RaftMessage, kind: Any, **fields: int) -> None:
            original(self, target, asked, kind, **fields)
            if kind == APPENDED:
                self.outbox.append(self.unwritten.messages.pop())

        return reply

    with patched(Replica, "reply", make):
        yield


@contextmanager
def restarted_replica_votes_at_once() -> Iterator[None]:
    """A replica does not wait for what it may have promised before its restart."""

    def make(original: Any) -> Any:
        def begin(self: Election[Any], *arguments: Any) -> None:
            original(self, *arguments)
            self._may_vote_from = float("-inf")

        return begin

    with patched(Election, "__init__", make):
        yield


@contextmanager
def lease_kept_after_transfer() -> Iterator[None]:
    """A leader that has told its successor to stand goes on to answer reads by its lease."""

    def make(original: Any) -> Any:
        def advance_handover(self: Leadership[Any], now: float) -> None:
            given_up, known_until = self._lease_given_up, self._lease_known_until
            original(self, now)
            self._lease_given_up, self._lease_known_until = given_up, known_until

        return advance_handover

    with patched(Leadership, "advance_handover", make):
        yield


@contextmanager
def following_of_an_old_epoch_counted() -> Iterator[None]:
    """What a follower acknowledged before a gap in its support counts after it."""

    def make(_: Any) -> Any:
        def counted_until(self: Support, peer: str, epoch: int) -> float:
            got = self._got.get(peer)
            return got.until if got is not None else float("-inf")

        return counted_until

    with patched(Support, "counted_until", make):
        yield


@contextmanager
def epoch_not_renewed() -> Iterator[None]:
    """A follower whose support had lapsed goes on under the same epoch."""

    def make(original: Any) -> Any:
        def hear(self: Support, peer: str, beat: Beat, now: float) -> bool:
            given = self._given_to(peer)
            if beat.generation == given.generation:
                given.until = max(given.until, now + MOMENT_S)
            is_reborn: bool = original(self, peer, beat, now)
            return is_reborn

        return hear

    with patched(Support, "hear", make):
        yield


@contextmanager
def conflicting_entries_kept() -> Iterator[None]:
    """A follower that has another entry at an index keeps it."""

    def make(original: Any) -> Any:
        def take_entry(self: Follower[Any], entry: Entry) -> None:
            if entry.index > self._replica.log.last_index:
                original(self, entry)

        return take_entry

    with patched(Follower, "_take_entry", make):
        yield


@contextmanager
def commit_beyond_the_last_new_entry() -> Iterator[None]:
    """A follower takes the leader's commit index for entries that the leader has not shown it to have."""

    def make(original: Any) -> Any:
        def append_received(self: Follower[Any], source: str, message: RaftMessage, after: Any) -> None:
            original(self, source, message, after)
            replica = self._replica
            replica.commit_index = max(replica.commit_index, min(message.commit, replica.log.last_index))

        return append_received

    with patched(Follower, "append_received", make):
        yield


@contextmanager
def read_joins_an_earlier_round() -> Iterator[None]:
    """A read counts as confirmed by a round that was sent before the read came."""

    def make(original: Any) -> Any:
        def add(self: ReadRounds[Any], ticket: Any) -> None:
            if self._asked:
                self._asked.append(ticket)
            else:
                original(self, ticket)

        return add

    with patched(ReadRounds, "add", make):
        yield


@contextmanager
def read_confirmed_by_nobody() -> Iterator[None]:
    """A leader without a lease answers reads without asking whether it still leads."""

    def make(_: Any) -> Any:
        def advance_reads(self: Leadership[Any], now: float) -> None:
            if self._replica.has_applied_own_term:
                self._replica.confirmed += self.reads.take_all()

        return advance_reads

    with patched(Leadership, "advance_reads", make):
        yield


@contextmanager
def read_before_the_first_commit() -> Iterator[None]:
    """A new leader answers reads before it has committed an entry of its term."""

    def make(_: Any) -> Any:
        return property(lambda self: self.office is not None)

    def may_read(_: Any) -> Any:
        return lambda self, now: self.office is not None and self.office.has_lease(now)

    with patched(Replica, "has_applied_own_term", make), patched(Replica, "may_read", may_read):
        yield


@contextmanager
def quorum_too_small() -> Iterator[None]:
    """One replica less than a majority is taken for one."""

    def make(_: Any) -> Any:
        return property(lambda self: len(self.voters) // 2)

    with patched(Configuration, "quorum", make):
        yield


@contextmanager
def election_restriction_ignored() -> Iterator[None]:
    """A vote goes to candidates whose log lacks what is committed."""

    def make(_: Any) -> Any:
        return lambda self, message: True

    with patched(Election, "_is_up_to_date", make):
        yield


@contextmanager
def deposed_means_not_applied() -> Iterator[None]:
    """A leader that lost its office says of what it had appended that it never will be."""

    def make(original: Any) -> Any:
        def disappoint(self: Ticks, replica: Replica[Any]) -> None:
            replica.proposals.refused += replica.proposals.lost
            replica.proposals.lost.clear()
            original(self, replica)

        return disappoint

    with patched(Ticks, "_disappoint", make):
        yield


@contextmanager
def age_counted_from_receipt() -> Iterator[None]:
    """A replica says that it is as fresh as the newest message that it has taken in, however late that came."""

    def make(original: Any) -> Any:
        def step(self: Replica[Any], source: str, message: RaftMessage, now: float, after: float | None = None) -> None:
            original(self, source, message, now, now)

        return step

    with patched(Replica, "step", make):
        yield


@contextmanager
def age_vouched_by_a_new_leader() -> Iterator[None]:
    """A leader vouches for a commit index before it knows what its predecessors have committed."""

    def make(_: Any) -> Any:
        return lambda self, now: self.has_lease(now)

    with patched(Leadership, "vouches", make):
        yield


@contextmanager
def late_answer_ends_a_promise() -> Iterator[None]:
    """A bound follower takes the later term of a late answer, and forgets whom it follows."""

    def make(original: Any) -> Any:
        def take_term(self: Replica[Any], source: str, message: RaftMessage, now: float) -> bool:
            if original(self, source, message, now):
                return True
            if message.kind == APPENDED or message.rejected:
                self._become_follower(message.term, None, now)
            return False

        return take_term

    with patched(Replica, "_take_term", make):
        yield


CONSENSUS: Sequence[Callable[[], AbstractContextManager[None]]] = (
    vote_not_persisted,
    term_not_persisted,
    lease_not_checked,
    lease_counted_from_receipt,
    lease_counted_whole,
    vote_granted_while_supporting,
    acknowledged_before_sync,
    restarted_replica_votes_at_once,
    lease_kept_after_transfer,
    following_of_an_old_epoch_counted,
    conflicting_entries_kept,
    read_confirmed_by_nobody,
    read_before_the_first_commit,
    quorum_too_small,
    election_restriction_ignored,
    deposed_means_not_applied,
    age_counted_from_receipt,
    age_vouched_by_a_new_leader,
)

RARELY_SHOWN: Sequence[Callable[[], AbstractContextManager[None]]] = (
    old_term_committed,
    own_unsynced_copy_counted,
    epoch_not_renewed,
    commit_beyond_the_last_new_entry,
    read_joins_an_earlier_round,
    late_answer_ends_a_promise,
)
"""Bugs that need a rarer story than the first dozens of seeds tell."""
