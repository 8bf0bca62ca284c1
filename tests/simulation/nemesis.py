"""What goes wrong: crashes, partitions, bad disks, clocks and weather, one upon the other, by chance of the seed."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

from ringhold.node.storage.engine import EngineFailed, EngineFull
from ringhold.node.storage.memory import MemoryEngine

from .calls import ClientNetwork
from .clocks import SimulatedClock, random_rate
from .disk_faults import DiskFaults
from .loop import Life, SimulationLoop, until, within
from .machines import SYNC_S, Machine
from .network import Channel, Network, Weather
from .ring_changes import RingChanges
from .sessions import Wires
from .trace import Trace

SUSPENSION_S = (290.0, 420.0)
"""Around the five minutes in which repetitions are recognised."""

PARTITION_S_MAX = 7.0
ONE_CHANNEL_S_MAX = 12.0
"""Long enough for sessions to be given up while beats flow."""

PAUSE_S_MAX = 6.0
FUSE_CALLBACKS_MAX = 400
FUSE_S_MAX = 5.0
"""A paused node burns no fuse."""

STUCK_SYNC_S = (1.5, 6.0)
"""From one second on a stuck sync hands leaderships over."""

COLD_START_CHANCE = 0.4
"""That a disk is slow after a start, so that the node is reachable for a while before it leads."""

SNAPSHOT_S_MAX = 5.0
"""How long the end of a snapshot waits for its beginning."""

BROKEN_DISK_S_MAX = 5.0
"""An idle node may not touch its disk for long; then it is killed with its broken disk."""

STOP_S_MAX = 1.0
"""How soon a node has stopped after its disk has failed."""

FAULTS_PER_S = 1 / 1.5
RING_CHANGES_PER_S = 1 / 5
DISK_FAULTS_PER_S = 1 / 2
"""One disk must be sound again before another is hurt, so most of them do not come."""

Breakage = Callable[[MemoryEngine], None]


def fail_sync(engine: MemoryEngine) -> None:
    engine.fail_next_sync = EngineFailed("the disk can't sync")


def fail_write(engine: MemoryEngine) -> None:
    engine.fail_next_write = EngineFailed("the disk can't write")


def fail_read(engine: MemoryEngine) -> None:
    engine.fail_next_read = EngineFailed("the disk can't read")


def fill(engine: MemoryEngine) -> None:
    engine.fail_next_write = EngineFull("the disk is full")


BREAKAGES: Mapping[str, Breakage] = {
    "failed sync": fail_sync,
    "failed write": fail_write,
    "failed read": fail_read,
    "full disk": fill,
}
"""EIO of each kind of call, and ENOSPC: each is final."""


class Nemesis:
    """Brings faults over machines and network until it is told to end; then heals everything."""

    def __init__(
        self,
        machines: list[Machine],
        clocks: list[SimulatedClock],
        network: Network,
        wires: Wires,
        rng: random.Random,
        trace: Trace,
        accuse: Callable[[str], None],
        twin_of: Callable[[Machine], Machine],
        fresh: Callable[[str], Machine],
    ) -> None:
        """`accuse` is told of a node that does not do what its fault demands; `twin_of` and `fresh` as of others."""
        self._machines = machines
        self._accuse = accuse
        self._clocks = clocks
        self._network = network
        self._wires = wires
        self._rng = rng
        self._trace = trace
        self.disks = DiskFaults(machines, twin_of, self._kill, rng, trace, accuse)
        self.ring = RingChanges(machines, fresh, rng, trace, accuse)
        self._given_up: list[Machine] = []
        self._running: dict[asyncio.Task[None], None] = {}
        self._faults: Mapping[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._crash: 5,
            self._crash_soon: 5,
            self._crash_all: 2,
            self._restart: 3,
            self._partition: 6,
            self._one_channel: 5,
            self._lose_sessions: 3,
            self._interrupt_snapshot: 4,
            self._bad_weather: 4,
            self._slow_disk: 3,
            self._stuck_sync: 2,
            self._broken_disk: 3,
            self._pause: 3,
            self._pause_soon: 3,
            self._suspend_one: 2,
            self._drift: 2,
        }

    async def rage(self, seconds: float, *, suspends: bool, hurts_disks: bool, changes_ring: bool) -> None:
        """Faults for so long; if `suspends`, all machines are once suspended together, as a laptop is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if hurts_disks:
            self._start(self._hurt_disks(end))
        if changes_ring:
            self._start(self._change_ring(end))
        if suspends:
            self._start(self._suspend(self._rng.uniform(0.3, 0.9) * seconds))
        while loop.time() < end:
            await asyncio.sleep(self._rng.expovariate(FAULTS_PER_S))
            (fault,) = self._rng.choices(list(self._faults), weights=list(self._faults.values()))
            self._start(fault())

    async def _hurt_disks(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self._rng.expovariate(DISK_FAULTS_PER_S))
            self._start(self.disks.any_fault())

    async def _change_ring(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self._rng.expovariate(RING_CHANGES_PER_S))
            self._start(self.ring.any_change())
            self._replace_buried()

    def _replace_buried(self) -> None:
        """A machine that is gone for good: another one takes its name, or it is removed by an order."""
        for machine in self.disks.buried:
            if machine not in self._given_up:
                self._given_up.append(machine)
                called = machine.called or machine.name
                self._start(self.ring.join(called) if self._rng.random() < 0.5 else self.ring.remove(machine))

    def disturb_founding(self) -> None:
        """Let the machines, just booted, crash within their first steps."""
        for machine in self._machines:
            if self._rng.random() < 0.7:
                self._start(self._crash_soon_on(machine))

    async def heal(self) -> None:
        """Undo all that still holds, and start what is down."""
        self._network.heal_all()
        await until(lambda: not self._running)
        self._network.heal_all()
        self._network.weather = Weather()
        self.ring.take_away_who_is_out()
        for machine in self._machines:
            machine.sync_s = SYNC_S
            if not machine.is_up:
                machine.boot()

    def _start(self, fault: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(fault)
        self._running[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        task.result()

    def _note(self, kind: str, what: str) -> None:
        self._trace.count(f"fault: {kind}")
        if len(self._running) > 1:
            self._trace.count("fault upon fault")
        self._trace.note("nemesis", f"{kind}: {what}")

    def _any_up(self) -> Machine | None:
        up = [machine for machine in self._machines if machine.is_up]
        return self._rng.choice(up) if up else None

    async def _crash(self) -> None:
        machine = self._any_up()
        if machine is not None:
            self._note("crash", machine.name)
            self._kill(machine)
            await self._boot_later(machine)

    async def _crash_soon(self) -> None:
        """A crash between two steps of the process, also where no time passes between them."""
        machine = self._any_up()
        if machine is not None:
            await self._crash_soon_on(machine)

    async def _crash_soon_on(self, machine: Machine) -> None:
        life = machine.life
        if life is None:
            return
        self._note("crash between steps", machine.name)
        life.fuse = self._rng.randint(1, FUSE_CALLBACKS_MAX)
        life.on_fuse = lambda: self._kill(machine)
        await until(lambda: life.is_over)
        await self._boot_later(machine)

    async def _crash_all(self) -> None:
        """All processes end at one moment, as when the power goes; the machines come back together or one by one."""
        self._note("crash of all", "")
        down = [machine for machine in self._machines if machine.is_up]
        for machine in down:
            self._kill(machine)
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0, 2))
            for machine in down:
                if not machine.is_up and not machine.is_gone:
                    machine.boot()
        else:
            for machine in down:
                self._start(self._boot_later(machine))

    def _kill(self, machine: Machine) -> None:
        loss_share = self._rng.choice([0.0, 1.0, self._rng.random()])
        if machine.is_up:
            machine.die(loss_share, silently=self._rng.random() < 0.2)

    async def _boot_later(self, machine: Machine) -> None:
        await asyncio.sleep(self._rng.choice([0.05, 0.5, self._rng.uniform(0, 6)]))
        if machine.is_up or machine.is_gone:
            return
        machine.boot()
        if self._rng.random() < COLD_START_CHANCE:
            self._note("cold start", machine.name)
            await self._slow_down(machine, (self._rng.choice([0.0, 0.8]), 2.5))

    async def _restart(self) -> None:
        machine = self._any_up()
        if machine is not None and machine.is_ready:
            self._note("restart", machine.name)
            await machine.leave()
            await self._boot_later(machine)

    async def _partition(self) -> None:
        """Some ways between two machines, or to and from one, or from the clients to one, are shut."""
        shape, shut = self._rng.choice(list(self._shapes().items()))
        self._note(f"partition, {shape}", ", ".join(f"{source}>{target}" for source, target in shut))
        await self._shut(shut)

    async def _one_channel(self) -> None:
        """Of some ways only one channel is shut: beats flow and consensus is held, say, or the other way round."""
        channel = self._rng.choice([Channel.REQUESTS, Channel.RAFT, Channel.BEATS])
        shape, shut = self._rng.choice(list(self._shapes().items()))
        self._note(
            f"only {channel.value} held", f"{shape}, {', '.join(f'{source}>{target}' for source, target in shut)}"
        )
        await self._shut(shut, channel, seconds_max=ONE_CHANNEL_S_MAX)

    async def _shut(
        self, ways: list[tuple[str, str]], *channels: Channel, seconds_max: float = PARTITION_S_MAX
    ) -> None:
        for source, target in ways:
            self._network.block(source, target, *channels)
        await asyncio.sleep(self._rng.uniform(0.2, seconds_max))
        for source, target in ways:
            self._network.heal(source, target, *channels)

    def _shapes(self) -> Mapping[str, list[tuple[str, str]]]:
        """The ways that each shape of partition shuts."""
        names = [machine.name for machine in self._machines]
        ways = list(permutations(names, 2))
        one = self._rng.choice(names)
        side = {one, self._rng.choice(names)}
        return {
            "one way": [self._rng.choice(ways)],
            "cut off": [way for way in ways if one in way],
            "mute": [way for way in ways if way[0] == one],
            "deaf": [way for way in ways if way[1] == one],
            "halves": [way for way in ways if len(side.intersection(way)) == 1],
            "met in the middle": [way for way in ways if one not in way],
            "from clients": [(ClientNetwork.MACHINE, one)],
            "to clients": [(one, ClientNetwork.MACHINE)],
        }

    async def _lose_sessions(self) -> None:
        self._note("sessions cut", "all" if (all_ := self._rng.random() < 0.3) else "one")
        links = list(self._wires.links.values())
        for link in links if all_ or not links else [self._rng.choice(links)]:
            link.sever((0.0, 0.5))
        for stream in list(self._wires.streams.values()):
            if all_ or self._rng.random() < 0.5:
                stream.sever((0.0, 0.5))

    async def _interrupt_snapshot(self) -> None:
        """Wait for a snapshot to be under way, and stop it somewhere: its way, one of its ends, or its view."""
        if not await within(SNAPSHOT_S_MAX, lambda: any(self._under_way())):
            return
        await asyncio.sleep(self._rng.choice([0.0, self._rng.uniform(0, 0.5)]))
        for target, source in list(self._under_way())[:1]:
            how = self._rng.choice(["way", "target", "source", "view", "leader"])
            self._note("snapshot interrupted", f"from {source.name} to {target.name}, {how}")
            await self._interrupt(target, source, how)

    def _under_way(self) -> Iterator[tuple[Machine, Machine]]:
        """The two ends of each snapshot of which something has come."""
        for stream in self._wires.streams.values():
            ends = [self._machine_of(end.machine) for end in (stream.target, stream.source)]
            target, source = ends
            if target is not None and source is not None and stream.has_begun:
                yield target, source

    def _machine_of(self, name: str) -> Machine | None:
        return next((machine for machine in self._machines if machine.name == name and machine.is_up), None)

    async def _interrupt(self, target: Machine, source: Machine, how: str) -> None:
        assert source.node is not None
        if how == "way":
            for stream in list(self._wires.streams.values()):
                stream.sever((0.0, 0.5))
        elif how == "view":
            for served in list(source.node.snapshots._views.values()):
                served.view.close()  # as an engine does that can't keep it any longer
        elif how == "leader":
            others = [machine.name for machine in self._machines if machine is not source]
            await self._shut([(source.name, other) for other in others], seconds_max=ONE_CHANNEL_S_MAX / 4)
        else:
            machine = target if how == "target" else source
            self._kill(machine)
            await self._boot_later(machine)

    async def _bad_weather(self) -> None:
        rng = self._rng
        self._note("bad weather", "")
        self._network.weather = replace(
            self._network.weather,
            slow_chance=rng.choice([0.0, 0.1, 0.3]),
            slow_s_max=rng.choice([0.1, 0.6, 1.5]),
            break_chance=rng.choice([0.0, 0.01, 0.05]),
            beat_loss=rng.choice([0.0, 0.5, 0.8, 0.9, 1.0]),
            beat_repeat=rng.choice([0.0, 0.3]),
            gossip_loss=rng.choice([0.0, 0.1, 0.4]),
            gossip_repeat=rng.choice([0.0, 0.2]),
            call_loss=rng.choice([0.0, 0.03, 0.1]),
        )
        await asyncio.sleep(rng.uniform(1, 5))
        self._network.weather = Weather()

    async def _slow_disk(self) -> None:
        machine = self._rng.choice(self._machines)
        self._note("slow disk", machine.name)
        await self._slow_down(machine, (0.0, self._rng.choice([0.05, 0.4, 1.5])))

    async def _slow_down(self, machine: Machine, sync_s: tuple[float, float]) -> None:
        machine.sync_s = sync_s
        await asyncio.sleep(self._rng.uniform(0.5, 4))
        machine.sync_s = SYNC_S

    async def _stuck_sync(self) -> None:
        """One sync hangs, and all that must be synced with it."""
        machine = self._rng.choice(self._machines)
        self._note("stuck sync", machine.name)
        machine.stuck_s = self._rng.uniform(*STUCK_SYNC_S)
        await asyncio.sleep(machine.stuck_s)
        machine.stuck_s = 0.0

    async def _broken_disk(self) -> None:
        """The disk fails at the next touch; the node must stop, and what it had not synced may be gone."""
        machine = self._any_up()
        if machine is None or machine.life is None:
            return
        kind = self._rng.choice(list(BREAKAGES))
        self._note(kind, machine.name)
        life, engine = machine.life, machine.engine
        BREAKAGES[kind](engine)
        machine.on_disk_failure = lambda: self._kill(machine)
        await until(lambda: life.is_over or has_failed(engine), BROKEN_DISK_S_MAX)
        await until(lambda: life.is_over or life.stalled is not None, STOP_S_MAX)
        if not life.is_over:
            if has_failed(engine) and life.stalled is None:
                self._accuse(f"{machine.name} goes on after its disk has failed ({kind})")
            self._kill(machine)
        await self._boot_later(machine)

    async def _pause(self) -> None:
        """The process stands still, as under a debugger or on a frozen virtual machine, and then goes on."""
        machine = self._any_up()
        if machine is None or machine.life is None or machine.life.stalled is not None:
            return
        self._note("pause", machine.name)
        life = machine.life
        life.stalled = []
        await self._resume_later(life)

    async def _pause_soon(self) -> None:
        """A pause between two steps of the process, also where no time passes between them."""
        machine = self._any_up()
        if machine is None or machine.life is None or machine.life.fuse is not None:
            return
        self._note("pause between steps", machine.name)
        life = machine.life
        burnt = partial(stall, life)
        life.fuse, life.on_fuse = self._rng.randint(1, FUSE_CALLBACKS_MAX), burnt
        await until(lambda: life.is_over or life.fuse is None, FUSE_S_MAX)
        if life.on_fuse is burnt:
            life.fuse = None
        await self._resume_later(life)

    async def _resume_later(self, life: Life) -> None:
        await asyncio.sleep(self._rng.choice([0.2, 1.0, self._rng.uniform(0, PAUSE_S_MAX)]))
        running_loop().resume(life)

    async def _suspend_one(self) -> None:
        """One machine sleeps: its timers stand still, its clock, which counts suspend, has gone on when it wakes."""
        machine = self._any_up()
        if machine is None or machine.life is None or machine.life.stalled is not None:
            return
        self._note("suspension of one", machine.name)
        life = machine.life
        seconds = self._rng.choice([1.0, self._rng.uniform(0, PAUSE_S_MAX)])
        running_loop().suspend(life, seconds)
        await asyncio.sleep(seconds)
        running_loop().resume(life)

    async def _drift(self) -> None:
        machine = self._rng.choice(self._machines)
        rate = random_rate(self._rng)
        self._note("clock drift", f"{machine.name} runs at {rate:.3f}")
        machine.clock.drift(rate)

    async def _suspend(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        seconds = self._rng.uniform(*SUSPENSION_S)
        self._note("suspension of all", f"{seconds:.0f} s")
        for clock in self._clocks:
            clock.suspend(seconds)


def running_loop() -> SimulationLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulationLoop)
    return loop


def stall(life: Life) -> None:
    """Pause a process; if it is paused already its callbacks stay where they wait."""
    if life.stalled is None:
        life.stalled = []


def has_failed(engine: MemoryEngine) -> bool:
    return engine._latch.failure is not None
