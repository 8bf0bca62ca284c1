"""The machine of a partition: rows, index entries, versions, counters; each command takes effect at most once (P3, P4).

A row and its index entries, the dedupe record and the group's state are staged together and so change in one atomic
step. See docs/storage-format.md for what is written.
"""

from google.protobuf.message import DecodeError

from ...api.proto.ringhold.storage.v1.records_pb2 import (
    VERDICT_APPLIED,
    Command,
    Delete,
    GroupState,
    LogEntry,
    Mutation,
    MutationResult,
    Outcome,
    Row,
    Set,
)
from ..keyspace import Kind, escape, prefix
from ..storage.envelope import seal, unseal
from .dedupe import DEDUPE_RECORDS_MAX, DedupeTable, fingerprint_of
from .machine import UnknownCommand, advance, stage_state
from .staged import Staged


def parse_command(encoded: bytes) -> Command:
    """A storage.v1.Command. Raises UnknownCommand if it is none, or one with parts that this version does not know.

    A leader calls it before it appends a command, for a command in the log that can't be read stops every replica.
    """
    try:
        command = Command.FromString(encoded)
    except DecodeError as error:
        raise UnknownCommand(f"{len(encoded)} bytes that are no command") from error
    command.DiscardUnknownFields()
    is_known = command.ByteSize() == len(encoded)
    for mutation in command.mutations:
        is_known = is_known and mutation.WhichOneof("kind") is not None
    if not is_known:
        raise UnknownCommand("a command with parts that this version does not know")
    if command.resolve and command.mutations:
        raise UnknownCommand("a command that both changes records and asks what became of a request")
    return command


def parse_commands(entry: LogEntry) -> list[Command]:
    """The commands of an entry. Raises UnknownCommand."""
    return [parse_command(encoded) for encoded in entry.commands]


def grows(command: Command) -> bool:
    """Whether a command may leave more stored than before, beside the record of its outcome.

    To resolve a request is let through like a Delete: programs in doubt must get out of it on a full disk too, and what
    it leaves is one record, for which the reserve has room and which goes after the window.
    """
    return any(not mutation.HasField("delete") for mutation in command.mutations)


class RecordMachine:
    """Applies Sets and Deletes to the rows of one group. `state` is taken over and changed in place."""

    def __init__(self, group: int, state: GroupState, *, dedupe_records_max: int = DEDUPE_RECORDS_MAX) -> None:
        self.state = state
        self._group = group
        self._dedupe = DedupeTable(group, state, dedupe_records_max)
        self._row_prefix = prefix(Kind.ROW, group)
        self._index_prefix = prefix(Kind.INDEX, group)
        self._parsed: dict[int, list[Command]] = {}  # by `reads`, until they are applied

    def apply(self, index: int, entry: LogEntry, staged: Staged) -> list[bytes]:
        """Encoded storage.v1.Outcome per command. The contract is on `Machine`."""
        commands = self._parsed.pop(index, None) or parse_commands(entry)
        advance(self.state, index, entry)
        self._dedupe.evict(len(commands), staged)
        outcomes = [self._run(command, staged) for command in commands]
        stage_state(self.state, self._group, staged)
        return outcomes

    def reads(self, index: int, entry: LogEntry) -> list[bytes]:
        """Dedupe records and rows. The contract is on `Machine`."""
        commands = self._parsed[index] = parse_commands(entry)
        keys: list[bytes] = []
        for command in commands:
            keys.append(self._dedupe.key(command))
            keys += [self._row_prefix + changed_key(mutation) for mutation in command.mutations]
        return keys

    def written(self) -> None:
        """Nobody waits for it: rows are read from the engine. The contract is on `Machine`."""

    def _run(self, command: Command, staged: Staged) -> bytes:
        key = self._dedupe.key(command)
        mutations = command.mutations
        fingerprint = fingerprint_of(mutations)
        known = self._dedupe.answer(key, command, fingerprint, staged)
        if known is not None:
            return known
        if command.resolve:
            return self._dedupe.abort(key, staged)
        outcome = Outcome(verdict=VERDICT_APPLIED, log_time_ms=self.state.log_time_ms, fingerprint=fingerprint)
        for mutation in mutations:
            result = outcome.results.add()
            if mutation.HasField("set"):
                self._set(mutation.set, staged, result)
            else:
                self._delete(mutation.delete, staged, result)
        encoded = outcome.SerializeToString()
        self._dedupe.record(key, encoded, staged)
        return encoded

    def _set(self, change: Set, staged: Staged, result: MutationResult) -> None:
        state, key = self.state, change.key
        row_key = self._row_prefix + key
        old = _load(row_key, staged)
        version = state.revision + 1
        row = Row(value=change.value, version=version, create_version=old.create_version if old else version)
        if change.indexes:
            row.indexes.extend(change.indexes)
        state.revision = version
        if old is None:
            state.keys += 1
            state.bytes += record_bytes(key, row)
        else:
            result.existed = True
            state.bytes += record_bytes(key, row) - record_bytes(key, old)
        self._replace_entries(key, old, row, staged)
        staged.put(row_key, seal(row.SerializeToString()))
        result.version = version

    def _delete(self, change: Delete, staged: Staged, result: MutationResult) -> None:
        """Nothing comes of it if there is no record."""
        state, key = self.state, change.key
        row_key = self._row_prefix + key
        old = _load(row_key, staged)
        if old is None:
            return
        state.revision += 1
        state.keys -= 1
        state.bytes -= record_bytes(key, old)
        staged.delete(row_key)
        self._replace_entries(key, old, None, staged)
        result.version = state.revision
        result.existed = True

    def _index_keys(self, key: bytes, row: Row | None) -> list[bytes]:
        if row is None or not row.indexes:
            return []
        start = self._index_prefix
        return [start + escape(entry.name.encode()) + escape(entry.value) + key for entry in row.indexes]

    def _replace_entries(self, key: bytes, before: Row | None, after: Row | None, staged: Staged) -> None:
        old, new = self._index_keys(key, before), self._index_keys(key, after)
        if old == new:
            return
        kept = set(old).intersection(new)
        for index_key in old:
            if index_key not in kept:
                staged.delete(index_key)
        for index_key in new:
            if index_key not in kept:
                staged.put(index_key, b"")


def record_bytes(key: bytes, row: Row) -> int:
    """What a record counts for in `GroupState.bytes`: key, value, and name and value of its index entries."""
    size = len(key) + len(row.value)
    if row.indexes:
        size += sum(len(entry.name.encode()) + len(entry.value) for entry in row.indexes)
    return size


def _load(row_key: bytes, staged: Staged) -> Row | None:
    stored = staged.get(row_key)
    return None if stored is None else Row.FromString(unseal(stored))


def changed_key(mutation: Mutation) -> bytes:
    return mutation.set.key if mutation.HasField("set") else mutation.delete.key
