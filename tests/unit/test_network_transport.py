"""Sessions and beats between nodes over real sockets: who is let in, and what keeps their streams up."""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession, WSCloseCode, WSMsgType
from support.network_peers import (
    ELSEWHERE,
    KINDS,
    Kind,
    Peer,
    beats_up,
    calling,
    frame_of,
    introduce,
    knock,
    numbered,
    of_term,
    peers,
    serve_http,
    start,
    wait_for,
)

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello, RaftFrame
from ringhold.api.proto.ringhold.internal.v1.peer_pb2_grpc import (
    PeerServicer,
    PeerStub,
    add_PeerServicer_to_server,
)
from ringhold.node.peers import network_transport, raft_sockets
from ringhold.node.peers.boots import Boot, Boots
from ringhold.node.peers.heard import HeardEngines
from ringhold.node.peers.raft_sockets import RAFT_PATH, RaftSocket, accepting
from ringhold.node.peers.transport import PeerAddress, SessionEnded
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import Unnumbered


def of_generation(generation: int, nonce: int = 0) -> Hello:
    """What process `generation` of node a says to b."""
    return Hello(cluster_id="c1", node_id="a", generation=generation, target_node_id="b", nonce=nonce)


GREETING = of_generation(1)


@pytest.mark.parametrize("kind", [Frame, RaftFrame])
async def test_both_ends_send_frames_in_order(kind: type[Frame] | type[RaftFrame]) -> None:
    """The lower id dials; frames go both ways in the order in which they were sent."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        here, there = a.of(kind), b.of(kind)
        await wait_for(lambda: here.open and there.open)
        for number in range(5):
            await here.open[0].send(frame_of(kind, number))
            await there.open[0].send(frame_of(kind, 10 + number))
        await wait_for(lambda: len(here.frames) == len(there.frames) == 5)
        assert there.frames == [("a", number) for number in range(5)]
        assert here.frames == [("b", 10 + number) for number in range(5)]
        assert len(here.began) == len(there.began) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "hello",
    [
        Hello(cluster_id="c2", node_id="a", target_node_id="b"),
        Hello(cluster_id="", node_id="a", target_node_id="b"),
        Hello(cluster_id="c1", node_id="a", target_node_id="z"),
        Hello(cluster_id="c1", node_id="stranger", target_node_id="b"),
    ],
    ids=["other cluster", "no cluster", "meant for another", "not a member"],
)
async def test_who_does_not_belong_is_refused(hello: Hello, kind: Kind) -> None:
    """P10: a stream of another cluster, for another node or of no member is refused before anything is asked."""
    async with peers("a", "b") as (a, b):
        b.transport.reach({"a": a.address})
        assert await knock(b.address, hello, kind) is grpc.StatusCode.PERMISSION_DENIED
        assert not b.heard.began
        assert not b.raft.began
        welcome = Hello(cluster_id="c1", node_id="a", target_node_id="b")
        assert await knock(b.address, welcome, kind) is grpc.StatusCode.OK


async def test_a_node_without_a_cluster_lets_nobody_in() -> None:
    """Two nodes that know no cluster id are not therefore of one cluster."""
    empty = await start("b", cluster_id="")
    empty.transport.reach({"a": ELSEWHERE})
    hello = Hello(cluster_id="", node_id="a", target_node_id="b")
    assert await knock(empty.address, hello) is grpc.StatusCode.PERMISSION_DENIED
    await empty.stop()


async def test_a_stream_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a hello has a time limit on the accepting side too."""
    monkeypatch.setattr(network_transport, "HELLO_TIMEOUT_S", 0.05)
    async with peers("b") as (b,), grpc.aio.insecure_channel(b.address.grpc) as channel:
        call = PeerStub(channel).Exchange()
        await call.wait_for_connection()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        silent = PeerStub(channel).Beats()
        await silent.wait_for_connection()
        with pytest.raises(grpc.aio.AioRpcError):
            await silent.read()
        async with ClientSession() as client, client.ws_connect(f"http://{b.address.http}{RAFT_PATH}") as socket:
            assert (await socket.receive()).data == WSCloseCode.POLICY_VIOLATION


