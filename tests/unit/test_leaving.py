"""How a node's life ends: what each signal leads to, who may change his mind, and what is noted when it has left."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from support.departures import FakeDeparture, FakePolicy
from support.virtual_time import LoopClock, pass_time, turns, virtual

from ringhold.api.errors import ChangeRefused
from ringhold.node.ending import Ending
from ringhold.node.leaving import ASK_AGAIN_S, End, FixedPolicy, StopPolicy, StopSignals
from ringhold.node.supervisor import Supervisor

LONG_S = 3_600.0


@dataclass
class Life:
    """A node as its end sees it."""

    policy: StopPolicy
    is_member: bool = True
    departure: FakeDeparture = field(default_factory=FakeDeparture)
    signals: StopSignals = field(default_factory=StopSignals)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    notes: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def begin(self) -> None:
        self.supervisor = Supervisor(lambda _, error: self.failures.append(error))
        End(
            signals=self.signals,
            policy=self.policy,
            departure=self.departure,
            is_member=lambda: self.is_member,
            mark_left=lambda: self.notes.append("marked as left"),
            stop=self.stopped.set,
            clock=LoopClock(),
            supervisor=self.supervisor,
            log=lambda event, /, **_: self.notes.append(event),
            warn=lambda event, /, **_: self.notes.append(event),
        ).begin()

    async def end(self) -> None:
        await self.supervisor.stop()
        assert self.failures == []


async def begun(policy: StopPolicy, *, is_member: bool = True) -> Life:
    life = Life(policy, is_member)
    life.begin()
    await turns()
    assert not life.stopped.is_set()
    return life


@pytest.mark.parametrize("ending", [Ending.RESTART, Ending.STOP, None])
@virtual
async def test_a_short_stop_leaves_nothing(ending: Ending | None) -> None:
    """A restart, a stop of all, and an API server that can't be asked: the node drains, and stays a member."""
    life = await begun(FakePolicy(ending))
    life.signals.terminate()
    await turns()
    assert life.stopped.is_set()
    assert life.departure.calls == []
    assert life.notes == (["stops"] if ending else ["ending unknown", "stops"])
    await life.end()


@virtual
async def test_a_node_leaves_for_good() -> None:
    """It serves on for as long as it takes; when it is removed the folder is marked, and then it stops."""
    life = await begun(FakePolicy(Ending.LEAVE))
    life.signals.terminate()
    await pass_time(LONG_S)
    life.departure.may_leave.set()
    await pass_time(LONG_S)
    assert not life.stopped.is_set()
    assert life.notes == ["leaves"]
    life.departure.removed.set()
    await turns()
    assert life.stopped.is_set()
    assert life.notes == ["leaves", "marked as left", "has left"]
    assert life.departure.calls == ["decommission"]
    await life.end()


@virtual
async def test_a_node_that_leaves_by_its_own_settings_asks_nobody() -> None:
    """`--on-sigterm leave` needs no API server, and is not taken back."""
    life = await begun(FixedPolicy(Ending.LEAVE))
    life.signals.terminate()
    await pass_time(LONG_S)
    assert life.departure.calls == ["decommission"]
    life.departure.removed.set()
    await turns()
    assert life.stopped.is_set()
    await life.end()


@pytest.mark.parametrize("has_begun", [False, True], ids=["not yet leaving", "leaving"])
@virtual
async def test_a_node_that_is_wanted_again_stays(has_begun: bool) -> None:
    """The set grew again in the middle of a leave: the cluster keeps the node, and it stops for a moment only."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    if has_begun:
        life.departure.may_leave.set()
    policy.ending = Ending.RESTART
    await pass_time(ASK_AGAIN_S + 1)
    assert not life.stopped.is_set(), "it must not go before the cluster has kept it"
    life.departure.may_stay.set()
    await turns()
    assert life.stopped.is_set()
    assert life.departure.calls == ["decommission", *([] if has_begun else ["cancelled"]), "keep"]
    assert life.notes == ["leaves", "stays", "stops"]
    await life.end()


@virtual
async def test_a_node_that_is_unwanted_once_more_leaves_after_all() -> None:
    """Up and down again while it was being kept: what is wanted in the end is asked in the end."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    policy.ending = Ending.RESTART
    await pass_time(ASK_AGAIN_S + 1)
    policy.ending = Ending.LEAVE
    life.departure.may_stay.set()
    await turns()
    assert life.departure.calls == ["decommission", "cancelled", "keep", "decommission"]
    life.departure.removed.set()
    await turns()
    assert life.stopped.is_set()
    assert "marked as left" in life.notes
    await life.end()


