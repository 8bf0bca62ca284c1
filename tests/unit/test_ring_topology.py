"""The topology: what it finds, how it changes, and what it refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.ring_nodes import node_record, node_records

from ringhold.ring.placement import found
from ringhold.ring.topology import (
    EPOCH_MAX,
    TOPOLOGY_BYTES_MAX,
    InvalidTopology,
    NodeState,
    Topology,
    group_of_partition,
    partition_of_group,
)

FOUNDED = found("demo", "c1", 4, 2, node_records(3))

CANONICAL = (
    b'{"cluster_id":"c1","cluster_name":"demo","epoch":1,"feature_level":1,"moving":[],"nodes":['
    b'{"cordoned":false,"grpc_address":"a:50051","host":"a","http_address":"a:50052","id":"a","name":"name-a",'
    b'"state":"NORMAL","weight":1,"zone":""}],"partitions":2,"replication_factor":3,"system_voters":[0],"targets":[[0],[0]]}'
)


def test_nodes_are_found_by_id_and_name() -> None:
    """A node is found by its id and its name, and nothing is found by others."""
    assert FOUNDED.node("n0001") is FOUNDED.nodes[1]
    assert FOUNDED.node_named("name-n0001") is FOUNDED.nodes[1]
    assert FOUNDED.node("n9") is FOUNDED.node("") is FOUNDED.node_named("n0001") is None


def test_with_node_adds_or_replaces_in_the_next_epoch() -> None:
    """A node is added, or takes the place of the one with its id, and the epoch goes up by one."""
    added = FOUNDED.with_node(node_record("a", state=NodeState.JOINING))
    assert (added.epoch, [node.id for node in added.nodes]) == (2, ["a", "n0000", "n0001", "n0002"])
    replaced = added.with_node(node_record("a", weight=3))
    assert (replaced.epoch, len(replaced.nodes)) == (3, 4)
    assert replaced.nodes[0].weight == 3


def test_a_removed_node_leaves_its_name() -> None:
    """A replacement may bear the name of a removed node, and is found by it."""
    removed = FOUNDED.with_node(node_record("old", state=NodeState.REMOVED))
    renamed = removed.with_node(replace(node_record("new"), name="name-old"))
    assert renamed.node_named("name-old") == renamed.node("new")


def test_with_targets_is_the_next_epoch() -> None:
    """Other targets make the next epoch and leave the rest."""
    targets = (("n0000",), ("n0001",), ("n0002",), ("n0000", "n0001"))
    assert FOUNDED.with_targets(targets) == replace(FOUNDED, epoch=2, targets=targets)


def test_groups_follow_partitions() -> None:
    """Group 0 is the system group and partition p is group p + 1."""
    assert [group_of_partition(partition) for partition in (0, 63)] == [1, 64]
    assert [partition_of_group(group) for group in (1, 64)] == [0, 63]


def test_json_is_canonical() -> None:
    """The stored form is fixed to the byte."""
    topology = found("demo", "c1", 2, 3, [node_record("a")])
    assert topology.to_json() == CANONICAL
    assert Topology.from_json(CANONICAL) == topology


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_name": ""},
        {"cluster_name": "a\nb"},
        {"cluster_id": "x" * 257},
        {"epoch": 0},
        {"epoch": EPOCH_MAX + 1},
        {"feature_level": 0},
        {"partitions": 3},
        {"partitions": 8},
        {"replication_factor": 0},
        {"replication_factor": 1},
        {"nodes": ()},
        {"nodes": FOUNDED.nodes[::-1]},
        {"nodes": FOUNDED.nodes + FOUNDED.nodes[-1:]},
        {"nodes": FOUNDED.nodes[:1]},
        {"nodes": (*FOUNDED.nodes, replace(FOUNDED.nodes[0], id="z"))},
        {"targets": FOUNDED.targets[:3]},
        {"targets": ((), *FOUNDED.targets[1:])},
        {"targets": (("n0000", "n0000"), *FOUNDED.targets[1:])},
        {"targets": (("stranger",), *FOUNDED.targets[1:])},
        {"system_voters": ()},
        {"system_voters": ("n0000", "n0001")},
        {"system_voters": ("n0000", "n0000", "n0001")},
        {"system_voters": ("stranger",)},
    ],
)
def test_contradictions_are_refused(change: dict[str, Any]) -> None:
    """A topology that contradicts itself can't be made."""
    with pytest.raises(InvalidTopology):
        replace(FOUNDED, **change)


@pytest.mark.parametrize(
    "change", [{"id": ""}, {"grpc_address": "\ud800"}, {"zone": "\x00"}, {"weight": 0}, {"weight": 257}]
)
def test_wrong_nodes_are_refused(change: dict[str, Any]) -> None:
    """A node record with an unusable field can't be made."""
    with pytest.raises(InvalidTopology):
        replace(FOUNDED.nodes[0], **change)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"epoch":' + b"9" * 5_000 + b"}",
        b" " * (TOPOLOGY_BYTES_MAX + 1),
        CANONICAL[:-1],
        CANONICAL.replace(b'"zone":""', b'"zone":"","more":1'),
        CANONICAL.replace(b'"epoch":1', b'"epoch":true'),
        CANONICAL.replace(b'"epoch":1', b'"epoch":1.0'),
        CANONICAL.replace(b'"epoch":1', b'"epoch":NaN'),
        CANONICAL.replace(b"NORMAL", b"normal"),
        CANONICAL.replace(b"[[0],[0]]", b"[[0],[1]]"),
        CANONICAL.replace(b"[[0],[0]]", b"[[0],[-1]]"),
        CANONICAL.replace(b"[[0],[0]]", b"[0,0]"),
        CANONICAL.replace(b'"cordoned":false', b'"cordoned":0'),
        CANONICAL.replace(b'"moving":[]', b'"moving":[[1]]'),
        CANONICAL.replace(b'"moving":[]', b'"moving":[[1,[0,0]]]'),
        CANONICAL.replace(b'"moving":[]', b'"moving":[[3,[0]]]'),
        CANONICAL.replace(b'"moving":[]', b'"moving":[[1,[0]],[0,[0]]]'),
    ],
    ids=range(22),
)
def test_other_bytes_are_refused(document: bytes) -> None:
    """Bytes that no topology was written as are refused, whatever is wrong with them."""
    with pytest.raises(InvalidTopology):
        Topology.from_json(document)


def test_size_of_a_large_topology() -> None:
    """1,000 nodes and 4,096 partitions fit the bytes allowed, and come back."""
    topology = found("large", "c1", 4_096, 3, node_records(1_000))
    document = topology.to_json()
    assert len(document) < TOPOLOGY_BYTES_MAX
    assert Topology.from_json(document) == topology


def test_what_could_not_be_read_back_is_refused() -> None:
    """Nodes whose names would make a document too large to be read can't be put into a topology."""
    nodes = tuple(replace(node, zone="\U0001f600" * 256) for node in node_records(3_000))
    with pytest.raises(InvalidTopology, match="bytes"):
        replace(FOUNDED, nodes=nodes)


def sorted_names(value: Any) -> bool:
    match value:
        case dict():
            return list(value) == sorted(value) and all(map(sorted_names, value.values()))
        case list():
            return all(map(sorted_names, value))
    return True


def test_names_are_sorted_at_every_level() -> None:
    """Sorted names at every level make equal topologies equal bytes."""
    assert sorted_names(json.loads(FOUNDED.to_json()))
