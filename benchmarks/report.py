"""The figures as tables for people and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .figures import Figure, Summary, Waits


@dataclass(slots=True)
class Report:
    """All that one call of the benchmark found."""

    command: str
    machine: Mapping[str, str]
    summaries: list[Summary] = field(default_factory=list)
    waits: list[Waits] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def write(self, path: Path) -> None:
        figures = [{**asdict(figure), "reached": figure.reached} for figure in self.figures]
        found = {
            "command": self.command,
            "machine": dict(self.machine),
            "workloads": [asdict(summary) for summary in self.summaries],
            "waits": [asdict(waits) for waits in self.waits],
            "figures": figures,
        }
        path.write_text(json.dumps(found, indent=2) + "\n")

    def show(self, console: Console) -> None:
        console.print(f"\n$ {self.command}", highlight=False)
        for what, text in self.machine.items():
            console.print(f"  {what}: {text}", highlight=False)
        if self.summaries:
            console.print(workload_table(self.summaries))
        if self.waits:
            console.print(waits_table(self.waits))
        if self.figures:
            console.print(figure_table(self.figures))


def workload_table(summaries: Sequence[Summary]) -> Table:
    table = Table("workload", box=SIMPLE_HEAD)
    for column in (
        "op/s",
        "CPU s / 1,000",
        "echo op/s",
        "echo CPU s / 1,000",
        "op/s ÷ echo",
        "CPU ÷ echo",
        "ms",
        "echo ms",
        "etcd op/s",
        "op/s ÷ etcd",
    ):
        table.add_column(column, justify="right")
    for each in summaries:
        table.add_row(
            each.title,
            f"{each.operations_per_s:,.0f}",
            f"{each.cpu_s_per_1000:.3f}",
            f"{each.echo_operations_per_s:,.0f}",
            f"{each.echo_cpu_s_per_1000:.3f}",
            f"{each.rate_ratio:.2f}",
            f"{each.cpu_ratio:.2f}",
            if_taken(each.latency_ms, ".2f"),
            if_taken(each.echo_latency_ms, ".2f"),
            if_taken(each.etcd_operations_per_s, ",.0f"),
            if_taken(each.etcd_rate_ratio, ".2f"),
        )
    return table


def if_taken(value: float | None, form: str) -> str:
    """Nothing for what was not measured."""
    return "" if value is None else format(value, form)


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
