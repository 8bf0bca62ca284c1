"""What gossip needs from outside, as Protocols, so that the simulator can put its own time, network and chance here."""

from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Rng(Protocol):
    """The part of `random.Random` in use; the owner injects a seeded or a real one."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def randrange(self, start: int, /) -> int:
        """An integer in [0, start)."""

    def shuffle(self, x: MutableSequence[Any], /) -> None:
        """Put the sequence into random order, in place."""

    def sample(self, population: Sequence[T], /, k: int) -> list[T]:
        """k different elements in random order."""


class Clock(Protocol):
    """Seconds that count while the machine is suspended."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return when at least `seconds` have passed on this clock."""


class ExchangeFailed(Exception):
    """No usable answer came: refused, lost, too late, too large, or from another cluster."""


class OtherCluster(ExchangeFailed):
    """A node of another cluster answered; the text says which."""


class Exchange(Protocol):
    """The network: one request, one answer."""

    async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
        """The answer's body to a request at `address` (host:port).

        May deliver the request twice: every request is idempotent. Raises ExchangeFailed within `timeout_s`.
        """


class FakeExchange:
    """An `Exchange` within one process: `handlers` are the servers by address, `cut` is asked before each way.

    It takes no time by itself; an owner that wants delay awaits its own clock in the handler.
    """

    def __init__(self, handlers: "dict[str, Handler]", origin: str, cut: Callable[[str, str], bool]) -> None:
        self._handlers = handlers
        self._origin = origin
        self._cut = cut

    async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
        handler = self._handlers.get(address)
        if handler is None or self._cut(self._origin, address):
            raise ExchangeFailed(f"{address} does not answer within {timeout_s} s")
        answer = await handler(route, body)
        if self._cut(address, self._origin):
            raise ExchangeFailed(f"the answer of {address} is lost")
        return answer


class Handler(Protocol):
    """A server's side of an exchange."""

    async def __call__(self, route: str, body: bytes, /) -> bytes:
        """The answer's body."""
