"""`python -m benchmarks.moves`: what it takes until a newcomer has its share, and what clients notice of changes.

Three measurements, each on new clusters of three nodes: a fourth one joins without a limit of bytes and without load;
one joins under a steady load with the limits of a node as it comes; and all are restarted in turn under that load.
"""

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ringhold import AsyncClient, RingholdError
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.operations import Set

from .bigload import metrics_of, write_all
from .bodies import VALUE, key_of
from .failure import BenchmarkFailed
from .figures import Figure
from .machine import described
from .plan import Tell
from .report import Report, teller, wide_console
from .servers import NODES, Cluster
from .steady import Steady, Taken
from .workloads import Gateway

RESULTS = Path(__file__).with_name("results")
UNTHROTTLED = {"RINGHOLD_SNAPSHOT_BYTES_PER_S_MAX": "0"}
UNSCRUBBED = {"RINGHOLD_SCRUB_BYTES_PER_S": "0"}
"""A scrub begins a minute after a start, and waits for copies: rest would be measured beside it, or not, by chance."""
BATCH = 500
LOADERS = 4
LOOK_S = 0.25
JOIN_S_MAX = 900.0
CALM_S = 6.0
"""After a load, so that what it left to be done is done, and rest is what is measured at rest."""

LOAD_SHARE = 0.3
"""Of the rate that saturates."""

ALONE = ClientConfig(coalesce=False)
"""Each call by itself: what is measured is the nodes."""

JOIN_S_TARGET = 90.0
BYTES_TARGET = 1.2
SLOWDOWN_TARGET = 3.0
RESTART_S_TARGET = 1.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What all measurements have in common. `rest_s` is how long a load runs before anything is changed."""

    engine: str
    records: int
    rest_s: float
    folder: Path
    tell: Tell
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def cluster(self, environment: Mapping[str, str]) -> Iterator[Cluster]:
        folder = self.folder / f"cluster-{next(self.numbers)}"
        with Cluster(folder, self.engine, environment=environment) as cluster:
            cluster.wait_until_ready()
            yield cluster

    async def load(self, client: AsyncClient) -> None:
        """Write the records. Raises BenchmarkFailed."""
        began = time.monotonic()
        firsts = iter(range(0, self.records, BATCH))

        async def write() -> None:
            for first in firsts:
                numbers = range(first, min(first + BATCH, self.records))
                await write_all(client, [Set(key_of(number), VALUE) for number in numbers])

        async with asyncio.TaskGroup() as loaders:
            for _ in range(LOADERS):
                loaders.create_task(write())
        self.tell(f"{self.records:,} records in {time.monotonic() - began:.0f} s")
        await asyncio.sleep(CALM_S)


@dataclass(frozen=True, slots=True)
class Joined:
    """How a newcomer came to its share: from the start of its process until everything is where it should be."""

    seconds: float
    bytes_received: int
    """Of snapshots, by all nodes."""

    record_bytes: int
    """Of keys, values and index entries, once."""

    copies: int
    copies_fair: float
    """What the newcomer's share of all replicas is."""

    @property
    def bytes_of_fair(self) -> float:
        return self.bytes_received / (self.record_bytes * NODES / (NODES + 1))

    @property
    def copies_of_fair(self) -> float:
        return self.copies / self.copies_fair


async def join(cluster: Cluster, client: AsyncClient, tell: Tell) -> Joined:
    """Start one more node, and wait until all is where it should be. Raises BenchmarkFailed."""
    began = time.monotonic()
    cluster.join()
    newcomer = f"node-{len(cluster.servers)}"
    while not await has_joined(client, newcomer):
        if time.monotonic() - began > JOIN_S_MAX:
            raise BenchmarkFailed(f"after {JOIN_S_MAX:.0f} s {newcomer} has not got its share")
        cluster.servers[-1].refuse_dead()
        await asyncio.sleep(LOOK_S)
    seconds = time.monotonic() - began
    metrics = [await asyncio.to_thread(metrics_of, cluster, number) for number in range(len(cluster.servers))]
    joined = Joined(
        seconds,
        int(sum(each["ringhold_snapshot_bytes_received_total"] for each in metrics)),
        int(sum(each["ringhold_record_bytes"] for each in metrics)),
        int(sum(each["ringhold_snapshots_installed_total"] for each in metrics)),
        NODES * sum(each["ringhold_partitions_led"] for each in metrics) / (NODES + 1),
    )
    given_up = sum(each["ringhold_snapshots_given_up_total"] for each in metrics)
    tell(
        f"{newcomer} has its share after {seconds:.1f} s: {joined.copies} copies, {given_up:.0f} given up, "
        f"{joined.bytes_received / 1e6:.1f} MB"
    )
    return joined


