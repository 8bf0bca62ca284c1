"""Real nodes lose the quorum for good, and `ringhold recover --unsafe` makes a cluster of the rest (DESIGN 8.6)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from support.gateways import Gateway, gateway
from support.nodes import NodeProcess, node_processes, running, wait_until

from ringhold import Client, KeyNotFound, RingholdError
from ringhold.node.storage.folder import DataFolder
from ringhold.ring.hashing import partition_of

KEYS = {b"key:%d" % number: b"value of %d" % number for number in range(120)}
INDEX = "tag"
TAG = b"all"


def ringhold(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ringhold", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)


def folders(nodes: Iterable[NodeProcess]) -> list[str]:
    return [word for node in nodes for word in ("--data-dir", str(node.data_dir))]


def load(node: NodeProcess, survivors: Iterable[NodeProcess] = ()) -> None:
    """Fill the cluster; on return the survivors have all of it, too, so that nothing can be lost with the others."""
    with Client([node.grpc], timeout_s=10.0) as client:
        for key, value in KEYS.items():
            client.set(key, value, indexes={INDEX: [TAG]})
    for survivor in survivors:
        with gateway(survivor.grpc) as asked:
            wait_until(partial(has_everything, asked), f"the replicas of {survivor.name} have everything")


def has_everything(asked: Gateway) -> bool:
    """Whether the gateway's own replicas, where it has one, and others elsewhere have applied all."""
    return all(asked.read_stale(key).value == value for key, value in KEYS.items())


def lose(nodes: Sequence[NodeProcess], lost: Sequence[NodeProcess]) -> None:
    """kill -9 all; the folders of the lost ones are put out of reach."""
    for node in nodes:
        node.kill()
    for node in lost:
        node.data_dir.rename(node.data_dir.with_suffix(".dead"))


def bring_back(node: NodeProcess) -> None:
    """The lost disk is found, and somebody starts the node with it, against all advice."""
    shutil.rmtree(node.data_dir, ignore_errors=True)
    node.data_dir.with_suffix(".dead").rename(node.data_dir)
    node.start()


def start(nodes: Iterable[NodeProcess]) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_ready()


def check_everything(node: NodeProcess) -> None:
    """All that was acknowledged is there, indexes are complete, writes are taken and counted on."""
    with Client([node.grpc], timeout_s=10.0) as client:
        assert {key: client.get(key).value for key in KEYS} == KEYS
        assert {match.key for match in client.find(INDEX, TAG)} == KEYS.keys()
        for key in KEYS:
            client.set(key, b"after", indexes={INDEX: [b"new"]})
        assert {match.key for match in client.find(INDEX, b"new")} == KEYS.keys()
        assert [match.key for match in client.find(INDEX, TAG)] == []


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("rocksdb", marks=pytest.mark.long)])
def test_the_last_of_three_goes_on_alone(tmp_path: Path, engine: str) -> None:
    """Two of three are lost, folders and all; the third, recovered, serves every acknowledged key and takes writes."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    nodes = node_processes(tmp_path, 3, ["--engine", engine, "--partitions", "16"])
    with running(nodes):
        *lost, survivor = nodes
        load(nodes[0], [survivor])
        lose(nodes, lost)
        before = ringhold("recover", *folders([survivor]))
        assert before.returncode == 2
        assert "nothing was changed" in before.stderr
        ended = ringhold("recover", "--unsafe", "--yes", *folders([survivor]))
        assert ended.returncode == 0, ended.stderr
        assert "may be lost: the replicas on" in ended.stdout
        assert "Never start them again" in ended.stdout
        start([survivor])
        check_everything(survivor)
        refused_when_back(lost[0], survivor)


def refused_when_back(dead: NodeProcess, survivor: NodeProcess) -> None:
    bring_back(dead)
    wait_until(lambda: "not in that with id" in dead.output.rpartition("other cluster")[2], "the returned node is told")
    with Client([survivor.grpc], timeout_s=10.0) as client:
        states = {each.node.name: each.node.state for each in client.status().nodes}
    assert states[dead.name] == "REMOVED"
    assert states[survivor.name] == "NORMAL"
    assert dead.http_status("/health/ready") == 503


@pytest.mark.long
def test_three_of_five_go_on_by_a_plan(tmp_path: Path) -> None:
    """Two of five are lost: by inspect, plan and apply the rest go on, most partitions with nothing lost."""
    nodes = node_processes(tmp_path, 5, ["--partitions", "32"])
    with running(nodes):
        survivors, lost = nodes[:3], nodes[3:]
        load(nodes[0], survivors)
        lose(nodes, lost)
        reports = [tmp_path / f"{node.name}.json" for node in survivors]
        for node, report in zip(survivors, reports, strict=True):
            report.write_text(ringhold("recover", "inspect", *folders([node])).stdout)
        made = ringhold("recover", "plan", "--unsafe", *map(str, reports))
        assert made.returncode == 0, made.stderr
        assert "nothing is lost" in made.stderr
        plan = tmp_path / "plan.json"
        plan.write_text(made.stdout)
        fates = [group["fate"] for group in json.loads(made.stdout)["content"]["groups"]]
        assert set(fates) == {"intact", "uncertain"}
        for node in survivors:
            ended = ringhold("recover", "apply", str(plan), "--yes", *folders([node]))
            assert ended.returncode == 0, ended.stderr
        start(survivors)
        for node in survivors:
            check_nothing_is_missing(node)
        check_everything(survivors[0])
        start_again(survivors)


def check_nothing_is_missing(node: NodeProcess) -> None:
    with Client([node.grpc], timeout_s=10.0) as client:
        assert {key: client.get(key).value for key in KEYS} == KEYS


def start_again(survivors: Sequence[NodeProcess]) -> None:
    """The recovered cluster is one like any other: it survives a crash of all."""
    for node in survivors:
        node.kill()
    start(survivors)
    with Client([survivors[-1].grpc], timeout_s=10.0) as client:
        assert {client.get(key).value for key in KEYS} == {b"after"}


def test_partitions_without_any_copy(tmp_path: Path) -> None:
    """With one replica each, two lost nodes take theirs along: they stay lost, or begin anew if that is wanted."""
    nodes = node_processes(tmp_path, 3, ["--partitions", "8", "--replication-factor", "1"])
    with running(nodes):
        *lost, survivor = nodes
        load(nodes[0])
        kept = keys_on(survivor)
        assert 0 < len(kept) < len(KEYS)
        lose(nodes, lost)
        ended = ringhold("recover", "--unsafe", "--yes", *folders([survivor]))
        assert ended.returncode == 0, ended.stderr
        assert "requests for it get DATA_LOSS" in ended.stdout
        start([survivor])
        with Client([survivor.grpc], timeout_s=1.0) as client:
            assert {client.get(key).value for key in kept} == {KEYS[key] for key in kept}
            with pytest.raises(RingholdError):
                client.get(min(KEYS.keys() - kept))
        survivor.terminate()
        ended = ringhold("recover", "--unsafe", "--restart-empty", "--yes", *folders([survivor]))
        assert ended.returncode == 0, ended.stderr
        start([survivor])
        with Client([survivor.grpc], timeout_s=10.0) as client:
            assert {match.key for match in client.find(INDEX, TAG)} == kept
        load(survivor)
        check_everything(survivor)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("rocksdb", marks=pytest.mark.long)])
def test_a_cluster_of_one_goes_on_with_what_its_engine_has_left(tmp_path: Path, engine: str) -> None:
    """Its log torn, it refuses to start, and names the command that gets it going again with all that is left."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    (node,) = node_processes(tmp_path, 1, ["--engine", engine, "--partitions", "8"])
    with running([node]):
        load(node)
        node.kill()
        tear_log(node.data_dir)
        node.start()
        assert node.wait() == 1
        assert "DATA_LOSS: the engine in" in node.output
        assert "ringhold recover --unsafe" in node.output
        ended = ringhold("recover", "--unsafe", "--yes", *folders([node]))
        assert ended.returncode == 0, ended.stderr
        assert f"The engine of {node.name} has lost data: the last" in ended.stdout
        start([node])
        left = what_is_left(node)
        assert 0 < len(left) < len(KEYS)
        assert left.items() <= KEYS.items()
        load(node)
        check_everything(node)
        node.kill()
        start([node])


