"""`python -m benchmarks failover`: how long a dead node's partitions take no writes.

kill -9 of one node after the other, under light load. Two views of it: plain gRPC through the surviving gateways, in
short attempts, says when the partitions are back. Ringhold's client, which knows the dead node and one other, says what
a program notices.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc
import grpc.aio

from ringhold import AsyncClient, RingholdError
from ringhold.api.client.config import ClientConfig
from ringhold.api.proto.ringhold.v1 import kv_pb2, kv_pb2_grpc

from .bodies import VALUE, owned_keys, set_request
from .failure import BenchmarkFailed
from .figures import Figure, Waits
from .plan import Plan, Tell
from .report import Report
from .servers import Cluster
from .workloads import Gateway

KEYS_PER_NODE = 4
KEYS_APART = 1_000
"""Between the first keys of two kills, so that each samples other partitions."""

WARM_WRITES = 5
"""Per writer, before the kill."""

ATTEMPT_TIMEOUT_S = 1.0
GATEWAY_PAUSE_S = 0.04
"""Between two writes through one gateway: with two of them, each partition is tried every 20 ms."""

CLIENT_PAUSE_S = 0.05
CLIENT_TIMEOUT_S = 10.0
ALONE = ClientConfig(coalesce=False)
"""Each call by itself: what is measured is the nodes."""

RESUME_S_MAX = 30.0
MEDIAN_S_TARGET = 2.0
WORST_S_TARGET = 3.5

Set = Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outage:
    """What one kill did.

    `resumed_s`: for each sampled partition that the node led, from the kill to the first acknowledged write that began
    after it. `client_longest_s`: the longest write of the client. `settled_s`: from the restart until all nodes answer
    and lead what they should.
    """

    resumed_s: Sequence[float]
    client_longest_s: float
    client_failures: Sequence[str]
    settled_s: float


@dataclass(slots=True)
class Writer:
    """Writes to one key through one gateway or client, again and again."""

    key: bytes
    set: Set
    pause_s: float
    acknowledged: int = 0
    first_at: float | None = None
    """When the first write was acknowledged."""

    longest_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    async def write(self) -> None:
        """Until cancelled."""
        while True:
            await self.write_once()
            await asyncio.sleep(self.pause_s)

    async def write_once(self) -> None:
        began = time.monotonic()
        try:
            await self.set(self.key)
        except (grpc.aio.AioRpcError, RingholdError) as error:
            self.failures.append(f"{type(error).__name__} after {time.monotonic() - began:.2f} s: {error}")
        else:
            self.acknowledged += 1
            self.first_at = self.first_at or time.monotonic()
        self.longest_s = max(self.longest_s, time.monotonic() - began)


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed."""
    for engine in plan.engines:
        with Cluster(folder / f"failover-{engine}", engine) as cluster:
            cluster.wait_until_ready()
            found = measure_failovers(cluster, plan.kills, tell)
        for failure in (failure for outage in found for failure in outage.client_failures):
            tell(f"a client's write failed: {failure}")
        report.waits += waits_of(found, engine)
        report.figures += figures_of(found, engine)


def measure_failovers(cluster: Cluster, kills: int, tell: Tell) -> list[Outage]:
    """Kill nodes in turn, so many times in all; the cluster is well before each kill. Raises BenchmarkFailed."""
    gateways = [Gateway(address) for address in cluster.addresses]
    try:
        return asyncio.run(outages(cluster, gateways, kills, tell))
    finally:
        for gateway in gateways:
            gateway.close()


async def outages(cluster: Cluster, gateways: Sequence[Gateway], kills: int, tell: Tell) -> list[Outage]:
    found: list[Outage] = []
    async with AsyncExitStack() as stack:
        circle = cluster.addresses * 2
        clients = [
            AsyncClient(circle[number:][:2], timeout_s=CLIENT_TIMEOUT_S, config=ALONE)
            for number in range(len(gateways))
        ]
        for client in clients:
            await stack.enter_async_context(client)
        for number in range(kills):
            victim = number % len(gateways)
            gateway = gateways[(victim + 1) % len(gateways)]
            await asyncio.to_thread(gateway.wait_until_settled)
            keys = await asyncio.to_thread(keys_by_owner, gateway, KEYS_APART * number)
            found.append(await Kill(cluster, gateway, clients[victim]).outage(victim, keys))
            tell(f"kill {number + 1} of {kills}: back after {max(found[-1].resumed_s):.2f} s")
    return found


def keys_by_owner(gateway: Gateway, first: int) -> dict[str, list[bytes]]:
    """Keys, by the addresses of their owners, each of another partition."""
    topology = gateway.topology()
    addresses = [node.grpc_address for node in topology.nodes]
    return dict(zip(addresses, owned_keys(topology, KEYS_PER_NODE, first), strict=True))


