"""Placement: golden vectors, tables of small clusters, and the bounds up to 1,000 nodes."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import pytest
from support.ring_nodes import node_record, node_records, with_cordoned

from ringhold.ring.order import RingOrder, hash_ring, partition_name
from ringhold.ring.placement import found, place, place_system
from ringhold.ring.topology import InvalidTopology, NodeRecord, NodeState, Targets

GOLDEN = (
    ("n0002", "n0001", "n0003"),
    ("n0003", "n0001", "n0000"),
    ("n0000", "n0003", "n0002"),
    ("n0002", "n0001", "n0000"),
    ("n0001", "n0003", "n0000"),
    ("n0000", "n0002", "n0003"),
    ("n0003", "n0002", "n0001"),
    ("n0001", "n0000", "n0002"),
)

SIZES = [1, 2, 3, 4, 7, 10, 33, 100, 333, 1_000]


def loads(nodes: Sequence[NodeRecord], targets: Targets) -> list[int]:
    counts = Counter(node_id for replicas in targets for node_id in replicas)
    return [counts[node.id] for node in nodes]


def led(nodes: Sequence[NodeRecord], targets: Targets) -> list[int]:
    counts = Counter(replicas[0] for replicas in targets)
    return [counts[node.id] for node in nodes]


def moves(before: Targets, after: Targets) -> int:
    return sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))


def digest(targets: Targets) -> str:
    return hashlib.sha256(repr(targets).encode()).hexdigest()[:16]


def test_golden_placement() -> None:
    """The placement of a small cluster is the same in every release."""
    assert place(node_records(4, zones=2), 8, 3) == GOLDEN


@pytest.mark.parametrize(
    ("nodes", "partitions", "replication_factor", "expected"),
    [
        (node_records(3), 64, 1, "88bd7f6b72e40210"),
        (node_records(3), 64, 3, "e6e91b149646832e"),
        (node_records(10, zones=3), 256, 3, "6a9d92541ed7ff37"),
        ([node_record(name, weight=at + 1) for at, name in enumerate("abcdef")], 64, 2, "99a0e1ae05e4bb4c"),
    ],
    ids=["one-replica", "three-nodes", "three-zones", "weights"],
)
def test_golden_digests(nodes: list[NodeRecord], partitions: int, replication_factor: int, expected: str) -> None:
    """Placements are the same in every release, whatever the order of the nodes."""
    assert digest(place(nodes, partitions, replication_factor)) == expected
    assert digest(place(nodes[::-1], partitions, replication_factor)) == expected


def test_hash_seed_does_not_matter() -> None:
    """The placement, with and without earlier targets, is the same under any PYTHONHASHSEED."""
    code = (
        "from support.ring_nodes import node_records; from ringhold.ring.placement import place\n"
        "before = place(node_records(7, zones=3), 64, 3); print(before, place(node_records(9, zones=2), 64, 3, before))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(answers) == 1
    assert answers != {b""}


def test_order_is_that_of_the_ring() -> None:
    """Candidates come in the order in which uhashring's own `range` gives them."""
    nodes = [node_record(f"n{at}", weight=at % 3 + 1) for at in range(20)]
    ring = hash_ring({node.id: node.weight for node in nodes})
    nodes.sort(key=lambda node: node.id)
    order, hashed = RingOrder.over(nodes)
    for name in map(partition_name, range(50)):
        expected = [found["nodename"] for found in ring.range(name)]
        assert [nodes[at].id for at in order.candidates(hashed(name))] == expected
        kept = order.narrowed({0, 5, 9})
        assert [nodes[at].id for at in kept.candidates(hashed(name))] == [
            n for n in expected if n in _ids(nodes, 0, 5, 9)
        ]


def _ids(nodes: Sequence[NodeRecord], *positions: int) -> set[str]:
    return {nodes[at].id for at in positions}


