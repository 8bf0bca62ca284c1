"""Carries a plan out on the folder of one stopped node: one atomic batch, synced, then the identity (DESIGN 8.6).

Repeating it is safe, after a crash at any step too: the engine's cluster id says whether the batch is written. What is
written, and why the survivors then agree, is in docs/protocols/recovery.md.
"""

import secrets
from dataclasses import replace

from ...api.proto.ringhold.storage.v1 import records_pb2 as stored
from ...ring.topology import SYSTEM_GROUP, Topology
from .. import keyspace
from ..consensus.configuration import Configuration
from ..consensus.log import received
from ..consensus.recovery import scanned_entries
from ..keyspace import Kind
from ..machine.records import record_bytes
from ..machine.topology_machine import TOPOLOGY_KEY as TOPOLOGY_ROW
from ..replica_record import GONE, HEALTHY, put_record
from ..snapshots.chunks import ranges_of
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import Damaged, seal, unseal
from ..storage.erasing import erase
from ..storage.health import stage_takeover, take_over
from ..storage.mark import new_engine_id
from ..storage.numbered import stored_position
from ..storage.reborn import REBORN_KEY, stored_reborn
from ..storage.scanning import scanned
from ..topology_store import FORMED_KEY, FOUNDING_KEY, TOPOLOGY_KEY
from .inspection import FolderUnfit, StoppedNode, inspect
from .plans import Fate, GroupPlan, Plan, Task

REASON = "the quorum was lost, and the cluster was recovered without it"


def check(node: StoppedNode, plan: Plan) -> bool:
    """Whether the plan is still to be written into the node's engine; False: it is there. Raises FolderUnfit."""
    path, identity = node.folder.path, node.identity
    if identity.node_id not in plan.fingerprints:
        raise FolderUnfit(f"the plan is not for the node of {path}, {identity.name}: that was not inspected for it")
    if identity.cluster_id not in ("", plan.previous_cluster_id, plan.cluster_id):
        raise FolderUnfit(f"the plan is for another cluster than that of {path}, with id {identity.cluster_id}")
    if node.topology.cluster_id == plan.cluster_id:
        return False
    if node.topology.cluster_id != plan.previous_cluster_id:
        raise FolderUnfit(
            f"the plan is for the cluster with id {plan.previous_cluster_id}, but {path} belongs to that with id "
            f"{node.topology.cluster_id}"
        )
    if inspect(node).fingerprint != plan.fingerprints[identity.node_id]:
        raise FolderUnfit(
            f"{path} has changed since the plan was made, for the node ran or was recovered: inspect all nodes again"
        )
    return True


async def apply(node: StoppedNode, plan: Plan) -> None:
    """Make the node part of the cluster that the plan describes, durably on return.

    Raises FolderUnfit, and then nothing was changed; EngineFailed or OSError, after which it may be tried again.
    """
    if check(node, plan):
        for group in plan.groups:
            if group.task_of(node.identity.node_id) in (Task.BEGIN, Task.BURY):
                # Given up anyway; its log, vote and state go with the last batch.
                await erase(node.engine, ranges_of(group.group))
        batch = staged(node.engine, node.identity.node_id, plan)
        _stage_reborn(node.engine, plan.cluster_id, batch)
        stage_takeover(node.engine, _engine_id(node), batch)
        if node.founding is not None:
            founding = replace(node.founding, cluster_id=plan.cluster_id)
            batch.put(FOUNDING_KEY, seal(founding.to_json()))
        node.engine.write(batch)
        await node.engine.sync()
    if node.identity.cluster_id != plan.cluster_id:  # else it was done before, and the mark may know better by now
        position = stored_position(node.engine)
        assert position is not None, "the batch has one"
        take_over(node.folder, position)
    node.folder.change_cluster(plan.previous_cluster_id, plan.cluster_id)


def _stage_reborn(engine: Engine, cluster_id: str, batch: WriteBatch) -> None:
    """An engine that was begun anew remembers the only cluster that its node may return to."""
    try:
        reborn = stored_reborn(engine)
    except Damaged:
        return  # `stage_takeover` removes it
    if reborn is not None:
        batch.put(REBORN_KEY, replace(reborn, cluster_id=cluster_id).encode())


