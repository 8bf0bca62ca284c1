"""Clusters of membership cores under virtual time: they converge, find the dead, and accuse nobody without cause."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gossip import CoreNetwork, member

from ringhold.gossip.config import DIGESTS_MAX, FACTS_MAX, GossipConfig
from ringhold.gossip.member import MemberState

SEED = "n00.example:50052"
seeds = st.integers(0, 2**32)
few = settings(max_examples=12, deadline=None, derandomize=True)


def network(seed: int, size: int, config: GossipConfig | None = None) -> CoreNetwork:
    """`size` nodes that all know the first as their seed."""
    cluster = CoreNetwork(seed, config)
    for number in range(size):
        cluster.start(member(f"n{number:02}"), seeds=[SEED])
    return cluster


@few
@given(seeds, st.integers(2, 9))
def test_nodes_started_together_see_each_other_at_once(seed: int, size: int) -> None:
    """All know all well within a second."""
    cluster = network(seed, size)
    assert cluster.run_until(cluster.agree, seconds_max=2.0) < 1.0


@few
@given(seeds, st.integers(2, 7))
def test_nobody_is_accused_without_loss(seed: int, size: int) -> None:
    """In a quiet minute every reported state is ALIVE."""
    cluster = network(seed, size)
    cluster.run(60)
    states = [after.state for node in cluster.nodes.values() for _, _, after in node.changes if after]
    assert set(states) == {MemberState.ALIVE}


@few
@given(seeds, st.floats(0.05, 0.3))
def test_the_cluster_converges_after_message_loss(seed: int, loss: float) -> None:
    """Whatever was believed while messages were lost, all agree soon after that ends."""
    cluster = network(seed, 5)
    cluster.lost = lambda source, target: cluster.rng.random() < loss
    cluster.run(40)
    cluster.lost = lambda source, target: False
    cluster.run_until(cluster.agree, seconds_max=120)


@few
@given(seeds)
def test_a_little_loss_kills_nobody(seed: int) -> None:
    """With 5 % of all messages lost, relays and refutations keep everybody from DEAD."""
    cluster = network(seed, 5)
    cluster.run_until(cluster.agree, seconds_max=2)
    cluster.lost = lambda source, target: cluster.rng.random() < 0.05
    cluster.run(60)
    states = [after.state for node in cluster.nodes.values() for _, _, after in node.changes if after]
    assert MemberState.DEAD not in states


@few
@given(seeds, st.integers(2, 7))
def test_a_dead_node_is_found_by_all(seed: int, size: int) -> None:
    """A killed node is DEAD everywhere after the suspicion's time, not before its least."""
    cluster = network(seed, size)
    cluster.run_until(cluster.agree, seconds_max=2)
    cluster.stop(f"n{size - 1:02}.example:50052")
    took = cluster.run_until(lambda: cluster.agree(MemberState.DEAD), seconds_max=90)
    assert took >= GossipConfig().suspicion_factor


@few
@given(seeds, st.integers(1, 3))
def test_a_partition_heals(seed: int, cut: int) -> None:
    """Two sides that have declared each other dead are one cluster again after the next retries."""
    cluster = network(seed, 5)
    cluster.run_until(cluster.agree, seconds_max=2)
    left = [f"n{number:02}.example:50052" for number in range(cut)]
    cluster.lost = lambda source, target: (source in left) != (target in left)
    cluster.run(60)
    assert MemberState.DEAD in cluster.states(SEED).values()
    cluster.lost = lambda source, target: False
    cluster.run_until(cluster.agree, seconds_max=GossipConfig().dead_retry_interval_s + 30)


@few
@given(seeds)
def test_a_suspect_refutes(seed: int) -> None:
    """A node that could not answer for a moment is suspected, raises its incarnation, and is never DEAD."""
    cluster = network(seed, 3)
    cluster.run_until(cluster.agree, seconds_max=2)
    victim = cluster.nodes["n02.example:50052"]
    cluster.lost = lambda source, target: "n02.example:50052" in (source, target)
    cluster.run_until(lambda: cluster.states(SEED)["n02"] is MemberState.SUSPECT, seconds_max=10)
    cluster.lost = lambda source, target: False
    cluster.run_until(cluster.agree, seconds_max=10)
    assert victim.core.local.incarnation > 1
    assert all(not after or after.state is not MemberState.DEAD for _, _, after in cluster.nodes[SEED].changes)


@few
@given(seeds)
def test_a_returning_node_replaces_its_former_self_at_once(seed: int) -> None:
    """A dead node that starts again elsewhere, one generation on, is ALIVE everywhere within a second."""
    cluster = network(seed, 3)
    cluster.run_until(cluster.agree, seconds_max=2)
    cluster.stop("n02.example:50052")
    cluster.run_until(lambda: cluster.agree(MemberState.DEAD), seconds_max=60)
    del cluster.nodes["n02.example:50052"]
    cluster.start(member("n02", generation=2, nonce=77, http_address="moved.example:1"), seeds=[SEED])
    assert cluster.run_until(cluster.agree, seconds_max=2) < 1.0


@pytest.mark.parametrize("generation", [1, 2])
def test_a_copy_of_a_disk_stops_and_the_running_node_stays(generation: int) -> None:
    """A second process under a known id, not one generation on, hears of the first from whomever it contacts."""
    cluster = network(1, 3)
    cluster.run_until(cluster.agree, seconds_max=2)
    running = cluster.start(member("n03", generation=2), seeds=[SEED])
    cluster.run_until(cluster.agree, seconds_max=2)
    copy_address = "copy.example:1"
    copied = cluster.start(
        member("n03", generation=generation, nonce=999_999, http_address=copy_address), seeds=["n01.example:50052"]
    )
    cluster.run_until(lambda: bool(copied.conflicts), seconds_max=2)
    assert copied.conflicts[0].boot == running.core.local.boot
    cluster.stop(copy_address)
    del cluster.nodes[copy_address]
    cluster.run(20)
    assert running.conflicts == []
    assert cluster.agree()


def test_a_restarted_cluster_finds_itself_from_memory() -> None:
    """Nodes without seeds that kept their peers reach each other again, at their next generation."""
    cluster = CoreNetwork(4)
    cast = [member(f"n{number:02}", generation=5) for number in range(3)]
    for local in cast:
        known = [replace(other, generation=4, nonce=4) for other in cast]
        cluster.start(local, known=known)
    assert cluster.run_until(cluster.agree, seconds_max=2) < 1.0


def test_large_tables_are_compared_in_pages() -> None:
    """Two nodes that each know many others know all of them after one comparison."""
    size = DIGESTS_MAX + FACTS_MAX
    cluster = CoreNetwork(3)
    left = [member(f"l{number:04}") for number in range(size)]
    right = [member(f"r{number:04}") for number in range(size)]
    first = cluster.start(member("a"), known=left)
    second = cluster.start(member("b"), known=right, seeds=["a.example:50052"])
    cluster.run(1.5)
    assert len(first.core.members()) == len(second.core.members()) == 2 * size + 2


def test_the_same_seed_gives_the_same_history() -> None:
    """Nothing but the injected time, network and chance has a say."""

    def history() -> list[object]:
        cluster = network(11, 5)
        cluster.lost = lambda source, target: cluster.rng.random() < 0.2
        cluster.run(60)
        return [node.changes for node in cluster.nodes.values()]

    assert history() == history()
