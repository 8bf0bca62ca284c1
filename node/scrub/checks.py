"""What a scrub compares: checksums, records with their index entries, and what a group counts of itself.

Generators that read in slices of a few milliseconds (P8), each in a view of the engine, so that writes under way don't
matter: a record and its index entries change in one batch. See docs/operations.md.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from ...api.limits import KIB
from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, HardState, LogEntry, Outcome, ReplicaRecord
from ...api.proto.ringhold.storage.v1.records_pb2 import Row as Record
from .. import keyspace
from ..keyspace import Bounds, Kind
from ..machine.records import record_bytes
from ..storage.engine import Engine, Row, View, ViewGone, prefix_end
from ..storage.envelope import Damaged, unseal

ROWS_PER_SLICE_MAX = 32
BYTES_PER_SLICE_MAX = 256 * KIB

COUNT_S_MAX = 5.0
"""To count a group's records takes one view of all of them. An engine must keep for it what is overwritten meanwhile,
so it is given up after this time; larger groups are counted by faster scrubs."""

SHOWN_BYTES_MAX = 64

Content = TypeVar("Content", bound=Message)
OpenView: TypeAlias = Callable[[], View]
Now: TypeAlias = Callable[[], float]


class Part(Enum):
    """What a finding concerns, and hence what can be done about it."""

    ROWS = auto()
    LOG = auto()
    VOTE = auto()
    REPLICA = auto()
    NODE = auto()


class Finding(NamedTuple):
    """Something that is not as it was written. `stored_key` of what it was found at."""

    part: Part
    what: str
    stored_key: bytes


class Step(NamedTuple):
    """What one slice came to."""

    records: int
    bytes: int
    findings: Sequence[Finding] = ()


Steps: TypeAlias = Generator[Step, None, None]
Check: TypeAlias = Callable[[View, Sequence[Row]], Step]


@dataclass(slots=True)
class Counted:
    """What the records of a group amount to. `in_one_view`: all of it was read in the view that `state` is from."""

    state: GroupState | None = None
    keys: int = 0
    bytes: int = 0
    in_one_view: bool = True


def group_checked(open_view: OpenView, now: Now, group: int, counted: Counted) -> Steps:
    """Everything about the rows of a healthy replica."""
    yield from rows_checked(open_view, now, group, counted)
    yield from ranged(open_view, keyspace.kind_range(Kind.INDEX, group), entries_step)
    yield from ranged(open_view, keyspace.kind_range(Kind.DEDUPE, group), lambda _, rows: outcomes_step(rows))


def log_and_vote_checked(open_view: OpenView, group: int) -> Steps:
    """What every replica has, whatever the health of its rows."""
    vote, replica = keyspace.vote_key(group), keyspace.replica_key(group)
    with closing(open_view()) as view:
        yield Step(
            2,
            sum(len(view.get(key) or b"") for key in (vote, replica)),
            [
                *single_findings(view, vote, HardState, Part.VOTE, "the vote"),
                *single_findings(view, replica, ReplicaRecord, Part.REPLICA, "the record of the replica"),
            ],
        )
    yield from ranged(open_view, keyspace.kind_range(Kind.LOG, group), lambda _, rows: log_step(rows))


def node_checked(open_view: OpenView) -> Steps:
    """The node's own records: what they say is not known here, only that it is what was written."""
    start = keyspace.node_key("")
    yield from ranged(open_view, Bounds(start, prefix_end(start)), lambda _, rows: node_step(rows))


def ranged(open_view: OpenView, bounds: Bounds, check: Check) -> Steps:
    """A range up to what is its end now, each slice in a view of its own: logs grow as fast as a slow scrub reads."""
    start, end = bounds.start, end_now(open_view, bounds)
    limit = ROWS_PER_SLICE_MAX
    while True:
        with closing(open_view()) as view:
            rows = view.scan(start, end, limit=limit)
            if not rows:
                return
            step = check(view, rows)
        start, limit = rows[-1][0] + b"\x00", next_limit(limit, step.bytes)
        yield step


