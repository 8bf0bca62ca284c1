"""Real nodes as processes on free ports of this machine, for tests that need the whole."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
PAUSE_S = 0.02


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return as soon as `condition` holds; AssertionError if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(PAUSE_S)


@dataclass
class NodeProcess:
    """One node: where it listens, what it is told, and its process while it runs."""

    name: str
    grpc: str
    http: str
    data_dir: Path
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, beside those of the test's own."""
    within: Sequence[str] = ()
    """The command that runs the node's, in its own process; empty: none."""
    process: "subprocess.Popen[bytes] | None" = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.data_dir.parent / f"{self.name}.log"

    @property
    def command(self) -> list[str]:
        flags = {"--data-dir": str(self.data_dir), "--grpc": self.grpc, "--http": self.http, "--name": self.name}
        words = [word for flag in flags.items() for word in flag]
        return [*self.within, sys.executable, "-m", "ringhold", "serve", *words, *self.arguments]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.variables}
            )

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.output}"
        return self.http_status("/health/ready") == 200

    def http_status(self, path: str) -> int:
        """The status of a GET; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=2) as response:
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code
        except (URLError, OSError):
            return 0

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, f"{self.name} is ready\n{self.output}")

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit code of a node that ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def _end(self, number: int) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        return code

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def node_processes(folder: Path, count: int, arguments: Sequence[str] = ()) -> list[NodeProcess]:
    """`count` nodes that would form one cluster; none is started."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * count)
    https = [f"127.0.0.1:{port}" for port in ports[count:]]
    forming = ["--seeds", ",".join(https), "--expect", str(count)] if count > 1 else []
    return [
        NodeProcess(
            f"node-{number + 1}",
            f"127.0.0.1:{ports[number]}",
            https[number],
            folder / f"node-{number + 1}",
            [*forming, *arguments],
        )
        for number in range(count)
    ]


@contextmanager
def running(nodes: Sequence[NodeProcess]) -> Iterator[Sequence[NodeProcess]]:
    """The nodes, ready; whatever runs of them at the end is killed."""
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_until_ready()
        yield nodes
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()


def metrics_of(node: NodeProcess) -> str:
    """What the node's /metrics says."""
    with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=5) as response:
        return str(response.read().decode())
