"""The command line and real nodes: `dev`, `serve`, and the data commands through each of the nodes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.nodes import free_ports, node_processes, running, wait_until

STOP_S_MAX = 10.0


class Dev:
    """`ringhold dev` as a process; its stderr goes to a file."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.log = folder / "dev.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ringhold", "dev", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=clean_environment(),
            )
        assert self.process.stdout is not None
        word, _, endpoints = self.process.stdout.readline().decode().strip().partition(" ")
        assert word == "ready", self.log.read_text()
        self.endpoints = endpoints.split(",")

    @property
    def children(self) -> list[psutil.Process]:
        """The processes of the nodes, in their order."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda child: child.create_time())

    def stop(self, number: int = signal.SIGINT) -> int:
        children = self.children
        self.process.send_signal(number)
        code = self.process.wait(STOP_S_MAX)
        assert not any(child.is_running() for child in children)
        return code


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RINGHOLD_")}


def free_base(count: int) -> int:
    """The first of `count` neighbouring ports that were free a moment ago."""
    for port in free_ports(20):
        addresses = range(port, port + count)
        taken = {each.laddr.port for each in psutil.net_connections("tcp") if each.laddr}
        if addresses[-1] < 65_536 and not taken.intersection(addresses):
            return port
    raise AssertionError("no neighbouring ports are free")


@contextmanager
def dev(folder: Path, *arguments: str, nodes: int = 3) -> Iterator[Dev]:
    started = Dev(folder, ["--nodes", str(nodes), "--base-port", str(free_base(2 * nodes)), *arguments])
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGTERM)
            started.process.wait(2 * STOP_S_MAX)
        assert started.process.stdout is not None
        started.process.stdout.close()


def ringhold(
    *arguments: str, stdin: bytes = b"", endpoints: Sequence[str] = ()
) -> "subprocess.CompletedProcess[bytes]":
    where = ["--endpoints", ",".join(endpoints)] if endpoints else []
    return subprocess.run(
        [sys.executable, "-m", "ringhold", *arguments, *where],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        env=clean_environment(),
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("dev")) as started:
        yield started


def test_dev_tells_its_endpoints(cluster: Dev) -> None:
    """`dev` prints one line with the endpoints; every log line is behind its node's name."""
    assert len(cluster.endpoints) == 3
    lines = cluster.log.read_text().splitlines()
    assert {line.partition(" | ")[0] for line in lines} == {"node-1", "node-2", "node-3"}


def test_records_through_each_node(cluster: Dev) -> None:
    """What is set through one node is got, found and deleted through the others, byte by byte."""
    one, two, three = ([endpoint] for endpoint in cluster.endpoints)
    value = bytes(range(256))
    assert ringhold("set", "photo", "-", "--index", "kind=x", stdin=value, endpoints=one).returncode == 0
    assert ringhold("get", "photo", "-o", "plain", endpoints=two).stdout == value
    assert ringhold("find", "kind", "x", "-o", "plain", endpoints=three).stdout == b"photo\n"
    assert ringhold("delete", "photo", endpoints=three).returncode == 0
    ended = ringhold("get", "photo", endpoints=one)
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (3, b"", 1)


def test_import_and_find(cluster: Dev, tmp_path: Path) -> None:
    """An imported file is found by its index, in order, as a whole."""
    file = tmp_path / "rows.csv"
    file.write_text("id,group\n" + "".join(f"row-{number:04},g{number % 2}\n" for number in range(1001)) + "bad\n")
    ended = ringhold("import", str(file), "--key", "id", "--index", "group", endpoints=cluster.endpoints)
    assert ended.returncode == 1
    assert ended.stdout == b"imported 1001 records, 1 bad lines\n"
    assert ended.stderr == b"line 1003: it has 1 cells, the header has 2\n"
    found = ringhold("find", "group", "g1", "-o", "plain", endpoints=cluster.endpoints[:1]).stdout.decode().split()
    assert found == [f"row-{number:04}" for number in range(1, 1001, 2)]


def test_views_of_the_cluster(cluster: Dev) -> None:
    """Status, ring and explain agree about who leads what."""
    status = json.loads(ringhold("status", "-o", "json", endpoints=cluster.endpoints).stdout)
    assert [(node["name"], node["state"], node["liveness"]) for node in status["nodes"]] == [
        (f"node-{number}", "NORMAL", "ALIVE") for number in (1, 2, 3)
    ]
    assert sum(node["partitions_led"] for node in status["nodes"]) == 64
    ring = json.loads(ringhold("ring", "-o", "json", endpoints=cluster.endpoints).stdout)
    explained = json.loads(ringhold("explain", "row-0001", "-o", "json", endpoints=cluster.endpoints).stdout)
    assert ring["partitions"][explained["partition"]]["leader"] == explained["leader"]
    for command in ("status", "ring"):
        table = ringhold(command, endpoints=cluster.endpoints).stdout.decode()
        assert all(f"node-{number}" in table for number in (1, 2, 3))


