"""The system group's machine: the topology changes by committed commands, each made for one epoch."""

import json
from dataclasses import replace

import pytest
from support.rows import Rows, apply

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as records
from ringhold.node import keyspace
from ringhold.node.machine.machine import UnknownCommand, load_state
from ringhold.node.machine.records import record_bytes
from ringhold.node.machine.topology_machine import (
    TopologyMachine,
    TopologyOutcome,
    TopologyVerdict,
    decode_change,
    encode_change,
    found_system_group,
    load_topology,
)
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.envelope import unseal
from ringhold.ring.changes import TopologyChange
from ringhold.ring.topology import SYSTEM_GROUP, NodeRecord, NodeState, Topology


def node_of(name: str) -> NodeRecord:
    address = f"{name}.example:50051"
    return NodeRecord(f"id-{name}", name, address, address, "host", "zone", 1, NodeState.NORMAL)


FOUNDED = Topology("demo", "c1", 1, 1, 2, 3, (node_of("a"),), (("id-a",), ("id-a",)), ("id-a",))


def founded_rows() -> Rows:
    rows, batch = Rows(), WriteBatch()
    found_system_group(FOUNDED, batch)
    rows.write(batch)
    return rows


def machine_over(rows: Rows) -> TopologyMachine:
    topology = load_topology(rows)
    assert topology is not None
    return TopologyMachine(load_state(rows, SYSTEM_GROUP), topology)


def change(rows: Rows, machine: TopologyMachine, *commands: TopologyChange) -> list[TopologyOutcome]:
    entry = records.LogEntry(term=2, log_time_ms=5, commands=[encode_change(command) for command in commands])
    return [TopologyOutcome.decode(outcome) for outcome in apply(rows, machine, entry)[0]]


def changing(epoch: int, *nodes: NodeRecord) -> TopologyChange:
    return TopologyChange(epoch, 3, nodes, (), ("id-a",), ())


def add(epoch: int, name: str) -> TopologyChange:
    return changing(epoch, node_of(name))


def test_founding() -> None:
    """A founded system group holds the topology and stands before its first entry; without it there is none."""
    rows = founded_rows()
    assert load_topology(rows) == FOUNDED
    assert (load_state(rows, SYSTEM_GROUP).applied_index, load_state(rows, SYSTEM_GROUP).keys) == (0, 1)
    assert load_topology(Rows()) is None


def test_the_founded_state_names_the_voters() -> None:
    """Epoch 1's system voters, in their order, as founders."""
    founded = replace(FOUNDED, nodes=tuple(map(node_of, "abc")), system_voters=("id-c", "id-a", "id-b"))
    rows, batch = Rows(), WriteBatch()
    found_system_group(founded, batch)
    rows.write(batch)
    state = load_state(rows, SYSTEM_GROUP)
    assert [(voter.node_id, voter.replica_id) for voter in state.configuration.voters] == [
        ("id-c", 0),
        ("id-a", 0),
        ("id-b", 0),
    ]
    assert state.configuration_index == 0


def test_the_configuration_outlives_every_entry() -> None:
    """Applying entries changes where the group stands, and not who votes."""
    rows = founded_rows()
    machine = machine_over(rows)
    change(rows, machine, add(1, "b"))
    assert [voter.node_id for voter in load_state(rows, SYSTEM_GROUP).configuration.voters] == ["id-a"]


def test_who_asked_hears_when_a_change_is_written() -> None:
    """Not while it is staged only; entries without a command count too, for a new leader begins with one."""
    rows = founded_rows()
    heard: list[Topology | None] = []
    machine = TopologyMachine(load_state(rows, SYSTEM_GROUP), FOUNDED, lambda: heard.append(load_topology(rows)))
    change(rows, machine, add(1, "b"))
    assert heard == []
    machine.written()
    change(rows, machine)
    machine.written()
    assert heard == [machine.topology, machine.topology]
    machine_over(rows).written()


def test_nodes_are_added_and_updated() -> None:
    """Each change makes the next epoch, is stored with the state, and is there after a restart."""
    rows = founded_rows()
    machine = machine_over(rows)
    leaving = replace(node_of("b"), state=NodeState.LEAVING)
    outcomes = change(rows, machine, add(1, "b"), changing(2, leaving))
    assert outcomes == [TopologyOutcome(TopologyVerdict.APPLIED, 2), TopologyOutcome(TopologyVerdict.APPLIED, 3)]
    restarted = machine_over(rows)
    assert restarted.topology == machine.topology == FOUNDED.with_node(node_of("b")).with_node(leaving)
    assert restarted.state == machine.state
    assert (machine.state.applied_index, machine.state.applied_term, machine.state.revision) == (1, 2, 3)


