"""A node joins, another one leaves, and at one step of it a machine dies: every step, and every machine that has to do
with it.

A run without a crash finds the steps; they come again, in the same order, in every other run, up to its crash.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ringhold.api.proto.ringhold.v1.cluster_pb2 import Change
from ringhold.node.consensus import hosting
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.hosting import Hosting
from ringhold.node.moving.amendments import Amendments
from ringhold.node.snapshots.chunks import RowCutter
from ringhold.node.snapshots.installer import Installation, Installer
from ringhold.node.topology_store import TopologyStore
from ringhold.ring.topology import SYSTEM_GROUP, NodeState

from .health import leader_of
from .loop import LIFE, until, within
from .machines import Machine
from .patches import patched
from .programs import Habits
from .ring_changes import newest, state_of
from .world import Result, World, run_story

SEED = 7
HABITS = Habits(0.4, 4.0, may_fail=True)
JOIN_S_MAX = 60.0
AWAY_S = 1.0
DEATH_S_MAX = 20.0

LEAVER = "n1"

STEPS: Mapping[str, tuple[Any, str]] = {
    "change of the topology committed": (Amendments, "_propose"),
    "newer topology adopted": (TopologyStore, "_advance"),
    "configuration appended": (Replica, "propose_configuration"),
    "leadership handed over": (Replica, "transfer"),
    "replica made": (Hosting, "_newcomer"),
    "chunk cut": (RowCutter, "next_rows"),
    "rows given up for a snapshot": (Hosting, "begin_install"),
    "chunk stored": (Installer, "_write"),
    "snapshot installed": (Hosting, "finish_install"),
    "configuration applied": (Hosting, "_configuration_applied"),
    "replica buried": (Hosting, "bury"),
    "remains deleted": (hosting, "erase"),
}
"""What a move consists of, and the part of the product that has taken the step when it returns."""

MAY_DO_NOTHING = ("replica made",)
"""Steps that were not taken if their part returns None."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was taken: `victims` are the machines that have to do with it, by what they are."""

    name: str
    victims: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Crash:
    """`machine` dies right after step `at`. `loses`: and what it had not synced is lost; `for_good`: it stays away."""

    at: int
    machine: str
    loses: bool = False
    for_good: bool = False


@dataclass
class Crashing:
    """Counts steps in a world, and has one machine die at one of them."""

    crash: Crash | None = None
    steps: list[Step] = field(default_factory=list)
    world: World | None = None
    """Of which steps are counted; None: not yet, or not any more."""
    lost: Machine | None = None

    async def story(self, world: World) -> None:
        for machine in world.machines:
            machine.boot()
        await until(lambda: all(machine.is_ready for machine in world.machines))
        is_over = False
        work = asyncio.gather(*(program.work(HABITS, lambda: is_over) for program in world.programs))
        await asyncio.sleep(3)
        self.world = world
        await self._join(world)
        await self._leave(world)
        self.world = None
        is_over = True
        await work
        if self.crash is not None and len(self.steps) <= self.crash.at:
            world.history.violated(f"there were {len(self.steps)} steps only")
        await world.until_healthy()
        await world.quiet_down()
        world.tell_endpoints()
        await world.look_back()

    async def _join(self, world: World) -> None:
        await world.ring.join()
        newcomer = world.machines[-1]
        world.tell_endpoints()
        if not await within(JOIN_S_MAX, lambda: self._has_arrived(world, newcomer)):
            world.history.violated(f"the join has not ended: {newest(world.machines)}")
        await self._give_up_lost(world)

    def _has_arrived(self, world: World, newcomer: Machine) -> bool:
        topology = newest(world.machines)
        settled = topology is not None and topology.is_settled
        return self.lost is not None or (settled and state_of(newcomer) is NodeState.NORMAL)

    async def _leave(self, world: World) -> None:
        leaver = next((machine for machine in world.machines if machine.name == LEAVER), None)
        if leaver is None:
            return
        await world.ring.order(Change(decommission=LEAVER))
        if not await within(JOIN_S_MAX, lambda: self.lost is not None or world.ring.is_out(leaver)):
            world.history.violated(f"the leave has not ended: {newest(world.machines)}")
        await self._give_up_lost(world)
        if leaver in world.machines:
            if not await within(JOIN_S_MAX, lambda: world.ring.is_out(leaver)):
                world.history.violated(f"the leave has not gone on: {newest(world.machines)}")
            world.ring.check_nothing_left(leaver)
        world.ring.take_away_who_is_out()

    async def _give_up_lost(self, world: World) -> None:
        """What an operator does about a machine that is dead for good; if it was admitted ever."""
        lost, self.lost = self.lost, None
        if lost is None:
            return
        await within(DEATH_S_MAX, lambda: lost not in world.machines)
        while (topology := newest(world.machines)) and (node := topology.node(lost.node_id)) is not None:
            if node.state is NodeState.REMOVED:
                break
            await world.ring.remove(lost)
            await asyncio.sleep(1)

    def seen(self, name: str, group: int | None) -> None:
        """A step was taken, by the life that is running."""
        world, life = self.world, LIFE.get()
        if world is None or life is None:
            return
        number = len(self.steps)
        self.steps.append(Step(name, victims(world, life.name, group)))
        if self.crash is not None and self.crash.at == number:
            self._strike(world, self.crash)

    def _strike(self, world: World, crash: Crash) -> None:
        machine = next(machine for machine in world.machines if machine.name == crash.machine)
        life = machine.life
        assert life is not None, f"{machine.name} is down already"
        world.trace.note("nemesis", f"{crash}: {self.steps[-1]}")
        life.fuse, life.on_fuse = 1, lambda: self._die(world, machine, crash)

    def _die(self, world: World, machine: Machine, crash: Crash) -> None:
        machine.die(1.0 if crash.loses else 0.0, silently=crash.loses)
        if crash.for_good:
            machine.is_gone = True
            world.machines.remove(machine)
            world.tell_endpoints()
            self.lost = machine
        else:
            asyncio.get_running_loop().call_later(AWAY_S, machine.boot)


