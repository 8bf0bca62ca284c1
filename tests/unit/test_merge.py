"""One page from the answers of several nodes: where it ends, and what it never holds."""

import pytest

from ringhold.node.merge import MATCH_OVERHEAD_BYTES, InvalidAnswer, ShardAnswer, merge_page

PLENTY = 1_000_000


def answer(pairs: str, *, cut: bool = False) -> ShardAnswer:
    return ShardAnswer([(letter.encode(), b"") for letter in pairs], cut)


def pairs_of(matches: list[tuple[bytes, bytes]]) -> str:
    return b"".join(pair for pair, _ in matches).decode()


@pytest.mark.parametrize(
    ("answers", "limit", "expected", "more"),
    [
        ([], 5, "", False),
        ([answer("")], 5, "", False),
        ([answer("ad"), answer("bc"), answer("")], 5, "abcd", False),
        ([answer("ad"), answer("bc")], 4, "abcd", False),
        ([answer("ad"), answer("bc")], 3, "abc", True),
        ([answer("ac", cut=True), answer("bd")], 9, "abc", True),
        ([answer("ae", cut=True), answer("bc", cut=True)], 9, "abc", True),
        ([answer("ac", cut=True), answer("ab", cut=True)], 2, "ab", True),
        ([answer("abc"), answer("bc"), answer("c", cut=True)], 9, "abc", True),
        ([answer("ab"), answer("ab")], 2, "ab", False),
    ],
)
def test_ascending(answers: list[ShardAnswer], limit: int, expected: str, more: bool) -> None:
    """A page is merged in order, ends at the limit and at the earliest end of a cut answer, and has no pair twice."""
    page = merge_page(answers, limit=limit, bytes_max=PLENTY, descending=False)
    assert (pairs_of(page.matches), page.more) == (expected, more)
    assert page.resume == (expected[-1].encode() if expected else None)


def test_descending() -> None:
    """Descending, the earliest end of a cut answer is the highest."""
    answers = [answer("eb", cut=True), answer("dc", cut=True), answer("fa")]
    page = merge_page(answers, limit=9, bytes_max=PLENTY, descending=True)
    assert (pairs_of(page.matches), page.more, page.resume) == ("fedc", True, b"c")


@pytest.mark.parametrize("descending", [False, True])
def test_pair_of_two_nodes_comes_from_the_earlier_answer(descending: bool) -> None:
    """Which of two records of a pair is shown depends on nothing but the order of the answers."""
    answers = [ShardAnswer([(b"a", b"1")], cut=False), ShardAnswer([(b"a", b"0")], cut=False)]
    assert merge_page(answers, limit=2, bytes_max=PLENTY, descending=descending).matches == [(b"a", b"1")]
    assert merge_page(answers[::-1], limit=2, bytes_max=PLENTY, descending=descending).matches == [(b"a", b"0")]


def test_bytes_bound_the_page_but_for_its_first_match() -> None:
    """A page stops before the match that would exceed its bytes; a first match that does so alone is answered."""
    shard = ShardAnswer([(b"a", b"x" * 100), (b"b", b"y" * 100)], cut=False)
    one = 2 + 100 + MATCH_OVERHEAD_BYTES
    for bytes_max, count in ((2 * one, 2), (2 * one - 1, 1), (1, 1)):
        page = merge_page([shard], limit=9, bytes_max=bytes_max, descending=False)
        assert (len(page.matches), page.more) == (count, count < 2)


@pytest.mark.parametrize("shard", [answer("", cut=True), answer("ba"), answer("aa")])
def test_invalid_answers(shard: ShardAnswer) -> None:
    """An answer that would make a wrong page is refused."""
    with pytest.raises(InvalidAnswer):
        merge_page([shard], limit=9, bytes_max=PLENTY, descending=False)