def tear_log(folder: Path) -> None:
    """Spoil the engine's log in its middle: what follows is dropped without a word."""
    engine = folder / "engine"
    logs = [*engine.glob("*-wal"), *engine.glob("rows.rocksdb/*.log")]
    log = max(logs, key=lambda path: path.stat().st_size)
    content = bytearray(log.read_bytes())
    middle = len(content) * 4 // 5
    content[middle : middle + 64] = bytes(64)
    log.write_bytes(content)


def what_is_left(node: NodeProcess) -> dict[bytes, bytes]:
    left = {}
    with Client([node.grpc], timeout_s=10.0) as client:
        for key in KEYS:
            with suppress(KeyNotFound):
                left[key] = client.get(key).value
    return left


def test_an_engine_of_which_nothing_is_left(tmp_path: Path) -> None:
    """A cluster of one that has lost it all is told so, and how to begin anew."""
    (node,) = node_processes(tmp_path, 1, ["--partitions", "4"])
    with running([node]):
        load(node)
        node.kill()
        shutil.rmtree(node.data_dir / "engine")
        node.start()
        assert node.wait() == 1
        refused = ringhold("recover", "--unsafe", "--yes", *folders([node]))
        assert refused.returncode == 1
        assert "Nothing is left of what the node had" in refused.stderr
        assert "remove the folder and start the node" in " ".join(refused.stderr.split())
        shutil.rmtree(node.data_dir)
        start([node])
        load(node)
        check_everything(node)


def keys_on(node: NodeProcess) -> set[bytes]:
    """The keys of the partitions that the node leads."""
    with Client([node.grpc], timeout_s=10.0) as client:
        led = {each.number for each in client.topology().partitions if each.leader == node.name}
    return {key for key in KEYS if partition_of(key, 8) in led}


def test_a_node_that_runs_is_not_touched(tmp_path: Path) -> None:
    """A folder whose node runs, or whose cluster can go on, is refused, and the node serves on."""
    nodes = node_processes(tmp_path, 1, ["--partitions", "4"])
    with running(nodes):
        refused = ringhold("recover", "--unsafe", "--yes", *folders(nodes))
        assert refused.returncode == 1
        assert "is in use by process" in refused.stderr
        load(nodes[0])
        nodes[0].terminate()
        needless = ringhold("recover", "--unsafe", "--yes", *folders(nodes))
        assert needless.returncode == 1
        assert "Just start the nodes" in needless.stderr
        start(nodes)
        check_nothing_is_missing(nodes[0])
    assert DataFolder(nodes[0].data_dir).identity() is not None
