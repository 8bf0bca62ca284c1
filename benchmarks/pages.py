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
    """Of each number in flight a Get, then a page."""
    for in_flight in IN_FLIGHT:
        gets = list(contestants.against_echo(lambda each, so_many=in_flight: each.gets(so_many)))
        pages = list(contestants.against_echo(lambda each, so_many=in_flight: each.pages(so_many)))
        yield Contest(f"get_{in_flight}", f"Get, {in_flight} in flight", gets)
        yield Contest(f"page_{in_flight}", f"First {PAGE_LIMIT} of {matches:,} matches, {in_flight} in flight", pages)
