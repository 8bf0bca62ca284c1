"""Which operations share a call, and what each is told of it. No network: additions and answers in, departures out."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ringhold.api.client.calls import Answered, Event, Failed
from ringhold.api.client.coalescing import Coalescing, Departure, Seat
from ringhold.api.client.config import ClientConfig
from ringhold.api.errors import InDoubt, InvalidRequest, KeyNotFound, RingholdError, Unavailable, error_for
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.api.status import to_operation_error

ATTEMPT_S = 1.0
WAIT_S = 0.02


@dataclass
class Listening:
    """A listener that notes what it is told; `is_gone` once its call is over in another way."""

    told: list[Event | None] = field(default_factory=list)
    is_gone: bool = False

    def done(self) -> bool:
        return self.is_gone or bool(self.told)

    def set_result(self, event: Event | None) -> None:
        assert not self.done()
        self.told.append(event)

    def cancel(self) -> None:
        self.is_gone = True


def get(key: bytes) -> kv_pb2.GetRequest:
    return kv_pb2.GetRequest(key=key)


def put(key: bytes, request_id: bytes | None = None, value: bytes = b"v") -> kv_pb2.SetRequest:
    return kv_pb2.SetRequest(key=key, value=value, request_id=request_id or b"id of " + key, anchor=7)


def remove(key: bytes) -> kv_pb2.DeleteRequest:
    return kv_pb2.DeleteRequest(key=key, request_id=b"id of " + key, anchor=7)


def busy(above: int = 1, **limits: Any) -> Coalescing:
    """A node to which so many operations are under way that others gather."""
    core = Coalescing(ClientConfig(coalesced_above=above, coalesced_wait_s_max=WAIT_S, **limits))
    for _ in range(above):
        add(core, get(b"before"))
        assert core.depart(0.0) == []
    return core


def add(core: Coalescing, request: Any, now: float = 0.0, timeout_s: float = ATTEMPT_S) -> tuple[Seat, Listening]:
    listener = Listening()
    seat = core.add(request, timeout_s, listener, now)
    assert seat is not None, "it may share a call"
    return seat, listener


def departed(core: Coalescing, *requests: Any) -> tuple[Departure, list[Listening]]:
    """The Batch of these."""
    listeners = [add(core, request)[1] for request in requests]
    core.returned(1)
    (departure,) = core.depart(0.0)
    return departure, listeners


def results(*kinds: Any) -> kv_pb2.BatchResponse:
    return kv_pb2.BatchResponse(
        results=[
            kv_pb2.OperationResult(error=to_operation_error(kind))
            if isinstance(kind, RingholdError)
            else kv_pb2.OperationResult(**{kind: {}})
            for kind in kinds
        ]
    )


def error_told(listener: Listening) -> RingholdError:
    (event,) = listener.told
    assert isinstance(event, Failed)
    return event.error


def test_a_lone_operation_goes_at_once_as_a_call_of_its_own() -> None:
    """With nothing under way it neither waits nor becomes a Batch."""
    core = Coalescing(ClientConfig())
    seat, listener = add(core, get(b"k"))
    assert core.may_depart()
    assert core.depart(0.0) == []
    assert listener.told == [None]
    assert seat.is_lone


def test_those_that_come_together_leave_together() -> None:
    """The Batch has them in their order, with the request_id and anchor of each, and none of its own."""
    core = Coalescing(ClientConfig())
    requests = [put(b"a"), get(b"b"), remove(b"c"), get(b"b")]
    for request in requests:
        add(core, request)
    (departure,) = core.depart(0.0)
    batch = departure.request()
    assert [getattr(op, str(op.WhichOneof("kind"))) for op in batch.operations] == requests
    assert batch.request_id == b""


@pytest.mark.parametrize("above", [1, 8])
def test_operations_gather_while_several_are_under_way(above: int) -> None:
    """None leaves before one of those has returned; then all do."""
    core = busy(above)
    listeners = [add(core, get(b"k%d" % number))[1] for number in range(3)]
    assert not core.may_depart()
    assert core.depart(WAIT_S / 2) == []
    core.returned(1)
    assert core.may_depart()
    (departure,) = core.depart(WAIT_S / 2)
    assert [seat.listener for seat in departure.seats] == listeners
    assert core.depart(0.0) == []


def test_a_few_callers_do_not_wait_for_each_other() -> None:
    """Below the limit everyone goes at once, in a call of its own."""
    core = Coalescing(ClientConfig(coalesced_above=3))
    for _ in range(3):
        seat, _ = add(core, get(b"k"))
        core.depart(0.0)
        assert seat.is_lone
    add(core, get(b"k"))
    assert not core.may_depart()


def test_those_in_a_batch_are_under_way_until_it_returns() -> None:
    """All of them count."""
    departure, _ = departed(core := busy(), get(b"a"), get(b"b"))
    add(core, get(b"c"))
    assert not core.may_depart()
    core.returned(len(departure.seats))
    assert core.may_depart()


def test_nobody_waits_long_for_a_call_that_hangs() -> None:
    """What has gathered for long enough leaves, however many calls are under way."""
    core = busy()
    for key in (b"a", b"b"):
        add(core, get(key), now=5.0)
    assert core.overdue_in_s(5.0) == pytest.approx(WAIT_S)
    assert core.depart(5.0 + WAIT_S / 2) == []
    assert len(core.depart(5.0 + 2 * WAIT_S)) == 1


def test_waiting_takes_a_tenth_of_an_attempt_at_most() -> None:
    """However long a program lets operations wait, there is time left for the answer."""
    core = Coalescing(ClientConfig(attempt_timeout_s=0.5, coalesced_wait_s_max=3.0))
    add(core, get(b"k"), now=5.0)
    assert core.overdue_in_s(5.0) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"coalesced_operations_max": 4}, [4, 4, 2]),
        ({"coalesced_bytes_max": 3 * put(b"k0").ByteSize()}, [3, 3, 3]),
        ({}, [10]),
    ],
)
def test_a_batch_is_bounded(limits: Any, sizes: list[int]) -> None:
    """In operations and in bytes; what does not fit leaves with the next, and one left over goes by itself."""
    core = busy(**limits)
    for number in range(10):
        add(core, put(b"k%d" % number))
    departures = core.depart(1.0)
    assert [len(departure.seats) for departure in departures] == sizes


def test_a_large_request_goes_alone() -> None:
    """It neither fills a Batch nor waits for one."""
    core = busy(coalesced_operation_bytes_max=1_000)
    assert core.add(put(b"k", value=b"v" * 1_001), ATTEMPT_S, Listening(), 0.0) is None
    add(core, put(b"k", value=b"v" * 900))


@pytest.mark.parametrize(
    ("first", "second", "may_share"),
    [
        (put(b"k", b"1"), put(b"k", b"2"), False),
        (put(b"k", b"1"), put(b"k", b"1"), False),
        (put(b"k", b"1"), put(b"l", b"1"), False),
        (put(b"k", b"1"), kv_pb2.DeleteRequest(key=b"k", request_id=b"2"), False),
        (put(b"k", b"1"), put(b"l", b"2"), True),
        (put(b"k", b"l"), put(b"l", b"k"), True),
        (put(b"k", b"1"), get(b"k"), True),
        (get(b"k"), put(b"k", b"1"), True),
        (get(b"k"), get(b"k"), True),
    ],
)
def test_mutations_share_neither_key_nor_request_id(first: Any, second: Any, may_share: bool) -> None:
    """In one Batch they would wait for each other, or become one command; the later goes alone. Reads don't mind."""
    core = busy()
    add(core, first)
    assert (core.add(second, ATTEMPT_S, Listening(), 0.0) is not None) == may_share


