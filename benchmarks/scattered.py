"""Load on keys drawn from all that there are, one body per request: what h2load, with its one body, can't send.

It is a Python program on the same machine, so what it finds of rates is its own; what the servers' CPU does is theirs.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc.aio
from google.protobuf.message import Message

from ringhold.ring.hashing import partition_of

from .bodies import key_of, owners_of
from .failure import RunVoid
from .figures import Run, percentiles
from .servers import Cluster
from .trials import Sized
from .workloads import RPC_TIMEOUT_S, Gateway, full_name


class Scattered(Sized):
    """Requests of one method to the owners of keys that are drawn from the first so many, so many at a time."""

    def __init__(
        self,
        contestant: str,
        cluster: Cluster,
        gateway: Gateway,
        method: str,
        request_of: Callable[[bytes], Message],
        *,
        records: int,
        in_flight: int,
    ) -> None:
        super().__init__(contestant)
        self._cluster = cluster
        self._gateway = gateway
        self._method = full_name(method)
        self._request_of = request_of
        self._records = records
        self._in_flight = in_flight

    def send(self, number: int, requests_per_slot: int) -> Run:
        """Raises RunVoid unless the nodes count every request as answered well, and no other."""
        requests = requests_per_slot * self._in_flight
        topology = self._gateway.topology()
        addresses = [topology.nodes[owner or 0].grpc_address for owner in owners_of(topology)]
        calls_before = self._cluster.finished_calls()
        cpu_before_s = self._cluster.cpu_s()
        latencies_s, seconds = asyncio.run(self._call_all(addresses, requests_per_slot, random.Random(number)))
        cpu_s = self._cluster.cpu_s() - cpu_before_s
        calls = self._cluster.finished_calls() - calls_before
        if calls != {(self._method, "OK"): requests}:
            raise RunVoid(f"{self._method}: of {requests} requests the servers count {dict(calls)}")
        return Run(requests, seconds, cpu_s, percentiles([1e6 * latency_s for latency_s in latencies_s]))

    async def _call_all(
        self, addresses: Sequence[str], requests_per_slot: int, rng: random.Random
    ) -> tuple[list[float], float]:
        """How long each call took, and all of them; `addresses` are those of the partitions' leaders."""
        channels = {address: grpc.aio.insecure_channel(address) for address in set(addresses)}
        calls: list[Callable[..., Awaitable[bytes]]] = [
            channels[address].unary_unary(f"/{self._method}") for address in addresses
        ]
        latencies_s: list[float] = []

        async def slot() -> None:
            for _ in range(requests_per_slot):
                key = key_of(rng.randrange(self._records))
                request = self._request_of(key).SerializeToString()
                began = time.perf_counter()
                await calls[partition_of(key, len(calls))](request, timeout=RPC_TIMEOUT_S)
                latencies_s.append(time.perf_counter() - began)

        try:
            await asyncio.gather(*(channel.channel_ready() for channel in channels.values()))
            began = time.perf_counter()
            await asyncio.gather(*(slot() for _ in range(self._in_flight)))
            return latencies_s, time.perf_counter() - began
        finally:
            for channel in channels.values():
                await channel.close()