@pytest.mark.parametrize("replication_factor", [1, 3])
@pytest.mark.parametrize("count", SIZES)
def test_balance_up_to_1000_nodes(count: int, replication_factor: int) -> None:
    """At equal weights leaders differ by 2 at most, and no node holds more replicas than ceil(1.1 * its share)."""
    partitions = 64 if count < 20 else 4_096
    nodes = node_records(count, zones=3 if count % 3 == 0 else 1)
    targets = place(nodes, partitions, replication_factor)
    replicas = min(replication_factor, count)
    assert all(len(set(ids)) == len(ids) == replicas for ids in targets)
    assert max(led(nodes, targets)) - min(led(nodes, targets)) <= 2
    assert max(loads(nodes, targets)) <= ceil(partitions * replicas * 11 / (10 * count))


@pytest.mark.parametrize("replication_factor", [1, 3])
@pytest.mark.parametrize("count", SIZES)
def test_one_more_node_moves_its_share(count: int, replication_factor: int) -> None:
    """A new node gets its share of the replicas, nothing else moves, and the leaders stay even."""
    partitions = 64 if count < 20 else 4_096
    nodes = node_records(count + 1)
    before = place(nodes[:-1], partitions, replication_factor)
    after = place(nodes, partitions, replication_factor, before)
    share = partitions * min(replication_factor, count + 1) / (count + 1)
    moved = moves(before, after)
    assert moved == loads(nodes, after)[-1]
    assert int(share) <= moved <= ceil(1.1 * share)
    assert max(led(nodes, after)) - min(led(nodes, after)) <= 2


@pytest.mark.parametrize("replication_factor", [1, 3])
@pytest.mark.parametrize("count", SIZES[1:])
def test_one_node_less_moves_its_share(count: int, replication_factor: int) -> None:
    """When a node leaves, what it held moves, and hardly anything else does."""
    partitions = 64 if count < 20 else 4_096
    nodes = node_records(count)
    before = place(nodes, partitions, replication_factor)
    rest = nodes[: count // 2] + nodes[count // 2 + 1 :]
    after = place(rest, partitions, replication_factor, before)
    assert moves(before, after) <= ceil(1.1 * partitions * min(replication_factor, count) / count)
    assert max(led(rest, after)) - min(led(rest, after)) <= 2


def test_a_node_of_another_weight_moves_its_share() -> None:
    """A node moves by its weight when it comes and when it goes."""
    nodes = [node_record(f"n{at}", weight=at % 3 + 1) for at in range(12)]
    before = place(nodes, 256, 3)
    grown = place([*nodes, node_record("new", weight=4)], 256, 3, before)
    assert int(256 * 3 * 4 / 28) <= moves(before, grown) <= ceil(1.1 * 256 * 3 * 4 / 28)
    assert moves(before, place(nodes[:-1], 256, 3, before)) <= ceil(1.1 * 256 * 3 * 3 / 24)


def test_growth_to_30_nodes_and_back_stays_even() -> None:
    """Node by node up and down, loads stay within the bound and leaders within 2, from whatever came before."""
    sizes = [*range(1, 31), *range(29, 0, -1)]
    targets = place(node_records(1), 256, 3)
    for _, size in pairwise(sizes):
        nodes = node_records(size)
        targets = place(nodes, 256, 3, targets)
        assert max(loads(nodes, targets)) <= ceil(256 * min(3, size) * 1.1 / size)
        assert max(led(nodes, targets)) - min(led(nodes, targets)) <= 2


def test_nothing_moves_without_a_reason() -> None:
    """The same nodes keep the same targets."""
    nodes = node_records(10, zones=3)
    targets = place(nodes, 256, 3)
    assert place(nodes, 256, 3, targets) == targets


@pytest.mark.parametrize(
    ("state", "holds"), [("JOINING", True), ("NORMAL", True), ("LEAVING", False), ("REMOVED", False)]
)
def test_states_decide_who_holds(state: str, *, holds: bool) -> None:
    """JOINING and NORMAL nodes get replicas; LEAVING and REMOVED ones get none and lose what they had."""
    nodes = [*node_records(3), node_record("x", state=NodeState(state))]
    before = place([*node_records(3), node_record("x")], 64, 2)
    assert (loads(nodes, place(nodes, 64, 2))[-1] > 0) is holds
    assert (loads(nodes, place(nodes, 64, 2, before))[-1] > 0) is holds


def test_weights_divide_replicas_and_leaders() -> None:
    """A node of double weight holds and leads twice as much."""
    nodes = [node_record("a", weight=2), *(node_record(name) for name in "bcdefg")]
    targets = place(nodes, 256, 2)
    assert loads(nodes, targets) == [128, *[64] * 6]
    assert led(nodes, targets) == [64, *[32] * 6]


def test_no_node_holds_a_partition_twice() -> None:
    """However heavy, a node holds each partition once; the others share the rest."""
    nodes = [node_record("a", weight=100), *(node_record(name) for name in "bcde")]
    assert loads(nodes, place(nodes, 64, 3)) == [64, 32, 32, 32, 32]


def test_zones_come_before_hosts_and_loads() -> None:
    """Replicas lie in different zones even where one zone has a single node."""
    nodes = [node_record("a", zone="x"), *(node_record(name, zone="y") for name in "bcdef")]
    targets = place(nodes, 64, 3)
    assert loads(nodes, targets)[0] == 64
    assert max(loads(nodes, targets)[1:]) <= ceil(64 * 2 / 5 * 1.1)


def test_hosts_come_next() -> None:
    """In one zone, or where zones are used up, replicas lie on different hosts."""
    nodes = [
        node_record(f"{host}{at}", host=host, zone=zone)
        for host, zone in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]
        for at in range(3)
    ]
    host_of = {node.id: node.host for node in nodes}
    for replicas in place(nodes, 64, 3):
        assert len({host_of[node_id] for node_id in replicas}) == 3


