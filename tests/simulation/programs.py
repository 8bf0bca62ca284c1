"""Programs that use the cluster: the client's own core over the fake network, doing this and that to a few keys.

What they did and learnt goes to the history; what no client should ever see is a violation at once.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ringhold.api.client.calls import Answered, Call, Fail, Failed, Finish, Send, Slept
from ringhold.api.client.calls import Mutation as MutationCall
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.core import Core, Pages
from ringhold.api.client.operations import Consistency, Delete, Get, Operation, Set
from ringhold.api.client.results import Fate as Resolved
from ringhold.api.client.results import Match, Record, Resolution
from ringhold.api.errors import (
    Incomplete,
    InDoubt,
    KeyNotFound,
    Overloaded,
    RingholdError,
    Unavailable,
)
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.keyspace import split_pair
from ringhold.ring.hashing import partition_of

from .calls import ClientNetwork
from .history import Entry, Fate, Found, History, Mutation, Page, Pair, Query, Read, StaleRead
from .machines import PARTITIONS
from .stale import oldest
from .trace import Trace

Result = TypeVar("Result")

KEYS = (*(b"key-%d" % number for number in range(9)), b"_idx:city:Paris", b"\x00", b"a\x00\xff", b"\xff\xff")
INDEX_VALUES = (b"", b"\x00", b"Oslo", b"Paris", b"Paris\x00", b"Rome", b"\xff")
INDEXES = ("city", "tag")
PADDINGS = (0, 40, 300)
"""Records of different sizes, so that pages are also cut by their bytes."""

STALE_WALK_CHANCE = 0.2

RESOLVE_CHANCE = 0.7
RESOLVE_LATE_CHANCE = 0.25

PAGES_MAX = 150
"""More pages than all keys can fill."""

TOKEN_HEADER_BYTES = 9
TOKEN_CHECKSUM_BYTES = 8

REFUSALS = (Unavailable, Overloaded)
"""Nothing was applied, and a repetition may succeed."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a program works: seconds between operations and for each, and whether it takes no for an answer."""

    pause_s: float
    timeout_s: float
    may_fail: bool