def test_refusals_of_nodes(cluster: Dev) -> None:
    """What a node refuses is one sentence and exit code 2."""
    for arguments in (
        ("get", ""),
        ("get", "k" * 4097),
        ("set", "k", "-"),
        ("set", "k", "v", "--index", "n" * 129 + "=x"),
    ):
        ended = ringhold(*arguments, stdin=b"x" * (1024 * 1024 + 1), endpoints=cluster.endpoints)
        assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (2, b"", 1), arguments
        assert ended.stderr.startswith(b"ringhold: ")


def test_occupied_ports(cluster: Dev) -> None:
    """`dev` and `serve` on occupied ports say so in one sentence."""
    port = cluster.endpoints[0].rpartition(":")[2]
    ended = ringhold("dev", "--base-port", port)
    assert ended.returncode == 1
    assert ended.stderr.decode() == f"ringhold: 127.0.0.1:{port} can't be used: Address already in use\n"


def test_dev_keeps_data(tmp_path: Path) -> None:
    """With --data-dir the data is there at the next start; Ctrl-C stops all nodes with exit code 0."""
    folder = str(tmp_path / "data")
    with dev(tmp_path, "--data-dir", folder) as first:
        assert ringhold("set", "k", "v", "--index", "i=x", endpoints=first.endpoints).returncode == 0
        assert first.stop() == 0
    with dev(tmp_path, "--data-dir", folder) as second:
        assert ringhold("get", "k", "-o", "plain", endpoints=second.endpoints).stdout == b"v"
        assert ringhold("find", "i", "x", "-o", "plain", endpoints=second.endpoints).stdout == b"k\n"
        assert second.stop(signal.SIGTERM) == 0
    ended = ringhold("dev", "--nodes", "1", "--data-dir", folder)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1)


def test_dev_goes_on_without_a_node(tmp_path: Path) -> None:
    """A node that dies is reported, the others go on; the end is still clean."""
    with dev(tmp_path) as started:
        started.children[1].kill()
        wait_until(lambda: "was killed by SIGKILL, the others go on" in started.log.read_text(), "the death is told")
        assert ringhold("status", endpoints=started.endpoints).returncode == 0
        ended = ringhold("set", "k", "v", "--index", "i=x", endpoints=started.endpoints)
        assert (ended.returncode, ended.stderr) == (0, b"")
        ended = ringhold("find", "i", "x", "-o", "plain", endpoints=started.endpoints)
        assert (ended.returncode, ended.stdout) == (0, b"k\n")
        assert started.stop() == 0


def test_dev_of_one(tmp_path: Path) -> None:
    """A cluster of one serves."""
    with dev(tmp_path, nodes=1) as started:
        assert ringhold("set", "k", "v", endpoints=started.endpoints).returncode == 0
        assert started.stop() == 0


def test_serve_from_file_and_environment(tmp_path: Path) -> None:
    """`serve` takes its settings from the file, too; its JSON log is one object per line."""
    config = tmp_path / "node.toml"
    config.write_text('log_format = "json"\n[limits]\nkey_bytes_max = 10\n')
    (node,) = node_processes(tmp_path, 1, ["--config", str(config)])
    with running([node]):
        ended = ringhold("get", "a" * 11, endpoints=[node.grpc])
        assert ended.returncode == 2
        assert node.terminate() == 0
    events = [json.loads(line)["event"] for line in node.output.splitlines()]
    assert "ready" in events
    assert events[-1] == "stopped"


def test_serve_refuses(tmp_path: Path) -> None:
    """A folder that is in use, and a port that is, give one sentence and exit code 1."""
    node, other = (node_processes(tmp_path / name, 1)[0] for name in ("a", "b"))
    with running([node]):
        for data_dir, grpc in ((node.data_dir, other.grpc), (other.data_dir, node.grpc)):
            arguments = ["--data-dir", str(data_dir), "--grpc", grpc, "--http", other.http]
            ended = ringhold("serve", *arguments)
            assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1), ended.stderr
            assert ended.stderr.startswith(b"ringhold: ")
        assert node.terminate() == 0
