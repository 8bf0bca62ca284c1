"""One call as a machine: it is told what happened and says what to do next, until it finishes or fails.

A call asks the best endpoint with a timeout of its own inside the deadline, and repeats as its fate allows. On the way
it asks for the topology when the shared routing wants it. The shells send and sleep; see docs/client.md.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import ldexp
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from ..errors import KeyNotFound, RingholdError, error_for
from ..proto.ringhold.v1.cluster_pb2 import TopologyRequest, TopologyResponse
from ..proto.ringhold.v1.kv_pb2 import GetRequest, GetResponse
from .config import DOUBLINGS_MAX, ClientConfig
from .fate import MutationFate, OrderFate, ReadFate, RequestFate, log_time_in
from .routing import Routing
from .wire import MutationRequest

Result = TypeVar("Result")

ATTEMPT_S_MIN = 0.001
"""With less time than this left there is no further attempt."""

FAILOVERS_MAX = 4
"""How many endpoints that do not serve are left behind without a pause."""

ENDPOINT_FAULTS = frozenset({"NO_ENDPOINT", "CONNECTION_LOST", "NO_ANSWER", "UNKNOWN", "DRAINING", "NOT_READY"})
"""Reasons that speak against the endpoint, not against the request."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` to `address`; then tell `Answered` or `Failed`, within `timeout_s`.

    If it `is_prompt` the answer should come at once, so that others which wait for it too lose nothing.
    """

    address: str
    request: Message
    timeout_s: float
    is_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; then tell `Slept`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish(Generic[Result]):
    """Give the program the result."""

    result: Result


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise the error to the program."""

    error: RingholdError


@dataclass(frozen=True, slots=True)
class Answered:
    response: Any


@dataclass(frozen=True, slots=True)
class Failed:
    error: RingholdError


@dataclass(frozen=True, slots=True)
class Slept:
    pass


