"""Many cores of gossip on a simulated network under virtual time: the product's `Membership`, without its shell.

An agent (asyncio, HTTP) per node would cost a multiple, so the few rules of the agent are repeated here: ticks and by
how much they come late, timeouts, relayed pings, the limit of exchanges in flight. A seed repeats a run.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ringhold.gossip.config import GossipConfig, lan
from ringhold.gossip.events import (
    AnswerLost,
    AnswerReceived,
    Effect,
    Event,
    RelayPing,
    Reply,
    ReportChange,
    RequestReceived,
    Send,
    Started,
    TimePassed,
)
from ringhold.gossip.member import Fact, Member, MemberState
from ringhold.gossip.membership import Membership
from ringhold.gossip.messages import Message, Sync, SyncAnswer
from ringhold.gossip.table import MemberTable
from ringhold.gossip.wire import encode

LATENCY_S = (0.0002, 0.002)
"""One way, drawn anew for each message."""

STALL_S = (0.5, 4.0)
"""How long a slow member does nothing at all; what arrives meanwhile waits, as in a socket."""

RUNNING_S = (2.0, 8.0)
"""How long it runs between two stalls."""

Action = Callable[[], None]
Deliver = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What goes wrong: the share of messages that are lost, and of members that stall again and again."""

    title: str
    loss: float = 0.0
    slow_share: float = 0.0

    def slow_of(self, members: int) -> int:
        """
        >>> [Conditions("", slow_share=0.02).slow_of(members) for members in (3, 100, 1000)], Conditions("").slow_of(9)
        ([1, 2, 20], 0)
        """
        return max(1, round(self.slow_share * members)) if self.slow_share else 0


@dataclass(slots=True)
class Traffic:
    """Requests and answers that were sent, whether or not they arrived."""

    messages: int = 0
    body_bytes: int = 0
    comparison_bytes: int = 0
    """Of `body_bytes`: those of comparisons of all that two members know."""

    def count(self, message: Message) -> None:
        size = len(encode(message))
        self.messages += 1
        self.body_bytes += size
        if isinstance(message, Sync | SyncAnswer):
            self.comparison_bytes += size


@dataclass(frozen=True, slots=True)
class Sighting:
    """A member has come to believe that another is SUSPECT or DEAD, rightly if that had crashed by then."""

    at: float
    observer: str
    subject: str
    incarnation: int
    state: MemberState
    is_right: bool


class QuickTable(MemberTable):
    """Keeps the list of the reachable, which the product makes anew for each probe: a third of a run of 1,000."""

    def __init__(self) -> None:
        super().__init__()
        self._reachable: dict[str, Member] = {}

    def reachable(self) -> list[Member]:
        return list(self._reachable.values())

    def put(self, fact: Fact) -> None:
        super().put(fact)
        if fact.member.is_reachable:
            self._reachable[fact.member.node_id] = fact.member
        else:
            self._reachable.pop(fact.member.node_id, None)


class SettledMembership(Membership):
    """A core of a cluster that has run for long: it knows the others, and nothing waits to be told."""

    def know(self, facts: Sequence[Fact]) -> None:
        self._table = QuickTable()
        for fact in facts:
            if fact.member.node_id != self.local.node_id:
                self._table.put(fact)


@dataclass(eq=False, slots=True)
class SimulatedMember:
    """One member's process."""

    address: str
    core: SettledMembership
    up: bool = True
    is_slow: bool = False
    stalled_until: float = 0.0
    in_flight: int = 0

    @property
    def node_id(self) -> str:
        return self.core.local.node_id


@dataclass(eq=False, slots=True)
class Exchange:
    """One request, over as soon as its outcome is known."""

    origin: SimulatedMember
    send: Send
    done: Callable[[Event], object]
    is_open: bool = True