async def test_another_node_at_the_address_is_not_spoken_to() -> None:
    """A node that took over an address never gets a frame that is meant for its predecessor."""
    async with peers("a", "b", "c") as (a, b, c):
        b.transport.reach({"a": a.address})
        c.transport.reach({"a": a.address})
        a.transport.reach({"b": c.address})
        dialled_again = 0
        seen = c.transport._check

        def check(hello: Hello, expected_id: str | None) -> None:
            nonlocal dialled_again
            dialled_again += 1
            seen(hello, expected_id)

        c.transport._check = check  # type: ignore[method-assign]
        await wait_for(lambda: dialled_again >= 2)
        assert not any([a.heard.began, c.heard.began, a.raft.began, c.raft.began])


async def test_a_node_that_hangs_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process takes connections and says nothing: no socket waits for it for ever."""
    monkeypatch.setattr(raft_sockets, "DIAL_S_MAX", 0.05)
    visits: list[asyncio.StreamWriter] = []
    hanging = await asyncio.start_server(lambda _, writer: visits.append(writer), "127.0.0.1", 0)
    host, port = hanging.sockets[0].getsockname()
    async with peers("a") as (a,):
        a.transport.reach({"b": PeerAddress(ELSEWHERE.grpc, f"{host}:{port}")})
        await wait_for(lambda: len(visits) >= 3)
    hanging.close()
    for writer in visits:
        writer.close()
        await writer.wait_closed()


class Impostor(PeerServicer):
    """Lets everybody in and says that it is c."""

    def __init__(self) -> None:
        self.visits = 0

    async def Exchange(self, request_iterator: object, context: Any) -> None:
        self.visits += 1
        await context.read()
        await context.write(Frame(hello=Hello(cluster_id="c1", node_id="c", target_node_id="a")))
        await context.write(numbered(1))
        await context.read()


async def test_a_node_that_answers_with_another_id_is_left() -> None:
    """The dialling end checks the answer too: a session is with the node that was meant or there is none."""
    impostor, server = Impostor(), grpc.aio.server()
    add_PeerServicer_to_server(impostor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with peers("a") as (a,):
        a.transport.reach({"b": PeerAddress(f"127.0.0.1:{port}", ELSEWHERE.http), "c": ELSEWHERE})
        await wait_for(lambda: impostor.visits >= 2)
        assert (a.heard.began, a.heard.frames) == ([], [])
    await server.stop(0)


class Unsteady(PeerServicer):
    """Is b, and ends one kind of stream as soon as it is up, the others never."""

    def __init__(self, ending: Kind) -> None:
        self._ending = ending
        self.visits: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    async def Exchange(self, request_iterator: object, context: Any) -> None:
        await self._visited(Frame, context)

    async def Beats(self, request_iterator: object, context: Any) -> None:
        await self._visited(Beat, context)

    async def socket(self, socket: RaftSocket) -> None:
        await self._visited(RaftFrame, socket)

    async def _visited(self, kind: Kind, context: Any) -> None:
        self.visits[kind] += 1
        await context.read()
        await context.write(kind(hello=Hello(cluster_id="c1", node_id="b", target_node_id="a")))
        while kind is not self._ending and isinstance(await context.read(), kind):
            pass


@pytest.mark.parametrize("ending", KINDS)
async def test_each_stream_is_dialled_again_by_itself(ending: Kind) -> None:
    """One may break again and again while the others live on."""
    unsteady, server = Unsteady(ending), grpc.aio.server()
    runner, http_address = await serve_http([accepting(unsteady.socket)])
    add_PeerServicer_to_server(unsteady, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with peers("a") as (a,):
        a.transport.reach({"b": PeerAddress(f"127.0.0.1:{port}", http_address)})
        await wait_for(lambda: unsteady.visits[ending] >= 3 and all(unsteady.visits.values()))
        assert [unsteady.visits[kind] for kind in KINDS if kind is not ending] == [1, 1]
    await runner.cleanup()
    await server.stop(0)


def is_up(peer: Peer, kind: Kind) -> bool:
    """Whether there is a stream of this kind, of one peer."""
    return beats_up(peer) if kind is Beat else bool(peer.of(kind).open)


@pytest.mark.parametrize("broken", KINDS)
async def test_a_stream_outlives_the_others(broken: Kind) -> None:
    """The end of one is no end of another, whatever carries them."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        streams = {kind: caller(kind, GREETING) for kind in KINDS}
        for stream in streams.values():
            assert await stream.greet() is grpc.StatusCode.OK
        await wait_for(lambda: all(is_up(b, kind) for kind in KINDS))
        streams[broken].call.cancel()
        await wait_for(lambda: not is_up(b, broken))
        for kind in KINDS:
            if kind is not broken:
                await streams[kind].call.write(Beat(number=5) if kind is Beat else frame_of(kind, 5))
                heard = b.of(kind)
                await wait_for(lambda: ("a", 5) in (heard.beats if kind is Beat else heard.frames))  # noqa: B023
        assert [kind for kind in KINDS if is_up(b, kind)] == [kind for kind in KINDS if kind is not broken]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dead_process_is_refused_once_its_successor_was_heard(kind: Kind) -> None:
    """A stream of a lower generation is no stream of this peer, whichever stream the higher one spoke on."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        other = KINDS[KINDS.index(kind) - 1]
        assert await caller(other, of_generation(4)).greet() is grpc.StatusCode.OK
        assert await caller(kind, of_generation(3)).greet() is grpc.StatusCode.PERMISSION_DENIED
        assert await caller(kind, of_generation(4)).greet() is grpc.StatusCode.OK
        b.transport.reach({})
        b.transport.reach({"a": ELSEWHERE})
        assert await caller(kind, of_generation(3)).greet() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("kind", KINDS)
async def test_the_first_word_of_a_successor_ends_the_streams_of_the_dead(kind: Kind) -> None:
    """Nothing more is heard of them, although the machine between may still hold what they sent."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        old = [caller(each, of_generation(3)) for each in KINDS]
        for stream in old:
            assert await stream.greet() is grpc.StatusCode.OK
        successor = caller(kind, of_generation(4))
        assert await successor.greet() is grpc.StatusCode.OK
        assert all([await stream.is_over() for stream in old])
        await wait_for(lambda: [each for each in KINDS if is_up(b, each)] == [kind])


