"""Keys and partitions: golden vectors, so that no release can ever move a key."""

import subprocess
import sys

import pytest

from ringhold.ring.hashing import PARTITIONS_MAX, check_partition_count, key_hash, partition_of

GOLDEN = [
    (b"", 0x2D06800538D394C2, 11, 2881),
    (b"a", 0xE6C632B61E964E1F, 57, 14769),
    (b"\x00", 0xC44BDFF4074EECDB, 49, 12562),
    (b"Europe/Paris", 0x59ED39A433935F7A, 22, 5755),
    ("schlüssel".encode(), 0x1ACA8EF6171A20DE, 6, 1714),
    (b"key:_idx:1", 0x47B76EF645B80746, 17, 4589),
    (b"\xff" * 4096, 0x074CFAC273851DD6, 1, 467),
]


@pytest.mark.parametrize(("key", "hashed", "of_64", "of_16384"), GOLDEN)
def test_golden_vectors(key: bytes, hashed: int, of_64: int, of_16384: int) -> None:
    """A key's hash and partition are the same for ever."""
    assert (key_hash(key), partition_of(key, 64), partition_of(key, 16_384)) == (hashed, of_64, of_16384)


@pytest.mark.parametrize("partitions", [1, 2, 64, 4_096, 16_384, PARTITIONS_MAX])
def test_partitions_are_slices_of_the_hash(partitions: int) -> None:
    """A partition is an equal slice of the hashes, and every key is in one."""
    keys = [f"key-{at}".encode() for at in range(200)]
    assert all(partition_of(key, partitions) == key_hash(key) * partitions // 2**64 for key in keys)


@pytest.mark.parametrize("partitions", [1, 2, 1_024, PARTITIONS_MAX])
def test_powers_of_two_are_accepted(partitions: int) -> None:
    """A power of two up to the limit is a number of partitions."""
    check_partition_count(partitions)


@pytest.mark.parametrize("partitions", [-64, 0, 3, 63, 2 * PARTITIONS_MAX, 2**64])
def test_other_counts_are_refused(partitions: int) -> None:
    """Anything else is refused with the number in the message."""
    with pytest.raises(ValueError, match=str(partitions)):
        check_partition_count(partitions)


def test_hashing_is_light() -> None:
    """What the client imports of the ring doesn't load the consistent-hashing library."""
    code = "import sys, ringhold.ring.hashing, ringhold.ring.topology; print('uhashring' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"
