"""Properties of placement over arbitrary zones, hosts, weights and histories, against independent oracles."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import ceil

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.ring_nodes import node_record

from ringhold.ring.placement import place
from ringhold.ring.shares import Division, fair_shares
from ringhold.ring.spread import Spread
from ringhold.ring.topology import NodeRecord, Targets

FACTORS = st.integers(1, 5)


@st.composite
def clusters(draw: st.DrawFn, size_max: int = 40, *, may_cordon: bool = False) -> list[NodeRecord]:
    zones, hosts = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    weights = draw(st.sampled_from([[1], [1, 2], [1, 4, 16]]))
    nodes = st.builds(
        node_record,
        st.integers(0, 10**6).map("n{:07}".format),
        zone=st.integers(1, zones).map("z{}".format),
        host=st.integers(1, hosts).map("h{}".format),
        weight=st.sampled_from(weights),
        cordoned=st.booleans() if may_cordon else st.just(False),
    )
    return draw(st.lists(nodes, min_size=1, max_size=size_max, unique_by=lambda node: node.id))


def crowding(nodes: Sequence[NodeRecord]) -> tuple[int, int]:
    """Pairs of replicas in one zone, then on one host: what a spread should make least."""
    return pairs(node.zone for node in nodes), pairs((node.zone, node.host) for node in nodes)


def pairs(places: object) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(places).values())  # type: ignore[call-overload]


def shares_of(spread: Spread, nodes: Sequence[NodeRecord]) -> list[Fraction]:
    return Division([node.weight for node in nodes], [(spread, 1)], {}).shares()


def assert_placed(nodes: Sequence[NodeRecord], targets: Targets, replicas: int) -> None:
    ordered = sorted(nodes, key=lambda node: node.id)
    spread = Spread.over(ordered, replicas)
    counts = Counter(node_id for ids in targets for node_id in ids)
    position = {node.id: at for at, node in enumerate(ordered)}
    assert all(len(set(ids)) == len(ids) == replicas for ids in targets)
    assert all(spread.allows([position[node_id] for node_id in ids]) for ids in targets)
    for node, share in zip(ordered, shares_of(spread, ordered), strict=True):
        assert counts[node.id] <= ceil(share * len(targets) * 11 / 10)


@given(clusters(size_max=8), st.integers(1, 4))
def test_spread_is_least_crowded(nodes: list[NodeRecord], replicas: int) -> None:
    """The rules allow exactly those sets of nodes that share the fewest zones, and then the fewest hosts."""
    replicas = min(replicas, len(nodes))
    spread = Spread.over(nodes, replicas)
    sets = list(combinations(range(len(nodes)), replicas))
    least = min(crowding([nodes[at] for at in chosen]) for chosen in sets)
    for chosen in sets:
        assert spread.allows(chosen) is (crowding([nodes[at] for at in chosen]) == least)


@given(clusters(size_max=7), st.integers(1, 5))
def test_parts_are_allowed_if_they_can_be_completed(nodes: list[NodeRecord], replicas: int) -> None:
    """An incomplete set is allowed exactly if nodes can be added to make an allowed one."""
    replicas = min(replicas, len(nodes))
    spread = Spread.over(nodes, replicas)
    whole = [set(chosen) for chosen in combinations(range(len(nodes)), replicas) if spread.allows(chosen)]
    for size in range(1, replicas):
        for part in combinations(range(len(nodes)), size):
            assert spread.allows(part) is any(chosen.issuperset(part) for chosen in whole)


@given(clusters(), FACTORS)
def test_shares_add_up(nodes: list[NodeRecord], replicas: int) -> None:
    """Shares add up to the replicas of a partition, and no node's is above 1."""
    replicas = min(replicas, len(nodes))
    shares = shares_of(Spread.over(nodes, replicas), nodes)
    assert sum(shares) == replicas
    assert all(0 <= share <= 1 for share in shares)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_fair_shares_keep_spans_and_order(places: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Divided amounts add up, keep their spans, and are by weight wherever no span holds them."""
    spans = [(fewest, fewest + more) for _, fewest, more in places]
    total = Fraction(data.draw(st.integers(sum(low for low, _ in spans), sum(high for _, high in spans))))
    shares = fair_shares([weight for weight, _, _ in places], spans, total)
    assert sum(shares) == total
    assert all(low <= share <= high for share, (low, high) in zip(shares, spans, strict=True))
    free = {
        share / weight
        for share, (weight, _, _), (low, high) in zip(shares, places, spans, strict=True)
        if low < share < high
    }
    assert len(free) <= 1


@settings(max_examples=40, deadline=None)
@given(clusters(), FACTORS, st.sampled_from([1, 4, 64, 256]))
def test_founding(nodes: list[NodeRecord], factor: int, partitions: int) -> None:
    """A new cluster is spread, within its bounds, with even leaders, whatever the order of its nodes."""
    targets = place(nodes, partitions, factor)
    assert_placed(nodes, targets, min(factor, len(nodes)))
    assert targets == place(nodes[::-1], partitions, factor)
    if len({node.weight for node in nodes}) == 1:
        leaders = Counter(ids[0] for ids in targets)
        counts = [leaders[node.id] for node in nodes]
        assert max(counts) - min(counts) <= 2


@settings(max_examples=40, deadline=None)
@given(clusters(size_max=15), clusters(size_max=15), FACTORS)
def test_any_change(before: list[NodeRecord], after: list[NodeRecord], factor: int) -> None:
    """From the targets of any cluster to those of any other, everything is spread and within its bounds."""
    targets = place(after, 64, factor, place(before, 64, factor))
    assert_placed(after, targets, min(factor, len(after)))


@settings(max_examples=60, deadline=None)
@given(clusters(size_max=12), st.integers(1, 4), st.data())
def test_any_previous_targets(nodes: list[NodeRecord], factor: int, data: st.DataObject) -> None:
    """Earlier targets of any shape, unknown and doubled nodes included, lead to a proper placement."""
    ids = st.lists(st.sampled_from([*(node.id for node in nodes), "gone"]), max_size=6).map(tuple)
    previous = tuple(data.draw(st.lists(ids, max_size=20)))
    assert_placed(nodes, place(nodes, 16, factor, previous), min(factor, len(nodes)))


@settings(max_examples=40, deadline=None)
@given(clusters(size_max=15), clusters(size_max=15, may_cordon=True), FACTORS, FACTORS)
def test_cordoned_nodes_get_nothing(
    before: list[NodeRecord], after: list[NodeRecord], factor_before: int, factor: int
) -> None:
    """A cordoned node never gets a replica, and a partition lacks none that another node could hold."""
    receivers = {node.id for node in after if not node.cordoned}
    assume(receivers)
    previous = place(before, 64, factor_before)
    for old, new in zip(previous, place(after, 64, factor, previous), strict=True):
        assert receivers.issuperset(set(new) - set(old))
        assert len(new) == factor or receivers.issubset(new)


@settings(max_examples=40, deadline=None)
@given(clusters(size_max=15), clusters(size_max=15, may_cordon=True), FACTORS, FACTORS)
def test_what_was_placed_stays(
    before: list[NodeRecord], after: list[NodeRecord], factor_before: int, factor: int
) -> None:
    """From any history, a placement that is placed again is the same: replicas, leaders and their order."""
    assume(not all(node.cordoned for node in after))
    targets = place(after, 64, factor, place(before, 64, factor_before))
    assert place(after, 64, factor, targets) == targets


@settings(max_examples=30, deadline=None)
@given(clusters(size_max=10), st.integers(1, 4), st.data())
def test_what_was_placed_from_anything_stays(nodes: list[NodeRecord], factor: int, data: st.DataObject) -> None:
    """Whatever the targets were before, a placement that is placed again is the same."""
    ids = st.lists(st.sampled_from([*(node.id for node in nodes), "gone"]), max_size=6).map(tuple)
    targets = place(nodes, 16, factor, tuple(data.draw(st.lists(ids, max_size=16))))
    assert place(nodes, 16, factor, targets) == targets


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([64, 256]), st.integers(1, 3), st.permutations("abcdefgh"))
def test_a_fourth_node_moves_its_share(partitions: int, factor: int, names: list[str]) -> None:
    """Whatever the nodes' ids are, the fourth gets at most 1.2 of its share and nothing moves between the others."""
    nodes = [node_record(name) for name in names[:4]]
    before = place(nodes[:3], partitions, factor)
    after = place(nodes, partitions, factor, before)
    arrived = [set(new) - set(old) for old, new in zip(before, after, strict=True)]
    assert all(ids <= {nodes[3].id} for ids in arrived)
    assert sum(map(len, arrived)) <= 1.2 * partitions * factor / 4
