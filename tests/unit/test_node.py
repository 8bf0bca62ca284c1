"""A node's life from start to stop, over fakes: whenever it is stopped, it ends, and leaves nothing running."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from support.gate import Gate
from support.sessions import HandTransport
from support.virtual_time import LoopClock, pass_time, reached, turns, virtual

from ringhold.api.errors import Unavailable
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.gossip.config import GossipConfig
from ringhold.gossip.ports import FakeExchange, Handler
from ringhold.node.config import REPLICATION_FACTOR_DEFAULT
from ringhold.node.introduction import NodeSettings
from ringhold.node.node import Node, NodeParts
from ringhold.node.peers.boots import Boots
from ringhold.node.peers.transport import Transport
from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import Unnumbered
from ringhold.node.storage.space import FakeDevice
from ringhold.node.supervisor import Supervisor


@dataclass
class World:
    """Where the nodes of a test live."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)

    def node(
        self,
        name: str,
        engine: MemoryEngine,
        *,
        expect: int = 1,
        seeds: tuple[str, ...] = (),
        replication_factor: int = REPLICATION_FACTOR_DEFAULT,
    ) -> Node:
        address = f"{name}:2"

        def log(event: str, /, **figures: object) -> None:
            self.logged.append(event)

        def transport(cluster_id: Callable[[], str], boots: Boots, supervisor: Supervisor) -> Transport:
            return HandTransport()

        def nothing(kept: Any) -> None:
            """Gossip's memory is not what is tested."""

        async def remember(cluster_id: str) -> None:
            self.adopted.append(cluster_id)

        parts = NodeParts(
            engine=engine,
            progress=Unnumbered(),
            device=FakeDevice(),
            remember_cluster=remember,
            transport=transport,
            gossip_exchange=FakeExchange(self.handlers, address, lambda source, target: False),
            known_members=(),
            persist_member=nothing,
            forget_member=nothing,
            clock=LoopClock(),
            rng=Random(name),
            log=log,
            on_failure=lambda part, error: self.failures.append((part, error)),
        )
        node = Node(settings(name, address, expect, seeds, replication_factor), parts)
        self.handlers[address] = node.handle_exchange
        return node


def settings(name: str, address: str, expect: int, seeds: tuple[str, ...], replication_factor: int) -> NodeSettings:
    return NodeSettings(
        node_id=f"id-{name}",
        generation=1,
        name=name,
        cluster="c",
        grpc_address=f"{name}:1",
        http_address=address,
        host=name,
        zone="",
        weight=1,
        seeds=seeds,
        expect=expect,
        partitions=8,
        replication_factor=replication_factor,
        reads="lease",
        engine="memory",
        disk_reserve_bytes=None,
        snapshot_bytes_per_s_max=0,
        limits=Limits(),
        gossip=GossipConfig(),
    )


def tasks_left() -> set[asyncio.Task[Any]]:
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}


async def put(node: Node, key: bytes) -> int:
    response = await node.gateway.set(kv_pb2.SetRequest(key=key), asyncio.get_running_loop().time() + 5)
    return response.version


@virtual
async def test_a_node_alone_serves_stops_and_comes_back() -> None:
    """It tells when it is ready and when it no longer is; nothing runs after the stop; its next life has the record."""
    world, engine, told = World(), MemoryEngine(), list[bool]()
    node = world.node("a", engine)
    node.on_ready_change(told.append)
    with pytest.raises(Unavailable) as caught:
        node.check_ready()
    assert caught.value.reason == "NOT_READY"
    await node.start()
    await reached(lambda: node.ready)
    node.check_ready()
    assert await put(node, b"k") == 1
    await node.stop()
    assert tasks_left() == set()
    with pytest.raises(Unavailable) as caught:
        node.check_ready()
    assert caught.value.reason == "DRAINING"
    assert told == [True, False]
    again = world.node("a", engine)
    await again.start()
    await reached(lambda: again.ready)
    assert await put(again, b"k") == 2
    await again.stop()
    assert world.failures == []


@pytest.mark.parametrize("pause_turns", [0, 1, 2, 3, 5, 8, 13, 21, 34])
@virtual
async def test_a_stop_at_any_moment_of_the_start_ends_it(pause_turns: int) -> None:
    """Founding, opening groups, electing: wherever it is, the stop is clean, and so is the next start."""
    world, engine = World(), MemoryEngine(before_sync=lambda: turns(2))
    node = world.node("a", engine)
    await node.start()
    await turns(pause_turns)
    await node.stop()
    assert tasks_left() == set()
    again = world.node("a", engine)
    await again.start()
    await reached(lambda: again.ready)
    await again.stop()
    assert world.failures == []


