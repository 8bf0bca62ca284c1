"""The simulator finds bugs: each of these is planted in the product, and must be found by the ordinary workload."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from simulation.farm import Farm, processes_for
from simulation.faults import FAULTS
from simulation.world import Result

SEEDS_MAX = 12


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """Processes for the runs of this module."""
    with Farm(processes_for(SEEDS_MAX)) as farm:
        yield farm


def first_found(farm: Farm, fault: str) -> Result | None:
    """The first run in which something is wrong."""
    with closing(farm.run(range(SEEDS_MAX), fault=fault)) as results:
        return next((result for result in results if result.violations), None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_bug_is_found(fault: str, farm: Farm) -> None:
    """A few seeds suffice to see that the product is broken."""
    found = first_found(farm, fault)
    assert found is not None, f"{fault} was not found within {SEEDS_MAX} seeds"
    print(f"{fault}: seed {found.seed}, {found.violations[0]}")
