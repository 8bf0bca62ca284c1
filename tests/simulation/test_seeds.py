"""The cluster under faults, seed by seed, and what all the seeds together must have met."""

from collections.abc import Iterator

import pytest
from simulation.__main__ import SEEDS_TO_MEET_ALL
from simulation.farm import Farm, processes_for
from simulation.report import Report
from simulation.world import Result

SECONDS_MIN = 60
OPERATIONS_MIN = 500
FAULTS_UPON_FAULTS_MIN = 5


@pytest.fixture(scope="module")
def report() -> Report:
    """Collects the runs of this module."""
    return Report()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Iterator[Result]]:
    """The runs of all selected seeds, in the order of the tests; those of the next tests are under way already."""
    selected = (item for item in request.session.items if isinstance(item, pytest.Function))
    calls = [item.callspec for item in selected if hasattr(item, "callspec")]
    seeds = [int(str(call.params["simulation_seed"])) for call in calls if "simulation_seed" in call.params]
    with Farm(processes_for(len(seeds))) as farm:
        yield farm.run(seeds)


def test_every_promise_holds(simulation_seed: int, results: Iterator[Result], report: Report) -> None:
    """Three nodes keep every promise through crashes, partitions and losses, and serve again once these end."""
    result = next(results)
    assert result.seed == simulation_seed
    report.add(result)
    assert not result.violations, result.story()
    assert result.seconds >= SECONDS_MIN
    assert result.operations >= OPERATIONS_MIN
    assert result.counts["fault upon fault"] >= FAULTS_UPON_FAULTS_MIN


def test_every_rare_path_was_taken(report: Report) -> None:
    """Fifty seeds meet every fault and every rare path: one that is never met is not tested."""
    print(*report.lines(), sep="\n")
    if len(report.results) >= SEEDS_TO_MEET_ALL:
        assert report.never_met() == []