def end_now(open_view: OpenView, bounds: Bounds) -> bytes:
    """The end of what a range holds now."""
    with closing(open_view()) as view:
        last = view.scan(*bounds, limit=1, reverse=True)
    return last[0][0] + b"\x00" if last else bounds.start


def rows_checked(open_view: OpenView, now: Now, group: int, counted: Counted) -> Steps:
    """The state and the records of a group, in one view for as long as that may be kept; then they can be counted."""
    bounds = keyspace.kind_range(Kind.ROW, group)
    start, limit, began = bounds.start, ROWS_PER_SLICE_MAX, now()
    end = end_now(open_view, bounds)
    view = open_view()
    try:
        state_key = keyspace.state_key(group)
        findings = single_findings(view, state_key, GroupState, Part.ROWS, "the state")
        if not findings:
            counted.state = GroupState.FromString(unseal(view.get(state_key) or b""))
        yield Step(1, len(view.get(state_key) or b""), findings)
        while True:
            if now() - began > COUNT_S_MAX or not counted.in_one_view:
                view.close()
                view, counted.in_one_view = open_view(), False
            try:
                rows = view.scan(start, end, limit=limit)
                step = records_step(view, group, rows, counted)
            except ViewGone:
                counted.in_one_view = False
                continue
            if not rows:
                break
            start, limit = rows[-1][0] + b"\x00", next_limit(limit, step.bytes)
            yield step
    finally:
        view.close()
    yield Step(0, 0, count_findings(group, counted))


