"""Nodes come, leave, die for good and restart while clients work: no operation fails, and nothing is lost or out of
order (P1, P2, P4, P6).
"""

from pathlib import Path

import pytest
from support.moving_cluster import MovingCluster, moving_cluster

LEAVE_S = 120.0


def one_joins_and_one_leaves(found: MovingCluster) -> None:
    with found.timed("one joins"):
        found.start_another()
        found.settle()
    leaver = found.nodes[0]
    with found.timed("one leaves"):
        found.decommission(leaver)
        assert leaver.wait(LEAVE_S) == 0
        found.settle()


def everything_that_changes_members(found: MovingCluster) -> None:
    leavers, lost = found.nodes[:2], found.nodes[3]
    with found.timed("two join"):
        found.start_another()
        found.start_another()
        found.settle()
    with found.timed("two leave"):
        for leaver in leavers:
            found.decommission(leaver)
        assert [leaver.wait(LEAVE_S) for leaver in leavers] == [0, 0]
        found.settle()
    with found.timed("one is lost and replaced"):
        found.replace(lost)
        found.settle()
    with found.timed("rolling restart"):
        for node in found.nodes:
            found.restart(node)


def everybody_crashes_while_replicas_move(found: MovingCluster) -> None:
    """The newcomer, each of the others, and the leaver: the mover and every leader are among them."""
    others = found.nodes[:]
    newcomer = found.start_another()
    with found.timed("one joins and crashes"):
        found.crash(newcomer)
        found.settle()
    leaver = others.pop()
    with found.timed("one leaves and crashes"):
        found.decommission(leaver)
        found.crash(leaver)
        assert leaver.wait(LEAVE_S) == 0
        found.settle()
    for node in others:
        with found.timed(f"one joins while {node.name} crashes"):
            found.start_another()
            found.crash(node)
            found.settle()


def test_a_node_joins_and_another_leaves_under_load(tmp_path: Path) -> None:
    """A cluster of three takes a fourth node in and lets one of the founders go: no operation fails, all that was
    acknowledged is there, and entries that do not change are in every walk once.
    """
    with moving_cluster(tmp_path, 3, "--partitions", "16") as found:
        one_joins_and_one_leaves(found)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
def test_members_change_under_load(tmp_path: Path, engine: str) -> None:
    """Of five nodes two leave, two others join, one is replaced after its disk is lost, and all are restarted: the same
    holds, and in the end the replicas are spread evenly.
    """
    with moving_cluster(tmp_path, 5, "--engine", engine) as found:
        everything_that_changes_members(found)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
def test_nodes_crash_while_replicas_move(tmp_path: Path, engine: str) -> None:
    """Whoever is killed while replicas move, the newcomer, the leaver or any other, the moves go on to their end, and
    the same holds.
    """
    slowly = {"RINGHOLD_SNAPSHOT_BYTES_PER_S_MAX": "50000"}
    with moving_cluster(tmp_path, 4, "--engine", engine, "--partitions", "32", **slowly) as found:
        everybody_crashes_while_replicas_move(found)
