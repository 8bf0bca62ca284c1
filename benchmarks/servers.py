"""The processes that are measured, three of each kind: nodes, echo servers, and what other modules add."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from .failure import BenchmarkFailed

NODES = 3
HOST = "127.0.0.1"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.01
BLOCK_BYTES = 512
"""The unit of `st_blocks`."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ECHO_SCRIPT = Path(__file__).with_name("echo.py")


@dataclass(slots=True)
class Server:
    """A child process that listens on `address`, and writes to `log`."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM, the part that it shares with others included."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024

    def refuse_dead(self) -> None:
        """Raises BenchmarkFailed if the process has ended."""
        if self.process.poll() is not None:
            last_lines = "\n".join(self.log.read_text().splitlines()[-20:])
            raise BenchmarkFailed(f"the server at {self.address} ended with {self.process.returncode}:\n{last_lines}")


class Servers:
    """Processes that run while this is entered."""

    def __init__(
        self, folder: Path, commands: Sequence[tuple[str, list[str]]], environment: Mapping[str, str] | None = None
    ) -> None:
        """`folder` takes their files; `environment` is added to this process's own."""
        self.folder = folder
        self._commands = list(commands)
        self._environment = {**os.environ, **(environment or {})}
        self.servers: list[Server] = []

    @property
    def addresses(self) -> list[str]:
        return [server.address for server in self.servers]

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.servers += [self._started(number) for number in range(len(self._commands))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.process.terminate()
        for server in self.servers:
            try:
                server.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()

    def _started(self, number: int) -> Server:
        address, command = self._commands[number]
        log = self.folder / f"{address.rpartition(':')[2]}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment
            )
        return Server(address, log, process)

    def kill(self, number: int) -> None:
        """kill -9; returns when the signal is sent."""
        self.servers[number].process.kill()

    def stop(self, number: int) -> None:
        """SIGTERM; returns when the process has ended. Raises TimeoutExpired."""
        self.servers[number].process.terminate()
        self.servers[number].process.wait(STOP_TIMEOUT_S)

    def restart(self, number: int) -> None:
        """Start a killed or stopped process anew, as it was started first."""
        self.servers[number].process.wait()
        self.servers[number] = self._started(number)

    def cpu_s(self) -> float:
        """CPU time of all processes so far."""
        return sum(server.cpu_s() for server in self.servers)

    def resident_bytes(self) -> int:
        """Memory of all processes."""
        return sum(server.resident_bytes() for server in self.servers)

    def disk_bytes(self) -> int:
        """What their files take on the disk, what was set aside for growth included."""
        return sum(path.stat().st_blocks * BLOCK_BYTES for path in self.folder.rglob("*") if path.is_file())

    def is_ready(self, server: Server) -> bool:
        """Whether it accepts connections."""
        host, _, port = server.address.rpartition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def wait_until_ready(self) -> None:
        """Return when all are ready. Raises BenchmarkFailed."""
        waiting = list(self.servers)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while waiting := [server for server in waiting if not self.is_ready(server)]:
            for server in waiting:
                server.refuse_dead()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"after {READY_TIMEOUT_S:.0f} s not ready: {waiting[0].address}")
            time.sleep(POLL_INTERVAL_S)


class CountingServers(Servers, ABC):
    """Servers that count the calls they have answered."""

    @abstractmethod
    def finished_calls(self) -> Counter[tuple[str, str]]:
        """How many calls of a method have ended with a reason ("OK" if well), on all servers together."""


class EchoServers(Servers):
    """One bare echo server for each node."""

    def __init__(self, folder: Path) -> None:
        addresses = [f"{HOST}:{port}" for port in free_ports(NODES)]
        super().__init__(folder, [(address, [sys.executable, str(ECHO_SCRIPT), address]) for address in addresses])


class Cluster(CountingServers):
    """A new cluster, of three nodes if nothing else is said, each as a user would start it."""

    def __init__(
        self,
        folder: Path,
        engine: str,
        source: Path | None = None,
        *,
        nodes: int = NODES,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`source` is a clone whose code the nodes run; else it is the code that is imported here."""
        addresses = [f"{HOST}:{port}" for port in free_ports(2 * nodes)]
        grpc, http = addresses[:nodes], addresses[nodes:]
        seeds = ["--seeds", ",".join(http), "--expect", str(nodes), "--engine", engine, *options]
        super().__init__(
            folder,
            [
                (grpc[number], [*serve_command(folder, number), "--grpc", grpc[number], "--http", http[number], *seeds])
                for number in range(nodes)
            ],
            {**(environment or {}), **({} if source is None else {"PYTHONPATH": str(importable(source, folder))})},
        )
        self.http = http
        self._join_options = ["--seeds", ",".join(http), "--engine", engine, *options]
        self._http = dict(zip(grpc, http, strict=True))

    def join(self) -> None:
        """Start one more node, which asks to be let in."""
        number = len(self.servers)
        grpc, http = (f"{HOST}:{port}" for port in free_ports(2))
        command = [*serve_command(self.folder, number), "--grpc", grpc, "--http", http, *self._join_options]
        self._commands.append((grpc, command))
        self.http.append(http)
        self._http[grpc] = http
        self.servers.append(self._started(number))

    def is_ready(self, server: Server) -> bool:
        """Whether it says that it serves."""
        try:
            with urllib.request.urlopen(f"http://{self._http[server.address]}/health/ready", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except OSError:  # refused, or 503
            return False

    def finished_calls(self) -> Counter[tuple[str, str]]:
        samples = samples_of(self._http.values(), "ringhold_requests")
        return counted((sample.labels["method"], sample.labels["reason"], sample.value) for sample in samples)


def samples_of(http_addresses: Iterable[str], family_name: str) -> Iterator[Sample]:
    """The samples of one family of metrics, of all servers."""
    for address in http_addresses:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5.0) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            if family.name == family_name:
                yield from family.samples


def counted(calls: Iterable[tuple[str, str, float]]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for method, reason, count in calls:
        counts[method, reason] += int(count)
    return counts


def importable(source: Path, folder: Path) -> Path:
    """A folder in which the clone `source` is the package `ringhold`."""
    path = folder / "source"
    path.mkdir(parents=True)
    (path / "ringhold").symlink_to(source.resolve(), target_is_directory=True)
    return path


def serve_command(folder: Path, number: int) -> list[str]:
    name = f"node-{number + 1}"
    (folder / name).mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "ringhold", "serve", "--log-level", "warning"]
    return [*command, "--name", name, "--data-dir", str(folder / name)]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, taken all at once so that they differ."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
