"""Nodes that are killed, stopped, started twice, or started wrongly: nothing is lost, every error is clear."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.gateways import gateway
from support.nodes import NodeProcess, free_ports, metrics_of, node_processes, running, wait_until

from ringhold import Client, Incomplete, Overloaded, RingholdError, Unavailable
from ringhold.api.limits import MIB

RECORDS = 60
PARTITIONS = 64


def client_of(nodes: Sequence[NodeProcess], timeout_s: float = 10.0) -> Client:
    return Client([node.grpc for node in nodes], timeout_s=timeout_s)


def fill(client: Client) -> dict[bytes, bytes]:
    stored = {b"key:%d" % number: b"value:%d" % number for number in range(RECORDS)}
    for key, value in stored.items():
        client.set(key, value, indexes={"parity": b"even" if value[-1] % 2 == 0 else b"odd"})
    return stored


def test_kill_9_of_every_node_loses_nothing_acknowledged(three: Sequence[NodeProcess]) -> None:
    """P1: what was acknowledged is there after kill -9 of all and a restart, with its index entries."""
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


def test_one_dead_node_is_not_missed(three: Sequence[NodeProcess]) -> None:
    """With one of three dead, every key is read and written, queries are complete, and the node catches up (P6)."""
    with client_of(three) as client:
        stored = fill(client)
        three[2].kill()
        assert {key: client.get(key).value for key in stored} == stored
        stored |= {key: b"new" + value for key, value in stored.items()}
        for key, value in stored.items():
            client.set(key, value, indexes={"age": b"new"})
        assert {match.key for match in client.find("age", b"new")} == stored.keys()
        three[2].start()
        three[2].wait_until_ready()
    with client_of(three[2:]) as client:
        assert {key: client.get(key).value for key in stored} == stored


@pytest.mark.long
def test_without_a_majority_only_stale_reads_are_answered(three: Sequence[NodeProcess]) -> None:
    """With two of three dead nothing is written or read, and errors say what is missing (P5); the rest comes back."""
    with client_of(three) as client:
        stored = fill(client)
        wait_until(lambda: has_all(three[0], stored), "the follower has everything")
        for node in three[1:]:
            node.kill()
        # Not only without a lease: who still believes that it leads takes commands, and leaves them in doubt.
        leaderless = f"ringhold_leaderless {PARTITIONS + 1}.0"
        wait_until(lambda: leaderless in metrics_of(three[0]), "the last node knows of no leader")
        assert len(client.status().unavailable_partitions) == PARTITIONS
        for refused in (
            lambda: client.set(b"key:1", b"new", timeout_s=3.0),
            lambda: client.get(b"key:2", timeout_s=3.0),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                refused()
            assert time.monotonic() - began < 3.5
            told = caught.value
            assert (told.reason, told.details["needed"], told.details["alive"]) == ("NO_QUORUM", "2", "1")
        with pytest.raises(Incomplete) as incomplete:
            list(client.find("parity", b"even", timeout_s=3.0))
        assert len(incomplete.value.details["missing"].split(",")) == PARTITIONS
        records = {key: client.get(key, consistency="stale") for key in stored}
        assert {key: record.value for key, record in records.items()} == stored
        assert all(record.stale and record.behind_ms != 0 for record in records.values())
        for node in three[1:]:
            node.start()
        for node in three[1:]:
            node.wait_until_ready()
        assert {key: client.get(key).value for key in stored} == stored


def has_all(node: NodeProcess, stored: Mapping[bytes, bytes]) -> bool:
    """Whether the node's own replicas hold all of it."""
    with gateway(node.grpc) as asked:
        return all(asked.read_stale(key).value == value for key, value in stored.items())


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
    """ENOSPC ends a node without a reserve with a clear error; with space again, every acknowledged write is there."""
    with small_disk(tmp_path / "disk", "6m") as disk:
        (node,) = node_processes(disk, 1, ["--disk-reserve-bytes", "0"])
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
def test_below_the_reserve_a_node_takes_deletes_but_no_sets(tmp_path: Path) -> None:
    """A cluster of one whose device fills up goes on reading and deleting, and takes Sets again when there is room."""
    with small_disk(tmp_path / "disk", "48m") as disk:
        (node,) = node_processes(disk, 1, ["--disk-reserve-bytes", str(16 * MIB)])
        node.log = tmp_path / "short.log"
        with running([node]), client_of([node], timeout_s=0.5) as client:
            client.set(b"a", b"1")
            client.set(b"b", b"2")
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(36 * MIB))
            wait_until(lambda: "disk full" in node.output, "the node has noticed")
            with pytest.raises(Overloaded) as caught:
                client.set(b"c", b"3")
            assert caught.value.reason == "DISK_FULL"
            assert client.get(b"a").value == b"1"
            assert client.delete(b"b") > 0
            assert "ringhold_disk_full 1.0" in metrics_of(node)
            assert client.status().nodes[0].reluctant_for == ("disk full",)
            ballast.unlink()
            wait_until(lambda: "disk has room again" in node.output, "the node has noticed")
            client.set(b"c", b"3")
            assert node.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small device")
def test_a_node_whose_disk_runs_full_leads_nothing_until_there_is_room(tmp_path: Path) -> None:
    """No Set fails while leaderships go to nodes with room (P6); with room again they come back."""
    with small_disk(tmp_path / "disk", "48m") as disk:
        nodes = node_processes(tmp_path / "nodes", 3)
        full = nodes[0]
        full.data_dir = disk / full.name
        full.arguments = [*full.arguments, "--disk-reserve-bytes", str(16 * MIB)]
        with running(nodes), client_of(nodes) as client:
            wait_until(lambda: len(partitions_led_by(client, full.name)) >= 20, "the node leads its share")
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(34 * MIB))
            began, written = time.monotonic(), 0
            while partitions_led_by(client, full.name) or written < 100:
                client.set(b"key:%d" % (written % 100), b"%d" % written)
                written += 1
                assert time.monotonic() - began < 10
            for node in nodes:
                with client_of([node]) as lone:
                    lone.set(b"through " + node.name.encode(), b"1")
            ballast.unlink()
            wait_until(lambda: len(partitions_led_by(client, full.name)) >= 20, "the node leads its share again")
            assert client.get(b"key:%d" % ((written - 1) % 100)).value == b"%d" % (written - 1)


def partitions_led_by(client: Client, name: str) -> set[int]:
    topology = client.topology()
    return {number for number, partition in enumerate(topology.partitions) if partition.leader == name}


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
