"""Disks that rot, forget, vanish, come back as they were, or are there twice: of one machine after the other.

Ringhold promises nothing when a majority of a group's disks is destroyed. So a machine's disk is hurt only when those
of all others are sound again; everything else goes wrong meanwhile as ever.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ringhold.node.identity_conflict import GenerationForgotten, IdentityTaken
from ringhold.node.keyspace import Bounds, Kind, kind_range, node_key, split_log_key
from ringhold.node.known_members import KnownMembers
from ringhold.node.machine.machine import load_state
from ringhold.node.node import Node
from ringhold.node.storage.engine import Row, prefix_end
from ringhold.node.storage.envelope import Damaged
from ringhold.node.storage.reborn import REBORN_KEY

from .health import ailing, thin_group
from .loop import within
from .machines import PARTITIONS, Backup, Machine
from .trace import Trace

LOST_SYNCED_MAX = 20
PATIENCE_S_MAX = 25.0
"""How long a fault waits for what it needs; then it does not come."""

OLD_S = (1.0, 8.0)
"""How old a disk is that is put back."""

COPY_S = (0.5, 6.0)
"""How long a copy of a disk is kept before a node is started on it."""

REFUSED_S_MAX = 50.0
"""How long a node may run on another's disk, or on an old one, through all that goes wrong meanwhile."""

SURELY_DURABLE_S = 1.0
DOWN_S_MAX = 2.0
DEAD_FOR_GOOD_CHANCE = 0.3
ROTTEN_MAX = 6
"""Values that rot together."""

NEWEST_ENTRIES = 3
"""Of a log: applied ones are only dropped when they are damaged."""

ROWS_MAX = 10_000
GROUPS = range(PARTITIONS + 1)

NODE_KEYS = Bounds(node_key(""), prefix_end(node_key("")))
ROTTING: Mapping[Kind, int] = {
    Kind.ROW: 8,
    Kind.STATE: 3,
    Kind.VOTE: 4,
    Kind.LOG: 6,
    Kind.DEDUPE: 2,
    Kind.REPLICA: 3,
    Kind.NODE: 1,
}
"""What may rot, and how often it is chosen."""


@dataclass(frozen=True, slots=True)
class Rot:
    """A value that is not what was written, for as long as nobody has written over it."""

    key: bytes
    before: bytes
    value: bytes


