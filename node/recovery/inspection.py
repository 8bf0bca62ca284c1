"""Opens the folder of a stopped node, and finds out what it has of each group. Changes nothing in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import DecodeError

from ...api.proto.ringhold.storage.v1 import records_pb2 as stored
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, Topology
from .. import keyspace
from ..consensus.recovery import ReplicaLost, recovered
from ..keyspace import Kind
from ..machine.topology_machine import load_topology
from ..replica_record import load_record
from ..storage.engine import Engine, EngineDamaged, EngineFailed
from ..storage.envelope import Damaged, unseal
from ..storage.folder import IDENTITY_FILE, DataFolder, FolderError, Identity
from ..storage.health import damage_noted, loss_of, mark_of
from ..storage.opening import EngineUnavailable, open_engine
from ..storage.scanning import scanned
from ..topology_store import FOUNDING_KEY, TOPOLOGY_KEY, stored_topology
from .reports import Copy, Health, NodeReport

HEALTH = {
    stored.REPLICA_STATUS_HEALTHY: Health.HEALTHY,
    stored.REPLICA_STATUS_DAMAGED: Health.DAMAGED,
    stored.REPLICA_STATUS_INSTALLING: Health.INSTALLING,
    stored.REPLICA_STATUS_GONE: Health.GONE,
}


NOTHING_LEFT = (
    "Nothing is left of what the node had: leave it out. If there is no other node to recover from, all is lost; to "
    "begin anew, empty, remove the folder and start the node"
)


class FolderUnfit(Exception):
    """A folder that can't take part in a recovery; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class StoppedNode:
    """The folder of a node that does not run, locked, and its engine, open."""

    folder: DataFolder
    identity: Identity
    engine: Engine
    topology: Topology
    founding: Topology | None
    loss: str
    """Why the engine is not what the node has left; empty: it is."""


@contextmanager
def stopped_node(path: Path) -> Iterator[StoppedNode]:
    """Holds the folder for the block. Raises FolderUnfit: it is no node's, the node runs, or has lost its engine."""
    if not (path / IDENTITY_FILE).is_file():
        raise FolderUnfit(f"{path} is no node's data folder: there is no {IDENTITY_FILE} in it")
    try:
        folder = DataFolder(path)
    except FolderError as error:
        raise FolderUnfit(f"{error}: stop the node first, and all others of its cluster") from error
    try:
        with _opened(folder) as node:
            yield node
    except (EngineFailed, EngineUnavailable, FolderError) as error:
        raise FolderUnfit(f"{path}: {error}") from error
    finally:
        folder.close()


@contextmanager
def _opened(folder: DataFolder) -> Iterator[StoppedNode]:
    identity = folder.identity()
    assert identity is not None, "the identity file was there a moment ago"
    if identity.left:
        raise FolderUnfit(
            f"the node of {folder.path} has left its cluster for good: its copies were given up, or replaced, and "
            "count for nothing; leave it out"
        )
    if not folder.engine_path.is_dir() or not any(folder.engine_path.iterdir()):
        raise _empty(folder.path, identity)
    try:
        engine = open_engine(identity.engine, folder.engine_path)
    except EngineDamaged as damage:
        raise FolderUnfit(f"the engine of {folder.path} can't be read: {damage}. {NOTHING_LEFT}") from damage
    try:
        topology, founding = _topologies(engine, folder.path)
        if topology is None:
            raise _empty(folder.path, identity)
        yield StoppedNode(folder, identity, engine, topology, founding, loss_found(folder, identity, engine))
    finally:
        engine.close()


def loss_found(folder: DataFolder, identity: Identity, engine: Engine) -> str:
    """What a start of the node would find wrong with its engine; empty: nothing."""
    note = damage_noted(folder)
    if note:
        return note
    loss = loss_of(engine, mark_of(folder), identity.cluster_id)
    return loss.reason if loss is not None else ""


def _empty(path: Path, identity: Identity) -> FolderUnfit:
    if identity.cluster_id:
        return FolderUnfit(f"the engine of {path} is empty. {NOTHING_LEFT}")
    return FolderUnfit(f"{path} belongs to a node that was never part of a cluster: leave it out")


