"""Paging through an index over several nodes gives every match once, in order: the same as sorting them all."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import Rows

from ringhold.node import keyspace, page_token
from ringhold.node.keyspace import Bounds
from ringhold.node.machine.queries import QuerySpec, query
from ringhold.node.merge import Page, ShardAnswer, merge_page

GROUPS = 6
CHECKSUM = b"checksum"
texts = st.sampled_from([b"", b"\x00", b"\x00\xff", b"\x01", b"a", b"ab", b"a\x00", b"\xff", b"\xff\xff", b":"])
keys = st.binary(min_size=1, max_size=3) | st.sampled_from([b"\x00", b"\xff" * 9, b"_idx:"])
stored = st.sets(st.tuples(texts, keys), max_size=60)
bounds_of_queries = st.one_of(
    st.builds(keyspace.equals_bounds, texts),
    st.builds(keyspace.prefix_bounds, texts),
    st.builds(keyspace.range_bounds, st.none() | texts, st.none() | texts),
)


def group_of(key: bytes) -> int:
    return sum(key) % GROUPS


def rows_of(entries: set[tuple[bytes, bytes]]) -> Rows:
    rows = Rows()
    rows.content = {keyspace.index_key(group_of(key), "i", value, key): b"" for value, key in entries}
    return rows


@given(
    entries=stored,
    bounds=bounds_of_queries,
    descending=st.booleans(),
    limit=st.integers(1, 9),
    node_limit=st.integers(1, 9),
    bytes_max=st.sampled_from([1, 60, 100_000]),
    owners=st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=GROUPS, max_size=GROUPS),
)
@settings(max_examples=300)
def test_pages_give_every_match_once_in_order(
    entries: set[tuple[bytes, bytes]],
    bounds: Bounds,
    descending: bool,
    limit: int,
    node_limit: int,
    bytes_max: int,
    owners: list[set[int]],
) -> None:
    """However nodes share the groups (two may answer for one) and cut their answers, nothing is lost or doubled."""
    rows = rows_of(entries)
    expected = sorted((keyspace.pair(*entry) for entry in entries), reverse=descending)
    expected = [pair for pair in expected if bounds.start <= pair and (not bounds.end or pair < bounds.end)]
    found: list[bytes] = []
    left = bounds
    for _ in range(len(expected) + 1):
        spec = QuerySpec("i", left, descending, node_limit, bytes_max, with_records=False)
        page = page_of(rows, owners, spec, limit)
        found += [pair for pair, _ in page.matches]
        if not page.more:
            break
        assert page.resume is not None
        last = page_token.decode(page_token.encode(page.resume, CHECKSUM), CHECKSUM)
        left = keyspace.resumed(bounds, last, descending=descending)
    assert found == expected
    assert not page.more


def page_of(rows: Rows, owners: list[set[int]], spec: QuerySpec, limit: int) -> Page:
    answers: list[ShardAnswer] = []
    for node in range(3):
        groups = [group for group in range(GROUPS) if node in owners[group]]
        answers.append(query(rows, groups, spec))
    return merge_page(answers, limit=limit, bytes_max=spec.bytes_max, descending=spec.descending)