def _engine_id(node: StoppedNode) -> int | None:
    """A new one if the engine has lost something: the others may have heard how far it was."""
    if not node.loss:
        return None
    return new_engine_id(node.identity.generation, secrets.randbits, by_recovery=True)


def staged(engine: Engine, node_id: str, plan: Plan) -> WriteBatch:
    """All that changes on a node but the record of its founding, together."""
    batch = WriteBatch()
    for group in plan.groups:
        _stage_group(engine, node_id, group, plan.topology, batch)
    batch.put(TOPOLOGY_KEY, seal(plan.topology.to_json()))
    batch.put(FORMED_KEY, b"")
    return batch


def _stage_group(engine: Engine, node_id: str, group: GroupPlan, topology: Topology, batch: WriteBatch) -> None:
    number = group.copies[node_id].number if group.copies and node_id in group.copies else 0
    match group.task_of(node_id):
        case Task.KEEP:
            _stage_kept(engine, group, topology, batch)
        case Task.BEGIN:
            _stage_removal(engine, group.group, batch)
            _stage_begun(group, topology, batch)
        case Task.BURY:
            _stage_removal(engine, group.group, batch)
            _stage_tombstone(group.group, number, batch)
        case Task.MARK_LOST:
            _stage_tombstone(group.group, number, batch)


def _stage_kept(engine: Engine, group: GroupPlan, topology: Topology, batch: WriteBatch) -> None:
    """The state and every configuration in the log name the survivors. All survivors change the same entries alike."""
    sealed = engine.get(keyspace.state_key(group.group))
    assert sealed is not None, "a healthy copy has a state"
    state = stored.GroupState.FromString(unseal(sealed))
    state.configuration.CopyFrom(group.configuration.encode())
    _stage_state(state, group, topology, batch)
    for _, entry in scanned_entries(engine, group.group):
        if entry is not None and entry.content.HasField("configuration"):
            batch.put(keyspace.log_key(group.group, entry.index), seal(rewritten(entry.encoded, group.configuration)))


def rewritten(encoded: bytes, configuration: Configuration) -> bytes:
    """A log entry with another configuration; index, term and log time stay."""
    content = received(0, encoded).content
    content.configuration.CopyFrom(configuration.encode())
    return content.SerializeToString()


def _stage_begun(group: GroupPlan, topology: Topology, batch: WriteBatch) -> None:
    assert group.fate is Fate.RESTARTED
    state = stored.GroupState(
        applied_index=group.began,
        applied_term=group.began_term,
        revision=group.revision,
        configuration=group.configuration.encode(),
        configuration_index=group.began,
    )
    _stage_state(state, group, topology, batch)
    vote = stored.HardState(term=group.began_term)
    batch.put(keyspace.vote_key(group.group), seal(vote.SerializeToString()))
    put_record(batch, group.group, stored.ReplicaRecord(status=HEALTHY, replica_id=group.began))


def _stage_state(state: stored.GroupState, group: GroupPlan, topology: Topology, batch: WriteBatch) -> None:
    """The state; in the system group with the new topology, which is the same on all survivors at whatever index."""
    if group.group == SYSTEM_GROUP:
        row = stored.Row(value=topology.to_json(), version=group.revision, create_version=1)
        state.revision, state.keys, state.bytes = group.revision, 1, record_bytes(TOPOLOGY_ROW, row)
        batch.put(keyspace.row_key(SYSTEM_GROUP, TOPOLOGY_ROW), seal(row.SerializeToString()))
    batch.put(keyspace.state_key(group.group), seal(state.SerializeToString()))


def _stage_removal(engine: Engine, group: int, batch: WriteBatch) -> None:
    batch.delete(keyspace.state_key(group))
    batch.delete(keyspace.vote_key(group))
    for key, _ in scanned(engine, *keyspace.kind_range(Kind.LOG, group)):
        batch.delete(key)


def _stage_tombstone(group: int, number: int, batch: WriteBatch) -> None:
    put_record(batch, group, stored.ReplicaRecord(status=GONE, replica_id=number, reason=REASON))
