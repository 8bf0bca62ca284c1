"""What Sets and Deletes do to rows, index entries, versions and counters, and what repetitions do not do (P3, P4)."""

from collections.abc import Callable, Sequence

import pytest
from support.rows import Rows, apply, command_of, delete_of, resolve_of, set_of

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as records
from ringhold.node import keyspace
from ringhold.node.keyspace import Kind
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS, MINUTE_MS
from ringhold.node.machine.machine import UnknownCommand, load_state
from ringhold.node.machine.queries import read_rows
from ringhold.node.machine.records import RecordMachine, parse_command
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import Row, WriteBatch
from ringhold.node.storage.envelope import Damaged, unseal

GROUP = 7
START_MS = 20 * MINUTE_MS


class Group:
    """One group's machine over its rows; every command is an entry of its own."""

    def __init__(self, records_max: int = 1_000) -> None:
        self.rows = Rows()
        self.machine = RecordMachine(GROUP, records.GroupState(), dedupe_records_max=records_max)
        self.log_time_ms = START_MS
        self.requests = 0

    def run(
        self, *mutations: records.Mutation, request_id: bytes | None = None, anchor_ms: int | None = None
    ) -> records.Outcome:
        self.requests += 1
        command = command_of(
            *mutations,
            request_id=b"%d" % self.requests if request_id is None else request_id,
            anchor_ms=self.log_time_ms if anchor_ms is None else anchor_ms,
        )
        return self.apply(command)[0]

    def apply(self, *commands: bytes) -> list[records.Outcome]:
        entry = records.LogEntry(term=3, log_time_ms=self.log_time_ms, commands=commands)
        return [records.Outcome.FromString(outcome) for outcome in apply(self.rows, self.machine, entry)[0]]

    def row(self, key: bytes) -> records.Row | None:
        row = read_rows(self.rows, GROUP, [key])[0]
        return records.Row.FromString(row) if row else None

    def entries(self) -> list[tuple[str, bytes, bytes]]:
        bounds = keyspace.kind_range(Kind.INDEX, GROUP)
        stored = self.rows.scan(bounds.start, bounds.end, limit=1_000)
        return [keyspace.split_index_key(key)[1:] for key, _ in stored]

    def dedupe_keys(self) -> list[bytes]:
        return sorted(key for key in self.rows.content if key[0] == Kind.DEDUPE)


def result(outcome: records.Outcome) -> tuple[int, bool]:
    assert outcome.verdict == records.VERDICT_APPLIED
    return outcome.results[0].version, outcome.results[0].existed


def test_set_makes_row_and_entries() -> None:
    """A Set writes the row and one index key per entry, and answers the revision."""
    group = Group()
    assert result(group.run(set_of(b"k", b"v", [("city", b"Paris"), ("age", b"9")]))) == (1, False)
    row = group.row(b"k")
    assert row is not None
    assert (row.value, row.version, row.create_version, row.expires_at_ms) == (b"v", 1, 1, 0)
    assert [(entry.name, entry.value) for entry in row.indexes] == [("city", b"Paris"), ("age", b"9")]
    assert group.entries() == [("age", b"9", b"k"), ("city", b"Paris", b"k")]


def test_set_replaces_row_and_all_entries() -> None:
    """A second Set replaces the value and the whole set of index entries; the create version stays."""
    group = Group()
    group.run(set_of(b"k", b"v", [("city", b"Paris"), ("age", b"9")]))
    group.run(set_of(b"other"))
    assert result(group.run(set_of(b"k", b"w", [("age", b"9"), ("age", b"10")]))) == (3, True)
    row = group.row(b"k")
    assert row is not None
    assert (row.value, row.version, row.create_version) == (b"w", 3, 1)
    assert group.entries() == [("age", b"10", b"k"), ("age", b"9", b"k")]
    group.run(set_of(b"k", b"w"))
    assert group.entries() == []


def test_delete_removes_row_and_entries() -> None:
    """A Delete leaves nothing of the record, and a record made again is a new one."""
    group = Group()
    group.run(set_of(b"k", b"v", [("city", b"Paris")]))
    assert result(group.run(delete_of(b"k"))) == (2, True)
    assert group.row(b"k") is None
    assert group.entries() == []
    assert (group.machine.state.keys, group.machine.state.bytes) == (0, 0)
    assert result(group.run(set_of(b"k"))) == (3, False)
    row = group.row(b"k")
    assert row is not None
    assert row.create_version == 3


