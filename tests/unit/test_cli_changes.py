"""The commands that change the cluster, plan changes and follow them: what they send, print and exit with."""

import io
import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console
from support.command_line import Ended, Ringhold, command_line
from support.fake_server import FakeCluster, Fault, Stage, fake_cluster
from support.nodes import wait_until

from ringhold import Client
from ringhold.api.client.results import ClusterStatus, Move, Node, NodeStatus
from ringhold.api.errors import error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.node.cli import change_views, move_views, progress, watching

LEAVING = {"node-3": cluster_pb2.NODE_STATE_LEAVING}
GONE = {"node-3": cluster_pb2.NODE_STATE_REMOVED}
MIB = 1024 * 1024


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as running:
        yield running


@pytest.fixture
def ringhold(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Ringhold:
    monkeypatch.setattr(watching, "PAUSE_S", 0.0)
    return command_line(cluster, monkeypatch, capsysbinary)


def planned(partitions: int = 2, seconds: float = 125.0) -> cluster_pb2.ChangeResponse:
    moves = [
        cluster_pb2.PlannedMove(partition=number, adding=["node-2"], removing=["node-3"], bytes=MIB)
        for number in range(partitions)
    ]
    loads = [
        cluster_pb2.NodeLoad(name=f"node-{number}", host="h", replicas_before=9, replicas_after=number)
        for number in (10, 9, 8)
    ]
    warnings = ["two replicas [share] a host"]
    system = cluster_pb2.PlannedMove(adding=["node-1"])
    return cluster_pb2.ChangeResponse(
        moves=[system, *moves], loads=loads, bytes=partitions * MIB, seconds=seconds, warnings=warnings
    )


def moving(partition: int, step: str, done: int = 0, total: int = 0) -> cluster_pb2.Move:
    return cluster_pb2.Move(
        partition=partition,
        adding=["node-2"],
        removing=["node-3"],
        step=f"MOVE_STEP_{step}",
        bytes_done=done,
        bytes_total=total,
    )


def orders(cluster: FakeCluster) -> list[tuple[str, object]]:
    """The orders that reached a node, of changes that were no dry runs."""
    return [
        (kind := str(each.WhichOneof("kind")), getattr(each, kind))
        for call in cluster.calls_of("Change")
        for each in call.request.changes
        if not call.request.dry_run
    ]


@pytest.mark.parametrize(
    ("arguments", "order", "text"),
    [
        (["node", "decommission", "node-3"], ("decommission", "node-3"), "node-3 leaves: nothing moves\n"),
        (["node", "keep", "node-3"], ("keep", "node-3"), "node-3 stays: nothing moves\n"),
        (["node", "remove", "node-3", "--force"], ("remove", "node-3"), "node-3 is removed: nothing moves\n"),
        (["node", "cordon", "node-3"], ("cordon", "node-3"), "node-3 gets no more replicas: nothing moves\n"),
        (["node", "uncordon", "node-3"], ("uncordon", "node-3"), "node-3 gets replicas again: nothing moves\n"),
        (["cluster", "set", "rf=5"], ("replication_factor", 5), "rf=5: nothing moves\n"),
    ],
)
def test_each_command_gives_its_order(
    ringhold: Ringhold, cluster: FakeCluster, arguments: list[str], order: tuple[str, object], text: str
) -> None:
    """One sentence says what comes of it."""
    cluster.dead.add("node-3")
    assert ringhold(*arguments) == Ended(0, text.encode(), "")
    assert orders(cluster) == [order]


def test_an_order_says_what_moves(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """In words for people, the epoch alone in plain, all of it in JSON; warnings are shown as they are."""
    cluster.planned = planned()
    assert ringhold("node", "decommission", "node-3").out.decode().splitlines() == [
        "node-3 leaves: 3 groups move, 2.0 MiB to copy, about 2 min at the throttle",
        "note: two replicas [share] a host",
        "to follow it: ringhold status --watch",
    ]
    assert ringhold("node", "cordon", "node-3", "-o", "plain") == Ended(0, b"3\n", "")
    answer = json.loads(ringhold("cluster", "set", "rf=2", "-o", "json").out)
    assert (answer["epoch"], answer["bytes"], answer["seconds"]) == (4, 2 * MIB, 125.0)
    assert answer["moves"][0] == {"partition": None, "adding": ["node-1"], "removing": [], "bytes": 0}
    assert answer["loads"][0]["replicas_before"] == 9
    assert answer["warnings"] == ["two replicas [share] a host"]


def test_without_a_throttle_no_time_is_told(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Nobody knows how long it takes then."""
    cluster.planned = planned(partitions=1, seconds=0.0)
    assert ringhold("cluster", "set", "rf=2").out.startswith(b"rf=2: 2 groups move, 1.0 MiB to copy\n")


def test_plan(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """It shows loads before and after by name, moves and warnings, and changes nothing."""
    cluster.planned = planned()
    asked = ["plan", "--add", "2", "--remove", "node-3", "--decommission", "node-1", "--decommission", "node-2"]
    lines = ringhold(*asked, "--rf", "5").out.decode().splitlines()
    assert lines[0] == "planned: 3 groups move, 2.0 MiB to copy, about 2 min at the throttle"
    assert lines[-2:] == ["note: two replicas [share] a host", "Nothing was changed."]
    rows = [line.split() for line in lines]
    assert [row[:6] for row in rows if row[:1] and row[0].startswith("node-")] == [
        ["node-8", "h", "-", "9", "→", "8"],
        ["node-9", "h", "-", "9", "0", "0"],
        ["node-10", "h", "-", "9", "→", "10"],
    ]
    assert ["partition", "1", "node-2", "node-3", "1.0", "MiB"] in rows
    plain = ringhold(*asked, "-o", "plain").out.decode()
    assert plain == f"system\tnode-1\t-\t0\n0\tnode-2\tnode-3\t{MIB}\n1\tnode-2\tnode-3\t{MIB}\n"
    assert json.loads(ringhold(*asked, "-o", "json").out)["loads"][0]["name"] == "node-10"
    assert [each.WhichOneof("kind") for each in cluster.calls_of("Change")[0].request.changes] == [
        "add",
        "remove",
        "decommission",
        "decommission",
        "replication_factor",
    ]
    assert (orders(cluster), cluster.states, cluster.store.epoch) == ([], {}, 1)


def test_a_plan_of_nothing_to_move(ringhold: Ringhold) -> None:
    """It says so."""
    assert ringhold("plan", "--add", "1").out.startswith(b"planned: nothing moves\n")


def test_a_long_plan_is_cut(ringhold: Ringhold, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is bounded and says so; JSON has all."""
    monkeypatch.setattr(change_views, "MOVES_SHOWN_MAX", 2)
    cluster.planned = planned(partitions=4)
    assert "and 3 more, all of them with -o json" in ringhold("plan", "--add", "1").out.decode()
    assert len(json.loads(ringhold("plan", "--add", "1", "-o", "json").out)["moves"]) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["node", "decommission"], "Missing argument 'NAME'"),
        (["node", "decommission", ""], "the name of a node is missing"),
        (["node", "keep", ""], "the name of a node is missing"),
        (["node", "remove", ""], "the name of a node is missing"),
        (["node", "remove", "", "--force"], "the name of a node is missing"),
        (["node", "cordon", "x" * 300], "no node can be called"),
        (["node", "uncordon", "\udcff"], "no node can be called '\\udcff'"),
        (["node", "keep", "a\nb"], "no node can be called 'a\\nb'"),
        (["node", "keep", "nobody"], "no node is named nobody"),
        (["node", "decommission", "nobody", "--wait"], "no node is named nobody"),
        (["node", "remove", "nobody", "--force"], "no node is named nobody"),
        (["node", "frobnicate"], "No such command 'frobnicate'"),
        (["cluster", "set"], "Missing argument 'KEY=VALUE…'"),
        (["cluster", "set", "rf"], "rf: write KEY=VALUE, for instance rf=5"),
        (["cluster", "set", ""], "write KEY=VALUE"),
        (["cluster", "set", "rf="], "rf=: rf is a whole number"),
        (["cluster", "set", "rf=abc"], "rf=abc: rf is a whole number"),
        (["cluster", "set", "rf=-1"], "rf=-1: rf is a whole number"),
        (["cluster", "set", "rf=3.0"], "rf=3.0: rf is a whole number"),
        (["cluster", "set", "rf=٣"], "rf is a whole number"),
        (["cluster", "set", "rf=" + "9" * 5_000], "rf is a whole number"),
        (["cluster", "set", "rf=0"], "the replication factor is from 1 to 9, not 0"),
        (["cluster", "set", "rf=10"], "the replication factor is from 1 to 9, not 10"),
        (["cluster", "set", "rf=5", "rf=3"], "there is one replication factor, not 3 and 5"),
        (["cluster", "set", "speed=5"], "there is no setting 'speed', there is rf"),
        (["cluster", "set", "=5"], "there is no setting '', there is rf"),
        (["plan"], "--add, --remove, --decommission or --rf"),
        (["plan", "--rf", "0"], "the replication factor is from 1 to 9, not 0"),
        (["plan", "--rf", "abc"], "--rf"),
        (["plan", "--add", "0"], "from 1 to 4096 nodes can be added, not 0"),
        (["plan", "--add", "many"], "--add"),
        (["plan", "--remove", ""], "the name of a node is missing"),
        (["plan", "--remove", "nobody"], "no node is named nobody"),
        (["plan", "--remove", "node-1", "--decommission", "node-1"], "can't have both: decommission and remove"),
    ],
)
def test_wrong_input(ringhold: Ringhold, cluster: FakeCluster, arguments: list[str], words: str) -> None:
    """It is one sentence on stderr and exit code 2, and changes nothing."""
    ended = ringhold(*arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1)
    assert ended.err.startswith("ringhold: ")
    assert words in ended.err
    assert (cluster.states, cluster.cordoned, cluster.replication_factor) == ({}, set(), 1)


