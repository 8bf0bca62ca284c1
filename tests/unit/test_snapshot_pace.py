"""Whole copies give way to commands that take long, and come to an end all the same."""

import pytest
from support.replicas import propose
from support.rows import set_of
from support.trio import trio
from support.virtual_time import LoopClock, pass_time, virtual

from ringhold.node.consensus.foreground import REST_AFTER_S, SAMPLES_MIN, Foreground
from ringhold.node.snapshots.pace import FACTOR_AT_FIRST, FACTOR_MIN, FLOOR_S, GROWTH, Pace
from ringhold.node.snapshots.throttle import BACKED_OFF_BYTES_PER_S_MIN, LOOP_SHARE_MAX, WORKED_S_MAX, Throttle

REST_MS = 10.0
PER_S = 200


class Course:
    """Commands at a steady rate, second after second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.foreground = Foreground(self.now)
        self.pace = Pace(self.foreground, self.now)

    def pass_seconds(self, count: int, took_ms: float, per_s: int = PER_S, *, is_copying: bool = False) -> list[float]:
        """The factor at the end of each of so many seconds."""
        factors = []
        for began in range(int(self.now), int(self.now) + count):
            if is_copying:
                self.pace.copied(began)
            for number in range(per_s):
                self.foreground.took(took_ms / 1000, began + number / per_s)
            self.now = began + 1
            factors.append(self.pace.copied(self.now) if is_copying else self.pace.factor(self.now))
        return factors


@pytest.mark.parametrize("took_ms", [0.01, 0.4, 3.0, 20.0, 900.0, 70_000.0, 300_000.0])
def test_p99_is_known_to_a_fifth(took_ms: float) -> None:
    """It is never too low, and at most a fifth too high; what takes over a minute counts as a minute."""
    foreground = Foreground(0.0)
    for number in range(SAMPLES_MIN):
        foreground.took(took_ms / 1000 if number >= SAMPLES_MIN - 2 else 0.0, 0.5)
    p99_s = foreground.p99_s(0.5)
    assert p99_s is not None
    assert 0.99 <= p99_s / min(took_ms / 1000, 67) <= 1.2


def test_one_outlier_in_a_hundred_is_none() -> None:
    """99 % of the commands is what counts, and too few count for nothing."""
    foreground = Foreground(0.0)
    for number in range(100):
        assert (foreground.p99_s(0.5) is None) is (number < SAMPLES_MIN)
        foreground.took(9.0 if number == 7 else 0.001, 0.5)
    assert foreground.p99_s(0.5) == pytest.approx(0.001, rel=0.2)


def test_what_was_long_ago_is_not_recent() -> None:
    """After some windows a command counts no more, whether others came since or not; rest is remembered."""
    for idle_s, per_s in ((10, 0), (10, PER_S)):
        course = Course()
        course.pass_seconds(1, 500.0)
        course.pass_seconds(idle_s, 1.0, per_s)
        recent = course.foreground.p99_s(course.now)
        assert recent is None if not per_s else recent is not None and recent < 0.002
        assert course.foreground.p99_at_rest_s is not None


def test_what_is_measured_beside_copies_is_not_rest() -> None:
    """Nor is what follows within a few seconds: rest is what it was before."""
    course = Course()
    course.pass_seconds(10, REST_MS)
    at_rest = course.foreground.p99_at_rest_s
    course.pass_seconds(60, 300.0, is_copying=True)
    course.pass_seconds(int(REST_AFTER_S) - 1, 300.0)
    assert course.foreground.p99_at_rest_s == at_rest
    course.pass_seconds(200, 3 * REST_MS)
    later = course.foreground.p99_at_rest_s
    assert at_rest is not None
    assert later is not None
    assert later > 2 * at_rest


def test_a_load_that_has_ended_is_not_rest() -> None:
    """What commands take at rest is soon what they take now if that is less; slower ones must go on for longer."""
    course = Course()
    course.pass_seconds(100, 400.0, 10 * PER_S)
    course.pass_seconds(20, REST_MS)
    assert course.foreground.p99_at_rest_s == pytest.approx(REST_MS / 1000, rel=0.5)
    course.pass_seconds(4, 10 * REST_MS)
    assert (course.foreground.p99_at_rest_s or 1.0) < 4 * REST_MS / 1000


def test_copies_back_off_and_recover() -> None:
    """The factor is halved each second while commands take too long, down to its minimum, and then grows by steps."""
    course = Course()
    assert course.pass_seconds(20, REST_MS) == [1.0] * 20
    assert course.pass_seconds(40, REST_MS, is_copying=True)[-1] == 1.0
    falling = course.pass_seconds(8, 5 * REST_MS, is_copying=True)
    assert falling == [1 / 2, 1 / 4, 1 / 8, *[FACTOR_MIN] * 5]
    growing = course.pass_seconds(40, REST_MS, is_copying=True)
    assert growing == sorted(growing)
    assert growing[-1] == 1.0
    assert growing[25] < 1.0


def test_copies_begin_gently_beside_commands() -> None:
    """They take a small share at first where there are commands, and all of it at once where there are none."""
    course = Course()
    course.pass_seconds(20, REST_MS)
    beside = course.pass_seconds(10, REST_MS, is_copying=True)
    assert beside[0] <= FACTOR_AT_FIRST + GROWTH
    assert beside == sorted(beside)
    course.pass_seconds(2 * int(REST_AFTER_S), 1.0, 0)
    assert course.pass_seconds(10, 1.0, 0, is_copying=True) == [1.0] * 10


def test_few_commands_are_waited_for() -> None:
    """After a halving the factor grows only once commands, or some seconds, say that it was enough."""
    course = Course()
    course.pass_seconds(20, REST_MS)
    course.pass_seconds(40, REST_MS, is_copying=True)
    assert course.pass_seconds(6, 5 * REST_MS, 20, is_copying=True) == [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert course.pass_seconds(6, 5 * REST_MS, 1, is_copying=True)[-1] > 0.25


@pytest.mark.parametrize(
    ("rest_ms", "took_ms", "per_s"),
    [
        pytest.param(REST_MS, 1.5 * REST_MS, PER_S, id="not twice as long"),
        pytest.param(FLOOR_S * 100, FLOOR_S * 800, PER_S, id="below the floor"),
        pytest.param(REST_MS, 50 * REST_MS, SAMPLES_MIN // 10, id="too few commands"),
    ],
)
def test_noise_does_not_hold_copies_up(rest_ms: float, took_ms: float, per_s: int) -> None:
    """They keep their whole share unless commands are known to be much slower, and slow."""
    course = Course()
    course.pass_seconds(20, rest_ms)
    course.pass_seconds(5, rest_ms, 0)
    assert course.pass_seconds(20, took_ms, per_s, is_copying=True) == [1.0] * 20


def test_without_rest_to_compare_with_nothing_backs_off() -> None:
    """A node that copies from its start on does not know what its commands take without."""
    course = Course()
    assert course.pass_seconds(20, 500.0, is_copying=True) == [1.0] * 20


def test_at_rest_nothing_backs_off() -> None:
    """Slow commands are not the copies' fault when there are none."""
    course = Course()
    course.pass_seconds(20, REST_MS)
    assert course.pass_seconds(20, 50 * REST_MS) == [1.0] * 20


