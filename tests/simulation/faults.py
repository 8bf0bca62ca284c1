"""Bugs to plant in the product, each as a block in which it is broken: the simulator must find every one of them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from heapq import merge
from typing import Any, TypeAlias

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import Command, Row
from ringhold.node import keyspace
from ringhold.node import merge as merging
from ringhold.node.attempts import Attempts
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.tickets import ReadAnswer
from ringhold.node.keyspace import Bounds, Kind
from ringhold.node.machine.dedupe import DedupeTable
from ringhold.node.peers.exchange import RequestLost, RequestNotSent
from ringhold.node.router import Router
from ringhold.node.shards import NodeAnswer, Shards
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine

from .consensus_faults import CONSENSUS, RARELY_SHOWN
from .damage_faults import DAMAGE, DAMAGE_RARELY_SHOWN
from .move_faults import MOVES, MOVES_RARELY_SHOWN
from .patches import patched
from .resolve_faults import RESOLVE

INDEX_LAG_S = 0.02
CACHE_ENTRIES_MAX = 64


@contextmanager
def dedupe_forgotten() -> Iterator[None]:
    """Outcomes are recorded and never looked up: a repeated mutation happens again."""

    def make(_: Any) -> Any:
        return lambda self, key, command, fingerprint, staged: None

    def keep_count(_: Any) -> Any:
        def record(self: DedupeTable, key: bytes, outcome: bytes, staged: Any) -> None:
            self._state.dedupe_records += staged.get(key) is None
            staged.put(key, b"")

        return record

    with patched(DedupeTable, "answer", make), patched(DedupeTable, "record", keep_count):
        yield


@contextmanager
def index_written_later() -> Iterator[None]:
    """Index entries go to the engine in a write of their own, a moment after their row."""
    index = bytes([Kind.INDEX])

    def make(original: Any) -> Any:
        def write(self: MemoryEngine, batch: WriteBatch) -> None:
            late = WriteBatch({key: value for key, value in batch.puts.items() if key[:1] == index})
            for key in late.puts:
                del batch.puts[key]
            original(self, batch)
            if late:
                asyncio.get_running_loop().call_later(INDEX_LAG_S, original, self, late)

        return write

    with patched(MemoryEngine, "write", make):
        yield


@contextmanager
def sync_skipped() -> Iterator[None]:
    """The log is not synced before it counts: what was acknowledged may be lost in a crash."""

    def make(_: Any) -> Any:
        async def sync(self: MemoryEngine) -> None:
            await asyncio.sleep(0)

        return sync

    with patched(MemoryEngine, "sync", make):
        yield


@contextmanager
def stale_reads() -> Iterator[None]:
    """A gateway answers reads from a cache that nobody invalidates."""

    def make(original: Any) -> Any:
        async def read(self: Router, group: int, keys: Sequence[bytes], deadline: float) -> ReadAnswer:
            cache: dict[Any, ReadAnswer] = self.__dict__.setdefault("cache", {})
            if len(cache) > CACHE_ENTRIES_MAX:
                cache.clear()
            if (group, *keys) not in cache:
                cache[group, *keys] = await original(self, group, keys, deadline)
            return cache[group, *keys]

        return read

    with patched(Router, "read", make):
        yield


@contextmanager
def cut_ignored() -> Iterator[None]:
    """A page is merged past the last entry of a shard that was cut."""

    def make(_: Any) -> Any:
        def up_to_first_cut(answers: Any, *, descending: bool) -> Any:
            return merge(*(answer.matches for answer in answers), key=lambda match: match[0], reverse=descending)

        return up_to_first_cut

    with patched(merging, "_up_to_first_cut", make):
        yield


@contextmanager
def lost_means_not_applied() -> Iterator[None]:
    """A request without an answer counts as not applied and is sent again under a new request_id."""

    def make(original: Any) -> Any:
        async def failed(self: Attempts, error: Exception) -> None:
            if isinstance(error, RequestLost) and self._command is not None:
                self._command.request_id = self._rng.randbytes(16)
                error = RequestNotSent("it will not have arrived")
            await original(self, error)

        return failed

    with patched(Attempts, "failed", make):
        yield


@contextmanager
def visible_before_commit() -> Iterator[None]:
    """A read sees commands that are in the log and not yet durable."""

    def make(original: Any) -> Any:
        def read(self: Groups, group: int, keys: Sequence[bytes]) -> ReadAnswer:
            answer: ReadAnswer = original(self, group, keys)
            newest = uncommitted(self, group)
            return ReadAnswer(
                [newest.get(key, row) for key, row in zip(keys, answer.rows, strict=True)],
                answer.term,
                answer.log_time_ms,
            )

        return read

    with patched(Groups, "read", make):
        yield


def uncommitted(groups: Groups, group: int) -> dict[bytes, bytes | None]:
    """The rows as they would be once all appended commands were applied."""
    rows: dict[bytes, bytes | None] = {}
    version = groups.machine(group).state.revision
    replica = groups._replicas[group]
    entries = replica.log.entries(replica.applied_index + 1, replica.log.last_index, 1 << 62)
    for command in (Command.FromString(encoded) for entry in entries for encoded in entry.content.commands):
        for mutation in command.mutations:
            version += 1
            if mutation.HasField("delete"):
                rows[mutation.delete.key] = None
                continue
            change = mutation.set
            row = Row(value=change.value, version=version, create_version=version, indexes=change.indexes)
            rows[change.key] = row.SerializeToString()
    return rows


@contextmanager
def refusals_swallowed() -> Iterator[None]:
    """A node that does not lead some of the groups that it is asked for answers as if they held nothing."""

    def make(original: Any) -> Any:
        async def query(self: Shards, groups: Sequence[int], spec: Any) -> NodeAnswer:
            answer: NodeAnswer = await original(self, groups, spec)
            return answer._replace(refused=[])

        return query

    with patched(Shards, "query", make):
        yield


@contextmanager
def page_begins_at_the_last() -> Iterator[None]:
    """A page begins with the last entry of the page before it."""

    def make(original: Any) -> Any:
        def resumed(bounds: Bounds, last: bytes, *, descending: bool) -> Bounds:
            if descending:
                return Bounds(bounds.start, last + b"\x00")
            return Bounds(max(bounds.start, last), bounds.end)

        return resumed

    with patched(keyspace, "resumed", make):
        yield


Fault: TypeAlias = Callable[[], AbstractContextManager[None]]

FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        dedupe_forgotten,
        index_written_later,
        sync_skipped,
        stale_reads,
        cut_ignored,
        lost_means_not_applied,
        visible_before_commit,
        refusals_swallowed,
        page_begins_at_the_last,
        *CONSENSUS,
        *DAMAGE,
        *MOVES,
        *RESOLVE,
    )
}

ALL_FAULTS: dict[str, Fault] = FAULTS | {
    fault.__name__: fault for fault in (*RARELY_SHOWN, *DAMAGE_RARELY_SHOWN, *MOVES_RARELY_SHOWN)
}
"""Also those for which nobody has yet named a seed; they are planted when they are asked for by name."""