def test_command_of_another_epoch_does_nothing() -> None:
    """Of two commands made for one epoch only the first acts; a repetition does nothing."""
    rows = founded_rows()
    machine = machine_over(rows)
    outcomes = change(rows, machine, add(1, "b"), add(1, "c"), add(1, "b"), add(9, "c"))
    assert [outcome.verdict for outcome in outcomes] == ["applied", "other_epoch", "other_epoch", "other_epoch"]
    assert {outcome.epoch for outcome in outcomes} == {2}
    assert [node.name for node in machine.topology.nodes] == ["a", "b"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (changing(1, replace(node_of("b"), name="a")), "a node's name is there twice"),
        (replace(changing(1), targets=((2, ("id-a",)),)), "there is no partition 2"),
        (replace(changing(1), targets=((0, ("id-b",)),)), "a replica's node is not among the nodes"),
        (replace(changing(1), replication_factor=0), "the replication factor is from 1 to 9"),
        (replace(changing(1), moving=((3, ("id-a",)),)), "a group that moves is from 0 to 2"),
    ],
)
def test_command_that_would_break_a_rule_is_refused(command: TopologyChange, message: str) -> None:
    """A readable command that can't be carried out is answered so, and the replica goes on."""
    rows = founded_rows()
    machine = machine_over(rows)
    assert change(rows, machine, command) == [TopologyOutcome(TopologyVerdict.REFUSED, 1, message)]
    assert load_topology(rows) == machine.topology == FOUNDED
    assert machine.state.applied_index == 1


def test_counters_equal_a_recount() -> None:
    """The system group's state counts its one row as every group's does."""
    rows = founded_rows()
    machine = machine_over(rows)
    change(rows, machine, add(1, "b"))
    row = records.Row.FromString(unseal(rows.content[keyspace.row_key(SYSTEM_GROUP, b"topology")]))
    assert (machine.state.keys, machine.state.bytes) == (1, record_bytes(b"topology", row))
    assert (row.version, row.create_version) == (machine.state.revision, 1)


def test_a_removed_node_stays_removed() -> None:
    """Its id may be in the promises of some disk: it never comes back."""
    rows = founded_rows()
    machine = machine_over(rows)
    removed = replace(node_of("b"), state=NodeState.REMOVED)
    outcomes = change(rows, machine, changing(1, removed), changing(2, node_of("b")))
    assert [outcome.verdict for outcome in outcomes] == [TopologyVerdict.APPLIED, TopologyVerdict.REFUSED]
    assert outcomes[1].message == "the node id-b has been removed"


GOLDEN = TopologyChange(7, 3, (node_of("b"),), ((1, ("id-b", "id-a")),), ("id-a",), ((2, ("id-a",)),))


def test_golden_command() -> None:
    """Commands are in the log: their form is fixed."""
    assert encode_change(GOLDEN) == (
        b'{"epoch":7,"moving":[[2,["id-a"]]],"nodes":[{"cordoned":false,"grpc_address":"b.example:50051","host":"host",'
        b'"http_address":"b.example:50051","id":"id-b","name":"b","state":"NORMAL","weight":1,"zone":"zone"}],'
        b'"replication_factor":3,"system_voters":["id-a"],"targets":[[1,["id-b","id-a"]]],"version":1}'
    )
    assert decode_change(encode_change(GOLDEN)) == GOLDEN


READABLE = json.loads(encode_change(GOLDEN))
NODE = READABLE["nodes"][0]


@pytest.mark.parametrize(
    "command",
    [
        None,
        [],
        {},
        {**READABLE, "version": 2},
        {**READABLE, "epoch": "1"},
        {**READABLE, "epoch": True},
        {**READABLE, "more": 1},
        {**READABLE, "nodes": None},
        {**READABLE, "nodes": [{**NODE, "more": 1}]},
        {**READABLE, "nodes": [{**NODE, "weight": "1"}]},
        {**READABLE, "nodes": [{**NODE, "weight": 0}]},
        {**READABLE, "nodes": [{**NODE, "cordoned": 1}]},
        {**READABLE, "nodes": [{**NODE, "state": "RESTING"}]},
        {**READABLE, "targets": [[1]]},
        {**READABLE, "targets": [["1", ["id-a"]]]},
        {**READABLE, "targets": [[1, "id-a"]]},
        {**READABLE, "moving": [[1, [2]]]},
        {**READABLE, "system_voters": "id-a"},
    ],
)
def test_unknown_command_stops_the_replica(command: object) -> None:
    """A command of another form or version is never guessed at."""
    rows = founded_rows()
    with pytest.raises(UnknownCommand):
        apply(rows, machine_over(rows), records.LogEntry(commands=[json.dumps(command).encode()]))


@pytest.mark.parametrize("encoded", [b"", b"\xff", b"{", b"[" * 100_000, b"NaN"])
def test_bytes_that_are_no_command(encoded: bytes) -> None:
    """Bytes that are not JSON, however nested, are an unknown command and nothing else."""
    with pytest.raises(UnknownCommand):
        decode_change(encoded)