def test_the_share_comes_back_while_nobody_asks() -> None:
    """Copies that begin long after others backed off begin with their whole share."""
    course = Course()
    course.pass_seconds(20, REST_MS)
    course.pass_seconds(8, 5 * REST_MS, is_copying=True)
    course.now += 60
    assert course.pace.factor(course.now) == 1.0


class Stuck(Pace):
    """A pace that has backed off for ever."""

    def __init__(self) -> None:
        super().__init__(Foreground(0.0), 0.0)
        self._factor = FACTOR_MIN

    def _step(self, steps: int, now: float) -> None:
        """Commands take long, whatever is done."""


@virtual
@pytest.mark.parametrize(
    ("limit", "worked_s", "seconds"),
    [
        pytest.param(0, 0.002, 100 * 0.002 / LOOP_SHARE_MAX / FACTOR_MIN, id="no limit: a share of the loop"),
        pytest.param(64_000_000, 0.0, 100 * 64_000 / (64_000_000 * FACTOR_MIN), id="a share of the limit"),
        pytest.param(2 * BACKED_OFF_BYTES_PER_S_MIN, 0.0, 6.4e6 / BACKED_OFF_BYTES_PER_S_MIN, id="not below 1 MiB/s"),
        pytest.param(500_000, 0.0, 6.4e6 / 500_000, id="a low limit is not lowered"),
        pytest.param(0, 5.0, 100 * WORKED_S_MAX / LOOP_SHARE_MAX / FACTOR_MIN, id="a machine that stood still"),
    ],
)
async def test_copies_end_even_if_commands_stay_slow(limit: int, worked_s: float, seconds: float) -> None:
    """However long commands take, a hundred chunks are through in a time that can be told before."""
    clock = LoopClock()
    throttle = Throttle(clock, limit, Stuck())
    began = clock.now()
    for _ in range(100):
        await throttle.spend(64_000, worked_s)
    assert clock.now() - began == pytest.approx(seconds, rel=0.1)


@virtual
async def test_a_leader_measures_its_commands() -> None:
    """What it proposes counts from the proposal to the outcome; followers have nothing to measure."""
    async with trio(1) as nodes:
        for number in range(SAMPLES_MIN):
            await propose(nodes["n1"].groups, 1, set_of(b"key", b"value"), request_id=b"%d" % number)
        now = LoopClock().now()
        assert (nodes["n1"].groups.foreground.p99_s(now) or 0) > 0
        assert nodes["n2"].groups.foreground.p99_s(now) is None
        await pass_time(2.0)
        assert (nodes["n1"].groups.foreground.p99_s(LoopClock().now()) or 0) > 0
        assert (nodes["n1"].groups.foreground.p99_at_rest_s or 0) > 0
