"""What Redis Cluster does on this machine: three masters that sync each write, and its own load generator.

Redis doesn't speak gRPC, so it is redis-benchmark that loads it: fewer bytes and fewer layers than the others have.
"""

import os
import re
import shutil
import subprocess
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from .bodies import VALUE
from .failure import BenchmarkFailed, RunVoid
from .figures import Percentiles, Run
from .load import GENERATOR_SHARE_MAX
from .servers import HOST, NODES, POLL_INTERVAL_S, CountingServers, counted, free_ports
from .trials import Sized

TOOLS = ("redis-server", "redis-benchmark", "redis-cli")
FORMATION_S_MAX = 30.0
ANSWER_S_MAX = 30.0
IMPORT_IN_FLIGHT = 64
FILL_REQUESTS = 200_000
"""After so many draws one of 16,384 slots is still empty in one case out of ten."""

KEYS_MAX = 10**12
"""redis-benchmark writes the number in a key with twelve digits."""

COMMANDS = ("get", "set")


def is_installed() -> bool:
    return all(shutil.which(tool) for tool in TOOLS)


class RedisServers(CountingServers):
    """A new cluster of three masters without replicas, every write synced before it is answered."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * NODES)
        super().__init__(
            folder,
            [
                (f"{HOST}:{port}", server_command(folder / f"redis-{port}", port, bus_port))
                for port, bus_port in zip(ports[:NODES], ports[NODES:], strict=True)
            ],
        )

    def form(self) -> None:
        """Make one cluster of the servers, which accept connections. Raises BenchmarkFailed."""
        told = asked("--cluster", "create", *self.addresses, "--cluster-yes")
        deadline = time.monotonic() + FORMATION_S_MAX
        while not all("cluster_state:ok" in asked_at(address, "CLUSTER", "INFO") for address in self.addresses):
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"Redis forms no cluster:\n{told}")
            time.sleep(POLL_INTERVAL_S)

    def fill(self) -> None:
        """Set what is asked for: a key in each slot. redis-benchmark draws the slots, so it takes many draws."""
        self._set(FILL_REQUESTS, [])

    def finished_calls(self) -> Counter[tuple[str, str]]:
        return counted(each for address in self.addresses for each in calls_in(asked_at(address, "INFO", "all")))

    def records(self) -> int:
        return sum(int(asked_at(address, "DBSIZE")) for address in self.addresses)

    def import_records(self, count: int) -> None:
        """Set about so many new keys: they are drawn at random."""
        self._set(count, [f"-r{KEYS_MAX}"])

    def _set(self, count: int, options: Sequence[str]) -> None:
        requests = [f"-n{count}", f"-c{IMPORT_IN_FLIGHT}", "-tset", f"-d{len(VALUE)}", *options]
        subprocess.run([*benchmark_of(self.addresses[0]), *requests], check=True, capture_output=True)


def server_command(folder: Path, port: int, bus_port: int) -> list[str]:
    folder.mkdir(parents=True)
    settings = {
        "port": str(port),
        "bind": HOST,
        "dir": str(folder),
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    return ["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value))]


def asked(*words: str) -> str:
    """What redis-cli says. Raises BenchmarkFailed."""
    try:
        found = subprocess.run(["redis-cli", *words], check=False, capture_output=True, text=True, timeout=ANSWER_S_MAX)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(f"redis-cli {' '.join(words)}: no answer after {ANSWER_S_MAX:.0f} s") from error
    if found.returncode:
        raise BenchmarkFailed(f"redis-cli {' '.join(words)}: {found.stdout}{found.stderr}")
    return found.stdout


def asked_at(address: str, *words: str) -> str:
    host, _, port = address.rpartition(":")
    return asked("-h", host, "-p", port, *words)


def calls_in(statistics: str) -> Iterator[tuple[str, str, float]]:
    """How many calls of a command ended well, how many otherwise, and how many found no key, in an answer to INFO.

    >>> list(calls_in("cmdstat_get:calls=9,usec=1,usec_per_call=0.1,rejected_calls=2,failed_calls=1"))
    [('get', 'OK', 8), ('get', 'rejected', 2), ('get', 'failed', 1)]
    """
    for command in COMMANDS:
        found = re.search(rf"cmdstat_{command}:calls=(\d+),.*rejected_calls=(\d+),failed_calls=(\d+)", statistics)
        if found:
            calls, rejected, failed = map(int, found.groups())
            yield command, "OK", calls - failed
            yield command, "rejected", rejected
            yield command, "failed", failed
    missed = re.search(r"keyspace_misses:(\d+)", statistics)
    if missed:
        yield "get", "missed", int(missed[1])


class ByRedisBenchmark(Sized):
    """Sets or gets of keys in all slots, over as many connections as are in flight, one pipeline at a time on each.

    The commands of a pipeline are for one slot, which redis-benchmark draws, and for as many keys as commands.
    """

    def __init__(
        self, contestant: str, servers: RedisServers, command: str, in_flight: int, *, pipeline: int = 1
    ) -> None:
        super().__init__(contestant)
        self._servers = servers
        self._command = command
        self._in_flight = in_flight
        self._pipeline = pipeline

    def send(self, number: int, requests_per_slot: int) -> Run:
        """Raises RunVoid unless the servers count as many good answers as there were requests, and no other."""
        requests = requests_per_slot * self._in_flight * self._pipeline
        calls_before = self._servers.finished_calls()
        cpu_before_s = self._servers.cpu_s()
        output, generator_cpu_s = self._benchmark(number, requests)
        cpu_s = self._servers.cpu_s() - cpu_before_s
        calls = self._servers.finished_calls() - calls_before
        if calls != {(self._command, "OK"): requests}:
            raise RunVoid(f"of {requests} requests Redis counts {dict(calls)}")
        seconds = requests / requests_per_s(output)
        is_floor = generator_cpu_s > GENERATOR_SHARE_MAX * seconds
        return Run(requests, seconds, cpu_s, percentiles_in(output), is_floor=is_floor)

    def _benchmark(self, number: int, requests: int) -> tuple[str, float]:
        """What redis-benchmark says, and the CPU time that it took. Raises RunVoid."""
        addresses = self._servers.addresses
        words = [f"-n{requests}", f"-c{self._in_flight}", f"-t{self._command}", f"-d{len(VALUE)}", "--precision", "3"]
        if self._pipeline > 1:
            words += [f"-P{self._pipeline}", f"-r{self._pipeline}"]
        command = [*benchmark_of(addresses[number % len(addresses)]), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunVoid(f"redis-benchmark ended with {process.returncode}: {output}")
        return output, usage.ru_utime + usage.ru_stime


def benchmark_of(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    return ["redis-benchmark", "--cluster", "-h", host, "-p", port]


def requests_per_s(output: str) -> float:
    """Raises RunVoid.

    >>> requests_per_s("  throughput summary: 97943.19 requests per second")
    97943.19
    """
    found = re.search(r"throughput summary: ([\d.]+) requests per second", output)
    if found is None:
        raise RunVoid(f"redis-benchmark reports nothing: {output}")
    return float(found[1])


def percentiles_in(output: str) -> Percentiles:
    """From the distribution that redis-benchmark prints: of each percentile the first step that has reached it.

    >>> percentiles_in("\\n".join(["50.000% <= 0.3 milliseconds", "99.219% <= 0.6 milliseconds", "100.000% <= 2.0 m"]))
    Percentiles(p50_ms=0.3, p99_ms=0.6, p999_ms=2.0)
    """
    steps = [
        (float(share), float(milliseconds))
        for share, milliseconds in re.findall(r"^([\d.]+)% <= ([\d.]+) m", output, re.MULTILINE)
    ]
    found = (steps[bisect_left(steps, (share, 0.0))][1] for share in (50.0, 99.0, 99.9))
    return Percentiles(*found)
