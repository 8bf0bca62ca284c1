"""Sessions between nodes over real sockets: who is let in, and what keeps a session up."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.grpc_peers import introduce, knock, numbered, peers, start
from support.polling import until

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Frame, Hello
from ringhold.api.proto.ringhold.internal.v1.peer_pb2_grpc import (
    PeerServicer,
    PeerStub,
    add_PeerServicer_to_server,
)
from ringhold.node.peers import grpc_transport
from ringhold.node.peers.transport import SessionEnded


async def wait_for(condition: Callable[[], object]) -> None:
    async def holds() -> bool:
        return bool(condition())

    await until(holds)


async def test_both_ends_send_frames_in_order() -> None:
    """The lower id dials; frames go both ways in the order in which they were sent."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        for number in range(5):
            await a.heard.open[0].send(numbered(number))
            await b.heard.open[0].send(numbered(10 + number))
        await wait_for(lambda: len(a.heard.frames) == len(b.heard.frames) == 5)
        assert b.heard.frames == [("a", number) for number in range(5)]
        assert a.heard.frames == [("b", 10 + number) for number in range(5)]
        assert len(a.heard.began) == len(b.heard.began) == 1


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
async def test_who_does_not_belong_is_refused(hello: Hello) -> None:
    """P10: a stream of another cluster, for another node or of no member is refused before anything is asked."""
    async with peers("a", "b") as (a, b):
        b.transport.reach({"a": a.address})
        assert await knock(b.address, hello) is grpc.StatusCode.PERMISSION_DENIED
        assert b.heard.began == []
        assert await knock(b.address, Hello(cluster_id="c1", node_id="a", target_node_id="b")) is grpc.StatusCode.OK


async def test_a_node_without_a_cluster_lets_nobody_in() -> None:
    """Two nodes that know no cluster id are not therefore of one cluster."""
    empty = await start("b", cluster_id="")
    empty.transport.reach({"a": "127.0.0.1:1"})
    hello = Hello(cluster_id="", node_id="a", target_node_id="b")
    assert await knock(empty.address, hello) is grpc.StatusCode.PERMISSION_DENIED
    await empty.stop()


async def test_a_stream_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a hello has a time limit on the accepting side too."""
    monkeypatch.setattr(grpc_transport, "HELLO_TIMEOUT_S", 0.05)
    async with peers("b") as (b,), grpc.aio.insecure_channel(b.address) as channel:
        call = PeerStub(channel).Exchange()
        await call.wait_for_connection()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


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
        assert a.heard.began == c.heard.began == []


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
        a.transport.reach({"b": f"127.0.0.1:{port}", "c": "127.0.0.1:1"})
        await wait_for(lambda: impostor.visits >= 2)
        assert (a.heard.began, a.heard.frames) == ([], [])
    await server.stop(0)


async def test_a_session_comes_back_after_the_peer_restarts() -> None:
    """A restart of the accepting node costs its session and no more; the first one is said to have ended."""
    async with peers("a") as (a,):
        b = await start("b")
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        await b.crash()
        await wait_for(lambda: not a.heard.open)
        b = await start("b", port=int(b.address.rpartition(":")[2]))
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
    """The library's own bound on messages does not apply between nodes."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        await wait_for(lambda: a.heard.open and b.heard.open)
        frame = numbered(1)
        frame.requests[0].propose.command = bytes(6_000_000)
        server_options = Frame.FromString(frame.SerializeToString())
        await b.heard.open[0].send(server_options)
        await wait_for(lambda: a.heard.frames == [("b", 1)])
