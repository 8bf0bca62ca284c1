"""Disks that are lost, copied or put back: real processes recognise each, and say what to do."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.nodes import NodeProcess, free_ports, node_processes, running, wait_until

from ringhold import Client
from ringhold.node.storage.folder import IDENTITY_FILE, DataFolder, parse_identity


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Sequence[NodeProcess]]:
    """Two nodes: either notices what becomes of the other's disk."""
    with running(node_processes(tmp_path, 2)) as nodes:
        yield nodes


def copy_of(node: NodeProcess, folder: Path) -> NodeProcess:
    """A process on a copy of the node's disk, at other addresses."""
    shutil.copytree(node.data_dir, folder)
    grpc, http = free_ports(2)
    return NodeProcess("copy", f"127.0.0.1:{grpc}", f"127.0.0.1:{http}", folder, node.arguments)


def store_something(node: NodeProcess) -> None:
    with Client([node.grpc]) as client:
        for number in range(20):
            client.set(b"%d" % number, b"v")


def test_a_copy_that_is_behind_stops_and_names_the_other(two: Sequence[NodeProcess], tmp_path: Path) -> None:
    """Two processes with one identity: the one that did not start last is told where the other runs."""
    node = two[1]
    node.kill()
    copy = copy_of(node, tmp_path / "copied")
    node.start()
    node.wait_until_ready()
    copy.start()
    assert copy.wait() == 1
    assert f"another process, at {node.http}, runs with this node's identity right now" in copy.output
    assert node.is_running
    assert node.is_ready()


def test_a_running_node_that_is_copied_stops_when_the_copy_starts(two: Sequence[NodeProcess], tmp_path: Path) -> None:
    """The copy counts one generation on, as a restart would: the process that ran before is told, and ends."""
    node = two[1]
    copy = copy_of(node, tmp_path / "copied")
    try:
        copy.start()
        assert node.wait() == 1
    finally:
        copy.kill()
    assert f"another process, at {copy.http}, runs with this node's identity right now" in node.output


def test_a_restored_old_disk_stops_and_is_rebuilt_once_its_engine_is_removed(
    two: Sequence[NodeProcess], tmp_path: Path
) -> None:
    """It says how old it is; without its engine it goes on beyond the generation that the others know."""
    node = two[1]
    store_something(node)
    node.kill()
    shutil.copytree(node.data_dir, tmp_path / "backup")
    folder = DataFolder(node.data_dir)
    folder.begin_generation(above=5)  # as if it had been started more often since
    folder.close()
    node.start()
    node.wait_until_ready()
    node.kill()
    shutil.rmtree(node.data_dir)
    shutil.copytree(tmp_path / "backup", node.data_dir)
    node.start()
    assert node.wait() == 1
    known = "the other nodes know generation 7 of this node, and here it is 2"  # so gossip says, and so do hellos:
    assert known in node.output or "the other nodes have heard this node at batch" in node.output
    assert "old state of the disk" in node.output
    shutil.rmtree(node.data_dir / "engine")
    node.start()
    wait_until(lambda: generation_of(node) == 8, "it is beyond what the others know")
    assert "it is empty: its files were lost" in node.output
    wait_until(node.is_ready, "it is back in its cluster, and serves")


def generation_of(node: NodeProcess) -> int:
    return parse_identity((node.data_dir / IDENTITY_FILE).read_bytes()).generation


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("rocksdb", marks=pytest.mark.long)])
def test_a_restored_backup_of_the_last_generation_is_recognised(tmp_path: Path, engine: str) -> None:
    """It starts as the next generation, as a restart does; the other, restarted too, knows how far the engine was."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    nodes = node_processes(tmp_path, 2, ["--engine", engine])
    with running(nodes):
        other, node = nodes
        node.wait_until_ready()
        store_something(node)
        for each in nodes:
            each.terminate()
        shutil.copytree(node.data_dir, tmp_path / "backup")
        for each in nodes:
            each.start()
        node.wait_until_ready()
        store_something(node)
        for each in nodes:
            each.terminate()
        generation = generation_of(node)
        shutil.rmtree(node.data_dir)
        shutil.copytree(tmp_path / "backup", node.data_dir)
        identity = DataFolder(node.data_dir)
        identity.begin_generation(above=generation)  # as if it had been made while the last generation ran
        identity.close()
        for each in nodes:
            each.start()
        assert node.wait() == 1
        assert "the other nodes have heard this node at batch" in node.output
        assert "perhaps a restored backup" in node.output
        assert other.is_running
        shutil.rmtree(node.data_dir / "engine")
        node.start()
        wait_until(node.is_ready, "it serves again")
        assert node.is_running


def test_a_node_that_lost_its_engine_returns_without_its_replicas(three: Sequence[NodeProcess]) -> None:
    """It says what is gone, keeps its id, founds nothing, and the others serve on."""
    node, others = three[0], three[1:]
    store_something(node)
    node.kill()
    shutil.rmtree(node.data_dir / "engine")
    for _ in range(2):
        node.start()
        node.wait_until_ready()
        node.kill()
    assert node.output.count("engine lost") == 1
    assert "founded_groups=0" in node.output
    with Client([other.grpc for other in others]) as client:
        assert client.get(b"7").value == b"v"
        assert len(client.topology().nodes) == 3


def test_a_wiped_disk_of_a_cluster_of_one_is_not_started_anew(tmp_path: Path) -> None:
    """There is nobody to be rebuilt from: it says DATA_LOSS, and how to go on."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        store_something(node)
        node.kill()
        shutil.rmtree(node.data_dir / "engine")
        node.start()
        assert node.wait() == 1
    assert "DATA_LOSS: the engine in" in node.output
    assert "ringhold recover --unsafe" in node.output
