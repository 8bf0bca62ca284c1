"""Which concurrent operations at one node share a call, and what its answer is to each of them. No I/O.

A call costs a client far more than one operation more in it. An operation that finds the node idle goes at once, as a
call of its own; those that come while several are under way gather, and leave together in a Batch. Each must get from
it what a call of its own would have given: so every mutation has its own request_id and anchor in there (its own
command, see node/gateway.py), nobody shares a Batch with another mutation of the same key or request_id, and what
speaks of the Batch and not of the operation sends the operation out again, alone. See docs/client.md.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from ..errors import RingholdError, error_for
from ..proto.ringhold.v1 import kv_pb2
from ..status import from_operation_error
from .calls import ATTEMPT_S_MIN, Answered, Event, Failed
from .config import ClientConfig

KINDS: Final = {kv_pb2.GetRequest: "get", kv_pb2.SetRequest: "set", kv_pb2.DeleteRequest: "delete"}
"""The requests that can share a call, and their names in `Operation` and `OperationResult`."""


WAITING_SHARE_MAX = 0.1
"""Of the time of an attempt: the rest is for the answer."""


class Listener(Protocol):
    """Who waits for the outcome of an operation; a Future is one. None: send it as a call of its own."""

    def done(self) -> bool: ...
    def set_result(self, event: Event | None, /) -> None: ...
    def cancel(self) -> object: ...


@dataclass(slots=True, eq=False)
class Seat:
    """An operation on its way: it must be answered by `ends_at`.

    `is_sent` says whether it has left in a Batch, `is_lone` whether it was the only one to leave, as a call of its own.
    """

    request: Any
    kind: str
    ends_at: float
    listener: Listener
    is_sent: bool = False
    is_lone: bool = False

    def tell(self, event: Event | None) -> None:
        """Nobody listens any more if the program has cancelled the call, or its time has passed."""
        if not self.listener.done():
            self.listener.set_result(event)

    def expire(self) -> None:
        """Its time has passed."""
        if self.is_sent:
            self.tell(Failed(error_for("NO_ANSWER", "no answer came in time")))
        else:
            self.tell(Failed(error_for("TIMED_OUT", "the time was up before the operation could be sent")))


@dataclass(slots=True)
class Gathered:
    """What will leave together: `names` are the keys and request_ids of its mutations."""

    since: float
    seats: list[Seat] = field(default_factory=list)
    size_bytes: int = 0
    names: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Departure:
    """A Batch to send; `arrive` takes its answer in, `fail` the error that it ended with."""

    seats: Sequence[Seat]
    timeout_s: float

    def request(self) -> kv_pb2.BatchRequest:
        request = kv_pb2.BatchRequest()
        add = request.operations.add
        for seat in self.seats:
            getattr(add(), seat.kind).CopyFrom(seat.request)
        return request

    def arrive(self, response: kv_pb2.BatchResponse) -> None:
        results = response.results
        if len(results) != len(self.seats):
            self.fail(error_for("UNKNOWN", "the answer to a batch has another number of results"))
            return
        for seat, result in zip(self.seats, results, strict=True):
            if result.HasField(seat.kind):
                seat.tell(Answered(getattr(result, seat.kind)))
            else:
                seat.tell(event_of(error_in(result)))

    def fail(self, error: RingholdError) -> None:
        for seat in self.seats:
            seat.tell(event_of_refusal(seat, error))

    def abandon(self) -> None:
        """No more will come: who has not been told anything won't be."""
        for seat in self.seats:
            seat.listener.cancel()


