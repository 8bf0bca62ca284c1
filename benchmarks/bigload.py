"""`python -m benchmarks.bigload`: who misses a large load catches up by snapshots; memory and logs stay bounded.

Three nodes; the last one is killed early in the load and started again at its end. Shown for each node: the most memory
that it ever had, what its logs and its files take; and what writes cost meanwhile, against what they cost at rest.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from ringhold import AsyncClient, RingholdError
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.operations import Set

from .failure import BenchmarkFailed
from .servers import NODES, Cluster

MIB = 1024 * 1024
VALUE_BYTES = (1024, 4096)
BATCH_BYTES = 256 * 1024
LOADERS = 4
KILL_AFTER = 0.05
"""Share of the load that the node that is killed has seen."""

SAMPLE_S = 0.25
WRITE_PAUSE_S = 0.02
REST_S = 10.0
CATCH_UP_S_MAX = 900.0
RSS_MIB_MAX = 200
AWAY = NODES - 1


@dataclass(slots=True)
class Sampler:
    """What the nodes' processes take, now and then: the largest values, by node."""

    cluster: Cluster
    rss_max: list[int] = field(default_factory=lambda: [0] * NODES)
    log_bytes_max: list[int] = field(default_factory=lambda: [0] * NODES)
    disk_bytes: list[int] = field(default_factory=lambda: [0] * NODES)
    phases: dict[str, list[int]] = field(default_factory=dict)
    phase: str = "start"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(SAMPLE_S)

    def _sample(self) -> None:
        of_phase = self.phases.setdefault(self.phase, [0] * NODES)
        for number, server in enumerate(self.cluster.servers):
            if server.process.poll() is None:
                resident = server.resident_bytes()
                self.rss_max[number] = max(self.rss_max[number], resident)
                of_phase[number] = max(of_phase[number], resident)
                metrics = metrics_of(self.cluster, number)
                self.log_bytes_max[number] = max(self.log_bytes_max[number], int(metrics.get("ringhold_log_bytes", 0)))
                self.disk_bytes[number] = int(metrics.get("ringhold_disk_bytes", self.disk_bytes[number]))


