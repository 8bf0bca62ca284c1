"""The machine of the system group: the topology, changed by committed commands only (DESIGN section 5).

The topology is the one row of group 0. Each command names the epoch that it was made for and does nothing at another:
of two proposers that saw the same epoch only one succeeds, and a repetition does no harm.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from ...api.proto.ringhold.storage.v1.records_pb2 import GroupState, LogEntry, Row
from ...ring.changes import TopologyChange
from ...ring.topology import SYSTEM_GROUP, InvalidTopology, NodeRecord, NodeState, Topology
from ..keyspace import row_key
from ..replica_record import put_founding_replica
from ..storage.engine import WriteBatch
from ..storage.envelope import seal, unseal
from .machine import UnknownCommand, advance, founded_state, stage_state
from .records import record_bytes
from .staged import Reader, Staged

COMMAND_VERSION = 1
TOPOLOGY_KEY = b"topology"

_ROW_KEY = row_key(SYSTEM_GROUP, TOPOLOGY_KEY)
_COMMAND_FIELDS = {"version", *(field.name for field in fields(TopologyChange))}
_NODE_TYPES = {field.name: {"weight": int, "cordoned": bool}.get(field.name, str) for field in fields(NodeRecord)}


class TopologyVerdict(StrEnum):
    """What became of a command. `REFUSED`: the topology that it asks for would break a rule."""

    APPLIED = "applied"
    OTHER_EPOCH = "other_epoch"
    REFUSED = "refused"


def encode_change(change: TopologyChange) -> bytes:
    """A command for the log: UTF-8 JSON {"version": 1, field of TopologyChange: value, ...}."""
    command = {"version": COMMAND_VERSION, **asdict(change)}
    return json.dumps(command, sort_keys=True, separators=(",", ":")).encode()


def decode_change(encoded: bytes) -> TopologyChange:
    """The inverse of `encode_change`. Raises UnknownCommand. A leader calls it before it appends a command."""
    command = _command(encoded)
    try:
        return TopologyChange(
            epoch=_number(command["epoch"]),
            replication_factor=_number(command["replication_factor"]),
            nodes=tuple(_node(node) for node in command["nodes"]),
            targets=tuple((_number(partition), _ids(ids)) for partition, ids in command["targets"]),
            system_voters=_ids(command["system_voters"]),
            moving=tuple((_number(group), _ids(ids)) for group, ids in command["moving"]),
        )
    except (TypeError, ValueError) as error:
        raise UnknownCommand(f"a topology command of an unknown form: {error}") from error


@dataclass(frozen=True, slots=True)
class TopologyOutcome:
    """The verdict on a command, the epoch after it, and why it was refused (empty otherwise)."""

    verdict: TopologyVerdict
    epoch: int
    message: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def decode(encoded: bytes) -> "TopologyOutcome":
        """Raises ValueError, KeyError or TypeError for bytes that `encode` did not write."""
        outcome = json.loads(encoded)
        return TopologyOutcome(TopologyVerdict(outcome["verdict"]), outcome["epoch"], outcome["message"])


class TopologyMachine:
    """Applies changes to the topology. `state` is taken over and changed in place.

    `on_written` is called whenever `written` is: `topology` may be newer then, and this node may tell of it.
    """

    def __init__(self, state: GroupState, topology: Topology, on_written: Callable[[], None] | None = None) -> None:
        self.state = state
        self.topology = topology
        self._on_written = on_written

    def reads(self, index: int, entry: LogEntry) -> list[bytes]:
        """Nothing: the topology is in memory. The contract is on `Machine`."""
        return []

    def apply(self, index: int, entry: LogEntry, staged: Staged) -> list[bytes]:
        """Encoded TopologyOutcome per command. The contract is on `Machine`."""
        commands = [decode_change(encoded) for encoded in entry.commands]
        before = self.topology
        advance(self.state, index, entry)
        outcomes = [self._change(command).encode() for command in commands]
        if self.topology is not before:
            _count(self.state, self.topology)
            staged.put(_ROW_KEY, _stored(self.topology, self.state))
        stage_state(self.state, SYSTEM_GROUP, staged)
        return outcomes

    def written(self) -> None:
        """Tell whoever asked to hear. The contract is on `Machine`."""
        if self._on_written is not None:
            self._on_written()

    def _change(self, change: TopologyChange) -> TopologyOutcome:
        epoch = self.topology.epoch
        if change.epoch != epoch:
            return TopologyOutcome(TopologyVerdict.OTHER_EPOCH, epoch)
        try:
            self.topology = change.applied_to(self.topology)
        except InvalidTopology as error:
            return TopologyOutcome(TopologyVerdict.REFUSED, epoch, str(error))
        self.state.revision += 1
        return TopologyOutcome(TopologyVerdict.APPLIED, self.topology.epoch)


def found_system_group(topology: Topology, batch: WriteBatch) -> None:
    """Stage the system group as it is before its first entry: with its voters, and the topology of the founding."""
    state = founded_state(topology.system_voters)
    state.revision = 1
    _count(state, topology)
    batch.put(_ROW_KEY, _stored(topology, state))
    put_founding_replica(batch, SYSTEM_GROUP, state)


def load_topology(reader: Reader) -> Topology | None:
    """The stored topology, None if the system group is not here. Raises Damaged, InvalidTopology (newer form)."""
    stored = reader.get(_ROW_KEY)
    return None if stored is None else Topology.from_json(Row.FromString(unseal(stored)).value)


def _stored(topology: Topology, state: GroupState) -> bytes:
    row = Row(value=topology.to_json(), version=state.revision, create_version=1)
    return seal(row.SerializeToString())


def _count(state: GroupState, topology: Topology) -> None:
    state.keys = 1
    state.bytes = record_bytes(TOPOLOGY_KEY, Row(value=topology.to_json()))


def _command(encoded: bytes) -> dict[str, Any]:
    try:
        command = json.loads(encoded.decode())
    except (ValueError, RecursionError) as error:
        raise UnknownCommand("a topology command that is not JSON") from error
    if not isinstance(command, dict) or command.keys() != _COMMAND_FIELDS or command["version"] != COMMAND_VERSION:
        raise UnknownCommand("a topology command of an unknown form")
    return command


def _node(described: object) -> NodeRecord:
    """Raises ValueError."""
    if not isinstance(described, dict) or {name: type(value) for name, value in described.items()} != _NODE_TYPES:
        raise ValueError("its nodes are of another form")
    return NodeRecord(**{**described, "state": NodeState(described["state"])})


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a number")
    return value


def _ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError("not a list of node ids")
    return tuple(value)
