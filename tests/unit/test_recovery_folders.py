"""Plans are carried out on real folders, with both engines: durable, repeatable, on nothing but what was planned."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.stopped_nodes import ENTRIES, GROUP, NEW, OLD, change, entry_at, known_topology, make_node, write_to

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node import keyspace
from ringhold.node.consensus.configuration import Configuration
from ringhold.node.machine.machine import load_state
from ringhold.node.machine.topology_machine import load_topology
from ringhold.node.recovery.application import apply
from ringhold.node.recovery.inspection import FolderUnfit, StoppedNode, inspect, stopped_node
from ringhold.node.recovery.planning import plan_recovery
from ringhold.node.recovery.plans import Fate, Plan
from ringhold.node.recovery.reports import Health
from ringhold.node.recovery.unfinished import drop_plan, keep_plan, unfinished_plan
from ringhold.node.storage.engine import Engine
from ringhold.node.storage.envelope import seal, unseal
from ringhold.node.storage.folder import DataFolder
from ringhold.node.topology_store import FOUNDING_KEY, TOPOLOGY_KEY, stored_topology
from ringhold.ring.topology import SYSTEM_GROUP


@pytest.fixture(params=["sqlite", "rocksdb"])
def engine_kind(request: pytest.FixtureRequest) -> str:
    if request.param == "rocksdb":
        pytest.importorskip("rocksdict")
    return str(request.param)


def plan_of(paths: Sequence[Path], cluster_id: str = NEW, *, restart_empty: bool = False) -> Plan:
    with ExitStack() as stack:
        nodes = [stack.enter_context(stopped_node(path)) for path in paths]
        return plan_recovery([inspect(node) for node in nodes], cluster_id, restart_empty=restart_empty)


def carry_out(path: Path, plan: Plan) -> None:
    with stopped_node(path) as node:
        asyncio.run(apply(node, plan))


def test_the_survivor_becomes_a_cluster_of_its_own(tmp_path: Path, engine_kind: str) -> None:
    """Every record that names the cluster or its voters is changed, in one step; logs and votes stay."""
    path = make_node(tmp_path / "a", engine_kind)
    plan = plan_of([path])
    assert plan.groups[GROUP].fate is Fate.UNCERTAIN
    carry_out(path, plan)
    with stopped_node(path) as node:
        assert node.identity.cluster_id == node.topology.cluster_id == NEW
        assert stored_topology(node.engine, TOPOLOGY_KEY) == load_topology(node.engine) == plan.topology
        assert stored_topology(node.engine, FOUNDING_KEY) == replace(known_topology(), cluster_id=NEW)
        for group in (SYSTEM_GROUP, 1, 2):
            state = load_state(node.engine, group)
            assert Configuration.decode(state.configuration).voting_nodes == ("a",)
        assert load_state(node.engine, SYSTEM_GROUP).revision == 2
        copy = next(each for each in inspect(node).copies if each.group == GROUP)
        assert (copy.last_index, copy.applied_index) == (ENTRIES, 0)


def test_a_plan_may_be_carried_out_twice(tmp_path: Path, engine_kind: str) -> None:
    """The second time changes nothing, also if the first one ended between engine and identity."""
    path = make_node(tmp_path / "a", engine_kind)
    plan = plan_of([path])
    before = (path / "identity.json").read_bytes()
    carry_out(path, plan)
    after = (path / "identity.json").read_bytes()
    (path / "identity.json").write_bytes(before)
    with stopped_node(path) as node, pytest.raises(FolderUnfit, match="apply its plan again"):
        inspect(node)
    for _ in range(2):
        carry_out(path, plan)
        assert (path / "identity.json").read_bytes() == after


def test_a_stale_plan_is_refused(tmp_path: Path, engine_kind: str) -> None:
    """A node that ran, or whose engine has changed, since it was inspected is left as it is."""
    started, written = (make_node(tmp_path / name, engine_kind) for name in ("started", "written"))
    plans = [plan_of([started]), plan_of([written])]
    folder = DataFolder(started)
    folder.begin_generation()
    folder.close()
    change(written, engine_kind, keyspace.log_key(GROUP, ENTRIES + 1), seal(entry_at(ENTRIES + 1)))
    for path, plan in zip((started, written), plans, strict=True):
        with pytest.raises(FolderUnfit, match="has changed since the plan was made"):
            carry_out(path, plan)
        with stopped_node(path) as node:
            assert node.topology.cluster_id == OLD


def test_a_plan_for_others_is_refused(tmp_path: Path) -> None:
    """For another node, for another cluster: neither is touched."""
    one, other = make_node(tmp_path / "a", "sqlite"), make_node(tmp_path / "b", "sqlite", "b")
    with pytest.raises(FolderUnfit, match="the plan is not for the node of"):
        carry_out(other, plan_of([one]))
    stranger = plan_of([one], "first-id")
    carry_out(one, plan_of([one]))
    with pytest.raises(FolderUnfit, match="the plan is for another cluster"):
        carry_out(one, stranger)


def test_folders_that_can_not_take_part_are_refused(tmp_path: Path) -> None:
    """No folder, no node's folder, one that is in use, one without its engine, one that is in no cluster."""
    with pytest.raises(FolderUnfit, match="is no node's data folder"), stopped_node(tmp_path / "absent"):
        pass
    assert not (tmp_path / "absent").exists()
    used = make_node(tmp_path / "used", "sqlite")
    holder = DataFolder(used)
    with pytest.raises(FolderUnfit, match=r"is in use by process .* stop the node first"), stopped_node(used):
        pass
    holder.close()
    for file in (used / "engine").iterdir():
        file.unlink()
    with pytest.raises(FolderUnfit, match="Nothing is left of what the node had"), stopped_node(used):
        pass
    new = DataFolder(tmp_path / "new")
    new.open_identity(name="n", cluster="c", engine="sqlite")
    new.close()
    with pytest.raises(FolderUnfit, match="never part of a cluster"), stopped_node(tmp_path / "new"):
        pass


