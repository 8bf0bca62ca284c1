"""Counts how often a run takes the product's rare paths, from outside: a path that is never taken is not tested."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import VERDICT_EXPIRED
from ringhold.node import scatter
from ringhold.node.attempts import Attempts
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.tickets import AnchorOutOfRange, NotLeader
from ringhold.node.machine.dedupe import DedupeTable
from ringhold.node.peers.exchange import RequestLost, RequestNotSent
from ringhold.node.scatter import Scatter

from .consensus_probes import CONSENSUS
from .damage_probes import BURIED_BY, DAMAGE, GIVEN_UP_BY
from .machines import PARTITIONS
from .move_probes import MOVE_PATHS, MOVES
from .patches import Make, Note, Place, patched

RARE_PATHS = (
    *BURIED_BY.values(),
    *MOVE_PATHS,
    *(path for path in GIVEN_UP_BY.values() if path != "damaged row found by a snapshot"),
    "anchor refused",
    "attempt lost",
    "attempt not sent",
    "candidate lost",
    "check-quorum step-down",
    "cluster formed through crashes",
    "command of a deposed leader",
    "commit of an earlier term's entry",
    "conflicting entries truncated",
    "crash with lost writes",
    "dedupe hit",
    "dedupe records evicted",
    "doubt ended by repetition",
    "doubt resolved: aborted",
    "doubt resolved: applied",
    "doubt resolved: unknown",
    "follower caught up from storage",
    "group woken",
    "hand-over because of a stuck sync",
    "in doubt",
    "lease found expired",
    "log dropped",
    "log replayed",
    "node joined",
    "page continued",
    "page merged from cut answers",
    "partial page",
    "promise outlived its epoch",
    "query asked again",
    "ReadIndex round won",
    "redirect",
    "repetition answered",
    "repetition expired",
    "repetition of what was aborted",
    "return to the preferred leader",
    "session lost",
    "stale answer of known age",
    "stale answer of unknown age",
    "stopped by its disk",
    "support lapsed",
    "transfer",
    "vote refused after a restart",
    "vote refused because of support",
    "batch number below the mark",
    "copied disk refused",
    "damage mended from memory",
    "engine lost and reborn",
    "generation forgotten",
    "installation interrupted by a crash",
    "learner promoted",
    "log compacted past a member",
    "machine healed",
    "member replaced",
    "old disk refused",
    "replica opened without rows",
    "snapshot given up",
    "snapshot installed",
    "snapshot offered",
    "snapshot resumed",
    "snapshot started over",
    "tombstone answered",
)
"""What fifty seeds together must meet."""

FAULTS = (
    "bad weather",
    "clock drift",
    "cold start",
    "crash",
    "crash between steps",
    "crash of all",
    "failed read",
    "failed sync",
    "failed write",
    "full disk",
    "only beats held",
    "only consensus held",
    "only requests held",
    "partition, cut off",
    "partition, deaf",
    "partition, from clients",
    "partition, halves",
    "partition, met in the middle",
    "partition, mute",
    "partition, one way",
    "partition, to clients",
    "pause",
    "pause between steps",
    "restart",
    "sessions cut",
    "slow disk",
    "stuck sync",
    "suspension of all",
    "suspension of one",
    "bit flips",
    "bit flips while down",
    "copied disk",
    "keys lost",
    "lost disk",
    "lost tail",
    "restored disk",
    "snapshot interrupted",
    "wiped engine",
    "cordon",
    "decommission",
    "decommission taken back",
    "one more machine",
    "replication factor",
)


@contextmanager
def watched() -> Iterator["Counter[str]"]:
    """Counts, by path, while the block runs."""
    counts: Counter[str] = Counter()

    def note(path: str) -> None:
        counts[path] += 1

    places: list[Place] = [
        (Attempts, "failed", count_failed_attempts),
        (Groups, "propose", count_refused_anchors),
        (DedupeTable, "_repeated", count_dedupe_hits),
        (DedupeTable, "_refusal", count_expired),
        (DedupeTable, "evict", count_evictions),
        (Scatter, "_by_leader", count_asked_again),
        (scatter, "merge_page", count_cut_answers),
        *CONSENSUS,
        *DAMAGE,
        *MOVES,
    ]
    with ExitStack() as stack:
        for owner, name, make in places:
            stack.enter_context(patched(owner, name, make(note)))
        yield counts


def count_failed_attempts(note: Note) -> Make:
    paths = {NotLeader: "redirect", RequestLost: "attempt lost", RequestNotSent: "attempt not sent"}

    def make(original: Any) -> Any:
        async def failed(self: Attempts, error: Exception) -> None:
            note(paths.get(type(error), "attempt refused"))
            await original(self, error)

        return failed

    return make


def count_refused_anchors(note: Note) -> Make:
    def make(original: Any) -> Any:
        def propose(*arguments: Any, **named: Any) -> Any:
            try:
                return original(*arguments, **named)
            except AnchorOutOfRange:
                note("anchor refused")
                raise

        return propose

    return make


def count_dedupe_hits(note: Note) -> Make:
    def make(original: Any) -> Any:
        def repeated(*arguments: Any) -> Any:
            note("dedupe hit")
            return original(*arguments)

        return repeated

    return make


def count_expired(note: Note) -> Make:
    def make(original: Any) -> Any:
        def refusal(self: DedupeTable, verdict: Any, fingerprint: int) -> Any:
            if verdict == VERDICT_EXPIRED:
                note("command refused as expired")
            return original(self, verdict, fingerprint)

        return refusal

    return make


def count_evictions(note: Note) -> Make:
    def make(original: Any) -> Any:
        def evict(self: DedupeTable, *arguments: Any) -> None:
            before = self._state.dedupe_records
            original(self, *arguments)
            if self._state.dedupe_records < before:
                note("dedupe records evicted")

        return evict

    return make


def count_asked_again(note: Note) -> Make:
    def make(original: Any) -> Any:
        def by_leader(self: Scatter, gathered: Any) -> Any:
            if len(gathered.missing) < PARTITIONS:
                note("query asked again")
            return original(self, gathered)

        return by_leader

    return make


def count_cut_answers(note: Note) -> Make:
    def make(original: Any) -> Any:
        def merge_page(answers: Any, **settings: Any) -> Any:
            if len(answers) > 1 and any(answer.cut for answer in answers):
                note("page merged from cut answers")
            return original(answers, **settings)

        return merge_page

    return make
