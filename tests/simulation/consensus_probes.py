"""Counts the rare paths of consensus: elections, leases, transfers, what logs and followers go through."""

from collections.abc import Iterable, Sequence
from typing import Any

from ringhold.node.consensus import hosting as shell
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.election import Election
from ringhold.node.consensus.follower import Follower
from ringhold.node.consensus.handover import Handovers
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.consensus.log import Log
from ringhold.node.consensus.reads import ReadRounds
from ringhold.node.consensus.states import Role
from ringhold.node.consensus.support import Given, Support
from ringhold.node.consensus.ticks import Ticks

from .patches import Make, Note, Place


def count_truncations(note: Note) -> Make:
    def make(original: Any) -> Any:
        def truncate(self: Follower[Any], index: int) -> None:
            note("conflicting entries truncated")
            original(self, index)

        return truncate

    return make


def count_expired_leases(note: Note) -> Make:
    """A leader that had a lease, and did not give it up, looks and finds none."""

    def make(original: Any) -> Any:
        def has_lease(self: Any, now: float) -> bool:
            answer: bool = original(self, now)
            if self.__dict__.get("had_lease") and not answer and not self._lease_given_up:
                note("lease found expired")
            self.__dict__["had_lease"] = answer
            return answer

        return has_lease

    return make


def count_rounds(note: Note) -> Make:
    def make(original: Any) -> Any:
        def take_asked(self: ReadRounds[Any]) -> list[Any]:
            asked: list[Any] = original(self)
            if asked:
                note("ReadIndex round won")
            return asked

        return take_asked

    return make


def count_transfers(note: Note) -> Make:
    def make(original: Any) -> Any:
        def received(self: Election[Any], *arguments: Any) -> None:
            original(self, *arguments)
            if self._replica.role is Role.CANDIDATE:
                note("transfer")

        return received

    return make


def count_handovers(note: Note) -> Make:
    def make(original: Any) -> Any:
        def begin(self: Handovers, replicas: Iterable[Replica[Any]], now: float) -> Sequence[Any]:
            begun: Sequence[Any] = original(self, replicas, now)
            if begun and not self.is_reluctant:
                note("return to the preferred leader")
            if begun and "sync stuck" in self._reluctant_for:
                note("hand-over because of a stuck sync")
            return begun

        return begin

    return make


def count_woken(note: Note) -> Make:
    def make(original: Any) -> Any:
        def wake(self: Leadership[Any], *arguments: Any) -> bool:
            was_woken: bool = original(self, *arguments)
            if was_woken:
                note("group woken")
            return was_woken

        return wake

    return make


def count_refused_votes(note: Note) -> Make:
    def make(original: Any) -> Any:
        def refuses(self: Election[Any], candidate: str, now: float) -> bool:
            refusal: bool = original(self, candidate, now)
            if refusal and self._replica.office is None:
                is_held = now < self._may_vote_from
                note("vote refused after a restart" if is_held else "vote refused because of support")
            return refusal

        return refuses

    return make


def count_step_downs(note: Note) -> Make:
    def make(original: Any) -> Any:
        def pulse(self: Leadership[Any], now: float) -> None:
            original(self, now)
            if self._replica.office is None:
                note("check-quorum step-down")

        return pulse

    return make


def count_lost_candidacies(note: Note) -> Make:
    def make(original: Any) -> Any:
        def become_follower(self: Replica[Any], *arguments: Any) -> None:
            if self.role is Role.CANDIDATE:
                note("candidate lost")
            original(self, *arguments)

        return become_follower

    return make


def count_commits(note: Note) -> Make:
    def make(original: Any) -> Any:
        def advance_commit(self: Leadership[Any], now: float) -> None:
            replica = self._replica
            before = replica.commit_index
            original(self, now)
            if replica.commit_index > before and (replica.log.term(before + 1) or 0) < replica.term:
                note("commit of an earlier term's entry")

        return advance_commit

    return make


def count_loads(note: Note) -> Make:
    def make(original: Any) -> Any:
        def between(self: Log, first: int, last: int) -> Any:
            if first < self._tail_start and first <= last:
                note("follower caught up from storage")
            return original(self, first, last)

        return between

    return make


def count_drops(note: Note) -> Make:
    def make(original: Any) -> Any:
        def drop(self: Log, index: int) -> None:
            note("log dropped")
            original(self, index)

        return drop

    return make


def count_deposed(note: Note) -> Make:
    def make(original: Any) -> Any:
        def disappoint(self: Ticks, replica: Replica[Any]) -> None:
            if replica.proposals.lost:
                note("command of a deposed leader")
            original(self, replica)

        return disappoint

    return make


def count_replays(note: Note) -> Make:
    def make(original: Any) -> Any:
        def recover(*arguments: Any) -> Any:
            found = original(*arguments)
            if found.log.last_index > found.applied_index:
                note("log replayed")
            return found

        return recover

    return make


def count_lapses(note: Note) -> Make:
    def make(original: Any) -> Any:
        def hear(self: Support, peer: str, beat: Any, now: float) -> bool:
            if self._given_to(peer).heard and now >= self._given_to(peer).until:
                note("support lapsed")
            is_reborn: bool = original(self, peer, beat, now)
            return is_reborn

        return hear

    return make


def count_outlived_epochs(note: Note) -> Make:
    def make(original: Any) -> Any:
        def break_off(self: Given, now: float) -> None:
            if self.until > now:
                note("promise outlived its epoch")
            original(self, now)

        return break_off

    return make


CONSENSUS: Sequence[Place] = (
    (Follower, "_truncate", count_truncations),
    (Election, "_timeout_now_received", count_transfers),
    (Election, "refuses_votes", count_refused_votes),
    (Replica, "_become_follower", count_lost_candidacies),
    (Leadership, "has_lease", count_expired_leases),
    (Leadership, "wake", count_woken),
    (Leadership, "pulse", count_step_downs),
    (Leadership, "advance_commit", count_commits),
    (ReadRounds, "take_asked", count_rounds),
    (Handovers, "begin", count_handovers),
    (Log, "_between", count_loads),
    (Log, "drop", count_drops),
    (Ticks, "_disappoint", count_deposed),
    (shell, "recovered", count_replays),
    (Support, "hear", count_lapses),
    (Given, "break_off", count_outlived_epochs),
)
