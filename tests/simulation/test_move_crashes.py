"""A machine dies at every step of a move. `python -m simulation crashes` tries each machine at each, in every way."""

from collections.abc import Sequence
from itertools import groupby

import pytest

from .farm import Farm, processes_for
from .move_crashes import STEPS, Crash, Step, crashes, fates, run_crash, verdict


@pytest.fixture(scope="module")
def steps() -> Sequence[Step]:
    """Those of the run in which nobody dies."""
    result, steps = run_crash()
    assert result.violations == []
    return steps


def one_each(steps: Sequence[Step]) -> list[Crash]:
    """A crash at each step: each time in another way, of another of the machines that have to do with it."""
    chosen = []
    for at, found in groupby(crashes(steps), lambda crash: crash.at):
        able = list(found)
        ways = list(fates(able[at % len(able)]))
        chosen.append(ways[at % len(ways)])
    return chosen


def check(chosen: Sequence[Crash]) -> None:
    with Farm(processes_for(len(chosen))) as farm:
        wrong = [(crash, violations) for crash, violations in farm.each(verdict, chosen) if violations]
    assert wrong == []


def test_every_kind_of_step_is_met(steps: Sequence[Step]) -> None:
    """A join and a leave take them all; copies take several chunks; each role is somebody else's at some step."""
    assert {step.name for step in steps} == set(STEPS)
    assert sum(step.name == "chunk stored" for step in steps) > sum(step.name == "snapshot installed" for step in steps)
    assert {role for step in steps for role in step.victims} == {"doer", "newcomer", "leaver", "mover", "source"}
    assert any(len(set(step.victims.values())) == 4 for step in steps)


def test_a_crash_comes_at_its_step(steps: Sequence[Step]) -> None:
    """Up to there everything is as without it, and then it is not."""
    crash = one_each(steps)[len(steps) // 2]
    result, taken = run_crash(crash)
    assert taken[: crash.at + 1] == steps[: crash.at + 1]
    assert taken != steps
    assert any(crash.machine in line and "dies;" in line for line in result.trace)


def test_a_machine_dies_at_a_step_of_each_kind(steps: Sequence[Step]) -> None:
    """Nothing acknowledged is lost, every replica is whole in the end, and join and leave end."""
    first = {step.name: at for at, step in reversed(list(enumerate(steps)))}
    check([crash for crash in one_each(steps) if crash.at in first.values()])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_machine_dies_at_every_step(steps: Sequence[Step]) -> None:
    """The same, with none left out."""
    check(one_each(steps))
