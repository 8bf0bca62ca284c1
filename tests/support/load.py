"""Clients that work on a few keys of a real cluster, each in a thread of its own, and what they did and learnt.

The history is the simulator's, so that its checkers judge real processes too.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from simulation.history import Found, History, Mutation, Page, Query, Read

from ringhold import Client, Delete, Get, InDoubt, KeyNotFound, Operation, Record, RingholdError, Set
from ringhold.api.client import Outcome

from .nodes import wait_until

Result = TypeVar("Result")

KEYS = tuple(b"key-%d" % number for number in range(48))
"""Enough to lie in most partitions, few enough for the clients to meet."""

INDEX = "colour"
COLOURS = (b"blue", b"green", b"red")
WORKERS = 6
PAUSE_S = 0.015
DEADLINE_S = 10.0
WALK_PAGE_SIZE = 20
WALK_MATCHES_MAX = len(KEYS) * len(COLOURS)
"""A walk may find a key once under each value that it had meanwhile."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation on a key, a batch or a walk that raised."""

    at: float
    worker: str
    subject: bytes
    error: RingholdError

    def __str__(self) -> str:
        return (
            f"{self.worker} at {self.at:.4f}, {self.subject!r}: {self.error.reason} {self.error} {self.error.details}"
        )


class Worker:
    """One client that does one thing after the other, in a thread of its own, until it is stopped."""

    def __init__(self, name: str, endpoints: Sequence[str], history: History, seed: int) -> None:
        self.finished = 0
        self.failures: list[Failure] = []
        self._name = name
        self._thread = threading.Thread(target=self._run, name=name)
        self._endpoints = endpoints
        self._history = history
        self._rng = random.Random(seed)
        self._stopped = threading.Event()
        self._kinds = {self._set: 40, self._get: 40, self._delete: 8, self._batch: 8, self._walk: 4}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with Client(self._endpoints, timeout_s=DEADLINE_S) as client:
            while not self._stopped.wait(self._rng.expovariate(1 / PAUSE_S)):
                (kind,) = self._rng.choices(list(self._kinds), weights=list(self._kinds.values()))
                kind(client)
                self.finished += 1

    def _set(self, client: Client) -> None:
        mutation = self._new_set()
        indexes = indexes_of(mutation)
        outcome = self._outcome(mutation.key, partial(client.set, mutation.key, mutation.value or b"", indexes))
        self._judge(mutation, outcome)

    def _delete(self, client: Client) -> None:
        mutation = self._history.begin(self._rng.choice(KEYS), None, frozenset(), time.monotonic())
        self._judge(mutation, self._outcome(mutation.key, partial(client.delete, mutation.key)))

    def _get(self, client: Client) -> None:
        key, invoked = self._rng.choice(KEYS), time.monotonic()
        self._note_read(key, self._outcome(key, partial(client.get, key)), invoked)

    def _batch(self, client: Client) -> None:
        """Sets and Gets of different keys, and a Delete."""
        invoked = time.monotonic()
        mutations = [self._new_set() for _ in range(3)]
        mutations.append(self._history.begin(self._rng.choice(KEYS), None, frozenset(), invoked))
        read = self._rng.choice(KEYS)
        operations: list[Operation] = [*map(operation_of, mutations), Get(read)]
        outcomes = self._outcome(b"batch", partial(client.batch, operations))
        if isinstance(outcomes, RingholdError):
            outcomes = [outcomes] * len(operations)
        else:
            self._note_failures([*(mutation.key for mutation in mutations), read], outcomes)
        for mutation, outcome in zip(mutations, outcomes, strict=False):
            self._judge(mutation, outcome)
        self._note_read(read, outcomes[-1], invoked)

    def _walk(self, client: Client) -> None:
        """All of the index, in pages; as one page for the checker, whose rules hold over pages too (P4)."""
        query = Query(INDEX, None, None, self._rng.random() < 0.5, WALK_MATCHES_MAX, with_records=True)
        invoked = time.monotonic()
        found = self._outcome(b"walk", lambda: self._matches(client, query))
        if not isinstance(found, RingholdError):
            self._history.pages.append(Page(query, None, found, False, (), invoked, time.monotonic(), invoked))

    def _matches(self, client: Client, query: Query) -> tuple[Found, ...]:
        matches = client.find(query.index, descending=query.descending, page_size=WALK_PAGE_SIZE)
        return tuple(
            Found((match.index_value, match.key), match.record.value, match.record.version)
            for match in matches
            if match.record is not None
        )

    def _outcome(self, subject: bytes, call: Callable[[], Result]) -> "Result | RingholdError":
        try:
            return call()
        except KeyNotFound as error:
            return error
        except RingholdError as error:
            self.failures.append(self._failure(subject, error))
            return error

    def _note_failures(self, keys: Sequence[bytes], outcomes: Sequence[Outcome]) -> None:
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, RingholdError) and not isinstance(outcome, KeyNotFound):
                self.failures.append(self._failure(key, outcome))

    def _failure(self, subject: bytes, error: RingholdError) -> Failure:
        return Failure(time.monotonic(), self._name, subject, error)

    def _new_set(self) -> Mutation:
        entries = frozenset((INDEX, colour) for colour in self._rng.sample(COLOURS, self._rng.randint(0, 2)))
        return self._history.begin(self._rng.choice(KEYS), self._history.new_value(0), entries, time.monotonic())

    def _judge(self, mutation: Mutation, outcome: object) -> None:
        if isinstance(outcome, int):
            mutation.done(outcome, time.monotonic())
        elif not isinstance(outcome, InDoubt):
            mutation.never(time.monotonic())

    def _note_read(self, key: bytes, outcome: object, invoked: float) -> None:
        if isinstance(outcome, Record):
            entries = frozenset((name, value) for name, values in outcome.indexes.items() for value in values)
            read = Read(key, outcome.value, outcome.version, entries, invoked, time.monotonic())
            self._history.reads.append(read)
        elif isinstance(outcome, KeyNotFound):
            self._history.reads.append(Read(key, None, 0, frozenset(), invoked, time.monotonic()))


