"""One run of the simulator: three nodes, some clients, faults, then peace; and what the checkers say.

See docs/simulation.md.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ringhold.api.limits import Limits
from ringhold.gossip.member import MemberState
from ringhold.node.consensus import log
from ringhold.node.identity_conflict import IdentityTaken
from ringhold.node.scrub import scrubber
from ringhold.node.snapshots import chunks
from ringhold.node.storage.engine import Engine
from ringhold.ring.topology import SYSTEM_GROUP, NodeState, group_of_partition

from .calls import ClientNetwork, Questions
from .clocks import SimulatedClock
from .disks import applied_indexes, replicas_of
from .health import ailing
from .history import History
from .judge import Judge
from .loop import SimulationLoop, life_of, simulate, until
from .machines import PARTITIONS, Machine, Surroundings
from .nemesis import Nemesis
from .network import Network
from .patches import patched
from .probes import watched
from .programs import Habits, Program
from .ring_changes import newest
from .sessions import Wires
from .trace import VIOLATION, Trace
from .witness import Witness, witnessed

ENTRIES_IN_MEMORY_MAX = 6
"""Far below the product's own, so that followers that were away need what only storage has."""

CHUNK_BYTES_MAX = 1024
CHUNK_ROWS_MAX = 8
"""Likewise, so that the few rows of a group make several chunks."""

SCRUB_PAUSE_S = 8.0
"""Before and between scrubs in the background."""

AT_REST = (NodeState.NORMAL, NodeState.REMOVED)
NODES = 3
PROGRAMS = 6
RING_CHANGES_CHANCE = 0.6
CRASHED_FOUNDING_CHANCE = 0.3
HURT_DISKS_CHANCE = 1.0
LOST_KEYS_CHANCE = 0.6
RAGE_S = 45.0
PEACE_S = 7.0
RUN_S_MIN = 60.0
HEALING_S_MAX = 60.0
RETURN_S_MAX = 15.0
"""Leaders go back one after the other, a second or two after they have begun."""

QUIET_S = 3.0
SETTLING_S_MAX = 10.0
RUN_S_MAX = 300.0
VIOLATIONS_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Result:
    """What a run was like. `violations` empty: every promise held."""

    seed: int
    seconds: float
    operations: int
    counts: Counter[str]
    digest: str
    violations: list[str]
    trace: list[str]
    tail: str

    def story(self) -> str:
        """For people: what broke, the last events, how to see it again."""
        shown = "\n".join(self.violations[:VIOLATIONS_SHOWN_MAX])
        return (
            f"{self.tail}\n\nseed {self.seed}, trace {self.digest}: {len(self.violations)} violations\n{shown}\n"
            f"repeat it from tests/ with: python -m simulation --first {self.seed} --seeds 1"
        )


Story: TypeAlias = Callable[["World"], Coroutine[Any, Any, None]]
"""What happens in a world from its beginning to its end."""


class NotLive(Exception):
    """The cluster did not become healthy although nothing was wrong any more."""


