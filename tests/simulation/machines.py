"""A machine with a disk, on which one node after the other runs: the same `Node` as in production, over fakes."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ringhold.api.limits import Limits
from ringhold.gossip.config import local
from ringhold.node.config import REPLICATION_FACTOR_DEFAULT
from ringhold.node.consensus.states import LogBounds
from ringhold.node.identity_conflict import IdentityTaken
from ringhold.node.introduction import NodeSettings
from ringhold.node.known_members import KnownMembers
from ringhold.node.node import Node, NodeParts
from ringhold.node.peers.boots import Boots
from ringhold.node.peers.transport import Transport
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.health import Loss, loss_of, remains_of, stage_takeover
from ringhold.node.storage.mark import MarkLost, MemoryMark, Position, Reading, new_engine_id
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import BATCH_KEY, NumberedEngine
from ringhold.node.storage.reborn import REBORN_KEY, Reborn
from ringhold.node.storage.space import FakeDevice
from ringhold.node.supervisor import Supervisor

from .calls import ClientFace, Questions, Server, SimulatedExchange
from .clocks import SimulatedClock
from .damage_probes import paths_of
from .loop import Life, SimulationLoop, until
from .sessions import SimulatedTransport, Wires
from .trace import Trace

PARTITIONS = 8
SYNC_S = (0.0001, 0.002)
DRAIN_TIMEOUT_S = 4.0
DISK_RESERVE_BYTES = 1_000_000


LOG_DROP_MIN = 8
LOG = LogBounds(entries_max=24, bytes_max=8 * 1024)
"""Far below the product's own, so that logs are dropped, and members fall behind them, within a minute."""

SNAPSHOT_BYTES_PER_S_MAX = 8 * 1024
"""So that a snapshot takes a while, in which anything may happen."""

SCRUB_BYTES_PER_S = 128 * 1024
"""So that all is read a few times in a run."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all machines of a world share."""

    wires: Wires
    gossip: Questions
    calls: Questions
    trace: Trace
    seeds: tuple[str, ...]
    limits: Limits
    on_failure: "Callable[[Machine, str, BaseException], None]"
    on_forgotten: "Callable[[Machine], None]" = lambda machine: None
    """What the replicas of the node have promised is not known there any more."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of all that a data folder holds, made while the node ran or not."""

    engine: MemoryEngine
    position: Position
    """Of the mark."""
    generation: int
    adopted: str


