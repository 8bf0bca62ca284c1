"""Runs seeds and prints what they met: `python -m simulation --seeds 300 --first 0`, from the folder tests/."""

import argparse
import sys

from .farm import Farm, processes_for
from .probes import FAULTS, RARE_PATHS
from .report import Report

SEEDS_TO_MEET_ALL = 50
"""So many seeds must meet every rare path; fewer may miss some."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_TO_MEET_ALL, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: %(default)s)")
    parser.add_argument("--trace", action="store_true", help="print every event of every run")
    parser.add_argument("--processes", type=int, help="how many at once (default: one for each processor)")
    arguments = parser.parse_args()
    report = Report()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    with Farm(arguments.processes or processes_for(len(seeds))) as farm:
        for result in farm.run(seeds, keep_traces=arguments.trace):
            report.add(result)
            if arguments.trace:
                print(*result.trace, sep="\n")
            print(f"seed {result.seed}: trace {result.digest}, {len(result.violations)} violations", flush=True)
    print(*report.lines(), sep="\n")
    missed = report.never_met() if arguments.seeds >= SEEDS_TO_MEET_ALL else []
    if missed:
        print(f"never met: {', '.join(missed)} (of {len(RARE_PATHS)} rare paths and {len(FAULTS)} faults)")
    return 1 if missed or report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
