"""`python -m benchmarks openloop`: how long requests take at a steady rate, half of what saturates."""

from collections.abc import Iterator
from pathlib import Path

from .contestants import Contestants, name_of, running
from .figures import Figure, p99
from .plan import Plan, Tell
from .report import Report
from .rounds import Contest, measure
from .trials import Paced
from .unary import gets_by_h2load, sets_by_h2load

SATURATING = 128
P99_MS_MAX = 10.0


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed, RunVoid."""
    with running(plan, folder, tell, with_redis=False) as contestants:
        rows = measure([each for each in contests(contestants) if plan.asks_for(each.name)], plan.pace, tell)
    report.rows += rows
    for row in rows:
        for engine in plan.engines:
            value = row.median(name_of(engine), p99)
            title = f"p99, {row.title}, {engine}"
            report.figures.append(Figure(f"{row.name}_{engine}", title, value, "ms", P99_MS_MAX))


def contests(contestants: Contestants) -> Iterator[Contest]:
    gets = [Paced(trial) for trial in gets_by_h2load(contestants, SATURATING)]
    yield Contest("get_half", "Get at half of saturation", gets)
    sets = [Paced(trial) for trial in sets_by_h2load(contestants, SATURATING)]
    yield Contest("set_half", "Set at half of saturation", sets)