class Coalescing:
    """What waits for one node, and how many operations are under way to it."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._wait_s_max = min(config.coalesced_wait_s_max, config.attempt_timeout_s * WAITING_SHARE_MAX)
        self._gathered: deque[Gathered] = deque()
        self._under_way = 0

    def may_depart(self) -> bool:
        """Whether something waits that need not wait."""
        return bool(self._gathered) and self._under_way < self._config.coalesced_above

    def overdue_in_s(self, now: float) -> float:
        """Seconds after which what has waited longest leaves in any case; infinite if nothing waits."""
        return self._gathered[0].since + self._wait_s_max - now if self._gathered else inf

    def add(self, request: Message, timeout_s: float, listener: Listener, now: float) -> Seat | None:
        """Take in an operation; its listener is told what becomes of it. None: it has to go alone, at once."""
        size = request.ByteSize()
        if size > self._config.coalesced_operation_bytes_max:
            return None
        kind = KINDS[type(request)]
        gathered = self._with_room(size, now)
        if kind != "get" and not _claim(gathered.names, request):
            return None
        seat = Seat(request, kind, now + timeout_s, listener)
        gathered.seats.append(seat)
        gathered.size_bytes += size
        return seat

    def depart(self, now: float) -> list[Departure]:
        """What leaves now in Batches; lone ones are told to go by themselves. Each is under way until `returned`."""
        departures: list[Departure] = []
        while self._gathered and (self.may_depart() or self.overdue_in_s(now) <= 0):
            gathered = self._gathered.popleft()
            seats = [seat for seat in gathered.seats if not seat.listener.done()]
            if not seats:
                continue
            self._under_way += len(seats)
            if len(seats) == 1:
                seats[0].is_lone = True
                seats[0].tell(None)
            else:
                departures.append(self._departure(seats, gathered.since, now))
        return departures

    def returned(self, operations: int) -> None:
        """A Batch of so many, or a lone call, has ended."""
        self._under_way -= operations

    def abandon(self) -> None:
        """What waits is not sent any more: who waits for it is cancelled."""
        while self._gathered:
            for seat in self._gathered.popleft().seats:
                seat.listener.cancel()

    def _with_room(self, size: int, now: float) -> Gathered:
        if self._gathered:
            last = self._gathered[-1]
            fits = last.size_bytes + size <= self._config.coalesced_bytes_max
            if fits and len(last.seats) < self._config.coalesced_operations_max:
                return last
        self._gathered.append(Gathered(now))
        return self._gathered[-1]

    def _departure(self, seats: Sequence[Seat], since: float, now: float) -> Departure:
        """It has the time of one attempt less what its first operation has waited, and no more than anybody needs."""
        for seat in seats:
            seat.is_sent = True
        attempt_s = self._config.attempt_timeout_s - (now - since)
        needed_s = max(seat.ends_at for seat in seats) - now
        return Departure(seats, max(ATTEMPT_S_MIN, min(attempt_s, needed_s)))


def error_in(result: kv_pb2.OperationResult) -> RingholdError:
    """The error of an operation; what is none, and not what was asked for either, says nothing of it."""
    if result.HasField("error"):
        return from_operation_error(result.error)
    return error_for("UNKNOWN", "the answer to a batch has the result of another operation")


def event_of(error: RingholdError) -> Event | None:
    """What an operation's error in the answer to a Batch means to its call; None: nothing, the answer had no room."""
    return None if error.reason == "ANSWER_TOO_LARGE" else Failed(error)


def event_of_refusal(seat: Seat, error: RingholdError) -> Event | None:
    """What the error of a whole Batch means to the call of an operation; None: it is to be sent alone.

    An answer too large to be received says nothing of what became of a mutation.
    """
    if error.reason == "BATCH_TOO_LARGE" or (error.reason == "MESSAGE_TOO_LARGE" and seat.kind == "get"):
        return None
    if error.reason == "MESSAGE_TOO_LARGE":
        return Failed(error_for("IN_DOUBT", f"the answer to a batch was lost: {error.message}"))
    return Failed(type(error)(error.reason, error.message, error.details))


def _claim(names: set[bytes], request: Any) -> bool:
    """Whether no mutation of the key, and none with the request_id, is there yet; then they are taken."""
    key, request_id = b"k" + request.key, b"i" + request.request_id
    if key in names or request_id in names:
        return False
    names.update((key, request_id))
    return True