class World:
    """Everything that one seed determines."""

    def __init__(self, seed: int, witness: Witness) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        loop.set_exception_handler(self._unhandled)
        self._loop = loop
        self._rng = rng = random.Random(seed)
        self.trace = Trace(loop.time)
        self.history = History(on_violation=lambda what: self.trace.note("world", f"{VIOLATION}: {what}"))
        witness.accuse = self._accused
        self._witness = witness
        self._accusations: dict[str, None] = {}
        network = Network(loop, self._derived(), self.trace)
        self._wires = Wires(network)
        self._wires.on_consensus = witness.sent
        self._gossip = Questions(network, loop, cancels=False)
        self._calls = Questions(network, loop, cancels=True)
        self._gossip.on_bug = self._calls.on_bug = self._bug
        self._twins = 0
        self._machines_made = NODES
        around = self._surroundings()
        self.machines = [self._machine(f"n{number}", around, NODES) for number in range(1, NODES + 1)]
        self._changes_ring = rng.random() < RING_CHANGES_CHANCE
        self._founded_through_crashes = rng.random() < CRASHED_FOUNDING_CHANCE
        client_clocks = [self._clock() for _ in range(PROGRAMS)]
        endpoints = tuple(machine.grpc_address for machine in self.machines)
        self.programs = [
            Program(
                f"client{number}",
                endpoints,
                ClientNetwork(self._calls),
                clock.now,
                self._derived(),
                self.history,
                self.trace,
            )
            for number, clock in enumerate(client_clocks, 1)
        ]
        self._clocks = [*(machine.clock for machine in self.machines), *client_clocks]
        self._nemesis = Nemesis(
            self.machines,
            self._clocks,
            network,
            self._wires,
            self._derived(),
            self.trace,
            self.history.violated,
            self._twin,
            self._fresh,
        )
        self.ring = self._nemesis.ring

    async def run(self) -> None:
        """The whole story of a seed. Violations are in the history."""
        for machine in self.machines:
            machine.boot()
        if self._founded_through_crashes:
            self._nemesis.disturb_founding()
        await asyncio.sleep(self._rng.uniform(0, 3))
        await self._rage()
        await self._nemesis.heal()
        await self.until_healthy()
        self.tell_endpoints()
        await self._scrub()
        self._count_milestones()
        await self.quiet_down()
        await self._peace()
        await self.look_back()

    async def quiet_down(self) -> None:
        """What was in doubt when the last fault ended is decided."""
        await asyncio.sleep(QUIET_S)
        self.history.settle(self._loop.time())

    async def look_back(self) -> None:
        """All that was ever written is read through several nodes, and all replicas have applied the same."""
        for program in self.programs[:NODES]:
            await program.read_everything()
        await self._until_settled()

    async def _peace(self) -> None:
        """No operation fails, though nodes may come and go in order (P6)."""
        self.trace.note("world", "peace")
        seconds = max(PEACE_S, RUN_S_MIN - self._loop.time())
        changing = None
        if self._changes_ring:
            leaver = self.ring.who_may_leave()
            self.tell_endpoints(leaver)
            change = self.ring.let_leave(leaver) if leaver else self.ring.join()
            changing = self._loop.create_task(change)
        await self.work(Habits(0.12, 10.0, may_fail=False), seconds)
        if changing is not None:
            await changing
            self.trace.count("ring changed in peace")
            await self.until_healthy()
            self.tell_endpoints()

    def tell_endpoints(self, leaver: Machine | None = None) -> None:
        """Who asks one node only, and once, knows which one is about to leave; all others find another one."""
        for program in self.programs:
            program.endpoints = tuple(machine.grpc_address for machine in self.machines if machine is not leaver)

    async def until_violated(self, story: Coroutine[Any, Any, None]) -> None:
        """A story up to the first violation, if there is one."""
        running = self._loop.create_task(story)
        await until(lambda: running.done() or bool(self.history.violations))
        if running.done():
            running.result()

    def _count_milestones(self) -> None:
        if self._founded_through_crashes:
            self.trace.count("cluster formed through crashes")
        if len(self.machines) > NODES:
            self.trace.count("node joined")

    async def _rage(self) -> None:
        suspends = self._rng.random() < 0.25
        habits = Habits(0.12, self._rng.choice([1.5, 4.0, 10.0]), may_fail=True)
        hurts_disks = self._rng.random() < HURT_DISKS_CHANCE
        raging = self._loop.create_task(
            self._nemesis.rage(RAGE_S, suspends=suspends, hurts_disks=hurts_disks, changes_ring=self._changes_ring)
        )
        await self.work(habits, RAGE_S)
        await raging

    async def work(self, habits: Habits, seconds: float) -> None:
        end = self._loop.time() + seconds
        await asyncio.gather(*(program.work(habits, lambda: self._loop.time() >= end) for program in self.programs))

    async def _scrub(self) -> None:
        """What has rotten unnoticed is found, and what is lost without a trace, before anybody reads it."""
        if self._rng.random() < LOST_KEYS_CHANCE:
            await self._nemesis.disks.lose_keys()
        await self._nemesis.disks.scrub_all()
        await self.until_healthy()

    async def until_healthy(self) -> None:
        await self._until_silent(self._complaint, HEALING_S_MAX, "after the last fault")
        await self._until_silent(self._wrong_leaders, RETURN_S_MAX, "after all nodes serve again")
        self.trace.note("world", "healthy")

    async def _until_silent(self, complain: Callable[[], object], seconds_max: float, since: str) -> None:
        """Return when there is nothing to complain of. Raises NotLive if that takes too long."""
        deadline = self._loop.time() + seconds_max
        while complaint := complain():
            if self._loop.time() > deadline:
                raise NotLive(f"{seconds_max} s {since}: {complaint}")
            await asyncio.sleep(0.25)

    def _complaint(self) -> str | None:
        """What keeps the cluster from being healthy."""
        ids = {machine.node_id for machine in self.machines}
        for machine in self.machines:
            node = machine.node
            if node is None or not node.ready:
                return f"{machine.name} does not serve"
            states = {member.node_id: member.state for member in node.gossip.members()}
            if {states.get(each) for each in ids} != {MemberState.ALIVE}:
                return f"{machine.name} believes {states}"
            missing = [peer for peer in sorted(ids - {machine.node_id}) if not node.peering.connected(peer)]
            if missing:
                return f"{machine.name} has no session with {missing}"
        return self._unsettled() or next(
            filter(None, (ailing(machine, self.machines) for machine in self.machines)), None
        )

    def _unsettled(self) -> str | None:
        """What is still on the move: all must have arrived, unless somebody is gone for good and nobody said so."""
        topology = newest(self.machines)
        if topology is None or topology.is_settled:
            return None
        ids = {machine.node_id for machine in self.machines}
        missing = [n.name for n in topology.nodes if n.state is not NodeState.REMOVED and n.id not in ids]
        on_the_way = [f"{node.name} {node.state}" for node in topology.nodes if node.state not in AT_REST]
        return None if missing else f"{on_the_way} are on the way, and {topology.moving} moving"

    def _wrong_leaders(self) -> str | None:
        """Which groups are not led, with a lease, by the nodes that should lead them."""
        ids = {machine.node_id for machine in self.machines}
        for machine in self.machines:
            assert machine.node is not None
            groups = machine.node.groups
            for group, preferred in groups._handovers.preferred.items():
                if preferred not in ids:
                    continue
                if groups.hosts(group) and groups.leader(group)[0] != preferred:
                    return (
                        f"{machine.name} believes that {groups.leader(group)[0]} leads group {group}, not {preferred}"
                    )
                if preferred == machine.node_id and not groups.leads(group):
                    return f"{machine.name} has no lease of group {group}"
        return None

    async def _until_settled(self) -> None:
        await self._until_silent(self._behind, SETTLING_S_MAX, "after the last operation replicas have applied")

    def _behind(self) -> dict[int, dict[str, int]]:
        """The groups whose replicas have not all applied the same, and how far each is."""
        applied = {group: applied_indexes(engines, group) for group, engines in self._replicas().items()}
        return {group: indexes for group, indexes in applied.items() if len(set(indexes.values())) > 1}

    def _replicas(self) -> dict[int, dict[str, Engine]]:
        engines: dict[str, Engine] = {machine.name: machine.engine for machine in self.machines}
        return replicas_of(engines, [SYSTEM_GROUP, *map(group_of_partition, range(PARTITIONS))])

    def judge(self) -> None:
        """Have all checkers look at what happened."""
        Judge(self.history, self._replicas(), self._loop.time()).judge()

    def _surroundings(self) -> Surroundings:
        page_bytes_max = self._rng.choice([250, 700, Limits().page_bytes_max])
        return Surroundings(
            wires=self._wires,
            gossip=self._gossip,
            calls=self._calls,
            trace=self.trace,
            seeds=tuple(f"n{number}:50052" for number in range(1, NODES + 1)),
            limits=Limits(page_bytes_max=page_bytes_max),
            on_failure=self._failed,
            on_forgotten=self._forgotten,
        )

    def _machine(self, name: str, around: Surroundings, expect: int) -> Machine:
        return Machine(name, around, self._derived(), self._clock(), self._rng.randbytes(8).hex(), expect)

    def _fresh(self, called: str) -> Machine:
        """A machine that has never run, which finds the others where they are now."""
        self._machines_made += 1
        seeds = tuple(machine.http_address for machine in self.machines)
        around = replace(self.machines[0].around, seeds=seeds)
        machine = self._machine(f"n{self._machines_made}", around, 0)
        machine.called = called
        self._clocks.append(machine.clock)
        return machine

    def _twin(self, machine: Machine) -> Machine:
        """A machine at another address for a node of the same identity."""
        self._twins += 1
        name = f"{machine.name}-{self._twins}"
        return Machine(
            name, machine.around, self._derived(), self._clock(), machine.node_id, machine.expect, called=machine.name
        )

    def _derived(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    def _clock(self) -> SimulatedClock:
        return SimulatedClock(self._loop.time, self._derived())

    def _failed(self, machine: Machine, part: str, error: BaseException) -> None:
        """A node can't go on. Where the disk failed it must; anything else is a bug."""
        self.trace.note(machine.name, f"{part} failed: {error!r}")
        if isinstance(error, IdentityTaken) and machine.on_conflict is not None:
            machine.on_conflict(error)
        elif machine.on_disk_failure is not None:
            self.trace.count("stopped by its disk")
            machine.on_disk_failure()
        else:
            self._bug(f"{machine.name}, {part}", error)

    def _forgotten(self, machine: Machine) -> None:
        """A node begins without what it knew: that takes a disk that does what none should."""
        self._witness.engine_lost(machine.name, machine.node_id)
        if not machine.is_hurt:
            self.history.violated(f"{machine.name} gives its engine up, to which nothing was done")

    def _accused(self, what: str) -> None:
        """Replicas break a rule for as long as the fault lasts; each breach is told once."""
        if what not in self._accusations:
            self._accusations[what] = None
            self.history.violated(what)

    def _bug(self, where: str, error: BaseException) -> None:
        self.history.violated(f"{where}: {type(error).__name__}: {error}")

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Exceptions of callbacks. That of a future that nobody awaits any more is heard of by chance: not counted."""
        error, handle = context.get("exception"), context.get("handle")
        if not isinstance(error, BaseException) or "never retrieved" in str(context.get("message")):
            return
        life = life_of(handle) if isinstance(handle, asyncio.Handle) else None
        for machine in self.machines:
            if machine.node is not None and machine.life is life:
                machine.node.supervisor.report("callback", error)  # as the real transports do
                return
        self._bug("callback", error)


async def live_through(story: Story, seed: int, witness: Witness, hastily: bool) -> Result:
    world = World(seed, witness)
    try:
        async with asyncio.timeout(RUN_S_MAX):
            await (world.until_violated(story(world)) if hastily else story(world))
        if not (hastily and world.history.violations):
            world.judge()
    except TimeoutError:
        world.history.violated(f"the run did not end within {RUN_S_MAX} s")
    except NotLive as error:
        world.history.violated(str(error))
    return Result(
        seed=seed,
        seconds=asyncio.get_running_loop().time(),
        operations=world.history.operations,
        counts=world.trace.counts,
        digest=world.trace.digest(),
        violations=world.history.violations,
        trace=world.trace.lines,
        tail=world.trace.tail(),
    )


def run_seed(seed: int, *, hastily: bool = False) -> Result:
    """The run of a seed, on a loop of its own. The same seed gives the same run."""
    return run_story(World.run, seed, hastily=hastily)


def run_story(story: Story, seed: int, *, hastily: bool = False) -> Result:
    """A run of a story; if `hastily`, up to the first violation. All checkers watch, and judge at the end."""
    with (
        patched(log, "ENTRIES_IN_MEMORY_MAX", lambda _: ENTRIES_IN_MEMORY_MAX),
        patched(scrubber, "FIRST_PASS_S", lambda _: SCRUB_PAUSE_S),
        patched(scrubber, "PAUSE_S", lambda _: SCRUB_PAUSE_S),
        patched(chunks, "CHUNK_BYTES_MAX", lambda _: CHUNK_BYTES_MAX),
        patched(chunks, "CHUNK_ROWS_MAX", lambda _: CHUNK_ROWS_MAX),
        witnessed() as witness,
        watched() as paths,
    ):
        result = simulate(live_through(story, seed, witness, hastily))
    result.counts.update(paths)
    return result