def told_nothing(heard: object) -> None:
    raise AssertionError(f"nobody has said {heard}")


@pytest.mark.parametrize(
    ("met", "known", "refused"),
    [
        (None, None, []),
        ((4, 7), None, [(3, 7), (3, 9), (4, 6), (4, 8)]),
        (None, (4, 7), [(3, 7), (3, 9), (4, 6), (4, 8)]),
        ((4, 7), (4, 7), [(3, 9), (4, 6), (4, 8)]),
        ((3, 1), (4, 7), [(3, 1), (3, 9), (4, 6), (4, 8)]),
        ((4, 7), (3, 1), [(3, 1), (3, 9), (4, 6), (4, 8)]),
        ((4, 6), (4, 7), [(3, 1), (4, 6), (4, 7), (4, 8)]),
    ],
)
def test_who_contradicts_a_known_start_is_refused(
    met: tuple[int, int] | None, known: tuple[int, int] | None, refused: list[tuple[int, int]]
) -> None:
    """An older generation, or the same with another nonce, whoever knows of it; of two copies neither is believed."""
    boots = Boots(Boot(1, 1), Unnumbered(), lambda peer_id: known, HeardEngines(MemoryEngine()), told_nothing)
    if met is not None:
        boots.meet("a", Boot(*met))
    for each in [(3, 1), (3, 7), (3, 9), (4, 6), (4, 7), (4, 8), (5, 1)]:
        expected = each in refused or (each[0] == 3 and bool(refused))
        assert bool(boots.contradiction("a", Boot(*each))) is expected


@pytest.mark.parametrize("kind", KINDS)
async def test_a_copy_of_a_running_process_is_refused(kind: Kind) -> None:
    """The same generation with another nonce runs on a copy of the disk; the first one stays."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        first = caller(Frame, of_generation(4, nonce=7))
        assert await first.greet() is grpc.StatusCode.OK
        assert await caller(kind, of_generation(4, nonce=8)).greet() is grpc.StatusCode.PERMISSION_DENIED
        assert await caller(Beat, of_generation(4, nonce=7)).greet() is grpc.StatusCode.OK
        await wait_for(lambda: len(b.heard.open) == 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_gossip_has_kept_refuses_an_old_disk(kind: Kind) -> None:
    """A process that has never met the newer start refuses the older one all the same, before anything is read."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.known["a"] = (9, 5)
        b.transport.reach({"a": ELSEWHERE})
        for hello in (of_generation(8, nonce=5), of_generation(9, nonce=4)):
            assert await caller(kind, hello).greet() is grpc.StatusCode.PERMISSION_DENIED
        assert b.heard.began == []
        assert await caller(kind, of_generation(9, nonce=5)).greet() is grpc.StatusCode.OK
        assert await caller(kind, of_generation(10, nonce=1)).greet() is grpc.StatusCode.OK


