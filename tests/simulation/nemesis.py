"""What goes wrong: crashes, partitions, slow disks, bad weather, one upon the other, by chance of the seed."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

from ringhold.node.storage.engine import EngineFailed

from .calls import ClientNetwork
from .clocks import SimulatedClock
from .loop import SimulationLoop, until
from .machines import SYNC_S, Machine
from .network import Network, Weather
from .sessions import Wires
from .trace import Trace

SUSPENSION_S = (290.0, 420.0)
"""Around the five minutes in which repetitions are recognised."""

FUSE_CALLBACKS_MAX = 400
COLD_START_CHANCE = 0.4
"""That a disk is slow after a start, so that the node is reachable for a while before it leads."""

BROKEN_DISK_S_MAX = 5.0
"""An idle node may not sync for long; then it is killed with its broken disk."""


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
    ) -> None:
        self._machines = machines
        self._clocks = clocks
        self._network = network
        self._wires = wires
        self._rng = rng
        self._trace = trace
        self._running: dict[asyncio.Task[None], None] = {}
        self._faults: Mapping[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._crash: 5,
            self._crash_soon: 5,
            self._restart: 3,
            self._partition: 5,
            self._lose_sessions: 3,
            self._bad_weather: 4,
            self._slow_disk: 3,
            self._broken_disk: 1,
            self._pause: 3,
        }

    async def rage(self, seconds: float, *, suspends: bool) -> None:
        """Faults for so long; if `suspends`, all machines are once suspended together, as a laptop is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if suspends:
            self._start(self._suspend(self._rng.uniform(0.3, 0.9) * seconds))
        while loop.time() < end:
            await asyncio.sleep(self._rng.expovariate(1 / 1.5))
            (fault,) = self._rng.choices(list(self._faults), weights=list(self._faults.values()))
            self._start(fault())

    def disturb_founding(self) -> None:
        """Let the machines, just booted, crash within their first steps."""
        for machine in self._machines:
            if self._rng.random() < 0.7:
                self._start(self._crash_soon_on(machine))

    def join(self, machine: Machine, after_s: float) -> None:
        """Have one more machine join during the faults, and be part of them."""
        self._start(self._join(machine, after_s))

    async def _join(self, machine: Machine, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._note("one more machine", machine.name)
        machine.boot()
        self._machines.append(machine)

    async def heal(self) -> None:
        """Undo all that still holds, and start what is down."""
        self._network.heal_all()
        await until(lambda: not self._running)
        self._network.heal_all()
        self._network.weather = Weather()
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

    def _kill(self, machine: Machine) -> None:
        loss_share = self._rng.choice([0.0, 1.0, self._rng.random()])
        if machine.is_up:
            machine.die(loss_share, silently=self._rng.random() < 0.2)

    async def _boot_later(self, machine: Machine) -> None:
        await asyncio.sleep(self._rng.choice([0.05, 0.5, self._rng.uniform(0, 6)]))
        if machine.is_up:
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
        names = [machine.name for machine in self._machines]
        ways = list(permutations(names, 2))
        lonely = self._rng.choice(names)
        shut = self._rng.choice(
            [
                [self._rng.choice(ways)],
                [way for way in ways if lonely in way],
                [way for way in ways if way[0] == lonely],
                [way for way in ways if lonely not in way],
                [(ClientNetwork.MACHINE, lonely)],
                [(lonely, ClientNetwork.MACHINE)],
            ]
        )
        self._note("partition", ", ".join(f"{source}>{target}" for source, target in shut))
        for source, target in shut:
            self._network.block(source, target)
        await asyncio.sleep(self._rng.uniform(0.2, 7))
        for source, target in shut:
            self._network.heal(source, target)

    async def _lose_sessions(self) -> None:
        self._note("sessions cut", "all" if (all_ := self._rng.random() < 0.3) else "one")
        links = list(self._wires.links.values())
        for link in links if all_ or not links else [self._rng.choice(links)]:
            link.sever((0.0, 0.5))

    async def _bad_weather(self) -> None:
        rng = self._rng
        self._note("bad weather", "")
        self._network.weather = replace(
            self._network.weather,
            slow_chance=rng.choice([0.0, 0.1, 0.3]),
            slow_s_max=rng.choice([0.1, 0.6, 1.5]),
            break_chance=rng.choice([0.0, 0.01, 0.05]),
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

    async def _broken_disk(self) -> None:
        """The next sync fails; the node must stop, and what it had not synced may be gone."""
        machine = self._any_up()
        if machine is None or machine.life is None:
            return
        self._note("broken disk", machine.name)
        life, engine = machine.life, machine.engine
        engine.fail_next_sync = EngineFailed("the disk says no")
        machine.on_disk_failure = lambda: self._kill(machine)
        await until(lambda: life.is_over, BROKEN_DISK_S_MAX)
        if not life.is_over:
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
        await asyncio.sleep(self._rng.choice([0.2, 1.0, self._rng.uniform(0, 6)]))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        loop.resume(life)

    async def _suspend(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        seconds = self._rng.uniform(*SUSPENSION_S)
        self._note("suspension of all", f"{seconds:.0f} s")
        for clock in self._clocks:
            clock.suspend(seconds)