def _topologies(engine: Engine, path: Path) -> tuple[Topology | None, Topology | None]:
    """The newest that the node knows, which it has adopted or has in the system group, and that of the founding."""
    try:
        known, founding = (stored_topology(engine, key) for key in (TOPOLOGY_KEY, FOUNDING_KEY))
    except (Damaged, InvalidTopology) as error:
        raise FolderUnfit(f"the topology in {path} is damaged: {error}. Leave the node out") from error
    row = _system_topology(engine)
    if known is None or row is None or row.cluster_id != known.cluster_id:
        return known, founding
    return max(known, row, key=lambda topology: topology.epoch), founding


def _system_topology(engine: Engine) -> Topology | None:
    """None if the system group is not here, or its row is damaged, which its copy's health says."""
    try:
        return load_topology(engine)
    except (Damaged, DecodeError, InvalidTopology):
        return None


def inspect(node: StoppedNode) -> NodeReport:
    """What the node has. Reads votes, states and whole logs; rows are not read, damage in them is found later.

    Raises FolderUnfit if the node is between two clusters.
    """
    if node.identity.cluster_id not in ("", node.topology.cluster_id):
        raise FolderUnfit(
            f"the identity of {node.folder.path} and its engine are of two clusters. If a recovery was cut short here, "
            "apply its plan again; else the folder was put together from two: leave the node out"
        )
    return NodeReport(
        node_id=node.identity.node_id,
        name=node.identity.name,
        cluster_id=node.topology.cluster_id,
        engine=node.identity.engine,
        generation=node.identity.generation,
        topology=node.topology,
        copies=tuple(
            replace(inspect_copy(node.engine, node.identity.node_id, group), loss=node.loss)
            for group in groups_met(node.engine)
        ),
        loss=node.loss,
    )


def groups_met(engine: Engine) -> list[int]:
    """The groups that have, or had, a replica here, ascending."""
    return sorted({*_groups_with(engine, Kind.STATE), *_groups_with(engine, Kind.REPLICA)})


def _groups_with(engine: Engine, kind: Kind) -> Iterator[int]:
    start, (_, end) = keyspace.prefix(kind, 0), keyspace.kind_range(kind, keyspace.GROUP_MAX)
    return (keyspace.group_of(key) for key, _ in scanned(engine, start, end))


def inspect_copy(engine: Engine, node_id: str, group: int) -> Copy:
    """What a node has of a group. What can't be read makes the copy one that is gone, or damaged if it is the rows."""
    try:
        record = load_record(engine, group)
    except (Damaged, DecodeError) as error:
        return Copy(group, Health.GONE, 0, f"its record is damaged: {error}")
    if record is None:
        return Copy(group, Health.GONE, 0, "its record is missing")
    health = HEALTH.get(record.status, Health.GONE)
    if health is Health.GONE:
        return Copy(group, health, record.replica_id, record.reason)
    try:
        return _readable_copy(engine, group, health, record)
    except (DecodeError, ReplicaLost) as error:
        return Copy(group, Health.GONE, record.replica_id, str(error))


def _readable_copy(engine: Engine, group: int, health: Health, record: stored.ReplicaRecord) -> Copy:
    """Raises ReplicaLost."""
    state, reason = _state(engine, group) if health is Health.HEALTHY else (record.before, record.reason)
    if health is Health.HEALTHY and reason:
        health = Health.DAMAGED
    found = recovered(engine, group, record, state)
    return Copy(
        group=group,
        health=health,
        number=record.replica_id,
        reason=reason,
        applied_index=state.applied_index,
        last_index=found.log.last_index,
        last_term=found.log.last_term,
        term=found.hard_state.term,
        revision=state.revision,
        configuration=found.configurations[-1][1],
    )


def _state(engine: Engine, group: int) -> tuple[stored.GroupState, str]:
    """The stored state, and why it can't be used (empty: it can)."""
    sealed = engine.get(keyspace.state_key(group))
    if sealed is None:
        return stored.GroupState(), "it has no state"
    try:
        state = stored.GroupState.FromString(unseal(sealed))
        if group == SYSTEM_GROUP and load_topology(engine) is None:
            return state, "its topology is missing"
    except (Damaged, DecodeError, InvalidTopology) as error:
        return stored.GroupState(), f"its state is damaged: {error}"
    return state, "" if state.configuration.voters else "its state has no configuration"
