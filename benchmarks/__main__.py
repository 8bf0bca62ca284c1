"""`python -m benchmarks TABLE`: measures three nodes of each contestant on this machine, prints tables, writes JSON."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from . import batches, clients, failover, lifecycle, openloop, pages, unary
from .failure import BenchmarkFailed, RunVoid
from .load import require_h2load
from .machine import described
from .plan import Plan, Tell, quick
from .report import Report, teller, wide_console

RESULTS = Path(__file__).with_name("results")

Fill: TypeAlias = Callable[[Report, Plan, Path, Tell], None]
TABLES: Mapping[str, Fill] = {
    "unary": unary.fill,
    "batches": batches.fill,
    "pages": pages.fill,
    "openloop": openloop.fill,
    "clients": clients.fill,
    "lifecycle": lifecycle.fill,
    "failover": failover.fill,
}


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; all of them if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="a look: fewer and shorter rounds of less")
    parser.add_argument(
        "--engine", action="append", help="the nodes' engine; may be repeated (default: sqlite and rocksdb)"
    )
    parser.add_argument("--alone", action="store_true", help="without etcd and Redis")
    parser.add_argument(
        "--before", type=Path, metavar="CLONE", help="measure the state of another clone beside this one"
    )
    parser.add_argument(
        "--row", action="append", default=[], help="of unary, openloop and clients, as the JSON names it: get_32"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    found = parser.parse_args(arguments)
    if unknown := set(found.tables) - TABLES.keys():
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    return found


def plan_of(found: argparse.Namespace) -> Plan:
    plan = Plan(before=found.before, is_alone=found.alone, rows=frozenset(found.row))
    if found.quick:
        plan = quick(plan)
    if found.engine:
        plan = replace(plan, engines=tuple(found.engine))
    if found.rounds:
        plan = replace(plan, pace=replace(plan.pace, rounds=found.rounds))
    return plan


def measured(table: str, plan: Plan, report: Report, console: Console) -> bool:
    """Whether the table could be measured; then it is shown and written."""
    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS) as folder:
            TABLES[table](report, plan, Path(folder), teller(console, table))
    except (BenchmarkFailed, RunVoid) as error:
        print(f"benchmark {table}: {error}", file=sys.stderr)
        return False
    report.publish(console, RESULTS)
    return True


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if everything was measured, whatever the figures say."""
    found = parsed(arguments)
    console = wide_console()
    RESULTS.mkdir(exist_ok=True)
    try:
        require_h2load()
    except BenchmarkFailed as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    machine = described(RESULTS)
    options = [argument for argument in arguments if argument not in TABLES]
    reports = {
        table: Report(table, shlex.join(["python", "-m", "benchmarks", table, *options]), machine)
        for table in found.tables or TABLES
    }
    outcomes = [measured(table, plan_of(found), report, console) for table, report in reports.items()]
    return int(not all(outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
