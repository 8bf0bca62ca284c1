"""Who is asked for a group: the leader that was named last, or else the replicas in turn."""

from collections.abc import Collection

import pytest
from support.ring_nodes import node_record

from ringhold.node.routes import ESTIMATED_S_MAX, Reaches, Routes
from ringhold.ring.topology import SYSTEM_GROUP, Topology

GROUP = 1
NODES = ("a", "b", "c", "d")


def topology(*targets: str, system_voters: tuple[str, ...] = ("b", "c", "d")) -> Topology:
    """One partition."""
    nodes = tuple(node_record(node_id) for node_id in NODES)
    return Topology("c", "c1", 1, 1, 1, 3, nodes, (targets,), system_voters)


def new_routes(*targets: str) -> Routes:
    routes = Routes()
    routes.adopt(topology(*(targets or ("a", "b", "c"))))
    return routes


def only(*nodes: str) -> Reaches:
    return lambda node: node in nodes


def passed_over(routes: Routes, times: int, reached: Collection[str] = NODES) -> list[str]:
    """Who is asked next, if whoever is asked never helps."""
    asked = []
    for _ in range(times):
        routes.passed_over(GROUP, routes.leader(GROUP), only(*reached))
        asked.append(routes.leader(GROUP))
    return asked


def test_the_replicas_are_those_of_the_topology() -> None:
    """The targets of a partition, the preferred leader first, and the voters of the system group."""
    routes = new_routes("c", "a")
    assert routes.replicas(GROUP) == ("c", "a")
    assert routes.replicas(SYSTEM_GROUP) == ("b", "c", "d")
    assert (routes.leader(GROUP), routes.leader(SYSTEM_GROUP)) == ("c", "b")
    routes.adopt(topology("a", "d"))
    assert routes.replicas(GROUP) == ("a", "d")
    assert routes.leader(GROUP) == "c", "it may lead until somebody says otherwise"


@pytest.mark.parametrize(
    ("reached", "asked"),
    [
        (NODES, ["b", "c", "a", "b"]),
        (("a", "c"), ["c", "a", "c", "a"]),
        (("c",), ["c", "a", "c", "a"]),
        ((), ["b", "c", "a", "b"]),
    ],
)
def test_without_a_leader_the_replicas_are_asked_in_turn(reached: Collection[str], asked: list[str]) -> None:
    """Those in reach first; the others have their turn if there is nobody else."""
    assert passed_over(new_routes(), 4, reached) == asked


def test_a_replica_that_names_a_dead_leader_does_not_keep_the_third_from_being_asked() -> None:
    """The turn goes on from who had it last, not from the dead one that it leads back to."""
    routes = new_routes()
    asked = []
    for _ in range(3):
        asked += passed_over(routes, 1)
        routes.redirected(GROUP, "a", 5)
    assert asked == ["b", "c", "b"]


def test_a_route_that_has_moved_on_is_left_alone() -> None:
    """Of many attempts at a dead node only the first passes the turn on, and none takes back what was learnt."""
    routes = new_routes()
    routes.heard(GROUP, "c", 3, 70, 0.0)
    routes.passed_over(GROUP, "a", only(*NODES))
    assert (routes.leader(GROUP), routes.get(GROUP).log_time_ms) == ("c", 70)


def test_a_log_time_is_carried_on_through_all_changes_of_leaders() -> None:
    """It grows with the time since it was heard, for some hours; the next leader's counts, also if it fell back."""
    routes = new_routes()
    assert routes.get(GROUP).log_time_at(9.0) == 0
    routes.heard(GROUP, "c", 3, 5_000, 10.0)
    routes.redirected(GROUP, "b", 4)
    routes.passed_over(GROUP, "b", only(*NODES))
    assert routes.get(GROUP).log_time_at(21.0) == 15_000
    assert routes.get(GROUP).log_time_at(1e9) == routes.get(GROUP).log_time_at(10.0 + ESTIMATED_S_MAX)
    routes.heard(GROUP, "a", 4, 4_000, 20.0)
    assert routes.get(GROUP).log_time_at(20.0) == 4_000


def test_a_lone_replica_is_asked_again() -> None:
    """There is nobody else."""
    routes = new_routes("b")
    assert passed_over(routes, 2) == ["b", "b"]


def test_a_leader_is_believed_unless_its_term_is_older() -> None:
    """Whoever names it: its own answer, a redirect, or the replica of this node."""
    routes = new_routes()
    routes.heard(GROUP, "b", 5, 70, 0.0)
    assert not routes.redirected(GROUP, "c", 4)
    assert not routes.redirected(GROUP, None, 9)
    routes.led(GROUP, "c", 4)
    routes.led(GROUP, None, 9)
    routes.heard(GROUP, "c", 4, 90, 0.0)
    assert routes.leader(GROUP) == "b"
    routes.passed_over(GROUP, "b", only(*NODES))
    assert routes.redirected(GROUP, "b", 5), "a guess is worth less than any word of the same term"
    routes.led(GROUP, "a", 6)
    assert (routes.leader(GROUP), routes.get(GROUP).term, routes.get(GROUP).log_time_ms) == ("a", 6, 70)


def test_a_local_replica_may_speak_before_the_topology_does() -> None:
    """What it says of its leader is kept."""
    routes = Routes()
    routes.led(GROUP, None, 3)
    routes.led(GROUP, "c", 4)
    routes.adopt(topology("a", "b", "c"))
    assert routes.leader(GROUP) == "c"
