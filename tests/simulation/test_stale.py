"""The checker of stale reads on answers that a replica may give and answers that none can."""

import pytest
from simulation.history import Entry, Fate, Mutation, StaleRead
from simulation.queries import Timeline
from simulation.stale import wrong_with_stale

PARIS = frozenset([("city", b"Paris")])


def set_(value: bytes | None, invoked: float, returned: float, version: int) -> Mutation:
    return Mutation(b"k", value, PARIS, invoked, returned=returned, fate=Fate.DONE, version=version)


def stale(
    value: bytes | None, version: int, behind_s: float | None, entries: frozenset[Entry] = PARIS, at: float = 10
) -> StaleRead:
    return StaleRead(b"k", value, version, entries, at, at + 1, behind_s)


TOLD = [set_(b"a", 1, 2, 1), set_(b"b", 5, 6, 2), Mutation(b"k", b"c", PARIS, 8), set_(b"d", 10.5, 12, 7)]

RIGHT = {
    "the newest": stale(b"b", 2, 0),
    "what was true so long ago": stale(b"a", 1, 4.5),
    "as old as drift allows": stale(b"a", 1, 3.7),
    "in doubt": stale(b"c", 4, 0),
    "under way": stale(b"d", 7, 0),
    "of unknown age": stale(b"a", 1, None),
    "nothing, of unknown age": stale(None, 0, None),
    "nothing, before the first": stale(None, 0, 9),
}
WRONG = {
    "older than it says": stale(b"a", 1, 3),
    "another version": stale(b"b", 3, None),
    "other index entries": stale(b"b", 2, None, frozenset()),
    "from nowhere": stale(b"x", 1, None),
    "from the future": stale(b"d", 7, None, at=3),
    "nothing, after the first": stale(None, 0, 5),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_answers_pass(case: str) -> None:
    """What was stored, or may have been, within the admitted age is accepted."""
    assert list(wrong_with_stale([RIGHT[case]], Timeline(b"k", TOLD, []))) == []


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answers_fail(case: str) -> None:
    """What was not stored within the admitted age, or never, is found."""
    assert list(wrong_with_stale([WRONG[case]], Timeline(b"k", TOLD, [])))