def test_a_node_that_has_left_for_good_takes_no_part(tmp_path: Path, engine_kind: str) -> None:
    """What it still has was moved elsewhere, and has changed there since."""
    path = make_node(tmp_path / "left", engine_kind)
    folder = DataFolder(path)
    folder.mark_left()
    folder.close()
    with pytest.raises(FolderUnfit, match=r"has left its cluster for good: .*; leave it out"), stopped_node(path):
        pass


RECORDS = [
    (keyspace.vote_key(GROUP), Health.GONE, "checksum mismatch"),
    (keyspace.log_key(GROUP, 2), Health.GONE, "entry 2 of its log is damaged"),
    (keyspace.log_key(GROUP, ENTRIES + 3), Health.GONE, "its log has a gap before 8"),
    (keyspace.state_key(GROUP), Health.DAMAGED, "its state is damaged"),
    (keyspace.replica_key(GROUP), Health.GONE, "its record is damaged"),
]


@pytest.mark.parametrize(("key", "health", "reason"), RECORDS)
def test_damage_is_found(tmp_path: Path, key: bytes, health: Health, reason: str) -> None:
    """A damaged vote, log or record ends a replica; damaged rows do not end its log. The reason is told."""
    path = make_node(tmp_path / "a", "sqlite")
    is_gap = reason.startswith("its log has a gap")
    change(path, "sqlite", key, seal(entry_at(9)) if is_gap else b"\x01damaged bytes")
    with stopped_node(path) as node:
        copy = next(each for each in inspect(node).copies if each.group == GROUP)
    assert copy.health is health
    assert reason in copy.reason


def test_a_replica_without_its_vote_is_gone(tmp_path: Path) -> None:
    """It has a record, so it had a vote, and may have given it."""
    path = make_node(tmp_path / "a", "sqlite")
    with write_to(path / "engine", "sqlite") as (_, batch):
        batch.delete(keyspace.vote_key(GROUP))
    with stopped_node(path) as node:
        copy = next(each for each in inspect(node).copies if each.group == GROUP)
    assert (copy.health, copy.number, copy.reason) == (Health.GONE, 0, "its vote is missing")