async def has_joined(client: AsyncClient, newcomer: str) -> bool:
    try:
        status = await client.status(timeout_s=2.0)
    except RingholdError:  # it is asked again
        return False
    return status.is_settled and any(each.node.name == newcomer for each in status.nodes)


async def joining(measurement: Measurement) -> list[Figure]:
    """As fast as it goes, when nobody asks anything."""
    with measurement.cluster(UNTHROTTLED) as cluster:
        async with AsyncClient(cluster.addresses, timeout_s=30.0, config=ALONE) as client:
            await measurement.load(client)
            joined = await join(cluster, client, measurement.tell)
    return [
        Figure("join", "Start of a fourth node until all is where it should be", joined.seconds, "s", JOIN_S_TARGET),
        Figure(
            "join_bytes",
            "Bytes of copies ÷ the newcomer's share of the bytes of records",
            joined.bytes_of_fair,
            "",
            BYTES_TARGET,
        ),
        Figure("join_copies", "Copies ÷ the newcomer's share of the replicas", joined.copies_of_fair, "", BYTES_TARGET),
    ]


async def foreground(measurement: Measurement) -> list[Figure]:
    """As a node comes, under a steady load."""
    with measurement.cluster(UNSCRUBBED) as cluster:
        async with AsyncClient(cluster.addresses, timeout_s=30.0, config=ALONE) as client:
            await measurement.load(client)
            steady = Steady(client, measurement.records)
            moving = Taken()

            def begins() -> None:
                steady.taken = moving

            async def change() -> None:
                await move_in(cluster, client, measurement.tell, begins)

            starting, at_rest = await at_steady_rate(measurement, steady, change)
    whole = Taken([*starting.seconds, *moving.seconds], [*starting.failures, *moving.failures])
    for name, taken in {"at rest": at_rest, "starting": starting, "moving": moving}.items():
        measurement.tell(described_as(name, taken))
    return [
        slowdown("slowdown", "while replicas move", moving, at_rest),
        slowdown("slowdown_whole", "from the start of the newcomer's process on", whole, at_rest),
        Figure("slowdown_failures", "Operations of it that failed", len(whole.failures), "operations", 0),
    ]


def slowdown(name: str, when: str, taken: Taken, at_rest: Taken) -> Figure:
    ratio = taken.latency.p99_ms / at_rest.latency.p99_ms
    return Figure(name, f"p99 of a steady load {when} ÷ at rest", ratio, "", SLOWDOWN_TARGET)


async def move_in(cluster: Cluster, client: AsyncClient, tell: Tell, begins: Callable[[], object]) -> None:
    """A node joins; `begins` is called when the first replica is about to move.

    Until then a process starts, on the processors of the others, and Python takes a whole one for a second or two.
    """
    joining = asyncio.ensure_future(join(cluster, client, tell))
    while not joining.done() and not await is_moving(client):  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(LOOK_S / 5)
    begins()
    await joining


async def is_moving(client: AsyncClient) -> bool:
    try:
        return bool((await client.status(timeout_s=2.0)).moves)
    except RingholdError:  # it is asked again
        return False


async def restarting(measurement: Measurement) -> list[Figure]:
    """One node after the other, each when the one before leads again, under a steady load."""
    with measurement.cluster({}) as cluster:
        async with AsyncClient(cluster.addresses, timeout_s=30.0, config=ALONE) as client:
            await measurement.load(client)
            steady = Steady(client, measurement.records)
            taken, _ = await at_steady_rate(measurement, steady, lambda: restart_all(cluster, measurement.tell))
    measurement.tell(described_as("restarting", taken))
    return [
        Figure("restart", "Longest operation during a rolling restart", taken.longest_s, "s", RESTART_S_TARGET),
        Figure("restart_failures", "Operations during it that failed", len(taken.failures), "operations", 0),
    ]


