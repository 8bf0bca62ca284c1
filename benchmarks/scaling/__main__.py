"""`python -m benchmarks.scaling [SCENARIO]`: the figures of docs/scaling.md.

Gossip is simulated with the product's own core under virtual time; placement, tables and the CPU of heartbeats and
queries are calls of the product's code at the size asked for; the rest is arithmetic. Only `check` starts a cluster.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from rich.table import Table

from ringhold.node.storage.opening import EngineUnavailable

from ..failure import BenchmarkFailed
from ..growth import DOCS, RESULTS
from ..machine import described
from ..plan import Tell
from ..plots import Line, Panel, can_plot, draw
from ..report import teller, wide_console
from .check import CheckFigures, check_figures, check_table
from .gossip import (
    CONDITIONS,
    QUICK_WATCHES,
    WATCHES,
    GossipFigures,
    Watch,
    accusation_table,
    detection_table,
    gossip_figures,
    traffic_table,
)
from .heartbeats import HeartbeatFigures, heartbeat_figures, heartbeat_table, timer_table
from .placement import PlacementFigures, Places, moves_table, placement_figures, placement_table
from .queries import QueryFigures, query_figures, query_table
from .tables import TableFigures, table_figures, tables_table

EVERYTHING = "all"


Figures: TypeAlias = GossipFigures | PlacementFigures | HeartbeatFigures | TableFigures | QueryFigures | CheckFigures


@dataclass(frozen=True, slots=True)
class Extent:
    """Which sizes are looked at, and how long gossip is watched at each."""

    watches: Mapping[int, Watch]
    places: Places
    checked_partitions: Sequence[int]


SIZES = (3, 10, 100, 1_000)
PARTITIONS = (64, 512, 4_096, 16_384)
FULL = Extent(WATCHES, [(nodes, partitions) for nodes in SIZES for partitions in PARTITIONS], [64, 256, 1_024])
QUICK = Extent(QUICK_WATCHES, [(nodes, partitions) for nodes in (3, 100) for partitions in (64, 4_096)], [64, 512])


@dataclass(frozen=True, slots=True)
class Found:
    """One scenario's figures, as they are shown and drawn."""

    figures: Sequence[Figures]
    tables: Sequence[Table]
    panels: Sequence[Panel] = ()


def of_gossip(extent: Extent, tell: Tell) -> Found:
    figures = list(gossip_figures(extent.watches, tell))
    by_conditions = {
        conditions.title: [each for each in figures if each.conditions == conditions.title] for conditions in CONDITIONS
    }

    def lines(value_of: Callable[[GossipFigures], float]) -> Sequence[Line]:
        return [
            Line(title, [each.members for each in some], [value_of(each) for each in some])
            for title, some in by_conditions.items()
        ]

    return Found(
        figures,
        [traffic_table(figures), detection_table(figures), accusation_table(figures)],
        [
            Panel("bytes a member sends per s", "members", lines(lambda each: each.bytes_per_s)),
            Panel("crash to DEAD: median, s", "members", lines(lambda each: each.dead_s_median)),
            Panel("crash to DEAD: worst, s", "members", lines(lambda each: each.dead_s_worst)),
        ],
    )


def of_placement(extent: Extent, tell: Tell) -> Found:
    figures = list(placement_figures(extent.places, tell))
    return Found(figures, [placement_table(figures), moves_table(figures)])


def of_heartbeats(extent: Extent, tell: Tell) -> Found:
    figures = list(heartbeat_figures(extent.places, tell))

    def lines(value_of: Callable[[HeartbeatFigures], float]) -> Sequence[Line]:
        return [
            Line(f"{partitions:,} partitions", [each.nodes for each in some], [100 * value_of(each) for each in some])
            for partitions, some in by_partitions(figures).items()
        ]

    return Found(
        figures,
        [heartbeat_table(figures), timer_table(figures)],
        [
            Panel("beats, gRPC's part too: % of a core", "nodes", lines(lambda each: each.own_share + each.wire_share)),
            Panel("groups' timers: % of a core", "nodes", lines(lambda each: each.pulse_share)),
        ],
    )


def of_tables(extent: Extent, tell: Tell) -> Found:
    figures = list(table_figures(extent.places, tell))
    return Found(figures, [tables_table(figures)])


def of_queries(extent: Extent, tell: Tell) -> Found:
    figures = list(query_figures(extent.places, tell))

    def lines(value_of: Callable[[QueryFigures], float]) -> Sequence[Line]:
        return [
            Line(f"{partitions:,} partitions", [each.nodes for each in some], [value_of(each) for each in some])
            for partitions, some in by_partitions(figures).items()
        ]

    return Found(
        figures,
        [query_table(figures)],
        [
            Panel("CPU of all nodes, ms per page", "nodes", lines(lambda each: 1000 * each.cpu_s)),
            Panel("matches of a page of 100", "nodes", lines(lambda each: each.matches_mean)),
        ],
    )


def of_check(extent: Extent, tell: Tell) -> Found:
    figures = list(check_figures(extent.checked_partitions, RESULTS, tell))
    return Found(figures, [check_table(figures)])


Placed = TypeVar("Placed", HeartbeatFigures, QueryFigures)


def by_partitions(figures: Sequence[Placed]) -> Mapping[int, Sequence[Placed]]:
    found: dict[int, list[Placed]] = {}
    for each in figures:
        found.setdefault(each.partitions, []).append(each)
    return found


Scenario: TypeAlias = Callable[[Extent, Tell], Found]
SCENARIOS: Mapping[str, Scenario] = {
    "gossip": of_gossip,
    "placement": of_placement,
    "heartbeats": of_heartbeats,
    "tables": of_tables,
    "queries": of_queries,
    "check": of_check,
}


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("scenario", nargs="?", default=EVERYTHING, choices=[*SCENARIOS, EVERYTHING])
    parser.add_argument("--quick", action="store_true", help="a look: fewer sizes, fewer seeds")
    parser.add_argument("--to", type=Path, default=DOCS, metavar="FOLDER", help="(default: docs/benchmarks)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parsed(arguments)
    console = wide_console()
    tell = teller(console)
    for folder in (options.to, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    machine = described(RESULTS)
    command = shlex.join(["python", "-m", "benchmarks.scaling", *arguments])
    for name in SCENARIOS if options.scenario == EVERYTHING else [options.scenario]:
        try:
            found = SCENARIOS[name](QUICK if options.quick else FULL, tell)
        except (BenchmarkFailed, EngineUnavailable) as error:
            print(f"scaling: {error}", file=sys.stderr)
            return 1
        for table in found.tables:
            console.print(table)
        path = options.to / f"scaling-{name}.json"
        written = {"command": command, "machine": machine, "figures": [asdict(each) for each in found.figures]}
        path.write_text(json.dumps(written, indent=2) + "\n")
        console.print(f"written to {path}", highlight=False)
        if found.panels and can_plot():
            draw(path, found.panels)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