class Program:
    """One client of the cluster, doing one thing after the other."""

    def __init__(
        self,
        name: str,
        endpoints: tuple[str, ...],
        network: ClientNetwork,
        now: Callable[[], float],
        rng: random.Random,
        history: History,
        trace: Trace,
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        """Of nodes that may be asked, once each, by a program that knows no better."""
        self._network = network
        self._clock = now
        self._rng = rng
        self._history = history
        self._trace = trace
        self._core = Core(endpoints, 10.0, ClientConfig(), rng)
        self._remembered: list[Mutation] = []
        self._habits = Habits(0.1, 10.0, may_fail=True)
        self._kinds: Mapping[Callable[[], Any], int] = {
            self._change: 34,
            self._get: 22,
            self._get_stale: 7,
            self._walk: 14,
            self._batch: 12,
            self._repeat: 9,
            self._change_plainly: 7,
        }

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def work(self, habits: Habits, until: Callable[[], bool]) -> None:
        """Operate until told otherwise; the last operation is brought to its end."""
        self._habits = habits
        while not until():
            (kind,) = self._rng.choices(list(self._kinds), weights=list(self._kinds.values()))
            await kind()
            await asyncio.sleep(self._rng.expovariate(1 / habits.pause_s))

    async def read_everything(self) -> None:
        """Read all keys and all indexes."""
        for key in KEYS:
            await self._read(key)
        for index in INDEXES:
            await self._walk_through(Query(index, None, None, self._rng.random() < 0.5, 7, True))

    # One kind of operation each.

    async def _change(self) -> None:
        key = self._rng.choice(KEYS)
        if self._rng.random() < 0.25:
            mutation = self._history.begin(key, None, frozenset(), self._now)
            call = self._core.delete(key, None, None, self._habits.timeout_s)
        else:
            mutation = self._new_set(key)
            call = self._core.set(key, mutation.value or b"", indexes_of(mutation), None, None, self._habits.timeout_s)
        await self._mutate(mutation, call)

    async def _mutate(self, mutation: Mutation, call: Call[int]) -> None:
        assert isinstance(call, MutationCall)
        mutation.request_id = call._fate.request_id
        outcome = await self._outcome(mutation.key, call)
        mutation.anchor = call._fate.anchor or 0
        self._judge(mutation, outcome)
        await self._end_doubt(mutation, outcome)

    async def _change_plainly(self) -> None:
        """As a program does that knows nothing of request ids: ask one node, once."""
        mutation = self._new_set(self._rng.choice(KEYS))
        entries = [kv_pb2.IndexEntry(name=name, value=value) for name, value in sorted(mutation.entries)]
        request = kv_pb2.SetRequest(key=mutation.key, value=mutation.value, indexes=entries)
        self._start("set plainly", mutation.key)
        try:
            response = await self._network.call(self._rng.choice(self.endpoints), request, self._habits.timeout_s)
        except RingholdError as error:
            self._judge(mutation, error)
            await self._end_doubt(mutation, error)
        else:
            self._judge(mutation, response.version)

    async def _get(self) -> None:
        await self._read(self._rng.choice(KEYS))

    async def _read(self, key: bytes) -> None:
        invoked = self._now
        outcome = await self._outcome(key, self._core.get(key, self._habits.timeout_s))
        self._note_read(key, outcome, invoked)

    async def _get_stale(self) -> None:
        """From any replica, which says how old its answer may be."""
        key, invoked = self._rng.choice(KEYS), self._now
        outcome = await self._outcome(key, self._core.get(key, self._habits.timeout_s, "stale"))
        if isinstance(outcome, Record):
            found = (outcome.value, outcome.version, entries_of(outcome))
            self._history.stale_reads.append(StaleRead(key, *found, invoked, self._now, self._age_s(outcome)))
        elif isinstance(outcome, KeyNotFound):
            self._history.stale_reads.append(
                StaleRead(key, None, 0, frozenset(), invoked, self._now, self._age_s(outcome))
            )
        else:
            self._accept(outcome)

    def _age_s(self, answer: Record | KeyNotFound | Pages) -> float | None:
        """How far behind an answer to a stale question says that it may be."""
        if not answer.stale:
            self._history.violated(f"{self.name} asked for what may be stale, and was not told that it is: {answer!r}")
        self._trace.count("stale answer of unknown age" if answer.behind_ms is None else "stale answer of known age")
        return None if answer.behind_ms is None else answer.behind_ms / 1000

    async def _batch(self) -> None:
        """Several operations at once, on the same key too."""
        invoked = self._now
        operations: list[Operation] = []
        subjects: list[Mutation | bytes] = []
        for _ in range(self._rng.randint(2, 6)):
            key = self._rng.choice(KEYS)
            kind = self._rng.random()
            if kind < 0.35:
                operations.append(Get(key))
                subjects.append(key)
            elif kind < 0.5:
                operations.append(Delete(key))
                subjects.append(self._history.begin(key, None, frozenset(), invoked))
            else:
                mutation = self._new_set(key)
                operations.append(Set(key, mutation.value or b"", indexes_of(mutation)))
                subjects.append(mutation)
        outcome = await self._outcome(b"batch", self._core.batch(operations, None, self._habits.timeout_s))
        outcomes = [outcome] * len(subjects) if isinstance(outcome, RingholdError) else outcome
        for subject, one in zip(subjects, outcomes, strict=True):
            if isinstance(subject, bytes):
                self._note_read(subject, one, invoked)
            else:
                self._judge(subject, one)
        mutations = [(one, told) for one, told in zip(subjects, outcomes, strict=True) if isinstance(one, Mutation)]
        places = places_of([mutation.key for mutation, _ in mutations])
        for (mutation, told), place in zip(mutations, places, strict=True):
            await self._end_doubt(mutation, told, place)

    async def _end_doubt(self, mutation: Mutation, outcome: object, place: int = 0) -> None:
        """Resolve most of what is in doubt, at once: attempts may still be on their way."""
        if isinstance(outcome, InDoubt) and outcome.anchor and self._rng.random() < RESOLVE_CHANCE:
            call = self._core.resolve(outcome, None, None, None, self._habits.timeout_s)
            resolution = await self._outcome(mutation.key, call)
            self._note_resolution(mutation, resolution, place)

    def _note_resolution(self, mutation: Mutation, resolution: Resolution | RingholdError, place: int) -> None:
        if isinstance(resolution, RingholdError):
            self._accept(resolution)
            return
        if mutation.fate is Fate.DOUBT:
            self._trace.count(f"doubt resolved: {resolution.fate.value}")
        match resolution.fate:
            case Resolved.APPLIED:
                self._note_effect(mutation, resolution.changes[place].version)
            case Resolved.ABORTED if mutation.fate is Fate.DONE:
                self._history.violated(f"{mutation.value!r} under {mutation.key!r} was acknowledged, and then aborted")
            case Resolved.ABORTED:
                mutation.never(self._now)
            case Resolved.UNKNOWN:
                mutation.unknown(self._now)

    def _note_effect(self, mutation: Mutation, version: int) -> None:
        """A mutation that was known by its id has the effect of this version."""
        what = f"{mutation.value!r} under {mutation.key!r}"
        if mutation.fate is Fate.NEVER:
            self._history.violated(f"{what} was said never to happen, and has version {version}")
        elif mutation.fate is Fate.DONE and version != mutation.version:
            self._history.violated(f"{what} has version {mutation.version}; repeated, {version}")
        elif mutation.is_forgotten:
            self._history.violated(f"{what} was said to happen no more, and has version {version}")
        elif mutation.fate is Fate.DOUBT:
            mutation.done(version, self._now)

    async def _repeat(self) -> None:
        """Send an earlier mutation again, exactly as it was: it must not happen a second time."""
        if not self._remembered:
            await self._get()
            return
        mutation = self._rng.choice(self._remembered)
        if self._rng.random() < RESOLVE_LATE_CHANCE:
            asked = (mutation.request_id, mutation.anchor, mutation.key, self._habits.timeout_s)
            resolution = await self._outcome(mutation.key, self._core.resolve(None, *asked))
            self._note_resolution(mutation, resolution, 0)
            return
        identity = (mutation.request_id, mutation.anchor, self._habits.timeout_s)
        if mutation.value is None:
            call = self._core.delete(mutation.key, *identity)
        else:
            call = self._core.set(mutation.key, mutation.value, indexes_of(mutation), *identity)
        outcome = await self._outcome(mutation.key, call)
        if isinstance(outcome, int):
            is_news = mutation.fate is Fate.DOUBT
            self._trace.count("doubt ended by repetition" if is_news else "repetition answered")
            self._note_effect(mutation, outcome)
        elif mutation.fate is not Fate.DONE and is_because(outcome, "REQUEST_ABORTED"):
            self._trace.count("repetition of what was aborted")
            mutation.never(self._now)  # which the resolution could not tell, if its answer was lost
        elif is_because(outcome, "REQUEST_EXPIRED"):
            self._trace.count("repetition expired")
            self._remembered.remove(mutation)
        else:
            self._accept(outcome, InDoubt)

    async def _walk(self) -> None:
        start, end = sorted(self._rng.sample(INDEX_VALUES, 2))
        bounds = self._rng.choice([(None, None), (start, None), (None, end), (start, end), (start, start + b"\x00")])
        limit = self._rng.choice([1, 2, 4, 50, 50])
        descending, with_records = self._rng.random() < 0.4, self._rng.random() < 0.5
        query = Query(self._rng.choice(INDEXES), *bounds, descending, limit, with_records)
        await self._walk_through(query, "stale" if self._rng.random() < STALE_WALK_CHANCE else "linearizable")

    async def _walk_through(self, query: Query, consistency: Consistency = "linearizable") -> None:
        """All pages of a query, with other work in between."""
        partial = self._habits.may_fail and self._rng.random() < 0.15
        pages = self._core.find(
            query.index,
            None,
            None,
            query.start,
            query.end,
            None,
            query.descending,
            query.with_records,
            partial,
            query.limit,
            consistency,
        )
        for _ in range(PAGES_MAX):
            page = await self._page(query, pages)
            if page is None:
                return
            self._history.pages.append(page)
            if not page.more:
                return
            if self._rng.random() < 0.3:
                await asyncio.sleep(self._rng.expovariate(1 / self._habits.pause_s))
        self._history.violated(f"{query} has more than {PAGES_MAX} pages")

    async def _page(self, query: Query, pages: Pages) -> Page | None:
        after, invoked = last_pair(pages), self._now
        call = self._core.page(pages, self._habits.timeout_s)
        assert call is not None, "a page was asked for after the last one"
        pages.behind_ms = 0  # of each page for itself
        matches = await self._outcome(query.index.encode(), call)
        if isinstance(matches, RingholdError):
            self._accept(matches, Incomplete)
            return None
        if after is not None:
            self._trace.count("page continued")
        if pages.missing_partitions:
            self._trace.count("partial page")
        more = bool(pages._query.page_token)
        found = tuple(found_of(match) for match in matches)
        is_stale = pages._query.consistency == kv_pb2.CONSISTENCY_STALE
        as_of = oldest(invoked, self._age_s(pages)) if is_stale else invoked
        return Page(query, after, found, more, pages.missing_partitions, invoked, self._now, as_of)

    # What all of them need.

    async def _outcome(self, subject: bytes, call: Call[Result]) -> "Result | RingholdError":
        self._start(type(call).__name__, subject)
        try:
            result = await self._run(call)
        except RingholdError as error:
            self._trace.note(self.name, f"{type(call).__name__} {subject!r}: {error.reason}")
            return error
        self._trace.note(self.name, f"{type(call).__name__} {subject!r}: {result!r}")
        return result

    async def _run(self, call: Call[Result]) -> Result:
        effect = call.start(self._clock())
        while True:
            match effect:
                case Finish(result):
                    return result
                case Fail(error):
                    raise error
                case Send():
                    event: Answered | Failed | Slept = await self._send(effect)
                case _:
                    await asyncio.sleep(effect.seconds)
                    event = Slept()
            effect = call.handle(event, self._clock())

    async def _send(self, send: Send) -> Answered | Failed:
        try:
            return Answered(await self._network.call(send.address, send.request, send.timeout_s))
        except RingholdError as error:
            return Failed(error)

    def _start(self, kind: str, subject: bytes) -> None:
        self._history.operations += 1
        self._trace.note(self.name, f"{kind} {subject!r}")

    def _new_set(self, key: bytes) -> Mutation:
        count = self._rng.choice([0, 1, 1, 2, 3])
        pool: list[Entry] = [(name, value) for name in INDEXES for value in INDEX_VALUES]
        value = self._history.new_value(self._rng.choice(PADDINGS))
        return self._history.begin(key, value, frozenset(self._rng.sample(pool, count)), self._now)

    def _judge(self, mutation: Mutation, outcome: object) -> None:
        """Enter what became of a mutation."""
        if isinstance(outcome, int):
            mutation.done(outcome, self._now)
        elif isinstance(outcome, InDoubt):
            self._trace.count("in doubt")
        else:
            mutation.never(self._now)
        if isinstance(outcome, RingholdError):
            self._accept(outcome, InDoubt)
        if mutation.request_id and mutation.anchor and mutation.fate is not Fate.NEVER:
            self._remembered = [*self._remembered[-19:], mutation]

    def _note_read(self, key: bytes, outcome: object, invoked: float) -> None:
        if isinstance(outcome, Record):
            found = (outcome.value, outcome.version, entries_of(outcome))
            self._history.reads.append(Read(key, *found, invoked, self._now))
        elif isinstance(outcome, KeyNotFound):
            self._history.reads.append(Read(key, None, 0, frozenset(), invoked, self._now))
        else:
            self._accept(outcome)

    def _accept(self, outcome: object, *more: type[RingholdError]) -> None:
        """A failure must be one that faults explain, and then only while there are faults."""
        self._trace.count("failed operation")
        if not isinstance(outcome, (*REFUSALS, *more)):
            self._history.violated(f"{self.name} was told {outcome!r}")
        elif not self._habits.may_fail:
            reason = outcome.reason if isinstance(outcome, RingholdError) else ""
            self._history.violated(f"{self.name} failed in a healthy cluster at {self._now:.3f}: {reason} {outcome}")


def is_because(outcome: object, reason: str) -> bool:
    return isinstance(outcome, RingholdError) and outcome.reason == reason


def places_of(keys: Sequence[bytes]) -> list[int]:
    """Of mutations of a batch, the place of each among those of its partition."""
    partitions = [partition_of(key, PARTITIONS) for key in keys]
    return [partitions[:at].count(partition) for at, partition in enumerate(partitions)]


def indexes_of(mutation: Mutation) -> dict[str, list[bytes]]:
    indexes: dict[str, list[bytes]] = {}
    for name, value in sorted(mutation.entries):
        indexes.setdefault(name, []).append(value)
    return indexes


def entries_of(record: Record) -> frozenset[Entry]:
    return frozenset((name, value) for name, values in record.indexes.items() for value in values)


def last_pair(pages: Pages) -> Pair | None:
    """Where the page token says that the next page begins."""
    token = pages._query.page_token
    return split_pair(token[TOKEN_HEADER_BYTES:-TOKEN_CHECKSUM_BYTES]) if token else None


def found_of(match: Match) -> Found:
    pair = (match.index_value, match.key)
    return Found(pair, match.record.value, match.record.version) if match.record else Found(pair)
