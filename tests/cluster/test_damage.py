"""Real nodes whose files were damaged while they were down: what they serve, and what a scrub says."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.nodes import NodeProcess, metrics_of, node_processes, running, wait_until

from ringhold.api.client import Client
from ringhold.node import keyspace

KEYS = [f"key:{number}" for number in range(40)]


def damage_rows(data_dir: Path) -> int:
    """Flip a bit in every record that a stopped node has stored; how many there were."""
    with sqlite3.connect(next(data_dir.rglob("rows.sqlite"))) as database:
        kind = bytes([keyspace.Kind.ROW])
        rows = database.execute("SELECT key, value FROM rows WHERE key >= ? AND key < ?", (kind, b"\x06")).fetchall()
        records = [(key, value) for key, value in rows if keyspace.group_of(key)]
        for key, value in records:
            damaged = value[:-1] + bytes([value[-1] ^ 1])
            database.execute("UPDATE rows SET value = ? WHERE key = ?", (damaged, key))
    database.close()
    return len(records)


def ringhold(*arguments: str, endpoint: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "ringhold", *arguments, "--endpoints", endpoint]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def fill(nodes: Sequence[NodeProcess]) -> None:
    with Client([node.grpc for node in nodes]) as client:
        for key in KEYS:
            client.set(key, b"v" * 100, indexes={"i": "x"})


def test_damaged_rows_of_a_node_are_served_by_the_others(three: Sequence[NodeProcess]) -> None:
    """Through any gateway, before and after the scrub that names the damage; reads and queries are whole."""
    fill(three)
    assert three[0].terminate() == 0
    assert damage_rows(three[0].data_dir) == len(KEYS)
    three[0].start()
    three[0].wait_until_ready()
    for node in three:
        with Client([node.grpc]) as client:
            assert {client.get(key).value for key in KEYS[:10]} == {b"v" * 100}
            assert len(list(client.find("i", "x", with_records=True))) == len(KEYS)
    ended = ringhold("scrub", "--all", "-o", "json", endpoint=three[1].grpc)
    reports = {report["node"]: report for report in json.loads(ended.stdout)["nodes"]}
    assert {name: bool(report["damage"]) for name, report in reports.items()}.keys() == {"node-1", "node-2", "node-3"}
    assert reports["node-2"]["damage"] == reports["node-3"]["damage"] == []
    assert ended.returncode == (1 if reports["node-1"]["damage"] else 0)
    with Client([node.grpc for node in three]) as client:
        assert {client.get(key).value for key in KEYS} == {b"v" * 100}


def test_a_scrub_names_what_a_node_alone_has_lost(tmp_path: Path) -> None:
    """With one copy there is nothing to rebuild from: the damage is named, and the rest of the data is served."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        fill([node])
        clean = ringhold("scrub", endpoint=node.grpc)
        assert (clean.returncode, clean.stderr) == (0, b"")
        assert node.terminate() == 0
        damage_rows(node.data_dir)
        node.start()
        node.wait_until_ready()
        ended = ringhold("scrub", "--node", "node-1", endpoint=node.grpc)
        table = ended.stdout.decode()
        assert ended.returncode == 1, ended.stderr
        assert all(f"'{key}'" in table for key in KEYS)
        assert "kept: there is no other copy" in table
        lost = ringhold("get", KEYS[0], endpoint=node.grpc)
        assert (lost.returncode, b"only copy" in lost.stderr) == (1, True)
        assert ringhold("set", "new", "v", endpoint=node.grpc).returncode == 0
        assert b"has found damage" in ringhold("status", endpoint=node.grpc).stdout
        refused = ringhold("scrub", "--node", "node-9", endpoint=node.grpc)
        assert (refused.returncode, b"there are node-1" in refused.stderr) == (2, True)


def test_one_scrub_at_a_time_and_it_ends_with_its_caller(tmp_path: Path) -> None:
    """A second one is refused in a sentence; when the first one is gone, the next may begin."""
    (node,) = node_processes(tmp_path, 1)
    with running([node]):
        fill([node])
        command = [sys.executable, "-m", "ringhold", "scrub", "--rate", "1000", "--endpoints", node.grpc]
        slow = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: "ringhold_scrub_bytes_total 0.0" not in metrics_of(node), "the first one reads")
            refused = ringhold("scrub", endpoint=node.grpc)
            assert (refused.returncode, b"only one at a time" in refused.stderr) == (1, True)
        finally:
            slow.kill()
            slow.wait()
        wait_until(lambda: ringhold("scrub", endpoint=node.grpc).returncode == 0, "the next one runs")
        assert node.terminate() == 0
