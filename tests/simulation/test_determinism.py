"""A seed determines its run: the same trace again, in this process and in others whose hashes differ."""

import os
import subprocess
import sys
from pathlib import Path

from simulation.world import run_seed

SEED = 5
TESTS = Path(__file__).resolve().parent.parent


def digest_in_another_process(hash_seed: str) -> str:
    command = [sys.executable, "-m", "simulation", "--seeds", "1", "--first", str(SEED)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=True, timeout=100)
    return run.stdout.partition("trace ")[2].partition(",")[0]


def test_a_seed_gives_the_same_trace_again() -> None:
    """Two runs of one seed have the same events at the same times; another seed has others."""
    assert run_seed(SEED).trace == run_seed(SEED).trace
    assert run_seed(SEED).digest != run_seed(SEED + 1).digest


def test_hash_seeds_change_nothing() -> None:
    """The trace does not depend on the order of sets and on hash()."""
    assert {digest_in_another_process("1"), digest_in_another_process("4711")} == {run_seed(SEED).digest}