def metrics_of(cluster: Cluster, number: int) -> dict[str, float]:
    """The samples without labels of one node; nothing if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{cluster.http[number]}/metrics", timeout=5.0) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not sample.labels}


@dataclass(slots=True)
class Loader:
    """Writes new records until there are so many bytes."""

    client: AsyncClient
    bytes_wanted: int
    rng: random.Random
    number: int = 0
    written: int = 0
    failed_batches: int = 0

    async def run(self) -> None:
        """Load with some batches at once. Raises BenchmarkFailed."""
        async with asyncio.TaskGroup() as loaders:
            for _ in range(LOADERS):
                loaders.create_task(self._load())

    async def _load(self) -> None:
        while self.written < self.bytes_wanted:
            batch = self._next_batch()
            self.written += sum(len(each.value) for each in batch)
            self.failed_batches += await write_all(self.client, batch)

    def _next_batch(self) -> list[Set]:
        batch: list[Set] = []
        size = 0
        while size < BATCH_BYTES:
            value = self.rng.randbytes(self.rng.randint(*VALUE_BYTES))
            batch.append(Set(b"bigload:%010d" % self.number, value, {"tail": value[:8].hex()}))
            self.number += 1
            size += len(value)
        return batch


async def write_all(client: AsyncClient, batch: Sequence[Set]) -> int:
    """Until all is written; how often the whole failed. Raises BenchmarkFailed.

    An outcome in doubt is written again: the same value under the same key.
    """
    left, failed = list(batch), 0
    for _ in range(50):
        try:
            outcomes = await client.batch(left)
        except RingholdError:
            failed += 1
            await asyncio.sleep(0.2)
            continue
        left = [each for each, outcome in zip(left, outcomes, strict=True) if isinstance(outcome, RingholdError)]
        if not left:
            return failed
        await asyncio.sleep(0.1)
    raise BenchmarkFailed("a batch was refused again and again")


@dataclass(slots=True)
class Foreground:
    """Single writes, one after the other, by several writers: how long each took."""

    client: AsyncClient
    seconds: list[float] = field(default_factory=list)
    failures: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        writers = [asyncio.create_task(self._write(number)) for number in range(4)]
        try:
            yield
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)

    async def _write(self, writer: int) -> None:
        number = 0
        while True:
            number += 1
            began = time.perf_counter()
            try:
                await self.client.set(b"foreground:%d:%d" % (writer, number % 1_000), b"x" * 100)
            except RingholdError:
                self.failures += 1
            self.seconds.append(time.perf_counter() - began)
            await asyncio.sleep(WRITE_PAUSE_S)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


@dataclass(slots=True)
class Result:
    """What one run came to."""

    loaded: int
    load_s: float
    catch_up_s: float
    rest: Foreground
    busy: Foreground
    received: int
    installed: int
    given_up: int
    sampler: Sampler

    def tables(self) -> Iterator[Table]:
        nodes = Table(title="Nodes (MiB)")
        for column in ("", *(f"node {number + 1}" for number in range(NODES))):
            nodes.add_column(column, justify="right")
        nodes.add_row("memory, most", *mib(self.sampler.rss_max))
        for phase, sizes in self.sampler.phases.items():
            nodes.add_row(f"  {phase}", *mib(sizes))
        nodes.add_row("logs, most", *mib(self.sampler.log_bytes_max))
        nodes.add_row("files at the end", *mib(self.sampler.disk_bytes))
        yield nodes
        course = Table(title="Course")
        course.add_column("")
        course.add_column("", justify="right")
        course.add_row("loaded", f"{self.loaded / MIB:.0f} MiB in {self.load_s:.0f} s")
        course.add_row("snapshots", f"{self.installed:.0f} installed, {self.given_up:.0f} given up")
        course.add_row("of snapshots received", f"{self.received / MIB:.0f} MiB in {self.catch_up_s:.0f} s")
        for name, writes in (("at rest", self.rest), ("meanwhile", self.busy)):
            figures = [f"{writes.percentile_ms(share):.1f}" for share in (0.5, 0.99, 1.0)]
            text = f"median {figures[0]}, p99 {figures[1]}, longest {figures[2]} ms"
            course.add_row(f"writes {name}", f"{len(writes.seconds)}, {writes.failures} failed: {text}")
        yield course


def mib(sizes: Sequence[int]) -> list[str]:
    return [f"{size / MIB:.0f}" for size in sizes]


async def run(cluster: Cluster, bytes_wanted: int, console: Console) -> Result:
    """Load, with the last node away for most of it, and let it catch up. Raises BenchmarkFailed."""
    sampler = Sampler(cluster)
    sampling = asyncio.create_task(sampler.run())
    try:
        async with AsyncClient(cluster.addresses, timeout_s=30.0, config=ClientConfig(coalesce=False)) as client:
            console.print("load")
            loader = Loader(client, int(bytes_wanted * KILL_AFTER), random.Random(1))
            began = time.monotonic()
            sampler.phase = "load"
            await loader.run()
            cluster.kill(AWAY)
            loader.bytes_wanted = bytes_wanted
            await loader.run()
            load_s = time.monotonic() - began
            repeated = f"{loader.failed_batches} batches failed and were sent again"
            console.print(f"{loader.written / MIB:.0f} MiB in {load_s:.0f} s; {repeated}; at rest")
            rest, busy = Foreground(client), Foreground(client)
            sampler.phase = "rest"
            await asyncio.sleep(REST_S / 2)
            async with rest.running():
                await asyncio.sleep(REST_S)
            console.print("node 3 comes back")
            sampler.phase = "catch up"
            began = time.monotonic()
            cluster.restart(AWAY)
            async with busy.running():
                await caught_up(cluster)
            catch_up_s = time.monotonic() - began
            sampler.phase = "afterwards"
            await asyncio.sleep(REST_S)
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    metrics = metrics_of(cluster, AWAY)
    return Result(
        loader.written,
        load_s,
        catch_up_s,
        rest,
        busy,
        int(metrics["ringhold_snapshot_bytes_received_total"]),
        int(metrics["ringhold_snapshots_installed_total"]),
        int(metrics["ringhold_snapshots_given_up_total"]),
        sampler,
    )


async def caught_up(cluster: Cluster) -> None:
    """Return when the node that was away leads its share again, for which it must have caught up."""
    deadline = time.monotonic() + CATCH_UP_S_MAX
    while True:
        of_all = [await asyncio.to_thread(metrics_of, cluster, number) for number in range(NODES)]
        metrics = of_all[AWAY]
        led = [each.get("ringhold_partitions_led", 0) for each in of_all]
        under_way = [metrics.get(f"ringhold_snapshots_{name}", 1) for name in ("installing", "waiting")]
        if not any(under_way) and led[AWAY] >= sum(led) // NODES:
            return
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"after {CATCH_UP_S_MAX:.0f} s node 3 has not caught up")
        cluster.servers[AWAY].refuse_dead()
        await asyncio.sleep(SAMPLE_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bigload", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="how much to load (default: %(default)s)")
    parser.add_argument("--engine", default="rocksdb", help="the nodes' engine (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the nodes keep their files (default: a temporary folder)")
    arguments = parser.parse_args()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="ringhold-bigload-", dir=arguments.folder))
    try:
        with Cluster(folder / "cluster", arguments.engine) as cluster:
            cluster.wait_until_ready()
            result = asyncio.run(run(cluster, arguments.mib * MIB, console))
        for table in result.tables():
            console.print(table)
    except BenchmarkFailed as error:
        console.print(f"[red]{error}")
        return 1
    finally:
        shutil.rmtree(folder)
    too_large = max(result.sampler.rss_max) > RSS_MIB_MAX * MIB
    if too_large:
        console.print(f"[red]a node had more than {RSS_MIB_MAX} MiB")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
