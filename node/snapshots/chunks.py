"""The pieces in which a group's rows travel: how they are cut, and how one is known to be the next and undamaged.

Each checksum goes over the piece and starts from the one before, so that none can be damaged, missing, repeated or out
of its place without being noticed; and rows may come in ascending order and of this group only. Pure. See
docs/protocols/consensus.md.
"""

from collections.abc import Callable, Sequence
from struct import Struct

from xxhash import xxh3_64

from ...api.proto.ringhold.internal.v1.peer_pb2 import SnapshotChunk, StoredRow
from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState
from ..keyspace import Bounds, Kind, kind_range
from ..storage.engine import Row
from ..storage.envelope import Damaged, unseal

KINDS = (Kind.ROW, Kind.INDEX, Kind.DEDUPE, Kind.EXPIRY)
"""What a snapshot holds beside the group's state, in the order of their keys."""

CHUNK_BYTES_MAX = 64 * 1024
"""Unless a single row is larger. Raising it makes fewer, larger messages and longer callbacks on both sides (P8)."""

CHUNK_ROWS_MAX = 256
"""As above: small rows take time by their number."""

ROWS_PER_SCAN_MAX = 32
SEALED_KINDS = (Kind.ROW, Kind.DEDUPE)

_LENGTH = Struct(">I").pack
_LAST, _NOT_LAST = b"\x01", b"\x00"


class BrokenChunk(Exception):
    """What came is not the undamaged next piece of the snapshot."""


def ranges_of(group: int) -> list[Bounds]:
    """Where in the engine the rows of a snapshot lie."""
    return [kind_range(kind, group) for kind in KINDS]


def checksum_of(chunk: SnapshotChunk, before: int) -> int:
    """xxh3_64, seeded with the checksum of the chunk before; over `last`, and state, keys, values with their sizes."""
    digest = xxh3_64(_LAST if chunk.last else _NOT_LAST, seed=before)
    parts = [chunk.state]
    for row in chunk.rows:
        parts += (row.key, row.value)
    digest.update(b"".join([piece for part in parts for piece in (_LENGTH(len(part)), part)]))
    return digest.intdigest()


def made(view: int, rows: Sequence[Row], before: int, *, state: bytes = b"", last: bool = False) -> SnapshotChunk:
    """A chunk to be sent; `before` is the checksum of the one before it, 0 for the first."""
    stored = [StoredRow(key=key, value=value) for key, value in rows]
    chunk = SnapshotChunk(view=view, state=state, rows=stored, last=last)
    chunk.checksum = checksum_of(chunk, before)
    return chunk


def check(chunk: SnapshotChunk, group: int, view: int, after: bytes, before: int) -> None:
    """Raises BrokenChunk unless this follows, in the view, the chunk with that last key and checksum.

    `view` 0: the first chunk of any. `after` is empty before the first row.
    """
    if chunk.view == 0 or (view and chunk.view != view):
        raise BrokenChunk(f"a chunk of view {chunk.view} came in answer to a request for {view or 'a new one'}")
    if chunk.checksum != checksum_of(chunk, before):
        raise BrokenChunk("a chunk is damaged, or another is missing before it")
    if bool(chunk.state) is bool(after):
        raise BrokenChunk("the state of the group comes with the first chunk, and with that only")
    if not chunk.rows and not chunk.last:
        raise BrokenChunk("a chunk without rows that is not the last")
    ranges = ranges_of(group)
    for row in chunk.rows:
        if row.key <= after:
            raise BrokenChunk("the rows of a chunk are out of order")
        if not any(start <= row.key < end for start, end in ranges):
            raise BrokenChunk("a chunk has a row that does not belong to the group")
        after = row.key


def state_in(chunk: SnapshotChunk) -> GroupState:
    """The state of the group, of a chunk that has it. Raises BrokenChunk."""
    try:
        return GroupState.FromString(unseal(chunk.state))
    except Damaged as error:
        raise BrokenChunk(f"the state of the group in a chunk: {error}") from error


def check_row(key: bytes, value: bytes) -> None:
    """Raises Damaged if a stored row is not what was written: nobody must get a copy of it."""
    if key[0] in SEALED_KINDS:
        unseal(value)
    elif value:
        raise Damaged("an index entry has a value")


class RowCutter:
    """Reads the rows of a group, in the order of their keys, and cuts them into chunks' worth.

    `scan(start, end, limit)` is that of an engine's view; what it gives is checked. At most `ROWS_PER_SCAN_MAX` rows
    are held beside those that are given away.
    """

    def __init__(self, group: int, scan: Callable[[bytes, bytes, int], Sequence[Row]], after: bytes = b"") -> None:
        self._scan = scan
        self._ranges = [(max(start, after + b"\x00"), end) for start, end in ranges_of(group) if end > after]
        self._waiting: list[Row] = []
        self._limit = 1

    def next_rows(self) -> list[Row]:
        """The next rows, up to the bounds of a chunk; one at least, unless there are none left. Raises Damaged."""
        rows: list[Row] = []
        size = 0
        while len(rows) < CHUNK_ROWS_MAX and self._is_filled():
            key, value = self._waiting[0]
            size += len(key) + len(value)
            if rows and size > CHUNK_BYTES_MAX:
                break
            check_row(key, value)
            rows.append(self._waiting.pop(0))
        return rows

    @property
    def is_at_end(self) -> bool:
        """Whether `next_rows` will give nothing more."""
        return not self._is_filled()

    def _is_filled(self) -> bool:
        """Whether rows wait, of which some are read if there were none."""
        while not self._waiting and self._ranges:
            start, end = self._ranges[0]
            self._waiting = list(self._scan(start, end, self._limit))
            if len(self._waiting) < self._limit:
                del self._ranges[0]
            else:
                self._ranges[0] = (self._waiting[-1][0] + b"\x00", end)
            self._adapt_limit()
        return bool(self._waiting)

    def _adapt_limit(self) -> None:
        """Read about a chunk at once, of rows as large as the last ones were."""
        size = sum(len(key) + len(value) for key, value in self._waiting)
        fitting = CHUNK_BYTES_MAX * len(self._waiting) // size if size else ROWS_PER_SCAN_MAX
        self._limit = max(1, min(ROWS_PER_SCAN_MAX, 2 * self._limit, fitting))
