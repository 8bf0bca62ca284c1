"""`python -m benchmarks.soak`: the same load for a quarter of an hour, and whether anything grows with its duration.

What piles up with use shows only then: dedupe records are evicted five minutes after their requests, deleted rows are
walked over until they are compacted, logs and memory reach their bounds.
"""

import argparse
import asyncio
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold import AsyncClient

from .failure import BenchmarkFailed
from .figures import Figure
from .machine import described
from .moves import ALONE, CALM_S, LOAD_SHARE, RESULTS, Measurement
from .report import Report, teller, wide_console
from .servers import Servers
from .steady import Steady, Taken

MINUTES = 15
"""Three times as long as an outcome is remembered (DESIGN section 4)."""

MINUTES_MIN = 6
MINUTE_S = 60.0
SATURATING_S = 10.0

P99_TARGET = 1.5
CPU_TARGET = 1.1
MEMORY_TARGET = 1.3
LAST_BY_FIRST = "last third of the minutes ÷ first third"


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of the load: what operations took, what the nodes used up meanwhile, and hold at its end."""

    taken: Taken
    cpu_s: float
    resident_bytes: int

    @property
    def cpu_ms(self) -> float:
        """Of all nodes, for an operation."""
        return 1e3 * self.cpu_s / len(self.taken.seconds)

    @property
    def p99_ms(self) -> float:
        return self.taken.latency.p99_ms


async def soaked(cluster: Servers, steady: Steady, per_s: float, minutes: int, minute_s: float) -> list[Minute]:
    """The minutes of a steady load."""
    found = []
    async with steady.running(per_s):
        for _ in range(minutes):
            before, taken = cluster.cpu_s(), Taken()
            steady.taken = taken
            await asyncio.sleep(minute_s)
            found.append(Minute(taken, cluster.cpu_s() - before, cluster.resident_bytes()))
    return found


def figures_of(minutes: Sequence[Minute]) -> list[Figure]:
    """The last third beside the first one, without its first minute: caches are cold then. At least six minutes."""
    third = len(minutes) // 3
    first, last = minutes[1:third], minutes[-third:]

    def growth(what: Callable[[Minute], float]) -> float:
        return median(map(what, last)) / median(map(what, first))

    failed = sum(len(each.taken.failures) for each in minutes)
    return [
        Figure("soak_p99", f"p99, {LAST_BY_FIRST}", growth(lambda each: each.p99_ms), "", P99_TARGET),
        Figure("soak_cpu", f"CPU of an operation, {LAST_BY_FIRST}", growth(lambda each: each.cpu_ms), "", CPU_TARGET),
        Figure("soak_memory", f"Memory, {LAST_BY_FIRST}", growth(lambda each: each.resident_bytes), "", MEMORY_TARGET),
        Figure("soak_failures", "Operations that failed", failed, "operations", 0),
    ]


def minutes_table(minutes: Sequence[Minute]) -> Table:
    table = Table("minute", box=SIMPLE_HEAD)
    for column in ("operations", "p50 ms", "p99 ms", "longest ms", "CPU ms / operation", "memory MB"):
        table.add_column(column, justify="right")
    for number, minute in enumerate(minutes, 1):
        latency = minute.taken.latency
        figures = [latency.p50_ms, latency.p99_ms, 1e3 * minute.taken.longest_s, minute.cpu_ms]
        cells = [f"{figure:.2f}" for figure in figures]
        table.add_row(str(number), f"{len(minute.taken.seconds):,}", *cells, f"{minute.resident_bytes / 1e6:.0f}")
    return table


async def measured(measurement: Measurement, minutes: int) -> list[Minute]:
    with measurement.cluster({}) as cluster:
        async with AsyncClient(cluster.addresses, timeout_s=30.0, config=ALONE) as client:
            await measurement.load(client)
            steady = Steady(client, measurement.records)
            per_s = LOAD_SHARE * await steady.saturated_per_s(SATURATING_S)
            measurement.tell(f"{per_s:.0f} operations/s for {minutes} minutes")
            await asyncio.sleep(CALM_S)
            return await soaked(cluster, steady, per_s, minutes, MINUTE_S)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=MINUTES, help=f"at least {MINUTES_MIN} (default: %(default)s)")
    parser.add_argument(
        "--records", type=int, default=100_000, help="of 100 bytes, written first (default: %(default)s)"
    )
    parser.add_argument("--engine", default="rocksdb", help="the nodes' engine (default: %(default)s)")
    found = parser.parse_args(arguments)
    if found.minutes < MINUTES_MIN:
        parser.error(f"{found.minutes} minutes are too few to have a first and a last third")
    return found


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if everything was measured, whatever the figures say."""
    found = parsed(arguments)
    console = wide_console()
    tell = teller(console)
    RESULTS.mkdir(exist_ok=True)
    report = Report("soak", shlex.join(["python", "-m", "benchmarks.soak", *arguments]), described(RESULTS))
    with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as folder:
        measurement = Measurement(found.engine, found.records, 0.0, Path(folder), tell)
        try:
            minutes = asyncio.run(measured(measurement, found.minutes))
        except BenchmarkFailed as error:
            print(f"benchmark soak: {error}", file=sys.stderr)
            return 1
    report.figures += figures_of(minutes)
    report.publish(console, RESULTS, minutes_table(minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