def test_delete_of_absent_key_changes_nothing() -> None:
    """Deleting what is not there is no error and no revision."""
    group = Group()
    assert result(group.run(delete_of(b"k"))) == (0, False)
    assert group.machine.state.revision == 0


def test_mutations_of_one_command_see_each_other() -> None:
    """The mutations of a command apply in their order, those of one key too."""
    group = Group()
    outcome = group.run(set_of(b"k", b"1", [("a", b"x")]), delete_of(b"k"), set_of(b"k", b"2"), set_of(b"k", b"3"))
    assert [(each.version, each.existed) for each in outcome.results] == [(1, False), (2, True), (3, False), (4, True)]
    row = group.row(b"k")
    assert row is not None
    assert (row.value, row.version, row.create_version) == (b"3", 4, 3)
    assert group.entries() == []


def test_state_is_stored_with_its_rows() -> None:
    """The stored state says which entry the rows stand at; counters count keys, values and index entries."""
    group = Group()
    group.run(set_of(b"key", b"value", [("city", b"Paris")]), set_of(b"k"))
    state = load_state(group.rows, GROUP)
    assert state == group.machine.state
    assert (state.applied_index, state.applied_term, state.log_time_ms) == (1, 3, START_MS)
    assert (state.revision, state.keys, state.dedupe_records) == (2, 2, 1)
    assert state.bytes == len(b"key" + b"value" + b"city" + b"Paris" + b"k")
    assert load_state(Rows(), GROUP) == records.GroupState()


def test_entry_without_commands() -> None:
    """An empty entry moves the applied index, and log time forward only."""
    group = Group()
    group.apply()
    group.log_time_ms -= 1
    group.apply()
    assert (group.machine.state.applied_index, group.machine.state.log_time_ms) == (2, START_MS)


def test_gap_in_the_log_is_a_bug() -> None:
    """Entries are applied one by one; anything else stops the node."""
    group = Group()
    group.machine.state.applied_index += 1
    with pytest.raises(AssertionError):
        group.machine.apply(1, records.LogEntry(), Staged(group.rows, WriteBatch()))


def test_repetition_takes_no_effect_and_gets_the_first_outcome() -> None:
    """The same command again, in a later entry or in the same, gets the stored outcome and changes nothing."""
    group = Group()
    command = command_of(set_of(b"k", b"v"), request_id=b"id", anchor_ms=START_MS)
    first, second = group.apply(command, command)
    group.run(set_of(b"k", b"newer"))
    group.log_time_ms += DEDUPE_WINDOW_MS
    assert first == second == group.apply(command)[0]
    row = group.row(b"k")
    assert row is not None
    assert row.value == b"newer"
    assert group.machine.state.revision == 2


def test_every_outcome_is_stored() -> None:
    """A Delete that found nothing keeps saying so, even if the key exists by now."""
    group = Group()
    assert result(group.run(delete_of(b"k"), request_id=b"id")) == (0, False)
    group.run(set_of(b"k"))
    assert result(group.run(delete_of(b"k"), request_id=b"id")) == (0, False)
    assert group.row(b"k") is not None


@pytest.mark.parametrize(
    "other",
    [
        [set_of(b"k", b"w")],
        [set_of(b"kv", b"")],
        [set_of(b"k", b"v", [("a", b"")])],
        [set_of(b"k", b"v"), set_of(b"k", b"v")],
        [delete_of(b"k")],
        [],
    ],
)
def test_other_payload_under_the_same_id_is_refused(other: Sequence[records.Mutation]) -> None:
    """A reused request_id never runs another payload, and never returns the outcome of another."""
    group = Group()
    group.run(set_of(b"k", b"v"), request_id=b"id")
    assert group.run(*other, request_id=b"id").verdict == records.VERDICT_REUSED
    assert group.machine.state.revision == 1


