"""The simulated beats: what their contract allows happens to them, and always the same for the same seed."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from simulation.loop import Life, SimulationLoop
from simulation.network import Network, Weather
from simulation.sessions import SimulatedTransport, Wires
from simulation.trace import Trace
from support.virtual_time import pass_time, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat
from ringhold.node.peers.boots import Boot, Boots
from ringhold.node.peers.heard import HeardEngines
from ringhold.node.peers.transport import PeerAddress, Session
from ringhold.node.storage.mark import NOWHERE, Position
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.numbered import Unnumbered
from ringhold.node.supervisor import Supervisor

BEATS = 200
GAP_S = 0.002


@dataclass
class Heard:
    """The numbers of the beats that came, and who began a session of consensus."""

    beats: list[int] = field(default_factory=list)
    began: list[str] = field(default_factory=list)

    def session_began(self, session: Session[Any], /) -> None:
        self.began.append(session.peer_id)

    def session_ended(self, session: Session[Any], /) -> None:
        self.began.remove(session.peer_id)

    def frame_received(self, session: Session[Any], frame: object, /) -> None:
        raise AssertionError("nobody sends frames")

    def beat_received(self, peer_id: str, beat: Beat) -> None:
        self.beats.append(beat.number)


def addresses_of(*names: str) -> dict[str, PeerAddress]:
    return {name: PeerAddress(f"{name}:1", f"{name}:2") for name in names}


class Pair:
    """Nodes a and b on two machines."""

    def __init__(self, weather: Weather | None = None, seed: int = 1) -> None:
        loop = asyncio.get_running_loop()
        self.trace = Trace(loop.time)
        self.network = Network(loop, random.Random(seed), self.trace)
        self.network.weather = weather or Weather()
        self.wires = Wires(self.network)
        self.known: dict[str, tuple[int, int]] = {}
        self.disks: dict[str, MemoryEngine] = {}
        self.ghosts: list[str] = []
        self.heard = Heard()
        self.failures: list[BaseException] = []
        self.a = self.process("a", 1, Heard(), ["b"])
        self.b = self.process("b", 1, self.heard, ["a"])

    def process(
        self,
        name: str,
        generation: int,
        heard: Heard,
        peers: Sequence[str],
        nonce: int = 0,
        engine: Position = NOWHERE,
    ) -> SimulatedTransport:
        """A process whose engine has been opened, and is synced, at a position. Each name's memory lasts."""
        life = Life(name)
        supervisor = Supervisor(lambda _, error: self.failures.append(error))
        kept = HeardEngines(self.disks.setdefault(name, MemoryEngine()))
        progress = Unnumbered(engine, engine)
        boots = Boots(
            Boot(generation, nonce, engine), progress, self.known.get, kept, lambda _: self.ghosts.append(name)
        )
        transport = SimulatedTransport(self.wires, life, name, f"{name}:1", name, lambda: "c1", boots, supervisor)
        life.run(transport.start, Heard(), heard)
        life.run(transport.reach, addresses_of(*peers))
        return transport

    async def send(self, count: int = BEATS) -> list[int]:
        """Send so many beats from a to b; the numbers of those that came."""
        for number in range(1, count + 1):
            self.a.send_beat("b", Beat(number=number))
            await pass_time(GAP_S)
        await pass_time(1.0)
        return self.heard.beats

    def kill(self, transport: SimulatedTransport) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        loop.end(transport.life)
        self.wires.machine_died(transport.life, silently=False)


@virtual
async def test_in_fair_weather_every_beat_comes_once() -> None:
    """No session is needed, and none is disturbed."""
    pair = Pair()
    assert sorted(await pair.send()) == list(range(1, BEATS + 1))
    assert pair.heard.began == ["a"]


@virtual
async def test_beats_overtake_each_other() -> None:
    """Each takes its own time."""
    heard = await Pair(Weather(slow_chance=0.3)).send()
    assert heard != sorted(heard)


@virtual
async def test_bad_weather_loses_and_repeats_beats() -> None:
    """By chance, each for itself."""
    heard = await Pair(Weather(beat_loss=0.3, beat_repeat=0.3)).send()
    assert 0.5 * BEATS < len(set(heard)) < BEATS
    assert len(heard) > len(set(heard))