def victims(world: World, doer: str, group: int | None) -> dict[str, str]:
    """Who takes the step, who moves things, whom a group is copied from, who comes, who leaves: as far as they run."""
    names: dict[str, str] = {"doer": doer, "newcomer": world.machines[-1].name, "leaver": LEAVER}
    for role, led in (("mover", SYSTEM_GROUP), ("source", group)):
        leader = leader_of(led, world.machines) if led is not None else None
        names.update((role, each.name) for each in world.machines if leader and each.node_id == leader.node_id)
    up = {machine.name for machine in world.machines if machine.is_up}
    return {role: name for role, name in names.items() if name in up}


def group_of(arguments: Sequence[Any]) -> int | None:
    """The group that a step is about, as far as its arguments tell."""
    owner, *rest = arguments
    if isinstance(owner, Replica):
        return owner.group
    first = rest[0] if rest else None
    if isinstance(first, Installation):
        return first.group
    return first if isinstance(first, int) else None


@contextmanager
def watching(seen: Callable[[str, int | None], None]) -> Iterator[None]:
    """Within the block `seen` is called after each step."""
    with ExitStack() as stack:
        for name, (owner, part) in STEPS.items():
            stack.enter_context(patched(owner, part, partial(followed, name, seen)))
        yield


def followed(name: str, seen: Callable[[str, int | None], None], original: Any) -> Any:
    """A part of the product that tells when it has done its work; if it says that it had nothing to do, it does not."""
    if inspect.iscoroutinefunction(original):

        async def later(*arguments: Any, **named: Any) -> Any:
            result = await original(*arguments, **named)
            seen(name, group_of(arguments))
            return result

        return later

    def now(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        if result or (result is None and name not in MAY_DO_NOTHING):
            seen(name, group_of(arguments))
        return result

    return now


def run_crash(crash: Crash | None = None) -> tuple[Result, Sequence[Step]]:
    """The story with this crash, or with none; and the steps that were taken."""
    crashing = Crashing(crash)
    with watching(crashing.seen):
        result = run_story(crashing.story, SEED)
    return result, crashing.steps


def crashes(steps: Sequence[Step]) -> Iterator[Crash]:
    """One for each step and each machine that has to do with it."""
    for at, step in enumerate(steps):
        for machine in sorted(set(step.victims.values())):
            yield Crash(at, machine)


def fates(crash: Crash) -> Iterator[Crash]:
    """Its process dies; the power fails; the machine is lost for good."""
    yield crash
    yield replace(crash, loses=True)
    yield replace(crash, loses=True, for_good=True)


def verdict(crash: Crash) -> tuple[Crash, Sequence[str]]:
    """The violations of a run with a crash; for other processes."""
    return crash, run_crash(crash)[0].violations
