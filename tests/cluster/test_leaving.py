"""Real processes that are told to stop: what their StatefulSet wants decides whether they leave for good."""

import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.fake_kubernetes import FakeKubernetes, fake_kubernetes, status
from support.nodes import NodeProcess, node_processes, running, wait_until
from support.stopped_nodes import write_to

from ringhold import ChangeRefused, Client
from ringhold.node.storage.envelope import seal
from ringhold.node.storage.folder import IDENTITY_FILE, DataFolder, Identity
from ringhold.node.storage.opening import open_engine
from ringhold.node.topology_store import TOPOLOGY_KEY, stored_topology
from ringhold.ring.changes import remove

KEYS = [b"%d" % number for number in range(100)]
LEAVE_S = 90.0
SET = "node"
"""What comes before the ordinals of node-1, node-2 and node-3."""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with fake_kubernetes(tmp_path / "account") as server:
        server.scale(3, SET, start=1)
        yield server


@pytest.fixture
def pods(tmp_path: Path, fake: FakeKubernetes) -> Iterator[Sequence[NodeProcess]]:
    """Three nodes that ask the API server."""
    with running(asking(fake, tmp_path / "pods", 3)) as nodes:
        yield nodes


def asking(fake: FakeKubernetes, folder: Path, count: int, **variables: str) -> Sequence[NodeProcess]:
    """As many nodes that ask the API server, which wants them all."""
    fake.scale(count, SET, start=1)
    nodes = node_processes(folder, count, fake.arguments)
    for node in nodes:
        node.variables = {**fake.variables, **variables}
    return nodes


def identity_of(node: NodeProcess) -> Identity:
    folder = DataFolder(node.data_dir)
    try:
        identity = folder.identity()
        assert identity is not None
        return identity
    finally:
        folder.close()


def test_a_pod_that_is_wanted_restarts(fake: FakeKubernetes, pods: Sequence[NodeProcess]) -> None:
    """It asks once, drains, exits with 0, and comes back as the same node."""
    node = pods[2]
    assert node.terminate() == 0
    before = identity_of(node)
    assert not before.left
    assert len(fake.paths) == 1
    assert "stops node=node-3 ending=restart" in node.output
    node.start()
    node.wait_until_ready()
    assert node.terminate() == 0
    assert identity_of(node).node_id == before.node_id


def test_a_pod_that_can_not_ask_restarts_and_says_so(fake: FakeKubernetes, pods: Sequence[NodeProcess]) -> None:
    """Without the permission nobody leaves for good; the log says which one is missing."""
    fake.always = status(403)
    node = pods[2]
    assert node.terminate() == 0
    assert not identity_of(node).left
    assert "warning node ending unknown" in node.output
    assert "403" in node.output


@pytest.mark.long
def test_pods_leave_for_good_and_come_back_as_new_nodes(fake: FakeKubernetes, tmp_path: Path) -> None:
    """Scaled from seven to three in one step: nothing is lost, all four exit with 0; scaled up, the four are new."""
    with running(asking(fake, tmp_path / "pods", 7)) as pods:
        stay, leave = pods[:3], pods[3:]
        with Client([node.grpc for node in stay]) as client:
            for key in KEYS:
                client.set(key, b"v")
            former = [identity["node_id"] for identity in map(read_identity, leave)]
            fake.scale(3, SET)
            for node in leave:
                node.signal(signal.SIGTERM)
            wait_until(lambda: not any(node.is_running for node in leave), "the four have left", LEAVE_S)
            assert [node.wait() for node in leave] == [0] * 4
            assert all(identity_of(node).left for node in leave)
            assert {client.get(key).value for key in KEYS} == {b"v"}
            wait_until(lambda: states_of(client) == dict.fromkeys(names(stay), "NORMAL"), "only three are left")
            fake.scale(7, SET)
            for node in leave:
                node.start()
            for node in leave:
                node.wait_until_ready()
            wait_until(lambda: states_of(client) == dict.fromkeys(names(pods), "NORMAL"), "all have a share", LEAVE_S)
            assert not {node["node_id"] for node in map(read_identity, leave)}.intersection(former)


def names(nodes: Sequence[NodeProcess]) -> list[str]:
    return [node.name for node in nodes]


def states_of(client: Client) -> dict[str, str]:
    """The nodes that are in, by name."""
    return {node.name: node.state for node in client.topology().nodes if node.state != "REMOVED"}


def read_identity(node: NodeProcess) -> dict[str, str]:
    """Of a node that may run."""
    identity: dict[str, str] = json.loads((node.data_dir / IDENTITY_FILE).read_bytes())["identity"]
    return identity


@pytest.fixture(params=[1_000])
def slow(fake: FakeKubernetes, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sequence[NodeProcess]]:
    """Four nodes with half a megabyte of records, which take minutes to move, unless a test wants it faster."""
    throttled = {"RINGHOLD_SNAPSHOT_BYTES_PER_S_MAX": str(request.param)}
    with running(asking(fake, tmp_path / "pods", 4, **throttled)) as nodes:
        with Client([node.grpc for node in nodes]) as client:
            for key in KEYS:
                client.set(key, b"v" * 5_000)
        yield nodes


def test_a_pod_that_leaves_serves_on_until_it_is_wanted_again(
    fake: FakeKubernetes, slow: Sequence[NodeProcess]
) -> None:
    """It stays ready while it leaves; the set grows again, and the cluster keeps it: it restarts with all it has."""
    node = slow[3]
    fake.scale(3, SET)
    node.signal(signal.SIGTERM)
    with Client([slow[0].grpc]) as client:
        wait_until(lambda: states_of(client)["node-4"] == "LEAVING", "it leaves")
        assert node.is_ready()
        with Client([node.grpc]) as through_it:
            through_it.set(b"k", b"v")
            assert through_it.get(b"k").value == b"v"
        fake.scale(4, SET)
        assert node.wait() == 0
        assert states_of(client)["node-4"] in {"JOINING", "NORMAL"}
    assert "stays node=node-4" in node.output
    assert not identity_of(node).left
    node.start()
    node.wait_until_ready()


