"""The envelope of everything stored: a format byte and a checksum, so that damage is found before it is served.

Index entries alone have none: they are empty. See docs/storage-format.md.

    format (1 byte) | xxh3_64 of the payload (8 bytes, big-endian) | payload
"""

from xxhash import xxh3_64_digest

FORMAT = 1
HEADER_BYTES = 9

_FORMAT = bytes([FORMAT])


class Damaged(Exception):
    """Stored bytes are not what was written (wrong checksum), or of a format that this version does not know."""


def seal(payload: bytes) -> bytes:
    """The stored form of `payload`, 9 bytes longer."""
    return _FORMAT + xxh3_64_digest(payload) + payload


def unseal(stored: bytes) -> bytes:
    """The payload of a stored form. Raises Damaged."""
    payload = stored[HEADER_BYTES:]
    if stored[:HEADER_BYTES] == _FORMAT + xxh3_64_digest(payload):
        return payload
    raise _damage(stored)


def _damage(stored: bytes) -> Damaged:
    if len(stored) < HEADER_BYTES:
        return Damaged(f"{len(stored)} stored bytes are too few for an envelope")
    if stored[0] != FORMAT:
        return Damaged(f"unknown storage format {stored[0]}")
    return Damaged(f"checksum mismatch in {len(stored)} stored bytes")
