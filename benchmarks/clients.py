"""`python -m benchmarks clients`: the Python clients side by side, one process each with 1, 32 and 256 callers."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .callers import ASYNC_CALLERS, CALLERS, OF_OTHERS, is_importable
from .contestants import Contestants, running
from .failure import RunVoid
from .figures import Figure, Percentiles, Row, Run, rate
from .plan import Plan, Tell
from .report import Report
from .rounds import Contest, measure
from .servers import Servers

OPERATIONS = ("get", "set")
CONCURRENT = (1, 32, 256)
MANY = CONCURRENT[-1]
COALESCED_OF_UNCOALESCED = 4.0
AHEAD = 1.0
COALESCED = "AsyncClient"
UNCOALESCED = "AsyncClient, uncoalesced"
ENDING_S_MAX = 30.0
"""After its time the program waits for the calls under way, and closes its connections."""

ROOT = Path(__file__).parents[1]


class Calling:
    """One client's program; void if one of its calls raised."""

    def __init__(self, contestant: str, caller: str, task: Sequence[str], servers: Servers, first: str) -> None:
        """`task` is the operation and the number of callers; `first` the address that the client is given first."""
        self.contestant = contestant
        self._command = [sys.executable, "-m", "benchmarks.program", caller, *task]
        self._servers = servers
        self._addresses = [first, *(address for address in servers.addresses if address != first)]

    def run(self, number: int, seconds: float) -> Run:
        """Raises RunVoid."""
        command = [*self._command, str(seconds), *self._addresses]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            cpu_before_s = self._servers.cpu_s()
            try:
                output, errors = process.communicate("\n", timeout=seconds + ENDING_S_MAX)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise RunVoid(f"the program did not end within {ENDING_S_MAX:.0f} s") from error
            cpu_s = self._servers.cpu_s() - cpu_before_s
        if process.returncode:
            raise RunVoid(f"the program ended with {process.returncode}: {errors}")
        done = json.loads(output)
        latency = Percentiles(**done["latency"])
        return Run(done["operations"], done["seconds"], cpu_s, latency, client_cpu_s=done["cpu_s"])


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed, RunVoid."""
    for caller in OF_OTHERS:
        if not is_importable(caller):
            tell(f"without {caller}: the package is not installed (dependency group `bench`)")
    with running(plan, folder, tell) as contestants:
        rows = measure([each for each in contests(contestants) if plan.asks_for(each.name)], plan.pace, tell)
    report.rows += rows
    report.figures += [figure for engine in plan.engines for figure in figures_of(rows, engine)]


def contests(contestants: Contestants) -> Iterator[Contest]:
    for callers in CONCURRENT:
        for operation in OPERATIONS:
            title = f"{operation.capitalize()}, {callers} at a time"
            task = (operation, str(callers))
            yield Contest(f"{operation}_{callers}", title, list(programs(contestants, task)))


def programs(contestants: Contestants, task: Sequence[str]) -> Iterator[Calling]:
    for ringhold in contestants.ringholds:
        for caller in [*ASYNC_CALLERS, *CALLERS]:
            if caller not in OF_OTHERS:
                name = name_with(caller, ringhold.name)
                yield Calling(name, caller, task, ringhold.cluster, ringhold.cluster.addresses[0])
    if contestants.etcd and is_importable("aetcd"):
        yield Calling("aetcd", "aetcd", task, contestants.etcd, contestants.etcd.leader())
    if contestants.redis and is_importable("redis-py"):
        yield Calling("redis-py", "redis-py", task, contestants.redis, contestants.redis.addresses[0])


def name_with(caller: str, ringhold: str) -> str:
    """
    >>> name_with("Client", "Ringhold, sqlite")
    'Ringhold, sqlite, Client'
    """
    return f"{ringhold}, {caller}"


def figures_of(rows: Sequence[Row], engine: str) -> Iterator[Figure]:
    """With many callers, of what was measured."""
    for row in rows:
        if not row.name.endswith(f"_{MANY}"):
            continue
        ours = name_with(COALESCED, f"Ringhold, {engine}")
        uncoalesced = name_with(UNCOALESCED, f"Ringhold, {engine}")
        for yardstick, target in ((uncoalesced, COALESCED_OF_UNCOALESCED), ("aetcd", AHEAD), ("redis-py", AHEAD)):
            if yardstick in row.runs:
                title = f"AsyncClient, {row.title}, {engine}"
                name = f"{row.name}_of_{yardstick}_{engine}"
                value = row.ratio(ours, yardstick, rate)
                unit = "of uncoalesced" if yardstick == uncoalesced else f"of {yardstick}"
                yield Figure(name, title, value, unit, target, is_at_least=True)
