"""Whether pages of index queries hold what they must and nothing that they can't (P4, P5).

For each key the checker works out what may have been stored at some moment of the call. An entry that all of these
states have must be there, once; one that none has must not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .history import Fate, Mutation, Page, Pair, Query, Read


@dataclass(frozen=True, slots=True)
class State:
    """What may be stored under a key: `value` None is nothing."""

    value: bytes | None
    pairs: frozenset[Pair]


class Timeline:
    """The mutations of one key, with what its reads tell of those in doubt."""

    def __init__(self, key: bytes, mutations: Iterable[Mutation], reads: Iterable[Read]) -> None:
        self._key = key
        self._mutations = [mutation for mutation in mutations if mutation.fate is not Fate.NEVER]
        self._happened = {id(one): one.returned for one in self._mutations if one.fate is Fate.DONE}
        self._versions = {id(one): one.version for one in self._mutations}
        by_value = {one.value: one for one in self._mutations if one.value is not None}
        for read in reads:
            seen = by_value.get(read.value) if read.value is not None else None
            if seen is not None:
                self._versions[id(seen)] = read.version
                self._happened[id(seen)] = min(read.returned, self._happened.get(id(seen), read.returned))

    def states(self, index: str, invoked: float, returned: float) -> list[State]:
        """What may be stored at some moment between the two."""
        begun = [one for one in self._mutations if one.invoked < returned and self._versions[id(one)] != 0]
        before = [one for one in begun if self._happened.get(id(one), returned) < invoked]
        last = max(before, key=lambda one: self._versions[id(one)] or 0, default=None)
        later = [one for one in begun if one is not last and not self._precedes(one, last)]
        return [self._state(one, index) for one in (last, *later)]

    def _precedes(self, one: Mutation, other: Mutation | None) -> bool:
        """Whether `one`, if it happened, certainly did so before `other`."""
        if other is None:
            return False
        left, right = self._versions[id(one)], self._versions[id(other)]
        if left is not None and right is not None:
            return left < right
        return one.returned < other.invoked

    def _state(self, mutation: Mutation | None, index: str) -> State:
        if mutation is None or mutation.value is None:
            return State(None, frozenset())
        pairs = frozenset((value, self._key) for name, value in mutation.entries if name == index)
        return State(mutation.value, pairs)


def wrong_with(page: Page, timelines: dict[bytes, Timeline], missing_keys: frozenset[bytes]) -> list[str]:
    """What breaks a rule; `missing_keys` are those of the partitions that the page names as missing."""
    return [*wrong_order(page), *wrong_content(page, timelines, missing_keys)]


def wrong_order(page: Page) -> list[str]:
    pairs = [found.pair for found in page.found]
    steps = zip([page.after, *pairs], pairs, strict=False)
    wrong = [
        f"{after} follows {before}" for before, after in steps if before and not page.query.is_before(before, after)
    ]
    if len(pairs) > page.query.limit:
        wrong.append(f"{len(pairs)} matches in a page of {page.query.limit}")
    if page.more and not pairs:
        wrong.append("an empty page that has more after it")
    return wrong


def wrong_content(page: Page, timelines: dict[bytes, Timeline], missing_keys: frozenset[bytes]) -> list[str]:
    found = {match.pair: match for match in page.found}
    wrong = [f"{pair} was never written" for pair in found if pair[1] not in timelines]
    for key, timeline in timelines.items():
        states = timeline.states(page.query.index, page.invoked, page.returned)
        possible = frozenset[Pair]().union(*(state.pairs for state in states))
        certain = possible.intersection(*(state.pairs for state in states))
        here = {pair for pair in found if pair[1] == key}
        wrong += [f"{pair} is there but was removed or never set" for pair in sorted(here - possible)]
        wrong += [f"{pair} does not match the query" for pair in sorted(here) if not page.query.wants(pair[0])]
        if key not in missing_keys:
            wrong += [f"{pair} is missing" for pair in sorted(certain - here) if covers(page, pair)]
        values = {(pair, state.value) for state in states for pair in state.pairs}
        wrong += [
            f"{pair} comes with another record: {found[pair].value!r}"
            for pair in sorted(here & possible)
            if page.query.with_records and (pair, found[pair].value) not in values
        ]
    return wrong


def covers(page: Page, pair: Pair) -> bool:
    """Whether the pair's place in the order is within the page."""
    query: Query = page.query
    if not query.wants(pair[0]) or (page.after is not None and not query.is_before(page.after, pair)):
        return False
    return not page.more or not query.is_before(page.found[-1].pair, pair)


def timelines_of(mutations: Sequence[Mutation], reads: Sequence[Read]) -> dict[bytes, Timeline]:
    keys = sorted({mutation.key for mutation in mutations})
    return {
        key: Timeline(key, [one for one in mutations if one.key == key], [one for one in reads if one.key == key])
        for key in keys
    }
