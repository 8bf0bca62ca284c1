"""The least engine that a state machine can run on: a dict, sorted when it is scanned. No crashes, no syncs."""

from collections.abc import Sequence

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as records
from ringhold.node.machine.machine import Machine
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import KeyRange, Row, WriteBatch


class Rows:
    def __init__(self) -> None:
        self.content: dict[bytes, bytes] = {}
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.content.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.reads += 1
        return [self.content.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        self.reads += 1
        keys = sorted((key for key in self.content if start <= key < end), reverse=reverse)
        return [(key, self.content[key]) for key in keys[:limit]]

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        return [[key for key, _ in self.scan(*each, limit=limit, reverse=reverse)] for each in ranges]

    def write(self, batch: WriteBatch) -> None:
        for key in batch.deletes:
            self.content.pop(key, None)
        self.content.update(batch.puts)


def apply(rows: Rows, machine: Machine, *entries: records.LogEntry) -> list[list[bytes]]:
    """Apply entries in one batch, after what the machine has applied before; the outcomes of each."""
    batch = WriteBatch()
    staged = Staged(rows, batch)
    outcomes = [machine.apply(machine.state.applied_index + 1, entry, staged) for entry in entries]
    rows.write(batch)
    return outcomes


def set_of(key: bytes, value: bytes = b"", indexes: Sequence[tuple[str, bytes]] = ()) -> records.Mutation:
    entries = [records.IndexEntry(name=name, value=entry) for name, entry in indexes]
    return records.Mutation(set=records.Set(key=key, value=value, indexes=entries))


def delete_of(key: bytes) -> records.Mutation:
    return records.Mutation(delete=records.Delete(key=key))


def resolve_of(request_id: bytes, anchor_ms: int) -> bytes:
    return records.Command(request_id=request_id, anchor_ms=anchor_ms, resolve=True).SerializeToString()


def command_of(*mutations: records.Mutation, request_id: bytes, anchor_ms: int = 0) -> bytes:
    command = records.Command(request_id=request_id, anchor_ms=anchor_ms, mutations=mutations)
    return command.SerializeToString()
