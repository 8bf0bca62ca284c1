"""The shell around membership: three nodes over real sockets, and its conduct when calls fail or code does."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from support.gossip import member
from support.polling import until

from ringhold.gossip.agent import GossipAgent, GossipListener
from ringhold.gossip.config import GossipConfig, local
from ringhold.gossip.http import ClusterGuard, HttpExchange, routes
from ringhold.gossip.member import Fact, Member, MemberState
from ringhold.gossip.messages import IndirectPing, Push
from ringhold.gossip.ports import Exchange, FakeExchange, Handler
from ringhold.gossip.wire import ROUTES, WireError, decode_answer, encode
from ringhold.node.clock import BootClock

FAST = replace(local(), probe_interval_s=0.2, probe_timeout_s=0.1, tick_s=0.02, dead_retry_interval_s=1.0)
GUARD = ClusterGuard("demo", lambda: "")


@dataclass
class Heard:
    """What an agent told its owner."""

    changes: list[tuple[Member | None, Member | None]] = field(default_factory=list)
    conflicts: list[Member] = field(default_factory=list)
    persisted: dict[str, Member] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)

    def listener(self) -> GossipListener:
        return GossipListener(
            on_change=lambda before, after: self.changes.append((before, after)),
            on_conflict=self.conflicts.append,
            on_persist=lambda peer: self.persisted.update({peer.node_id: peer}),
            on_forget=self.persisted.__delitem__,
            on_failure=self.failures.append,
        )


def agent_of(
    own: Member, exchange: Exchange, heard: Heard, *, seeds: tuple[str, ...] = (), config: GossipConfig = FAST
) -> GossipAgent:
    return GossipAgent(
        own,
        seeds=seeds,
        known=heard.persisted.values(),
        config=config,
        exchange=exchange,
        clock=BootClock(),
        rng=random.Random(own.node_id),
        listener=heard.listener(),
    )


class Server:
    """One node's HTTP server and agent, on a free port unless one is given."""

    def __init__(self, node_id: str, *, generation: int = 1, port: int = 0) -> None:
        self.node_id = node_id
        self.generation = generation
        self.port = port
        self.heard = Heard()
        self.exchange = HttpExchange(GUARD)
        self._answer: Handler | None = None

    async def bind(self) -> str:
        """Listen; the address."""
        application = web.Application()
        application.add_routes(routes(self._handle, ROUTES, GUARD))
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]
        return f"127.0.0.1:{self.port}"

    async def start(self, seeds: tuple[str, ...]) -> None:
        own = member(
            self.node_id, generation=self.generation, nonce=self.generation, http_address=f"127.0.0.1:{self.port}"
        )
        self.agent = agent_of(own, self.exchange, self.heard, seeds=seeds)
        self._answer = self.agent.handle_request
        await self.agent.start()

    async def stop(self, *, leave: bool) -> None:
        await self.agent.stop(leave=leave)
        await self.runner.cleanup()
        await self.exchange.close()

    async def _handle(self, route: str, body: bytes, /) -> bytes:
        assert self._answer is not None
        return await self._answer(route, body)

    def believes(self, node_id: str) -> tuple[MemberState, int] | None:
        """(state, generation) of the member."""
        found = self.agent.member(node_id)
        return (found.state, found.generation) if found else None


@asynccontextmanager
async def three_servers() -> AsyncIterator[dict[str, Server]]:
    """Three nodes, each started, in this process; whatever is in the dictionary at the end is stopped."""
    servers = {node_id: Server(node_id) for node_id in "abc"}
    addresses = [await server.bind() for server in servers.values()]
    for server in servers.values():
        await server.start(tuple(addresses))
    try:
        yield servers
    finally:
        for server in servers.values():
            await server.stop(leave=False)