async def test_both_ends_say_their_nonce_and_check_the_others() -> None:
    """Whoever dials learns from the answer that the other is a ghost, and ends the stream."""
    async with peers("a") as (a,):
        b = await start("b", generation=3, nonce=8)
        a.known["b"] = (3, 7)
        introduce(a, b)
        await wait_for(lambda: b.heard.ended)
        assert a.heard.began == []
        a.known["b"] = (3, 8)
        await wait_for(lambda: a.heard.open)
        await b.stop()


async def test_a_process_that_answers_as_its_own_predecessor_is_left() -> None:
    """The dialling end refuses ghosts too."""
    async with peers("a") as (a,):
        b = await start("b", generation=7)
        introduce(a, b)
        await wait_for(lambda: a.heard.open)
        await b.crash()
        b = await start("b", ports=b.ports, generation=6)
        b.transport.reach({"a": a.address})
        await wait_for(lambda: b.heard.ended)
        assert len(a.heard.began) == 1
        await b.crash()


async def test_a_newer_stream_of_the_same_kind_ends_the_older() -> None:
    """A peer has one of each: it dials again only when it has given the old one up."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        older, newer = caller(Beat, GREETING), caller(Beat, GREETING)
        assert await older.greet() is await newer.greet() is grpc.StatusCode.OK
        assert await older.is_over()
        b.transport.send_beat("a", Beat(number=3))
        assert await newer.call.read() == Beat(number=3)


async def test_a_session_comes_back_after_the_peer_restarts() -> None:
    """A restart of the accepting node costs its session and no more; the first one is said to have ended."""
    async with peers("a") as (a,):
        b = await start("b")
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        await b.crash()
        await wait_for(lambda: not a.heard.open)
        b = await start("b", ports=b.ports)
        b.transport.reach({"a": a.address})
        await wait_for(lambda: a.heard.open)
        await a.heard.open[0].send(numbered(1))
        await wait_for(lambda: b.heard.frames == [("a", 1)])
        assert len(a.heard.began) == 2
        await b.stop()


async def test_a_session_comes_back_after_the_dialling_node_restarts() -> None:
    """The accepting node hears that the old session ended, and of the new one."""
    async with peers("b") as (b,):
        a = await start("a")
        introduce(a, b)
        await wait_for(lambda: b.heard.open)
        await a.crash()
        await wait_for(lambda: not b.heard.open)
        a = await start("a")
        introduce(a, b)
        await wait_for(lambda: b.heard.open)
        await a.stop()


@pytest.mark.parametrize("closing", ["a", "b"])
async def test_a_session_that_either_end_closes_is_made_anew(closing: str) -> None:
    """Closing ends one session, not the acquaintance; the closed one takes nothing more."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        closed = (a if closing == "a" else b).heard.open[0]
        closed.close()
        await wait_for(lambda: len(a.heard.began) == 2 and len(b.heard.began) == 2)
        await wait_for(lambda: len(a.heard.open) == len(b.heard.open) == 1)
        with pytest.raises(SessionEnded):
            await closed.send(numbered(1))


async def test_a_changed_address_is_dialled() -> None:
    """When gossip hears of a new address, the session moves there."""
    async with peers("a") as (a,):
        old, new = await start("b"), await start("b")
        for b in (old, new):
            b.transport.reach({"a": a.address})
        a.transport.reach({"b": old.address})
        await wait_for(lambda: old.heard.open)
        a.transport.reach({"b": new.address})
        await wait_for(lambda: new.heard.open and not old.heard.open)
        await a.heard.open[-1].send(numbered(1))
        await wait_for(lambda: new.heard.frames == [("a", 1)])
        await old.stop()
        await new.stop()


