"""`make demo-scale`: a cluster grows from one node to three to seven and shrinks to three, while a client works on it.

Nodes are `ringhold serve` processes of this machine; they leave by `ringhold node decommission`. At the end there is a
picture: the latency of each operation over time, with joins, leaves and moves. See docs/operations.md.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.figures import percentiles
from benchmarks.plots import can_plot, plot_timeline
from benchmarks.timeline import Look, Mark, Phase, Sample, Timeline
from ringhold import AsyncClient, RingholdError, Set
from ringhold.node.cli.dev import local_nodes, refuse_failures
from ringhold.node.cli.failure import CommandFailed
from ringhold.node.cli.processes import LocalCluster, LocalNode, ends_before

from .demo import WIDTH, Terminal, free_ports

NODES = 7
SOME, ALL = 3, NODES
"""The steps of the growth. In the end SOME are left: those that came last."""

RECORDS = 4_000
VALUE_BYTES = 4_096
BATCH = 100
SEED = 0
LOOK_S = 0.25
SETTLE_S_MAX = 120.0
DEADLINE_S = 10.0
FAILED = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options say: seconds of calm between the steps, operations under way, seconds between those of one."""

    calm_s: float
    workers: int
    pause_s: float
    engine: str
    output: Path


class Clock:
    """Seconds since the load began."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._began


class Load:
    """Workers that read and write records, each with a pause after each operation; each operation is a sample."""

    def __init__(self, client: AsyncClient, timeline: Timeline, clock: Clock, plan: Plan) -> None:
        self._client = client
        self._timeline = timeline
        self._clock = clock
        self._plan = plan

    async def work(self, worker: int) -> None:
        """For ever."""
        rng = random.Random(SEED + worker)
        while True:
            await asyncio.sleep(rng.expovariate(1 / self._plan.pause_s))
            key = key_of(rng.randrange(RECORDS))
            began, failed = time.perf_counter(), False
            try:
                if rng.random() < 0.5:
                    await self._client.get(key)
                else:
                    await self._client.set(key, rng.randbytes(VALUE_BYTES))
            except RingholdError:
                failed = True
            latency_us = (time.perf_counter() - began) * 1e6
            self._timeline.samples.append(Sample(self._clock.now(), latency_us, failed))


class Watch:
    """Looks at the cluster again and again."""

    def __init__(self, client: AsyncClient, timeline: Timeline, clock: Clock) -> None:
        self._client = client
        self._timeline = timeline
        self._clock = clock

    async def look_on(self) -> None:
        """For ever."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def until_settled(self, nodes: int) -> None:
        """Return when so many nodes are in and nothing moves any more. Raises CommandFailed."""
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                while not await self._look(nodes):  # noqa: ASYNC110 - what is waited for is in other processes
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise CommandFailed(f"after {SETTLE_S_MAX:.0f} s the cluster is not settled with {nodes} nodes") from None

    async def _look(self, wanted: int = 0) -> bool:
        """Whether the cluster is settled with the `wanted` number of nodes."""
        try:
            status = await self._client.status(timeout_s=3.0)
        except RingholdError:
            return False
        nodes = sum(each.node.state != "REMOVED" for each in status.nodes)
        self._timeline.looks.append(Look(self._clock.now(), nodes, len(status.moves)))
        return status.is_settled and nodes == wanted


