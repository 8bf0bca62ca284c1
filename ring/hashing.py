"""Which partition a key belongs to: a function of its bytes alone, the same in every node, client and release.

A key never changes its partition, so nothing here may ever change: golden vectors hold it in place.
"""

from xxhash import xxh3_64_intdigest

HASH_BITS = 64
PARTITIONS_MAX = 65_536


def key_hash(key: bytes) -> int:
    """The 64-bit XXH3 hash of a key, seed 0.

    >>> hex(key_hash(b"Europe/Paris"))
    '0x59ed39a433935f7a'
    """
    return xxh3_64_intdigest(key)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: the leading log2(`partitions`) bits of its hash.

    `partitions` has passed `check_partition_count`; this is called for every request and does not check it again.

    >>> partition_of(b"Europe/Paris", 64)
    22
    """
    return xxh3_64_intdigest(key) >> (HASH_BITS + 1 - partitions.bit_length())


def check_partition_count(partitions: int) -> None:
    """Raise ValueError unless `partitions` is a power of two from 1 to `PARTITIONS_MAX`."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ValueError(f"the number of partitions is a power of two from 1 to {PARTITIONS_MAX}, not {partitions}")
