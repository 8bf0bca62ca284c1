"""What becomes of each group when a quorum is lost, by tables: the planning of a recovery is pure (DESIGN 8.6)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product

import pytest
from support.survivors import NEW, OTHER_PARTITION, PARTITION, copy, members, report, topology, without

from ringhold.node.consensus.configuration import Configuration, ReplicaId
from ringhold.node.recovery.documents import MalformedDocument
from ringhold.node.recovery.planning import EPOCH_LEAP, RecoveryRefused, plan_recovery, safe_voters
from ringhold.node.recovery.plans import Fate, GroupPlan, Plan, Task, decode_report, encode_report
from ringhold.node.recovery.reports import Copy, Health, NodeReport
from ringhold.node.recovery.verdicts import copies_told, summary, verdict
from ringhold.ring.topology import SYSTEM_GROUP, NodeState

THREE = topology("abc")
FIVE = topology("abcde", replication_factor=5)


def planned(*reports: NodeReport, restart_empty: bool = False) -> Plan:
    """The plan, as it arrives after it was written to a file and read again."""
    reports = tuple(decode_report(encode_report(each)) for each in reports)
    return Plan.decode(plan_recovery(reports, NEW, restart_empty=restart_empty).encode())


def plan_of(group: int, *reports: NodeReport, restart_empty: bool = False) -> GroupPlan:
    return next(each for each in planned(*reports, restart_empty=restart_empty).groups if each.group == group)


def test_the_last_of_three_is_the_only_voter() -> None:
    """One of three is left: it goes on alone, and writes since its last entry may be lost."""
    plan = planned(report("b", THREE, copy("abc", last=12, term=4)))
    group = plan.groups[PARTITION]
    assert (group.fate, group.best, group.position) == (Fate.UNCERTAIN, "b", (4, 12))
    assert group.configuration == members("b")
    assert group.missing == ("a", "c")
    assert verdict(plan, group) == (
        "writes acknowledged since entry 12 of term 4 may be lost: the replicas on name-a, name-c may have had entries "
        "after it"
    )
    assert copies_told(plan, group) == ["name-b: applied 11, last 12 of term 4, the best"]


def test_the_topology_leaves_the_dead_behind() -> None:
    """New id, an epoch beyond any command in the log, the dead REMOVED, targets and system voters survivors."""
    plan = planned(report("b", THREE))
    assert plan.dead == ("name-a", "name-c")
    assert plan.topology.cluster_id == plan.cluster_id == NEW
    assert plan.topology.epoch == THREE.epoch + EPOCH_LEAP
    states = {node.id: node.state for node in plan.topology.nodes}
    assert states == {"a": NodeState.REMOVED, "b": NodeState.NORMAL, "c": NodeState.REMOVED}
    assert plan.topology.targets == (("b",), ("b",))
    assert plan.topology.system_voters == ("b",)
    assert any("Never start them again" in sentence for sentence in summary(plan))


def test_the_newest_topology_counts() -> None:
    """What one survivor knows of a later epoch holds for all."""
    newer = topology("abc", epoch=9)
    assert planned(report("b", newer)).topology.epoch == 9 + EPOCH_LEAP


BOTH_LEFT = [
    ((2, 10), (2, 10), "a"),
    ((2, 10), (2, 11), "b"),
    ((2, 99), (3, 11), "b"),
    ((3, 11), (2, 99), "a"),
]


@pytest.mark.parametrize(("left", "right", "best"), BOTH_LEFT)
def test_the_best_copy_has_the_newest_log(left: tuple[int, int], right: tuple[int, int], best: str) -> None:
    """A later last term wins, then the longer log, then who should lead."""
    copies = [copy("abcde", term=term, last=last) for term, last in (left, right)]
    group = plan_of(PARTITION, *(report(n, FIVE, each) for n, each in zip("ab", copies, strict=True)))
    assert (group.fate, group.best, group.position) == (Fate.UNCERTAIN, best, max(left, right))
    assert group.configuration == members("ab")


def test_a_group_that_keeps_a_quorum_loses_nothing() -> None:
    """Two of three voters are left of one partition, one of another: only that one is uncertain."""
    known = topology("abcd")
    plan = planned(report("a", known), report("b", known))
    assert [group.fate for group in plan.groups] == [Fate.INTACT, Fate.INTACT, Fate.UNCERTAIN]
    assert plan.groups[PARTITION].configuration == members("ab")
    assert plan.groups[OTHER_PARTITION].configuration == members("b")
    assert "nothing is lost" in verdict(plan, plan.groups[PARTITION])


VOTERS_OF_FIVE = [
    ([10, 10, 10], "abc", ""),
    ([12, 10, 10], "ab", "c"),
    ([10, 10, 12], "ac", "b"),
    ([12, 12, 10], "abc", ""),
    ([12, 10, 11], "ac", "b"),
]


@pytest.mark.parametrize(("lasts", "voters", "learners"), VOTERS_OF_FIVE)
def test_no_majority_is_without_the_best(lasts: Sequence[int], voters: str, learners: str) -> None:
    """Of three survivors of five only one may have what is committed: two others must not elect one of themselves."""
    reports = [report(n, FIVE, copy("abcde", last=last)) for n, last in zip("abc", lasts, strict=True)]
    # partition 1 is the one that makes a recovery necessary
    reports = [without(each, [OTHER_PARTITION]) for each in reports]
    group = plan_of(PARTITION, *reports)
    assert group.fate is Fate.INTACT
    assert group.configuration == members(voters, learners)


@pytest.mark.parametrize("voters", range(1, 8))
def test_every_majority_holds_what_is_committed(voters: int) -> None:
    """Whoever survives, with whatever logs: a leader that the new voters elect has the newest log or all of it."""
    quorum = voters // 2 + 1
    for survivors in range(1, voters + 1):
        sure = quorum - (voters - survivors)
        for lengths in product((1, 2, 3), repeat=survivors):
            ids = [ReplicaId(f"n{at}", 0) for at in range(survivors)]
            copies = {each.node_id: copy("a", last=last) for each, last in zip(ids, lengths, strict=True)}
            chosen = safe_voters(ids, copies, sure=sure)
            assert is_safe(chosen, copies, survivors - sure)


def is_safe(chosen: Sequence[ReplicaId], copies: dict[str, Copy], unsure: int) -> bool:
    newest = max(each.position for each in copies.values())
    majorities = combinations(chosen, len(chosen) // 2 + 1)
    return all(
        len(majority) > unsure or any(copies[each.node_id].position == newest for each in majority)
        for majority in majorities
    )


def test_a_damaged_copy_is_made_anew_from_a_healthy_one() -> None:
    """It is listed as a learner under its old id and buried on its disk, so that the leader replaces it."""
    reports = [
        report("a", FIVE, copy("abcde", health=Health.DAMAGED)),
        report("b", FIVE, copy("abcde")),
    ]
    group = plan_of(PARTITION, *reports)
    assert group.configuration == members("b", "a")
    assert group.targets == ("b", "a")
    assert (group.task_of("a"), group.task_of("b"), group.task_of("c")) == (Task.BURY, Task.KEEP, Task.LEAVE)


def test_a_newer_log_without_rows_is_told_of() -> None:
    """The entries that only a damaged copy has can't be applied by anybody: said, with the index."""
    plan = planned(
        report("a", THREE, copy("abc", last=20, health=Health.DAMAGED)),
        report("b", THREE, copy("abc", last=12)),
        report("c", THREE, copy("abc", last=12)),
    )
    group = plan.groups[PARTITION]
    assert (group.fate, group.best, group.ahead) == (Fate.UNCERTAIN, "b", ("a",))
    assert "a newer copy that is no more healthy is on name-a (to entry 20)" in verdict(plan, group)


