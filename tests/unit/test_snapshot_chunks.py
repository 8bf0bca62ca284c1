"""Chunks of a snapshot: cut anywhere they hold the same rows, and none is taken that is not the undamaged next one."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, StoredRow
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ringhold.node import keyspace
from ringhold.node.snapshots import chunks
from ringhold.node.snapshots.chunks import BrokenChunk, RowCutter, check, checksum_of, made, state_in
from ringhold.node.storage.engine import Row, WriteBatch
from ringhold.node.storage.envelope import Damaged, seal
from ringhold.node.storage.memory import MemoryEngine

STATE = seal(GroupState(applied_index=9).SerializeToString())
GROUP = 3

ROWS: list[Row] = [
    (keyspace.row_key(GROUP, b"a"), seal(b"1")),
    (keyspace.row_key(GROUP, b"b"), seal(b"2")),
    (keyspace.index_key(GROUP, "i", b"v", b"a"), b""),
    (keyspace.dedupe_key(GROUP, 5, b"id"), seal(b"3")),
    (keyspace.expiry_key(GROUP, 5, b"a"), b""),
]


def chain(rows: Sequence[Row], cuts: set[int]) -> list[SnapshotChunk]:
    """The rows, cut before each of these positions."""
    starts = [0, *sorted(cut for cut in cuts if 0 < cut < len(rows))]
    made_so_far: list[SnapshotChunk] = []
    before = 0
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        chunk = made(7, rows[start:end], before, state=b"" if start else STATE, last=end == len(rows))
        made_so_far.append(chunk)
        before = chunk.checksum
    return made_so_far


def taken(given: Sequence[SnapshotChunk]) -> list[Row]:
    """The rows of chunks that follow each other; raises BrokenChunk if they do not."""
    rows: list[Row] = []
    view = before = 0
    for chunk in given:
        check(chunk, GROUP, view, rows[-1][0] if rows else b"", before)
        view, before = chunk.view, chunk.checksum
        rows += [(row.key, row.value) for row in chunk.rows]
    return rows


def engine_of(rows: Sequence[Row]) -> MemoryEngine:
    engine = MemoryEngine()
    engine.write(WriteBatch(puts=dict(rows)))
    return engine


def cutter(engine: MemoryEngine, after: bytes = b"") -> RowCutter:
    return RowCutter(GROUP, lambda start, end, limit: engine.scan(start, end, limit=limit), after)


def cut(engine: MemoryEngine, after: bytes = b"") -> list[list[Row]]:
    """What the cutter makes of the rows after a key."""
    rows, pieces = cutter(engine, after), []
    while not rows.is_at_end:
        pieces.append(rows.next_rows())
    return pieces


@given(cuts=st.sets(st.integers(0, len(ROWS))))
def test_any_cut_holds_the_same_rows(cuts: set[int]) -> None:
    """Where the chunks are cut means nothing."""
    assert taken(chain(ROWS, cuts)) == ROWS


def test_a_group_without_rows_is_one_chunk() -> None:
    """It has the state, and says that nothing follows."""
    (chunk,) = chain([], set())
    assert taken([chunk]) == []
    assert state_in(chunk).applied_index == 9


Change = Callable[[list[SnapshotChunk]], None]


def damage_value(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[1].rows[0].value += b"x"


def damage_key(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[1].rows[0].key += b"x"


def move_a_byte(made_so_far: list[SnapshotChunk]) -> None:
    row = made_so_far[0].rows[0]
    row.key, row.value = row.key + row.value[:1], row.value[1:]


def damage_state(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[0].state += b"x"


def lose_one(made_so_far: list[SnapshotChunk]) -> None:
    del made_so_far[1]


def lose_the_first(made_so_far: list[SnapshotChunk]) -> None:
    del made_so_far[0]


def repeat_one(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far.insert(1, made_so_far[1])


def swap(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[1:3] = made_so_far[2:0:-1]


def end_early(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[1].last = True


def change_view(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[1].view = 8


def without_view(made_so_far: list[SnapshotChunk]) -> None:
    made_so_far[0].view = 0


@pytest.mark.parametrize(
    "change",
    [
        damage_value,
        damage_key,
        move_a_byte,
        damage_state,
        lose_one,
        lose_the_first,
        repeat_one,
        swap,
        end_early,
        change_view,
        without_view,
    ],
)
def test_whatever_is_not_the_undamaged_next_is_refused(change: Change) -> None:
    """A chunk that is changed, missing, repeated, or in the wrong place is never taken for good."""
    made_so_far = chain(ROWS, {1, 2, 3})
    change(made_so_far)
    with pytest.raises(BrokenChunk):
        taken(made_so_far)


@pytest.mark.parametrize(
    "rows",
    [
        [ROWS[1], ROWS[0]],
        [ROWS[0], ROWS[0]],
        [(keyspace.row_key(GROUP + 1, b"a"), seal(b""))],
        [(keyspace.log_key(GROUP, 1), seal(b""))],
        [(keyspace.vote_key(GROUP), seal(b""))],
        [(keyspace.state_key(GROUP), seal(b""))],
        [(keyspace.node_key("x"), b"")],
        [(b"", b"")],
        [(b"\x7f", b"")],
    ],
    ids=["order", "twice", "other group", "log", "vote", "state", "node", "empty key", "unknown kind"],
)
def test_rows_that_do_not_belong_are_refused(rows: list[Row]) -> None:
    """Whoever sends a good checksum still writes nothing but rows of the group, each once."""
    chunk = SnapshotChunk(view=7, state=STATE, rows=[StoredRow(key=key, value=value) for key, value in rows], last=True)
    chunk.checksum = checksum_of(chunk, 0)
    with pytest.raises(BrokenChunk):
        taken([chunk])


def test_a_chunk_that_says_nothing_is_refused() -> None:
    """Without rows only the last one is of any use: a stream of empty ones would never end."""
    chunk = made(7, [], 0, state=STATE)
    with pytest.raises(BrokenChunk):
        taken([chunk])


def test_a_damaged_state_is_refused() -> None:
    """Its envelope is checked where it arrives."""
    with pytest.raises(BrokenChunk):
        state_in(made(7, [], 0, state=STATE[:-1] + b"?", last=True))


@given(
    sizes=st.lists(st.sampled_from([0, 1, 100, 5_000, 40_000, 70_000, 200_000]), max_size=30),
    data=st.data(),
)
def test_the_cutter_gives_all_rows_in_pieces_of_bounded_size(sizes: list[int], data: st.DataObject) -> None:
    """One row at least, 64 KiB at most unless a row is larger; and it goes on after any row as if it had been there."""
    rows = [(keyspace.row_key(GROUP, b"%04d" % number), seal(bytes(size))) for number, size in enumerate(sizes)]
    rows += [(keyspace.row_key(GROUP + 1, b"other"), seal(b""))]
    engine = engine_of(rows)
    pieces = cut(engine)
    assert [row for piece in pieces for row in piece] == rows[:-1]
    for piece in pieces:
        size = sum(len(key) + len(value) for key, value in piece)
        assert len(piece) == 1 or size <= chunks.CHUNK_BYTES_MAX
        assert len(piece) <= chunks.CHUNK_ROWS_MAX
    if sizes:
        at = data.draw(st.integers(0, len(sizes) - 1))
        assert [row for piece in cut(engine, rows[at][0]) for row in piece] == rows[at + 1 : -1]


def test_the_cutter_reads_every_kind() -> None:
    """Rows, index entries, outcomes of requests and expiries, and nothing else of the group."""
    others = [(keyspace.log_key(GROUP, 1), b"l"), (keyspace.vote_key(GROUP), b"v"), (keyspace.state_key(GROUP), b"s")]
    engine = engine_of([*ROWS, *others])
    assert [row for piece in cut(engine) for row in piece] == ROWS
    for at, (key, _) in enumerate(ROWS):
        assert [row for piece in cut(engine, key) for row in piece] == ROWS[at + 1 :]


@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_damaged_row_is_never_given_away(at: int) -> None:
    """Each kind that can be checked is; an index entry has nothing but its key."""
    rows = [*ROWS]
    rows[at] = (rows[at][0], rows[at][1][:-1] + b"?")
    with pytest.raises(Damaged):
        cut(engine_of(rows))
