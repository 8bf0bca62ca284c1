"""A restored backup is refused at the hello, over real sockets, and hears of it; a restart is not."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc
import pytest
from support.network_peers import ELSEWHERE, beating, calling, introduce, peers, start
from support.polling import until

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, Frame, Hello
from ringhold.node.storage.mark import Position, new_engine_id
from ringhold.node.storage.memory import MemoryEngine


async def wait_for(condition: Callable[[], object]) -> None:
    async def holds() -> bool:
        return bool(condition())

    await until(holds)


def at(number: int, generation: int = 1) -> Position:
    """So many batches of the engine that a generation has begun."""
    return Position(new_engine_id(generation, lambda bits: 7), number)


@dataclass(frozen=True)
class Restart:
    """How a node comes back: as which generation, and what it finds in its engine."""

    generation: int
    opened: Position
    is_believed: bool


RESTARTS = [
    pytest.param(Restart(2, at(10), True), id="with all that was synced"),
    pytest.param(Restart(2, at(12), True), id="with what was not synced, too"),
    pytest.param(Restart(2, at(9), False), id="with less: a backup"),
    pytest.param(Restart(2, at(0, generation=2), True), id="reborn"),
    pytest.param(Restart(1, at(3), True), id="not at all: the stream broke"),
]


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("restarts_too", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
async def test_an_old_state_of_a_disk_is_refused_by_both_ends(name: str, restarts_too: bool, restart: Restart) -> None:
    """Whoever dials, and if the other was restarted meanwhile: the ghost is told, and no word of it is heard."""
    disk, other_name = MemoryEngine(), "b" if name == "a" else "a"
    node, other = await start(name, engine=at(3)), await start(other_name, disk=disk)
    introduce(node, other)
    node.progress.synced = at(10)
    await beating(node, other)
    await node.crash()
    other.engines.keep()
    if restarts_too:
        await other.crash()
        other = await start(other_name, disk=disk, generation=2)
    back = await start(name, generation=restart.generation, engine=restart.opened)
    before = len(other.heard.began)
    introduce(back, other)
    if restart.is_believed:
        await wait_for(lambda: len(other.heard.began) > before and back.heard.open)
        assert back.ghost == []
    else:
        await wait_for(lambda: back.ghost)
        assert (back.ghost[0].newest, back.ghost[0].generation) == (at(10), 1)
        assert (back.heard.began, len(other.heard.began)) == ([], before)
    await back.stop()
    await other.stop()


@pytest.mark.parametrize("kind", [Frame, Beat])
async def test_a_ghost_is_refused_whatever_it_makes_of_the_answer(kind: type[Frame] | type[Beat]) -> None:
    """It hears what is known of it, and the stream is over, PERMISSION_DENIED with the reason."""
    async with peers("b") as (b,), calling(b.address) as caller:
        b.transport.reach({"a": ELSEWHERE})
        b.engines.hear("a", 1, 0, at(10))
        hello = Hello(cluster_id="c1", node_id="a", generation=2, target_node_id="b")
        hello.engine_id, hello.opened_batch = at(9)
        stream = caller(kind, hello)
        await stream.call.write(kind(hello=hello))
        answer = await stream.call.read()
        assert isinstance(answer, kind)
        assert (answer.hello.heard.engine_id, answer.hello.heard.synced_batch) == at(10)
        with pytest.raises(grpc.aio.AioRpcError, match="an old state of its disk: an earlier start was beyond batch 9"):
            await stream.call.read()
        assert await stream.call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert b.heard.began == []
