"""`python -m benchmarks`: measures a cluster of three nodes on this machine, prints tables and writes JSON."""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .etcd import EtcdServers, etcd_workloads, is_installed
from .failover import figures_of_failover, measure_failovers, waits_of
from .failure import BenchmarkFailed, RunVoid
from .figures import Figure, Pair, latency_against, rate_against_echo, rate_against_etcd, summary
from .lifecycle import idle, start_to_ready
from .load import require_h2load
from .machine import described
from .report import Report
from .rounds import Bench, Pace
from .servers import Cluster, EchoServers
from .workloads import Gateway, Workload, Workloads

RESULTS = Path(__file__).with_name("results")
NAMES = ("start", "idle", "get_owner", "get_forwarded", "set", "set_forwarded", "batch", "page", "failover")
AGAINST_ETCD = frozenset({"get_owner", "set", "batch"})
OF_ETCDS_BATCH = 40_000 / 53_000
"""Keys/s in batches of 100 that are wanted where etcd's transactions of 100 reach so many."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    names: frozenset[str]
    engine: str
    pace: Pace
    starts: int
    idle_s: float
    matches: int
    kills: int


def plan_of(arguments: argparse.Namespace) -> Plan:
    names = frozenset(arguments.only or NAMES)
    if arguments.quick:
        return Plan(names, arguments.engine, Pace(rounds=2, run_s=0.8), starts=2, idle_s=8.0, matches=20_000, kills=5)
    return Plan(names, arguments.engine, Pace(rounds=5, run_s=2.0), starts=5, idle_s=30.0, matches=100_000, kills=50)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look in a minute and a half: fewer, shorter rounds")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--engine", default="sqlite", help="the nodes' engine (default sqlite)")
    return parser.parse_args(arguments)


class Benchmark:
    """One call: fills a report."""

    def __init__(self, plan: Plan, folder: Path, report: Report, console: Console) -> None:
        self._plan = plan
        self._folder = folder
        self._report = report
        self._console = console

    def run(self) -> None:
        """Raises BenchmarkFailed, RunVoid."""
        plan = self._plan
        if "start" in plan.names:
            self._tell("start to ready")
            self._report.figures.append(start_to_ready(self._folder, plan.engine, plan.starts))
        if plan.names - {"start", "failover"}:
            with Cluster(self._folder / "cluster", plan.engine) as cluster:
                cluster.wait_until_ready()
                self._measure(cluster)
        if "failover" in plan.names:
            with Cluster(self._folder / "failover", plan.engine) as cluster:
                cluster.wait_until_ready()
                self._fail_over(cluster)

    def _measure(self, cluster: Cluster) -> None:
        if "idle" in self._plan.names:
            self._tell(f"idle for {self._plan.idle_s:.0f} s")
            self._report.figures += idle(cluster, self._plan.idle_s)
        if self._plan.names - {"start", "idle", "failover"}:
            with ExitStack() as stack:
                echo = stack.enter_context(EchoServers(self._folder / "echo"))
                echo.wait_until_ready()
                etcd = self._etcd(stack) if self._plan.names & AGAINST_ETCD else None
                gateway = Gateway(cluster.addresses[0])
                stack.callback(gateway.close)
                self._load(cluster, echo, etcd, gateway)

    def _etcd(self, stack: ExitStack) -> EtcdServers | None:
        """Running members; None if there is nothing to run."""
        if not is_installed():
            self._tell("no comparison with etcd: it is not on the PATH (make system-tools installs it)")
            return None
        etcd = stack.enter_context(EtcdServers(self._folder / "etcd"))
        etcd.wait_until_ready()
        return etcd

    def _load(self, cluster: Cluster, echo: EchoServers, etcd: EtcdServers | None, gateway: Gateway) -> None:
        gateway.wait_until_settled()
        workloads = list(self._workloads(gateway))
        bench = Bench(cluster, echo, etcd, self._plan.pace, self._tell)
        pairs = bench.measure(workloads, etcd_workloads(etcd) if etcd else {})
        self._report.summaries += [summary(each.name, each.title, pairs[each.name]) for each in workloads]
        self._report.figures += figures_of(pairs, self._plan.names)

    def _fail_over(self, cluster: Cluster) -> None:
        found = measure_failovers(cluster, self._plan.kills, self._tell)
        for failure in (failure for outage in found for failure in outage.client_failures):
            self._tell(f"a client's write failed: {failure}")
        self._report.waits += waits_of(found)
        self._report.figures += figures_of_failover(found)

    def _workloads(self, gateway: Gateway) -> Iterator[Workload]:
        """The workloads asked for, and those that they are compared with."""
        names = self._plan.names
        workloads = Workloads(gateway)
        if "get_owner" in names:
            yield workloads.get_owner()
        if "get_forwarded" in names:
            yield workloads.get_forwarded()
        if "set" in names:
            yield workloads.set_owner()
        if "set_forwarded" in names:
            yield workloads.set_forwarded()
        if "batch" in names:
            yield workloads.batch()
        if "page" in names:
            self._tell(f"import of {self._plan.matches:,} records")
            gateway.import_records(self._plan.matches)
            yield workloads.get_alone()
            yield workloads.page(self._plan.matches)

    def _tell(self, step: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {step}", style="dim", highlight=False)


def figures_of(pairs: Mapping[str, Sequence[Pair]], names: frozenset[str]) -> Iterator[Figure]:
    """The figures that have targets, of the workloads that were asked for."""
    if "get_owner" in names:
        yield rate_against_echo("get_owner", "Get at the owner", pairs["get_owner"], 0.75)
    if "get_forwarded" in names:
        yield rate_against_echo("get_forwarded", "Get through another node", pairs["get_forwarded"], 0.40)
    if "set" in names:
        yield rate_against_echo("set", "Set, synced on a majority, 64 in flight", pairs["set"], 0.35)
    if "batch" in names and all(pair.etcd for pair in pairs["batch"]):
        title = "Keys/s in batches of 100 against etcd's transactions"
        yield rate_against_etcd("batch", title, pairs["batch"], OF_ETCDS_BATCH)
    if "page" in names:
        yield latency_against("page", "Latency of a first page against Get", pairs["page"], pairs["get_alone"], 8.0)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if everything was measured, whatever the figures say."""
    plan = plan_of(parsed(arguments))
    console = Console(soft_wrap=True)
    RESULTS.mkdir(exist_ok=True)
    try:
        require_h2load()
        report = Report(shlex.join(["python", "-m", "benchmarks", *arguments]), described(RESULTS))
        with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as folder:
            Benchmark(plan, Path(folder), report, console).run()
    except (BenchmarkFailed, RunVoid) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    report.show(console)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    report.write(path)
    console.print(f"written to {path}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