class Kill:
    """One kill -9, from a cluster that is well to one that is well."""

    def __init__(self, cluster: Cluster, gateway: Gateway, client: AsyncClient) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self._client = client

    async def outage(self, victim: int, keys: Mapping[str, Sequence[bytes]]) -> Outage:
        """`keys` are the sampled ones, by their owners' addresses. Raises BenchmarkFailed."""
        dead = self._cluster.addresses[victim]
        async with survivors(address for address in self._cluster.addresses if address != dead) as sets:
            programs = [Writer(key, self._client_set, CLIENT_PAUSE_S) for key in keys[dead]]
            others = [Writer(own[0], sets[0], GATEWAY_PAUSE_S) for address, own in keys.items() if address != dead]
            async with writing([*programs, *others]):
                async with writing(writers_of(keys[dead], sets)) as warm:
                    await until(lambda: all(writer.acknowledged >= WARM_WRITES for writer in [*warm, *programs]))
                killed_at = time.monotonic()
                self._cluster.kill(victim)
                async with writing(writers_of(keys[dead], sets)) as writers:
                    await until(lambda: first_acknowledged(writers).keys() == set(keys[dead]))
                before = [(program, program.acknowledged) for program in programs]
                await until(lambda: all(program.acknowledged > count for program, count in before))
        return Outage(
            [at - killed_at for at in first_acknowledged(writers).values()],
            max(program.longest_s for program in programs),
            [failure for program in programs for failure in program.failures],
            await asyncio.to_thread(self._settle, victim),
        )

    async def _client_set(self, key: bytes) -> None:
        await self._client.set(key, VALUE)

    def _settle(self, victim: int) -> float:
        restarted_at = time.monotonic()
        self._cluster.restart(victim)
        self._cluster.wait_until_ready()
        self._gateway.wait_until_settled()
        return time.monotonic() - restarted_at


@asynccontextmanager
async def survivors(addresses: Iterator[str]) -> AsyncIterator[list[Set]]:
    """For each gateway a Set by plain gRPC; raises AioRpcError."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses]
        yield [plain_set(channel) for channel in channels]


def plain_set(channel: grpc.aio.Channel) -> Set:
    stub = kv_pb2_grpc.KVStub(channel)

    async def set_key(key: bytes) -> kv_pb2.SetResponse:
        response: kv_pb2.SetResponse = await stub.Set(set_request(key), timeout=ATTEMPT_TIMEOUT_S)
        return response

    return set_key


def writers_of(keys: Sequence[bytes], sets: Sequence[Set]) -> list[Writer]:
    """One for each key and gateway."""
    return [Writer(key, set_key, GATEWAY_PAUSE_S) for key in keys for set_key in sets]


@asynccontextmanager
async def writing(writers: Sequence[Writer]) -> AsyncIterator[Sequence[Writer]]:
    """The writers write while the block runs."""
    tasks = [asyncio.create_task(writer.write()) for writer in writers]
    try:
        yield writers
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def first_acknowledged(writers: Sequence[Writer]) -> dict[bytes, float]:
    """For each key that has been written, when it first was."""
    times = sorted((writer.first_at, writer.key) for writer in writers if writer.first_at is not None)
    return {key: at for at, key in reversed(times)}


async def until(condition: Callable[[], bool]) -> None:
    """Raises BenchmarkFailed."""
    deadline = time.monotonic() + RESUME_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"after {RESUME_S_MAX:.0f} s not every sampled partition takes writes")
        await asyncio.sleep(0.005)


def waits_of(found: Sequence[Outage], engine: str) -> list[Waits]:
    """What is told beside the figures."""
    waits = {
        "slowest": ("kill -9 to the first write, slowest partition of each kill", slowest_s(found)),
        "every": (
            "kill -9 to the first write, every sampled partition",
            [seconds for outage in found for seconds in outage.resumed_s],
        ),
        "client": ("longest write of a client around a kill", [outage.client_longest_s for outage in found]),
        "settled": ("restart to all leaders back", [outage.settled_s for outage in found]),
    }
    return [
        Waits(f"failover_{name}_{engine}", f"{title}, {engine}", seconds) for name, (title, seconds) in waits.items()
    ]


def slowest_s(found: Sequence[Outage]) -> list[float]:
    """A kill took as long as its slowest partition."""
    return [max(outage.resumed_s) for outage in found]


def figures_of(found: Sequence[Outage], engine: str) -> list[Figure]:
    slowest = slowest_s(found)
    failures = sum(len(outage.client_failures) for outage in found)
    kills = f"{len(found)} times kill -9, {engine}"
    return [
        Figure(f"failover_median_{engine}", f"Writes resume, median of {kills}", median(slowest), "s", MEDIAN_S_TARGET),
        Figure(f"failover_worst_{engine}", f"Writes resume, worst of {kills}", max(slowest), "s", WORST_S_TARGET),
        Figure(f"failover_failures_{engine}", f"Failed writes of a client, {kills}", failures, "writes", 0),
    ]
