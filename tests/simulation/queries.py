"""Whether pages of index queries hold what they must and nothing that they can't (P4, P5).

For each key the checker works out what may have been stored at some moment of the call. An entry that all of these
states have must be there, once; one that none has must not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from .history import Fate, Mutation, Page, Pair, Query, Read


@dataclass(frozen=True, slots=True)
class State:
    """What may be stored under a key: `value` None is nothing."""

    value: bytes | None
    pairs: frozenset[Pair]


NOTHING = State(None, frozenset())


class Known(NamedTuple):
    """A mutation that may have happened, and by when it certainly had (infinite: it is in doubt)."""

    mutation: Mutation
    version: int | None
    invoked: float
    returned: float
    happened: float


class Timeline:
    """The mutations of one key, with what its reads tell of those in doubt."""

    def __init__(self, key: bytes, mutations: Iterable[Mutation], reads: Iterable[Read]) -> None:
        self._key = key
        seen: dict[bytes, Read] = {}
        for read in reads:
            if read.value is not None and (read.value not in seen or read.returned < seen[read.value].returned):
                seen[read.value] = read
        self._known = [
            known_of(one, None if one.value is None else seen.get(one.value))
            for one in mutations
            if one.fate is not Fate.NEVER and one.version != 0
        ]
        self._certain = sorted(
            (known for known in self._known if known.happened < inf), key=lambda known: known.version or 0, reverse=True
        )
        self._states: dict[tuple[int, str], State] = {}

    def states(self, index: str, invoked: float, returned: float) -> list[State]:
        """What may be stored at some moment between the two, with the pairs of one index."""
        return [
            NOTHING if known is None else self._state(known.mutation, index)
            for known in self._possible(invoked, returned)
        ]

    def explains(self, found: Read, invoked: float, returned: float) -> bool:
        """Whether what was found, entries included, may be stored at some moment between the two."""
        for known in self._possible(invoked, returned):
            if known is None or known.mutation.value is None or found.value is None:
                if found.value is None and (known is None or known.mutation.value is None):
                    return True
            elif known.mutation.value == found.value and known.version in {None, found.version}:
                return known.mutation.entries == found.entries
        return False

    def _possible(self, invoked: float, returned: float) -> list[Known | None]:
        """The mutations whose outcome may be stored at some moment between the two; None: nothing was ever written."""
        last = next((known for known in self._certain if known.happened < invoked), None)
        if last is None:
            return [None, *(known for known in self._known if known.invoked < returned)]
        newest = last.version or 0
        return [
            last,
            *(
                known
                for known in self._known
                if known.invoked < returned
                and (known.returned >= last.invoked if known.version is None else known.version > newest)
            ),
        ]

    def _state(self, mutation: Mutation, index: str) -> State:
        if mutation.value is None:
            return NOTHING
        state = self._states.get((id(mutation), index))
        if state is None:
            pairs = frozenset((value, self._key) for name, value in mutation.entries if name == index)
            state = self._states[id(mutation), index] = State(mutation.value, pairs)
        return state


def known_of(mutation: Mutation, seen: Read | None) -> Known:
    """What the mutation's own answer, and the first read that found its value, tell of it."""
    happened = mutation.returned if mutation.fate is Fate.DONE else inf
    version = mutation.version
    if seen is not None:
        happened, version = min(happened, seen.returned), seen.version
    return Known(mutation, version, mutation.invoked, mutation.returned, happened)


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
        states = timeline.states(page.query.index, page.as_of, page.returned)
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
    """The timeline of every key that was met."""
    return {
        key: Timeline(key, [one for one in mutations if one.key == key], [one for one in reads if one.key == key])
        for key in sorted({mutation.key for mutation in mutations} | {read.key for read in reads})
    }
