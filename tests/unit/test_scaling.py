"""The simulator behind docs/scaling.md, and its arithmetic: a figure that no cluster can check would be believed."""

import doctest
import random
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import pytest

from benchmarks.scaling import heartbeats, placement, queries, swim
from benchmarks.scaling.envelope import measured_envelope
from benchmarks.scaling.gossip import Watch, Wrong, watch
from benchmarks.scaling.heartbeats import round_of, sharing_a_group
from benchmarks.scaling.members import members_of, node_records
from benchmarks.scaling.one_node import NodeAtRest
from benchmarks.scaling.placement import placement_figures
from benchmarks.scaling.queries import LIMIT, groups_led, page_lengths
from benchmarks.scaling.swim import Conditions, QuickTable, Sighting, SwimNetwork
from benchmarks.scaling.tables import of_topology, topology_of
from ringhold.gossip.member import Fact, MemberState
from ringhold.gossip.table import MemberTable
from ringhold.ring.placement import place

WELL = Conditions("all well")
LOSSY = Conditions("lossy", loss=0.1)
SLOW = Conditions("slow", slow_share=0.1)


def network_of(members: int, conditions: Conditions, seed: int = 1) -> SwimNetwork:
    return SwimNetwork.of(members_of(node_records(members), seed), conditions, seed)


def silent(step: str) -> None:
    """Progress that nobody reads."""


@pytest.mark.parametrize("module", [heartbeats, placement, queries, swim])
def test_examples_hold(module: ModuleType) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(module).failed == 0


def test_a_seed_repeats_a_run() -> None:
    """The same seed gives the same traffic and sightings, another one others."""

    def run(seed: int) -> tuple[int, int, Sequence[Sighting]]:
        network = network_of(10, LOSSY, seed)
        network.run(20.0)
        return network.traffic.messages, network.traffic.body_bytes, network.sightings

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("members", [3, 10, 40])
def test_a_crash_is_detected(members: int) -> None:
    """All that run come to believe that the dead one is DEAD, not before the shortest suspicion has passed."""
    network = network_of(members, WELL)
    network.run(3.0)
    victim, *others = network.members.values()
    network.crash(victim)
    network.run(45.0)
    deaths = {seen.observer: seen.at for seen in network.sightings if seen.state is MemberState.DEAD}
    assert set(deaths) == {member.node_id for member in others}
    assert min(deaths.values()) > 3.0 + network.config.suspicion_factor
    assert all(seen.subject == victim.node_id and seen.is_right for seen in network.sightings)


def test_nobody_is_accused_where_nothing_is_lost() -> None:
    """Without loss and stalls no one is suspected; a member sends a ping and an answer per second, and little else."""
    network = network_of(20, WELL)
    network.run(60.0)
    assert network.sightings == []
    assert network.traffic.messages / 20 / 60.0 == pytest.approx(2.1, abs=0.15)
    assert network.refused == 0


def test_losses_and_stalls_are_seen() -> None:
    """What the conditions say happens: members are accused, and those that refute in time are not DEAD."""
    for conditions in (LOSSY, SLOW):
        network = network_of(10, conditions)
        network.run(60.0)
        wrong = Wrong.among([seen for seen in network.sightings if not seen.is_right])
        assert wrong.accused > 0
        assert wrong.killed <= wrong.accused


def test_a_stalled_member_is_silent_and_comes_back() -> None:
    """Nothing is handled in a stall; what waited is handled after it, and the late tick tells by how much."""
    network = network_of(3, WELL)
    stalled = next(iter(network.members.values()))
    network.run(2.0)
    stalled.stalled_until = network.now + 3.0
    network.run(2.9)
    assert any(seen.subject == stalled.node_id for seen in network.sightings)
    assert not any(seen.observer == stalled.node_id for seen in network.sightings)
    network.run(5.0)
    states = [member.core.member(stalled.node_id) for member in network.members.values()]
    assert all(state is not None and state.state is MemberState.ALIVE for state in states)
    assert stalled.core.local.incarnation > 1


