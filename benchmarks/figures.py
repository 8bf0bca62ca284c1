"""From runs to figures: rates, percentiles, medians, ratios, and what they should be. Pure arithmetic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long half of the calls took at most, 99 % and 99.9 % of them, in milliseconds."""

    p50_ms: float
    p99_ms: float
    p999_ms: float


def percentiles(latencies_us: Sequence[float]) -> Percentiles:
    """By the nearest rank: each is a latency that was measured. There must be one at least.

    >>> percentiles([1000 * number for number in range(1, 1001)])
    Percentiles(p50_ms=500.0, p99_ms=990.0, p999_ms=999.0)
    """
    ordered = sorted(latencies_us)
    ranks = (ceil(per_mille * len(ordered) / 1000) for per_mille in (500, 990, 999))
    return Percentiles(*(ordered[max(rank, 1) - 1] / 1000 for rank in ranks))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: operations, seconds of wall time, CPU seconds of all its servers, and its latencies.

    An operation is what users count: a batch of 100 is 100 operations; latencies are those of requests.
    """

    operations: int
    seconds: float
    server_cpu_s: float
    latency: Percentiles
    client_cpu_s: float | None = None
    """Of the one process that sent the load; None where it is none of the contestants."""

    is_floor: bool = False
    """Whether the generator took all that it could: the servers might have done more."""

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds of all server processes per 1,000 operations."""
        return self.server_cpu_s / self.operations * 1000

    @property
    def client_cpu_s_per_1000(self) -> float | None:
        return None if self.client_cpu_s is None else self.client_cpu_s / self.operations * 1000


Measure: TypeAlias = Callable[[Run], float]


def rate(run: Run) -> float:
    return run.rate


def cpu(run: Run) -> float:
    return run.cpu_s_per_1000


def p50(run: Run) -> float:
    return run.latency.p50_ms


def p99(run: Run) -> float:
    return run.latency.p99_ms


def p999(run: Run) -> float:
    return run.latency.p999_ms


@dataclass(frozen=True, slots=True)
class Row:
    """One workload: for each contestant its runs, one per round."""

    name: str
    title: str
    runs: Mapping[str, Sequence[Run]]

    def median(self, contestant: str, measure: Measure) -> float:
        return median(measure(run) for run in self.runs[contestant])

    def ratio(self, contestant: str, yardstick: str, measure: Measure) -> float:
        """The median of the ratios within each round: what slows a whole round down moves none of them."""
        return ratio_within_rounds(self.runs[contestant], self.runs[yardstick], measure)


def ratio_within_rounds(runs: Sequence[Run], others: Sequence[Run], measure: Measure) -> float:
    """Infinite if the others cost nothing that could be measured."""
    return median(quotient(measure(run), measure(other)) for run, other in zip(runs, others, strict=True))


def quotient(measured: float, yardstick: float) -> float:
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


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the processes of one contestant take together: all three of them.

    `disk_bytes_per_record` is what the folders have grown by the import of so many records, logs and copies included;
    `idle_cpu_share` the share of one core while nobody calls.
    """

    contestant: str
    records: int
    resident_bytes: int
    disk_bytes_per_record: float
    idle_cpu_share: float
