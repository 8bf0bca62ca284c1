"""The shell around `Membership`: it owns the timers, sends and answers, and tells the node what changed.

Time, network and chance are injected; nothing else here differs between two runs, so the simulator runs it as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from .config import GossipConfig
from .events import (
    AnswerLost,
    AnswerReceived,
    AttributesChanged,
    Effect,
    Event,
    ForgetPeer,
    LeaveRequested,
    MemberRemoved,
    PersistPeer,
    RelayPing,
    Reply,
    ReportChange,
    ReportConflict,
    RequestReceived,
    Send,
    Started,
    TimePassed,
)
from .member import Attributes, Member
from .membership import Membership
from .messages import Message, Request
from .ports import Clock, Exchange, ExchangeFailed, Rng
from .wire import WireError, check_member, decode_answer, decode_request, encode, route_of


@dataclass(frozen=True, slots=True)
class GossipListener:
    """What the node does when gossip has news. Called on the event loop; must not block."""

    on_change: Callable[[Member | None, Member | None], None]
    """(before, after): before is None for a newcomer, after is None once removed. The local member is reported too."""

    on_conflict: Callable[[Member], None]
    """Another process runs under this node's id: stop at once."""

    on_persist: Callable[[Member], None]
    """Keep this member durably in place of what was kept for its node id."""

    on_forget: Callable[[str], None]
    """Delete what was kept for this node id."""

    on_failure: Callable[[Exception], None]
    """A bug ended a part of gossip; the node must stop."""


@dataclass(slots=True)
class GossipCounters:
    """What happened since the start, for metrics."""

    exchanges_sent: int = 0
    exchanges_lost: int = 0
    exchanges_refused: int = 0
    """Not even sent, because `exchanges_max` were in flight."""
    requests_answered: int = 0
    requests_malformed: int = 0


class GossipAgent:
    """This node's part in gossip."""

    def __init__(
        self,
        local: Member,
        *,
        seeds: Iterable[str],
        known: Iterable[Member],
        config: GossipConfig,
        exchange: Exchange,
        clock: Clock,
        rng: Rng,
        listener: GossipListener,
    ) -> None:
        """`seeds` are HTTP addresses, `known` what `on_persist` was given. WireError: `local` can't be told."""
        check_member(local)
        self.counters = GossipCounters()
        self._core = Membership(local, seeds=seeds, known=known, config=config, rng=rng, now=clock.now())
        self._config = config
        self._exchange = exchange
        self._clock = clock
        self._listener = listener
        self._ticking: asyncio.Task[None] | None = None
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._send_number = 0
        self._stopped = False

    @property
    def local(self) -> Member:
        """This node as it presents itself."""
        return self._core.local

    @property
    def health_score(self) -> int:
        """0 if this node is well, see `Membership.health_score`."""
        return self._core.health_score

    @property
    def facts_refused(self) -> int:
        """Facts not taken in because `members_max` was reached."""
        return self._core.facts_refused

    def members(self) -> tuple[Member, ...]:
        """All members that are not REMOVED, the local one too, by node id."""
        return self._core.members()

    def member(self, node_id: str) -> Member | None:
        """The member of that id, None if there is none."""
        return self._core.member(node_id)

    async def start(self) -> None:
        """Begin to join and to probe. The local HTTP address should accept requests already."""
        assert self._ticking is None, "gossip is started once"
        self._handle(Started())
        self._ticking = asyncio.create_task(self._supervised(self._tick), name="gossip-tick")

    async def stop(self, *, leave: bool) -> None:
        """Stop all activity. If `leave`, first tell some peers so, for `leave_timeout_s` at most."""
        await self._end([self._ticking] if self._ticking else [])
        await self._end(list(self._sending.values()))
        if leave:
            await self._say_goodbye()
        self._stopped = True
        await self._end(list(self._sending.values()))

    def update_local(self, **attributes: Unpack[Attributes]) -> None:
        """Say something new about this node; tells everybody if it differs. Raises WireError if it can't be told."""
        check_member(replace(self.local, **attributes))
        self._handle(AttributesChanged(attributes))

    def remove(self, node_id: str) -> None:
        """The topology says REMOVED: forget the node, and believe nothing about it any more."""
        self._handle(MemberRemoved(node_id))

    async def handle_request(self, route: str, body: bytes) -> bytes:
        """The answer to a peer's request. Raises WireError, and then nothing has changed.

        Still answers after `stop`, for what the server had accepted by then, but sends nothing by itself.
        """
        try:
            request = decode_request(route, body)
        except WireError:
            self.counters.requests_malformed += 1
            raise
        self.counters.requests_answered += 1
        try:
            return encode(await self._reply_to(request))
        except Exception as error:
            self._listener.on_failure(error)
            raise

    async def _reply_to(self, request: Request) -> Message:
        effects = self._handle(RequestReceived(request))
        for effect in effects:
            if isinstance(effect, RelayPing):
                effects = self._handle(await self._outcome(effect))
        return _reply(effects)

    async def _tick(self) -> None:
        while True:
            began_at = self._clock.now()
            await self._clock.sleep(self._config.tick_s)
            lag_s = self._clock.now() - began_at - self._config.tick_s
            self._handle(TimePassed(max(0.0, lag_s)))

    async def _say_goodbye(self) -> None:
        self._handle(LeaveRequested())
        deadline = self._clock.now() + self._config.leave_timeout_s
        while self._sending and self._clock.now() < deadline:
            await self._clock.sleep(self._config.tick_s / 10)

    @staticmethod
    async def _end(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _handle(self, event: Event) -> list[Effect]:
        effects = self._core.handle(event, self._clock.now())
        for effect in effects:
            self._carry_out(effect)
        return effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Reply() | RelayPing():
                return
            case Send():
                self._send(effect)
            case ReportChange(before, after):
                self._listener.on_change(before, after)
            case ReportConflict(other):
                self._listener.on_conflict(other)
            case PersistPeer(member):
                self._listener.on_persist(member)
            case ForgetPeer(node_id):
                self._listener.on_forget(node_id)

    def _send(self, send: Send) -> None:
        if self._stopped:
            return
        self._send_number += 1
        number = self._send_number
        task = asyncio.create_task(self._supervised(partial(self._deliver, send)), name=f"gossip-send-{number}")
        self._sending[number] = task
        task.add_done_callback(lambda _: self._sending.pop(number))

    async def _deliver(self, send: Send) -> None:
        self._handle(await self._outcome(send))

    async def _outcome(self, send: Send) -> Event:
        if len(self._sending) > self._config.exchanges_max:
            self.counters.exchanges_refused += 1
            return AnswerLost(send, f"{self._config.exchanges_max} exchanges are in flight")
        self.counters.exchanges_sent += 1
        route = route_of(send.message)
        try:
            body = await self._exchange.exchange(send.address, route, encode(send.message), send.timeout_s)
            return AnswerReceived(send, decode_answer(route, body))
        except (ExchangeFailed, WireError) as error:
            self.counters.exchanges_lost += 1
            return AnswerLost(send, str(error))

    async def _supervised(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._listener.on_failure(error)


def _reply(effects: list[Effect]) -> Message:
    for effect in effects:
        if isinstance(effect, Reply):
            return effect.message
    raise AssertionError("every request has a reply")
