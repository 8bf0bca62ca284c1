"""A node's part in an index query: the first matches of many groups, merged in the order of their pairs.

All groups are read in one engine view. Each is scanned in small chunks and only as far as the merge gets, for a page of
100 from 64 groups needs two matches of most of them.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..keyspace import END, Bounds, index_prefix, index_ranges, row_key, split_pair
from ..merge import Match, ShardAnswer, bytes_of, first_within
from ..storage.engine import KeyRange
from ..storage.envelope import Damaged, unseal
from .staged import Reader

CHUNK_SPARE = 3
"""Rows read of each group beyond its fair share of the page: fewer mean more second scans, more are read in vain."""

SCANS_PER_SLICE = 64
ROWS_PER_SLICE = 32
PAIRS_PER_SLICE = 512

Found: TypeAlias = tuple[bytes, int]
"""(pair, the group that it is of)."""


class IndexReader(Protocol):
    """What a query reads by: the part of a View that it needs."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order."""

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        """The keys of one scan of each range."""


class RowsDamaged(Exception):
    """What a group's rows and index entries say can't be true; nothing of it was given out."""

    def __init__(self, group: int, reason: str) -> None:
        super().__init__(f"group {group}: {reason}")
        self.group = group
        self.reason = reason


@dataclass(frozen=True, slots=True)
class QuerySpec:
    """Which matches are asked for: `bounds` in the space of pairs (see node/keyspace.py), the first `limit` of them."""

    index: str
    bounds: Bounds
    descending: bool
    limit: int
    bytes_max: int
    with_records: bool


def query(view: IndexReader, groups: Sequence[int], spec: QuerySpec) -> ShardAnswer:
    """The first matches of all `groups` together, at most `spec.limit` and `spec.bytes_max` bytes (one match at least).

    `cut` says whether more follow. Rows come from the same view as their index entries. Raises RowsDamaged: also if a
    match has no row, for the two change together.
    """
    steps = query_in_slices(view, groups, spec)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer: ShardAnswer = end.value
            return answer


def query_in_slices(view: IndexReader, groups: Sequence[int], spec: QuerySpec) -> Generator[None, None, ShardAnswer]:
    """`query`, with a pause after each slice of a few milliseconds at most, in which the caller may do other work."""
    assert spec.limit > 0, "a query for nothing"
    found = yield from _first_pairs(view, groups, spec)
    wanted = found[: spec.limit]
    matches: list[Match] = []
    size = 0
    per_slice = ROWS_PER_SLICE if spec.with_records else PAIRS_PER_SLICE
    for start in range(0, len(wanted), per_slice):
        if start:
            yield
        some = _matches(view, wanted[start : start + per_slice], spec)
        matches += some
        size += bytes_of(some)
        if size > spec.bytes_max:
            matches = first_within(matches, spec.bytes_max)
            break
    return ShardAnswer(matches, cut=len(matches) < len(found))


def _first_pairs(view: IndexReader, groups: Sequence[int], spec: QuerySpec) -> Generator[None, None, list[Found]]:
    """The first `spec.limit` + 1 pairs of all groups together, in order.

    A group is read on only while what follows its last pair may be among them.
    """
    chunk = min(spec.limit + 1, -(-spec.limit // max(1, len(groups))) + CHUNK_SPARE)
    left = dict(zip(groups, index_ranges(groups, spec.index, spec.bounds), strict=True))
    skip = len(index_prefix(0, spec.index))
    found: list[Found] = []
    while left:
        last_keys: dict[int, bytes] = {}  # of the groups that may have more
        for some in _slices_of(list(left)):
            scans = view.scan_keys([left[group] for group in some], limit=chunk, reverse=spec.descending)
            for group, keys in zip(some, scans, strict=True):
                found += [(key[skip:], group) for key in keys]
                if len(keys) == chunk:
                    last_keys[group] = keys[-1]
            found.sort(reverse=spec.descending)
            del found[spec.limit + 1 :]
            if len(some) == SCANS_PER_SLICE:
                yield
        left = {
            group: _after(left[group], key, spec)
            for group, key in last_keys.items()
            if len(found) <= spec.limit or _precedes(key[skip:], found[-1][0], spec)
        }
        chunk = min(chunk * 2, spec.limit + 1)
    return found


def _slices_of(groups: Sequence[int]) -> Iterator[Sequence[int]]:
    return (groups[start : start + SCANS_PER_SLICE] for start in range(0, len(groups), SCANS_PER_SLICE))


def _after(bounds: KeyRange, key: bytes, spec: QuerySpec) -> KeyRange:
    """What is left of a range after a scan that ended with `key`."""
    start, end = bounds
    return (start, key) if spec.descending else (key + b"\x00", end)


def _precedes(pair: bytes, other: bytes, spec: QuerySpec) -> bool:
    return pair > other if spec.descending else pair < other


def read_rows(reader: Reader, group: int, keys: Sequence[bytes]) -> list[bytes]:
    """The rows (encoded storage.v1.Row) of `keys`, in their order; empty: absent. Raises Damaged."""
    stored = reader.get_many([row_key(group, key) for key in keys])
    return [b"" if row is None else unseal(row) for row in stored]


def _matches(view: IndexReader, found: Sequence[Found], spec: QuerySpec) -> list[Match]:
    for pair, group in found:
        if END not in pair:
            raise RowsDamaged(group, f"an index entry can't be read: {pair!r} has no end")
    if not spec.with_records:
        return [(pair, b"") for pair, _ in found]
    stored = view.get_many([row_key(group, split_pair(pair)[1]) for pair, group in found])
    return [(pair, _row_of(pair, group, row)) for (pair, group), row in zip(found, stored, strict=True)]


def _row_of(pair: bytes, group: int, stored: bytes | None) -> bytes:
    if stored is None:
        raise RowsDamaged(group, f"an index entry has no row: {split_pair(pair)}")
    try:
        return unseal(stored)
    except Damaged as error:
        raise RowsDamaged(group, f"a row that a query met is damaged: {error}") from error