def test_to_remove_a_node_takes_force(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Without, it says what that means and asks nobody; with it, it is refused while the node is alive."""
    without = ringhold("node", "remove", "node-3")
    assert (without.code, without.out, cluster.calls) == (2, b"", [])
    assert "nothing was changed" in without.err
    assert "ringhold node decommission node-3" in without.err
    assert ringhold("node", "remove", "node-3", "--force") == Ended(
        1, b"", "ringhold: node-3 is alive: decommission it\n"
    )


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (error_for("NO_QUORUM", "the system group has no leader"), 4, "the system group has no leader"),
        (None, 5, "the change may or may not have been made, to give it again is safe"),
    ],
)
def test_a_change_that_nobody_decides(
    ringhold: Ringhold, cluster: FakeCluster, fault: Any, code: int, words: str
) -> None:
    """Without a leader nothing was changed; without an answer it is in doubt: each has its exit code."""
    cluster.faults.append(Fault("Change", times=1_000, error=fault))
    ended = ringhold("node", "decommission", "node-3", "--timeout", "0.3")
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, b"", 1)
    assert words in ended.err


def test_status_counts_who_has_left(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Each scale-down leaves one behind for ever, by name: the table is of those that are there."""
    assert "has left for good" not in ringhold("status").out.decode()
    cluster.states.update(GONE)
    text = ringhold("status").out.decode()
    assert "node-3" not in text
    assert "a node has left for good" in text
    cluster.states.update({"node-2": cluster_pb2.NODE_STATE_REMOVED})
    assert "2 nodes have left for good" in ringhold("status").out.decode()
    assert [node["name"] for node in json.loads(ringhold("status", "-o", "json").out)["nodes"]] == [
        "node-1",
        "node-2",
        "node-3",
    ]


def test_status_shows_what_moves(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Under the nodes: whether the cluster is settled, then the moves, those that run first; who is cordoned, too."""
    assert "settled: every replica is where it should be" in ringhold("status").out.decode()
    cluster.cordoned.add("node-1")
    waiting = cluster_pb2.Move(adding=["node-2"], step=cluster_pb2.MOVE_STEP_WAITING)
    cluster.stages = deque([Stage([moving(4, "REMOVING"), waiting, moving(5, "COPYING", MIB, 2 * MIB)], LEAVING)])
    text = ringhold("status").out.decode()
    assert "replication factor 1" in text
    assert "NORMAL, cordoned" in text
    assert "not settled: 3 groups move, 1.0 MiB of 2.0 MiB copied; node-3 LEAVING" in text
    rows = [line.split() for line in text.splitlines()]
    assert [row[:2] for row in rows if row[:1] == ["partition"] or row[:2] == ["the", "system"]] == [
        ["partition", "5"],
        ["partition", "4"],
        ["the", "system"],
    ]
    assert ["partition", "5", "node-2", "node-3", "copying", "━━━━━━━━━━━━", "1.0", "MiB", "of", "2.0", "MiB"] in rows
    status = json.loads(ringhold("status", "-o", "json").out)
    assert (status["is_settled"], status["replication_factor"]) == (False, 1)
    assert [node["cordoned"] for node in status["nodes"]] == [True, False, False]
    assert status["moves"][2] == {
        "partition": 5,
        "adding": ["node-2"],
        "removing": ["node-3"],
        "step": "COPYING",
        "bytes_done": MIB,
        "bytes_total": 2 * MIB,
    }


def test_many_moves_are_cut(ringhold: Ringhold, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of moves is bounded and says so."""
    monkeypatch.setattr(move_views, "MOVES_SHOWN_MAX", 2)
    cluster.stages = deque([Stage([moving(number, "WAITING") for number in range(5)])])
    text = ringhold("status").out.decode()
    assert "5 groups move" in text
    assert "and 3 more" in text
    assert "partition 2" not in text


def story() -> deque[Stage]:
    """A node leaves, seen at five moments."""
    first = [moving(1, "COPYING", 0, 9), moving(2, "WAITING")]
    return deque(
        [
            Stage(first, LEAVING),
            Stage(first, LEAVING),
            Stage([moving(1, "REMOVING", 9, 9), moving(2, "COPYING")], LEAVING),
            Stage([moving(2, "COPYING", 3, 4)], LEAVING),
            Stage([], GONE),
        ]
    )


def test_watch_prints_what_happens(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """On a pipe it is a line for each change, until the cluster is settled; bytes alone are no change."""
    cluster.stages = story()
    assert ringhold("status", "--watch").out.decode().splitlines() == [
        "node-3 is LEAVING",
        "partition 1 to node-2 from node-3: copying",
        "partition 2 to node-2 from node-3: waiting",
        "partition 2 to node-2 from node-3: copying",
        "partition 1 to node-2 from node-3: removing",
        "partition 1 has moved",
        "node-3 is REMOVED",
        "partition 2 has moved",
        "settled at epoch 1",
    ]
    cluster.stages = story()
    assert ringhold("status", "--watch", "-o", "plain").out.decode().splitlines() == [
        "node\tnode-3\tLEAVING",
        "move\t1\tcopying\tnode-2\tnode-3",
        "move\t2\twaiting\tnode-2\tnode-3",
        "move\t2\tcopying\tnode-2\tnode-3",
        "move\t1\tremoving\tnode-2\tnode-3",
        "moved\t1",
        "node\tnode-3\tREMOVED",
        "moved\t2",
        "settled\t1",
    ]
    cluster.stages = story()
    told = [json.loads(line) for line in ringhold("status", "--watch", "-o", "json").out.splitlines()]
    assert [len(status["moves"]) for status in told] == [2, 2, 1, 0]
    assert [status["is_settled"] for status in told] == [False, False, False, True]


def test_watch_of_a_settled_cluster_ends_at_once(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """One look is enough."""
    assert ringhold("status", "--watch") == Ended(0, b"settled at epoch 1\n", "")
    assert len(cluster.calls_of("Status")) == 1


def test_watch_ends_when_nobody_answers(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """As every command does."""
    cluster.faults.append(Fault("Status", times=1_000, error=error_for("NOT_READY", "not yet")))
    assert ringhold("status", "--watch", "--timeout", "0.3") == Ended(4, b"", "ringhold: not yet\n")


def test_an_older_node_is_not_taken_for_an_unsettled_one(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """It does not say what moves: status leaves that out, and a watch would never end."""
    cluster.replication_factor = 0
    assert "settled" not in ringhold("status").out.decode()
    ended = ringhold("status", "--watch")
    assert (ended.code, ended.out) == (1, b"")
    assert "of an older release" in ended.err


def terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=160, height=50), written


def test_watch_on_a_terminal(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table lives: it is drawn at each look, what moves on top, and the last one stays."""
    screen, written = terminal()
    monkeypatch.setattr(watching, "PAUSE_S", 0.0)
    monkeypatch.setattr(watching, "console", lambda: screen)
    cluster.stages = story()
    with watching_client(cluster) as client:
        watching.watch_table_live(client)
    text = written.getvalue()
    assert "not settled: 1 group moves, 3 B of 4 B copied; node-3 LEAVING" in text
    last = text[text.rindex("cluster fake") :]
    assert "settled: every replica is where it should be" in last
    assert last.index("settled:") < last.index("node-1")


@contextmanager
def watching_client(cluster: FakeCluster) -> Iterator[Any]:
    with Client(cluster.endpoints, timeout_s=5) as client:
        yield client


def news(before: ClusterStatus | None, after: ClusterStatus) -> list[str]:
    return [each.sentence for each in move_views.news_between(before, after)]


def test_news_of_nodes(cluster: FakeCluster) -> None:
    """A node that comes, goes from the list, or is settled again is news; at first, only who is on the way."""
    with watching_client(cluster) as client:
        three = client.status()
        cluster.states["node-1"] = cluster_pb2.NODE_STATE_JOINING
        joining = client.status()
    two = ClusterStatus("c", "id", 1, three.nodes[1:], (), is_settled=False)
    assert news(None, three) == ["settled at epoch 1"]
    assert news(None, joining) == ["node-1 is JOINING"]
    assert news(two, joining) == ["node-1 is JOINING"]
    assert news(three, two) == ["node-1 is REMOVED"]
    assert news(two, three) == ["node-1 is NORMAL", "settled at epoch 1"]
    assert news(three, three) == []


def test_wait(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """The command returns when the node has left, and says so to people."""
    cluster.stages = story()
    assert ringhold("node", "decommission", "node-3", "--wait") == Ended(
        0, b"node-3 leaves: nothing moves\nnode-3 has left\n", ""
    )
    assert len(cluster.calls_of("Status")) == 5
    cluster.stages = deque([Stage([], GONE)])
    cluster.states.clear()
    assert ringhold("node", "decommission", "node-3", "--wait", "-o", "plain") == Ended(0, b"3\n", "")


def test_wait_until_somebody_takes_it_back(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Then it is a failure: the node has not left."""
    cluster.stages = deque([Stage([], LEAVING), Stage([], {"node-3": cluster_pb2.NODE_STATE_JOINING})])
    ended = ringhold("node", "decommission", "node-3", "--wait")
    assert (ended.code, ended.err) == (1, "ringhold: node-3 stays: somebody has taken its decommission back\n")


def node_in(state: str, node_id: str = "id-3", epoch: int = 1) -> ClusterStatus:
    node = Node(node_id, "node-3", "a:1", "a:2", "", "", 1, state, "ALIVE")
    return ClusterStatus("c", "id", epoch, (NodeStatus(node, True, 0, 0, 0, 0, "", "", 0.0),), ())


def test_wait_ignores_who_has_not_heard_of_it() -> None:
    """A status of an epoch before the change says nothing."""
    told: list[ClusterStatus] = []
    looks = iter([node_in("NORMAL"), node_in("LEAVING", epoch=2), node_in("NORMAL"), node_in("REMOVED", epoch=3)])
    watching.until_removed(looks, "node-3", 2, told.append)
    assert told == [node_in("LEAVING", epoch=2)]
    assert list(looks) == []


def test_wait_is_for_the_node_and_not_for_its_name() -> None:
    """Another node may get the name as soon as it is free."""
    looks = iter([node_in("LEAVING"), node_in("JOINING", "heir"), node_in("NORMAL", "heir")])
    watching.until_removed(looks, "node-3", 1, lambda _status: None)
    assert list(looks) == [node_in("NORMAL", "heir")]


def test_wait_that_breaks_off(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """The order was given; the sentence says that the node goes on leaving, and the exit code why nobody waits."""
    cluster.faults.append(Fault("Status", times=1_000, error=error_for("NOT_READY", "not yet")))
    ended = ringhold("node", "decommission", "node-3", "--wait", "--timeout", "0.3")
    assert (ended.code, ended.out) == (4, b"node-3 leaves: nothing moves\n")
    assert ended.err == ("ringhold: the waiting broke off: not yet; node-3 goes on leaving, see `ringhold status`\n")


def test_ctrl_c_ends_only_the_waiting(cluster: FakeCluster) -> None:
    """It says so, and how to take the order back; the node goes on leaving."""
    cluster.stages = deque([Stage([moving(1, "COPYING")], LEAVING)])
    arguments = ["node", "decommission", "node-3", "--wait", "--endpoints", cluster.endpoints[0]]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "ringhold", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: cluster.calls_of("Status"), "the node is asked how far it is")
        waiting.send_signal(signal.SIGINT)
        out, complaint = waiting.communicate(timeout=20)
    finally:
        waiting.kill()
    assert (waiting.returncode, out) == (130, b"node-3 leaves: nothing moves\n")
    assert complaint == (
        b"ringhold: the waiting was stopped; node-3 goes on leaving, see `ringhold status`, "
        b"`ringhold node keep node-3` would take it back\n"
    )
    assert cluster.states == LEAVING


def test_the_bar_of_a_leaving_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts the groups that move away from the node, those under way by their bytes; others do not count."""
    screen, written = terminal()
    monkeypatch.setattr(progress, "Console", lambda **_options: screen)
    away = [Move(number, ("b",), ("a",), "COPYING", 3, 4) for number in (1, 2)]
    other = Move(3, ("b",), ("c",), "COPYING", 0, 99)
    with progress.leave_progress("a") as tell:
        for moves in ([*away, other], [other, away[0]], [other]):
            tell(ClusterStatus("c", "id", 1, (), (), moves=tuple(moves)))
            screen.file.flush()
    assert "a leaves" in written.getvalue()
    assert "2 of 2 groups moved" in written.getvalue()


@pytest.mark.parametrize(("done", "total", "rest"), [(0, 4, 1.0), (1, 4, 0.75), (4, 4, 0.0), (9, 4, 0.0), (5, 0, 1.0)])
def test_what_is_left_of_a_move(done: int, total: int, rest: float) -> None:
    """Between 1 and 0 by its bytes, 1 while nobody knows how many they are."""
    assert progress.remainder(Move(1, (), (), "COPYING", done, total)) == rest


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs are no place for it."""
    with watching.progress_of("a") as tell:
        tell(ClusterStatus("c", "id", 1, (), ()))
    assert capsys.readouterr().err == ""


def test_groups_show_their_help(ringhold: Ringhold) -> None:
    """A bare `node` or `cluster` shows its commands, on stdout, as a bare `ringhold` does."""
    for group, commands in (("node", ["decommission", "keep", "remove", "cordon", "uncordon"]), ("cluster", ["set"])):
        ended = ringhold(group)
        assert ended.code == 2
        assert all(f"ringhold {group}" in ringhold(group, each, "--help").out.decode() for each in commands)
        assert all(each in (ended.out.decode() + ended.err) for each in commands)
