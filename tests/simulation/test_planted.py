"""The simulator finds bugs: each of these is planted in the product, and must be found by the ordinary workload."""

import pytest
from simulation.faults import FAULTS
from simulation.world import Result, run_seed

SEEDS_MAX = 12


def first_found(fault: str) -> Result | None:
    """The first run in which something is wrong."""
    for seed in range(SEEDS_MAX):
        with FAULTS[fault]():
            result = run_seed(seed)
        if result.violations:
            return result
    return None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_bug_is_found(fault: str) -> None:
    """A few seeds suffice to see that the product is broken."""
    found = first_found(fault)
    assert found is not None, f"{fault} was not found within {SEEDS_MAX} seeds"
    print(f"{fault}: seed {found.seed}, {found.violations[0]}")