@dataclass(slots=True)
class SwimNetwork:
    """All members and the wire between them."""

    rng: random.Random
    conditions: Conditions
    config: GossipConfig = field(default_factory=lan)
    now: float = 0.0
    members: dict[str, SimulatedMember] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    sightings: list[Sighting] = field(default_factory=list)
    refused: int = 0
    """Exchanges that were one too many for their sender."""
    _due: list[tuple[float, int, Action]] = field(default_factory=list)
    _order: int = 0

    @staticmethod
    def of(locals_: Sequence[Member], conditions: Conditions, seed: int) -> "SwimNetwork":
        """All know each other and have just been started; the slow ones are drawn from all."""
        network = SwimNetwork(random.Random(seed), conditions)
        facts = [Fact(member) for member in locals_]
        for local in locals_:
            network._add(local, facts)
        for member in network.rng.sample(list(network.members.values()), conditions.slow_of(len(locals_))):
            member.is_slow = True
            network._at(network.rng.uniform(0.0, RUNNING_S[1]), partial(network._stall, member))
        return network

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end

    def crash(self, member: SimulatedMember) -> None:
        """Its machine is gone: nothing is answered or refused, so that those who ask it wait."""
        member.up = False

    def running(self) -> list[SimulatedMember]:
        return [member for member in self.members.values() if member.up]

    def _add(self, local: Member, facts: Sequence[Fact]) -> None:
        rng = random.Random(self.rng.getrandbits(64))
        core = SettledMembership(local, seeds=(), known=(), config=self.config, rng=rng, now=self.now)
        core.know(facts)
        member = self.members[local.http_address] = SimulatedMember(local.http_address, core)
        self._give(member, Started())
        self._tick_at(member, self.now + self.config.tick_s * self.rng.random())

    def _at(self, at: float, action: Action) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, action))

    def _when_awake(self, member: SimulatedMember, action: Action) -> None:
        """Now, or after the stall; never if it has crashed."""
        if not member.up:
            return
        if member.stalled_until > self.now:
            self._at(member.stalled_until, lambda: self._when_awake(member, action))
        else:
            action()

    def _stall(self, member: SimulatedMember) -> None:
        member.stalled_until = self.now + self.rng.uniform(*STALL_S)
        self._at(member.stalled_until + self.rng.uniform(*RUNNING_S), lambda: self._stall(member))

    def _tick_at(self, member: SimulatedMember, due: float) -> None:
        def tick() -> None:
            self._give(member, TimePassed(self.now - due))
            self._tick_at(member, self.now + self.config.tick_s)

        self._at(due, lambda: self._when_awake(member, tick))

    def _give(self, member: SimulatedMember, event: Event) -> list[Effect]:
        effects = member.core.handle(event, self.now)
        for effect in effects:
            match effect:
                case RelayPing():
                    continue
                case Send():
                    self._send_within_limit(member, effect)
                case ReportChange(_, after) if after is not None and after.state is not MemberState.ALIVE:
                    self._note(member, after)
        return effects

    def _note(self, observer: SimulatedMember, after: Member) -> None:
        is_right = not self.members[after.http_address].up
        sighting = Sighting(self.now, observer.node_id, after.node_id, after.incarnation, after.state, is_right)
        self.sightings.append(sighting)

    def _send_within_limit(self, member: SimulatedMember, send: Send) -> None:
        member.in_flight += 1
        if member.in_flight > self.config.exchanges_max:
            self.refused += 1
            lost = AnswerLost(send, "too many exchanges are in flight")
            self._at(self.now, lambda: self._when_awake(member, lambda: self._conclude(member, lost)))
            return
        self._send(Exchange(member, send, lambda outcome: self._conclude(member, outcome)))

    def _conclude(self, member: SimulatedMember, outcome: Event) -> None:
        member.in_flight -= 1
        self._give(member, outcome)

    def _send(self, exchange: Exchange) -> None:
        send = exchange.send
        self._at(self.now + send.timeout_s, lambda: self._finish(exchange, AnswerLost(send, "timeout")))
        self.traffic.count(send.message)
        target = self.members[send.address]
        self._travel(target, lambda: self._receive(target, exchange))

    def _travel(self, target: SimulatedMember, action: Action) -> None:
        """A message on its way: lost, or there after a while, and handled once the target is awake."""
        if self.rng.random() >= self.conditions.loss:
            self._at(self.now + self.rng.uniform(*LATENCY_S), lambda: self._when_awake(target, action))

    def _receive(self, target: SimulatedMember, exchange: Exchange) -> None:
        for effect in self._give(target, RequestReceived(exchange.send.message)):
            match effect:
                case Reply(message):
                    self._answer(exchange, message)
                case RelayPing():
                    self._send(Exchange(target, effect, lambda outcome: self._answer_by(target, exchange, outcome)))

    def _answer_by(self, relay: SimulatedMember, exchange: Exchange, outcome: Event) -> None:
        """Answer a request for a ping of another, now that its outcome is known."""
        for effect in self._give(relay, outcome):
            if isinstance(effect, Reply):
                self._answer(exchange, effect.message)

    def _answer(self, exchange: Exchange, message: Message) -> None:
        self.traffic.count(message)
        received = AnswerReceived(exchange.send, message)  # type: ignore[arg-type]
        self._travel(exchange.origin, lambda: self._finish(exchange, received))

    def _finish(self, exchange: Exchange, outcome: Event) -> None:
        """The first outcome counts: the answer, or the end of patience."""

        def finish() -> None:
            if exchange.is_open:
                exchange.is_open = False
                exchange.done(outcome)

        self._when_awake(exchange.origin, finish)