@virtual
async def test_the_same_seed_has_the_same_weather() -> None:
    """One seed decides everything."""
    weather = Weather(slow_chance=0.3, beat_loss=0.3, beat_repeat=0.3)
    first, second, other = [await Pair(weather, seed).send() for seed in (1, 1, 2)]
    assert first == second != other


@virtual
async def test_a_blocked_way_loses_beats_one_way_only() -> None:
    """What is sent while it is blocked never comes, what is sent the other way does."""
    pair = Pair()
    pair.network.block("a", "b")
    back = Heard()
    pair.a.start(Heard(), back)
    pair.b.send_beat("a", Beat(number=7))
    assert await pair.send(10) == []
    pair.network.heal("a", "b")
    assert (await pair.send(1), back.beats) == ([1], [7])


@virtual
async def test_beats_reach_neither_the_dead_nor_strangers() -> None:
    """A beat is for one process, and only members send any."""
    pair = Pair()
    pair.b.reach({})
    assert await pair.send(1) == []
    pair.b.reach(addresses_of("a"))
    pair.a.send_beat("b", Beat(number=1))
    pair.kill(pair.b)
    after = Heard()
    pair.process("b", 2, after, ["a"])
    await pass_time(1.0)
    assert after.beats == []
    await pair.send(3)
    assert sorted(after.beats) == [1, 2, 3]


@virtual
async def test_a_beat_of_a_dead_process_is_not_heard_after_its_successor() -> None:
    """What is under way from an earlier generation is dropped once the later one has been heard."""
    pair = Pair()
    pair.network.weather = Weather(delay_s_min=0.5, delay_s_max=0.5)
    pair.a.send_beat("b", Beat(number=900))
    pair.kill(pair.a)
    pair.network.weather = Weather()
    successor = pair.process("a", 2, Heard(), ["b"])
    successor.send_beat("b", Beat(number=1))
    await pass_time(1.0)
    assert pair.heard.beats == [1]
    assert not pair.b.accepts(pair.a._hello("b"))


@virtual
async def test_a_process_on_a_copied_or_old_disk_is_not_heard() -> None:
    """The fake refuses by nonce and by what gossip has kept, as the real transport does."""
    pair = Pair()
    pair.known["a"] = (3, 7)
    for number, (generation, nonce) in enumerate([(2, 7), (3, 8), (3, 7), (4, 1)]):
        pair.kill(pair.a)
        pair.a = pair.process("a", generation, Heard(), ["b"], nonce)
        pair.a.send_beat("b", Beat(number=number))
        await pass_time(1.0)
    assert pair.heard.beats == [2, 3]


@pytest.mark.parametrize("name", ["a", "b"])
@virtual
async def test_an_old_state_of_a_disk_is_refused(name: str) -> None:
    """As the real transport does: the ghost is told, whoever dials, and neither its beats nor its frames are heard."""
    pair, ids = Pair(), {"a": "b", "b": "a"}
    other, heard = pair.b if name == "a" else pair.a, Heard()
    other.start(Heard(), heard)
    await pass_time(1.0)
    pair.kill(pair.a if name == "a" else pair.b)
    synced = pair.process(name, 2, Heard(), [ids[name]], engine=Position(1, 10))
    await pass_time(2.0)
    synced.send_beat(ids[name], Beat(number=1))
    await pass_time(1.0)
    assert (heard.began, heard.beats) == ([name], [1])
    pair.kill(synced)
    ghost = pair.process(name, 3, Heard(), [ids[name]], engine=Position(1, 9))
    ghost.send_beat(ids[name], Beat(number=2))
    await pass_time(3.0)
    assert (heard.began, heard.beats) == ([], [1])
    assert set(pair.ghosts) == {name}
    pair.kill(ghost)
    pair.ghosts.clear()
    pair.process(name, 4, Heard(), [ids[name]], engine=Position(1, 10))
    await pass_time(3.0)
    assert (heard.began, pair.ghosts) == ([name], [])
