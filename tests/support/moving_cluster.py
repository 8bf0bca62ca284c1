"""A cluster of real nodes whose members change under load, and what must hold meanwhile (P1, P2, P4, P6)."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from simulation.history import History

from ringhold import Client, RingholdError, Set

from .judgement import judge, log_tails, story_of
from .load import DEADLINE_S, Load, loaded
from .nodes import NodeProcess, free_ports, node_processes, running, wait_until

SETTLE_TIMEOUT_S = 120.0
OPERATIONS_BETWEEN = 20
PROGRESS_TIMEOUT_S = 40.0
FAILURES_TOLD_MAX = 10

STILL_INDEX = "still"
STILL_RECORDS = 150
STILL_VALUE = b"." * 2_000
STILL_PAGE_SIZE = 10
BETWEEN_PAGES_S = 0.02
"""A program that does something with each page: so a walk lasts as long as some moves."""


class Walker:
    """A client that walks all pages of an index of which nothing changes: each entry must be there once (P4)."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.walks = 0
        self.wrong: list[str] = []
        self._endpoints = endpoints
        self._expected = [(b"%d" % (number % 7), b"still-%03d" % number) for number in range(STILL_RECORDS)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="walker")

    def __enter__(self) -> Self:
        """Return when the records are there and the walks have begun."""
        with Client(self._endpoints, timeout_s=DEADLINE_S) as client:
            for outcome in client.batch([Set(key, STILL_VALUE, {STILL_INDEX: value}) for value, key in self._expected]):
                assert isinstance(outcome, int), outcome
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with Client(self._endpoints, timeout_s=DEADLINE_S) as client:
            while not self._stopped.is_set():
                try:
                    self._judge(self._walk(client))
                except RingholdError as error:
                    self.wrong.append(f"a walk failed at {time.monotonic():.4f}: {error.reason} {error}")
                self.walks += 1

    def _walk(self, client: Client) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        for match in client.find(STILL_INDEX, page_size=STILL_PAGE_SIZE, with_records=False):
            found.append((match.index_value, match.key))
            if len(found) % STILL_PAGE_SIZE == 0:
                self._stopped.wait(BETWEEN_PAGES_S)
        return found

    def _judge(self, found: Sequence[tuple[bytes, bytes]]) -> None:
        if found != sorted(self._expected):
            lacks, has = Counter(self._expected) - Counter(found), Counter(found) - Counter(self._expected)
            self.wrong.append(f"a walk lacks {sorted(lacks)}, has too much {sorted(has)}, of {len(found)} entries")