@pytest.mark.parametrize("forgetting", ["a", "b"])
async def test_who_is_no_member_any_more_loses_the_session(forgetting: str) -> None:
    """`reach` keeps sessions with those it names and no others, whoever dialled."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        (a if forgetting == "a" else b).transport.reach({})
        await wait_for(lambda: not a.heard.open and not b.heard.open)


async def test_a_stopped_transport_lets_nobody_in() -> None:
    """After the stop no session begins, although the server still runs."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        await b.transport.stop()
        await wait_for(lambda: not b.heard.open)
        hello = Hello(cluster_id="c1", node_id="a", target_node_id="b")
        assert await knock(b.address, hello) is grpc.StatusCode.PERMISSION_DENIED


async def test_a_large_frame_arrives() -> None:
    """The libraries' own bounds on messages do not apply between nodes."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open and a.raft.open and b.raft.open)
        frame, raft = numbered(1), of_term(2)
        frame.requests[0].propose.commands.append(bytes(6_000_000))
        raft.messages[0].entries.append(bytes(20_000_000))
        await b.heard.open[0].send(frame)
        await a.raft.open[0].send(raft)
        await b.raft.open[0].send(raft)
        await wait_for(lambda: a.heard.frames and a.raft.frames and b.raft.frames)


async def test_what_is_no_frame_ends_the_socket() -> None:
    """Neither other bytes nor text are read as consensus, and no session is left."""
    async with peers("b") as (b,), ClientSession() as client:
        b.transport.reach({"a": ELSEWHERE})
        for nonsense in (WSMsgType.BINARY, WSMsgType.TEXT):
            async with client.ws_connect(f"http://{b.address.http}{RAFT_PATH}") as socket:
                await socket.send_bytes(RaftFrame(hello=GREETING).SerializeToString())
                assert (await socket.receive()).type is WSMsgType.BINARY
                await socket.send_frame(b"\xff\xff", nonsense)
                assert (await socket.receive()).type is WSMsgType.CLOSE
        assert b.raft.began == b.raft.ended
        assert b.raft.frames == []


async def test_a_transport_stops_though_a_cancellation_was_taken_for_the_end_of_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """grpc.aio does so when a refusal and the cancellation come at once: a node that was removed did not end."""
    reading: list[object] = []

    async def swallowing(*_: object) -> None:
        reading.append(None)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(network_transport, "next_message", swallowing)
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: len(reading) >= len(KINDS))
        async with asyncio.timeout(5):
            await a.transport.stop()


async def test_a_dial_that_was_given_up_has_ended_when_the_transport_has_stopped() -> None:
    """A node that is removed loses its peers and stops in one breath: a dial that went on met its client closed."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.raft.open and b.raft.open)
        (dial,) = a.transport._dialling.values()
        a.transport.reach({})
        await a.transport.stop()
        assert dial.done()


async def test_a_transport_that_stops_dials_nobody_any_more() -> None:
    """The topology may change under a node that is on its way out: what it would dial with is being closed."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.raft.open and b.raft.open)
        stopping = asyncio.create_task(a.transport.stop())
        while not stopping.done():
            introduce(a, b)
            await asyncio.sleep(0)
        await stopping
        introduce(a, b)
        assert not a.transport._dialling


class Relay:
    """A port behind which there is now this server, now that: as a name that comes to mean another machine, it leads
    new connections elsewhere and leaves the old ones.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.taken = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        host, _, port = self.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._tasks += [
            asyncio.create_task(self._pass_on(reader, far_writer)),
            asyncio.create_task(self._pass_on(far_reader, writer)),
        ]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        finally:
            writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_name_that_has_come_to_mean_another_machine_is_looked_up_again() -> None:
    """Two pods have swapped their addresses, and whoever dialled was led to the wrong one, which refuses."""
    async with peers("a", "b", "c") as (a, b, c):
        relay = Relay(c.address.grpc)
        server = await asyncio.start_server(relay.take, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        b.transport.reach({"a": a.address})
        c.transport.reach({"a": a.address})
        a.transport.reach({"b": PeerAddress(grpc=f"127.0.0.1:{port}", http=b.address.http)})
        try:
            await wait_for(lambda: relay.taken > 0)
            relay.target = b.address.grpc
            await wait_for(lambda: a.heard.open and b.heard.open and beats_up(a))
            assert not c.heard.began
        finally:
            await a.transport.stop()
            server.close()
            await relay.stop()