Effect: TypeAlias = Send | Sleep | Finish[Result] | Fail
Event: TypeAlias = Answered | Failed | Slept


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all calls of a client share."""

    routing: Routing
    config: ClientConfig
    rng: random.Random


class Call(ABC, Generic[Result]):
    """The part that reads, mutations and batches have in common. `key` is what to route by, if anything."""

    def __init__(self, around: Surroundings, key: bytes | None, timeout_s: float) -> None:
        self._around = around
        self._key = key
        self._timeout_s = timeout_s
        self._attempt_timeout_s = around.config.attempt_timeout_s
        self._deadline = 0.0
        self._rounds = 0
        self._tried: set[str] = set()
        self._known_partition: int | None = None
        self._address = ""
        self._on_answer: Callable[[Any, float], Effect[Result]]
        self._on_failure: Callable[[RingholdError, float], Effect[Result]]

    def start(self, now: float) -> Effect[Result]:
        """The first effect; the deadline counts from `now`."""
        self._deadline = now + self._timeout_s
        return self._proceed(now)

    def handle(self, event: Event, now: float) -> Effect[Result]:
        """The next effect, after the last one had this outcome."""
        match event:
            case Slept():
                return self._proceed(now)
            case Answered(response):
                self._around.routing.answered(self._address)
                return self._on_answer(response, now)
            case Failed(error):
                self._note_failure(error, now)
                return self._on_failure(error, now)

    @abstractmethod
    def _attempt(self, now: float) -> Effect[Result]:
        """Do what the call is for."""

    @abstractmethod
    def _ending(self) -> Effect[Result]:
        """What to do when there is no time left."""

    def _proceed(self, now: float) -> Effect[Result]:
        if self._has_time(now) and self._wants_topology(now):
            return self._ask(TopologyRequest(), now, self._refreshed, self._not_refreshed)
        return self._attempt_in_time(now)

    def _attempt_in_time(self, now: float) -> Effect[Result]:
        return self._attempt(now) if self._has_time(now) else self._ending()

    def _has_time(self, now: float) -> bool:
        return self._deadline - now >= ATTEMPT_S_MIN

    def _ask(
        self,
        request: Message,
        now: float,
        on_answer: Callable[[Any, float], Effect[Result]],
        on_failure: Callable[[RingholdError, float], Effect[Result]],
    ) -> Send:
        self._on_answer, self._on_failure = on_answer, on_failure
        self._address = self._choose(now)
        is_prompt = not self._tried and self._rounds == 0 and self._is_prompt()
        return Send(self._address, request, min(self._attempt_timeout_s, self._deadline - now), is_prompt)

    def _choose(self, now: float) -> str:
        """The endpoint to ask next."""
        return self._around.routing.choose(self._partition(), self._tried, now)

    def _is_prompt(self) -> bool:
        """Whether the endpoint chosen should have the answer itself."""
        return self._around.routing.is_prompt(self._partition(), self._address)

    def _again(self, error: RingholdError, now: float) -> Effect[Result]:
        """Repeat after a failed attempt: at once elsewhere if the endpoint was at fault, else after a pause."""
        if error.reason in ENDPOINT_FAULTS and len(self._tried) < FAILOVERS_MAX and self._has_untried():
            return self._proceed(now)
        self._tried.add(self._address)
        if not self._has_untried():
            self._tried.clear()
        self._rounds += 1
        pause_s = max(self._backoff_s(), _retry_after_s(error))
        return Sleep(pause_s) if self._has_time(now + pause_s) else self._ending()

    def _wants_topology(self, now: float) -> bool:
        return self._around.routing.claim_refresh(now)

    def _partition(self) -> int | None:
        """That of the key: it is the same for ever, so that it is computed once, as soon as their number is known."""
        if self._known_partition is None and self._key is not None:
            self._known_partition = self._around.routing.partition_of(self._key)
        return self._known_partition

    def _refreshed(self, topology: TopologyResponse, now: float) -> Effect[Result]:
        self._around.routing.adopt(topology, now)
        return self._attempt_in_time(now)

    def _not_refreshed(self, error: RingholdError, now: float) -> Effect[Result]:
        # The old topology does for now: asking again before the attempt could use up all the time there is.
        return self._attempt_in_time(now)

    def _note_failure(self, error: RingholdError, now: float) -> None:
        if error.reason in ENDPOINT_FAULTS:
            self._tried.add(self._address)
            self._around.routing.failed(self._address, now)
            return
        self._around.routing.answered(self._address)
        partition = self._partition()
        if partition is not None:
            self._around.routing.heard_log_time(partition, log_time_in(error), now)
            self._around.routing.heard_failure(partition, error)

    def _has_untried(self) -> bool:
        return self._around.routing.has_untried(self._tried)

    def _backoff_s(self) -> float:
        config = self._around.config
        longest = min(config.backoff_s_max, ldexp(config.backoff_s_min, min(self._rounds, DOUBLINGS_MAX)))
        return longest * self._around.rng.uniform(0.5, 1.0)


class Read(Call[Result]):
    """A call that changes nothing: `parse` makes the result of the answer to `request`."""

    def __init__(
        self,
        around: Surroundings,
        key: bytes | None,
        timeout_s: float,
        request: Message,
        parse: Callable[[Any, float], Result],
    ) -> None:
        super().__init__(around, key, timeout_s)
        self._request = request
        self._parse = parse
        self._fate: RequestFate = ReadFate()

    def _attempt(self, now: float) -> Effect[Result]:
        return self._ask(self._request, now, self._done, self._refused)

    def _done(self, response: Message, now: float) -> Effect[Result]:
        return Finish(self._parse(response, now))

    def _refused(self, error: RingholdError, now: float) -> Effect[Result]:
        final = self._fate.judge(error)
        return self._again(error, now) if final is None else Fail(final)

    def _ending(self) -> Effect[Result]:
        return Fail(self._fate.ending())


class Resolve(Read[Result]):
    """Asks what became of a request; however often, it is answered the same, so it is never in doubt itself."""

    def _ending(self) -> Effect[Result]:
        last = self._fate.ending()
        return Fail(error_for(last.reason, f"the doubt stands, resolve it again later: {last.message}", last.details))


class StaleRead(Read[Result]):
    """A read that any replica of its key may answer."""

    def _choose(self, now: float) -> str:
        return self._around.routing.choose_replica(self._partition(), self._tried, now)

    def _is_prompt(self) -> bool:
        return self._around.routing.has_replica(self._partition(), self._address)


class BulkRead(Read[Result]):
    """A read that asks many nodes, and may take longer."""

    def __init__(
        self,
        around: Surroundings,
        timeout_s: float,
        request: Message,
        parse: Callable[[Any, float], Result],
    ) -> None:
        super().__init__(around, None, timeout_s, request, parse)
        self._attempt_timeout_s = around.config.bulk_attempt_timeout_s


class Plan(BulkRead[Result]):
    """What a change of the cluster would do.

    To place thousands of partitions takes seconds: an attempt has a third of the deadline if that is longer than usual.
    """

    def __init__(
        self, around: Surroundings, timeout_s: float, request: Message, parse: Callable[[Any, float], Result]
    ) -> None:
        super().__init__(around, timeout_s, request, parse)
        self._attempt_timeout_s = max(self._attempt_timeout_s, timeout_s / 3)


class Orders(Plan[Result]):
    """A change of the cluster: idempotent, so that it is repeated like a read, but it may end in doubt."""

    def __init__(
        self, around: Surroundings, timeout_s: float, request: Message, parse: Callable[[Any, float], Result]
    ) -> None:
        super().__init__(around, timeout_s, request, parse)
        self._fate = OrderFate()


class TopologyRead(BulkRead[Result]):
    """A program's own question for the topology: no other one goes before it."""

    def _wants_topology(self, now: float) -> bool:
        return False