def test_a_second_signal_ends_a_leave_and_the_others_finish_it(
    fake: FakeKubernetes, slow: Sequence[NodeProcess]
) -> None:
    """It drains and exits at once; the topology goes on to say that it leaves."""
    node = slow[3]
    fake.scale(3, SET)
    node.signal(signal.SIGTERM)
    with Client([slow[0].grpc]) as client:
        wait_until(lambda: states_of(client)["node-4"] == "LEAVING", "it leaves")
        assert node.terminate() == 0
        assert not identity_of(node).left
        assert states_of(client)["node-4"] == "LEAVING"


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Sequence[NodeProcess]]:
    """Four nodes that ask nobody."""
    with running(node_processes(tmp_path / "four", 4)) as nodes:
        yield nodes


@pytest.mark.parametrize("slow", [100_000], indirect=True)
def test_a_pod_that_is_killed_while_it_leaves_is_finished_by_the_others(
    fake: FakeKubernetes, slow: Sequence[NodeProcess]
) -> None:
    """The end of the grace period: the others remove it; when it is back it hears so, and its next start is new."""
    node, rest = slow[3], slow[:3]
    fake.scale(3, SET)
    node.signal(signal.SIGTERM)
    with Client([each.grpc for each in rest]) as client:
        wait_until(lambda: states_of(client)["node-4"] == "LEAVING", "it leaves")
        node.kill()
        wait_until(lambda: states_of(client) == dict.fromkeys(names(rest), "NORMAL"), "it is removed", LEAVE_S)
        assert {client.get(key).value for key in KEYS} == {b"v" * 5_000}
        check_is_out(node)
        fake.scale(4, SET)
        node.start()
        node.wait_until_ready()
        wait_until(lambda: states_of(client).keys() == set(names(slow)), "it is in again")


def check_is_out(node: NodeProcess) -> None:
    """A start of a node that was removed meanwhile ends with 0."""
    assert not identity_of(node).left
    node.start()
    assert node.wait() == 0
    assert "has left" in node.output
    assert identity_of(node).left


def test_a_node_that_was_removed_by_force_while_it_was_away_ends_when_it_is_back(four: Sequence[NodeProcess]) -> None:
    """It knows nothing of it, and takes itself for a member, until it has heard of the newest epoch."""
    node, rest = four[3], four[:3]
    node.kill()
    with Client([each.grpc for each in rest]) as client:
        wait_until(lambda: is_removed(client, "node-4"), "the leader, who may hear of it last, is sure of its death")
        client.remove_node("node-4")
        wait_until(lambda: states_of(client).keys() == set(names(rest)), "it is removed")
    check_is_out(node)


def test_a_node_that_is_decommissioned_by_command_ends_by_itself(four: Sequence[NodeProcess]) -> None:
    """No signal is needed: when its last replica has moved it marks its folder, drains and exits with 0."""
    node = four[3]
    with Client([four[0].grpc]) as client:
        client.decommission("node-4")
    assert node.wait(LEAVE_S) == 0
    assert identity_of(node).left


def is_removed(client: Client, name: str) -> bool:
    """Whether the order to give it up is accepted: not as long as the node may be alive."""
    try:
        client.remove_node(name)
    except ChangeRefused:
        return False
    return True


def test_all_pods_stop_when_none_is_wanted(fake: FakeKubernetes, pods: Sequence[NodeProcess]) -> None:
    """`kubectl scale --replicas=0` keeps everything: they are back with it when they are wanted again."""
    with Client([node.grpc for node in pods]) as client:
        client.set(b"k", b"v")
    fake.scale(0, SET)
    for node in pods:
        node.signal(signal.SIGTERM)
    assert [node.wait() for node in pods] == [0, 0, 0]
    assert not any(identity_of(node).left for node in pods)
    fake.scale(3, SET)
    for node in pods:
        node.start()
    for node in pods:
        node.wait_until_ready()
    with Client([pods[0].grpc]) as client:
        assert client.get(b"k").value == b"v"


def remove_on_disk(node: NodeProcess) -> None:
    """As if the node had been killed right after it had adopted a topology without it."""
    identity = identity_of(node)
    engine = open_engine(identity.engine, node.data_dir / "engine")
    topology = stored_topology(engine, TOPOLOGY_KEY)
    engine.close()
    assert topology is not None
    with write_to(node.data_dir / "engine", identity.engine) as (_, batch):
        batch.put(TOPOLOGY_KEY, seal(remove(topology, identity.node_id).to_json()))


def test_a_node_that_was_removed_ends_and_the_next_start_is_a_new_node(three: Sequence[NodeProcess]) -> None:
    """No signal is needed: it marks its folder and exits with 0; the next one has another id, and none of its rows."""
    node = three[2]
    with Client([each.grpc for each in three]) as client:
        client.set(b"k", b"v")
    node.kill()
    former = identity_of(node)
    remove_on_disk(node)
    node.start()
    assert node.wait() == 0
    assert "has left node=node-3" in node.output
    assert identity_of(node).left
    node.start()
    wait_until(lambda: "new node former=" in node.output, "it is a new node")
    wait_until(lambda: node.http_status("/health/live") == 200, "it lives")
    node.kill()
    fresh = identity_of(node)
    assert fresh.node_id != former.node_id
    assert (fresh.former, fresh.cluster_id, fresh.generation) == (former.node_id, "", 1)
    assert (node.data_dir / f"engine.left-{former.generation + 1}").is_dir()
