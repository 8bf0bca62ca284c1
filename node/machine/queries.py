"""A node's part in an index query: the first matches of many groups, merged in the order of their pairs.

All groups are read in one engine view. Each is scanned in small chunks and only as far as the merge gets, for a page of
100 from 64 groups needs two matches of most of them.
"""

import heapq
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..keyspace import Bounds, index_range, row_key, split_pair
from ..merge import Match, ShardAnswer, match_bytes
from ..storage.envelope import Damaged, unseal
from .staged import Reader

CHUNK_SPARE = 3
"""Rows read of each group beyond its fair share of the page: fewer mean more second scans, more are read in vain."""

SCANS_PER_SLICE = 64
ROWS_PER_SLICE = 32
PAIRS_PER_SLICE = 512


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


@dataclass(slots=True)
class _GroupScan:
    """The matches of one group, in order: what has been read, and where to read on."""

    view: Reader
    spec: QuerySpec
    group: int
    chunk: int
    left: Bounds = field(init=False)
    skip: int = field(init=False)
    pairs: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.left = index_range(self.group, self.spec.index, self.spec.bounds)
        self.skip = len(self.left.start) - len(self.spec.bounds.start)
        self.pairs = self.read()

    def read(self) -> list[bytes]:
        start, end = self.left
        rows = self.view.scan(start, end, limit=self.chunk, reverse=self.spec.descending)
        if rows:
            last = rows[-1][0]
            self.left = Bounds(start, last) if self.spec.descending else Bounds(last + b"\x00", end)
        return [key[self.skip :] for key, _ in rows]

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        pairs = self.pairs
        while pairs:
            for pair in pairs:
                yield pair, self.group
            if len(pairs) < self.chunk:
                return
            self.chunk = min(self.chunk * 2, self.spec.limit + 1)
            pairs = self.read()


def query(view: Reader, groups: Sequence[int], spec: QuerySpec) -> ShardAnswer:
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


def query_in_slices(view: Reader, groups: Sequence[int], spec: QuerySpec) -> Generator[None, None, ShardAnswer]:
    """`query`, with a pause after each slice of a few milliseconds at most, in which the caller may do other work."""
    assert spec.limit > 0, "a query for nothing"
    chunk = min(spec.limit + 1, -(-spec.limit // max(1, len(groups))) + CHUNK_SPARE)
    scans: list[_GroupScan] = []
    for group in groups:
        scans.append(_GroupScan(view, spec, group, chunk))
        if len(scans) % SCANS_PER_SLICE == 0:
            yield
    found = list(islice(heapq.merge(*scans, reverse=spec.descending), spec.limit + 1))
    wanted = found[: spec.limit]
    matches: list[Match] = []
    size = 0
    per_slice = ROWS_PER_SLICE if spec.with_records else PAIRS_PER_SLICE
    for start in range(0, len(wanted), per_slice):
        for match in _matches(view, wanted[start : start + per_slice], spec):
            size += match_bytes(match)
            if matches and size > spec.bytes_max:
                return ShardAnswer(matches, cut=True)
            matches.append(match)
        yield
    return ShardAnswer(matches, cut=len(matches) < len(found))


def read_rows(reader: Reader, group: int, keys: Sequence[bytes]) -> list[bytes]:
    """The rows (encoded storage.v1.Row) of `keys`, in their order; empty: absent. Raises Damaged."""
    stored = reader.get_many([row_key(group, key) for key in keys])
    return [b"" if row is None else unseal(row) for row in stored]


def _matches(view: Reader, found: Sequence[tuple[bytes, int]], spec: QuerySpec) -> list[Match]:
    keys = [_key_of(pair, group) for pair, group in found]
    if not spec.with_records:
        return [(pair, b"") for pair, _ in found]
    stored = view.get_many([row_key(group, key) for key, (_, group) in zip(keys, found, strict=True)])
    return [(pair, _row_of(pair, group, row)) for (pair, group), row in zip(found, stored, strict=True)]


def _key_of(pair: bytes, group: int) -> bytes:
    try:
        return split_pair(pair)[1]
    except ValueError as error:
        raise RowsDamaged(group, f"an index entry can't be read: {error}") from error


def _row_of(pair: bytes, group: int, stored: bytes | None) -> bytes:
    if stored is None:
        raise RowsDamaged(group, f"an index entry has no row: {split_pair(pair)}")
    try:
        return unseal(stored)
    except Damaged as error:
        raise RowsDamaged(group, f"a row that a query met is damaged: {error}") from error
