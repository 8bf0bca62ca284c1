r"""Where everything lies in the engine: the encoding of stored keys, and the bounds of index queries.

Keys must sort as the tuples that they stand for, so that a group is one range per kind and an index is read in order;
docs/storage-format.md describes the same encoding for readers of a dump.

    kind (1 byte) | group (4 bytes, big-endian) | components

A component that is not the last is escaped (0x00 becomes 0x00 0xFF) and ended by 0x00 0x01, which sorts before
everything that may follow; the last one is raw. Numbers have 8 bytes, big-endian.

A *pair* is what an index key holds after its prefix: the escaped value and the raw key.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """The first byte of a stored key. The numbers are on disk: never reuse one."""

    NODE = 0x01
    STATE = 0x02
    VOTE = 0x03
    LOG = 0x04
    ROW = 0x05
    INDEX = 0x06
    DEDUPE = 0x07
    EXPIRY = 0x08
    REPLICA = 0x09


GROUP_KINDS = (Kind.STATE, Kind.VOTE, Kind.LOG, Kind.ROW, Kind.INDEX, Kind.DEDUPE, Kind.EXPIRY, Kind.REPLICA)
"""The kinds that belong to a group; the node's own records do not."""

GROUP_MAX = 0xFFFF_FFFF
PREFIX_BYTES = 5
END = b"\x00\x01"
AFTER_END = b"\x00\x02"

_NODE = bytes([Kind.NODE])
_STATE, _VOTE, _LOG, _ROW, _INDEX, _DEDUPE, _EXPIRY, _REPLICA = (kind << 32 for kind in GROUP_KINDS)


class Bounds(NamedTuple):
    """start <= key < end. In the space of pairs an empty `end` is open: up to the end of the index."""

    start: bytes
    end: bytes


def prefix(kind: Kind, group: int) -> bytes:
    """What all keys of one kind of a group start with.

    >>> prefix(Kind.ROW, 7).hex(" ")
    '05 00 00 00 07'
    """
    return (kind << 32 | group).to_bytes(5, "big")


def kind_range(kind: Kind, group: int) -> Bounds:
    """The range that holds all keys of one kind of a group, and nothing else."""
    start = kind << 32 | group
    return Bounds(start.to_bytes(5, "big"), (start + 1).to_bytes(5, "big"))


def group_ranges(group: int) -> list[Bounds]:
    """The ranges that hold all that is stored of a group, one per kind."""
    return [kind_range(kind, group) for kind in GROUP_KINDS]


def node_key(name: str) -> bytes:
    """A record of the node itself, of no group."""
    return _NODE + name.encode()


def state_key(group: int) -> bytes:
    return (_STATE | group).to_bytes(5, "big")


def vote_key(group: int) -> bytes:
    return (_VOTE | group).to_bytes(5, "big")


def replica_key(group: int) -> bytes:
    return (_REPLICA | group).to_bytes(5, "big")


def log_key(group: int, index: int) -> bytes:
    return (_LOG | group).to_bytes(5, "big") + index.to_bytes(8, "big")


def log_range(group: int, first: int, last: int) -> Bounds:
    """The log records with first <= index <= last."""
    return Bounds(log_key(group, first), log_key(group, last) + b"\x00")


def row_key(group: int, key: bytes) -> bytes:
    return (_ROW | group).to_bytes(5, "big") + key


def index_prefix(group: int, name: str) -> bytes:
    """What the keys of one index of a group start with; a pair follows."""
    return (_INDEX | group).to_bytes(5, "big") + escape(name.encode())


def index_key(group: int, name: str, value: bytes, key: bytes) -> bytes:
    return index_prefix(group, name) + escape(value) + key


def dedupe_key(group: int, anchor_minute: int, request_id: bytes) -> bytes:
    return (_DEDUPE | group).to_bytes(5, "big") + anchor_minute.to_bytes(8, "big") + request_id


def expiry_key(group: int, log_time_ms: int, key: bytes) -> bytes:
    return (_EXPIRY | group).to_bytes(5, "big") + log_time_ms.to_bytes(8, "big") + key


def kind_of(stored: bytes) -> Kind:
    """The kind of a stored key. Raises ValueError if it is none of ours."""
    return Kind(stored[0])


def group_of(stored: bytes) -> int:
    return int.from_bytes(stored[1:5], "big")