class Nodes:
    """The processes: each node one of its own, which may come and go alone."""

    def __init__(self, folder: Path, plan: Plan, console: Console, stack: AsyncExitStack) -> None:
        self.all = local_nodes(folder, free_ports(2 * NODES))
        self._plan = plan
        self._console = console
        self._stack = stack
        self._left: set[str] = set()
        self._running: dict[str, LocalCluster] = {}

    @property
    def present(self) -> list[LocalNode]:
        return [node for node in self.all if node.name in self._running and node.name not in self._left]

    async def start(self, nodes: Sequence[LocalNode]) -> None:
        """Return when they serve. The first node of all is a cluster of its own, the others ask to be let in."""
        arguments = ["--log-level", "warning", "--engine", self._plan.engine]
        if seeds := ",".join(node.http for node in self.present):
            arguments += ["--seeds", seeds]
        clusters = [LocalCluster([node], self._tell, arguments) for node in nodes]
        for node, cluster in zip(nodes, clusters, strict=True):
            self._running[node.name] = await self._stack.enter_async_context(cluster)
        await asyncio.gather(*(cluster.wait_until_ready() for cluster in clusters))

    async def decommission(self, node: LocalNode) -> None:
        """By the command; return when the node has left and its process has ended. Raises CommandFailed."""
        others = [each.grpc for each in self.present if each is not node]
        words = ["node", "decommission", node.name, "--wait"]
        self._console.print(Text(f"   ringhold {' '.join(words)}", style="cyan"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "ringhold", *words, "--endpoints", ",".join(others)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise CommandFailed(said.decode().strip())
        self._left.add(node.name)
        await self._running[node.name].wait_until_dead()

    async def stop(self) -> None:
        """All at once. Raises CommandFailed if one does not end well."""
        ended = await asyncio.gather(*(cluster.stop() for cluster in self._running.values()))
        refuse_failures([*chain.from_iterable(ended)])

    def _tell(self, name: str, line: str) -> None:
        self._console.print(Text(f"   {name}: {line}", style="dim"))


class Story:
    """What happens, told on the console and noted on the timeline."""

    def __init__(self, nodes: Nodes, plan: Plan, console: Console) -> None:
        self.timeline = Timeline()
        self._nodes = nodes
        self._plan = plan
        self._console = console
        self._clock = Clock()

    async def tell(self) -> None:
        """All of it. Raises CommandFailed, RingholdError."""
        first, some, rest = self._nodes.all[:1], self._nodes.all[1:SOME], self._nodes.all[SOME:ALL]
        await self._nodes.start(first)
        async with AsyncClient(first[0].grpc, timeout_s=DEADLINE_S) as client:
            await self._import(client)
            self._clock = Clock()
            load = Load(client, self.timeline, self._clock, self._plan)
            watch = Watch(client, self.timeline, self._clock)
            async with running([watch.look_on(), *map(load.work, range(self._plan.workers))]):
                await self._calm("1 node")
                await self._grow(watch, some)
                await self._calm(f"{SOME} nodes")
                await self._grow(watch, rest)
                await self._calm(f"{ALL} nodes")
                await self._shrink(watch, self._nodes.all[: ALL - SOME])
                await self._calm(f"{SOME} nodes again")

    async def _import(self, client: AsyncClient) -> None:
        for start in range(0, RECORDS, BATCH):
            keys = map(key_of, range(start, start + BATCH))
            for outcome in await client.batch([Set(key, bytes(VALUE_BYTES)) for key in keys]):
                if isinstance(outcome, Exception):
                    raise outcome
        self._say(f"node-1 serves; {RECORDS:,} records of {VALUE_BYTES:,} bytes are imported")

    async def _calm(self, title: str) -> None:
        start = self._clock.now()
        await asyncio.sleep(self._plan.calm_s)
        self._end_phase(title, start)

    async def _grow(self, watch: Watch, nodes: Sequence[LocalNode]) -> None:
        start = self._clock.now()
        self._mark(f"+{len(nodes)} nodes")
        self._say(f"{names_of(nodes)} start and ask to be let in")
        await self._nodes.start(nodes)
        await watch.until_settled(len(self._nodes.present))
        self._end_phase(f"grows to {len(self._nodes.present)}", start)

    async def _shrink(self, watch: Watch, nodes: Sequence[LocalNode]) -> None:
        start = self._clock.now()
        self._say(f"{names_of(nodes)} leave for good, one after the other")
        for node in nodes:
            self._mark(f"-{node.name}")
            await self._nodes.decommission(node)
        await watch.until_settled(len(self._nodes.present))
        self._end_phase(f"shrinks to {len(self._nodes.present)}", start)

    def _mark(self, text: str) -> None:
        self.timeline.marks.append(Mark(self._clock.now(), text))

    def _end_phase(self, title: str, start: float) -> None:
        phase = Phase(title, start, self._clock.now())
        self.timeline.phases.append(phase)
        self._say(summary(phase, self.timeline.samples_of(phase)))

    def _say(self, text: str) -> None:
        self._console.print(Text.assemble((f"{self._clock.now():5.1f} s ", "dim"), text))


def key_of(number: int) -> bytes:
    return b"record-%05d" % number


def names_of(nodes: Sequence[LocalNode]) -> str:
    """
    >>> names_of(local_nodes(Path("d"), range(6)))
    'node-1, node-2, node-3'
    """
    return ", ".join(node.name for node in nodes)


def summary(phase: Phase, samples: Sequence[Sample]) -> str:
    """A phase in one line.

    >>> summary(Phase("3 nodes", 2.0, 4.0), [Sample(2.5, 1_000), Sample(3.0, 9_000, failed=True)])
    '3 nodes: 2 operations in 2.0 s, 1 failed'
    """
    failed = sum(each.failed for each in samples)
    return f"{phase.title}: {len(samples):,} operations in {phase.end - phase.start:.1f} s, {failed or 'none'} failed"


def phase_rows(timeline: Timeline) -> Iterable[tuple[str, ...]]:
    """Of each phase the title, seconds, operations, failures, and p50, p99 and the longest latency in milliseconds."""
    for phase in timeline.phases:
        samples = timeline.samples_of(phase)
        well = [each.latency_us for each in samples if not each.failed]
        figures = ["-", "-", "-"]
        if well:
            found = percentiles(well)
            figures = [f"{each:.1f}" for each in (found.p50_ms, found.p99_ms, max(well) / 1000)]
        yield (
            phase.title,
            f"{phase.end - phase.start:.1f}",
            f"{len(samples):,}",
            str(len(samples) - len(well)),
            *figures,
        )


def phase_table(timeline: Timeline) -> Table:
    table = Table("phase", box=SIMPLE_HEAD)
    for column in ("seconds", "operations", "failed", "p50 ms", "p99 ms", "longest ms"):
        table.add_column(column, justify="right")
    for row in phase_rows(timeline):
        table.add_row(*row)
    return table


@asynccontextmanager
async def running(loops: Iterable[Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """The loops run while the block does; what one of them raises is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        yield
        for task in tasks:
            task.cancel()


async def run(plan: Plan, folder: Path, console: Console) -> int:
    """Tell the story until it ends, or a signal comes; the exit code."""
    async with AsyncExitStack() as stack:
        nodes = Nodes(folder, plan, console, stack)
        story = Story(nodes, plan, console)
        try:
            if not await ends_before(story.tell(), stop_on_signals()):
                return FAILED
        finally:
            await nodes.stop()
    console.print(phase_table(story.timeline))
    plot_timeline(plan.output, "From 1 node to 3, to 7, and back to 3, under load", story.timeline)
    console.print(f"   written to {plan.output}", highlight=False)
    return FAILED if any(each.failed for each in story.timeline.samples) else 0


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT, SIGTERM or SIGHUP sets."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def parsed(arguments: Sequence[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="demo_scale", description=__doc__)
    parser.add_argument("--calm", type=float, default=5.0, help="seconds between two steps (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=6, help="operations under way (default: %(default)s)")
    parser.add_argument("--pause-ms", type=float, default=40.0, help="after an operation, mean (default: %(default)s)")
    parser.add_argument("--engine", choices=["rocksdb", "sqlite"], default="sqlite", help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-scale.png"), metavar="FILE", help="(default: %(default)s)"
    )
    found = parser.parse_args(arguments)
    if found.calm <= 0 or found.workers < 1 or found.pause_ms <= 0:
        parser.error("--calm, --workers and --pause-ms are above 0")
    return Plan(found.calm, found.workers, found.pause_ms / 1000, found.engine, found.output)


def main(arguments: Sequence[str]) -> int:
    plan = parsed(arguments)
    console = Terminal(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if not can_plot():
        print("demo_scale: matplotlib is not installed (dependency group `plots`)", file=sys.stderr)
        return FAILED
    try:
        with tempfile.TemporaryDirectory(prefix="ringhold-demo-") as folder:
            return asyncio.run(run(plan, Path(folder), console))
    except (CommandFailed, RingholdError) as error:
        print(f"demo_scale: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