class DiskFaults:
    """Hurts disks. `hurt` is the machine that is not whole again, if there is one."""

    def __init__(
        self,
        machines: list[Machine],
        twin_of: Callable[[Machine], Machine],
        kill: Callable[[Machine], None],
        rng: random.Random,
        trace: Trace,
        accuse: Callable[[str], None],
    ) -> None:
        """`twin_of` makes a machine at another address for a node of the same identity."""
        self.hurt: Machine | None = None
        self.buried: list[Machine] = []
        """Machines whose disks are gone for good: nobody starts them again."""
        self._machines = machines
        self._twin_of = twin_of
        self._kill = kill
        self._rng = rng
        self._trace = trace
        self._rotten: list[Rot] = []
        self._is_busy = False
        self._accuse = accuse
        self._kinds: Mapping[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._rot: 8,
            self._rot_while_down: 5,
            self._lose_tail: 4,
            self._wipe: 3,
            self._put_back: 3,
            self._copy: 3,
        }

    def any_fault(self) -> Coroutine[Any, Any, None]:
        """One of the faults, which comes if no other disk is hurt."""
        (fault,) = self._rng.choices(list(self._kinds), weights=list(self._kinds.values()))
        return fault()

    async def lose_keys(self) -> None:
        """Rows or index entries vanish. No checksum tells, only a scrub: so it is asked for before anybody reads."""
        if not self.is_healed() or self.buried:
            return
        machine = self._rng.choice([machine for machine in self._machines if machine.expect])
        kind = self._rng.choice([Kind.ROW, Kind.INDEX])
        rows = machine.engine._rows.scan(*kind_range(kind, self._rng.choice(GROUPS[1:])), ROWS_MAX, False)
        if rows and machine.node is not None and machine.node.ready:
            self._hurt(machine)
            lost = self._rng.sample(rows, self._rng.randint(1, min(len(rows), ROTTEN_MAX)))
            self._note("keys lost", f"{machine.name}, {len(lost)} of {kind.name}: {lost[0][0].hex()}")
            for key, _ in lost:
                machine.engine.alter(key, None)

    async def scrub_all(self) -> None:
        """Ask every node to read all that it has."""
        for machine in self._machines:
            if machine.node is not None and machine.node.ready:
                await scrubbed(machine.node)
        for rot in self._rotten:
            if self.hurt is not None and self.hurt.engine._rows.get(rot.key) == rot.value:
                self._trace.count("damage that was left where it was")
                self.hurt.engine.alter(rot.key, rot.before)
        self._rotten.clear()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Nothing else happens to disks meanwhile."""
        self._is_busy = True
        yield
        self._is_busy = False

    def is_healed(self) -> bool:
        """Whether the last machine that was hurt is whole again."""
        if self._is_busy:
            return False
        if self.hurt is not None and self._is_whole(self.hurt):
            self._trace.note("nemesis", f"{self.hurt.name} is whole again")
            self._trace.count("machine healed")
            self.hurt.is_hurt = False
            self.hurt = None
        return self.hurt is None

    def _is_whole(self, machine: Machine) -> bool:
        if machine.is_gone:  # for good, or because its node has left and the groups do without it
            return machine not in self.buried and thin_group(self._machines) is None
        if ailing(machine, self._machines) is not None or thin_group(self._machines) is not None:
            return False
        self._rotten = [rot for rot in self._rotten if machine.engine._rows.get(rot.key) == rot.value]
        return not self._rotten

    async def _rot(self) -> None:
        """Bits flip on the disk of a running node."""
        machine = self._take()
        if machine is not None and machine.is_up:
            self._flip_bits(machine, "bit flips")

    async def _rot_while_down(self) -> None:
        """Bits have flipped by the time the node starts again."""
        machine = self._take()
        if machine is not None and machine.is_up:
            self._kill(machine)
            self._flip_bits(machine, "bit flips while down")
            await self._boot_later(machine)

    def _flip_bits(self, machine: Machine, fault: str) -> None:
        (kind,) = self._rng.choices(list(ROTTING), weights=list(ROTTING.values()))
        rows = self._rows_of(machine, kind)
        if not rows:
            return
        self._hurt(machine)
        chosen = self._rng.sample(rows, min(len(rows), self._rng.randint(1, ROTTEN_MAX)))
        for row in chosen:
            self._flip_bit(machine, row)
        self._note(fault, f"{machine.name}, {len(chosen)} of {kind.name}: {chosen[0][0].hex()}")

    def _rows_of(self, machine: Machine, kind: Kind) -> list[Row]:
        """What may rot together: records of all groups, so that some are read soon; or one group's values of a kind."""
        if kind is Kind.LOG:
            return self._newest_entries(machine)
        if kind is Kind.NODE:
            ranges = [NODE_KEYS]
        elif kind is Kind.ROW:
            ranges = [kind_range(kind, group) for group in GROUPS]
        else:
            ranges = [kind_range(kind, self._rng.choice(GROUPS))]
        return [row for bounds in ranges for row in machine.engine._rows.scan(*bounds, ROWS_MAX, False) if row[1]]

    def _newest_entries(self, machine: Machine) -> list[Row]:
        """Of one group's log, of what is not applied if there is such a group: those are the entries that matter."""
        logs = {group: machine.engine._rows.scan(*kind_range(Kind.LOG, group), ROWS_MAX, False) for group in GROUPS}
        unapplied = {
            group: [row for row in rows if split_log_key(row[0])[1] > applied_index(machine, group)]
            for group, rows in logs.items()
        }
        group = self._rng.choice([group for group, rows in unapplied.items() if rows] or GROUPS)
        return (unapplied[group] or logs[group])[-NEWEST_ENTRIES:]

    def _flip_bit(self, machine: Machine, row: Row) -> None:
        key, value = row
        at = self._rng.randrange(len(value) * 8)
        rotten = bytearray(value)
        rotten[at // 8] ^= 1 << at % 8
        machine.engine.alter(key, bytes(rotten))
        self._rotten.append(Rot(key, value, bytes(rotten)))

    async def _lose_tail(self) -> None:
        """The process crashes, and the engine comes back without what it had synced last; only the mark knows."""
        machine = self._take()
        if machine is not None and machine.is_up:
            self._hurt(machine)
            self._note("lost tail", machine.name)
            machine.die(0.0, silently=False, lost_synced=self._rng.randint(1, LOST_SYNCED_MAX))
            await self._boot_later(machine)

    async def _wipe(self) -> None:
        """All files of the engine vanish; sometimes the identity with them, and then the node is gone for good."""
        machine = self._take()
        if machine is None:
            return
        is_for_good = machine.expect > 0 and not self.buried and self._rng.random() < DEAD_FOR_GOOD_CHANCE
        self._hurt(machine)
        self._note("lost disk" if is_for_good else "wiped engine", machine.name)
        if machine.is_up:
            self._kill(machine)
        machine.wipe()
        if is_for_good:
            self.buried.append(machine)
            machine.is_gone = True
            self._machines.remove(machine)
        else:
            await self._boot_later(machine)

    async def _put_back(self) -> None:
        """An old state of the disk is put back. It says so, is told to forget its engine, and begins anew."""
        machine = self._take()
        if machine is not None:
            with self._busy():
                backup = machine.backed_up()
                if await self._is_outdated(machine, backup, OLD_S):
                    self._hurt(machine)
                    self._note("restored disk", machine.name)
                    if machine.is_up:
                        self._kill(machine)
                    machine.put_back(backup)
                    machine.restored = backup
                    machine.around.on_forgotten(machine)
                    await self._run_old(machine)

    async def _run_old(self, machine: Machine) -> None:
        """Start the node, and do what it demands when it stops, until it is whole."""
        refusals: list[IdentityTaken] = []
        machine.on_conflict = partial(self._obey, machine, refusals)
        await self._boot_later(machine)
        is_over = lambda: bool(refusals) or machine.is_gone or self._is_whole(machine)  # noqa: E731
        while await within(REFUSED_S_MAX, is_over) and refusals:
            refusals.clear()
            self._boot(machine)
        machine.on_conflict = None
        if machine.restored is not None and not machine.is_gone:
            self._accuse(f"{machine.name} runs on an old state of its disk, and is not refused")
            machine.restored = None

    def _obey(self, machine: Machine, refusals: list[IdentityTaken], error: IdentityTaken) -> None:
        """What the message of a node that stops tells to do: go on beyond a generation, or without the engine."""
        refusals.append(error)
        machine.die(0.0, silently=False)
        machine.restored = None
        if isinstance(error, GenerationForgotten):
            self._trace.count("generation forgotten")
            machine.generation = max(machine.generation, error.generation)
            machine.begins_again = True
        else:
            self._trace.count("old disk refused")
            machine.wipe()

    async def _copy(self) -> None:
        """A second process runs on a copy of the disk, at another address, until it is told that it is one."""
        machine = self._take()
        if machine is not None:
            with self._busy():
                backup = machine.backed_up()
                if await self._is_outdated(machine, backup, COPY_S):
                    self._hurt(machine)
                    self._note("copied disk", machine.name)
                    await self._run_twin(machine, backup)

    async def _run_twin(self, machine: Machine, backup: Backup) -> None:
        twin = self._twin_of(machine)
        twin.put_back(backup)
        refusals: list[Machine] = []
        for one in (twin, machine):
            one.on_conflict = partial(self._stop_twin, one, refusals)
        twin.boot()
        while await within(REFUSED_S_MAX, lambda: bool(refusals) or machine.is_gone) and machine in refusals:
            refusals.clear()
            self._boot(machine)
        machine.on_conflict = None
        if twin.is_up:
            if not machine.is_gone:
                self._accuse(f"{twin.name} runs on a copy of the disk of {machine.name}, and is not refused")
            twin.die(0.0, silently=False)

    def _stop_twin(self, one: Machine, refusals: list[Machine], error: IdentityTaken) -> None:
        self._trace.count("copied disk refused" if one is not self.hurt else "original refused because of its copy")
        refusals.append(one)
        one.die(0.0, silently=False)

    async def _is_outdated(self, machine: Machine, backup: Backup, wait_s: tuple[float, float]) -> bool:
        """Wait until all others surely know a start of the node beyond the next one on the backup.

        Before that nobody could tell a start on the backup from the next start of the node itself.
        """
        await asyncio.sleep(self._rng.uniform(*wait_s))
        if machine.is_up and machine.generation == backup.generation:
            self._kill(machine)
            await self._boot_later(machine)

        def is_known() -> bool:
            others = [other for other in self._machines if other is not machine and other.adopted]
            return all(generation_known(other, machine.node_id) > backup.generation for other in others)

        if not await within(PATIENCE_S_MAX, is_known):
            return False
        await asyncio.sleep(SURELY_DURABLE_S)
        return is_known() and machine.engine._rows.get(REBORN_KEY) == backup.engine._rows.get(REBORN_KEY)

    def _take(self) -> Machine | None:
        """A machine whose disk may be hurt now: those of all others are sound."""
        able = [machine for machine in self._machines if machine.adopted]
        if self.buried or not able or not self.is_healed():
            return None
        return self._rng.choice(able)

    def _hurt(self, machine: Machine) -> None:
        self.hurt = machine
        machine.is_hurt = True

    def _note(self, fault: str, what: str) -> None:
        self._trace.count(f"fault: {fault}")
        self._trace.note("nemesis", f"{fault}: {what}")

    async def _boot_later(self, machine: Machine) -> None:
        await asyncio.sleep(self._rng.uniform(0, DOWN_S_MAX))
        self._boot(machine)

    def _boot(self, machine: Machine) -> None:
        if not machine.is_up and not machine.is_gone:
            machine.boot()


def generation_known(machine: Machine, node_id: str) -> int:
    """The newest start of a node that another has durably heard of."""
    members = KnownMembers(machine.engine.copied(), lambda name, work: None).load()
    return max((member.generation for member in members if member.node_id == node_id), default=0)


async def scrubbed(node: Node) -> None:
    """Have a node read all that it has."""
    async with aclosing(node.scrubber.scrub(0)) as reports:
        async for _ in reports:
            continue


def applied_index(machine: Machine, group: int) -> int:
    """Where the stored rows of a group stand; 0 if nobody can tell."""
    try:
        return load_state(machine.engine, group).applied_index
    except Damaged:
        return 0