def is_of(stored: bytes, group: int) -> bool:
    """Whether a stored key belongs to the group."""
    return stored[0] != Kind.NODE and group_of(stored) == group


def split_log_key(stored: bytes) -> tuple[int, int]:
    """(group, index)."""
    return group_of(stored), int.from_bytes(stored[5:], "big")


def split_row_key(stored: bytes) -> tuple[int, bytes]:
    """(group, key)."""
    return group_of(stored), stored[5:]


def split_index_key(stored: bytes) -> tuple[int, str, bytes, bytes]:
    """(group, name, value, key)."""
    name, rest = split_component(stored[5:])
    value, key = split_component(rest)
    return group_of(stored), name.decode(), value, key


def split_dedupe_key(stored: bytes) -> tuple[int, int, bytes]:
    """(group, anchor minute, request_id)."""
    return group_of(stored), int.from_bytes(stored[5:13], "big"), stored[13:]


def split_expiry_key(stored: bytes) -> tuple[int, int, bytes]:
    """(group, log time in milliseconds, key)."""
    return group_of(stored), int.from_bytes(stored[5:13], "big"), stored[13:]


def escape(component: bytes) -> bytes:
    r"""A component that something follows, with its end.

    >>> escape(b"a\x00b")
    b'a\x00\xffb\x00\x01'
    """
    return component.replace(b"\x00", b"\x00\xff") + END


def split_component(encoded: bytes) -> tuple[bytes, bytes]:
    """The first, escaped component and the bytes after its end. Raises ValueError if it has no end.

    In an escaped component each 0x00 is followed by 0xFF, so the first 0x00 0x01 is the end.
    """
    escaped, end, rest = encoded.partition(END)
    if not end:
        raise ValueError("a key component without an end")
    return escaped.replace(b"\x00\xff", b"\x00"), rest


def pair(value: bytes, key: bytes) -> bytes:
    """An index entry's (value, key), ordered as the tuple is.

    >>> pair(b"Paris", b"user:1")
    b'Paris\\x00\\x01user:1'
    """
    return escape(value) + key


def split_pair(encoded: bytes) -> tuple[bytes, bytes]:
    """(value, key). Raises ValueError if it is no pair."""
    return split_component(encoded)


def equals_bounds(value: bytes) -> Bounds:
    """The pairs whose value is `value`."""
    escaped = value.replace(b"\x00", b"\x00\xff")
    return Bounds(escaped + END, escaped + AFTER_END)


def prefix_bounds(value_prefix: bytes) -> Bounds:
    r"""The pairs whose value starts with `value_prefix`; all pairs if it is empty.

    The escaped prefix starts the escaped form of just these values. The end is open if no bytes come after them all.

    >>> prefix_bounds(b"a\xff")
    Bounds(start=b'a\xff', end=b'b')
    >>> prefix_bounds(b"\xff")
    Bounds(start=b'\xff', end=b'')
    """
    escaped = value_prefix.replace(b"\x00", b"\x00\xff")
    stripped = escaped.rstrip(b"\xff")
    return Bounds(escaped, stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"")


def range_bounds(start: bytes | None, end: bytes | None) -> Bounds:
    """The pairs with start <= value < end; None is open."""
    return Bounds(b"" if start is None else escape(start), b"" if end is None else escape(end))


def resumed(bounds: Bounds, last: bytes, *, descending: bool) -> Bounds:
    """What is left of `bounds` after the pair `last`, never more than `bounds`."""
    if not descending:
        return Bounds(max(bounds.start, last + b"\x00"), bounds.end)
    return Bounds(bounds.start, min(bounds.end, last) if bounds.end else last)


def index_range(group: int, name: str, bounds: Bounds) -> Bounds:
    """The stored keys of one index of a group whose pairs lie within `bounds`."""
    start = index_prefix(group, name)
    return Bounds(start + bounds.start, start + bounds.end if bounds.end else start[:-2] + AFTER_END)


def index_ranges(groups: Iterable[int], name: str, bounds: Bounds) -> list[tuple[bytes, bytes]]:
    """`index_range` of each group."""
    start, end = (bound[PREFIX_BYTES:] for bound in index_range(0, name, bounds))
    prefixes = [prefix(Kind.INDEX, group) for group in groups]
    return [(begin + start, begin + end) for begin in prefixes]
