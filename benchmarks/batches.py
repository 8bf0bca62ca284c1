"""`python -m benchmarks batches`: 100 Sets per request; etcd's transactions and Redis's pipelines of as many."""

from collections.abc import Iterator
from pathlib import Path

from .contestants import ETCD, REDIS, Contestants, name_of, running
from .etcd import transactions
from .figures import Figure, rate
from .plan import Plan, Tell
from .redis_load import ByRedisBenchmark
from .report import Report
from .rounds import Contest, Trial, measure
from .trials import Counted
from .workloads import BATCH_KEYS, BATCHES_IN_FLIGHT

OF_ETCD = 1.5
NAME = f"batch_{BATCH_KEYS}"
TITLE = f"Keys set by {BATCH_KEYS} at a time, {BATCHES_IN_FLIGHT} requests in flight"


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed, RunVoid."""
    with running(plan, folder, tell) as contestants:
        (row,) = measure([Contest(NAME, TITLE, list(trials(contestants)))], plan.pace, tell)
    report.rows.append(row)
    if ETCD in row.runs:
        for engine in plan.engines:
            value = row.ratio(name_of(engine), ETCD, rate)
            title = f"Keys/s in batches of {BATCH_KEYS}, {engine}"
            report.figures.append(Figure(f"{NAME}_{engine}", title, value, "of etcd", OF_ETCD, is_at_least=True))


def trials(contestants: Contestants) -> Iterator[Trial]:
    yield from contestants.against_echo(lambda each: each.batches())
    if contestants.etcd:
        yield Counted(ETCD, transactions(contestants.etcd), contestants.etcd)
    if contestants.redis:
        yield ByRedisBenchmark(REDIS, contestants.redis, "set", BATCHES_IN_FLIGHT, pipeline=BATCH_KEYS)
