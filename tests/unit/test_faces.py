"""What every call goes through before and after its work: admission, parsing, deadline, errors, counting."""

import asyncio
from types import SimpleNamespace
from typing import cast

import grpc
import pytest
from aiohttp import web
from google.protobuf.message import Message
from support.calls import face
from support.polling import until

from ringhold.api.errors import InvalidRequest, KeyNotFound, Overloaded, Unavailable
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.faces.calls import ANSWER_MARGIN_S, Calls
from ringhold.node.faces.http import live, readiness
from ringhold.node.node import Node
from ringhold.node.supervisor import Supervisor


class StoppedClock:
    """A clock that stands still."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing waits {seconds} s here")


class Caller:
    """The part of a call's context that tells how long the caller listens."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def time_remaining(self) -> float | None:
        return self._timeout_s


REQUEST = kv_pb2.GetRequest(key=b"k").SerializeToString()


async def echo(request: kv_pb2.GetRequest, deadline: float) -> kv_pb2.GetResponse:
    return kv_pb2.GetResponse(value=request.key)


async def test_an_answer_is_counted_as_ok() -> None:
    """The way through changes nothing; the metrics know of it."""
    async with face(echo) as served:
        assert kv_pb2.GetResponse.FromString(await served.call(REQUEST)).value == b"k"
        assert served.calls.counters.finished == {("test.KV/Get", "OK"): 1}
        assert served.calls.counters.in_flight == 0


async def test_a_typed_error_reaches_the_client_whole() -> None:
    """Reason, message and details, through one rich status; the node goes on."""

    async def missing(request: kv_pb2.GetRequest, deadline: float) -> kv_pb2.GetResponse:
        raise KeyNotFound("KEY_NOT_FOUND", "there is no record under this key", {"partition": "7"})

    async with face(missing) as served:
        with pytest.raises(KeyNotFound, match="no record") as caught:
            await served.call(REQUEST)
        assert caught.value.details == {"partition": "7"}
        assert served.failures == []
        assert served.calls.counters.finished == {("test.KV/Get", "KEY_NOT_FOUND"): 1}


async def test_an_unexpected_exception_stops_the_node_and_the_client_gets_an_error() -> None:
    """A bug is reported by the name of its method, never taken for an answer."""

    async def broken(request: kv_pb2.GetRequest, deadline: float) -> kv_pb2.GetResponse:
        raise ZeroDivisionError("a bug")

    async with face(broken) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.raw(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert [(name, str(error)) for name, error in served.failures] == [("test.KV/Get", "a bug")]
        assert served.calls.counters.in_flight == 0


async def test_a_node_that_is_not_ready_refuses_before_it_reads_the_message() -> None:
    """Nothing was applied, so the client may go elsewhere."""

    def not_ready() -> None:
        raise Unavailable("NOT_READY", "this node does not serve yet: it waits for b")

    async with face(echo, check_ready=not_ready) as served:
        with pytest.raises(Unavailable, match="waits for b"):
            await served.call(b"\xff\xff")


async def test_a_malformed_message_and_a_large_one_have_their_errors() -> None:
    """P9: a clear reason with the limit, instead of the library's bare status."""
    async with face(echo, Limits(message_bytes_max=1_000)) as served:
        for encoded, reason in ((b"\xff\xff\xff", "MESSAGE_MALFORMED"), (bytes(1_001), "MESSAGE_TOO_LARGE")):
            with pytest.raises(InvalidRequest) as caught:
                await served.call(encoded)
            assert caught.value.reason == reason
        assert served.failures == []


async def test_more_calls_than_the_limit_are_refused_at_once_and_taken_later() -> None:
    """P8: nothing queues behind the limit; every call that ends, however it does, makes room."""
    gate = asyncio.Event()

    async def slow(request: kv_pb2.GetRequest, deadline: float) -> kv_pb2.GetResponse:
        await gate.wait()
        return kv_pb2.GetResponse()

    async with face(slow, Limits(requests_in_flight_max=2)) as served:
        counters = served.calls.counters

        async def full() -> bool:
            return counters.in_flight == 2

        async def empty() -> bool:
            return counters.in_flight == 0

        waiting = [asyncio.ensure_future(served.call(REQUEST)) for _ in range(2)]
        await until(full)
        with pytest.raises(Overloaded) as caught:
            await served.call(REQUEST)
        assert int(caught.value.details["retry_after_ms"]) > 0
        for call in waiting:
            call.cancel()
        await until(empty)
        gate.set()
        await served.call(REQUEST)
        assert served.failures == []


@pytest.mark.parametrize(
    ("timeout_s", "allowed_s", "margin_s"),
    [(2.0, 2.0, ANSWER_MARGIN_S), (0.2, 0.2, 0.02), (None, 10.0, ANSWER_MARGIN_S), (600.0, 60.0, ANSWER_MARGIN_S)],
    ids=["the caller's", "a short one", "none given", "too long"],
)
def test_the_deadline_leaves_time_to_say_why(timeout_s: float | None, allowed_s: float, margin_s: float) -> None:
    """The work ends a little before the caller stops listening: the caller's time, a default, at most a minute."""
    now = 1_000.0
    calls = Calls(lambda: None, Limits(), StoppedClock(now), Supervisor(lambda _name, _error: None))
    context = cast("grpc.aio.ServicerContext[bytes, Message]", Caller(timeout_s))
    assert calls._deadline(context) == pytest.approx(now + allowed_s - margin_s)


@pytest.mark.parametrize(
    ("ready", "draining", "waiting_for", "status", "text"),
    [
        (True, False, "", 200, "ready"),
        (False, True, "", 503, "not ready: draining"),
        (False, False, "it waits for b", 503, "not ready: it waits for b"),
        (False, False, "", 503, "not ready: starting"),
    ],
)
async def test_readiness_says_why_not(ready: bool, draining: bool, waiting_for: str, status: int, text: str) -> None:
    """Orchestrators read the status, people the sentence."""
    founding = SimpleNamespace(waiting_for=waiting_for)
    node = cast("Node", SimpleNamespace(ready=ready, draining=draining, founding=founding))
    request = cast("web.Request", None)
    answer = await readiness(node)(request)
    assert isinstance(answer, web.Response)
    assert (answer.status, answer.text) == (status, text + "\n")
    assert (await live(request)).status == 200
