"""Nodes that die, hang or leave under load, one at a time or all at once: nothing is lost, nothing is out of order,
and, all at once apart, no operation of a client fails (P1, P2, P4, P6).
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from simulation.history import History
from support.gateways import audit
from support.judgement import judge, log_tails, story_of
from support.load import INDEX, KEYS, WALK_MATCHES_MAX, Failure, Load, loaded
from support.nodes import NodeProcess, node_processes, running, wait_until

from ringhold import Client, RingholdError

SETTLE_TIMEOUT_S = 40.0
PROGRESS_TIMEOUT_S = 40.0
FAILURES_TOLD_MAX = 10
OPERATIONS_BETWEEN = 30
OPERATIONS_MEANWHILE = 30


class Trial:
    """Three nodes under load, what is done to them, and what must hold then."""

    def __init__(self, nodes: Sequence[NodeProcess], load: Load, watcher: Client) -> None:
        self.nodes = nodes
        self._load = load
        self._watcher = watcher
        self._forgiven_until = 0.0

    def kill(self, node: NodeProcess) -> None:
        """kill -9, load without the node, restart."""
        node.kill()
        self._meanwhile()
        node.start()
        self.settle()

    def terminate(self, node: NodeProcess) -> None:
        """SIGTERM, load without the node, restart."""
        assert node.terminate() == 0
        self._meanwhile()
        node.start()
        self.settle()

    def stop(self, node: NodeProcess, seconds: float) -> None:
        """SIGSTOP, load for so long, SIGCONT."""
        node.signal(signal.SIGSTOP)
        resumed_at = time.monotonic() + seconds
        self._meanwhile()
        wait_until(lambda: time.monotonic() >= resumed_at, "the pause is over", seconds + 1.0)
        node.signal(signal.SIGCONT)
        self.settle()

    def kill_all(self) -> None:
        """kill -9 of all at once, and restart: operations may fail until all is well again."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.start()
        self._recover()
        self._forgiven_until = time.monotonic()
        self.settle()

    def settle(self) -> None:
        """Until all is well again; then every gateway is asked for everything, under load."""
        self._recover()
        audit([node.grpc for node in self.nodes], self._load.history, KEYS, INDEX, WALK_MATCHES_MAX)
        self.refuse_failures()

    def refuse_failures(self) -> None:
        assert not self.failures, self.told_failures()

    @property
    def failures(self) -> list[Failure]:
        """The operations that failed and had no right to."""
        return [each for each in self._load.failures if each.at > self._forgiven_until]

    def told_failures(self) -> str:
        """They, with the history of the first one's key."""
        failures = self.failures
        lines = [f"{len(failures)} operations failed:", *map(str, failures[:FAILURES_TOLD_MAX])]
        stories = [story_of(self._load.history, failure.subject) for failure in failures[:1]]
        return "\n".join([*lines, *stories])

    def _recover(self) -> None:
        for node in self.nodes:
            node.wait_until_ready()
        wait_until(self._is_healthy, "every partition is led by its preferred node", SETTLE_TIMEOUT_S)
        self._load.wait_for(OPERATIONS_BETWEEN, PROGRESS_TIMEOUT_S)

    def _meanwhile(self) -> None:
        self._load.wait_for(OPERATIONS_MEANWHILE, PROGRESS_TIMEOUT_S)

    def _is_healthy(self) -> bool:
        try:
            status, topology = self._watcher.status(), self._watcher.topology()
        except RingholdError:
            return False
        everybody = all(node.reachable for node in status.nodes) and not status.unavailable_partitions
        return everybody and all(partition.leader == partition.replicas[0] for partition in topology.partitions)


@contextmanager
def trial(folder: Path, engine: str) -> Iterator[Trial]:
    """A cluster under load for the block; after it the history is judged. What fails is told with the nodes' logs."""
    nodes = node_processes(folder, 3, ["--engine", engine])
    history = History()
    try:
        with running(nodes):
            endpoints = [node.grpc for node in nodes]
            with loaded(endpoints, history, seed=0) as load, Client(endpoints, timeout_s=3.0) as watcher:
                found = Trial(nodes, load, watcher)
                with told(found):
                    found.settle()
                    yield found
            found.refuse_failures()
            history.settle(time.monotonic())
            judge(nodes, history)
    except AssertionError as error:
        error.add_note(log_tails(nodes))
        raise


@contextmanager
def told(found: Trial) -> Iterator[None]:
    """What fails in the block is told with the operations that failed."""
    try:
        yield
    except AssertionError as error:
        error.add_note(found.told_failures())
        raise


def kill_each(found: Trial) -> None:
    for node in found.nodes:
        found.kill(node)


def stop_each(found: Trial) -> None:
    for node in found.nodes:
        found.stop(node, 10.0)


def terminate_each(found: Trial) -> None:
    for node in found.nodes:
        found.terminate(node)


def kill_all_twice(found: Trial) -> None:
    found.kill_all()
    found.kill_all()


@pytest.mark.long
def test_a_cluster_goes_on_without_one_node(tmp_path: Path) -> None:
    """A node is killed, another hangs, then all are killed: before that nothing fails, and nothing is ever lost."""
    with trial(tmp_path, "sqlite") as found:
        found.kill(found.nodes[0])
        found.stop(found.nodes[1], 4.0)
        found.kill_all()


@pytest.mark.long
def test_a_cluster_on_rocksdb_goes_on_without_one_node(tmp_path: Path) -> None:
    """The same with the other engine: a node is killed, then all."""
    with trial(tmp_path, "rocksdb") as found:
        found.kill(found.nodes[2])
        found.kill_all()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
@pytest.mark.parametrize("scenario", [kill_each, stop_each, terminate_each, kill_all_twice])
def test_failover(tmp_path: Path, engine: str, scenario: Callable[[Trial], None]) -> None:
    """kill -9 of each node, SIGSTOP of each for 10 s, SIGTERM of each, kill -9 of all: every promise holds."""
    with trial(tmp_path, engine) as found:
        scenario(found)
