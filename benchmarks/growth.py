"""`python -m benchmarks.growth DIMENSION`: how the cost of an operation grows; a plot, its data, and its command.

Plotted are the CPU time of all nodes per operation, which other load on the machine hardly touches, and the median
latency. Points that one cluster can serve are measured in turn, round after round; else each has its own cluster.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .bodies import batch_request, get_request, indexed_batch, set_request
from .failure import BenchmarkFailed, RunVoid
from .figures import Row, cpu, p50, p99, rate
from .load import require_h2load
from .machine import described
from .plan import FULL_PACE, Tell
from .plots import Curve, can_plot, plot
from .report import row_in_json, teller, wide_console
from .rounds import Contest, Pace, Trial, measure
from .scattered import Scattered
from .servers import NODES, Cluster
from .trials import Counted
from .workloads import KEYS_PER_NODE, Gateway, Workload, Workloads

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"
RESULTS = Path(__file__).with_name("results")
"""The nodes' folders are here for the time of a run."""

QUICK_PACE = Pace(rounds=1, run_s=0.7)
NAME = "Ringhold"
IN_FLIGHT = 32
IN_FLIGHT_OF_VALUES = 8
"""Fewer, since the largest are 1 MiB."""

SELECTED_FROM = 100_000
KEYS_APART = 1_000
"""Between the first keys of two sizes of values, so that each size has its own."""

KIB = 1024


@dataclass(frozen=True, slots=True)
class Point:
    """What one operation costs at one place of a dimension."""

    x: int
    operation: str
    row: Row


@dataclass(frozen=True, slots=True)
class Setup:
    """What all dimensions have in common."""

    engine: str
    folder: Path
    pace: Pace
    tell: Tell

    @contextmanager
    def cluster(
        self, name: str, *, nodes: int = NODES, options: Sequence[str] = ()
    ) -> Iterator[tuple[Cluster, Gateway]]:
        """A new one, settled. Raises BenchmarkFailed."""
        with Cluster(self.folder / name, self.engine, nodes=nodes, options=options) as cluster:
            cluster.wait_until_ready()
            gateway = Gateway(cluster.addresses[0])
            try:
                gateway.wait_until_settled()
                yield cluster, gateway
            finally:
                gateway.close()

    def points(self, trials: Mapping[tuple[int, str], Trial]) -> Iterator[Point]:
        """Raises RunVoid."""
        contests = [
            Contest(f"{operation}_{x}", f"{operation} at {x:,}", [trial]) for (x, operation), trial in trials.items()
        ]
        rows = measure(contests, self.pace, self.tell)
        return (Point(x, operation, row) for (x, operation), row in zip(trials, rows, strict=True))


