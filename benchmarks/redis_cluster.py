"""A Redis Cluster on this machine: three masters that sync each write before it is acknowledged."""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .failure import BenchmarkFailed
from .servers import HOST, NODES, POLL_INTERVAL_S, CountingServers, counted, free_ports

TOOLS = ("redis-server", "redis-benchmark", "redis-cli")
FORMATION_S_MAX = 30.0
ANSWER_S_MAX = 30.0
TAGS_MAX = 1_000
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

    def tag(self, address: str) -> str:
        """What keys of one server begin with: the part in braces says which slot, so which server, they are of."""
        tags = (f"key:{{{number}}}:" for number in range(TAGS_MAX))
        return next(tag for tag in tags if asked_at(address, "SET", tag, "").strip() == "OK")

    def finished_calls(self) -> Counter[tuple[str, str]]:
        return counted(each for address in self.addresses for each in calls_in(asked_at(address, "INFO", "all")))

    def records(self) -> int:
        return sum(int(asked_at(address, "DBSIZE")) for address in self.addresses)


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
