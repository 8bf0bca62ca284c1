"""Runs seeds and prints what they met: `python -m simulation --seeds 300 --first 0`, from the folder tests/.

`python -m simulation faults` instead plants each known bug and prints the first seed that finds it; names of bugs after
`faults` select some of them. `python -m simulation crashes` has a machine die at every step of a join and a leave.
"""

import argparse
import sys
import time

from .farm import Farm, processes_for
from .faults import ALL_FAULTS
from .faults import FAULTS as PLANTED
from .hunt import FAULT_SEEDS_MAX, hunt
from .move_crashes import crashes, fates, run_crash, verdict
from .probes import FAULTS, RARE_PATHS
from .report import Report

SEEDS_TO_MEET_ALL = 50
"""So many seeds must meet every rare path; fewer may miss some."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["seeds", "faults", "crashes"], default="seeds")
    parser.add_argument("names", nargs="*", metavar="fault", help="planted bugs (default: all with a known seed)")
    parser.add_argument("--seeds", type=int, help=f"how many (default: {SEEDS_TO_MEET_ALL}; faults: {FAULT_SEEDS_MAX})")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--trace", action="store_true", help="print every event of every run")
    parser.add_argument("--processes", type=int, help="how many at once (default: one for each processor)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ALL_FAULTS):
        parser.error(f"there is no planted bug called {', '.join(sorted(unknown))}; there are {', '.join(ALL_FAULTS)}")
    return RUNS[arguments.what](arguments)


def run_faults(arguments: argparse.Namespace) -> int:
    """Print the table of planted bugs; 1 if one is not found."""
    seeds = range(arguments.first, arguments.first + (arguments.seeds or FAULT_SEEDS_MAX))
    missed: list[str] = []
    began = time.monotonic()
    print(f"{'planted bug':36} {'seed':>5}  what was found")
    with Farm(arguments.processes or processes_for(len(seeds))) as farm:
        for catch in hunt(farm, arguments.names or list(PLANTED), seeds):
            print(catch.line(), flush=True)
            missed += [catch.fault] if catch.result is None else []
    print(f"{len(missed)} not found within {len(seeds)} seeds; {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


def run_seeds(arguments: argparse.Namespace) -> int:
    """Print a line for each seed, and the report; 1 if a promise was broken or a path not taken."""
    report = Report()
    count = arguments.seeds or SEEDS_TO_MEET_ALL
    seeds = range(arguments.first, arguments.first + count)
    with Farm(arguments.processes or processes_for(count)) as farm:
        for result in farm.run(seeds, keep_traces=arguments.trace):
            report.add(result)
            if arguments.trace:
                print(*result.trace, sep="\n")
            print(f"seed {result.seed}: trace {result.digest}, {len(result.violations)} violations", flush=True)
    print(*report.lines(), sep="\n")
    missed = report.never_met() if count >= SEEDS_TO_MEET_ALL else []
    if missed:
        print(f"never met: {', '.join(missed)} (of {len(RARE_PATHS)} rare paths and {len(FAULTS)} faults)")
    return 1 if missed or report.failed else 0


def run_crashes(arguments: argparse.Namespace) -> int:
    """Print what went wrong where; 1 if anything did."""
    result, steps = run_crash()
    print(*result.violations, sep="\n", end="")
    todo = [fate for crash in crashes(steps) for fate in fates(crash)]
    began, failed = time.monotonic(), len(result.violations)
    with Farm(arguments.processes or processes_for(len(todo))) as farm:
        for crash, violations in farm.each(verdict, todo):
            if violations:
                failed += 1
                print(crash, steps[crash.at], violations[0], flush=True)
    print(f"{len(steps)} steps, {len(todo)} crashes: {failed} failed; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


RUNS = {"seeds": run_seeds, "faults": run_faults, "crashes": run_crashes}


if __name__ == "__main__":
    sys.exit(main())