@pytest.mark.parametrize("health", [Health.DAMAGED, Health.INSTALLING, Health.GONE])
def test_a_partition_without_a_healthy_copy_is_lost(health: Health) -> None:
    """Its survivors say so for ever, under its targets; what is on their disks stays."""
    plan = planned(report("b", THREE, copy("abc", health=health)))
    group = plan.groups[PARTITION]
    assert (group.fate, group.configuration, group.targets) == (Fate.LOST, Configuration(()), ("b",))
    assert group.task_of("b") is Task.MARK_LOST
    assert "DATA_LOSS" in verdict(plan, group)


def test_a_partition_that_nobody_has_gets_a_target() -> None:
    """Somebody must answer DATA_LOSS: a survivor that never had the partition."""
    known = topology("abcdef")
    plan = planned(report("a", known))
    group = plan.groups[OTHER_PARTITION]
    assert (group.fate, group.targets, group.task_of("a")) == (Fate.LOST, ("a",), Task.MARK_LOST)
    assert copies_told(plan, group) == []


def test_a_lost_partition_may_begin_anew() -> None:
    """With --restart-empty it has new replicas on as many survivors as it should, none of them with a used id."""
    reports = [
        report("b", THREE, copy("abc", health=Health.GONE, number=17, last=0)),
        report("c", THREE, copy("abc", health=Health.INSTALLING, number=12, last=40, term=5, revision=9)),
    ]
    group = plan_of(PARTITION, *reports, restart_empty=True)
    assert group.fate is Fate.RESTARTED
    assert (group.began, group.began_term, group.revision) == (41, 6, 9)
    assert group.configuration == members("bc", number=41)
    assert group.targets == ("b", "c")
    assert group.task_of("b") is group.task_of("c") is Task.BEGIN