def test_anchor_older_than_the_window_is_refused_and_not_stored() -> None:
    """A new command with an anchor of more than five minutes ago is not applied; one of exactly five is."""
    group = Group()
    outcome = group.run(set_of(b"k"), request_id=b"old", anchor_ms=START_MS - DEDUPE_WINDOW_MS - 1)
    assert outcome.verdict == records.VERDICT_EXPIRED
    assert outcome.log_time_ms == START_MS
    assert (group.row(b"k"), group.dedupe_keys()) == (None, [])
    assert result(group.run(set_of(b"k"), anchor_ms=START_MS - DEDUPE_WINDOW_MS)) == (1, False)


def test_full_table_refuses_and_forgets_nothing() -> None:
    """A full dedupe table refuses new commands, still answers repetitions, and has room again after the window."""
    group = Group(records_max=2)
    group.run(set_of(b"a"), request_id=b"1")
    group.run(set_of(b"b"), request_id=b"2")
    assert group.run(set_of(b"c"), request_id=b"3").verdict == records.VERDICT_DEDUPE_FULL
    assert group.row(b"c") is None
    assert result(group.run(set_of(b"a"), request_id=b"1")) == (1, False)
    group.log_time_ms += DEDUPE_WINDOW_MS + MINUTE_MS
    assert result(group.run(set_of(b"c"), request_id=b"3")) == (3, False)
    assert len(group.dedupe_keys()) == group.machine.state.dedupe_records == 1


def test_a_request_that_was_applied_is_resolved_with_its_outcome() -> None:
    """Whatever its payload was, and however often it is asked; also long after the window, while the record stands."""
    group = Group()
    group.run(set_of(b"k", b"v"), request_id=b"id", anchor_ms=START_MS)
    group.log_time_ms += DEDUPE_WINDOW_MS + 1
    outcomes = group.apply(*[resolve_of(b"id", START_MS)] * 2)
    assert [(outcome.verdict, result(outcome)) for outcome in outcomes] == [(records.VERDICT_APPLIED, (1, False))] * 2
    assert len(group.dedupe_keys()) == 1


@pytest.mark.parametrize("late", [[set_of(b"k", b"v")], [delete_of(b"k")], []])
def test_a_request_without_an_outcome_is_aborted_by_asking(late: Sequence[records.Mutation]) -> None:
    """It never takes effect then, for as long as its anchor is good, and every later question is answered the same."""
    group = Group()
    (first,) = group.apply(resolve_of(b"id", START_MS))
    assert (first.verdict, list(first.results)) == (records.VERDICT_ABORTED, [])
    assert group.run(*late, request_id=b"id", anchor_ms=START_MS) == first
    assert group.apply(resolve_of(b"id", START_MS)) == [first]
    assert (group.row(b"k"), group.machine.state.revision) == (None, 0)
    assert len(group.dedupe_keys()) == group.machine.state.dedupe_records == 1
    group.log_time_ms += DEDUPE_WINDOW_MS + MINUTE_MS
    assert group.run(*late, request_id=b"id", anchor_ms=START_MS).verdict == records.VERDICT_EXPIRED


def test_what_is_asked_about_too_late_is_unknown_and_stays_out() -> None:
    """Nothing is stored; the log time of the entry that asked refuses the request itself from then on."""
    group = Group()
    old = START_MS - DEDUPE_WINDOW_MS - 1
    assert group.apply(resolve_of(b"id", old))[0].verdict == records.VERDICT_EXPIRED
    group.log_time_ms = 1  # of a leader that fell back; the group's stands
    assert group.run(set_of(b"k"), request_id=b"id", anchor_ms=old).verdict == records.VERDICT_EXPIRED
    assert group.dedupe_keys() == []


def test_a_full_table_can_t_promise_that_a_request_is_aborted() -> None:
    """The doubt stands then; what is stored is still told."""
    group = Group(records_max=1)
    group.run(set_of(b"a"), request_id=b"1")
    full, known = group.apply(resolve_of(b"2", START_MS), resolve_of(b"1", START_MS))
    assert (full.verdict, known.verdict) == (records.VERDICT_DEDUPE_FULL, records.VERDICT_APPLIED)


