"""The weather between machines: how long a message takes, what is lost, who can't reach whom."""

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from .loop import Life
from .trace import Trace

KEEPALIVE_S = (3.0, 8.0)
"""When a connection over which nothing comes is given up."""


class Channel(Enum):
    """What goes from one machine to another, each over connections of its own."""

    REQUESTS = "requests"
    """Frames of requests and replies; snapshots."""
    RAFT = "consensus"
    BEATS = "beats"
    CALLS = "calls"
    """Gossip's, and the clients'."""


BlockListener: TypeAlias = Callable[[str, str, Channel, bool], None]


@dataclass(slots=True)
class Weather:
    """Delays in seconds, chances per message."""

    delay_s_min: float = 0.0002
    delay_s_max: float = 0.004
    slow_chance: float = 0.0
    slow_s_max: float = 0.5
    break_chance: float = 0.0
    """Of a frame: it is lost, and its session with it."""
    beat_loss: float = 0.0
    beat_repeat: float = 0.0
    gossip_loss: float = 0.0
    gossip_repeat: float = 0.0
    call_loss: float = 0.0
    """Of a client's call, in each direction."""


class Network:
    """Carries messages between named machines. One way of a pair may be blocked, or one channel of it, and no other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, trace: Trace) -> None:
        self.rng = rng
        self.trace = trace
        self.weather = Weather()
        self._loop = loop
        self._blocked: dict[tuple[str, str, Channel], None] = {}
        self._context = copy_context()
        self._listeners: list[BlockListener] = []

    @property
    def now(self) -> float:
        return self._loop.time()

    def delay_s(self) -> float:
        weather = self.weather
        if weather.slow_chance and self.rng.random() < weather.slow_chance:
            return self.rng.uniform(weather.delay_s_max, weather.slow_s_max)
        return self.rng.uniform(weather.delay_s_min, weather.delay_s_max)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def at(self, when: float, action: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Call `action` then, as the network's own doing: it outlives the machine that sent."""
        return self._loop.call_at(when, action, *arguments, context=self._context)

    def after(self, seconds: float, action: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        return self.at(self.now + seconds, action, *arguments)

    def give(self, life: Life, action: Callable[..., object], *arguments: Any) -> None:
        """Have a process do something as soon as it runs; never, if its life is over."""
        self._loop.call_soon(action, *arguments, context=life.context.copy())

    def is_blocked(self, source: str, target: str, channel: Channel) -> bool:
        return (source, target, channel) in self._blocked

    def on_blocked(self, listener: BlockListener) -> None:
        """Call `listener(source, target, channel, blocked)` whenever a channel of a way is shut or opened."""
        self._listeners.append(listener)

    def block(self, source: str, target: str, *channels: Channel) -> None:
        """Shut the way, or only these channels of it."""
        for channel in channels or Channel:
            if not self.is_blocked(source, target, channel):
                self._blocked[source, target, channel] = None
                self._tell(source, target, channel, True)

    def heal(self, source: str, target: str, *channels: Channel) -> None:
        for channel in channels or Channel:
            if self.is_blocked(source, target, channel):
                del self._blocked[source, target, channel]
                self._tell(source, target, channel, False)

    def heal_all(self) -> None:
        for source, target, channel in list(self._blocked):
            self.heal(source, target, channel)

    def _tell(self, source: str, target: str, channel: Channel, blocked: bool) -> None:
        for listener in self._listeners:
            listener(source, target, channel, blocked)
