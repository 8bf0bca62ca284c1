"""Page tokens carry their page's end to the next call of the same query, and to no other."""

import pytest
from xxhash import xxh3_64_digest

from ringhold.api.errors import InvalidRequest
from ringhold.node import page_token
from ringhold.node.keyspace import Bounds, equals_bounds, pair, prefix_bounds, range_bounds

CHECKSUM = page_token.query_checksum("city", "equals", equals_bounds(b"Paris"), descending=False)
LAST = pair(b"Paris", b"user:1")
TOKEN = page_token.encode(LAST, CHECKSUM)


def refused(token: bytes, checksum: bytes = CHECKSUM) -> str:
    with pytest.raises(InvalidRequest) as caught:
        page_token.decode(token, checksum)
    assert caught.value.reason == "BAD_PAGE_TOKEN"
    return caught.value.message


def test_round_trip() -> None:
    """A token gives back the pair that it was made of."""
    assert page_token.decode(TOKEN, CHECKSUM) == LAST


def test_golden() -> None:
    """Tokens outlive an upgrade of the nodes: their form is fixed."""
    assert TOKEN.hex() == "0156fd03a6cb22052750617269730001757365723a31b83ad7ed1633b365"


@pytest.mark.parametrize("bit", range(8 * len(TOKEN)))
def test_each_flipped_bit_is_found(bit: int) -> None:
    """A token damaged anywhere is refused."""
    damaged = bytearray(TOKEN)
    damaged[bit // 8] ^= 1 << bit % 8
    assert "damaged" in refused(bytes(damaged))


@pytest.mark.parametrize("token", [b"", b"x", TOKEN[:-1], TOKEN[1:], TOKEN + b"x", b"\x00" * 17])
def test_other_bytes_are_refused(token: bytes) -> None:
    """Bytes of any length that are no token are refused."""
    assert "damaged" in refused(token)


def test_token_whose_pair_is_none() -> None:
    """A token with good checksums around bytes that are no pair is refused too."""
    assert "damaged" in refused(page_token.encode(b"no pair", CHECKSUM))


def test_unknown_format() -> None:
    """A newer node's form of token is told apart from damage."""
    body = b"\x02" + TOKEN[1:-8]
    assert "format 2" in refused(body + xxh3_64_digest(body))


@pytest.mark.parametrize(
    ("index", "kind", "bounds", "descending"),
    [
        ("town", "equals", equals_bounds(b"Paris"), False),
        ("city", "prefix", equals_bounds(b"Paris"), False),
        ("city", "equals", equals_bounds(b"London"), False),
        ("city", "equals", equals_bounds(b"Paris"), True),
        ("city", "prefix", prefix_bounds(b"Paris"), False),
        ("city", "range", range_bounds(b"Paris", None), False),
    ],
)
def test_token_of_another_query(index: str, kind: str, bounds: Bounds, descending: bool) -> None:
    """A token serves no query with another index, kind of match, bounds or order."""
    other = page_token.query_checksum(index, kind, bounds, descending=descending)
    assert "another query" in refused(TOKEN, other)


def test_parts_of_a_query_do_not_run_together() -> None:
    """Queries whose parts join to the same text differ."""
    one = page_token.query_checksum("ab", "c", Bounds(b"d", b""), descending=False)
    assert one != page_token.query_checksum("a", "bc", Bounds(b"d", b""), descending=False)
    assert one != page_token.query_checksum("ab", "c", Bounds(b"", b"d"), descending=False)
