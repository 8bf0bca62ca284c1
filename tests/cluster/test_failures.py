"""Nodes that are killed, stopped, started twice, or started wrongly: nothing is lost, every error is clear."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.nodes import NodeProcess, free_ports, node_processes, running, wait_until

from ringhold import Client, Incomplete, RingholdError, Unavailable

RECORDS = 60


def client_of(nodes: Sequence[NodeProcess], timeout_s: float = 10.0) -> Client:
    return Client([node.grpc for node in nodes], timeout_s=timeout_s)


def fill(client: Client) -> dict[bytes, bytes]:
    stored = {b"key:%d" % number: b"value:%d" % number for number in range(RECORDS)}
    for key, value in stored.items():
        client.set(key, value, indexes={"parity": b"even" if value[-1] % 2 == 0 else b"odd"})
    return stored


def partitions_led_by(client: Client, name: str) -> set[int]:
    topology = client.topology()
    return {number for number, partition in enumerate(topology.partitions) if partition.leader == name}


def test_kill_9_of_every_node_loses_nothing_acknowledged(three: Sequence[NodeProcess]) -> None:
    """P1 for one replica: what was acknowledged is there after kill -9 of all and a restart, with its index entries."""
    with client_of(three) as client:
        stored = fill(client)
        for node in three:
            node.kill()
        for node in three:
            node.start()
        for node in three:
            node.wait_until_ready()
        assert {key: client.get(key).value for key in stored} == stored
        found = [match.key for parity in (b"even", b"odd") for match in client.find("parity", parity)]
        assert sorted(found) == sorted(stored)


def test_kill_9_under_load_loses_nothing_acknowledged(three: Sequence[NodeProcess]) -> None:
    """A writer that is interrupted by kill -9 finds every Set that returned before it."""
    acknowledged: dict[bytes, bytes] = {}
    stop = threading.Event()

    def write() -> None:
        with client_of(three, timeout_s=1.0) as client:
            number = 0
            while not stop.is_set():
                number += 1
                key, value = b"load:%d" % (number % 200), b"%d" % number
                try:
                    client.set(key, value)
                except RingholdError:
                    acknowledged.pop(key, None)
                else:
                    acknowledged[key] = value

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(acknowledged) >= 150, "150 keys are written")
    for node in three:
        node.kill()
    stop.set()
    writer.join()
    for node in three:
        node.start()
    for node in three:
        node.wait_until_ready()
    with client_of(three) as client:
        assert {key: client.get(key).value for key in acknowledged} == acknowledged


def test_the_partitions_of_a_dead_node_are_unavailable_and_named(three: Sequence[NodeProcess]) -> None:
    """With one replica, a dead node's keys answer Unavailable, queries name what is missing, the rest goes on (P5)."""
    with client_of(three) as client:
        stored = fill(client)
        owners = {key: client.explain(key).leader for key in stored}
        three[2].kill()
        lost = [key for key, owner in owners.items() if owner == three[2].name]
        kept = [key for key in stored if key not in lost]
        assert {key: client.get(key).value for key in kept} == {key: stored[key] for key in kept}
        with pytest.raises(Unavailable):
            client.get(lost[0], timeout_s=3.0)
        with pytest.raises(Incomplete) as caught:
            list(client.find("parity", b"even", timeout_s=3.0))
        assert len(caught.value.details["missing"].split(",")) >= 20
        partial = client.find("parity", b"even", allow_partial=True)
        assert {match.key for match in partial} == {key for key in kept if stored[key][-1] % 2 == 0}
        assert partial.missing_partitions
        three[2].start()
        three[2].wait_until_ready()
        assert {key: client.get(key).value for key in lost} == {key: stored[key] for key in lost}


def test_sigterm_drains_and_exits_with_0(three: Sequence[NodeProcess]) -> None:
    """A stop takes less than 5 s and ends with code 0."""
    with client_of(three) as client:
        fill(client)
        began = time.monotonic()
        assert [node.terminate() for node in three] == [0, 0, 0]
        assert time.monotonic() - began < 5 * len(three)
    assert all("stopped" in node.output for node in three)


def test_a_second_process_on_the_same_folder_refuses(tmp_path: Path) -> None:
    """The folder is locked; the error names the process that holds it."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        grpc, http = free_ports(2)
        second = NodeProcess("second", f"127.0.0.1:{grpc}", f"127.0.0.1:{http}", node.data_dir)
        second.start()
        assert second.wait() == 1
        assert node.process is not None
        assert f"in use by process {node.process.pid}" in second.output
        assert "Traceback" not in second.output


def test_an_occupied_port_is_named(tmp_path: Path) -> None:
    """The sentence names the port, for gRPC and HTTP alike."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        (free,) = free_ports(1)
        for number, (grpc, http, busy) in enumerate(
            ((node.grpc, f"127.0.0.1:{free}", node.grpc), (f"127.0.0.1:{free}", node.http, node.http))
        ):
            second = NodeProcess(f"busy-{number}", grpc, http, tmp_path / f"busy-{number}")
            second.start()
            assert second.wait() == 1
            assert busy in second.output
            assert "in use" in second.output