def test_each_gets_the_answer_of_its_own_kind() -> None:
    """The very message that a call of its own would have been answered with, or the very error."""
    departure, listeners = departed(busy(), get(b"a"), put(b"b"), remove(b"c"), get(b"d"))
    missing = KeyNotFound("KEY_NOT_FOUND", "there is none", {"partition": "3", "log_time_ms": "9"})
    response = results("get", "set", "delete", missing)
    response.results[0].get.value = b"value"
    response.results[1].set.version = 5
    response.results[2].delete.existed = True
    departure.arrive(response)
    assert listeners[0].told == [Answered(kv_pb2.GetResponse(value=b"value"))]
    assert listeners[1].told == [Answered(kv_pb2.SetResponse(version=5))]
    assert listeners[2].told == [Answered(kv_pb2.DeleteResponse(existed=True))]
    error = error_told(listeners[3])
    assert (type(error), error.reason, error.details) == (KeyNotFound, "KEY_NOT_FOUND", missing.details)


def test_a_record_that_the_answer_has_no_room_for_is_asked_for_alone() -> None:
    """A call of its own has room for it; the others keep their answers."""
    departure, listeners = departed(busy(), get(b"a"), get(b"b"))
    departure.arrive(results("get", error_for("ANSWER_TOO_LARGE", "no room")))
    assert listeners[0].told == [Answered(kv_pb2.GetResponse())]
    assert listeners[1].told == [None]


