"""`python -m benchmarks unary`: one Get or Set per request, at 1, 32 and 128 in flight; memory, disk, and idle CPU."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .contestants import ETCD, REDIS, Contestants, name_of, running
from .etcd import puts, ranges
from .figures import Figure, Row, cpu, rate
from .footprint import footprints
from .plan import Plan, Tell
from .redis_load import ByRedisBenchmark
from .report import Report
from .rounds import Contest, Trial, measure
from .trials import ECHO, ByH2load, Counted

IN_FLIGHT = (1, 32, 128)
AT_SATURATION = (32, 128)
GET_OF_ECHO = 0.85
FORWARDED_GET_OF_ECHO = 0.5
SET_OF_ECHO = 0.5
SET_CPU_OF_ECHO = 3.0
GET_OF_ETCD = 0.6
SET_OF_ETCD = 0.4


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed, RunVoid."""
    with running(plan, folder, tell) as contestants:
        if not plan.rows:
            report.footprints += footprints(contestants, plan, tell)
        rows = measure([each for each in contests(contestants) if plan.asks_for(each.name)], plan.pace, tell)
    report.rows += rows
    report.figures += [figure for engine in plan.engines for figure in figures_of(rows, engine)]


def contests(contestants: Contestants) -> Iterator[Contest]:
    for in_flight in IN_FLIGHT:
        yield Contest(f"get_{in_flight}", f"Get, {in_flight} in flight", list(gets(contestants, in_flight)))
        yield Contest(f"set_{in_flight}", f"Set, {in_flight} in flight", list(sets(contestants, in_flight)))
    for in_flight in AT_SATURATION:
        yield from forwarded(contestants, in_flight)


def forwarded(contestants: Contestants, in_flight: int) -> Iterator[Contest]:
    """Through the node after the owner."""
    gets = list(contestants.against_echo(lambda each: each.gets(in_flight, distance=1)))
    yield Contest(f"get_other_{in_flight}", f"Get through another gateway, {in_flight} in flight", gets)
    sets = list(contestants.against_echo(lambda each: each.sets(in_flight, distance=1)))
    yield Contest(f"set_other_{in_flight}", f"Set through another gateway, {in_flight} in flight", sets)


def gets(contestants: Contestants, in_flight: int) -> Iterator[Trial]:
    yield from gets_by_h2load(contestants, in_flight)
    if contestants.redis:
        yield ByRedisBenchmark(REDIS, contestants.redis, "get", in_flight)


def sets(contestants: Contestants, in_flight: int) -> Iterator[Trial]:
    yield from sets_by_h2load(contestants, in_flight)
    if contestants.redis:
        yield ByRedisBenchmark(REDIS, contestants.redis, "set", in_flight)


def gets_by_h2load(contestants: Contestants, in_flight: int) -> Iterator[ByH2load]:
    """At the keys' leaders."""
    yield from contestants.against_echo(lambda each: each.gets(in_flight))
    if contestants.etcd:
        yield Counted(ETCD, ranges(contestants.etcd, in_flight), contestants.etcd)


def sets_by_h2load(contestants: Contestants, in_flight: int) -> Iterator[ByH2load]:
    """At the keys' leaders."""
    yield from contestants.against_echo(lambda each: each.sets(in_flight))
    if contestants.etcd:
        yield Counted(ETCD, puts(contestants.etcd, in_flight), contestants.etcd)


def figures_of(rows: Sequence[Row], engine: str) -> Iterator[Figure]:
    """Those that have targets, of what was measured."""
    by_name = {row.name: row for row in rows}
    for in_flight in AT_SATURATION:
        for name, title, yardstick, target in (
            ("get", "Get at the leader", ECHO, GET_OF_ECHO),
            ("get_other", "Get through another gateway", ECHO, FORWARDED_GET_OF_ECHO),
            ("set", "Set", ECHO, SET_OF_ECHO),
            ("get", "Get", ETCD, GET_OF_ETCD),
            ("set", "Set", ETCD, SET_OF_ETCD),
        ):
            row = by_name.get(f"{name}_{in_flight}")
            if row and yardstick in row.runs:
                yield rate_against(row, title, engine, yardstick, in_flight, target)
        if row := by_name.get(f"set_{in_flight}"):
            yield cpu_against_echo(row, engine, in_flight)


def rate_against(row: Row, title: str, engine: str, yardstick: str, in_flight: int, target: float) -> Figure:
    value = row.ratio(name_of(engine), yardstick, rate)
    name = f"{row.name}_of_{yardstick}_{engine}"
    return Figure(name, f"{title}, {in_flight} in flight, {engine}", value, f"of {yardstick}", target, is_at_least=True)


def cpu_against_echo(row: Row, engine: str, in_flight: int) -> Figure:
    value = row.ratio(name_of(engine), ECHO, cpu)
    title = f"CPU of all nodes per Set, {in_flight} in flight, {engine}"
    return Figure(f"{row.name}_cpu_{engine}", title, value, "times an echo's", SET_CPU_OF_ECHO)
