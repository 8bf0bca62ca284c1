"""Seeds in several processes give what they give in one."""

import pytest
from simulation.farm import Farm, processes_for
from simulation.world import run_seed

SEEDS = (3, 1, 2)


@pytest.mark.long
def test_other_processes_change_nothing() -> None:
    """The results come in the order of the seeds and are those of the same process; traces only if they are wanted."""
    with Farm(2) as farm:
        results = list(farm.run(SEEDS))
    assert [result.seed for result in results] == list(SEEDS)
    assert results[0].digest == run_seed(SEEDS[0]).digest
    assert not any(result.trace for result in results)


def test_a_fault_is_planted_where_the_seed_runs() -> None:
    """A bug that is planted breaks the runs of other processes, and only those that it was planted for."""
    with Farm(2) as farm:
        broken = list(farm.run([0], fault="sync_skipped"))
        sound = list(farm.run([0]))
    assert broken[0].violations
    assert not sound[0].violations


def test_few_seeds_need_one_process() -> None:
    """A process that would have hardly anything to do is not begun."""
    assert processes_for(1) == 1
    assert processes_for(2) == 1
