"""Runs workloads in turn, each right after its echo, so that what else the machine does hits both alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .etcd import EtcdServers
from .failure import RunVoid
from .figures import Pair, Run
from .load import Sent, Stream, drive
from .servers import Cluster, CountingServers, EchoServers
from .workloads import Workload

FRAME_HEADER_BYTES = 5
PROBE_REQUESTS_PER_SLOT = 25
ATTEMPTS_MAX = 5
"""At one round of a workload, while the owners of its keys move."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it takes: raising either steadies the figures and costs their product, twice or thrice, per workload."""

    rounds: int
    run_s: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Requests per slot that take about as long as a run should."""

    echo: int
    product: int
    etcd: int = 0


PROBE = Sizes(PROBE_REQUESTS_PER_SLOT, PROBE_REQUESTS_PER_SLOT, PROBE_REQUESTS_PER_SLOT)


class Bench:
    """The servers of all kinds, and the runs against them; `etcd` is None where it is not installed."""

    def __init__(
        self, cluster: Cluster, echo: EchoServers, etcd: EtcdServers | None, pace: Pace, tell: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._echo = echo
        self._etcd = etcd
        self._pace = pace
        self._tell = tell
        self._echo_of = dict(zip(cluster.addresses, echo.addresses, strict=True))

    def measure(self, workloads: Sequence[Workload], etcd_workloads: Mapping[str, Workload]) -> dict[str, list[Pair]]:
        """For each workload, by name, a pair of runs per round; etcd's counterparts are by name too. Raises RunVoid."""
        sizes = {each.name: self._sizes(each, etcd_workloads.get(each.name)) for each in workloads}
        pairs: dict[str, list[Pair]] = {each.name: [] for each in workloads}
        for number in range(self._pace.rounds):
            self._tell(f"round {number + 1} of {self._pace.rounds}")
            for each in workloads:
                pairs[each.name].append(self._pair(each, etcd_workloads.get(each.name), number, sizes[each.name]))
        return pairs

    def _sizes(self, workload: Workload, etcd_workload: Workload | None) -> Sizes:
        """From runs that also warm up."""
        probes = self._pair(workload, etcd_workload, 0, PROBE)
        return Sizes(self._size(probes.echo), self._size(probes.product), self._size(probes.etcd) if probes.etcd else 0)

    def _size(self, probe: Run) -> int:
        return max(PROBE_REQUESTS_PER_SLOT, round(PROBE_REQUESTS_PER_SLOT * self._pace.run_s / probe.seconds))

    def _pair(self, workload: Workload, etcd_workload: Workload | None, number: int, sizes: Sizes) -> Pair:
        """The runs of a round; anew if an owner moved meanwhile: then the figure would be of something else."""
        for _ in range(ATTEMPTS_MAX):
            streams = workload.streams(number)
            echo = self._run_echo(workload, streams, sizes.echo)
            product = run(workload, self._cluster, streams, sizes.product)
            if workload.streams(number) == streams:
                return Pair(echo, product, self._run_etcd(etcd_workload, number, sizes.etcd))
            self._tell(f"{workload.title}: an owner moved during the run; once more")
        raise RunVoid(f"{workload.title}: owners moved during {ATTEMPTS_MAX} runs in a row")

    def _run_echo(self, workload: Workload, streams: Sequence[Stream], requests_per_slot: int) -> Run:
        echoed = workload.echoed(streams, self._echo_of)
        cpu_before_s = self._echo.cpu_s()
        sent = drive(echoed, requests_per_slot, with_latencies=workload.with_latencies)
        cpu_s = self._echo.cpu_s() - cpu_before_s
        if sent.answer_bytes != sent.requests * (workload.answer_bytes + FRAME_HEADER_BYTES):
            raise RunVoid(f"{workload.title}: the echo answered {sent.answer_bytes} bytes to {sent.requests} requests")
        return run_of(workload, sent, cpu_s)

    def _run_etcd(self, workload: Workload | None, number: int, requests_per_slot: int) -> Run | None:
        if self._etcd is None or workload is None:
            return None
        return run(workload, self._etcd, workload.streams(number), requests_per_slot)


def run(workload: Workload, servers: CountingServers, streams: Sequence[Stream], requests_per_slot: int) -> Run:
    """Raises RunVoid unless the servers count as many good answers as there were requests, and nothing else."""
    calls_before = servers.finished_calls()
    cpu_before_s = servers.cpu_s()
    sent = drive(streams, requests_per_slot, with_latencies=workload.with_latencies)
    cpu_s = servers.cpu_s() - cpu_before_s
    calls = servers.finished_calls() - calls_before
    if calls != {(workload.method, "OK"): sent.requests}:
        raise RunVoid(f"{workload.title}: of {sent.requests} requests the servers count {dict(calls)}")
    return run_of(workload, sent, cpu_s)


def run_of(workload: Workload, sent: Sent, cpu_s: float) -> Run:
    operations = sent.requests * workload.operations_per_request
    return Run(operations, sent.seconds, cpu_s, sent.latencies_us)
