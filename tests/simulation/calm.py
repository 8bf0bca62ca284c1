"""A cluster of the simulator in which nothing goes wrong unless a test has it so."""

import asyncio
from collections.abc import Awaitable, Callable

from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.api.proto.ringhold.v1.cluster_pb2 import Change, ChangeRequest, ChangeResponse
from ringhold.node.node import Node
from ringhold.ring.topology import NodeState, Topology

from .health import leader_of
from .loop import simulate, until, within
from .machines import Machine
from .ring_changes import newest
from .witness import witnessed
from .world import World


class Calm:
    """Three nodes of the simulator and whoever joins them; nothing goes wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machines = world.machines

    @property
    def topology(self) -> Topology:
        topology = newest(self.machines)
        assert topology is not None
        return topology

    def node(self, name: str) -> Node:
        node = self.machine(name).node
        assert node is not None
        return node

    def machine(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def state(self, name: str) -> NodeState | None:
        node = self.topology.node(self.machine(name).node_id)
        return node.state if node else None

    async def on(self, name: str, work: Callable[[Node], Awaitable[object]]) -> object:
        """Await something in the life of a node."""
        life = self.machine(name).life
        assert life is not None
        return await life.run(asyncio.ensure_future, work(self.node(name)))

    async def order(self, *changes: Change, dry_run: bool = False, through: str = "n2") -> ChangeResponse:
        request = ChangeRequest(changes=changes, dry_run=dry_run)
        clock = self.machine(through).clock
        answer = await self.on(through, lambda node: node.moving.orders.change(request, clock.now() + 10))
        assert isinstance(answer, ChangeResponse)
        return answer

    async def join(self, called: str = "") -> Machine:
        machine = self.world._fresh(called)
        self.machines.append(machine)
        machine.boot()
        await self.until(lambda: self.topology.node(machine.node_id) is not None)
        return machine

    async def settle(self) -> None:
        await self.until(lambda: self.topology.is_settled)

    async def until(self, condition: Callable[[], bool]) -> None:
        assert await within(60, condition), self.topology

    def holders(self, group: int) -> set[str]:
        leader = leader_of(group, self.machines)
        names = {machine.node_id: machine.name for machine in self.machines}
        return {names[node] for node in leader.configuration.members} if leader is not None else set()

    async def write(self, count: int) -> None:
        clock = self.machine("n1").clock
        for number in range(count):
            request = kv_pb2.SetRequest(key=b"key:%d" % number, value=b"value:%d" % number)
            await self.on("n1", lambda node, r=request: node.gateway.set(r, clock.now() + 5))  # type: ignore[misc]

    async def read(self, count: int, through: str) -> None:
        clock = self.machine(through).clock
        for number in range(count):
            request = kv_pb2.GetRequest(key=b"key:%d" % number)
            answer = await self.on(through, lambda node, r=request: node.gateway.get(r, clock.now() + 5))  # type: ignore[misc]
            assert isinstance(answer, kv_pb2.GetResponse)
            assert answer.value == b"value:%d" % number


def calmly(story: Callable[[Calm], Awaitable[None]]) -> None:
    """Run a story over three nodes that serve; every checker of the simulator watches."""

    async def live() -> None:
        with witnessed() as witness:
            world = World(0, witness)
            calm = Calm(world)
            for machine in calm.machines:
                machine.boot()
            await until(lambda: all(machine.is_ready for machine in calm.machines))
            await story(calm)
            assert world.history.violations == []

    simulate(live())