@pytest.mark.parametrize("reason", ["NO_ANSWER", "CONNECTION_LOST", "UNKNOWN", "NO_ENDPOINT", "DRAINING", "OVERLOADED"])
def test_the_failure_of_a_batch_is_that_of_each_operation(reason: str) -> None:
    """In doubt or not, as if each had been lost or refused by itself; everyone gets an error of its own."""
    departure, listeners = departed(busy(), get(b"a"), put(b"b"))
    departure.fail(error_for(reason, "why", {"retry_after_ms": "100"}))
    errors = [error_told(listener) for listener in listeners]
    assert [(error.reason, error.details) for error in errors] == [(reason, {"retry_after_ms": "100"})] * 2
    assert {type(error) for error in errors} == {type(error_for(reason, ""))}
    assert errors[0] is not errors[1]


def test_a_batch_that_a_node_finds_too_large_is_sent_in_single_calls() -> None:
    """Nothing has happened yet, and the operations are not to blame: the node has a lower limit than usual."""
    departure, listeners = departed(busy(), get(b"a"), put(b"b"))
    departure.fail(InvalidRequest("BATCH_TOO_LARGE", "at most 1 operation"))
    assert [listener.told for listener in listeners] == [[None], [None]]


def test_an_answer_too_large_to_be_received_leaves_mutations_in_doubt() -> None:
    """They may have been applied; reads are asked again alone."""
    departure, listeners = departed(busy(), get(b"a"), put(b"b"))
    departure.fail(InvalidRequest("MESSAGE_TOO_LARGE", "received message larger than max"))
    assert listeners[0].told == [None]
    assert isinstance(error_told(listeners[1]), InDoubt)


def test_an_answer_of_another_length_answers_nobody() -> None:
    """Whose result is whose cannot be known."""
    departure, listeners = departed(busy(), get(b"a"), put(b"b"))
    departure.arrive(results("get"))
    assert [error_told(listener).reason for listener in listeners] == ["UNKNOWN", "UNKNOWN"]


def test_the_result_of_another_operation_answers_nobody() -> None:
    """A version must not be read into what is none."""
    departure, listeners = departed(busy(), put(b"a"), put(b"b"), get(b"c"))
    response = results("get", "set", "get")
    response.results[2].Clear()
    departure.arrive(response)
    assert [error_told(listeners[at]).reason for at in (0, 2)] == ["UNKNOWN", "UNKNOWN"]
    assert listeners[1].told == [Answered(kv_pb2.SetResponse())]


def test_who_is_gone_before_the_departure_is_left_behind() -> None:
    """A cancelled operation is not sent, and one that stays alone then goes by itself."""
    core = busy()
    stays, goes = [add(core, put(b"k%d" % number)) for number in range(2)]
    goes[1].is_gone = True
    core.returned(1)
    assert core.depart(0.0) == []
    assert stays[0].is_lone
    assert stays[1].told == [None]


def test_who_is_gone_later_is_told_nothing() -> None:
    """The others in the Batch get theirs."""
    departure, listeners = departed(busy(), get(b"a"), get(b"b"))
    listeners[0].is_gone = True
    departure.arrive(results("get", "get"))
    assert listeners[0].told == []
    assert len(listeners[1].told) == 1


def test_time_that_passes_before_the_departure_leaves_no_doubt() -> None:
    """What was not sent was not applied; what was sent may have been."""
    core = busy()
    (waiting, listener), _ = add(core, put(b"a"), timeout_s=0.01), add(core, put(b"b"))
    waiting.expire()
    error = error_told(listener)
    assert isinstance(error, Unavailable)
    assert not isinstance(error, InDoubt)
    departure, listeners = departed(busy(), put(b"c"), put(b"d"))
    departure.seats[0].expire()
    assert isinstance(error_told(listeners[0]), InDoubt)
    assert listeners[1].told == []


@pytest.mark.parametrize(
    ("timeouts_s", "departs_at", "expected_s"),
    [
        ([1.0, 1.0], 0.0, 1.0),
        ([1.0, 1.0], 0.02, 0.98),
        ([0.3, 1.0], 0.0, 1.0),
        ([0.3, 0.2], 0.1, 0.2),
    ],
)
def test_a_batch_has_the_time_of_an_attempt(timeouts_s: list[float], departs_at: float, expected_s: float) -> None:
    """Less what its first operation has waited, and no more than any operation has left."""
    core = busy()
    for number, timeout_s in enumerate(timeouts_s):
        add(core, get(b"k%d" % number), timeout_s=timeout_s)
    core.returned(1)
    (departure,) = core.depart(departs_at)
    assert departure.timeout_s == pytest.approx(expected_s)


def test_what_waits_at_the_end_is_cancelled() -> None:
    """It is not sent any more."""
    core = busy()
    _, listener = add(core, get(b"k"))
    core.abandon()
    assert listener.is_gone
    core.returned(1)
    assert not core.may_depart()
    assert core.depart(9.0) == []
