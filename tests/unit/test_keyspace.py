"""The encoding of stored keys, byte by byte, as docs/storage-format.md gives it."""

import doctest

import pytest

from ringhold.node import keyspace
from ringhold.node.keyspace import Bounds, Kind
from ringhold.node.storage.envelope import Damaged, seal, unseal


def test_doctests() -> None:
    """The worked examples in the module hold."""
    assert doctest.testmod(keyspace).failed == 0


@pytest.mark.parametrize(
    ("stored", "hexadecimal"),
    [
        (keyspace.node_key("identity"), "01 69 64 65 6e 74 69 74 79"),
        (keyspace.state_key(1), "02 00 00 00 01"),
        (keyspace.vote_key(1), "03 00 00 00 01"),
        (keyspace.replica_key(1), "09 00 00 00 01"),
        (keyspace.log_key(1, 258), "04 00 00 00 01 00 00 00 00 00 00 01 02"),
        (keyspace.row_key(7, b"k\x00"), "05 00 00 00 07 6b 00"),
        (
            keyspace.index_key(7, "city", b"Paris", b"user:1"),
            "06 00 00 00 07 63 69 74 79 00 01 50 61 72 69 73 00 01 75 73 65 72 3a 31",
        ),
        (keyspace.index_key(7, "tag", b"a\x00", b"k"), "06 00 00 00 07 74 61 67 00 01 61 00 ff 00 01 6b"),
        (keyspace.dedupe_key(7, 3, b"id"), "07 00 00 00 07 00 00 00 00 00 00 00 03 69 64"),
        (keyspace.expiry_key(7, 4, b"k"), "08 00 00 00 07 00 00 00 00 00 00 00 04 6b"),
    ],
)
def test_golden_keys(stored: bytes, hexadecimal: str) -> None:
    """Keys never change their form silently: these bytes are on disk."""
    assert stored.hex(" ") == hexadecimal


def test_numbers_of_kinds() -> None:
    """The numbers of kinds are on disk."""
    assert {kind.name: kind.value for kind in Kind} == {
        "NODE": 1, "STATE": 2, "VOTE": 3, "LOG": 4, "ROW": 5, "INDEX": 6, "DEDUPE": 7, "EXPIRY": 8, "REPLICA": 9,
    }  # fmt: skip


def test_range_of_highest_group_and_kind() -> None:
    """The range of a group is right at the edges of the numbers too."""
    assert keyspace.kind_range(Kind.ROW, keyspace.GROUP_MAX) == Bounds(b"\x05\xff\xff\xff\xff", b"\x06\x00\x00\x00\x00")
    assert len(keyspace.group_ranges(3)) == len(Kind) - 1


@pytest.mark.parametrize("encoded", [b"", b"no end", b"a\x00\xff", b"a\x00"])
def test_split_pair_without_end(encoded: bytes) -> None:
    """Bytes without an end of the value are no pair."""
    with pytest.raises(ValueError, match="without an end"):
        keyspace.split_pair(encoded)


def test_unknown_kind() -> None:
    """A stored key with a first byte that we never write is told apart."""
    assert keyspace.kind_of(keyspace.state_key(1)) is Kind.STATE
    with pytest.raises(ValueError, match="10"):
        keyspace.kind_of(b"\x0a")


@pytest.mark.parametrize("payload", [b"", b"x", b"payload" * 1000])
def test_envelope_round_trip(payload: bytes) -> None:
    """What was sealed comes out unchanged, 9 bytes shorter."""
    assert unseal(seal(payload)) == payload
    assert len(seal(payload)) == len(payload) + 9


def test_envelope_golden() -> None:
    """The envelope is on disk: format, xxh3_64 big-endian, payload."""
    assert seal(b"a").hex(" ") == "01 e6 c6 32 b6 1e 96 4e 1f 61"


@pytest.mark.parametrize("bit", range(8 * 12))
def test_envelope_finds_each_flipped_bit(bit: int) -> None:
    """A flipped bit anywhere, in format, checksum or payload, is found."""
    stored = bytearray(seal(b"abc"))
    stored[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        unseal(bytes(stored))


@pytest.mark.parametrize("length", range(12))
def test_envelope_finds_truncation(length: int) -> None:
    """A stored value that lost its end is damaged, an empty one too."""
    with pytest.raises(Damaged):
        unseal(seal(b"abc")[:length])
