"""What a cluster does about disks that run full, hang or fail: nothing is lost, and what can go on goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random

import pytest
from prometheus_client import generate_latest
from simulation.calls import Questions
from simulation.clocks import SimulatedClock
from simulation.loop import SimulationLoop
from simulation.machines import DISK_RESERVE_BYTES, PARTITIONS, Machine, Surroundings
from simulation.network import Network
from simulation.sessions import Wires
from simulation.trace import Trace
from support.gate import Gate
from support.virtual_time import LoopClock, pass_time, reached, virtual

from ringhold.api.client.wire import status_of
from ringhold.api.errors import Overloaded, error_for
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.cli.cluster_views import reluctance_lines
from ringhold.node.faces.calls import CallCounters
from ringhold.node.faces.metrics import NodeCollector, registry
from ringhold.node.node import Node
from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.space import FakeDevice, Reserve, Room, SpaceWatch, reserve_of
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import SYSTEM_GROUP, group_of_partition

DEADLINE_S = 10.0
NOTICED_S_MAX = 2.5
"""A look at the device, or a second of a sync, and the handovers of all groups."""


class Cluster:
    """Machines that have founded a cluster; a node that fails dies, as its process would."""

    def __init__(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        self.failures: list[tuple[str, BaseException]] = []
        trace = Trace(loop.time)
        network = Network(loop, Random(1), trace)
        around = Surroundings(
            wires=Wires(network),
            gossip=Questions(network, loop, cancels=False),
            calls=Questions(network, loop, cancels=True),
            trace=trace,
            seeds=tuple(f"n{number}:50052" for number in range(1, count + 1)),
            limits=Limits(),
            on_failure=self._failed,
        )
        self.gates = [Gate() for _ in range(count)]
        self.machines = [
            Machine(
                f"n{number}", around, Random(number), SimulatedClock(loop.time, Random(number)), f"id-{number}", count
            )
            for number in range(1, count + 1)
        ]
        for machine, gate in zip(self.machines, self.gates, strict=True):
            machine.engine = MemoryEngine(before_sync=gate.wait)

    def _failed(self, machine: Machine, part: str, error: BaseException) -> None:
        self.failures.append((machine.name, error))
        machine.die(0.0, silently=False)

    def node(self, number: int) -> Node:
        node = self.machines[number].node
        assert node is not None
        return node

    def led_by(self, number: int) -> Sequence[int]:
        return self.node(number).groups.led

    def key_of(self, number: int) -> bytes:
        """A key whose partition the node prefers to lead."""
        topology, node_id = self.node(number).store.known, self.machines[number].node_id
        keys = (b"key:%d" % count for count in range(1_000))
        return next(key for key in keys if topology.targets[partition_of(key, PARTITIONS)][0] == node_id)

    def leads_its_share(self, number: int) -> bool:
        """Whether the node leads all groups that prefer it."""
        topology, node_id = self.node(number).store.known, self.machines[number].node_id
        preferring = {
            group_of_partition(partition) for partition, targets in enumerate(topology.targets) if targets[0] == node_id
        }
        return preferring <= set(self.led_by(number)) - {SYSTEM_GROUP}


@asynccontextmanager
async def cluster(count: int = 3) -> AsyncIterator[Cluster]:
    """Nodes that each lead their share."""
    made = Cluster(count)
    for machine in made.machines:
        machine.boot()
    await reached(lambda: all(machine.is_ready for machine in made.machines))
    await reached(lambda: all(made.leads_its_share(number) for number in range(count)))
    yield made
    for machine in made.machines:
        if machine.is_up:
            machine.die(0.0, silently=True)


async def put(node: Node, key: bytes, value: bytes = b"v") -> int:
    response = await node.gateway.set(kv_pb2.SetRequest(key=key, value=value), node._clock.now() + DEADLINE_S)
    return response.version


async def value_of(node: Node, key: bytes) -> bytes:
    return (await node.gateway.get(kv_pb2.GetRequest(key=key), node._clock.now() + DEADLINE_S)).value


async def remove(node: Node, key: bytes) -> bool:
    return (await node.gateway.delete(kv_pb2.DeleteRequest(key=key), node._clock.now() + DEADLINE_S)).existed


def metrics_of(machine: Machine) -> str:
    assert machine.node is not None
    return generate_latest(
        registry(NodeCollector(machine.node, machine.engine, CallCounters(), machine.node._clock))
    ).decode()


@pytest.mark.parametrize(
    ("was_short", "free", "reusable", "is_short"),
    [
        (False, 100, 0, False),
        (False, 99, 0, True),
        (False, 50, 50, False),
        (False, 49, 1_000, True),
        (True, 100, 0, True),
        (True, 109, 0, True),
        (True, 110, 0, False),
        (True, 55, 55, False),
        (True, 54, 1_000, True),
    ],
)
def test_below_the_reserve_there_is_too_little_room(was_short: bool, free: int, reusable: int, is_short: bool) -> None:
    """Gaps in the engine's files count while half of the reserve is free, and going on takes a tenth more."""
    reserve = Reserve(100)
    reserve.saw(Room(0 if was_short else 1_000, 10_000), 0)
    assert reserve.saw(Room(free, 10_000), reusable) is (was_short is not is_short)
    assert reserve.is_short is is_short


