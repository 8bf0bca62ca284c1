"""Members to test gossip with, and a network of membership cores under virtual time."""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ringhold.gossip.config import GossipConfig
from ringhold.gossip.events import (
    AnswerLost,
    AnswerReceived,
    Effect,
    Event,
    RelayPing,
    Reply,
    ReportChange,
    ReportConflict,
    RequestReceived,
    Send,
    Started,
    TimePassed,
)
from ringhold.gossip.member import Member, MemberState
from ringhold.gossip.membership import Membership
from ringhold.gossip.messages import Answer, Request
from ringhold.gossip.wire import decode_answer, decode_request, encode, route_of

LATENCY_S = 0.005


def member(node_id: str = "b", **changes: object) -> Member:
    """An ALIVE member whose fields all derive from its id."""
    plain = Member(
        node_id=node_id,
        generation=1,
        nonce=sum(node_id.encode()),
        incarnation=1,
        state=MemberState.ALIVE,
        name=f"node-{node_id}",
        grpc_address=f"{node_id}.example:50051",
        http_address=f"{node_id}.example:50052",
        host=f"host-{node_id}",
        zone="z",
        weight=1,
        topology_epoch=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass
class Node:
    """One core and what it reported."""

    core: Membership
    up: bool = True
    changes: list[tuple[float, Member | None, Member | None]] = field(default_factory=list)
    conflicts: list[Member] = field(default_factory=list)


class CoreNetwork:
    """Cores that talk through the real codec; `lost` decides about every way of every message."""

    def __init__(self, seed: int, config: GossipConfig | None = None) -> None:
        self.rng = random.Random(seed)
        self.config = config or GossipConfig()
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.lost: Callable[[str, str], bool] = lambda source, target: False
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def start(self, local: Member, seeds: Iterable[str] = (), known: Iterable[Member] = ()) -> Node:
        """Start `local` at its address, in place of what ran there."""
        rng = random.Random(self.rng.random())
        core = Membership(local, seeds=seeds, known=known, config=self.config, rng=rng, now=self.now)
        node = self.nodes[local.http_address] = Node(core)
        self._give(local.http_address, node, Started())
        self._tick(local.http_address, node)
        return node

    def stop(self, address: str) -> None:
        """Kill the node: it neither hears nor says anything any more."""
        self.nodes[address].up = False

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> float:
        """Let time pass until the condition holds; the seconds that took."""
        began_at = self.now
        while not condition():
            assert self.now - began_at < seconds_max, f"not within {seconds_max} s"
            self.run(0.1)
        return self.now - began_at

    def states(self, address: str) -> dict[str, MemberState]:
        """What the node at the address believes."""
        return {member.node_id: member.state for member in self.nodes[address].core.members()}

    def agree(self, state: MemberState = MemberState.ALIVE) -> bool:
        """Whether all running nodes list all nodes, the running ones ALIVE and the others in `state`."""
        expected = {n.core.local.node_id: MemberState.ALIVE if n.up else state for n in self.nodes.values()}
        return all(self.states(address) == expected for address, node in self.nodes.items() if node.up)

    def _at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (self.now + delay_s, self._order, action))

    def _tick(self, address: str, node: Node) -> None:
        def tick() -> None:
            if node.up:
                self._give(address, node, TimePassed(0.0))
                self._tick(address, node)

        self._at(self.config.tick_s, tick)

    def _give(self, address: str, node: Node, event: Event) -> list[Effect]:
        effects = node.core.handle(event, self.now)
        for effect in effects:
            match effect:
                case RelayPing() | Reply():
                    continue
                case Send():
                    self._send(address, node, effect, lambda outcome: self._give(address, node, outcome))
                case ReportChange(before, after):
                    node.changes.append((self.now, before, after))
                case ReportConflict(other):
                    node.conflicts.append(other)
        return effects

    def _send(self, source: str, origin: Node, send: Send, done: Callable[[Event], object]) -> None:
        open_outcome = [True]

        def finish(outcome: Event) -> None:
            if origin.up and open_outcome.pop() if open_outcome else False:
                done(outcome)

        self._at(send.timeout_s, lambda: finish(AnswerLost(send, "timeout")))
        if not self.lost(source, send.address):
            route = route_of(send.message)
            request = decode_request(route, encode(send.message))
            back = self._way_back(source, send, finish)
            self._at(LATENCY_S, lambda: self._receive(send.address, request, back))

    def _way_back(self, source: str, send: Send, finish: Callable[[Event], None]) -> Callable[[Answer], None]:
        def back(answer: Answer) -> None:
            if not self.lost(send.address, source):
                received = decode_answer(route_of(send.message), encode(answer))
                self._at(LATENCY_S, lambda: finish(AnswerReceived(send, received)))

        return back

    def _receive(self, address: str, request: Request, back: Callable[[Answer], None]) -> None:
        node = self.nodes.get(address)
        if node is None or not node.up:
            return
        for effect in self._give(address, node, RequestReceived(request)):
            match effect:
                case Reply(message):
                    back(message)  # type: ignore[arg-type]
                case RelayPing():
                    self._send(address, node, effect, lambda outcome: self._reply_to(address, node, outcome, back))

    def _reply_to(self, address: str, node: Node, outcome: Event, back: Callable[[Answer], None]) -> None:
        for effect in self._give(address, node, outcome):
            if isinstance(effect, Reply):
                back(effect.message)  # type: ignore[arg-type]
