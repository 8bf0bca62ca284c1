"""Cuts the power on each engine again and again: `python -m power --cuts 2000`, from the folder tests/.

Prints how many cuts of each kind were tried and every one after which an engine broke its contract; 1 if any did.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from ringhold.node.storage.opening import ENGINES

from .recording import CompilerMissing, build_recorder
from .trial import UNORDERED, Report, States, Trial

CUTS_PER_RECORDING = 250
RECOVERIES = 3


class UnorderedTrial(Trial):
    models = UNORDERED


def main() -> int:
    parser = argparse.ArgumentParser(prog="power", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, help="only this one (default: each)")
    parser.add_argument("--cuts", type=int, default=2_000, help="how many, on each engine (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here (default: %(default)s)")
    parser.add_argument("--unordered-names", action="store_true", help="lose any changes of folders, not the last ones")
    arguments = parser.parse_args()
    trial = UnorderedTrial if arguments.unordered_names else Trial
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            library = build_recorder(Path(folder))
        except CompilerMissing as error:
            parser.error(str(error))
        for kind in [arguments.engine] if arguments.engine else ENGINES:
            failures += len(run(trial, kind, library, Path(folder), arguments.cuts, arguments.seed).failures)
    return 1 if failures else 0


def run(trial: type[Trial], kind: str, library: Path, folder: Path, cuts: int, seed: int) -> Report:
    """Recordings until there were so many cuts."""
    report, states, began = Report(), States(), time.monotonic()
    while report.total < cuts:
        rng = Random(f"{seed} {report.total}")
        trial(kind, library, folder, rng, report, states).run(CUTS_PER_RECORDING, RECOVERIES)
    print(f"{kind}, {time.monotonic() - began:.0f} s", *report.lines(), sep="\n", flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