def test_records_to_resolve_are_read_ahead() -> None:
    """`reads` names the record that the question is about."""
    group = Group()
    group.run(set_of(b"k"), request_id=b"id", anchor_ms=START_MS)
    entry = records.LogEntry(term=3, log_time_ms=START_MS, commands=[resolve_of(b"id", START_MS)])
    assert group.machine.reads(2, entry) == group.dedupe_keys()


def test_nothing_within_the_window_is_evicted() -> None:
    """A record stays for as long as any anchor of its minute may be repeated, and goes right after."""
    group = Group()
    group.run(set_of(b"k"), request_id=b"id", anchor_ms=START_MS)
    group.log_time_ms = START_MS + DEDUPE_WINDOW_MS + MINUTE_MS - 1
    group.apply()
    assert len(group.dedupe_keys()) == 1
    group.log_time_ms += 1
    group.apply()
    assert group.dedupe_keys() == []
    assert group.run(set_of(b"k"), request_id=b"id", anchor_ms=START_MS).verdict == records.VERDICT_EXPIRED


def test_eviction_is_sliced() -> None:
    """One entry drops a bounded number of old records, the next ones the rest, without a scan once all are gone."""
    group = Group()
    group.apply(*(command_of(set_of(b"k"), request_id=b"%d" % n, anchor_ms=START_MS) for n in range(40)))
    group.log_time_ms += 2 * DEDUPE_WINDOW_MS
    left = []
    for _ in range(4):
        group.apply()
        left.append(len(group.dedupe_keys()))
    assert left == [24, 8, 0, 0]
    reads = group.rows.reads
    group.apply()
    assert group.rows.reads == reads


def test_eviction_does_not_walk_over_what_it_has_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice begins where the one before has ended: a deleted record costs RocksDB a step until it is compacted."""
    group = Group()
    group.apply(*(command_of(set_of(b"k"), request_id=b"%02d" % n, anchor_ms=START_MS) for n in range(40)))
    stored = group.dedupe_keys()
    group.log_time_ms += 2 * DEDUPE_WINDOW_MS
    begun: list[bytes] = []
    scan = group.rows.scan

    def noted(start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Row]:
        begun.append(start)
        return scan(start, end, limit=limit, reverse=reverse)

    monkeypatch.setattr(group.rows, "scan", noted)
    for _ in range(3):
        group.apply()
    assert group.dedupe_keys() == []
    assert begun[1:] == [stored[15] + b"\0", stored[31] + b"\0"]


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xff",
        b"\x1a\x00",  # a mutation of no kind
        b"\x1a\x02\x1a\x00",  # a mutation of a kind that we don't know
        b"\x28\x01",  # a field that we don't know
        b"\x1a\x04\x0a\x02\x20\x01",  # the same, within a Set
        b"\x1a\x04\x12\x02\x0a\x00\x20\x01",  # a Delete and a question at once
    ],
)
def test_unknown_command_stops_the_replica(encoded: bytes) -> None:
    """A command that this version can't read in full is never guessed at."""
    with pytest.raises(UnknownCommand):
        parse_command(encoded)
    with pytest.raises(UnknownCommand):
        Group().apply(encoded)


@pytest.mark.parametrize("kind", [Kind.ROW, Kind.DEDUPE, Kind.STATE])
def test_damage_is_found(kind: Kind) -> None:
    """Damage in a row, a dedupe record or the state is raised, never used."""
    group = Group()
    group.run(set_of(b"k", b"v"), request_id=b"id")
    key = next(key for key in group.rows.content if key[0] == kind)
    group.rows.content[key] = group.rows.content[key][:-1] + b"?"
    reads: dict[Kind, Callable[[], object]] = {
        Kind.ROW: lambda: group.run(delete_of(b"k")),
        Kind.DEDUPE: lambda: group.run(request_id=b"id"),
        Kind.STATE: lambda: load_state(group.rows, GROUP),
    }
    with pytest.raises(Damaged):
        reads[kind]()


def test_stored_values_are_sealed() -> None:
    """Every stored value but those of index entries has the envelope."""
    group = Group()
    group.run(set_of(b"k", b"v", [("city", b"Paris")]))
    for key, stored in group.rows.content.items():
        assert stored == b"" if key[0] == Kind.INDEX else unseal(stored)
