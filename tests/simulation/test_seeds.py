"""The cluster under faults, seed by seed, and what all the seeds together must have met."""

import pytest
from simulation.__main__ import SEEDS_TO_MEET_ALL
from simulation.report import Report
from simulation.world import run_seed

SECONDS_MIN = 30
OPERATIONS_MIN = 150


@pytest.fixture(scope="module")
def report() -> Report:
    """Collects the runs of this module."""
    return Report()


def test_every_promise_holds(simulation_seed: int, report: Report) -> None:
    """Three nodes keep every promise through crashes, partitions and losses, and serve again once these end."""
    result = run_seed(simulation_seed)
    report.add(result)
    assert not result.violations, result.story()
    assert result.seconds >= SECONDS_MIN
    assert result.operations >= OPERATIONS_MIN


def test_every_rare_path_was_taken(report: Report) -> None:
    """Fifty seeds meet every fault and every rare path: one that is never met is not tested."""
    print(*report.lines(), sep="\n")
    if len(report.results) >= SEEDS_TO_MEET_ALL:
        assert report.never_met() == []