def test_a_small_device_has_a_small_reserve() -> None:
    """A twentieth of the device unless it is set; a device that does not tell its size, and 0, have none."""
    assert reserve_of(None, 20_000) == 1_000
    assert reserve_of(5_000, 20_000) == 5_000
    for reserve in (Reserve(None), Reserve(0)):
        assert not reserve.saw(Room(0, 0), 0)
        assert (reserve.is_short, reserve.bytes) == (False, 0)


@virtual
async def test_changes_of_the_room_are_told_once() -> None:
    """A look each second; what stays as it is is not told again."""
    device, told = FakeDevice(500, 1_000), list[bool]()
    watch = SpaceWatch(device, lambda: 0, 100, LoopClock(), told.append)
    running = asyncio.ensure_future(watch.run())
    for free, expected in ((500, []), (50, [True]), (105, [True]), (200, [True, False])):
        device.free_bytes = free
        await pass_time(2.5)
        assert told == expected
    running.cancel()


@virtual
async def test_a_full_node_alone_takes_deletes_and_reads_but_no_sets() -> None:
    """With nobody to take over a Set is refused at once, by a typed error; room brings everything back."""
    async with cluster(1) as made:
        node, device = made.node(0), made.machines[0].device
        await put(node, b"a", b"1")
        await put(node, b"b", b"2")
        device.free_bytes = DISK_RESERVE_BYTES - 1
        await reached(lambda: node.space.reserve.is_short, NOTICED_S_MAX)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded) as caught:
            await put(node, b"c")
        assert asyncio.get_running_loop().time() - began < 0.1
        assert (caught.value.reason, "moving" in caught.value.details) == ("DISK_FULL", False)
        assert isinstance(error_for("DISK_FULL", ""), Overloaded)
        assert await value_of(node, b"a") == b"1"
        assert await remove(node, b"b")
        assert "ringhold_disk_full 1.0" in metrics_of(made.machines[0])
        assert 'ringhold_reluctant{reason="disk full"} 1.0' in metrics_of(made.machines[0])
        device.free_bytes = 2 * DISK_RESERVE_BYTES
        await reached(lambda: not node.space.reserve.is_short, NOTICED_S_MAX)
        assert await put(node, b"c")
        assert "ringhold_disk_full 0.0" in metrics_of(made.machines[0])


@virtual
async def test_status_tells_who_takes_no_leaderships() -> None:
    """A node says why; the table has a line for it, the answer of any gateway has the reasons."""
    async with cluster() as made:
        made.machines[0].device.free_bytes = 0
        await reached(lambda: not made.led_by(0), NOTICED_S_MAX)
        overview = made.node(1).overview
        status = status_of(await overview.status(made.node(1)._clock.now() + DEADLINE_S))
        assert {each.node.name: each.reluctant_for for each in status.nodes} == {
            "n1": ("disk full",),
            "n2": (),
            "n3": (),
        }
        assert [str(line) for line in reluctance_lines(status)] == ["n1 takes no leaderships: disk full"]


@virtual
async def test_a_full_node_leads_nothing_and_no_set_fails() -> None:
    """Its leaderships go to nodes with room while Sets wait for that within their deadline, and come back with room."""
    async with cluster() as made:
        key, device = made.key_of(0), made.machines[0].device
        device.free_bytes = 0
        sets = [asyncio.ensure_future(put(made.node(number), key)) for number in range(3)]
        await reached(lambda: not made.led_by(0), NOTICED_S_MAX)
        await asyncio.gather(*sets)
        for number in range(3):
            assert await put(made.node(number), key, b"%d" % number)
        assert made.node(0).groups.reluctant_for == ("disk full",)
        device.free_bytes = 2 * DISK_RESERVE_BYTES
        await reached(lambda: made.leads_its_share(0), 10)
        assert await value_of(made.node(1), key) == b"2"


@virtual
async def test_a_set_at_a_full_leader_waits_until_another_leads() -> None:
    """Between the look and the handover the leader refuses, and the gateway tries again: the client notices nothing."""
    async with cluster() as made:
        key = made.key_of(0)
        made.node(0).groups._is_full = True  # refuses, and does not yet hand over
        waiting = [asyncio.ensure_future(put(made.node(number), key)) for number in range(3)]
        await pass_time(3)
        assert not any(each.done() for each in waiting)
        made.node(0).groups.set_full(True)
        await asyncio.gather(*waiting)


