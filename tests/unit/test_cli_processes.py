"""Running nodes on this machine: what is refused before any is started, and how their lines are read."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from ringhold.node.cli import processes
from ringhold.node.cli.dev import data_folder, local_nodes
from ringhold.node.cli.failure import CommandFailed
from ringhold.node.cli.processes import LocalCluster, LocalNode, ending, ends_before, is_ready, lines_of


def node(folder: Path, grpc: int, http: int) -> LocalNode:
    return local_nodes(folder, [grpc, http])[0]


async def test_occupied_port(tmp_path: Path) -> None:
    """An occupied port is named before any node is started."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(CommandFailed, match=f"127.0.0.1:{port} can't be used: Address already in use"):
            await LocalCluster([node(tmp_path, 1024, port)], print).__aenter__()
    assert not (tmp_path / "node-1").exists()


async def test_death_before_ready(tmp_path: Path) -> None:
    """A node that dies before it serves ends the start, and its last lines were shown."""
    (tmp_path / "node-1").mkdir()
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [each.getsockname()[1] for each in (one, two)]
    cluster = LocalCluster([node(tmp_path, *ports)], lambda _, line: lines.append(line), ["--engine", "none"])
    async with cluster:
        with pytest.raises(CommandFailed, match=r"node-1 did not start: it ended with exit code 2; its last lines"):
            await cluster.wait_until_ready()
        await cluster.wait_until_dead()
        assert await cluster.stop() == []
    assert "ringhold: --engine: 'none' is unknown: choose sqlite or rocksdb" in lines


@pytest.mark.parametrize(("existing", "nodes"), [(3, 1), (1, 3)])
def test_folder_of_another_cluster(existing: int, nodes: int, tmp_path: Path) -> None:
    """A folder with the data of another number of nodes is refused."""
    for number in range(existing):
        (tmp_path / f"node-{number + 1}").mkdir()
    with (
        pytest.raises(CommandFailed, match=f"is of a cluster of {existing}: give --nodes {existing}"),
        data_folder(tmp_path, nodes),
    ):
        pytest.fail("it was taken")


def test_data_folder(tmp_path: Path) -> None:
    """Without a folder a new one is made and removed at the end; a given one stays."""
    with data_folder(None, 3) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    with data_folder(tmp_path / "new", 3) as folder:
        assert folder == tmp_path / "new"
    (tmp_path / "node-1").mkdir()
    with data_folder(tmp_path, 1):
        pass
    assert tmp_path.is_dir()


async def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is read line by line; the last needs no end, and one that never ends comes in pieces."""
    monkeypatch.setattr(processes, "LINE_BYTES_MAX", 10)
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\n\ntwo \xff\n" + b"x" * 20)
    lines = lines_of(stream)
    assert [await anext(lines) for _ in range(4)] == ["one", "", "two \ufffd", "x" * 20]
    stream.feed_data(b"end")
    stream.feed_eof()
    assert [line async for line in lines] == ["end"]


async def test_nobody_is_not_ready(unused_address: str) -> None:
    """An address where nobody listens is not ready."""
    assert not await is_ready(unused_address)


@pytest.fixture
def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def test_ends_before() -> None:
    """Work that ends first tells its error; work that is overtaken is cancelled."""
    stop = asyncio.Event()
    assert await ends_before(asyncio.sleep(0), stop)

    async def fail() -> None:
        raise CommandFailed("no")

    with pytest.raises(CommandFailed):
        await ends_before(fail(), stop)
    stop.set()
    assert not await ends_before(asyncio.Event().wait(), stop)


def test_ending() -> None:
    """A process's end is said in words."""
    assert ending(3) == "ended with exit code 3"
    assert ending(-signal.SIGTERM) == "was killed by SIGTERM"
