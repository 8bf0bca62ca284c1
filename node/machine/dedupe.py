"""What makes a mutation take effect at most once: the outcomes of recent commands, by anchor and request_id (P3).

The anchor is a log time, unchanged on repetition. A command whose anchor is older than the window is refused, so a
record that nobody can ask for any more may go, and no younger one ever does.

Who asks what became of a request ends it by asking: without an outcome ABORTED is stored as its own, and a mutation
that comes later finds that.
"""

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from ...api.proto.ringhold.storage.v1.records_pb2 import (
    VERDICT_ABORTED,
    VERDICT_DEDUPE_FULL,
    VERDICT_EXPIRED,
    VERDICT_REUSED,
    Command,
    GroupState,
    Mutation,
    Outcome,
    Verdict,
)
from ..keyspace import Kind, dedupe_key, prefix
from ..storage.envelope import seal, unseal
from .staged import Staged

DEDUPE_WINDOW_MS = 300_000
"""Five minutes of log time in which a repetition is recognised."""

DEDUPE_RECORDS_MAX = 1_000_000
"""Records of one group; about 100 bytes each on disk. A full table refuses writes."""

MINUTE_MS = 60_000
EVICTIONS_PER_COMMAND = 2
EVICTIONS_PER_ENTRY = 16


class DedupeTable:
    """The dedupe records of one group. Counts them in `state.dedupe_records`."""

    def __init__(self, group: int, state: GroupState, records_max: int) -> None:
        self._group = group
        self._state = state
        self._records_max = records_max
        self._oldest_minute = 0  # none is of an earlier minute; saves scans and changes nothing else
        self._oldest = prefix(Kind.DEDUPE, group)  # none lies before it, and none ever will: new ones are in the window
        self._minute = -1  # of the last key, and what the keys of that minute begin with
        self._minute_prefix = b""

    def key(self, command: Command) -> bytes:
        """Where the command's record lies."""
        minute = command.anchor_ms // MINUTE_MS
        if minute != self._minute:
            self._minute, self._minute_prefix = minute, dedupe_key(self._group, minute, b"")
        return self._minute_prefix + command.request_id

    def answer(self, key: bytes, command: Command, fingerprint: int, staged: Staged) -> bytes | None:
        """The outcome of a command that must not be evaluated; None if it is new. Refusals leave nothing behind."""
        stored = staged.get(key)
        if stored is not None:
            outcome = unseal(stored)
            return outcome if command.resolve else self._repeated(outcome, fingerprint)
        if command.anchor_ms < self._state.log_time_ms - DEDUPE_WINDOW_MS:
            return self._refusal(VERDICT_EXPIRED, fingerprint)
        if self._state.dedupe_records >= self._records_max:
            return self._refusal(VERDICT_DEDUPE_FULL, fingerprint)
        return None

    def record(self, key: bytes, outcome: bytes, staged: Staged) -> None:
        """Keep the outcome of a new command. Its anchor lies within the window, so its minute can't be gone already."""
        staged.put(key, seal(outcome))
        self._state.dedupe_records += 1

    def abort(self, key: bytes, staged: Staged) -> bytes:
        """Store as the outcome of a request, which has none, that it never takes effect."""
        outcome = Outcome(verdict=VERDICT_ABORTED, log_time_ms=self._state.log_time_ms).SerializeToString()
        self.record(key, outcome, staged)
        return outcome

    def evict(self, commands: int, staged: Staged) -> None:
        """Drop a slice of the records whose whole anchor minute is older than the window at the current log time.

        Faster than `commands` can add records, and bounded, so that no entry takes long. Nothing is looked for where
        all has been dropped already: RocksDB would walk over each record that was, until it is compacted.
        """
        end_minute = max(0, self._state.log_time_ms - DEDUPE_WINDOW_MS) // MINUTE_MS
        if self._oldest_minute >= end_minute:
            return
        slice_max = EVICTIONS_PER_COMMAND * commands + EVICTIONS_PER_ENTRY
        end = dedupe_key(self._group, end_minute, b"")
        rows = staged.scan(self._oldest, end, limit=slice_max)
        for key, _ in rows:
            staged.delete(key)
            self._oldest = key + b"\x00"
        self._state.dedupe_records -= len(rows)
        if len(rows) < slice_max:
            self._oldest_minute = end_minute

    def _repeated(self, outcome: bytes, fingerprint: int) -> bytes:
        stored = Outcome.FromString(outcome)
        if stored.fingerprint == fingerprint or stored.verdict == VERDICT_ABORTED:
            return outcome  # what was aborted has no payload that this one could differ from
        return self._refusal(VERDICT_REUSED, fingerprint)

    def _refusal(self, verdict: Verdict, fingerprint: int) -> bytes:
        outcome = Outcome(verdict=verdict, log_time_ms=self._state.log_time_ms, fingerprint=fingerprint)
        return outcome.SerializeToString()


def fingerprint_of(mutations: Sequence[Mutation]) -> int:
    """What tells a command's payload from another one. Of the encoded mutations, whose encoding is canonical.

    Protobuf promises that for no message; but these have neither maps nor unknown fields (`parse_command` lets none
    through), and every encoder writes the fields of such a one in the order of their numbers.
    """
    return xxh3_64_intdigest(b"".join([mutation.SerializeToString() for mutation in mutations]))