class MovingCluster:
    """Nodes under load, what is done to them, and what must hold then. `nodes` are those that should be in."""

    def __init__(self, nodes: Sequence[NodeProcess], load: Load, walker: Walker, watcher: Client) -> None:
        self.nodes = list(nodes)
        self.everybody = list(nodes)
        """Who has left, too."""
        self._founders = list(nodes)
        self._load = load
        self._walker = walker
        self._watcher = watcher

    def start_another(self) -> NodeProcess:
        """A node that asks to be let in."""
        first = self._founders[0]
        grpc, http = (f"127.0.0.1:{port}" for port in free_ports(2))
        folder = first.data_dir.with_name(f"node-{len(self.everybody) + 1}")
        options = [*first.arguments, "--seeds", ",".join(node.http for node in self._founders)]
        node = NodeProcess(folder.name, grpc, http, folder, without_expect(options), first.variables)
        self.everybody.append(node)
        self.nodes.append(node)
        node.start()
        return node

    def decommission(self, node: NodeProcess) -> None:
        """By the command of an operator; returns when that does."""
        others = [each.grpc for each in self.nodes if each is not node]
        command = [sys.executable, "-m", "ringhold", "node", "decommission", node.name, "--endpoints", ",".join(others)]
        ended = subprocess.run(command, capture_output=True, timeout=60, check=False, env=without_settings())
        assert ended.returncode == 0, ended.stderr.decode()
        self.nodes.remove(node)

    def replace(self, node: NodeProcess) -> None:
        """kill -9, its folder is gone, and a new node of its name takes its place; returns when that is in."""
        former = self._state_of(node.name)[0]
        node.kill()
        shutil.rmtree(node.data_dir)
        node.start()
        wait_until(lambda: self._state_of(node.name)[0] != former, f"another {node.name} is in", SETTLE_TIMEOUT_S)

    def restart(self, node: NodeProcess) -> None:
        """SIGTERM, load without the node, start; returns when all is well again."""
        assert node.terminate() == 0
        self.meanwhile()
        node.start()
        self.settle()

    def crash(self, node: NodeProcess) -> None:
        """kill -9 while replicas move, load without the node, start."""
        wait_until(self._is_moving, "replicas move", SETTLE_TIMEOUT_S)
        node.kill()
        self.meanwhile()
        node.start()

    def meanwhile(self) -> None:
        self._load.wait_for(OPERATIONS_BETWEEN, PROGRESS_TIMEOUT_S)

    def settle(self) -> None:
        """Until who should be in is in, nothing moves any more, and every partition is led by its preferred node."""
        wait_until(self._is_settled, "the cluster is settled", SETTLE_TIMEOUT_S)
        self.meanwhile()
        self.refuse_failures()

    def wait_for_walks(self, count: int) -> None:
        """That many more whole ones."""
        goal = self._walker.walks + count + 1  # the first of them may have begun before
        wait_until(lambda: self._walker.walks >= goal, f"{count} more walks", PROGRESS_TIMEOUT_S)

    def refuse_failures(self) -> None:
        assert not self._load.failures, self.told_failures()
        assert not self._walker.wrong, "\n".join(self._walker.wrong[:FAILURES_TOLD_MAX])

    def refuse_uneven(self) -> None:
        """All nodes hold as many replicas, but for one."""
        held = Counter(name for each in self._watcher.topology().partitions for name in each.replicas)
        counts = [held[node.name] for node in self.nodes]
        assert held.total() == sum(counts), held
        assert max(counts) - min(counts) <= 1, held

    def told_failures(self) -> str:
        """The operations that failed, with the history of the first one's key."""
        failures = self._load.failures
        lines = [f"{len(failures)} operations failed:", *map(str, failures[:FAILURES_TOLD_MAX])]
        stories = [story_of(self._load.history, failure.subject) for failure in failures[:1]]
        return "\n".join([*lines, *stories])

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Print how long the block took, and the slowest operations that ended meanwhile."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        history = self._load.history
        spans = [(each.invoked, each.returned) for each in [*history.mutations]]
        spans += [(each.invoked, each.returned) for each in [*history.reads]]
        spent = sorted(end - start for start, end in spans if began <= end <= ended)
        if spent:
            p99 = spent[int(0.99 * len(spent))]
            print(f"{what}: {ended - began:.1f} s, {len(spent)} operations, p99 {p99:.3f} s, longest {spent[-1]:.3f} s")

    def _is_moving(self) -> bool:
        try:
            return bool(self._watcher.status().moves)
        except RingholdError:
            return False

    def _is_settled(self) -> bool:
        self.refuse_failures()
        names = sorted(node.name for node in self.nodes)
        if not all(node.is_ready() for node in self.nodes):
            return False
        try:
            status, topology = self._watcher.status(), self._watcher.topology()
        except RingholdError:
            return False
        present = [each.node for each in status.nodes if each.node.state != "REMOVED"]
        return (
            status.is_settled
            and sorted(each.name for each in present) == names
            and all(each.reachable for each in status.nodes if each.node.state != "REMOVED")
            and not status.unavailable_partitions
            and all(each.leader == each.replicas[0] for each in topology.partitions)
        )

    def _state_of(self, name: str) -> tuple[str, str]:
        """The id and the state of the node that bears the name now; empty if nobody does."""
        try:
            nodes = self._watcher.topology().nodes
        except RingholdError:
            return "", ""
        bearers = [(each.id, each.state) for each in nodes if each.name == name and each.state != "REMOVED"]
        return bearers[0] if bearers else ("", "")


def without_expect(options: Sequence[str]) -> list[str]:
    """A node that came later found nothing: of the founders' options those of the engine alone, and the seeds."""
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    return [word for pair in pairs.items() if pair[0] != "--expect" for word in pair]


def without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RINGHOLD_")}


@contextmanager
def moving_cluster(folder: Path, count: int, *options: str, **variables: str) -> Iterator[MovingCluster]:
    """That many nodes under load for the block; after it everything is judged. What fails is told with the logs."""
    nodes = node_processes(folder, count, options)
    for node in nodes:
        node.variables = variables
    history = History()
    found: MovingCluster | None = None
    try:
        with running(nodes):
            endpoints = [node.grpc for node in nodes]
            try:
                with (
                    Walker(endpoints[:2]) as walker,
                    loaded(endpoints, history, seed=0) as load,
                    Client(endpoints, timeout_s=3.0) as watcher,
                ):
                    found = MovingCluster(nodes, load, walker, watcher)
                    found.settle()
                    yield found
                    found.settle()
                    found.refuse_uneven()
                    found.wait_for_walks(1)
                found.refuse_failures()
                history.settle(time.monotonic())
                judge(found.nodes, history)
            finally:
                for node in found.everybody if found else ():
                    if node.is_running:
                        node.kill()
    except (AssertionError, subprocess.TimeoutExpired) as error:
        error.add_note(log_tails(found.everybody if found else nodes))
        raise
