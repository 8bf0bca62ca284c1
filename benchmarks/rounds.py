"""Runs contestants in turn, round after round, so that what else the machine does hits all of them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .failure import RunVoid
from .figures import Row, Run

WARM_UP_S = 0.3
VOID_RUNS_MAX = 3
"""In a row, of one trial: a run that is void is run again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it takes: raising either steadies the figures and costs their product for each trial."""

    rounds: int
    run_s: float


class Trial(Protocol):
    """One contestant's part in a row."""

    @property
    def contestant(self) -> str:
        """The name in the table."""

    def run(self, number: int, seconds: float) -> Run:
        """Load for about so long; `number` counts the rounds. Raises RunVoid."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A row before it is measured."""

    name: str
    title: str
    trials: Sequence[Trial]


def measure(contests: Sequence[Contest], pace: Pace, tell: Callable[[str], None]) -> list[Row]:
    """A row for each contest. Only one trial runs at a time; every second round has their order reversed.

    Raises RunVoid.
    """
    for contest in contests:
        for trial in contest.trials:
            repeated_if_void(trial, 0, WARM_UP_S, tell)
    runs: dict[str, dict[str, list[Run]]] = {
        contest.name: {trial.contestant: [] for trial in contest.trials} for contest in contests
    }
    for number in range(pace.rounds):
        tell(f"round {number + 1} of {pace.rounds}")
        for contest in contests:
            for trial in contest.trials if number % 2 == 0 else reversed(contest.trials):
                found = repeated_if_void(trial, number, pace.run_s, tell)
                runs[contest.name][trial.contestant].append(found)
    return [Row(contest.name, contest.title, runs[contest.name]) for contest in contests]


def repeated_if_void(trial: Trial, number: int, seconds: float, tell: Callable[[str], None]) -> Run:
    """Raises RunVoid if it is void again and again."""
    for _ in range(VOID_RUNS_MAX - 1):
        try:
            return trial.run(number, seconds)
        except RunVoid as error:
            tell(f"{trial.contestant}: {error}; once more")
    return trial.run(number, seconds)
