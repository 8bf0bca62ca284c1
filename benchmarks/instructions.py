"""`python -m benchmarks.instructions`: instructions per operation, which nothing else on the machine can change.

The nodes are in one process (benchmarks/one_process.py), without gRPC, sockets and the kernel: what is counted is what
is ours, and what our libraries do for it. Counted twice, the figures differ by a few thousandths.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.node.storage.opening import ENGINES

from .callgrind import PARTS, REST, ValgrindMissing, by_part, counted_sections, difference, require_valgrind
from .counted import OPERATIONS, Traffic
from .failure import BenchmarkFailed
from .machine import described
from .one_process import MEMORY
from .report import wide_console

RESULTS = Path(__file__).with_name("results")
"""The nodes' folders, and callgrind's files, are here for the time of a run."""

RUNS = 2
QUICK_SHARE = 4
SECTIONS_PER_OPERATION = 3
"""All that comes before, the runs, and twice as many runs."""


@dataclass(frozen=True, slots=True)
class Found:
    """Instructions of one operation on one engine: per run of the whole program, by shared object."""

    name: str
    engine: str
    count: int
    runs: Sequence[Mapping[str, float]]
    traffic: Traffic

    @property
    def totals(self) -> list[float]:
        return [sum(run.values()) for run in self.runs]

    @property
    def instructions(self) -> float:
        """The mean of the runs."""
        return mean(self.totals)

    @property
    def scatter(self) -> float:
        """By which share of them the runs differ."""
        return (max(self.totals) - min(self.totals)) / self.instructions

    @property
    def shares(self) -> dict[str, float]:
        """Of the parts in all, in the mean of the runs."""
        parts = [by_part(run) for run in self.runs]
        return {part: mean(of_run[part] for of_run in parts) / self.instructions for part in (*PARTS, REST)}

    def in_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": OPERATIONS[self.name].title,
            "engine": self.engine,
            "count": self.count,
            "instructions": self.instructions,
            "scatter": self.scatter,
            "shares": self.shares,
            "frames": self.traffic.frames,
            "writes": self.traffic.writes,
            "runs": [dict(run) for run in self.runs],
        }


def counted(engine: str, counts: Mapping[str, int], runs: int) -> list[Found]:
    """Of each operation so many times, in `runs` processes one after the other. Raises BenchmarkFailed."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in counts}
    traffic: dict[str, Traffic] = {}
    for _ in range(runs):
        for name, instructions, carried in one_run(engine, counts):
            found[name].append(instructions)
            traffic[name] = carried
    return [Found(name, engine, count, found[name], traffic[name]) for name, count in counts.items()]


def one_run(engine: str, counts: Mapping[str, int]) -> Iterator[tuple[str, dict[str, float], Traffic]]:
    """Of each operation its name, its instructions by shared object, and what the nodes sent and wrote."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as folder:
        command = [sys.executable, "-m", "benchmarks.counted", engine, folder, json.dumps(counts)]
        sections, output = counted_sections(command, Path(folder), SECTIONS_PER_OPERATION * len(counts))
    told = {line.pop("name"): Traffic(**line) for line in map(json.loads, output.splitlines())}
    for (name, count), (once, twice) in zip(counts.items(), runs_of(sections), strict=True):
        yield name, difference(once, twice, count * OPERATIONS[name].per_run), told[name]


def runs_of(sections: Sequence[Counter[str]]) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """The runs of each operation, and the runs of twice as many."""
    starts = range(0, len(sections), SECTIONS_PER_OPERATION)
    return ((sections[start + 1], sections[start + 2]) for start in starts)


def shown(everything: Sequence[Found]) -> Table:
    """Shares of the parts are in percent; frames and writes are per operation."""
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for column in ("instructions", "scatter", *PARTS, REST, "frames", "writes"):
        table.add_column(column, justify="right", no_wrap=True)
    for found in everything:
        table.add_row(
            OPERATIONS[found.name].title,
            found.engine,
            f"{found.instructions:,.0f}",
            f"{100 * found.scatter:.2f} %",
            *(f"{round(100 * share)}" for share in found.shares.values()),
            f"{found.traffic.frames:.2f}",
            f"{found.traffic.writes:.2f}",
        )
    return table


def counts_on(engine: str, first: str, names: Sequence[str], share: int) -> dict[str, int]:
    """How often to carry out what, or a part of that; what says nothing of an engine is on the first one only."""
    return {
        name: max(1, OPERATIONS[name].count // share)
        for name in names
        if engine == first or OPERATIONS[name].on_each_engine
    }


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument(
        "--engine", action="append", choices=[MEMORY, *ENGINES], help="may be repeated (default: all of them)"
    )
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="may be repeated (default: all)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of the whole program (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a look: a quarter of the operations, one run")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if everything was counted, 2 if there is no valgrind."""
    found = parsed(arguments)
    engines = found.engine or [MEMORY, *ENGINES]
    names = found.operation or list(OPERATIONS)
    runs, share = (1, QUICK_SHARE) if found.quick else (found.runs, 1)
    console = wide_console()
    everything: list[Found] = []
    RESULTS.mkdir(exist_ok=True)
    try:
        require_valgrind()
        for engine in engines:
            console.print(f"{time.strftime('%H:%M:%S')} instructions: {engine}", style="dim", highlight=False)
            everything += counted(engine, counts_on(engine, engines[0], names, share), runs)
    except BenchmarkFailed as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValgrindMissing) else 1
    command = shlex.join(["python", "-m", "benchmarks.instructions", *arguments])
    machine = described(RESULTS)
    console.print(f"\n$ {command}", highlight=False)
    console.print(shown(everything))
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-instructions.json"
    report = {"command": command, "machine": machine, "operations": [each.in_json() for each in everything]}
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"written to {path}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
