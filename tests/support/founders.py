"""Nodes that are about to found a cluster, in one process."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from support.virtual_time import LoopClock

from ringhold.gossip.ports import ExchangeFailed, FakeExchange, Handler
from ringhold.node.formation import FormationState, seeds_hash
from ringhold.node.founding import FORMATION_ROUTE, TOPOLOGY_ROUTE, Founding
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.supervisor import Supervisor
from ringhold.node.topology_store import TopologyStore

SEEDS = ("a:2", "b:2", "c:2")


class Founder:
    """One node: its disk outlives it, and `start` is its next life."""

    def __init__(
        self,
        street: "Street",
        name: str,
        expect: int = 3,
        seeds: tuple[str, ...] = SEEDS,
        replication_factor: int = 3,
    ) -> None:
        self.street = street
        self.name = name
        self.node_id = f"id-{name}"
        self.address = f"{name}:2"
        self.expect = expect
        self.seeds = seeds
        self.replication_factor = replication_factor
        self.engine = MemoryEngine()
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.failures: list[BaseException] = []

    def start(self) -> asyncio.Task[None]:
        self.store = TopologyStore(self.node_id, self.engine)
        exchange = FakeExchange(self.street.handlers, self.address, self.street.is_cut)
        self.founding = Founding(
            self.state,
            self.seeds,
            lambda: self.street.gossiped,
            exchange,
            self.store,
            LoopClock(),
            Random(self.name),
            self._log,
        )
        self.supervisor = Supervisor(lambda _, error: self.failures.append(error))
        self.street.handlers[self.address] = self._answer
        self.running = self.supervisor.spawn("founding", self.founding.run())
        return self.running

    async def crash(self) -> None:
        """Power loss that takes everything that was not synced."""
        self.street.handlers.pop(self.address, None)
        await self.supervisor.stop()
        self.engine = self.engine.crash(DropsAll())

    @property
    def is_formed(self) -> bool:
        return self.running.done() and not self.running.cancelled() and self.running.exception() is None

    def state(self) -> FormationState:
        return FormationState(
            node_id=self.node_id,
            name=self.name,
            cluster="c",
            cluster_id=self.store.cluster_id,
            epoch=self.store.current.epoch if self.store.current else 0,
            expect=self.expect,
            partitions=8,
            replication_factor=self.replication_factor,
            seeds=seeds_hash(self.seeds),
            grpc_address=f"{self.name}:1",
            http_address=self.address,
            host=self.name,
            zone="",
            weight=1,
        )

    async def _answer(self, route: str, body: bytes) -> bytes:
        match route:
            case _ if route == FORMATION_ROUTE:
                return self.state().encode()
            case _ if route == TOPOLOGY_ROUTE:
                return self.founding.answer_topology(body)
        raise ExchangeFailed(f"no such route: {route}")

    def _log(self, event: str, /, **figures: object) -> None:
        self.logged.append((event, figures))


class DropsAll(Random):
    """The chance that loses all that was not synced."""

    def randint(self, a: int, b: int) -> int:
        return b


class Street:
    """Where the founders live: who answers at which address, and which ways are cut."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.gossiped: list[str] = []
        self.cut: Callable[[str, str], bool] = lambda source, target: False

    def is_cut(self, source: str, target: str) -> bool:
        return self.cut(source, target)

    async def stop(self, *founders: Founder) -> None:
        for founder in founders:
            await founder.supervisor.stop()
            assert founder.failures == []