def indexes_of(mutation: Mutation) -> dict[str, list[bytes]]:
    return {INDEX: sorted(value for _, value in mutation.entries)} if mutation.entries else {}


def operation_of(mutation: Mutation) -> Set | Delete:
    if mutation.value is None:
        return Delete(mutation.key)
    return Set(mutation.key, mutation.value, indexes_of(mutation))


class Load:
    """All workers; each knows two of the endpoints, all pairs are there."""

    def __init__(self, endpoints: Sequence[str], history: History, seed: int) -> None:
        circle = [*endpoints, *endpoints]
        self.history = history
        self.workers = [
            Worker(f"worker-{number}", circle[number % len(endpoints) :][:2], history, seed + number)
            for number in range(WORKERS)
        ]

    @property
    def failures(self) -> list[Failure]:
        return [failure for worker in self.workers for failure in worker.failures]

    def wait_for(self, operations: int, timeout_s: float) -> None:
        """Return when every worker has finished so many operations from now on."""
        goals = [(worker, worker.finished + operations) for worker in self.workers]

        def reached() -> bool:
            return all(worker.finished >= goal for worker, goal in goals)

        wait_until(reached, f"{operations} more operations of each client", timeout_s)

    def stop(self) -> None:
        """Return when all operations have ended; a mutation still in doubt has happened by then, or never will."""
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join()


@contextmanager
def loaded(endpoints: Sequence[str], history: History, seed: int) -> Iterator[Load]:
    """Load while the block runs."""
    load = Load(endpoints, history, seed)
    for worker in load.workers:
        worker.start()
    try:
        yield load
    finally:
        load.stop()
