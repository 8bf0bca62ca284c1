"""What `benchmarks.moves` counts, and when: a load that does not wait for answers, and figures by run."""

from typing import cast

import pytest
from support.virtual_time import LoopClock, pass_time, virtual

from benchmarks.figures import Figure
from benchmarks.moves import Joined, of_run, parsed
from benchmarks.steady import CALLERS, Steady, Taken
from ringhold import AsyncClient
from ringhold.api.errors import Unavailable


class SlowClient:
    """Answers each call after so many seconds, or refuses it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_refusing = False

    async def get(self, key: bytes) -> None:
        await pass_time(self.seconds)
        if self.is_refusing:
            raise Unavailable("DRAINING", "for the test")

    async def set(self, key: bytes, value: bytes) -> None:
        await self.get(key)


def steady_on(client: SlowClient) -> Steady:
    return Steady(cast("AsyncClient", client), 1_000, clock=LoopClock().now)


@virtual
async def test_a_steady_rate_does_not_wait_for_answers() -> None:
    """Operations begin when they are due though none was answered, and count from then."""
    steady = steady_on(SlowClient(3.0))
    async with steady.running(100):
        await pass_time(2.0)
        assert steady.taken.seconds == []
        await pass_time(2.0)
    assert len(steady.taken.seconds) == pytest.approx(400, abs=2)
    assert all(2.999 <= seconds <= 3.01 for seconds in steady.taken.seconds)


@virtual
async def test_each_part_of_a_run_has_its_own_operations() -> None:
    """An operation belongs to the part in which it was due; one that fails counts with its time, too."""
    client = SlowClient(0.5)
    steady = steady_on(client)
    async with steady.running(100):
        await pass_time(1.0)
        first, steady.taken = steady.taken, Taken()
        client.is_refusing = True
        await pass_time(1.0)
    assert len(first.seconds) == pytest.approx(100, abs=2)
    assert len(first.failures) == pytest.approx(50, abs=2)
    assert len(steady.taken.failures) == len(steady.taken.seconds) == pytest.approx(100, abs=2)


@virtual
async def test_what_saturates_is_counted_with_all_callers() -> None:
    """Each caller begins the next operation when it has its answer."""
    assert await steady_on(SlowClient(0.1)).saturated_per_s(2.0) == pytest.approx(CALLERS * 10, rel=0.06)


def test_a_newcomer_is_measured_by_its_fair_share() -> None:
    """With three replicas on four nodes, three quarters of the records and of the partitions are its own."""
    joined = Joined(9.0, bytes_received=1_500, record_bytes=1_000, copies=48, copies_fair=48.0)
    assert (joined.bytes_of_fair, joined.copies_of_fair) == (2.0, 1.0)


def test_every_run_has_its_own_figure() -> None:
    """Its name and title say which."""
    assert of_run(Figure("join", "Joined", 2.0, "s", 9.0), 2) == Figure("join_2", "Joined, run 2", 2.0, "s", 9.0)


@pytest.mark.parametrize(
    ("arguments", "records", "runs"),
    [([], 1_000_000, 2), (["--quick"], 50_000, 1), (["--quick", "--records", "7", "--runs", "3"], 7, 3)],
)
def test_what_is_asked_for_is_measured(arguments: list[str], records: int, runs: int) -> None:
    """A look is shorter, unless more is said."""
    found = parsed(arguments)
    assert (found.records, found.runs) == (records, runs)