def of_flight(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    with setup.cluster("flight") as (cluster, gateway):
        workloads = Workloads(gateway)
        trials = {(x, "Get"): counted(cluster, workloads.gets(x)) for x in places}
        trials |= {(x, "Set"): counted(cluster, workloads.sets(x)) for x in places}
        yield from setup.points(trials)


def of_value_bytes(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    with setup.cluster("values") as (cluster, gateway):
        trials: dict[tuple[int, str], Trial] = {}
        for number, x in enumerate(places):
            workloads = Workloads(gateway, value=bytes(x), first=number * KEYS_APART)
            trials[x, "Get"] = counted(cluster, workloads.gets(IN_FLIGHT_OF_VALUES))
            trials[x, "Set"] = counted(cluster, workloads.sets(IN_FLIGHT_OF_VALUES))
        yield from setup.points(trials)


def of_matches(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    """So many of SELECTED_FROM records have the index value that is asked for; a page has 100 at most."""
    with setup.cluster("matches") as (cluster, gateway):
        first = 0
        for x in (*places, max(0, SELECTED_FROM - sum(places))):
            gateway.import_records(x, partial(indexed_batch, value=b"%d" % x), first)
            first += x
        workloads = Workloads(gateway)
        yield from setup.points({(x, "first page"): counted(cluster, workloads.pages(1, b"%d" % x)) for x in places})


def of_partitions(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    for x in places:
        with setup.cluster(f"partitions-{x}", options=["--partitions", str(x)]) as (cluster, gateway):
            yield from setup.points(of_all(cluster, Workloads(gateway, min(KEYS_PER_NODE, x // NODES - 1)), x))


def of_nodes(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    """Three replicas of each partition, or one if there is one node."""
    for x in places:
        with setup.cluster(f"nodes-{x}", nodes=x) as (cluster, gateway):
            yield from setup.points(of_all(cluster, Workloads(gateway), x))


def of_records(setup: Setup, places: Sequence[int]) -> Iterator[Point]:
    """Gets and Sets are of keys drawn from all of them: what is not in memory is read."""
    with setup.cluster("records") as (cluster, gateway):
        there = 0
        for x in places:
            setup.tell(f"import up to {x:,} records")
            gateway.import_records(x - there, batch_request, there)
            there = x
            trials = {
                (x, method): Scattered(NAME, cluster, gateway, method, request_of, records=x, in_flight=IN_FLIGHT)
                for method, request_of in (("Get", get_request), ("Set", set_request))
            }
            yield from setup.points(trials)


def of_all(cluster: Cluster, workloads: Workloads, x: int) -> dict[tuple[int, str], Trial]:
    return {
        (x, "Get"): counted(cluster, workloads.gets(IN_FLIGHT)),
        (x, "Set"): counted(cluster, workloads.sets(IN_FLIGHT)),
        (x, "first page"): counted(cluster, workloads.pages(1)),
    }


def counted(cluster: Cluster, workload: Workload) -> Trial:
    return Counted(NAME, workload, cluster)


Measured: TypeAlias = Callable[[Setup, Sequence[int]], Iterator[Point]]


@dataclass(frozen=True, slots=True)
class Dimension:
    """What grows: from the first to the last place; `quick` is a look."""

    title: str
    measured: Measured
    places: Sequence[int]
    quick: Sequence[int]


DIMENSIONS: Mapping[str, Dimension] = {
    "records": Dimension("records", of_records, [10**4, 10**5, 10**6, 10**7], [2_000, 10_000]),
    "partitions": Dimension("partitions", of_partitions, [16, 64, 256, 1024], [16, 64]),
    "value": Dimension(
        "bytes of a value", of_value_bytes, [16, 128, KIB, 8 * KIB, 64 * KIB, 1024 * KIB], [16, 16 * KIB]
    ),
    "flight": Dimension("requests in flight", of_flight, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], [1, 16, 256]),
    "matches": Dimension(
        f"matches of {SELECTED_FROM:,} records", of_matches, [1, 10, 100, 1_000, 10_000, 80_000], [10, 1_000]
    ),
    "nodes": Dimension("nodes", of_nodes, [1, 3, 5], [1, 3]),
}


def shown(dimension: Dimension, points: Sequence[Point]) -> Table:
    table = Table(dimension.title, "operation", box=SIMPLE_HEAD)
    for column in ("CPU ms of all nodes", "p50 ms", "p99 ms", "op/s"):
        table.add_column(column, justify="right")
    for point in points:
        of_row = [f"{point.row.median(NAME, each):.3f}" for each in (cpu, p50, p99)]
        table.add_row(f"{point.x:,}", point.operation, *of_row, f"{point.row.median(NAME, rate):,.0f}")
    return table


def curves_of(points: Sequence[Point]) -> list[Curve]:
    """One for each operation. CPU seconds per 1,000 operations are milliseconds per operation."""
    operations = dict.fromkeys(point.operation for point in points)
    return [
        Curve(
            operation,
            [point.x for point in points if point.operation == operation],
            [point.row.median(NAME, cpu) for point in points if point.operation == operation],
            [point.row.median(NAME, p50) for point in points if point.operation == operation],
        )
        for operation in operations
    ]


def write(path: Path, command: str, machine: Mapping[str, str], dimension: Dimension, points: Sequence[Point]) -> None:
    found = {
        "command": command,
        "machine": dict(machine),
        "dimension": dimension.title,
        "points": [{"x": point.x, "operation": point.operation, **row_in_json(point.row)} for point in points],
    }
    path.write_text(json.dumps(found, indent=2) + "\n")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("dimension", choices=DIMENSIONS)
    parser.add_argument("--engine", default="rocksdb", help="the nodes' engine (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a look: few places, one short round")
    parser.add_argument("--place", type=int, action="append", help="a place instead of the usual ones; may be repeated")
    parser.add_argument("--rounds", type=int, default=FULL_PACE.rounds, help="(default: %(default)s)")
    parser.add_argument("--to", type=Path, default=DOCS, metavar="FOLDER", help="(default: docs/benchmarks)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    found = parsed(arguments)
    dimension = DIMENSIONS[found.dimension]
    places = found.place or (dimension.quick if found.quick else dimension.places)
    pace = QUICK_PACE if found.quick else Pace(found.rounds, FULL_PACE.run_s)
    console = wide_console()
    tell = teller(console, found.dimension)
    for folder in (found.to, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    machine = described(RESULTS)
    try:
        require_h2load()
        with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as run:
            setup = Setup(found.engine, Path(run), pace, tell)
            points = list(dimension.measured(setup, places))
    except (BenchmarkFailed, RunVoid) as error:
        print(f"growth: {error}", file=sys.stderr)
        return 1
    console.print(shown(dimension, points))
    path = found.to / f"growth-{found.dimension}-{found.engine}.json"
    write(path, shlex.join(["python", "-m", "benchmarks.growth", *arguments]), machine, dimension, points)
    console.print(f"written to {path}", highlight=False)
    if can_plot():
        plot(path, dimension.title, curves_of(points))
    else:
        tell("without a plot: matplotlib is not installed (dependency group `bench`)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
