"""`python -m benchmarks pages`: the first page of 100 of an index query beside a Get; nobody else has such a query."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .bodies import indexed_batch
from .contestants import Contestants, name_of, running
from .figures import Figure, p50, ratio_within_rounds
from .plan import Plan, Tell
from .report import Report
from .rounds import Contest, measure
from .workloads import PAGE_LIMIT

IN_FLIGHT = (1, 32)
OF_A_GET_MAX = 5.0


def fill(report: Report, plan: Plan, folder: Path, tell: Tell) -> None:
    """Raises BenchmarkFailed, RunVoid."""
    with running(replace(plan, is_alone=True), folder, tell) as contestants:
        tell(f"import of {plan.matches:,} records with one index value")
        for ringhold in contestants.ringholds:
            ringhold.gateway.import_records(plan.matches, indexed_batch)
        rows = measure(list(contests(contestants, plan.matches)), plan.pace, tell)
    report.rows += rows
    get, page = rows[0], rows[1]
    for engine in plan.engines:
        value = ratio_within_rounds(page.runs[name_of(engine)], get.runs[name_of(engine)], p50)
        title = f"Latency of a first page of {PAGE_LIMIT}, {engine}"
        report.figures.append(Figure(f"page_{engine}", title, value, "times a Get's", OF_A_GET_MAX))


def contests(contestants: Contestants, matches: int) -> Iterator[Contest]:
    for in_flight in IN_FLIGHT:
        yield from at_once(contestants, matches, in_flight)


def at_once(contestants: Contestants, matches: int, in_flight: int) -> Iterator[Contest]:
    """A Get, then a page."""
    gets = list(contestants.against_echo(lambda each: each.gets(in_flight)))
    yield Contest(f"get_{in_flight}", f"Get, {in_flight} in flight", gets)
    pages = list(contestants.against_echo(lambda each: each.pages(in_flight)))
    yield Contest(f"page_{in_flight}", f"First {PAGE_LIMIT} of {matches:,} matches, {in_flight} in flight", pages)