@virtual
async def test_it_may_be_too_late_to_stay() -> None:
    """Removed while it asked to be kept: that counts, and the next start is a new node."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    policy.ending = Ending.RESTART
    await pass_time(ASK_AGAIN_S + 1)
    life.departure.removed.set()
    await turns()
    assert life.stopped.is_set()
    assert life.notes == ["leaves", "stays", "marked as left", "has left"]
    await life.end()


@virtual
async def test_a_node_that_can_not_leave_stops_with_all_it_has() -> None:
    """Nobody else could hold anything: that is said, nothing is marked, and nobody waits for ever."""
    life = await begun(FixedPolicy(Ending.LEAVE))
    life.departure.refusal = refused("no node would be left")
    life.signals.terminate()
    life.departure.may_leave.set()
    await pass_time(ASK_AGAIN_S + 1)
    assert life.stopped.is_set()
    assert life.notes == ["leaves", "can't leave", "stops"]
    await life.end()


@virtual
async def test_a_node_that_is_not_kept_stops() -> None:
    """It is wanted by its set, and the cluster refuses: it restarts, and the topology goes its way."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    policy.ending = Ending.RESTART
    life.departure.refusal = refused("it has been removed")
    life.departure.may_stay.set()
    await pass_time(ASK_AGAIN_S + 1)
    assert life.stopped.is_set()
    assert life.notes == ["leaves", "stays", "not kept", "stops"]
    await life.end()


def refused(message: str) -> ChangeRefused:
    return ChangeRefused("CHANGE_REFUSED", message)


@virtual
async def test_the_whole_cluster_may_stop_in_the_middle_of_a_leave() -> None:
    """Then nobody is left to finish it: the node stops with all it has, and leaves another day."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    policy.ending = Ending.STOP
    await pass_time(ASK_AGAIN_S + 1)
    assert life.stopped.is_set()
    assert "keep" not in life.departure.calls
    assert life.notes == ["leaves", "stops"]
    await life.end()


@virtual
async def test_an_api_server_that_is_gone_does_not_end_a_leave() -> None:
    """What was last known counts while nobody knows better; it is asked on."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.terminate()
    await turns()
    policy.ending = None
    await pass_time(LONG_S)
    assert policy.asked > LONG_S / ASK_AGAIN_S / 2
    assert not life.stopped.is_set()
    assert life.departure.calls == ["decommission"]
    await life.end()


@pytest.mark.parametrize("second", [StopSignals.terminate, StopSignals.interrupt])
@virtual
async def test_a_second_signal_ends_a_leave(second: Callable[[StopSignals], None]) -> None:
    """It drains and goes; what it began is finished by the others."""
    life = await begun(FakePolicy(Ending.LEAVE))
    life.signals.terminate()
    await turns()
    second(life.signals)
    await turns()
    assert life.stopped.is_set()
    assert life.notes == ["leaves"]
    await life.end()


@virtual
async def test_an_interrupt_is_a_short_stop() -> None:
    """Ctrl-C never asks, and never leaves."""
    policy = FakePolicy(Ending.LEAVE)
    life = await begun(policy)
    life.signals.interrupt()
    await turns()
    assert life.stopped.is_set()
    assert (policy.asked, life.departure.calls) == (0, [])
    await life.end()


@virtual
async def test_a_node_in_no_cluster_has_nothing_to_leave() -> None:
    """It waits to be let in, and is not wanted any more: it just goes."""
    life = await begun(FakePolicy(Ending.LEAVE), is_member=False)
    life.signals.terminate()
    await turns()
    assert life.stopped.is_set()
    assert life.departure.calls == []
    await life.end()


@virtual
async def test_a_removed_node_ends_by_itself() -> None:
    """An operator has had it decommissioned, or removed while it was away: no signal is needed."""
    life = await begun(FakePolicy(Ending.RESTART))
    life.departure.removed.set()
    await turns()
    assert life.stopped.is_set()
    assert life.notes == ["marked as left", "has left"]
    await life.end()


@virtual
async def test_a_signal_that_came_before_the_node_was_there_counts() -> None:
    """SIGTERM during a start: the node stops as soon as it can."""
    life = Life(FakePolicy(Ending.RESTART))
    life.signals.terminate()
    life.begin()
    await turns()
    assert life.stopped.is_set()
    await life.end()
