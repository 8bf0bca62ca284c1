"""What scrubs have found, in three forms; imported only once they are done. See docs/cli.md."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...api.client.wire import unhealthy_of
from .cluster_views import lines, plain_table, unhealthy_text
from .output import Json, View, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...api.proto.ringhold.v1.cluster_pb2 import Damage
    from .scrub import Report


def scrub_view(reports: "Sequence[Report]") -> View:
    return View(
        table=lambda: scrub_table(reports),
        json=lambda: {"nodes": [report_json(report) for report in reports]},
        plain=lambda: lines(report_words(report) for report in reports),
    )


def report_words(report: "Report") -> list[object]:
    seconds = f"{report.seconds:.1f}"
    return [report.node, report.records, report.bytes, seconds, len(report.damage), len(report.unhealthy)]


def report_json(report: "Report") -> Json:
    return {
        "node": report.node,
        "records": report.records,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "damage": [{"where": place_of(damage), "what": damage.what, "done": damage.done} for damage in report.damage],
        "rebuilding": [unhealthy_text(unhealthy_of(replica)) for replica in report.unhealthy],
        "uncounted": report.uncounted,
    }


def scrub_table(reports: "Sequence[Report]") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    table = plain_table("node")
    for column in ("records", "bytes", "seconds", "damaged", "to be rebuilt"):
        table.add_column(column, justify="right")
    notes: list[Text] = []
    for report in reports:
        counts = [str(len(report.damage)), str(len(report.unhealthy))]
        table.add_row(report.node, f"{report.records:,}", size_text(report.bytes), f"{report.seconds:,.1f}", *counts)
        notes += [Text(f"{report.node}: {text}", style="bold red") for text in map(damage_text, report.damage)]
        rebuilt = [unhealthy_text(unhealthy_of(replica)) for replica in report.unhealthy]
        notes += [Text(f"{report.node}: {text}", style="yellow") for text in rebuilt]
        if report.uncounted:
            notes.append(Text(f"{report.node}: {report.uncounted} groups were read, but not counted", style="dim"))
    return Group(table, *notes)


def damage_text(damage: "Damage") -> str:
    return f"{place_of(damage)}: {damage.what}; {damage.done}"


def place_of(damage: "Damage") -> str:
    if damage.is_of_node:
        return "the node itself"
    return f"partition {damage.partition}" if damage.HasField("partition") else "the system group"
