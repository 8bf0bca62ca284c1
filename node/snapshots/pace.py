"""How much of what they may take whole copies do take, so that the commands of the groups led here don't suffer.

Additive increase, multiplicative decrease, as TCP finds its share: the factor is halved while commands take more than
twice as long as at rest, and grows by steps while they don't. Beside commands copies begin gently: one second in which
they are too fast is enough to make the p99 of a whole minute. Pure. See docs/operations.md, "Whole copies of
partitions".
"""

from math import inf

from ..consensus.foreground import Foreground

STEP_S = 1.0
"""Between two looks. Shorter ones judge by fewer commands."""

SLOWDOWN_MAX = 2.0
"""Of the p99 of commands at rest. Lower, and copies yield to what is no more than noise."""

FLOOR_S = 0.005
"""A p99 below this is good, whatever it is at rest."""

FACTOR_MIN = 1 / 16
"""So slow copies go at least: they must end, for a replica that waits for one can't help in a failure."""

FACTOR_AT_FIRST = 1 / 8
"""When copies begin beside commands. Higher, and the first of them may be felt before there is anything to go by."""

GROWTH = 1 / 32
"""At each step, when commands are well. Faster growth is past the right factor for more of the time."""

GROWTH_ALONE = 1 / 4
"""At each step, when there are hardly any commands."""

HOLD_S = 5.0
"""So long after a halving the factor stays if too few commands have told since whether it was enough."""


class Pace:
    """The factor for all copies from here and to here. Asked now and then; nothing happens between two questions."""

    def __init__(self, foreground: Foreground, now: float) -> None:
        self._foreground = foreground
        self._factor = 1.0
        self._stepped_at = now
        self._halved_at = -inf

    def copied(self, now: float) -> float:
        """A piece of a copy was sent or taken: the factor for the next one."""
        factor = self.factor(now)
        if self._foreground.is_at_rest(now) and self._foreground.p99_s(now) is not None:
            factor = self._factor = min(factor, FACTOR_AT_FIRST)
        self._foreground.copied(now)
        return factor

    def factor(self, now: float) -> float:
        """From FACTOR_MIN to 1."""
        steps = int((now - self._stepped_at) / STEP_S)
        if steps:
            self._stepped_at += steps * STEP_S
            self._step(steps, now)
        return self._factor

    def _step(self, steps: int, now: float) -> None:
        p99_s = self._foreground.p99_s(now)
        if p99_s is not None and self._is_too_slow(p99_s, now):
            self._halve(now)
        elif p99_s is not None:
            self._grow(steps * GROWTH)
        elif now - self._halved_at >= HOLD_S:
            self._grow(steps * GROWTH_ALONE)

    def _grow(self, by: float) -> None:
        self._factor = min(1.0, self._factor + by)

    def _halve(self, now: float) -> None:
        self._halved_at = now
        if self._factor > FACTOR_MIN:
            self._factor = max(FACTOR_MIN, self._factor / 2)
            self._foreground.forget_recent()  # it was measured at the pace of before

    def _is_too_slow(self, p99_s: float, now: float) -> bool:
        """Whether copies are under way, and commands take long against what they take at rest."""
        rest_s = self._foreground.p99_at_rest_s
        if rest_s is None or self._foreground.is_at_rest(now):
            return False
        return p99_s > max(FLOOR_S, SLOWDOWN_MAX * rest_s)