async def at_steady_rate(
    measurement: Measurement, steady: Steady, change: Callable[[], Awaitable[object]]
) -> tuple[Taken, Taken]:
    """What operations took during the change, or until `steady.taken` is another, and what they took at rest."""
    saturated = await steady.saturated_per_s(measurement.rest_s / 2)
    measurement.tell(f"saturated by {saturated:.0f} operations/s; now {LOAD_SHARE:.0%} of that")
    await asyncio.sleep(CALM_S)
    async with steady.running(LOAD_SHARE * saturated):
        await asyncio.sleep(CALM_S)
        at_rest = steady.taken = Taken()
        await asyncio.sleep(measurement.rest_s)
        changing = steady.taken = Taken()
        await change()
    return changing, at_rest


async def restart_all(cluster: Cluster, tell: Tell) -> None:
    gateway = Gateway(cluster.addresses[0])
    try:
        for number in range(len(cluster.servers)):
            began = time.monotonic()
            await asyncio.to_thread(cluster.stop, number)
            stopped_s = time.monotonic() - began
            cluster.restart(number)
            await asyncio.to_thread(cluster.wait_until_ready)
            await asyncio.to_thread(gateway.wait_until_settled)
            tell(f"node {number + 1} stopped in {stopped_s:.1f} s, and leads again {time.monotonic() - began:.1f} s on")
    finally:
        gateway.close()


def described_as(name: str, taken: Taken) -> str:
    latency = taken.latency
    failed = f"{len(taken.failures)} failed {sorted(set(taken.failures))[:3] or ''}"
    return (
        f"{name}: {len(taken.seconds)} operations, {failed}: median {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f}, "
        f"longest {1000 * taken.longest_s:.0f} ms"
    )


MEASUREMENTS: Mapping[str, Callable[[Measurement], Awaitable[list[Figure]]]] = {
    "joining": joining,
    "foreground": foreground,
    "restarting": restarting,
}


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moves", description=__doc__)
    names = ", ".join(MEASUREMENTS)
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=f"of {names}; all if none is named")
    parser.add_argument("--records", type=int, help="of 100 bytes, written first (default: 1,000,000)")
    parser.add_argument("--quick", action="store_true", help="a look: 50,000 records, one run, less time at rest")
    parser.add_argument("--runs", type=int, help="of each measurement (default: 2)")
    parser.add_argument("--engine", default="rocksdb", help="the nodes' engine (default: %(default)s)")
    found = parser.parse_args(arguments)
    if unknown := set(found.measurements) - MEASUREMENTS.keys():
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    found.records = found.records or (50_000 if found.quick else 1_000_000)
    found.runs = found.runs or (1 if found.quick else 2)
    return found


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if everything was measured, whatever the figures say."""
    found = parsed(arguments)
    console = wide_console()
    tell = teller(console)
    RESULTS.mkdir(exist_ok=True)
    load = "{:.1f} in the minute before, {:.1f} in five, {:.1f} in fifteen".format(*os.getloadavg())
    machine = {**described(RESULTS), "load average": load}
    report = Report("moves", shlex.join(["python", "-m", "benchmarks.moves", *arguments]), machine)
    with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as folder:
        measurement = Measurement(found.engine, found.records, 6.0 if found.quick else 20.0, Path(folder), tell)
        for name in found.measurements or MEASUREMENTS:
            for run in range(1, found.runs + 1):
                tell(f"{name}, run {run} of {found.runs}; load average {os.getloadavg()[0]:.1f}")
                try:
                    figures = asyncio.run(awaited(MEASUREMENTS[name](measurement)))
                except BenchmarkFailed as error:
                    print(f"benchmark {name}: {error}", file=sys.stderr)
                    return 1
                report.figures += [of_run(figure, run) for figure in figures]
    report.publish(console, RESULTS)
    return 0


async def awaited(figures: Awaitable[list[Figure]]) -> list[Figure]:
    return await figures


def of_run(figure: Figure, run: int) -> Figure:
    """Each run has its own figures: with two of them, a median would hide what it is made of."""
    return Figure(f"{figure.name}_{run}", f"{figure.title}, run {run}", figure.value, figure.unit, figure.target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