async def eventually(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


async def test_three_nodes_meet_lose_one_and_get_it_back() -> None:
    """Over real HTTP: all see each other in less than a second, a stopped node is DEAD, its next generation ALIVE."""
    async with three_servers() as servers:
        a, b, c = servers.values()
        async with asyncio.timeout(1.0):
            await eventually(lambda: all(len(server.agent.members()) == 3 for server in servers.values()))
        await c.stop(leave=False)
        del servers["c"]
        await eventually(lambda: a.believes("c") == b.believes("c") == (MemberState.DEAD, 1))
        returned = servers["c"] = Server("c", generation=2, port=c.port)
        await returned.bind()
        await returned.start((f"127.0.0.1:{a.port}",))
        await eventually(lambda: a.believes("c") == b.believes("c") == (MemberState.ALIVE, 2))
        assert a.believes("b") == b.believes("a") == returned.believes("a") == (MemberState.ALIVE, 1)
        assert a.heard.persisted["c"].boot == (2, 2)
        assert [server.heard.failures for server in servers.values()] == [[], [], []]


async def test_a_departing_node_says_so() -> None:
    """After stop(leave=True) the others list it as LEFT, and never suspected it."""
    async with three_servers() as servers:
        a, b, c = servers.values()
        await eventually(lambda: all(len(server.agent.members()) == 3 for server in servers.values()))
        await c.stop(leave=True)
        del servers["c"]
        await eventually(lambda: a.believes("c") == b.believes("c") == (MemberState.LEFT, 1))
        states = [after.state for _, after in a.heard.changes if after and after.node_id == "c"]
        assert states == [MemberState.ALIVE, MemberState.LEFT]


async def test_new_attributes_reach_everybody() -> None:
    """An updated topology epoch is known to all soon, as a change from the former record."""
    async with three_servers() as servers:
        a, _, c = servers.values()
        await eventually(lambda: len(a.agent.members()) == 3)
        c.agent.update_local(topology_epoch=7)
        await eventually(lambda: all(_epoch(server.agent, "c") == 7 for server in servers.values()))
        before, after = next(change for change in a.heard.changes if change[1] and change[1].topology_epoch == 7)
        assert before is not None
        assert after == replace(before, topology_epoch=7, incarnation=before.incarnation + 1)


def _epoch(agent: GossipAgent, node_id: str) -> int | None:
    found = agent.member(node_id)
    return found.topology_epoch if found else None


def cut_off(source: str, target: str) -> bool:
    """Nothing gets through."""
    return True


async def test_a_copy_is_told_to_stop() -> None:
    """The owner hears of the other process, whoever brings the news."""
    heard = Heard()
    agent = agent_of(member("a"), FakeExchange({}, "a", cut_off), heard)
    other = member("a", generation=2, nonce=5)
    await agent.handle_request("push", encode(Push(member("b"), (Fact(other),))))
    await agent.stop(leave=False)
    assert heard.conflicts == [other]


async def test_a_failure_inside_is_reported() -> None:
    """A bug in what a loop calls ends the loop and reaches the owner; it is not swallowed."""
    heard = Heard()

    class Broken:
        async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
            raise ZeroDivisionError(address)

    agent = agent_of(member("a"), Broken(), heard, seeds=("s:1",))
    await agent.start()
    await eventually(lambda: bool(heard.failures))
    await agent.stop(leave=False)
    assert isinstance(heard.failures[0], ZeroDivisionError)


async def test_a_failure_in_a_request_is_reported_too() -> None:
    """A bug met while a peer waits reaches the owner as well as the server."""
    heard = Heard()

    class Broken:
        async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
            raise ZeroDivisionError(address)

    agent = agent_of(member("a"), Broken(), heard)
    await agent.stop(leave=False)
    await agent.handle_request("push", encode(Push(member("b"), (Fact(member("c")),))))
    with pytest.raises(ZeroDivisionError):
        await agent.handle_request("indirect-ping", encode(IndirectPing(member("b"), "c")))
    assert isinstance(heard.failures[0], ZeroDivisionError)


async def test_a_stopped_agent_sends_nothing() -> None:
    """A request that arrives after the stop is answered, and starts no exchange."""
    agent = agent_of(member("a"), FakeExchange({}, "a", cut_off), Heard())
    await agent.start()
    await agent.stop(leave=True)
    await agent.handle_request("push", encode(Push(member("b"), ())))
    await asyncio.sleep(0)
    assert agent.counters.exchanges_sent == 0


async def test_malformed_requests_and_answers_are_counted() -> None:
    """A bad request raises WireError, a bad answer counts as lost; neither changes anything."""

    async def nonsense(route: str, body: bytes, /) -> bytes:
        return b"nonsense"

    exchange = FakeExchange({"s:1": nonsense}, "a", lambda source, target: False)
    agent = agent_of(member("a"), exchange, Heard(), seeds=("s:1",))
    with pytest.raises(WireError):
        await agent.handle_request("ping", b"garbage")
    await agent.start()
    await eventually(lambda: agent.counters.exchanges_lost > 0)
    await agent.stop(leave=True)
    assert agent.counters.requests_malformed == 1
    assert agent.members() == (agent.local,)


async def test_a_relay_answers_for_its_target() -> None:
    """An indirect ping is answered once the relay's own ping is, with what that showed."""
    heard = Heard()
    target = agent_of(member("c"), FakeExchange({}, "c", cut_off), Heard())
    reachable = [True]
    exchange = FakeExchange(
        {member("c").http_address: target.handle_request}, "a", lambda source, target: not reachable[0]
    )
    agent = agent_of(member("a"), exchange, heard)
    await agent.handle_request("push", encode(Push(member("c"), ())))
    asked = encode(IndirectPing(member("b"), "c"))
    yes = decode_answer("indirect-ping", await agent.handle_request("indirect-ping", asked))
    reachable[0] = False
    no = decode_answer("indirect-ping", await agent.handle_request("indirect-ping", asked))
    await agent.stop(leave=False)
    await target.stop(leave=False)
    assert (yes.reached, no.reached) == (True, False)  # type: ignore[union-attr]


async def test_exchanges_in_flight_are_limited() -> None:
    """What is over the limit counts as lost, and is not sent."""
    heard = Heard()

    class Hanging:
        async def exchange(self, address: str, route: str, body: bytes, timeout_s: float) -> bytes:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    agent = agent_of(member("a"), Hanging(), heard, seeds=("s:1",), config=replace(FAST, exchanges_max=2))
    await agent.start()
    await eventually(lambda: agent.counters.exchanges_refused > 0)
    assert agent.counters.exchanges_sent == 2
    await agent.stop(leave=False)


async def test_the_removed_are_deleted_from_memory() -> None:
    """The owner is told to forget what it kept."""
    heard = Heard()
    agent = agent_of(member("a"), FakeExchange({}, "a", cut_off), heard)
    await agent.handle_request("push", encode(Push(member("b"), ())))
    assert list(heard.persisted) == ["b"]
    agent.remove("b")
    await agent.stop(leave=False)
    assert heard.persisted == {}
    assert heard.changes[-1] == (member("b"), None)


async def test_a_node_that_nobody_would_understand_does_not_start() -> None:
    """A bad address, at the start or later, is refused here and not by everybody else."""
    exchange = FakeExchange({}, "a", cut_off)
    with pytest.raises(WireError, match="http_address"):
        agent_of(member("a", http_address="nowhere"), exchange, Heard())
    agent = agent_of(member("a"), exchange, Heard())
    with pytest.raises(WireError, match="zone"):
        agent.update_local(zone="two\nlines")
    assert agent.local == member("a")
