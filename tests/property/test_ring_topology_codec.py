"""Properties of the topology's stored form: what was written comes back, and nothing else is taken for a topology."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringhold.ring.topology import InvalidTopology, NodeRecord, NodeState, Targets, Topology

TEXTS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20).filter(str.isprintable)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    ids = sorted(draw(st.sets(TEXTS, min_size=1, max_size=6)))
    partitions = 2 ** draw(st.integers(0, 4))
    replication_factor = draw(st.integers(1, 9))
    replicas = st.lists(st.sampled_from(ids), min_size=1, max_size=min(replication_factor, len(ids)), unique=True)
    targets: Targets = tuple(tuple(draw(replicas)) for _ in range(partitions))
    return Topology(
        cluster_name=draw(TEXTS),
        cluster_id=draw(TEXTS),
        epoch=draw(st.integers(1, 2**63 - 1)),
        feature_level=draw(st.integers(1, 9)),
        partitions=partitions,
        replication_factor=replication_factor,
        nodes=tuple(draw(nodes(node_id)) for node_id in ids),
        targets=targets,
        system_voters=tuple(ids[: draw(st.sampled_from([n for n in (1, 3, 5) if n <= len(ids)]))]),
    )


def nodes(node_id: str) -> st.SearchStrategy[NodeRecord]:
    return st.builds(
        NodeRecord,
        id=st.just(node_id),
        name=st.just(f"name {node_id}"),
        grpc_address=TEXTS,
        http_address=TEXTS,
        host=TEXTS | st.just(""),
        zone=TEXTS | st.just(""),
        weight=st.integers(1, 256),
        state=st.sampled_from(NodeState),
    )


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, name or position) in a JSON value."""
    match value:
        case dict():
            entries = list(value.items())
        case list():
            entries = list(enumerate(value))
        case _:
            return []
    return [place for name, inner in entries for place in ((value, name), *places_in(inner))]


@given(topologies())
def test_round_trip(topology: Topology) -> None:
    """What is written is read back equal, and written again to the same bytes."""
    document = topology.to_json()
    assert Topology.from_json(document) == topology
    assert Topology.from_json(document).to_json() == document


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_invalid(document: bytes) -> None:
    """Bytes and JSON of any shape raise InvalidTopology and nothing else."""
    try:
        Topology.from_json(document)
    except InvalidTopology:
        return
    raise AssertionError("taken for a topology")


@given(topologies(), JSON_VALUES, st.data())
def test_one_wrong_value_is_valid_or_invalid(topology: Topology, value: Any, data: st.DataObject) -> None:
    """With any one value replaced by any other, reading gives a topology or InvalidTopology."""
    document = json.loads(topology.to_json())
    container, name = data.draw(st.sampled_from(range(len(places_in(document)))).map(places_in(document).__getitem__))
    container[name] = value
    read_or_refused(json.dumps(document).encode())


@given(topologies(), st.data())
def test_one_wrong_byte_is_valid_or_invalid(topology: Topology, data: st.DataObject) -> None:
    """With any one byte changed or the end cut off, reading gives a topology or InvalidTopology."""
    document = bytearray(topology.to_json())
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] = data.draw(st.integers(0, 255))
    read_or_refused(bytes(document))
    read_or_refused(bytes(document[:at]))


def read_or_refused(document: bytes) -> None:
    try:
        topology = Topology.from_json(document)
    except InvalidTopology:
        return
    assert Topology.from_json(topology.to_json()) == topology
