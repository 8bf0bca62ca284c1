"""The figures as tables for people and as JSON, with every run of every round, for programs."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .contestants import BEFORE, ETCD
from .figures import Figure, Footprint, Measure, Row, Waits, cpu, p50, p99, p999, rate
from .plan import Tell
from .trials import ECHO

MEGABYTE = 1_000_000
MEASURES: Mapping[str, Measure] = {
    "operations_per_s": rate,
    "p50_ms": p50,
    "p99_ms": p99,
    "p999_ms": p999,
    "server_cpu_s_per_1000": cpu,
}

WIDTH_MIN = 132
"""Of a console: what the widest table needs."""

Cell: TypeAlias = Callable[[Row, str], str]
"""Of a row and a contestant; empty for what there is not."""


@dataclass(slots=True)
class Report:
    """All that one table's command found."""

    table: str
    command: str
    machine: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    waits: list[Waits] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def write(self, path: Path) -> None:
        found = {
            "table": self.table,
            "command": self.command,
            "machine": dict(self.machine),
            "rows": [row_in_json(row) for row in self.rows],
            "footprints": [asdict(footprint) for footprint in self.footprints],
            "waits": [asdict(waits) for waits in self.waits],
            "figures": [{**asdict(figure), "reached": figure.reached} for figure in self.figures],
        }
        path.write_text(json.dumps(found, indent=2) + "\n")

    def show(self, console: Console) -> None:
        console.print(f"\n$ {self.command}", highlight=False)
        for what, text in self.machine.items():
            console.print(f"  {what}: {text}", highlight=False)
        if self.rows:
            console.print(row_table(self.rows))
        if self.footprints:
            console.print(footprint_table(self.footprints))
        if self.waits:
            console.print(waits_table(self.waits))
        if self.figures:
            console.print(figure_table(self.figures))

    def publish(self, console: Console, folder: Path, *more: Table) -> None:
        """Show it, and what belongs to it, and write it to a file of the folder, by the time of day."""
        self.show(console)
        for table in more:
            console.print(table)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{self.table}.json"
        self.write(path)
        console.print(f"written to {path}", highlight=False)


def teller(console: Console, subject: str = "") -> Tell:
    """Says what is being done, and for what, with the time of day."""
    about = f"{subject}: " if subject else ""

    def tell(step: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {about}{step}", style="dim", highlight=False, markup=False)

    return tell


def wide_console() -> Console:
    """For tables that are read in a file, too."""
    console = Console(soft_wrap=True)
    console.width = max(console.width, WIDTH_MIN)
    return console


def row_in_json(row: Row) -> dict[str, Any]:
    """Medians, and the runs that they are of."""
    contestants = {
        contestant: {
            "medians": {name: row.median(contestant, measure) for name, measure in MEASURES.items()},
            "rounds": [{**asdict(run), "operations_per_s": run.rate} for run in runs],
        }
        for contestant, runs in row.runs.items()
    }
    return {"name": row.name, "title": row.title, "contestants": contestants}


def row_table(rows: Sequence[Row]) -> Table:
    columns = dict(columns_of(rows))
    table = Table("", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(f"[bold]{row.title}")
        for contestant in row.runs:
            table.add_row(f"  {contestant}", *(cell(row, contestant) for cell in columns.values()))
    return table


def columns_of(rows: Sequence[Row]) -> Iterator[tuple[str, Cell]]:
    """What there is to compare with has a column."""
    contestants = {contestant for row in rows for contestant in row.runs}
    has_before = any(contestant.endswith(BEFORE) for contestant in contestants)
    yield "op/s", rate_cell
    for yardstick in (ECHO, ETCD):
        if yardstick in contestants:
            yield f"÷ {yardstick}", against(yardstick, rate)
    if has_before:
        yield "÷ before", ratio_cell(before, rate)
    for title, measure in (("p50 ms", p50), ("p99 ms", p99), ("p99.9 ms", p999)):
        yield title, median_cell(measure, ".2f")
    yield "CPU s / 1,000", median_cell(cpu, ".3f")
    if ECHO in contestants:
        yield "CPU ÷ echo", against(ECHO, cpu)
    if has_before:
        yield "CPU ÷ before", ratio_cell(before, cpu)
    if any(run.client_cpu_s is not None for row in rows for runs in row.runs.values() for run in runs):
        yield "client CPU s / 1,000", client_cpu_cell


def before(contestant: str) -> str:
    """Its earlier state."""
    return contestant + BEFORE


def rate_cell(row: Row, contestant: str) -> str:
    """With a sign where the generator was the bottleneck in a round."""
    sign = "≥ " if any(run.is_floor for run in row.runs[contestant]) else ""
    return f"{sign}{row.median(contestant, rate):,.0f}"


def median_cell(measure: Measure, form: str) -> Cell:
    return lambda row, contestant: format(row.median(contestant, measure), form)


def ratio_cell(yardstick_of: Callable[[str], str], measure: Measure) -> Cell:
    """Against another contestant of the row, if it was there."""

    def cell(row: Row, contestant: str) -> str:
        yardstick = yardstick_of(contestant)
        return f"{row.ratio(contestant, yardstick, measure):.2f}" if yardstick in row.runs else ""

    return cell


def against(yardstick: str, measure: Measure) -> Cell:
    """Against the same one for all."""
    return ratio_cell(lambda _: yardstick, measure)


def client_cpu_cell(row: Row, contestant: str) -> str:
    taken = [run.client_cpu_s_per_1000 for run in row.runs[contestant] if run.client_cpu_s_per_1000 is not None]
    return f"{median(taken):.3f}" if taken else ""


def footprint_table(footprints: Sequence[Footprint]) -> Table:
    table = Table("three servers together", box=SIMPLE_HEAD)
    for column in ("records", "memory (RSS), MB", "bytes on disk per record", "idle CPU, % of a core"):
        table.add_column(column, justify="right")
    for each in footprints:
        table.add_row(
            each.contestant,
            f"{each.records:,}" if each.records else "",
            f"{each.resident_bytes / MEGABYTE:.0f}",
            f"{each.disk_bytes_per_record:,.0f}" if each.records else "",
            f"{100 * each.idle_cpu_share:.1f}",
        )
    return table


def waits_table(all_waits: Sequence[Waits]) -> Table:
    table = Table("wait", box=SIMPLE_HEAD)
    for column in ("median s", "worst s", "times"):
        table.add_column(column, justify="right")
    for waits in all_waits:
        table.add_row(waits.title, f"{waits.median_s:.2f}", f"{waits.worst_s:.2f}", f"{len(waits.seconds)}")
    return table


def figure_table(figures: Sequence[Figure]) -> Table:
    table = Table("figure", box=SIMPLE_HEAD)
    for column in ("measured", "target", "reached"):
        table.add_column(column, justify="right")
    for figure in figures:
        comparison = "≥" if figure.is_at_least else "≤"
        table.add_row(
            figure.title,
            f"{figure.value:.2f} {figure.unit}",
            f"{comparison} {figure.target:.3g} {figure.unit}",
            "yes" if figure.reached else "no",
        )
    return table