def test_a_folder_of_another_cluster_or_engine_is_refused(tmp_path: Path) -> None:
    """A data folder belongs to one cluster name and one engine for ever."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        pass
    for flags, belongs in (
        (["--cluster", "other"], "cluster 'ringhold'"),
        (["--engine", "rocksdb"], "engine 'sqlite'"),
    ):
        node.arguments = flags
        node.start()
        assert node.wait() == 1
        assert belongs in node.output


def test_an_unknown_engine_is_a_usage_error(tmp_path: Path) -> None:
    """The error names the engines that there are."""
    (node,) = node_processes(tmp_path, 1, ["--engine", "leveldb"])
    node.start()
    assert node.wait() == 2
    assert "sqlite" in node.output
    assert "rocksdb" in node.output


def test_nodes_of_another_cluster_id_are_told_apart(tmp_path: Path) -> None:
    """Two clusters of one name whose addresses get mixed up never merge (P10)."""
    first, second = (node_processes(tmp_path / name, 1)[0] for name in ("a", "b"))
    with running([first, second]):
        pass
    second.arguments = ["--seeds", f"{first.http},{second.http}"]
    with running([first, second]), client_of([second]) as client:
        wait_until(lambda: "other cluster" in second.output, "the foreign seed is reported")
        assert len(client.topology().nodes) == 1


def test_a_later_node_joins_as_a_gateway(three: Sequence[NodeProcess], tmp_path: Path) -> None:
    """A node that starts later becomes JOINING in epoch 2 everywhere, owns nothing, and answers for every key."""
    grpc, http = free_ports(2)
    fourth = NodeProcess(
        "node-4", f"127.0.0.1:{grpc}", f"127.0.0.1:{http}", tmp_path / "node-4", ["--seeds", three[0].http]
    )
    with running([fourth]), client_of(three) as client, client_of([fourth]) as newcomer:
        stored = fill(client)
        assert {key: newcomer.get(key).value for key in stored} == stored
        wait_until(lambda: client.topology().epoch == 2, "epoch 2 is known")
        states = {node.name: node.state for node in newcomer.topology().nodes}
        assert states == {"node-1": "NORMAL", "node-2": "NORMAL", "node-3": "NORMAL", "node-4": "JOINING"}


def test_a_copied_folder_is_recognised(tmp_path: Path) -> None:
    """Two processes on copies of one disk: the copy stops and says why (DESIGN section 6)."""
    nodes = node_processes(tmp_path, 2)
    with running(nodes):
        nodes[1].kill()
        copy_folder = tmp_path / "copy"
        shutil.copytree(nodes[1].data_dir, copy_folder)
        nodes[1].start()
        nodes[1].wait_until_ready()
        grpc, http = free_ports(2)
        copy = NodeProcess("node-2", f"127.0.0.1:{grpc}", f"127.0.0.1:{http}", copy_folder, nodes[1].arguments)
        copy.log = tmp_path / "copy.log"
        copy.start()
        wait_until(lambda: not copy.is_running or not nodes[1].is_running, "one of the two stops")
        output = copy.output if not copy.is_running else nodes[1].output
        assert "copy" in output
        if copy.is_running:
            copy.kill()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A device of its own, that a test may fill or make read-only."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no right to mount: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small device")
def test_a_full_disk_stops_the_node_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """ENOSPC ends the node with a clear error; with space again, every acknowledged write is there."""
    with small_disk(tmp_path / "disk", "6m") as disk:
        (node,) = node_processes(disk, 1)
        node.log = tmp_path / "full.log"
        acknowledged = {}
        with running([node]), client_of([node], timeout_s=2.0) as client:
            for number in range(10_000):
                key, value = b"%d" % number, os.urandom(20_000)
                try:
                    client.set(key, value)
                except RingholdError:
                    break
                acknowledged[key] = value
            assert node.wait() == 1
        assert acknowledged
        assert "space" in node.output
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        with running([node]), client_of([node]) as client:
            assert {key: client.get(key).value for key in acknowledged} == acknowledged


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small device")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """A folder that can't be written ends the start with one sentence."""
    with small_disk(tmp_path / "disk", "6m") as disk:
        (node,) = node_processes(disk, 1)
        node.log = tmp_path / "read-only.log"
        with running([node]):
            pass
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        node.start()
        assert node.wait() == 1
        assert "read-only" in node.output
        assert "Traceback" not in node.output
