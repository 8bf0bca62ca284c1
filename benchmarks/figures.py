"""From runs to figures: rates, medians, ratios, and what they should be. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: operations, seconds of wall time, CPU seconds of all servers, and latencies if taken."""

    operations: int
    seconds: float
    server_cpu_s: float
    latencies_us: Sequence[int] = ()

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of all server processes per 1,000 operations."""
        return self.server_cpu_s / self.operations * 1000

    @property
    def latency_ms(self) -> float:
        """The median, in milliseconds."""
        return median(self.latencies_us) / 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """The echo's run and the product's run right after it, with messages of the same sizes; then etcd's, if it ran."""

    echo: Run
    product: Run
    etcd: Run | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians over the rounds of one workload; ratios are taken within each round, latencies are None if not taken.

    `operations` are what users count: a batch of 100 is 100 operations, at the echo too.
    """

    workload: str
    title: str
    operations_per_s: float
    cpu_s_per_1000: float
    echo_operations_per_s: float
    echo_cpu_s_per_1000: float
    rate_ratio: float
    cpu_ratio: float
    latency_ms: float | None
    echo_latency_ms: float | None
    etcd_operations_per_s: float | None
    etcd_rate_ratio: float | None


def summary(workload: str, title: str, pairs: Sequence[Pair]) -> Summary:
    """The figures of a workload."""
    timed = all(pair.product.latencies_us for pair in pairs)
    etcd_runs = [pair.etcd for pair in pairs if pair.etcd]
    return Summary(
        workload,
        title,
        operations_per_s=median(pair.product.rate for pair in pairs),
        cpu_s_per_1000=median(pair.product.cpu_s_per_1000 for pair in pairs),
        echo_operations_per_s=median(pair.echo.rate for pair in pairs),
        echo_cpu_s_per_1000=median(pair.echo.cpu_s_per_1000 for pair in pairs),
        rate_ratio=median(pair.product.rate / pair.echo.rate for pair in pairs),
        cpu_ratio=median(ratio(pair.product.cpu_s_per_1000, pair.echo.cpu_s_per_1000) for pair in pairs),
        latency_ms=median(pair.product.latency_ms for pair in pairs) if timed else None,
        echo_latency_ms=median(pair.echo.latency_ms for pair in pairs) if timed else None,
        etcd_operations_per_s=median(run.rate for run in etcd_runs) if etcd_runs else None,
        etcd_rate_ratio=median(etcd_ratios(pairs)) if etcd_runs else None,
    )


def etcd_ratios(pairs: Sequence[Pair]) -> list[float]:
    """The product's rate against etcd's, in each round in which etcd ran."""
    return [pair.product.rate / pair.etcd.rate for pair in pairs if pair.etcd]


def ratio(measured: float, yardstick: float) -> float:
    """Infinite if the yardstick cost nothing that could be measured."""
    return measured / yardstick if yardstick else float("inf")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that has a target."""

    name: str
    title: str
    value: float
    unit: str
    target: float
    is_at_least: bool = False
    """Whether more is better; else less is."""

    @property
    def reached(self) -> bool:
        return self.value >= self.target if self.is_at_least else self.value <= self.target


def rate_against_echo(name: str, title: str, pairs: Sequence[Pair], target: float) -> Figure:
    value = median(pair.product.rate / pair.echo.rate for pair in pairs)
    return Figure(name, title, value, "of the echo", target, is_at_least=True)


def rate_against_etcd(name: str, title: str, pairs: Sequence[Pair], target: float) -> Figure:
    """The median of `etcd_ratios`; etcd must have run."""
    return Figure(name, title, median(etcd_ratios(pairs)), "of etcd's", target, is_at_least=True)


def latency_against(name: str, title: str, pairs: Sequence[Pair], others: Sequence[Pair], target: float) -> Figure:
    """How many times the median latency of another workload in the same round."""
    value = median(
        pair.product.latency_ms / other.product.latency_ms for pair, other in zip(pairs, others, strict=True)
    )
    return Figure(name, title, value, "times", target)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that something took, each time that it happened: one or more."""

    name: str
    title: str
    seconds: Sequence[float]

    @property
    def median_s(self) -> float:
        return median(self.seconds)

    @property
    def worst_s(self) -> float:
        return max(self.seconds)
