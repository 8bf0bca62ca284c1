"""The checker of index queries on pages that are right and pages that are not."""

from math import inf

import pytest
from simulation.history import Fate, Found, Mutation, Page, Query, Read
from simulation.queries import timelines_of, wrong_with

CITY = Query("city", None, None, descending=False, limit=10, with_records=False)


def set_(key: bytes, city: bytes | None, invoked: float, returned: float = inf, version: int | None = None) -> Mutation:
    entries = frozenset([("city", city)] if city is not None else [])
    value = b"%s at %f" % (key, invoked)
    fate = Fate.DONE if version else Fate.DOUBT
    return Mutation(key, value, entries, invoked, returned=returned, fate=fate, version=version)


def page(
    *pairs: tuple[bytes, bytes], query: Query = CITY, after: tuple[bytes, bytes] | None = None, more: bool = False
) -> Page:
    return Page(query, after, tuple(Found(pair) for pair in pairs), more, (), 10, 12, 10)


OLD = [set_(b"a", b"Oslo", 1, 2, 1), set_(b"b", b"Paris", 1, 2, 2)]
MOVED = [*OLD, set_(b"a", b"Rome", 11, 13, 3)]
DOUBTED = [*OLD, set_(b"a", b"Rome", 3)]
GONE = [*OLD, set_(b"a", None, 3, 4, 3)]

RIGHT = {
    "all that match, in order": (OLD, page((b"Oslo", b"a"), (b"Paris", b"b"))),
    "a change meanwhile may be seen": (MOVED, page((b"Paris", b"b"), (b"Rome", b"a"))),
    "a change meanwhile may be missed": (MOVED, page((b"Oslo", b"a"), (b"Paris", b"b"))),
    "both sides of a change": (MOVED, page((b"Paris", b"b"))),
    "a change in doubt may show at any time": (DOUBTED, page((b"Paris", b"b"), (b"Rome", b"a"))),
    "more may follow after a cut": (OLD, page((b"Oslo", b"a"), more=True)),
    "the page after one": (OLD, page((b"Paris", b"b"), after=(b"Oslo", b"a"))),
    "descending": (OLD, page((b"Paris", b"b"), (b"Oslo", b"a"), query=Query("city", None, None, True, 10, False))),
    "a range": (OLD, page((b"Paris", b"b"), query=Query("city", b"P", b"Q", False, 10, False))),
}
WRONG = {
    "one is missing": (OLD, page((b"Oslo", b"a"))),
    "one is missing before the cut": (OLD, page((b"Paris", b"b"), more=True)),
    "out of order": (OLD, page((b"Paris", b"b"), (b"Oslo", b"a"))),
    "one twice": (OLD, page((b"Oslo", b"a"), (b"Oslo", b"a"), (b"Paris", b"b"))),
    "one of the page before": (OLD, page((b"Oslo", b"a"), (b"Paris", b"b"), after=(b"Oslo", b"a"))),
    "removed before the call": (GONE, page((b"Oslo", b"a"), (b"Paris", b"b"))),
    "never written": (OLD, page((b"Oslo", b"a"), (b"Paris", b"b"), (b"Rome", b"z"))),
    "outside the range": (OLD, page((b"Oslo", b"a"), query=Query("city", b"P", None, False, 10, False))),
    "more than asked for": (
        OLD,
        page((b"Oslo", b"a"), (b"Paris", b"b"), query=Query("city", None, None, False, 1, False)),
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_pages_pass(case: str) -> None:
    """A page that could be answered at some moment of the call is accepted."""
    mutations, answered = RIGHT[case]
    assert wrong_with(answered, timelines_of(mutations, []), frozenset()) == []


@pytest.mark.parametrize("case", WRONG)
def test_wrong_pages_fail(case: str) -> None:
    """A page that breaks P4 is found."""
    mutations, answered = WRONG[case]
    assert wrong_with(answered, timelines_of(mutations, []), frozenset())


def test_a_read_ends_the_doubt() -> None:
    """Once the value of a Set in doubt was read, the entries of the record before it must be gone."""
    seen = Read(b"a", DOUBTED[-1].value, 5, frozenset(), 4, 5)
    timelines = timelines_of(DOUBTED, [seen])
    assert wrong_with(page((b"Oslo", b"a"), (b"Paris", b"b")), timelines, frozenset())
    assert wrong_with(page((b"Paris", b"b"), (b"Rome", b"a")), timelines, frozenset()) == []


def test_named_missing_shards_may_be_missing() -> None:
    """What lies in a partition that the page names as missing need not be there."""
    assert wrong_with(page((b"Oslo", b"a")), timelines_of(OLD, []), frozenset([b"b"])) == []