@virtual
async def test_a_stop_while_it_waits_for_others_ends_it() -> None:
    """A node that never became a member stops as cleanly as another."""
    world = World()
    node = world.node("a", MemoryEngine(), expect=3, seeds=("a:2", "b:2", "c:2"))
    await node.start()
    await pass_time(30)
    assert not node.ready
    with pytest.raises(Unavailable, match="2 of 3 nodes have not answered"):
        node.check_ready()
    await node.stop()
    assert tasks_left() == set()
    assert world.failures == []


@virtual
async def test_stopping_twice_and_before_the_start_does_no_harm() -> None:
    """A signal may come twice, and before anything has begun."""
    world = World()
    node = world.node("a", MemoryEngine())
    await node.stop()
    started = world.node("b", MemoryEngine())
    await started.start()
    await reached(lambda: started.ready)
    await asyncio.gather(started.stop(), started.stop())
    await started.stop()
    assert tasks_left() == set()
    assert world.logged.count("draining") == 2
    assert world.failures == []


@virtual
async def test_a_stop_answers_what_was_accepted() -> None:
    """Set calls that are under way when the stop begins get their answers."""
    world, gate = World(), Gate()
    node = world.node("a", MemoryEngine(before_sync=gate.wait))
    await node.start()
    await reached(lambda: node.ready)
    gate.close()
    calls = [asyncio.ensure_future(put(node, b"k:%d" % number)) for number in range(20)]
    await turns()
    stopping = asyncio.ensure_future(node.stop())
    await turns()
    assert not stopping.done()
    gate.open()
    await stopping
    assert all(call.done() and call.result() for call in calls)
    assert world.failures == []


@virtual
async def test_a_drain_that_is_cut_short_still_ends_everything() -> None:
    """If a sync hangs, the stop's own timeout cancels it, and no loop of the node outlives that."""
    world, gate = World(), Gate()
    node = world.node("a", MemoryEngine(before_sync=gate.wait))
    await node.start()
    await reached(lambda: node.ready)
    gate.close()
    call = asyncio.ensure_future(put(node, b"k"))
    await turns()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await node.stop()
    call.cancel()
    await turns()
    assert tasks_left() == set()


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@virtual
async def test_a_failed_engine_is_reported_once_and_the_stop_does_not_hang(fault: str) -> None:
    """P1: nothing is acknowledged any more; the process is told why, and can end."""
    world, engine = World(), MemoryEngine()
    node = world.node("a", engine)
    await node.start()
    await reached(lambda: node.ready)
    setattr(engine, fault, EngineFailed("EIO"))
    call = asyncio.ensure_future(put(node, b"k"))
    await reached(lambda: world.failures)
    ((part, error),) = world.failures
    assert (part, str(error)) == ("groups", "EIO")
    began = asyncio.get_running_loop().time()
    await node.stop()
    assert asyncio.get_running_loop().time() - began < 2
    call.cancel()
    await turns()
    assert tasks_left() == set()


@virtual
async def test_a_failure_during_the_start_is_reported() -> None:
    """A disk that fails while the cluster is founded ends the node, not only its start."""
    world, engine = World(), MemoryEngine()
    node = world.node("a", engine)
    engine.fail_next_sync = EngineFailed("EIO")
    await node.start()
    await reached(lambda: world.failures)
    assert world.failures[0][0] == "life"
    assert not node.ready
    await node.stop()
    assert tasks_left() == set()


@virtual
async def test_a_node_that_is_behind_fetches_the_topology_from_whoever_has_it() -> None:
    """Without the system group, it asks another member if one that gossiped a higher epoch is unreachable."""
    world = World()
    seeds = ("a:2", "b:2", "c:2")
    nodes = [world.node(name, MemoryEngine(), expect=3, seeds=seeds, replication_factor=1) for name in "abc"]
    for node in nodes:
        await node.start()
    await reached(lambda: all(node.ready for node in nodes), 60)
    leader = next(node for node in nodes if 0 in node.groups.hosted)
    others = [node for node in nodes if node is not leader]
    late = world.node("late", MemoryEngine(), expect=0, seeds=seeds)
    world.handlers.pop(others[0].settings.http_address)
    await late.start()
    await reached(lambda: others[1].store.known.epoch == 2, 60)
    await reached(lambda: late.ready, 60)
    for node in [*nodes, late]:
        await node.stop()
    assert world.failures == []
    assert tasks_left() == set()
