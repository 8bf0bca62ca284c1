"""What all gRPC faces share: admission, sizes, deadlines, and errors as rich statuses.

A call comes in as bytes, so that a message over the limit or a malformed one gets this project's error and not a bare
status of the library. See docs/protocols/errors.md.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ...api.errors import InvalidRequest, Overloaded, RingholdError
from ...api.limits import Limits, too_large
from ...api.status import to_grpc_status
from ..clock import Clock
from ..supervisor import Supervisor

ANSWER_MARGIN_S = 0.1
ANSWER_MARGIN_SHARE = 0.1

Question = TypeVar("Question", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(slots=True)
class CallCounters:
    """Calls by method and reason ("OK" for success), and those in flight, for the metrics."""

    finished: dict[tuple[str, str], int] = field(default_factory=dict)
    in_flight: int = 0

    def count(self, method: str, reason: str) -> None:
        key = (method, reason)
        self.finished[key] = self.finished.get(key, 0) + 1


class Calls:
    """Admits calls to this node and translates what becomes of them."""

    def __init__(self, check_ready: Callable[[], None], limits: Limits, clock: Clock, supervisor: Supervisor) -> None:
        self.counters = CallCounters()
        self._check_ready = check_ready
        self._limits = limits
        self._clock = clock
        self._supervisor = supervisor

    def handler(
        self, service: str, methods: Mapping[str, tuple[type[Message], Callable[[Any, float], Awaitable[Message]]]]
    ) -> grpc.GenericRpcHandler:
        """A gRPC service: for each method the request's type, and what answers it within a deadline."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(f"{service}/{name}", question, answer), response_serializer=serialize
            )
            for name, (question, answer) in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def streaming_handler(
        self, service: str, methods: Mapping[str, tuple[type[Message], Callable[[Any], AsyncGenerator[Message, None]]]]
    ) -> grpc.GenericRpcHandler:
        """A gRPC service whose answers are streams, without a deadline: they end when the caller goes away."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_stream_rpc_method_handler(
                self._streaming(f"{service}/{name}", question, answer), response_serializer=serialize
            )
            for name, (question, answer) in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def _streaming(
        self, method: str, question: type[Question], answer: Callable[[Question], AsyncGenerator[Message, None]]
    ) -> Callable[[bytes, "grpc.aio.ServicerContext[bytes, Message]"], Awaitable[None]]:
        counters = self.counters
        guard = self._supervisor.guard(method, RingholdError)

        async def call(encoded: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> None:
            counters.in_flight += 1
            try:
                with guard:
                    self._admit(encoded)
                    async with aclosing(answer(self._parsed(question, encoded))) as messages:
                        async for message in messages:
                            await context.write(message)
                counters.count(method, "OK")
            except RingholdError as error:
                counters.count(method, error.reason)
                await refuse(context, error)
            finally:
                counters.in_flight -= 1

        return call

    def _unary(
        self, method: str, question: type[Question], answer: Callable[[Question, float], Awaitable[Message]]
    ) -> Callable[[bytes, "grpc.aio.ServicerContext[bytes, Message]"], Awaitable[Message]]:
        counters = self.counters
        guard = self._supervisor.guard(method, RingholdError)

        async def call(encoded: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
            counters.in_flight += 1
            try:
                with guard:
                    self._admit(encoded)
                    response = await answer(self._parsed(question, encoded), self._deadline(context))
                counters.count(method, "OK")
                return response
            except RingholdError as error:
                counters.count(method, error.reason)
                await refuse(context, error)
            finally:
                counters.in_flight -= 1

        return call

    def _admit(self, encoded: bytes) -> None:
        self._check_ready()
        if self.counters.in_flight > self._limits.requests_in_flight_max:
            message = f"{self._limits.requests_in_flight_max} requests are in flight on this node"
            raise Overloaded("OVERLOADED", message, {"retry_after_ms": "100"})
        if len(encoded) > self._limits.message_bytes_max:
            raise too_large("MESSAGE_TOO_LARGE", "the message", len(encoded), self._limits.message_bytes_max)

    @staticmethod
    def _parsed(question: type[Question], encoded: bytes) -> Question:
        try:
            return question.FromString(encoded)
        except DecodeError as error:
            raise InvalidRequest("MESSAGE_MALFORMED", f"the message is no {question.DESCRIPTOR.full_name}") from error

    def _deadline(self, context: "grpc.aio.ServicerContext[bytes, Message]") -> float:
        """When the answer must be on its way: a little before the caller stops listening, so that it says why."""
        remaining_s = context.time_remaining()
        asked_s = self._limits.deadline_default_s if remaining_s is None else remaining_s
        allowed_s = min(asked_s, self._limits.deadline_max_s)
        return self._clock.now() + allowed_s - min(ANSWER_MARGIN_S, ANSWER_MARGIN_SHARE * allowed_s)


async def refuse(context: "grpc.aio.ServicerContext[bytes, Message]", error: RingholdError) -> NoReturn:
    """End the call with the error's status."""
    await context.abort_with_status(to_grpc_status(error))


def serialize(message: Message) -> bytes:
    return message.SerializeToString()