def test_a_partition_that_nobody_had_begins_as_founded() -> None:
    """Without anything known its replicas are founders: id 0, from entry 0."""
    known = topology("abcdef")
    plan = planned(report("a", known), report("b", known), restart_empty=True)
    group = plan.groups[OTHER_PARTITION]
    assert (group.fate, group.began, group.began_term) == (Fate.RESTARTED, 0, 0)
    assert set(group.configuration.voting_nodes) == {"a", "b"}


def test_a_lost_system_group_begins_anew_by_itself() -> None:
    """Every node knows the topology, so nothing is lost with the system group; it needs no --restart-empty."""
    known = topology("abcdef")
    plan = planned(report("d", known), report("e", known), report("f", known))
    system = plan.groups[SYSTEM_GROUP]
    assert (system.fate, system.revision) == (Fate.RESTARTED, 1)
    assert sorted(plan.topology.system_voters) == ["d", "e", "f"]
    assert system.configuration.voting_nodes == plan.topology.system_voters


SYSTEM_VOTERS = [([10, 10], "a", "b"), ([10, 12], "b", "a"), ([10, 10, 10], "abc", ""), ([12, 10, 10], "a", "bc")]


@pytest.mark.parametrize(("lasts", "voters", "learners"), SYSTEM_VOTERS)
def test_the_system_group_has_an_odd_number_of_voters(lasts: Sequence[int], voters: str, learners: str) -> None:
    """1, 3 or 5, in topology and configuration alike, and never a majority without the best."""
    reports = [
        without(report(n, FIVE, copy("abcde", last=last, group=SYSTEM_GROUP, revision=4)), [OTHER_PARTITION])
        for n, last in zip("abc", lasts, strict=False)
    ]
    plan = planned(*reports)
    system = plan.groups[SYSTEM_GROUP]
    assert system.configuration == members(voters, learners)
    assert plan.topology.system_voters == tuple(voters)
    assert system.revision == 5


def test_a_replica_of_another_id_is_no_member() -> None:
    """What is left of a replica that was removed and came back under a new id elsewhere is buried."""
    old = copy("abcde", last=5, number=0)
    new = copy("abcde", last=50, number=30)
    group = plan_of(PARTITION, report("a", FIVE, old), report("b", FIVE, new))
    assert group.configuration == members("b", number=30)
    assert group.task_of("a") is Task.BURY


def test_a_learner_may_have_the_best_copy() -> None:
    """It votes then; one that has less goes on learning."""
    best = copy("abc", learners="de", last=30)
    less = copy("abc", learners="de", last=20)
    reports = [report("c", FIVE, less), report("d", FIVE, best), report("e", FIVE, less)]
    group = plan_of(PARTITION, *(without(each, [OTHER_PARTITION]) for each in reports))
    assert (group.best, group.configuration) == ("d", members("cd", "e"))


REFUSALS = [
    ([], "nobody survives"),
    ([report("a", THREE), report("b", THREE), report("c", THREE)], "a majority of every group survives"),
    ([report("a", THREE), report("b", THREE)], "Just start the nodes"),
    ([report("a", THREE), report("a", THREE)], "two of these are of the same node, name-a"),
    ([report("a", THREE), report("b", THREE, cluster_id=NEW)], "not of one cluster"),
    ([report("a", topology("bcd", removed="a"))], "name-a is no node of the cluster any more"),
    ([report("z", THREE)], "name-z is no node of the cluster any more"),
]


@pytest.mark.parametrize(("reports", "sentence"), REFUSALS)
def test_what_can_not_be_right_is_refused(reports: Sequence[NodeReport], sentence: str) -> None:
    """Each with a sentence for people."""
    with pytest.raises(RecoveryRefused, match=sentence):
        plan_recovery(reports, NEW, restart_empty=False)


def test_what_was_lost_before_needs_the_flag() -> None:
    """When all nodes are here and some partitions stay lost, only --restart-empty has anything to do."""
    reports = [report(n, THREE, copy("abc", health=Health.GONE)) for n in "abc"]
    with pytest.raises(RecoveryRefused, match="With --restart-empty these begin anew"):
        plan_recovery(reports, NEW, restart_empty=False)
    assert plan_recovery(reports, NEW, restart_empty=True).groups[PARTITION].fate is Fate.RESTARTED


