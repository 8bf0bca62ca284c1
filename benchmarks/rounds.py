"""Runs workloads in turn, each right after its echo, so that what else the machine does hits both alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .failure import RunVoid
from .figures import Pair, Run
from .load import Sent, drive
from .servers import Cluster, EchoServers
from .workloads import Workload

FRAME_HEADER_BYTES = 5
PROBE_REQUESTS_PER_SLOT = 25


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it takes: raising either steadies the figures and costs their product, times two, per workload."""

    rounds: int
    run_s: float


class Bench:
    """The servers of both kinds, and the runs against them."""

    def __init__(self, cluster: Cluster, echo: EchoServers, pace: Pace, tell: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._echo = echo
        self._pace = pace
        self._tell = tell
        self._echo_of = dict(zip(cluster.addresses, echo.addresses, strict=True))

    def measure(self, workloads: Sequence[Workload]) -> dict[str, list[Pair]]:
        """For each workload, by name, a pair of runs per round. Raises RunVoid."""
        sizes = {workload.name: self._sizes(workload) for workload in workloads}
        pairs: dict[str, list[Pair]] = {workload.name: [] for workload in workloads}
        for number in range(self._pace.rounds):
            self._tell(f"round {number + 1} of {self._pace.rounds}")
            for workload in workloads:
                echo_requests, product_requests = sizes[workload.name]
                echo = self._run_echo(workload, number, echo_requests)
                pairs[workload.name].append(Pair(echo, self._run(workload, number, product_requests)))
        return pairs

    def _sizes(self, workload: Workload) -> tuple[int, int]:
        """Requests per slot that take about `run_s`, at the echo and at the product, from a run that also warms up."""
        probes = (
            self._run_echo(workload, 0, PROBE_REQUESTS_PER_SLOT),
            self._run(workload, 0, PROBE_REQUESTS_PER_SLOT),
        )
        echo, product = (
            max(PROBE_REQUESTS_PER_SLOT, round(PROBE_REQUESTS_PER_SLOT * self._pace.run_s / probe.seconds))
            for probe in probes
        )
        return echo, product

    def _run_echo(self, workload: Workload, number: int, requests_per_slot: int) -> Run:
        streams = workload.echoed(number, self._echo_of)
        cpu_before_s = self._echo.cpu_s()
        sent = drive(streams, requests_per_slot, with_latencies=workload.with_latencies)
        cpu_s = self._echo.cpu_s() - cpu_before_s
        if sent.answer_bytes != sent.requests * (workload.answer_bytes + FRAME_HEADER_BYTES):
            raise RunVoid(f"{workload.title}: the echo answered {sent.answer_bytes} bytes to {sent.requests} requests")
        return run_of(workload, sent, cpu_s)

    def _run(self, workload: Workload, number: int, requests_per_slot: int) -> Run:
        calls_before = self._cluster.finished_calls()
        cpu_before_s = self._cluster.cpu_s()
        sent = drive(workload.streams(number), requests_per_slot, with_latencies=workload.with_latencies)
        cpu_s = self._cluster.cpu_s() - cpu_before_s
        calls = self._cluster.finished_calls() - calls_before
        if calls != {(f"ringhold.v1.KV/{workload.method}", "OK"): sent.requests}:
            raise RunVoid(f"{workload.title}: of {sent.requests} requests the nodes count {dict(calls)}")
        return run_of(workload, sent, cpu_s)


def run_of(workload: Workload, sent: Sent, cpu_s: float) -> Run:
    operations = sent.requests * workload.operations_per_request
    return Run(operations, sent.seconds, cpu_s, sent.latencies_us)
