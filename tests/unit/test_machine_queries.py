"""A node's part in an index query: what it answers, and how little it reads for it."""

import pytest
from support.rows import Rows, apply, command_of, set_of

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as records
from ringhold.node import keyspace
from ringhold.node.keyspace import Bounds, pair
from ringhold.node.machine.queries import QuerySpec, RowsDamaged, query, query_in_slices, read_rows
from ringhold.node.machine.records import RecordMachine
from ringhold.node.merge import MATCH_OVERHEAD_BYTES
from ringhold.node.storage.envelope import Damaged

ALL = keyspace.prefix_bounds(b"")


def rows_of(groups: int, keys: int, value: bytes = b"v") -> Rows:
    """Keys 000, 001, … dealt out to groups 1, 2, …; each is found under `n` by its last digit."""
    rows = Rows()
    for group in range(1, groups + 1):
        machine = RecordMachine(group, records.GroupState())
        mutations = [
            set_of(b"%03d" % n, value, [("n", b"%d" % (n % 10)), ("other", b"")])
            for n in range(keys)
            if n % groups == group - 1
        ]
        apply(rows, machine, records.LogEntry(commands=[command_of(*mutations, request_id=b"id")]))
    return rows


def spec_of(
    *,
    bounds: Bounds = ALL,
    limit: int = 100,
    descending: bool = False,
    bytes_max: int = 1_000_000,
    with_records: bool = False,
) -> QuerySpec:
    return QuerySpec("n", bounds, descending, limit, bytes_max, with_records)


def test_matches_of_all_groups_in_order() -> None:
    """The matches of several groups come in the order of (value, key), as if there were one group."""
    answer = query(rows_of(4, 30), [1, 2, 3, 4], spec_of())
    assert [pair for pair, _ in answer.matches] == sorted(pair(b"%d" % (n % 10), b"%03d" % n) for n in range(30))
    assert not answer.cut


def test_only_the_groups_asked_for() -> None:
    """Groups that are not named are not read."""
    answer = query(rows_of(4, 30), [2], spec_of())
    assert {int(keyspace.split_pair(pair)[1]) % 4 for pair, _ in answer.matches} == {1}
    assert query(rows_of(4, 30), [], spec_of()) == ([], False)


@pytest.mark.parametrize(("limit", "cut"), [(1, True), (29, True), (30, False), (31, False)])
def test_cut_tells_whether_more_follow(limit: int, cut: bool) -> None:
    """`cut` is set if, and only if, a match was left out."""
    answer = query(rows_of(4, 30), [1, 2, 3, 4], spec_of(limit=limit))
    assert (len(answer.matches), answer.cut) == (min(limit, 30), cut)


def test_records_come_with_matches() -> None:
    """Each match carries its row, without the envelope."""
    rows = rows_of(3, 100)
    answer = query(rows, [1, 2, 3], spec_of(with_records=True, descending=True, limit=70))
    assert len(answer.matches) == 70
    for found, row in answer.matches:
        key = keyspace.split_pair(found)[1]
        assert [row] == read_rows(rows, int(key) % 3 + 1, [key])


@pytest.mark.parametrize("count", [1, 2, 33, 40])
def test_bytes_bound_the_answer(count: int) -> None:
    """An answer stops before the match that would exceed its bytes, and says so; one match is always answered."""
    rows = rows_of(2, 50, b"v" * 100)
    whole = query(rows, [1, 2], spec_of(with_records=True))
    size = sum(2 * len(pair) + len(row) + MATCH_OVERHEAD_BYTES for pair, row in whole.matches[:count])
    for bytes_max in (size, size + 1):
        answer = query(rows, [1, 2], spec_of(with_records=True, bytes_max=bytes_max))
        assert answer == (whole.matches[:count], True)
    assert len(query(rows, [1, 2], spec_of(bytes_max=1)).matches) == 1


def test_first_page_reads_little() -> None:
    """A page of 100 from 64 groups costs about one scan of a few rows per group, and the rows in four reads."""
    rows = rows_of(64, 900)
    before = rows.reads
    query(rows, range(1, 65), spec_of(with_records=True))
    assert rows.reads - before <= 64 + 8 + 4


@pytest.mark.parametrize("descending", [False, True])
def test_a_group_that_has_all_the_matches_is_read_on(descending: bool) -> None:
    """Each group is read until nothing of it can come before the last match, and no further."""
    rows = rows_of(1, 300)
    for group in range(2, 65):
        rows.content[keyspace.index_key(group, "n", b"5", b"%03d" % group)] = b""
    expected = [pair(b"%d" % (n % 10), b"%03d" % n) for n in range(300)]
    expected = sorted([*expected, *(pair(b"5", b"%03d" % group) for group in range(2, 65))], reverse=descending)
    for limit in (1, 40, 363):
        answer = query(rows, range(1, 65), spec_of(limit=limit, descending=descending))
        assert [found for found, _ in answer.matches] == expected[:limit]
    before = rows.reads
    query(rows, range(1, 65), spec_of(limit=40, descending=descending))
    assert rows.reads - before <= 64 + 4


def test_work_is_sliced() -> None:
    """With many groups there are pauses, so that other requests get their turn."""
    rows = rows_of(1, 10)
    pauses = sum(1 for _ in query_in_slices(rows, range(1, 641), spec_of()))
    assert pauses >= 10


def test_damaged_row_and_missing_row() -> None:
    """A match whose row is damaged or gone is never passed over."""
    rows = rows_of(1, 10)
    key = keyspace.row_key(1, b"005")
    rows.content[key] = rows.content[key][:-1] + b"?"
    with pytest.raises(RowsDamaged) as caught:
        query(rows, [2, 1], spec_of(with_records=True))
    assert caught.value.group == 1
    with pytest.raises(Damaged):
        read_rows(rows, 1, [b"005"])
    del rows.content[key]
    with pytest.raises(RowsDamaged, match="has no row"):
        query(rows, [1], spec_of(with_records=True))
    assert read_rows(rows, 1, [b"005", b"004"])[0] == b""


def test_an_index_entry_that_can_not_be_read_is_damage() -> None:
    """It has no checksum, but every entry ends its value; a match that is made of anything else is never given out."""
    rows = rows_of(1, 10)
    rows.content[keyspace.index_prefix(1, "n") + b"5 without an end"] = b""
    with pytest.raises(RowsDamaged, match="can't be read"):
        query(rows, [1], spec_of())
