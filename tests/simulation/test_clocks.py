"""The clocks of simulated machines keep within what the design assumes, and use all of it."""

import asyncio
import random

from simulation.clocks import APART_MAX, RATE_MAX, RATE_MIN, SimulatedClock, random_rate
from simulation.loop import let_pass, simulate


def test_rates_keep_within_the_assumed_bound() -> None:
    """No clock is more than 10 % faster than another, and some are exactly that."""
    rng = random.Random(1)
    rates = [random_rate(rng) for _ in range(1_000)]
    assert max(rates) / min(rates) <= APART_MAX * (1 + 1e-12)
    assert {RATE_MIN, RATE_MAX} < set(rates)


def test_a_sleep_lasts_on_its_own_clock() -> None:
    """A sleep takes its time on the clock, also if the clock becomes slower meanwhile."""

    async def story() -> float:
        clock = SimulatedClock(asyncio.get_running_loop().time, random.Random(2))
        clock.drift(RATE_MAX)
        began = clock.now()
        sleeping = asyncio.ensure_future(clock.sleep(10))
        await let_pass(4)
        clock.drift(RATE_MIN)
        await sleeping
        return clock.now() - began

    assert abs(simulate(story()) - 10) < 1e-6


def test_a_drift_moves_no_time() -> None:
    """A clock that changes its rate goes on from where it was."""

    async def story() -> tuple[float, float]:
        clock = SimulatedClock(asyncio.get_running_loop().time, random.Random(3))
        await let_pass(7)
        before = clock.now()
        clock.drift(RATE_MIN)
        return before, clock.now()

    before, after = simulate(story())
    assert before == after