def next_limit(limit: int, size: int) -> int:
    """How many rows the next slice has, when one of `limit` rows had so many bytes."""
    return max(1, limit // 2) if size > BYTES_PER_SLICE_MAX else min(ROWS_PER_SLICE_MAX, limit * 2)


def count_findings(group: int, counted: Counted) -> list[Finding]:
    """Whether the group's own figures are those of its records, as far as that can be said."""
    state = counted.state
    if state is None or not counted.in_one_view or (state.keys, state.bytes) == (counted.keys, counted.bytes):
        return []
    what = f"{counted.keys} records of {counted.bytes} bytes are there, and {state.keys} of {state.bytes} should be"
    return [Finding(Part.ROWS, what, keyspace.state_key(group))]


def records_step(view: View, group: int, rows: Sequence[Row], counted: Counted) -> Step:
    """Records, and whether all their index entries are there. Adds to `counted`."""
    findings: list[Finding] = []
    wanted: dict[bytes, bytes] = {}
    for stored_key, sealed in rows:
        key = keyspace.split_row_key(stored_key)[1]
        record = opened(sealed, Record)
        if isinstance(record, str):
            findings.append(Finding(Part.ROWS, f"the record of {shown(key)}: {record}", stored_key))
            counted.state = None  # there is nothing to compare with any more
            continue
        counted.keys += 1
        counted.bytes += record_bytes(key, record)
        wanted |= {keyspace.index_key(group, each.name, each.value, key): key for each in record.indexes}
    for entry, stored in zip(wanted, view.get_many(list(wanted)), strict=True):
        if stored is None:
            what = f"the record of {shown(wanted[entry])} has no entry in its index {name_of(entry)}"
            findings.append(Finding(Part.ROWS, what, entry))
    return Step(len(rows), bytes_of(rows) + sum(map(len, wanted)), findings)


def entries_step(view: View, rows: Sequence[Row]) -> Step:
    """Index entries, and whether each has its record, with that value."""
    findings: list[Finding] = []
    wanted: list[tuple[bytes, str, bytes, bytes]] = []
    for stored_key, _ in rows:
        try:
            group, name, value, key = keyspace.split_index_key(stored_key)
        except ValueError as error:
            findings.append(Finding(Part.ROWS, f"an index entry can't be read: {error}", stored_key))
            continue
        wanted.append((stored_key, name, value, keyspace.row_key(group, key)))
    row_keys = list(dict.fromkeys(row_key for *_, row_key in wanted))
    sealed_rows = dict(zip(row_keys, view.get_many(row_keys), strict=True))
    for stored_key, name, value, row_key in wanted:
        reason = entry_problem(sealed_rows[row_key], name, value)
        if reason:
            what = f"an entry of index {name} for {shown(keyspace.split_row_key(row_key)[1])}: {reason}"
            findings.append(Finding(Part.ROWS, what, stored_key))
    size = sum(len(sealed) for sealed in sealed_rows.values() if sealed is not None)
    return Step(len(rows), bytes_of(rows) + size, findings)


def entry_problem(sealed: bytes | None, name: str, value: bytes) -> str:
    """Why an index entry can't be right, its row being what it is; empty if it can."""
    if sealed is None:
        return "there is no such record"
    record = opened(sealed, Record)
    if isinstance(record, str):
        return f"the record: {record}"
    has_value = any(each.name == name and each.value == value for each in record.indexes)
    return "" if has_value else "the record has no such value"


def outcomes_step(rows: Sequence[Row]) -> Step:
    """The outcomes of recent requests."""
    problems = [(stored_key, opened(sealed, Outcome)) for stored_key, sealed in rows]
    findings = [
        Finding(Part.ROWS, f"the outcome of a request: {problem}", stored_key)
        for stored_key, problem in problems
        if isinstance(problem, str)
    ]
    return Step(len(rows), bytes_of(rows), findings)


def log_step(rows: Sequence[Row]) -> Step:
    findings: list[Finding] = []
    for stored_key, sealed in rows:
        entry = opened(sealed, LogEntry)
        if isinstance(entry, str):
            index = keyspace.split_log_key(stored_key)[1]
            findings.append(Finding(Part.LOG, f"entry {index} of the log: {entry}", stored_key))
    return Step(len(rows), bytes_of(rows), findings)


def node_step(rows: Sequence[Row]) -> Step:
    """A record without content only says that it is there."""
    findings: list[Finding] = []
    for stored_key, sealed in rows:
        problem = problem_of(sealed) if sealed else ""
        if problem:
            name = stored_key[1:].decode(errors="replace")
            findings.append(Finding(Part.NODE, f"the node's record {name}: {problem}", stored_key))
    return Step(len(rows), bytes_of(rows), findings)


def single_findings(view: View, stored_key: bytes, kind: type[Message], part: Part, name: str) -> list[Finding]:
    """What is wrong with a record that must be there."""
    sealed = view.get(stored_key)
    content = "it is missing" if sealed is None else opened(sealed, kind)
    return [Finding(part, f"{name}: {content}", stored_key)] if isinstance(content, str) else []


def is_damaged(engine: Engine, stored_key: bytes) -> bool:
    """Whether what lies under a key now can't be read, or is missing. Asks the engine itself, not a cache before it."""
    with closing(engine.snapshot()) as view:
        sealed = view.get(stored_key)
    return sealed is None or bool(problem_of(sealed))


def opened(sealed: bytes, kind: type[Content]) -> Content | str:
    """The message in an envelope, or why there is none."""
    try:
        return kind.FromString(unseal(sealed))
    except Damaged as error:
        return str(error)
    except DecodeError:
        return f"it is no {kind.DESCRIPTOR.name}"


def problem_of(sealed: bytes) -> str:
    """Why an envelope can't be opened; empty if it can."""
    try:
        unseal(sealed)
    except Damaged as error:
        return str(error)
    return ""


def bytes_of(rows: Sequence[Row]) -> int:
    return sum(len(key) + len(value) for key, value in rows)


def shown(key: bytes) -> str:
    """A key as a log line bears it."""
    return repr(key if len(key) <= SHOWN_BYTES_MAX else key[:SHOWN_BYTES_MAX] + b"...")


def name_of(index_key: bytes) -> str:
    return keyspace.split_index_key(index_key)[1]
