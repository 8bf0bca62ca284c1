"""Page tokens: where the next page of an index query begins. All is in the token; nodes keep nothing between pages.

    format (1 byte) | checksum of the query (8 bytes) | last pair | xxh3_64 of all before (8 bytes, big-endian)

The checksums find damage and mistakes; they are no protection against forgery, and need not be: a forged token can only
make a page begin elsewhere within the query's own bounds.
"""

from struct import pack

from xxhash import xxh3_64_digest

from ..api.errors import InvalidRequest
from .keyspace import Bounds, split_pair

FORMAT = 1
HEADER_BYTES = 9
CHECKSUM_BYTES = 8


def query_checksum(index: str, match_kind: str, bounds: Bounds, *, descending: bool) -> bytes:
    """8 bytes that differ between queries whose pages must not be mixed: xxh3_64 over their length-prefixed parts.

    `match_kind` is the name of the field that was set: equals, prefix or range.
    """
    parts = (index.encode(), match_kind.encode(), bounds.start, bounds.end, b"\x01" if descending else b"\x00")
    return xxh3_64_digest(b"".join(pack(">I", len(part)) + part for part in parts))


def encode(pair: bytes, checksum: bytes) -> bytes:
    """The token of a page that ended with `pair`; `checksum` is the query's."""
    token = bytes([FORMAT]) + checksum + pair
    return token + xxh3_64_digest(token)


def decode(token: bytes, checksum: bytes) -> bytes:
    """The last pair of the page before. Raises InvalidRequest (BAD_PAGE_TOKEN): damaged, or of another query."""
    body, end = token[:-CHECKSUM_BYTES], token[-CHECKSUM_BYTES:]
    if len(body) < HEADER_BYTES or end != xxh3_64_digest(body):
        raise _bad("the page token is damaged")
    if body[0] != FORMAT:
        raise _bad(f"the page token is of an unknown format {body[0]}")
    if body[1:HEADER_BYTES] != checksum:
        raise _bad("the page token is of another query: a page is continued with the same index, bounds and order")
    pair = body[HEADER_BYTES:]
    try:
        split_pair(pair)
    except ValueError as error:
        raise _bad("the page token is damaged") from error
    return pair


def _bad(message: str) -> InvalidRequest:
    return InvalidRequest("BAD_PAGE_TOKEN", message)
