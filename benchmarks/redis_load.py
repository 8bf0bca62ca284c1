"""Load by redis-benchmark: Redis doesn't speak gRPC, and what it speaks is lighter than what the others get.

One process for each server, as for a cluster redis-benchmark itself has a thread for each; but its threads only notice
every 250 ms that they are done, which would be a tenth of a run.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .bodies import VALUE
from .failure import RunVoid
from .figures import Percentiles, Run
from .load import GENERATOR_SHARE_MAX
from .redis_cluster import RedisServers
from .trials import Sized
from .workloads import spread

KEYS = 100
"""Of each server: those that are asked for."""

FILLS = 20
"""Times KEYS: redis-benchmark draws the keys, so it takes many draws until all are set."""

NEW_KEYS = 10**9
IMPORT_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Order:
    """What one process sends: so many requests of keys that are drawn from so many, in pipelines."""

    address: str
    tag: str
    command: str
    requests: int
    in_flight: int
    keys: int = KEYS
    pipeline: int = 1

    def words(self) -> list[str]:
        host, _, port = self.address.rpartition(":")
        numbers = {"-n": self.requests, "-c": self.in_flight, "-r": self.keys, "-P": self.pipeline, "--precision": 3}
        options = [word for option, number in numbers.items() for word in (option, str(number))]
        value = ["x" * len(VALUE)] if self.command == "set" else []
        return ["redis-benchmark", "-h", host, "-p", port, *options, self.command, f"{self.tag}__rand_int__", *value]


@dataclass(frozen=True, slots=True)
class Told:
    """What redis-benchmark says at its end: its rate, and after so many milliseconds so many requests were answered."""

    requests_per_s: float
    answered: Sequence[tuple[float, int]]


class ByRedisBenchmark(Sized):
    """Sets or gets, over as many connections as are in flight, one pipeline at a time on each."""

    def __init__(
        self, contestant: str, servers: RedisServers, command: str, in_flight: int, *, pipeline: int = 1
    ) -> None:
        super().__init__(contestant)
        self._servers = servers
        self._tags = {address: servers.tag(address) for address in servers.addresses}
        self._command = command
        self._in_flight = in_flight
        self._pipeline = pipeline

    def send(self, number: int, requests_per_slot: int) -> Run:
        """Raises RunVoid unless the servers count as many good answers as there were requests, and no other."""
        orders = [
            Order(
                address,
                self._tags[address],
                self._command,
                requests_per_slot * share * self._pipeline,
                share,
                pipeline=self._pipeline,
            )
            for address, share in spread(self._servers.addresses, self._in_flight, number)
        ]
        calls_before = self._servers.finished_calls()
        cpu_before_s = self._servers.cpu_s()
        told, is_floor = carried_out(orders)
        cpu_s = self._servers.cpu_s() - cpu_before_s
        calls = self._servers.finished_calls() - calls_before
        requests = sum(order.requests for order in orders)
        if calls != {(self._command, "OK"): requests}:
            raise RunVoid(f"of {requests} requests Redis counts {dict(calls)}")
        seconds = max(order.requests / each.requests_per_s for order, each in zip(orders, told, strict=True))
        return Run(requests, seconds, cpu_s, percentiles_of(told), is_floor=is_floor)


def carried_out(orders: Sequence[Order]) -> tuple[list[Told], bool]:
    """What the processes say, and whether one of them took nearly all of a core. Raises RunVoid."""
    processes = [
        subprocess.Popen(order.words(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for order in orders
    ]
    found = [ended(process) for process in processes]
    shares = [cpu_s * told.requests_per_s / order.requests for order, (told, cpu_s) in zip(orders, found, strict=True)]
    return [told for told, _ in found], max(shares) > GENERATOR_SHARE_MAX


def ended(process: subprocess.Popen[str]) -> tuple[Told, float]:
    """What it said, and the CPU seconds that it took. Raises RunVoid."""
    with process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunVoid(f"redis-benchmark ended with {process.returncode}: {output}")
    return parsed(output), usage.ru_utime + usage.ru_stime


def parsed(output: str) -> Told:
    """Raises RunVoid.

    >>> parsed("50.000% <= 0.3 milliseconds (cumulative count 5)\\n  throughput summary: 97943.19 requests per second")
    Told(requests_per_s=97943.19, answered=[(0.3, 5)])
    """
    found = re.search(r"throughput summary: ([\d.]+) requests per second", output)
    if found is None:
        raise RunVoid(f"redis-benchmark reports nothing: {output}")
    by_percentile, _, _ = output.partition("Cumulative distribution")
    steps = re.findall(r"^[\d.]+% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", by_percentile, re.MULTILINE)
    return Told(float(found[1]), [(float(milliseconds), int(count)) for milliseconds, count in steps])


def percentiles_of(told: Sequence[Told]) -> Percentiles:
    """Of all processes together; what was answered between two steps counts as answered at the later one.

    >>> percentiles_of([Told(1.0, [(0.1, 500), (0.2, 1000)]), Told(1.0, [(0.3, 989), (4.0, 1000)])])
    Percentiles(p50_ms=0.2, p99_ms=0.3, p999_ms=4.0)
    """
    steps = sorted(step for each in told for step in increments(each.answered))
    total = sum(count for _, count in steps)
    return Percentiles(*(latency_at(steps, per_mille * total / 1000) for per_mille in (500, 990, 999)))


def increments(answered: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """From how many were answered until each step to how many more than at the one before."""
    before = [0, *(count for _, count in answered)]
    return [(milliseconds, count - earlier) for (milliseconds, count), earlier in zip(answered, before, strict=False)]


def latency_at(steps: Sequence[tuple[float, int]], rank: float) -> float:
    """The first step at which so many were answered."""
    so_far = 0
    for milliseconds, count in steps:
        so_far += count
        if so_far >= rank:
            return milliseconds
    raise RunVoid("redis-benchmark tells of no latencies")


def fill(servers: RedisServers) -> None:
    """Set the keys that are asked for. Raises RunVoid."""
    set_drawn(servers, FILLS * KEYS, KEYS)


def import_records(servers: RedisServers, count: int) -> None:
    """Set about so many new keys. Raises RunVoid."""
    set_drawn(servers, count // len(servers.addresses), NEW_KEYS)


def set_drawn(servers: RedisServers, requests: int, keys: int) -> None:
    """So many of keys drawn from so many, at each server."""
    for address in servers.addresses:
        carried_out([Order(address, servers.tag(address), "set", requests, IMPORT_IN_FLIGHT, keys)])
