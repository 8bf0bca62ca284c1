"""Stored keys sort as the tuples that they stand for, and come apart into them again (DESIGN section 7)."""

from hypothesis import given
from hypothesis import strategies as st

from ringhold.node import keyspace
from ringhold.node.keyspace import Bounds, Kind

tricky = st.lists(
    st.sampled_from([b"\x00", b"\x01", b"\xff", b"\x00\xff", b"\x00\x01", b":", b"_idx:", b"a"]), max_size=5
)
texts = tricky.map(b"".join) | st.binary(max_size=8) | st.sampled_from([b"", b"\x00" * 4096, b"\xff" * 4096])
names = st.sampled_from(["a", "a\x00", "a:b", "_idx:", "\x01", "city", "cityé", "\U0010ffff"]) | st.text(max_size=5)
groups = st.sampled_from([0, 1, 255, 256, keyspace.GROUP_MAX]) | st.integers(0, keyspace.GROUP_MAX)
numbers = st.integers(0, 3) | st.integers(0, 2**64 - 1)

described = st.one_of(
    st.tuples(st.just(Kind.STATE), groups),
    st.tuples(st.just(Kind.VOTE), groups),
    st.tuples(st.just(Kind.LOG), groups, numbers),
    st.tuples(st.just(Kind.ROW), groups, texts),
    st.tuples(st.just(Kind.INDEX), groups, names.map(str.encode), texts, texts),
    st.tuples(st.just(Kind.DEDUPE), groups, numbers, texts),
    st.tuples(st.just(Kind.EXPIRY), groups, numbers, texts),
)


def encoded(key: tuple) -> bytes:  # type: ignore[type-arg]
    match key:
        case (Kind.STATE, group):
            return keyspace.state_key(group)
        case (Kind.VOTE, group):
            return keyspace.vote_key(group)
        case (Kind.LOG, group, index):
            return keyspace.log_key(group, index)
        case (Kind.ROW, group, text):
            return keyspace.row_key(group, text)
        case (Kind.INDEX, group, name, value, text):
            return keyspace.index_key(group, name.decode(), value, text)
        case (Kind.DEDUPE, group, minute, text):
            return keyspace.dedupe_key(group, minute, text)
        case (Kind.EXPIRY, group, time, text):
            return keyspace.expiry_key(group, time, text)
    raise AssertionError(key)


@given(described, described)
def test_order_of_keys_is_order_of_tuples(one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    """Whatever bytes are in the components, encoded keys compare as the tuples do; equal ones only if equal."""
    assert (encoded(one) < encoded(other)) == (one < other)
    assert (encoded(one) == encoded(other)) == (one == other)


@given(st.lists(st.tuples(texts, texts)))
def test_order_of_pairs_is_order_of_tuples(pairs: list[tuple[bytes, bytes]]) -> None:
    """Pairs of one or of several groups compare as (value, key)."""
    assert sorted(keyspace.pair(*pair) for pair in pairs) == [keyspace.pair(*pair) for pair in sorted(pairs)]


@given(groups, names, texts, texts, numbers)
def test_round_trips(group: int, name: str, value: bytes, key: bytes, number: int) -> None:
    """Every key comes apart into what it was made of."""
    assert keyspace.split_pair(keyspace.pair(value, key)) == (value, key)
    assert keyspace.split_row_key(keyspace.row_key(group, key)) == (group, key)
    assert keyspace.split_index_key(keyspace.index_key(group, name, value, key)) == (group, name, value, key)
    assert keyspace.split_log_key(keyspace.log_key(group, number)) == (group, number)
    assert keyspace.split_dedupe_key(keyspace.dedupe_key(group, number, key)) == (group, number, key)
    assert keyspace.split_expiry_key(keyspace.expiry_key(group, number, key)) == (group, number, key)
    assert keyspace.index_prefix(group, name) + keyspace.pair(value, key) == keyspace.index_key(group, name, value, key)


@given(described, groups)
def test_ranges_hold_exactly_one_group(key: tuple, group: int) -> None:  # type: ignore[type-arg]
    """The ranges of a group hold each of its keys once, and none of another group's."""
    holding = [kind for kind in keyspace.GROUP_KINDS if within(encoded(key), keyspace.kind_range(kind, group))]
    assert holding == ([key[0]] if key[1] == group else [])
    assert sum(within(encoded(key), bounds) for bounds in keyspace.group_ranges(key[1])) == 1


@given(groups, numbers, numbers, numbers)
def test_log_range(group: int, first: int, last: int, index: int) -> None:
    """A range of the log includes both of its ends."""
    assert within(keyspace.log_key(group, index), keyspace.log_range(group, first, last)) == (first <= index <= last)


@given(st.tuples(names, texts, texts), names, texts, st.none() | texts, st.none() | texts)
def test_bounds_select_exactly_the_matching_values(
    entry: tuple[str, bytes, bytes], name: str, wanted: bytes, start: bytes | None, end: bytes | None
) -> None:
    """Bounds of a query hold an index entry if, and only if, its index is the query's and its value matches."""
    entry_name, value, key = entry
    stored = keyspace.index_key(9, entry_name, value, key)
    for index in (name, entry_name):
        here = index == entry_name
        in_range = (start is None or start <= value) and (end is None or value < end)
        for bounds, matches in (
            (keyspace.equals_bounds(wanted), value == wanted),
            (keyspace.equals_bounds(value), True),
            (keyspace.prefix_bounds(wanted), value.startswith(wanted)),
            (keyspace.prefix_bounds(value[:2]), True),
            (keyspace.range_bounds(start, end), in_range),
        ):
            assert within(stored, keyspace.index_range(9, index, bounds)) == (here and matches)


@given(texts, texts, texts, texts, st.booleans())
def test_resumed_bounds(value: bytes, key: bytes, last_value: bytes, last_key: bytes, descending: bool) -> None:
    """What is left after a pair is what comes after it in the order of the query, within the old bounds."""
    pair, last = keyspace.pair(value, key), keyspace.pair(last_value, last_key)
    for bounds in (keyspace.prefix_bounds(b""), keyspace.equals_bounds(value), keyspace.range_bounds(b"a", b"b")):
        left = keyspace.resumed(bounds, last, descending=descending)
        after = pair < last if descending else pair > last
        ranges = [keyspace.index_range(1, "i", each) for each in (bounds, left)]
        before, now = (within(keyspace.index_prefix(1, "i") + pair, each) for each in ranges)
        assert now == (before and after)


def within(key: bytes, bounds: Bounds) -> bool:
    return bounds.start <= key < bounds.end