def test_the_quick_table_holds_what_the_product_holds() -> None:
    """Whatever comes, both list the same reachable members; only the order may differ."""
    quick, plain = QuickTable(), MemberTable()
    rng = random.Random(1)
    members = members_of(node_records(20), 1)
    for _ in range(500):
        fact = Fact(replace(rng.choice(members), state=rng.choice(list(MemberState))))
        quick.put(fact)
        plain.put(fact)
        assert {each.node_id: each for each in quick.reachable()} == {each.node_id: each for each in plain.reachable()}
        assert quick.reachable_count == len(quick.reachable())


def test_a_watch_tells_crashes_from_wrong_accusations() -> None:
    """Each crash is suspected and then believed by every other one, and none of it counts as wrong."""
    seen = watch(10, WELL, Watch(runs=1, rest_s=5, crashes=2, watch_s=40), seed=1)
    assert len(seen.first_suspicion_s) == 2
    assert len(seen.dead_s) == 2 * 8
    assert min(seen.dead_s) > max(seen.first_suspicion_s) > 0
    assert (seen.unaware, seen.wrong_of_well, seen.wrong_of_slow) == (0, Wrong(0, 0), Wrong(0, 0))


async def test_what_http_adds_is_counted() -> None:
    """Some hundred bytes for each request and answer, whatever the body."""
    envelope = await measured_envelope()
    assert 100 < envelope.request_bytes < 600
    assert 100 < envelope.answer_bytes < 600


def test_a_node_at_rest_leads_and_follows_by_its_targets() -> None:
    """Its groups are led as placement prefers, and leases and the promises of followers hold."""
    ids = [node.id for node in node_records(4)]
    targets = place(node_records(4), 16, 3)
    node = NodeAtRest.of(ids[0], ids[1:], targets)
    for _ in range(8):  # longer than support lasts
        round_of(node)
    leaders = {replica.group - 1: replica.leader for replica in node.replicas}
    assert leaders == {number: holders[0] for number, holders in enumerate(targets) if ids[0] in holders}
    assert all(replica.office.vouches(node.now) for replica in node.replicas if replica.office is not None)
    assert all(replica.is_bound(node.now) for replica in node.replicas if replica.office is None)
    assert sharing_a_group(ids, targets)[ids[0]] == {ids[1], ids[2]}, "the fourth is in the zone of the first"


def test_placement_figures_agree_with_the_targets() -> None:
    """Loads sum up to all replicas; a newcomer takes about its share, and what a leaver held is copied."""
    (figures,) = placement_figures([(10, 64)], silent)
    assert figures.replicas.mean == 64 * 3 / 10
    assert figures.replicas.least <= figures.replicas.mean <= figures.replicas.most
    assert figures.joined.moves <= 1.1 * figures.joined.fair_share + 1
    assert figures.left is not None
    assert figures.left.moves >= figures.left.fair_share


def test_tables_grow_with_nodes_and_partitions() -> None:
    """The topology grows with both, routes with partitions, gossip's table with nodes."""
    small, more_nodes, more_partitions = (of_topology(topology_of(*place)) for place in ((3, 64), (30, 64), (3, 512)))
    assert small.json_bytes < min(more_nodes.json_bytes, more_partitions.json_bytes)
    assert more_partitions.routes_bytes > 4 * small.routes_bytes
    assert more_nodes.members_bytes > 4 * small.members_bytes


@pytest.mark.parametrize("nodes", [3, 100])
def test_pages_are_whole_among_many_nodes(nodes: int) -> None:
    """The share that is asked of each node is enough for nearly all pages, whatever the number of nodes."""
    lengths = page_lengths([len(groups) for groups in groups_led(topology_of(nodes, 512)).values()], random.Random(1))
    assert sum(length < LIMIT for length in lengths) <= 1