class Mutation(Call[int]):
    """A Set or Delete: the anchor is chosen first, then the same request is sent until its fate is known."""

    def __init__(
        self, around: Surroundings, timeout_s: float, request: MutationRequest, request_id: bytes, anchor: int | None
    ) -> None:
        super().__init__(around, request.key, timeout_s)
        self._request = request
        self._fate = MutationFate(request_id, request.key, anchor)
        self._learning = ReadFate()

    def _attempt(self, now: float) -> Effect[int]:
        if self._fate.anchor is None:
            self._fate.anchor = self._around.routing.log_time_ms(self._partition(), now)
        if self._fate.anchor is None:
            return self._ask(GetRequest(key=self._request.key), now, self._learnt, self._not_learnt)
        self._request.request_id = self._fate.request_id
        self._request.anchor = self._fate.anchor
        return self._ask(self._request, now, self._done, self._refused)

    def _learnt(self, response: GetResponse, now: float) -> Effect[int]:
        self._around.routing.heard(response.header, now)
        self._fate.anchor_learnt(response.header.log_time_ms)
        return self._proceed(now)

    def _not_learnt(self, error: RingholdError, now: float) -> Effect[int]:
        if isinstance(error, KeyNotFound):
            self._fate.anchor_learnt(log_time_in(error))
            return self._proceed(now)
        final = self._learning.judge(error)
        if final is not None:
            return Fail(final)
        self._fate.anchor_not_learnt(self._learning.ending())
        return self._again(error, now)

    def _done(self, response: Any, now: float) -> Effect[int]:
        self._around.routing.heard(response.header, now)
        return Finish(response.version)

    def _refused(self, error: RingholdError, now: float) -> Effect[int]:
        final = self._fate.judge(error)
        return self._again(error, now) if final is None else Fail(final)

    def _ending(self) -> Effect[int]:
        return Fail(self._fate.ending())


def _retry_after_s(error: RingholdError) -> float:
    text = error.details.get("retry_after_ms", "")
    return int(text) / 1000 if text.isdecimal() else 0.0
