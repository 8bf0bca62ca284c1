"""The attempts of one operation at its leader: how long each may take, how long to pause, what to say in the end."""

import random
from dataclasses import dataclass

from ..api.errors import InDoubt, InvalidRequest, Overloaded, RingholdError, Unavailable, in_doubt
from ..api.proto.ringhold.storage.v1.records_pb2 import Command
from ..ring.topology import SYSTEM_GROUP, partition_of_group
from .clock import Clock
from .consensus.tickets import AnchorOutOfRange, NotLeader
from .losses import Losses, no_healthy_copy
from .machine.records import changed_key
from .peers.exchange import RequestLost, RequestNotSent
from .routes import Reaches, Routes


@dataclass(frozen=True, slots=True)
class AttemptsConfig:
    """Pace of attempts.

    attempt_s_max: after this an attempt counts as lost; raising it delays the next one, lowering it repeats work.
    backoff_s_min, backoff_s_max: bounds of the pause between attempts, doubled each time, with full jitter.
    """

    attempt_s_max: float = 1.0
    backoff_s_min: float = 0.01
    backoff_s_max: float = 0.25

    def timeout_s(self, remaining_s: float) -> float:
        """Seconds that an attempt may take with so many left until the deadline."""
        return max(0.001, min(self.attempt_s_max, remaining_s))


class Attempts:
    """Counts the attempts of one operation, and what they have met. `command` is None for a read.

    Only a mutation is ever in doubt: to read, or to resolve a request, twice does no harm.

    `aimed_at`, set by the router, is the node that the present attempt goes to.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        routes: Routes,
        reaches: Reaches,
        config: AttemptsConfig,
        group: int,
        deadline: float,
        command: Command | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._routes = routes
        self._reaches = reaches
        self._config = config
        self._group = group
        self._deadline = deadline
        self._command = command
        self._resolves = command is not None and command.resolve
        self._changes = command is not None and not command.resolve
        self._failed = 0
        self._losses = Losses(clock, routes)
        self.in_doubt = False
        self.aimed_at = ""

    def timeout_s(self) -> float:
        """Seconds the next attempt may take."""
        return self._config.timeout_s(self._deadline - self._clock.now())

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline: for what may take longer than an attempt at a key."""
        return max(0.001, self._deadline - self._clock.now())

    async def failed(self, error: Exception) -> None:
        """Learn from a failed attempt and pause before the next. Raises the final error when there is no time left.

        Also when nobody has a good copy: then there is nothing to wait for.
        """
        if isinstance(error, RequestLost) and self._changes:
            self.in_doubt = True
        self._learn(error)
        if self._losses.is_total(self._group):
            raise (self._doubt() if self.in_doubt else no_healthy_copy([self._group])) from error
        if not await self.pause():
            raise self._final(error) from error

    async def pause(self) -> bool:
        """Wait for a moment before the next attempt; False, and at once, if there is no time left for one."""
        pause_s = self._pause_s()
        if self._clock.now() + pause_s >= self._deadline:
            return False
        self._failed += 1
        await self._clock.sleep(pause_s)
        return True

    def no_replica(self) -> Unavailable:
        """No replica has answered a stale read, for which one would have been enough."""
        return self._unavailable(f"no replica of {self._name()} answered in time", needed=1)

    def expired(self, error: AnchorOutOfRange) -> RingholdError:
        """A leader refuses the anchor: a clear answer, unless an earlier attempt may have been applied."""
        log_time = {"log_time_ms": str(error.log_time_ms)}
        if self.in_doubt:
            return self._doubt()
        if self._resolves:
            return InvalidRequest("ANCHOR_INVALID", "the anchor is far ahead of the partition's log time", log_time)
        message = "the anchor is outside the window in which repetitions are recognised; this attempt was not applied"
        return InvalidRequest("REQUEST_EXPIRED", message, log_time)

    def _pause_s(self) -> float:
        bound = min(self._config.backoff_s_max, self._config.backoff_s_min * 2.0 ** min(self._failed, 16))
        return self._rng.uniform(0, bound)

    def _learn(self, error: Exception) -> None:
        """Follow a redirect; an attempt that met no leader, nor anybody who knows one, passes the turn on."""
        if isinstance(error, NotLeader):
            self._losses.heard(self._group, self.aimed_at, is_lost=error.is_lost)
        if isinstance(error, NotLeader) and self._routes.redirected(self._group, error.leader, error.term):
            return
        if isinstance(error, NotLeader | RequestNotSent | RequestLost | Unavailable):
            self._routes.passed_over(self._group, self.aimed_at, self._reaches)

    def _final(self, error: Exception) -> RingholdError:
        if self.in_doubt:
            return self._doubt()
        if isinstance(error, Overloaded):
            return error
        needed = len(self._routes.replicas(self._group)) // 2 + 1
        remains = "the doubt about the request stands" if self._resolves else "nothing was applied"
        return self._unavailable(f"no leader of {self._name()} answered in time; {remains}", needed)

    def _unavailable(self, message: str, needed: int) -> Unavailable:
        alive = sum(1 for replica in self._routes.replicas(self._group) if self._reaches(replica))
        details = {"needed": str(needed), "alive": str(alive)}
        if self._group != SYSTEM_GROUP:
            details["partition"] = str(partition_of_group(self._group))
        return Unavailable("NO_QUORUM", message, details)

    def _name(self) -> str:
        return "the system group" if self._group == SYSTEM_GROUP else f"partition {partition_of_group(self._group)}"

    def _doubt(self) -> InDoubt:
        assert self._command is not None, "a read is never in doubt"
        return in_doubt(
            "no outcome in time: the mutation may or may not have been applied",
            self._command.request_id,
            self._command.anchor_ms,
            changed_key(self._command.mutations[0]),
        )
