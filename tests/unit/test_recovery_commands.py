"""`ringhold recover` on folders of stopped nodes: what it prints, asks, refuses and exits with."""

import asyncio
import io
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.stopped_nodes import change, make_node

from ringhold.node.cli.app import main
from ringhold.node.keyspace import vote_key
from ringhold.node.recovery.application import apply
from ringhold.node.recovery.inspection import inspect, stopped_node
from ringhold.node.recovery.planning import plan_recovery
from ringhold.node.recovery.unfinished import keep_plan
from ringhold.node.storage.folder import DataFolder


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    out: str
    err: str


Ringhold = Callable[..., Ended]


@pytest.fixture
def ringhold(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Ringhold:
    """Runs `ringhold recover` in this process."""

    def run(*arguments: str, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main(["recover", *arguments])
        captured = capsysbinary.readouterr()
        return Ended(code, captured.out.decode(), captured.err.decode())

    return run


@pytest.fixture
def survivor(tmp_path: Path) -> Path:
    """The folder of the one that is left of three."""
    return make_node(tmp_path / "a", "sqlite")


def cluster_id_of(path: Path) -> str:
    folder = DataFolder(path)
    identity = folder.identity()
    folder.close()
    assert identity is not None
    return identity.cluster_id


def test_without_unsafe_nothing_is_changed(ringhold: Ringhold, survivor: Path) -> None:
    """It says what may be lost and why it is unsafe, and exits with 2."""
    ended = ringhold("--data-dir", str(survivor))
    assert ended.code == 2
    assert "writes acknowledged since entry 5 of term 1 may be lost" in ended.out
    assert "nothing was changed. To do it, add --unsafe; it is unsafe: if a node that is left out" in ended.err
    assert cluster_id_of(survivor) == "old-id"
    assert not (survivor / "recovery-plan.json").exists()


def test_the_name_of_the_cluster_is_asked_for(ringhold: Ringhold, survivor: Path) -> None:
    """Anything else changes nothing; the name lets it go on, and what to do with the dead is said."""
    refused = ringhold("--unsafe", "--data-dir", str(survivor), stdin="yes\n")
    assert (refused.code, cluster_id_of(survivor)) == (1, "old-id")
    assert "that is not the cluster's name" in refused.err
    assert ringhold("--unsafe", "--data-dir", str(survivor)).code == 130
    ended = ringhold("--unsafe", "--data-dir", str(survivor), stdin="c\n")
    assert ended.code == 0
    assert "Never start them again with their old disks" in ended.out
    assert cluster_id_of(survivor) not in ("", "old-id")
    assert not (survivor / "recovery-plan.json").exists()


def test_a_second_time_there_is_nothing_to_do(ringhold: Ringhold, survivor: Path) -> None:
    """A recovered cluster has its quorums."""
    assert ringhold("--unsafe", "--yes", "--data-dir", str(survivor)).code == 0
    again = ringhold("--unsafe", "--yes", "--data-dir", str(survivor))
    assert again.code == 1
    assert "a majority of every group survives. Just start the nodes" in again.err


def test_the_three_steps(ringhold: Ringhold, survivor: Path, tmp_path: Path) -> None:
    """inspect and plan print documents, apply carries the plan out, once or twice."""
    report, plan = tmp_path / "a.json", tmp_path / "plan.json"
    inspected = ringhold("inspect", "--data-dir", str(survivor))
    report.write_text(inspected.out)
    safe = ringhold("plan", str(report))
    assert (safe.code, safe.out) == (2, "")
    assert "may be lost" in safe.err
    planned = ringhold("plan", "--unsafe", str(report))
    assert planned.code == 0
    assert "may be lost" in planned.err
    plan.write_text(planned.out)
    for _ in range(2):
        applied = ringhold("apply", str(plan), "--yes", "--data-dir", str(survivor))
        assert applied.code == 0
        assert "Apply the plan on the other survivors, too" in applied.out


def test_what_was_cut_short_is_finished(ringhold: Ringhold, tmp_path: Path) -> None:
    """The same command again finishes a recovery that ended after the first of two folders."""
    paths = [make_node(tmp_path / node_id, "sqlite", node_id) for node_id in "ab"]
    folders = [word for path in paths for word in ("--data-dir", str(path))]
    for path in paths:
        change(path, "sqlite", vote_key(2), b"damaged")
    with ExitStack() as stack:
        nodes = [stack.enter_context(stopped_node(path)) for path in paths]
        plan = plan_recovery([inspect(node) for node in nodes], "new-id", restart_empty=False)
        keep_plan(nodes, plan)
        asyncio.run(apply(nodes[0], plan))
    assert [cluster_id_of(path) for path in paths] == ["new-id", "old-id"]
    safe = ringhold(*folders)
    assert (safe.code, cluster_id_of(paths[1])) == (2, "old-id")
    ended = ringhold("--unsafe", "--yes", *folders)
    assert ended.code == 0
    assert "A recovery was cut short here; this is its plan." in ended.err
    assert [cluster_id_of(path) for path in paths] == ["new-id", "new-id"]


def test_wrong_input_is_refused(ringhold: Ringhold, survivor: Path, tmp_path: Path) -> None:
    """Each with one sentence, and nothing is changed."""
    cut = tmp_path / "cut.json"
    cut.write_text(ringhold("inspect", "--data-dir", str(survivor)).out[:100])
    stray = tmp_path / "stray"
    stray.mkdir()
    folder, other = ["--data-dir", str(survivor)], ["--data-dir", str(stray)]
    wrong: list[tuple[list[str], int, str]] = [
        ([], 2, "give --data-dir for each node that is left"),
        ([*folder, *folder], 2, "a data folder is given twice"),
        (["--unsafe", "inspect", *folder], 2, "options belong behind the subcommand"),
        (["--unsafe", *other], 1, "is no node's data folder"),
        (["inspect", *other], 1, "is no node's data folder"),
        (["plan", "--unsafe", str(cut)], 2, "can't be used: it is not JSON, or was cut"),
        (["plan", "--unsafe", str(tmp_path / "absent")], 1, "absent can't be read"),
        (["apply", str(cut), *folder], 2, "can't be used: it is not JSON, or was cut"),
        (["apply", str(cut)], 2, "--data-dir"),
    ]
    for arguments, code, sentence in wrong:
        ended = ringhold(*arguments)
        assert (ended.code, ended.out) == (code, ""), arguments
        assert sentence in ended.err
        assert ended.err.count("\n") == 1
    assert list(stray.iterdir()) == []
    assert cluster_id_of(survivor) == "old-id"