@virtual
async def test_a_set_that_no_leader_with_room_takes_in_time_says_why() -> None:
    """The refusal itself is the error when the deadline comes first: certainly nothing was applied."""
    async with cluster() as made:
        key = made.key_of(0)
        made.node(0).groups._is_full = True  # for ever
        for number in (0, 1):
            with pytest.raises(Overloaded, match="disk is full"):
                await put(made.node(number), key)


@virtual
async def test_where_all_nodes_are_full_sets_are_refused_and_deletes_work() -> None:
    """Through every gateway, without waiting for the deadline; one node with room is enough for Sets again."""
    async with cluster() as made:
        keys = [made.key_of(number) for number in range(3)]
        for key in keys:
            await put(made.node(0), key)
        for machine in made.machines:
            machine.device.free_bytes = 0
        await reached(lambda: all(made.node(each).groups.reluctant_for for each in range(3)), NOTICED_S_MAX)
        await pass_time(1)
        began = asyncio.get_running_loop().time()
        for number, key in enumerate(keys):
            for gateway in range(3):
                with pytest.raises(Overloaded, match="disk is full"):
                    await put(made.node(gateway), key)
            assert await value_of(made.node(number), key) == b"v"
            assert await remove(made.node((number + 1) % 3), key)
        assert asyncio.get_running_loop().time() - began < 1
        made.machines[2].device.free_bytes = 2 * DISK_RESERVE_BYTES
        await reached(lambda: len(made.led_by(2)) == PARTITIONS + 1, 10)
        for key in keys:
            assert await put(made.node(0), key)


@virtual
async def test_a_sync_that_hangs_costs_the_leaderships_not_the_operations() -> None:
    """Within two seconds others lead; what was under way and what comes then succeeds; after calm the node leads."""
    async with cluster() as made:
        key, groups = made.key_of(0), made.node(0).groups
        made.gates[0].close()
        waiting = [asyncio.ensure_future(put(made.node(number), key)) for number in range(3)]
        await reached(lambda: not made.led_by(0), NOTICED_S_MAX)
        await asyncio.gather(*waiting)
        for number in range(3):
            assert await put(made.node(number), key, b"%d" % number)
        assert list(groups.reluctant_for) == ["sync stuck"]
        await pass_time(20)
        assert not made.led_by(0)
        assert groups.sync_running_s > 20
        assert 'ringhold_reluctant{reason="sync stuck"} 1.0' in metrics_of(made.machines[0])
        made.gates[0].open()
        await pass_time(1)
        assert (groups.sync_running_s, list(groups.reluctant_for)) == (0, ["sync stuck"])
        assert groups.sync_s_max > 20
        await reached(lambda: made.leads_its_share(0), 10)
        assert list(groups.reluctant_for) == []
        assert await value_of(made.node(0), key) == b"2"
        assert made.failures == []


@virtual
async def test_a_sync_that_hangs_at_a_follower_disturbs_nobody() -> None:
    """The other two are a majority, and nobody else hands anything over."""
    async with cluster() as made:
        made.gates[0].close()
        await pass_time(3)
        led = set(made.led_by(1))
        for _ in range(20):
            assert await put(made.node(2), made.key_of(1))
            await pass_time(0.2)
        assert led <= set(made.led_by(1))


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@virtual
async def test_a_node_whose_disk_fails_stops_and_the_others_go_on(fault: str) -> None:
    """The failure is never retried; what was under way is done by the next leader, and the node comes back."""
    async with cluster() as made:
        key = made.key_of(0)
        setattr(made.machines[0].engine, fault, EngineFailed("EIO"))
        waiting = [asyncio.ensure_future(put(made.node(number), key)) for number in (1, 2)]
        await reached(lambda: made.failures)
        assert [(name, str(error)) for name, error in made.failures] == [("n1", "EIO")]
        await asyncio.gather(*waiting)
        assert await put(made.node(1), key, b"w")
        made.machines[0].boot()
        await reached(lambda: made.machines[0].is_ready)
        assert await value_of(made.node(0), key) == b"w"
        assert len(made.failures) == 1


@virtual
async def test_metrics_tell_of_replicas_that_are_to_be_rebuilt_and_of_scrubs() -> None:
    """By status; and how long ago everything was read."""
    async with cluster() as made:
        shown = metrics_of(made.machines[0])
        assert 'ringhold_replicas_unhealthy{status="damaged"} 0.0' in shown
        assert "ringhold_scrub_bytes_total 0.0" in shown
        node = made.node(0)
        async with aclosing(node.scrubber.scrub(0)) as reports:
            async for passing in reports:
                assert not passing.found
        node.groups.hosting.rows_damaged(1, "a test says so")
        shown = metrics_of(made.machines[0])
        assert 'ringhold_replicas_unhealthy{status="damaged"} 1.0' in shown
        assert "ringhold_scrub_bytes_total 0.0" not in shown
        assert "ringhold_scrub_damage_total 0.0" in shown
        assert "ringhold_scrub_age_seconds 0.0" in shown