def test_a_new_zone_gets_one_replica_of_everything() -> None:
    """When a third zone comes up, every partition of three replicas moves one of them there, and little else."""
    nodes = node_records(6, zones=2)
    before = place(nodes, 64, 3)
    after = place([*nodes, node_record("z", zone="third")], 64, 3, before)
    assert all("z" in replicas for replicas in after)
    assert 64 <= moves(before, after) <= ceil(64 * 1.1)


def test_another_replication_factor_keeps_the_leaders() -> None:
    """Fewer replicas keep the first ones; more replicas are added behind them."""
    nodes = node_records(6)
    three = place(nodes, 64, 3)
    one = place(nodes, 64, 1, three)
    assert moves(three, one) == 0
    assert [replicas[0] for replicas in place(nodes, 64, 3, one)] == [replicas[0] for replicas in one]


def test_a_cordoned_node_keeps_what_it_holds() -> None:
    """Nothing moves when nodes are cordoned or no longer are, and their leaderships stay."""
    nodes = node_records(6, zones=3)
    before = place(nodes, 64, 3)
    assert place(with_cordoned(nodes, "n0000", "n0001"), 64, 3, before) == before
    assert place(with_cordoned(nodes, *(node.id for node in nodes)), 64, 3, before) == before


@pytest.mark.parametrize(
    ("before", "after", "replication_factors", "expected"),
    [
        (node_records(3), with_cordoned(node_records(4), "n0000"), (3, 3), [64, 43, 43, 42]),
        (node_records(3), with_cordoned(node_records(4), "n0003"), (3, 3), [64, 64, 64, 0]),
        (node_records(6), with_cordoned(node_records(5), "n0000"), (3, 3), [32, 40, 40, 40, 40]),
        (node_records(4), with_cordoned(node_records(4), "n0000"), (1, 2), [16, 37, 37, 38]),
        (node_records(6, zones=3), with_cordoned(node_records(5, zones=3), "n0000"), (3, 3), [32, 32, 64, 32, 32]),
    ],
    ids=["a-join", "cordoned-newcomer", "a-loss", "more-replicas", "a-loss-in-zones"],
)
def test_others_share_what_cordoned_nodes_do_not_get(
    before: list[NodeRecord], after: list[NodeRecord], replication_factors: tuple[int, int], expected: list[int]
) -> None:
    """A cordoned node gets nothing more; the others share the rest evenly, as far as zones let them."""
    targets = place(after, 64, replication_factors[1], place(before, 64, replication_factors[0]))
    assert loads(after, targets) == expected
    assert {len(replicas) for replicas in targets} == {replication_factors[1]}