CUTS = [(b"", "not JSON"), (b"{}", "no recovery plan"), (b"[1]", "no recovery plan")]


@pytest.mark.parametrize(("text", "sentence"), CUTS)
def test_a_damaged_plan_is_refused(text: bytes, sentence: str) -> None:
    """Files that travel by hand are cut, mixed up and edited."""
    with pytest.raises(MalformedDocument, match=sentence):
        Plan.decode(text)


def test_an_edited_plan_is_refused() -> None:
    """The checksum says so; a report is no plan."""
    written = planned(report("b", THREE)).encode()
    with pytest.raises(MalformedDocument, match="checksum"):
        Plan.decode(written.replace(b'"uncertain"', b'"intact"'))
    with pytest.raises(MalformedDocument, match="not JSON"):
        Plan.decode(written[: len(written) // 2])
    with pytest.raises(MalformedDocument, match="no recovery plan"):
        Plan.decode(encode_report(report("b", THREE)))


LOSS = "the last 33 batches before its last sync are gone: it holds 7"


def losing(node_id: str, *copies: Copy) -> NodeReport:
    """A survivor whose engine has lost something."""
    given = report(node_id, topology("abc"), *copies)
    return replace(given, loss=LOSS, copies=tuple(replace(each, loss=LOSS) for each in given.copies))


def test_a_copy_that_lost_its_tail_is_no_part_of_a_quorum() -> None:
    """Two of three are here, but one has forgotten what it promised; where the other is as new, that alone goes on."""
    plan = planned(report("a", topology("abc")), losing("b"))
    group = plan.groups[PARTITION]
    assert (group.fate, group.best) == (Fate.UNCERTAIN, "a")
    assert group.configuration == Configuration((ReplicaId("a", 0),), (ReplicaId("b", 0),))
    assert (group.task_of("a"), group.task_of("b")) == (Task.KEEP, Task.BURY)
    assert f"The engine of name-b has lost data: {LOSS}" in " ".join(summary(plan))
    assert plan.losses == {"name-b": LOSS}
    assert "name-b: applied 9, last 10 of term 2, of an engine that has lost data" in copies_told(plan, group)


def test_a_quorum_without_it_loses_nothing() -> None:
    """However new the rest of its log is: the node rebuilds itself when it is started, as where nobody recovers."""
    others = [report(node_id, topology("abc")) for node_id in "ac"]
    with pytest.raises(RecoveryRefused, match="Just start the nodes"):
        planned(*others, losing("b", copy("abc", last=12)))
    damaged = [copy("abc", group=OTHER_PARTITION, health=Health.GONE) for _ in others]
    others = [report(node_id, topology("abc"), each) for node_id, each in zip("ac", damaged, strict=True)]
    plan = planned(*others, losing("b", copy("abc", last=12)))
    group, other = plan.groups[PARTITION], plan.groups[OTHER_PARTITION]
    assert (group.fate, group.best, group.task_of("b")) == (Fate.INTACT, "a", Task.BURY)
    assert (other.fate, other.best, other.task_of("b")) == (Fate.UNCERTAIN, "b", Task.KEEP)


def test_a_copy_that_lost_its_tail_is_used_where_none_is_newer() -> None:
    """It may be all there is: then it is told what it is, and no majority is without it."""
    plan = planned(report("a", topology("abc"), copy("abc", last=5)), losing("b", copy("abc", last=8)))
    group = plan.groups[PARTITION]
    assert (group.fate, group.best, group.position) == (Fate.UNCERTAIN, "b", (2, 8))
    assert group.configuration.voting_nodes == ("a", "b")
    assert (group.task_of("a"), group.task_of("b")) == (Task.KEEP, Task.KEEP)
    assert f"the best copy that is left is of an engine that has lost data: {LOSS}" in verdict(plan, group)


def test_a_cluster_of_one_goes_on_with_what_is_left() -> None:
    """Nobody is dead, and yet there is something to recover."""
    alone = topology("a", replication_factor=1)
    given = report("a", alone)
    plan = planned(replace(given, loss=LOSS, copies=tuple(replace(each, loss=LOSS) for each in given.copies)))
    assert {group.fate for group in plan.groups} == {Fate.UNCERTAIN}
    assert {group.task_of("a") for group in plan.groups} == {Task.KEEP}
    assert Plan.decode(plan.encode()) == plan
