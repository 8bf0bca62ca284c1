"""The machine against a plain model of records, under every way to put entries into batches."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import Rows, apply, command_of, delete_of, resolve_of, set_of

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as records
from ringhold.node import keyspace
from ringhold.node.keyspace import Kind
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS, MINUTE_MS
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.records import RecordMachine, record_bytes
from ringhold.node.storage.envelope import unseal

GROUP = 3
RECORDS_MAX = 40

keys = st.sampled_from([b"a", b"b", b"a\x00", b":"])
entries = st.lists(
    st.tuples(st.sampled_from(["i", "i\x00", "é"]), st.sampled_from([b"", b"\x00", b"x"])), max_size=3, unique=True
)
mutations = st.builds(set_of, keys, st.binary(max_size=3), entries) | st.builds(delete_of, keys)


@dataclass(frozen=True)
class Step:
    """An entry: its commands as (request, age of the anchor), and how far log time moves before it.

    A command without a list of mutations resolves the request.
    """

    elapsed_ms: int
    commands: list[tuple[int, int, list[records.Mutation] | None]]


jumps = st.sampled_from([0, 1, MINUTE_MS, DEDUPE_WINDOW_MS, 3 * DEDUPE_WINDOW_MS])
floods = st.builds(
    lambda elapsed, first: Step(elapsed, [(first + n, 0, []) for n in range(30)]), jumps, st.integers(0, 9)
)
steps = floods | st.builds(
    Step,
    jumps,
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([0, 1, MINUTE_MS, DEDUPE_WINDOW_MS, 2 * DEDUPE_WINDOW_MS]),
            st.none() | st.lists(mutations, max_size=3),
        ),
        max_size=4,
    ),
)
logs = st.lists(steps, max_size=8)


def log_entries(log: list[Step]) -> list[records.LogEntry]:
    now = 100 * MINUTE_MS
    result = []
    for step in log:
        now += step.elapsed_ms
        commands = [
            resolve_of(b"%d" % request, now - age)
            if changes is None
            else command_of(*changes, request_id=b"%d" % request, anchor_ms=now - age)
            for request, age, changes in step.commands
        ]
        result.append(records.LogEntry(term=1, log_time_ms=now, commands=commands))
    return result


@dataclass
class Model:
    """What users believe: a dict of records, and outcomes remembered for ever (they say nothing once too old)."""

    rows: dict[bytes, tuple[bytes, int, int, list[tuple[str, bytes]]]] = field(default_factory=dict)
    applied: dict[tuple[bytes, int], tuple[list[records.Mutation], bytes]] = field(default_factory=dict)
    aborted: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    revision: int = 0

    def mutate(self, mutation: records.Mutation) -> tuple[int, bool]:
        if mutation.HasField("delete"):
            existed = self.rows.pop(mutation.delete.key, None) is not None
            self.revision += existed
            return (self.revision, True) if existed else (0, False)
        self.revision += 1
        change = mutation.set
        old = self.rows.get(change.key)
        created = self.revision if old is None else old[2]
        indexes = [(entry.name, entry.value) for entry in change.indexes]
        self.rows[change.key] = (change.value, self.revision, created, indexes)
        return self.revision, old is not None

    def check(self, encoded: bytes, answer: bytes, log_time_ms: int) -> None:
        command, outcome = records.Command.FromString(encoded), records.Outcome.FromString(answer)
        name = command.request_id, command.anchor_ms // MINUTE_MS
        expired = command.anchor_ms < log_time_ms - DEDUPE_WINDOW_MS
        if outcome.verdict == records.VERDICT_ABORTED and name not in self.aborted:
            assert command.resolve
            assert not expired
            assert name not in self.applied
            self.aborted[name] = answer
        elif outcome.verdict == records.VERDICT_ABORTED:
            assert self.aborted[name] == answer
        elif outcome.verdict == records.VERDICT_APPLIED and command.resolve:
            assert self.applied[name][1] == answer
        elif outcome.verdict == records.VERDICT_APPLIED and name not in self.applied:
            assert name not in self.aborted
            assert not expired
            results = [(each.version, each.existed) for each in outcome.results]
            assert results == [self.mutate(mutation) for mutation in command.mutations]
            self.applied[name] = list(command.mutations), answer
        elif outcome.verdict == records.VERDICT_APPLIED:
            assert self.applied[name] == (list(command.mutations), answer)
        elif outcome.verdict == records.VERDICT_REUSED:
            assert not command.resolve
            assert self.applied[name][0] != list(command.mutations)
        elif outcome.verdict == records.VERDICT_EXPIRED:
            assert expired
        else:
            assert outcome.verdict == records.VERDICT_DEDUPE_FULL
            assert name not in self.applied
            assert name not in self.aborted

    def check_rows(self, rows: Rows) -> None:
        stored = {}
        indexed = set()
        for key, value in rows.content.items():
            if key[0] == Kind.ROW:
                row = records.Row.FromString(unseal(value))
                indexes = [(entry.name, entry.value) for entry in row.indexes]
                stored[keyspace.split_row_key(key)[1]] = (row.value, row.version, row.create_version, indexes)
            elif key[0] == Kind.INDEX:
                indexed.add(keyspace.split_index_key(key)[1:])
        assert stored == self.rows
        assert indexed == {(*entry, key) for key, row in self.rows.items() for entry in row[3]}


def machine_over(rows: Rows) -> RecordMachine:
    return RecordMachine(GROUP, load_state(rows, GROUP), dedupe_records_max=RECORDS_MAX)


@given(logs)
def test_machine_does_what_the_model_says(log: list[Step]) -> None:
    """Rows, index entries and versions are those of a plain dict; no command takes effect twice."""
    rows, model = Rows(), Model()
    machine = machine_over(rows)
    for entry in log_entries(log):
        outcomes = apply(rows, machine, entry)[0]
        for encoded, answer in zip(entry.commands, outcomes, strict=True):
            model.check(encoded, answer, entry.log_time_ms)
    model.check_rows(rows)
    assert machine.state.revision == model.revision


@given(logs, st.lists(st.booleans(), min_size=8, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
@settings(max_examples=200)
def test_batching_and_restarts_change_nothing(log: list[Step], cuts: list[bool], restarts: list[bool]) -> None:
    """Replicas that batch the same entries differently, and restart at will, hold equal bytes and answer alike."""
    one, other = Rows(), Rows()
    steady, restarting = machine_over(one), machine_over(other)
    expected, answered, waiting = [], [], []
    for entry, cut, restart in zip(log_entries(log), cuts, restarts, strict=False):
        expected += apply(one, steady, entry)
        waiting.append(entry)
        if cut:
            answered += apply(other, restarting, *waiting)
            waiting = []
            restarting = machine_over(other) if restart else restarting
    answered += apply(other, restarting, *waiting)
    assert answered == expected
    assert other.content == one.content


@given(logs)
def test_counters_equal_a_recount(log: list[Step]) -> None:
    """keys, bytes and dedupe_records are exact after every entry, and the table never exceeds its limit."""
    rows = Rows()
    machine = machine_over(rows)
    for entry in log_entries(log):
        apply(rows, machine, entry)
        found = [
            (key[5:], records.Row.FromString(unseal(row))) for key, row in rows.content.items() if key[0] == Kind.ROW
        ]
        assert machine.state.keys == len(found)
        assert machine.state.bytes == sum(record_bytes(key, row) for key, row in found)
        assert machine.state.dedupe_records == sum(key[0] == Kind.DEDUPE for key in rows.content) <= RECORDS_MAX
        assert load_state(rows, GROUP) == machine.state