def test_too_few_nodes_beside_the_cordoned_ones() -> None:
    """A partition has fewer replicas rather than one more on a cordoned node."""
    nodes = with_cordoned(node_records(3), "n0000")
    before = place(node_records(3), 64, 2)
    after = place(nodes, 64, 3, before)
    assert loads(nodes, after) == [loads(nodes, before)[0], 64, 64]
    assert place(with_cordoned(nodes, *(node.id for node in nodes)), 64, 3, before) == before


def test_a_partition_that_only_cordoned_nodes_could_get_is_an_error() -> None:
    """Where every node is cordoned and one has to leave, a partition of its own has nowhere to go."""
    before = place(node_records(3), 64, 1)
    with pytest.raises(InvalidTopology, match="cordoned"):
        place(with_cordoned(node_records(2), "n0000", "n0001"), 64, 1, before)
    with pytest.raises(InvalidTopology, match="cordoned"):
        place([node_record("a", cordoned=True)], 64, 3)


@pytest.mark.parametrize("partitions", [64, 256])
def test_a_fourth_node_gets_its_share_and_nothing_else_moves(partitions: int) -> None:
    """A node that joins three gets at most 1.2 of its share, and no replica moves between the others."""
    nodes = node_records(4)
    before = place(nodes[:3], partitions, 3)
    after = place(nodes, partitions, 3, before)
    assert loads(nodes, after)[3] <= 1.2 * partitions * 3 / 4
    assert all(set(new) - {"n0003"} <= set(old) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("zones", [1, 3])
def test_many_nodes_at_once(zones: int) -> None:
    """Twice as many nodes take half of the replicas, and nothing moves between those that were there."""
    nodes = node_records(600, zones=zones)
    before = place(nodes[:300], 4_096, 3)
    after = place(nodes, 4_096, 3, before)
    old = {node.id for node in nodes[:300]}
    assert all(set(new) & old <= set(replicas) for replicas, new in zip(before, after, strict=True))
    assert moves(before, after) <= ceil(1.1 * 4_096 * 3 / 2)
    assert max(led(nodes, after)) - min(led(nodes, after)) <= 2


def test_no_node_is_an_error() -> None:
    """Without a node that may hold something there is no placement."""
    with pytest.raises(InvalidTopology):
        place([node_record("a", state=NodeState.LEAVING)], 64, 3)
    with pytest.raises(InvalidTopology):
        found("demo", "c1", 64, 3, [])


def test_system_voters_are_not_given_to_cordoned_nodes() -> None:
    """The system group has fewer voters, still 5, 3 or 1, where only cordoned nodes could get one more."""
    nodes = with_cordoned(node_records(3), "n0000")
    assert len(place_system(node_records(3), 3)) == 3
    assert place_system(nodes, 3) in {("n0001",), ("n0002",)}
    assert set(place_system(nodes, 3, ("n0000", "n0001", "n0002"))) == {"n0000", "n0001", "n0002"}


@pytest.mark.parametrize(
    ("count", "replication_factor", "voters"), [(1, 3, 1), (2, 3, 1), (3, 1, 1), (3, 3, 3), (9, 3, 3), (9, 5, 5)]
)
def test_found_is_the_first_epoch(count: int, replication_factor: int, voters: int) -> None:
    """A founded topology is epoch 1, all nodes NORMAL, with as many system voters as replicas allow."""
    joining = [node_record(f"n{at}", state=NodeState.JOINING, zone=f"z{at % 5}") for at in range(count)]
    topology = found("demo", "c1", 16, replication_factor, joining)
    assert (topology.epoch, topology.partitions, len(topology.nodes)) == (1, 16, count)
    assert {node.state for node in topology.nodes} == {NodeState.NORMAL}
    assert len(topology.system_voters) == voters
    assert topology == found("demo", "c1", 16, replication_factor, joining[::-1])
