"""What clients did and learnt, as the checkers read it: mutations and reads of single keys, and pages of queries."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from math import inf
from typing import TypeAlias

Entry: TypeAlias = tuple[str, bytes]
"""(name, value) of an index entry."""

Pair: TypeAlias = tuple[bytes, bytes]
"""(index value, key)."""


class Fate(Enum):
    """What is known of a mutation's effect."""

    DONE = "done"
    DOUBT = "in doubt"
    NEVER = "not applied"


@dataclass(eq=False)
class Mutation:
    """A Set (`value` given, different in each) or a Delete (None). `returned` is infinite while its fate is open.

    `version` 0 of a Delete that is done: there was nothing to delete. `fate` DOUBT with a finite `returned`: it
    happened before that, or never.
    """

    key: bytes
    value: bytes | None
    entries: frozenset[Entry]
    invoked: float
    request_id: bytes = b""
    anchor: int = 0
    returned: float = inf
    fate: Fate = Fate.DOUBT
    version: int | None = None
    is_forgotten: bool = False
    """The cluster can't tell any more whether it happened, and promised that it won't from then on."""

    def done(self, version: int, now: float) -> None:
        self.fate, self.version, self.returned = Fate.DONE, version, now

    def never(self, now: float) -> None:
        self.fate, self.returned = Fate.NEVER, now

    def unknown(self, now: float) -> None:
        """It has happened by now, or never will; which of them, nobody will ever know."""
        self.is_forgotten, self.returned = True, min(self.returned, now)


@dataclass(frozen=True, slots=True)
class Read:
    """What a Get answered; `value` None: there was no record."""

    key: bytes
    value: bytes | None
    version: int
    entries: frozenset[Entry]
    invoked: float
    returned: float


@dataclass(frozen=True, slots=True)
class StaleRead(Read):
    """What a stale Get answered. It holds all that was acknowledged `behind_s` before the call; None: unknown."""

    behind_s: float | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """start <= value < end (None: open) of one index, in either order, `limit` matches to a page."""

    index: str
    start: bytes | None
    end: bytes | None
    descending: bool
    limit: int
    with_records: bool

    def wants(self, value: bytes) -> bool:
        return (self.start is None or value >= self.start) and (self.end is None or value < self.end)

    def is_before(self, left: Pair, right: Pair) -> bool:
        return left > right if self.descending else left < right


@dataclass(frozen=True, slots=True)
class Found:
    """A match; value and version are those of the record that came with it."""

    pair: Pair
    value: bytes | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page: it began after the pair `after` (None: at the beginning), and there is `more` after it.

    `as_of`: it holds all that was acknowledged before this moment; for a page that is not stale, `invoked`.
    """

    query: Query
    after: Pair | None
    found: tuple[Found, ...]
    more: bool
    missing: tuple[int, ...]
    invoked: float
    returned: float
    as_of: float


@dataclass
class History:
    """All that the checkers judge by."""

    mutations: list[Mutation] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    stale_reads: list[StaleRead] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    operations: int = 0
    on_violation: Callable[[str], None] = lambda what: None
    _values: "count[int]" = field(default_factory=count)

    def new_value(self, padding: int) -> bytes:
        """A value that no other Set writes, with so many bytes behind it."""
        return b"value-%d" % next(self._values) + b"." * padding

    def begin(self, key: bytes, value: bytes | None, entries: frozenset[Entry], now: float) -> Mutation:
        mutation = Mutation(key, value, entries, now)
        self.mutations.append(mutation)
        return mutation

    def settle(self, now: float) -> None:
        """Nothing is under way any more: what is still in doubt has happened by now, or never will."""
        for mutation in self.mutations:
            if mutation.fate is Fate.DOUBT:
                mutation.returned = min(mutation.returned, now)

    def violated(self, what: str) -> None:
        self.violations.append(what)
        self.on_violation(what)

    def keys_met(self) -> list[bytes]:
        reads = [*self.reads, *self.stale_reads]
        return sorted({mutation.key for mutation in self.mutations} | {read.key for read in reads})