class CrashChance(random.Random):
    """Says how many unsynced batches a crash loses, and remembers it. `share` 0: the process died; 1: all is lost."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self._share = share
        self.lost = 0
        self.unsynced = 0

    def randint(self, a: int, b: int) -> int:
        self.unsynced = b
        self.lost = round(a + (b - a) * self._share)
        return self.lost


@dataclass(eq=False)
class Machine:
    """What outlives a node: disk, identity, clock. `life` and `node` are those of the process, if one runs."""

    name: str
    around: Surroundings
    rng: random.Random
    clock: SimulatedClock
    node_id: str
    expect: int
    """Nodes that found the cluster together; 0: this one only joins it."""
    called: str = ""
    """What the node is called; as the machine, if empty."""
    sync_s: tuple[float, float] = SYNC_S
    stuck_s: float = 0.0
    """What the next sync takes, if it is made to hang; 0: as long as usual."""
    generation: int = 0
    life: Life | None = None
    node: Node | None = None
    on_disk_failure: Callable[[], None] | None = None
    """What follows when the node stops because its disk was made to fail; None: it was not."""
    on_conflict: Callable[[IdentityTaken], None] | None = None
    """What follows when the node stops because others know another start of it; None: there can't be one."""
    is_hurt: bool = False
    """Something was done to the disk that no disk should do."""
    restored: Backup | None = None
    """The old state of the disk on which the node runs, until it has noticed."""
    is_gone: bool = False
    """Nobody starts a node here any more."""
    device: FakeDevice = field(default_factory=FakeDevice)
    adopted: str = ""
    """The cluster id that the identity remembers."""
    begins_again: bool = False
    """The next start goes on beyond a generation that others know: it takes the engine over as a new one."""
    engine: MemoryEngine = field(init=False)
    mark: MemoryMark = field(init=False)

    def __post_init__(self) -> None:
        self.engine = MemoryEngine(before_sync=self._spin_disk)
        self.mark = MemoryMark(Position(1, 0), self.clock.now)

    @property
    def grpc_address(self) -> str:
        return f"{self.name}:50051"

    @property
    def http_address(self) -> str:
        return f"{self.name}:50052"

    @property
    def is_up(self) -> bool:
        return self.life is not None

    @property
    def is_ready(self) -> bool:
        return self.node is not None and self.node.ready

    def boot(self) -> None:
        """Start a node on what the disk holds, as the next generation."""
        assert self.life is None, f"a node runs on {self.name} already"
        self.generation += 1
        self.on_disk_failure = None
        loss = loss_of(self.engine, self._mark_found(), self.adopted)
        if loss is not None:
            self._replace_engine(loss)
        elif self.begins_again:
            self._take_over_engine()
        self.begins_again = False
        self.life = Life(self.name)
        self.node = self.life.run(self._assemble, self.life)
        self.life.run(self.node.supervisor.spawn, "start", self.node.start())
        self._note(f"boots as generation {self.generation}")

    def _mark_found(self) -> Reading | MarkLost:
        try:
            return self.mark.read()
        except MarkLost as lost:
            return lost

    def _replace_engine(self, loss: Loss) -> None:
        """As an `Opening` does of an engine that can't be used (node/storage/health.py)."""
        self._note(f"has lost its engine: {loss.reason}")
        self.around.trace.count("engine lost and reborn")
        if loss.batches is not None and self.engine.get(BATCH_KEY) is not None:
            self.around.trace.count("batch number below the mark")
        self.around.on_forgotten(self)
        remains = remains_of(self.engine)
        self.engine = MemoryEngine(before_sync=self._spin_disk)
        self.mark = MemoryMark(Position(new_engine_id(self.generation, self.rng.getrandbits), 0), self.clock.now)
        if self.adopted:
            record = Reborn(self.adopted, self.generation, loss.reason, loss.batches)
            NumberedEngine(self.engine, self.mark).write(
                WriteBatch({REBORN_KEY: record.encode(), **dict(remains.members)})
            )
            self.engine = self.engine.copied(before_sync=self._spin_disk)  # as one that was closed and opened

    def _take_over_engine(self) -> None:
        """As an `Opening` does that begins again."""
        batch = WriteBatch()
        position = stage_takeover(self.engine, new_engine_id(self.generation, self.rng.getrandbits), batch)
        self.engine.write(batch)
        self.engine = self.engine.copied(before_sync=self._spin_disk)  # as one that was closed and opened
        self.mark = MemoryMark(position, self.clock.now)

    def die(self, loss_share: float, *, silently: bool, lost_synced: int = 0) -> None:
        """End the process at once. `loss_share` of the unsynced batches, the youngest, are lost.

        `lost_synced`: so many batches that were synced are lost with them, as no disk should.
        """
        assert self.life is not None
        assert self.node is not None
        if any(each.state is not None for each in self.node.installer.counts.running.values()):
            self.around.trace.count("installation interrupted by a crash")
        life, self.life, self.node = self.life, None, None
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        loop.end(life)
        chance = CrashChance(loss_share)
        self.engine = self.engine.crash(chance, lost_synced=lost_synced)
        if loss_share:
            self.mark.lose_power(random.Random(f"{self.name} {self.generation}"))
        else:
            self.mark.crash()
        if self.restored is not None:
            self.generation = self.restored.generation  # started too often it would pass for its own successor
        self._disconnect(life, silently=silently)
        self._note(f"dies; {chance.lost} of {chance.unsynced} unsynced batches are lost")
        self.around.trace.count("crash with lost writes" if chance.lost else "crash without loss")

    def wipe(self) -> None:
        """All files of the engine are gone; identity and mark stay."""
        self.engine = MemoryEngine(before_sync=self._spin_disk)

    def backed_up(self) -> Backup:
        """All that the disk holds now, a running node's too."""
        return Backup(self.engine.copied(), self.mark.read().position, self.generation, self.adopted)

    def put_back(self, backup: Backup) -> None:
        """Have the disk hold what a copy of it holds."""
        assert self.life is None, "the files of a running node are replaced"
        self.engine = backup.engine.copied(before_sync=self._spin_disk)
        self.mark = MemoryMark(backup.position, self.clock.now)
        self.generation, self.adopted = backup.generation, backup.adopted

    async def leave(self) -> None:
        """Stop the process in order: drain, close the engine, end."""
        assert self.life is not None
        assert self.node is not None
        life, node = self.life, self.node
        self._note("leaves")
        self.around.calls.servers.pop(self.grpc_address, None)
        stopping = life.run(asyncio.ensure_future, node.stop())
        await until(lambda: self.life is not life or stopping.done(), DRAIN_TIMEOUT_S)
        if self.life is life:
            self.around.trace.count("clean stop" if stopping.done() else "drain cut short")
            if stopping.done():
                stopping.result()
            self.engine.close()
            self.die(0.0, silently=False)

    def _assemble(self, life: Life) -> Node:
        around = self.around
        engine = NumberedEngine(self.engine, self.mark)
        known = KnownMembers(engine, lambda name, work: node.supervisor.spawn(name, work))  # noqa: PLW0108
        rng = random.Random(self.rng.getrandbits(64))

        def transport(cluster_id: Callable[[], str], boots: Boots, supervisor: Supervisor) -> Transport:
            return SimulatedTransport(
                around.wires, life, self.name, self.grpc_address, self.node_id, cluster_id, boots, supervisor
            )

        parts = NodeParts(
            engine=engine,
            progress=engine,
            device=self.device,
            remember_cluster=self._remember,
            transport=transport,
            gossip_exchange=SimulatedExchange(around.gossip, self.name),
            known_members=known.load(),
            persist_member=known.keep,
            forget_member=known.forget,
            clock=self.clock,
            rng=rng,
            log=self._log,
            on_failure=lambda name, error: around.on_failure(self, name, error),
        )
        node: Node = Node(self._settings(), parts)
        make_small(node)
        around.gossip.servers[self.http_address] = Server(life, self.name, node.handle_exchange)
        around.calls.servers[self.grpc_address] = Server(life, self.name, ClientFace(node, self.clock.now).handle)
        return node

    def _settings(self) -> NodeSettings:
        return NodeSettings(
            node_id=self.node_id,
            generation=self.generation,
            name=self.called or self.name,
            cluster="simulation",
            grpc_address=self.grpc_address,
            http_address=self.http_address,
            host=self.name,
            zone="",
            weight=1,
            seeds=self.around.seeds,
            expect=self.expect,
            partitions=PARTITIONS,
            replication_factor=REPLICATION_FACTOR_DEFAULT,
            reads="lease",
            engine="memory",
            disk_reserve_bytes=DISK_RESERVE_BYTES,
            snapshot_bytes_per_s_max=SNAPSHOT_BYTES_PER_S_MAX,
            scrub_bytes_per_s=SCRUB_BYTES_PER_S,
            limits=self.around.limits,
            gossip=local(),
        )

    async def _remember(self, cluster_id: str) -> None:
        await self._spin_disk()
        self.adopted = cluster_id

    async def _spin_disk(self) -> None:
        stuck_s, self.stuck_s = self.stuck_s, 0.0
        await self.clock.sleep(stuck_s or self.rng.uniform(*self.sync_s))

    def _disconnect(self, life: Life, *, silently: bool) -> None:
        self.around.wires.machine_died(life, silently=silently)
        self.around.gossip.machine_died(life, silently=silently)
        self.around.calls.machine_died(life, silently=silently)

    def _log(self, event: str, /, **figures: object) -> None:
        for path in paths_of(event, str(figures.get("reason", "")), str(figures.get("done", ""))):
            self.around.trace.count(path)
        self._note(" ".join([event, *(f"{name}={figure}" for name, figure in figures.items())]))

    def _note(self, what: str) -> None:
        self.around.trace.note(self.name, what)


def make_small(node: Node) -> None:
    """Lower the bounds of a node that a minute's work would not reach."""
    applier = node.groups._applier
    applier.config = replace(applier.config, drop_min=LOG_DROP_MIN)
    node.groups._config = replace(node.groups._config, log=LOG)