@pytest.mark.parametrize("status", [stored.REPLICA_STATUS_INSTALLING, stored.REPLICA_STATUS_GONE])
def test_a_lost_partition_leaves_a_tombstone(tmp_path: Path, engine_kind: str, status: int) -> None:
    """Without a healthy copy it is lost, under the id that was there, and what is on the disk stays."""
    path = make_node(tmp_path / "a", engine_kind)
    record = stored.ReplicaRecord(status=status, replica_id=4)  # type: ignore[arg-type]
    change(path, engine_kind, keyspace.replica_key(GROUP), seal(record.SerializeToString()))
    plan = plan_of([path])
    assert plan.groups[GROUP].fate is Fate.LOST
    carry_out(path, plan)
    with stopped_node(path) as node:
        left = record_of(node)
        assert (left.status, left.replica_id) == (stored.REPLICA_STATUS_GONE, 4)
        assert node.engine.get(keyspace.log_key(GROUP, 1)) is not None
        assert node.topology.targets[0] == ("a",)


def test_a_lost_partition_begins_anew(tmp_path: Path, engine_kind: str) -> None:
    """With --restart-empty nothing of the old copy is left, and the new one begins after all that it ever was."""
    path = make_node(tmp_path / "a", engine_kind)
    record = stored.ReplicaRecord(status=stored.REPLICA_STATUS_INSTALLING, replica_id=4)
    change(path, engine_kind, keyspace.replica_key(GROUP), seal(record.SerializeToString()))
    change(path, engine_kind, keyspace.vote_key(GROUP), seal(stored.HardState(term=1).SerializeToString()))
    change(path, engine_kind, keyspace.row_key(GROUP, b"half"), seal(b"installed"))
    carry_out(path, plan_of([path], restart_empty=True))
    with stopped_node(path) as node:
        begun = record_of(node)
        assert (begun.status, begun.replica_id) == (stored.REPLICA_STATUS_HEALTHY, ENTRIES + 1)
        assert dict(left_of(node.engine)).keys() == {
            keyspace.state_key(GROUP),
            keyspace.vote_key(GROUP),
            keyspace.replica_key(GROUP),
        }
        state = load_state(node.engine, GROUP)
        assert (state.applied_index, state.configuration_index) == (ENTRIES + 1, ENTRIES + 1)
        assert Configuration.decode(state.configuration).numbers == {"a": ENTRIES + 1}


def record_of(node: StoppedNode) -> stored.ReplicaRecord:
    sealed = node.engine.get(keyspace.replica_key(GROUP))
    assert sealed is not None
    return stored.ReplicaRecord.FromString(unseal(sealed))


def left_of(engine: Engine) -> Iterator[tuple[bytes, bytes]]:
    for start, end in keyspace.group_ranges(GROUP):
        yield from engine.scan(start, end, limit=1_000)


def test_what_was_cut_short_is_finished(tmp_path: Path, engine_kind: str) -> None:
    """Two folders, one of them changed: the plan is found again, and the other one is brought after."""
    paths = [make_node(tmp_path / name, engine_kind, name, entries=n) for name, n in (("a", 5), ("b", 7))]
    for path in paths:
        change(path, engine_kind, keyspace.vote_key(2), b"damaged")
    plan = plan_of(paths)
    with ExitStack() as stack:
        nodes = [stack.enter_context(stopped_node(path)) for path in paths]
        assert unfinished_plan(nodes) is None
        keep_plan(nodes, plan)
        assert unfinished_plan(nodes) is None
        asyncio.run(apply(nodes[1], plan))
    with ExitStack() as stack:
        nodes = [stack.enter_context(stopped_node(path)) for path in paths]
        assert unfinished_plan(nodes) == plan
        for node in nodes:
            asyncio.run(apply(node, plan))
    with ExitStack() as stack:
        nodes = [stack.enter_context(stopped_node(path)) for path in paths]
        assert unfinished_plan(nodes) is None
        drop_plan(nodes)
        assert {node.topology.cluster_id for node in nodes} == {NEW}
